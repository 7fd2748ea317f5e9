//! Commands at work, and waiting for what they do.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Far more than anything takes; a wait that reaches it fails.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// The program that is tested.
pub(crate) fn convergd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convergd"));
    command.args(arguments).env_remove("RUST_LOG").env("RUST_BACKTRACE", "0");
    command.env("OMP_WAIT_POLICY", "PASSIVE");
    command
}

/// Waits for something to come true.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Every part must stand in the text.
#[track_caller]
pub(crate) fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    assert!(!text.contains("panicked") && !text.contains("BUG"), "{text}");
}

/// What a command left.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        assert_says(&self.err, parts);
        self
    }
}

/// A command at work; it ends with this value.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// Starts a command whose output goes to files in a directory.
    pub(crate) fn start(command: &mut Command, directory: &Path) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let [out, err] = ["out", "err"].map(|name| directory.join(format!("{number}.{name}")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Self { child, out, err }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn err(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has said something.
    pub(crate) fn says(&mut self, part: &str) {
        let started = Instant::now();
        while !self.err().contains(part) {
            assert!(self.is_alive(), "it ended without `{part}`:\n{}", self.err());
            assert!(started.elapsed() < PATIENCE, "no `{part}` in time:\n{}", self.err());
            std::thread::sleep(POLL);
        }
    }

    /// Its child, once that is of this name.
    pub(crate) fn child_named(&self, name: &str) -> Option<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let child = std::fs::read_to_string(children).ok()?.split(' ').next()?.trim().to_owned();
        let is_it = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?.trim() == name;
        is_it.then(|| child.parse().ok()).flatten()
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub(crate) fn finish(self) -> Finished {
        self.finish_within(PATIENCE)
    }

    pub(crate) fn finish_within(mut self, patience: Duration) -> Finished {
        let started = Instant::now();
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < patience, "it does not end:\n{}", self.err());
            std::thread::sleep(POLL);
        };
        let out = std::fs::read_to_string(&self.out).unwrap();
        Finished { code: status.code(), out, err: self.err() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
