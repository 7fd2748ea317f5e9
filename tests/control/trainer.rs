//! A process that is told of decisions.

use crate::bench::{Bench, eventually};
use crate::common;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};

pub(crate) struct Trainer {
    child: Child,
    log: PathBuf,
}

impl Trainer {
    /// Starts one in a process group of its own, and waits until it handles signals.
    pub(crate) fn start(bench: &Bench, network: &str, flags: &[&str]) -> Self {
        Self::start_in(bench, network, flags, 0)
    }

    fn start_in(bench: &Bench, network: &str, flags: &[&str], group: i32) -> Self {
        let log = bench.path(&format!("{network}.signals"));
        let mut command = common::script("trainer.py");
        command.arg(bench.path("control")).arg(network).arg(&log).args(flags);
        command.current_dir(bench.path("")).stdin(Stdio::null()).process_group(group);
        let trainer = Self { child: command.spawn().unwrap(), log };
        common::process::eventually("the trainer handles signals", || trainer.has_said("ready"));
        trainer
    }

    /// Starts one that has told its process, and waits for that. The run must have begun.
    pub(crate) fn known(bench: &Bench, network: &str, flags: &[&str]) -> Self {
        Self::known_in(bench, network, flags, 0)
    }

    /// The same in the process group of another; 0 for one of its own.
    pub(crate) fn known_in(bench: &Bench, network: &str, flags: &[&str], group: u32) -> Self {
        let trainer = Self::start_in(bench, network, flags, group as i32);
        common::process::eventually("the trainer is known", || trainer.has_said("known"));
        trainer
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn has_said(&self, line: &str) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|text| text.lines().any(|said| said == line))
    }

    /// The signals that it has got, in order.
    pub(crate) fn signals(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines().filter(|line| line.starts_with("SIG")).map(str::to_owned).collect()
    }

    /// These signals come to it, in this order; one that was sent may be on its way yet.
    #[track_caller]
    pub(crate) fn has_taken(&self, signals: &[&str]) {
        let what = format!("the trainer has taken {} signals", signals.len());
        eventually(&what, || self.signals().len() >= signals.len());
        assert_eq!(self.signals(), signals);
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
