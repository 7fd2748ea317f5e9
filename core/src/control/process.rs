//! The process of a trainer, told from a later one with its number.

use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// What a trainer says of its process. Numbers of processes are used again, so its start belongs to it; and
/// they mean something only on the machine, since its boot, and in the container that it runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Inode of `/proc/self/ns/pid`.
    pub namespace: u64,
}

impl Process {
    /// The process that has this number here and now.
    pub fn running(pid: u32) -> Option<Self> {
        let (start, ends) = look_up(pid)?;
        (!ends).then_some(Self { pid, start, boot: boot()?, namespace: namespace()? })
    }

    /// Whether it is of this machine, boot and container, so that its number means something.
    pub fn is_here(&self) -> bool {
        Some(&self.boot) == boot().as_ref() && Some(self.namespace) == namespace()
    }

    /// Whether it is the first of the system, this process, or one that this was started by.
    pub fn is_above(&self) -> bool {
        let mut above = std::iter::successors(Some(std::process::id()), |pid| parent(*pid));
        self.pid == 1 || above.any(|pid| pid == self.pid)
    }

    /// The user that it acts as.
    pub fn owner(&self) -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        users.split_whitespace().nth(1)?.parse().ok()
    }

    /// How long it has been running, to a second.
    pub fn age(&self) -> Option<Duration> {
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let start = self.start as f64 / rustix::param::clock_ticks_per_second() as f64;
        Some(Duration::from_secs_f64((uptime - start).max(0.0)))
    }

    /// Whether it has ended; nothing where that cannot be known here: it runs on another machine or in
    /// another container.
    pub fn is_gone(&self) -> Option<bool> {
        if !self.is_here() {
            return None;
        }
        let runs = look_up(self.pid).is_some_and(|(start, ends)| start == self.start && !ends);
        Some(!runs)
    }
}

/// Start of the process with this number, and whether it only waits for its parent to see its end.
fn look_up(pid: u32) -> Option<(u64, bool)> {
    let fields = fields(pid)?;
    let ends = matches!(fields.first()?.as_str(), "Z" | "X");
    Some((fields.get(19)?.parse().ok()?, ends))
}

/// The process that started it; nothing above the first.
fn parent(pid: u32) -> Option<u32> {
    let parent = fields(pid)?.get(1)?.parse().ok()?;
    (parent != 0).then_some(parent)
}

/// What `/proc/PID/stat` says, from the third field on.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything, brackets and spaces too.
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn boot() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(boot.trim().to_owned())
}

fn namespace() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/pid").ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_gone_when_it_has_ended_or_its_number_is_anothers() {
        let pid = std::process::id();
        let (start, _) = look_up(pid).expect("there");
        let (boot, namespace) = (boot().expect("there"), namespace().expect("there"));
        let own = Process { pid, start, boot, namespace };
        assert_eq!(own.is_gone(), Some(false));
        assert_eq!(Process { start: own.start + 1, ..own.clone() }.is_gone(), Some(true));
        assert_eq!(Process { boot: "another".to_owned(), ..own.clone() }.is_gone(), None);
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("started");
        let (start, _) = look_up(child.id()).expect("there");
        let process = Process { pid: child.id(), start, ..own };
        assert_eq!(process.is_gone(), Some(false));
        child.kill().expect("ended");
        // It may be a zombie for a moment; after the wait it is nothing at all.
        child.wait().expect("waited for");
        assert_eq!(process.is_gone(), Some(true));
    }
}
