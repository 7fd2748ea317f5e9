//! Signals to a trainer, and to nobody else.
//!
//! A number of a process may be another's by the time that a signal is sent. So the process is held by a pidfd first,
//! then its start is compared, then the signal goes through the pidfd: whoever has taken the number in between gets
//! nothing. A process group has no such handle: its number is taken from the process just after that, and
//! a group that ends as a whole within these microseconds, while its number is used again, would be mistaken.

use super::process::Process;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, getpgid, getpgrp, kill_process, kill_process_group, pidfd_open,
    pidfd_send_signal,
};
use std::fmt;

/// The signals that a ladder may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGHUP.
    Hup,
    /// SIGINT.
    Int,
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

impl Signal {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Hup => "SIGHUP",
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
            Self::Kill => "SIGKILL",
        }
    }

    /// Whether it is meant as a hint. To a process without a handler it would be the end.
    pub fn is_nudge(self) -> bool {
        matches!(self, Self::Usr1 | Self::Usr2)
    }

    fn raw(self) -> rustix::process::Signal {
        use rustix::process::Signal as Raw;
        match self {
            Self::Usr1 => Raw::USR1,
            Self::Usr2 => Raw::USR2,
            Self::Hup => Raw::HUP,
            Self::Int => Raw::INT,
            Self::Term => Raw::TERM,
            Self::Kill => Raw::KILL,
        }
    }
}

/// Who has got a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The process.
    Process(u32),
    /// All processes of its group.
    Group(i32),
    /// The process alone, because its group is that of this process, or of the first of the system.
    Alone(u32),
    /// The process alone, because another that must be spared is in its group.
    Spared(u32),
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "sent to process {pid}"),
            Self::Group(group) => write!(f, "sent to process group {group}"),
            Self::Alone(pid) => write!(
                f,
                "sent to process {pid} alone: its group is convergd's own; start the trainer with `setsid`"
            ),
            Self::Spared(pid) => write!(
                f,
                "sent to process {pid} alone: its group holds the process of a network that has answered; start each \
                 trainer with `setsid`"
            ),
        }
    }
}

/// Why nobody has got a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// It runs on another machine, since another boot, or in another container.
    Elsewhere,
    /// It has ended; its number may be another's.
    Gone,
    /// It has no handler for a signal that is meant as a hint.
    Unhandled(Signal),
    /// It is this process.
    Own,
    /// The system refuses.
    Refused(Errno),
}

impl NotSent {
    /// Whether that is a failure, and not what must be left alone.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere => {
                f.write_str("not sent: its process is not of this machine, boot and container")
            }
            Self::Gone => f.write_str("not sent: its process has ended"),
            Self::Unhandled(signal) => write!(
                f,
                "not sent: its process has no handler for {}, which would end it",
                signal.name()
            ),
            Self::Own => f.write_str("not sent: its process is convergd itself"),
            Self::Refused(error) => write!(f, "not sent: {error}"),
        }
    }
}

impl Process {
    /// Sends a signal to the process, or to the group that it is in, unless one of `spared` is in that too.
    ///
    /// # Errors
    /// Whatever leaves it without the signal.
    pub fn send(&self, signal: Signal, group: bool, spared: &[Self]) -> Result<Reached, NotSent> {
        if !self.is_here() {
            return Err(NotSent::Elsewhere);
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or(NotSent::Gone)?;
        if self.pid == std::process::id() {
            return Err(NotSent::Own);
        }
        let held = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(held) => Some(held),
            Err(Errno::SRCH) => return Err(NotSent::Gone),
            // Before Linux 5.3, or where a sandbox forbids it.
            Err(Errno::NOSYS | Errno::PERM) => None,
            Err(error) => return Err(NotSent::Refused(error)),
        };
        if self.is_gone() != Some(false) {
            return Err(NotSent::Gone);
        }
        if signal.is_nudge() && !handles(self.pid, signal) {
            return Err(NotSent::Unhandled(signal));
        }
        let refuse = |error| match error {
            Errno::SRCH => NotSent::Gone,
            error => NotSent::Refused(error),
        };
        let mut alone = Reached::Process(self.pid);
        if group {
            match self.group(pid) {
                Some(group) if spared.iter().any(|other| other.is_in(group)) => {
                    alone = Reached::Spared(self.pid);
                }
                Some(group) => {
                    kill_process_group(group, signal.raw()).map_err(refuse)?;
                    return Ok(Reached::Group(group.as_raw_pid()));
                }
                None => alone = Reached::Alone(self.pid),
            }
        }
        match held {
            Some(held) => pidfd_send_signal(held, signal.raw()),
            None => kill_process(pid, signal.raw()),
        }
        .map_err(refuse)?;
        Ok(alone)
    }

    /// Whether the process runs here, in this group.
    fn is_in(&self, group: Pid) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        self.is_gone() == Some(false) && pid.is_some_and(|pid| getpgid(Some(pid)) == Ok(group))
    }

    /// The group of the process, if a signal to it reaches neither this process nor all there are.
    fn group(&self, pid: Pid) -> Option<Pid> {
        let group = getpgid(Some(pid)).ok().filter(|_| self.is_gone() == Some(false))?;
        (group != getpgrp() && !group.is_init()).then_some(group)
    }
}

/// Whether a process catches or ignores a signal.
fn handles(pid: u32, signal: Signal) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let bit = 1u64 << (signal.raw().as_raw() - 1);
    let masks = status.lines().filter_map(|line| {
        let mask = line.strip_prefix("SigCgt:").or_else(|| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    masks.fold(0, |all, mask| all | mask) & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command};

    /// A process that ends with the test, in a group of its own or in this one.
    struct Trainer(Child);

    impl Trainer {
        fn start(own_group: bool) -> Self {
            let mut command = Command::new("sleep");
            command.arg("600");
            if own_group {
                command.process_group(0);
            }
            Self(command.spawn().expect("started"))
        }

        fn process(&self) -> Process {
            Process::running(self.0.id()).expect("it runs")
        }

        fn lives(&mut self) -> bool {
            self.0.try_wait().expect("asked").is_none()
        }

        fn ended_by(&mut self) -> Option<i32> {
            self.0.wait().expect("waited for").signal()
        }
    }

    impl Drop for Trainer {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_signal_reaches_the_process_and_its_group() {
        let mut one = Trainer::start(true);
        let pid = one.0.id();
        assert_eq!(one.process().send(Signal::Term, false, &[]), Ok(Reached::Process(pid)));
        assert_eq!(one.ended_by(), Some(15));
        let mut two = Trainer::start(true);
        let group = i32::try_from(two.0.id()).expect("small");
        assert_eq!(two.process().send(Signal::Kill, true, &[]), Ok(Reached::Group(group)));
        assert_eq!(two.ended_by(), Some(9));
    }

    #[test]
    fn a_group_with_a_process_that_is_spared_is_not_reached() {
        let mut leader = Trainer::start(true);
        let mut command = Command::new("sleep");
        command.arg("600").process_group(i32::try_from(leader.0.id()).expect("small"));
        let mut member = Trainer(command.spawn().expect("started"));
        let mut elsewhere = Trainer::start(true);
        let pid = member.0.id();
        let spared = [elsewhere.process(), leader.process()];
        assert_eq!(member.process().send(Signal::Term, true, &spared), Ok(Reached::Spared(pid)));
        assert_eq!(member.ended_by(), Some(15));
        assert!(leader.lives() && elsewhere.lives());
        let group = i32::try_from(leader.0.id()).expect("small");
        let reached = leader.process().send(Signal::Term, true, &spared[..1]);
        assert_eq!(reached, Ok(Reached::Group(group)), "another group spares nobody here");
        assert_eq!(leader.ended_by(), Some(15));
    }

    #[test]
    fn a_process_that_has_taken_the_number_is_not_touched() {
        let mut other = Trainer::start(true);
        let own = other.process();
        let reused = Process { start: own.start - 1, ..own.clone() };
        for group in [false, true] {
            assert_eq!(reused.send(Signal::Kill, group, &[]), Err(NotSent::Gone));
        }
        let elsewhere = Process { namespace: own.namespace + 1, ..own.clone() };
        assert_eq!(elsewhere.send(Signal::Kill, true, &[]), Err(NotSent::Elsewhere));
        let earlier = Process { boot: "another".to_owned(), ..own };
        assert_eq!(earlier.send(Signal::Kill, true, &[]), Err(NotSent::Elsewhere));
        assert!(other.lives());
    }

    #[test]
    fn a_hint_without_a_handler_is_not_sent() {
        let mut deaf = Trainer::start(true);
        let unhandled = Err(NotSent::Unhandled(Signal::Usr2));
        assert_eq!(deaf.process().send(Signal::Usr2, false, &[]), unhandled);
        assert!(deaf.lives());
    }

    #[test]
    fn the_own_group_is_never_reached_and_neither_is_this_process() {
        let mut beside = Trainer::start(false);
        let pid = beside.0.id();
        assert_eq!(beside.process().send(Signal::Term, true, &[]), Ok(Reached::Alone(pid)));
        assert_eq!(beside.ended_by(), Some(15));
        let own = Process::running(std::process::id()).expect("it runs");
        assert_eq!(own.send(Signal::Term, false, &[]), Err(NotSent::Own));
    }
}
