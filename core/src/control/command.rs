//! A program of the user, run for a bounded time.

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Between two looks whether it has ended.
const POLL: Duration = Duration::from_millis(20);
/// What is told of its output.
const MOST_OUTPUT: u64 = 500;

/// What is run, and how.
#[derive(Clone, Debug)]
pub struct Task {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// The working directory.
    pub directory: PathBuf,
    /// Variables that are set for it.
    pub set: Vec<(&'static str, String)>,
    /// Variables that it must not see.
    pub hidden: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a task ended.
#[derive(Debug)]
pub enum Ran {
    /// With code 0.
    Well,
    /// With another code or by a signal; the end of what it said.
    Badly(ExitStatus, String),
    /// Not in time: it was ended with all that it had started in its group.
    TooLong(Duration),
    /// It was ended, with all in its group, because the run ends.
    Cut,
    /// It could not be started.
    NotAtAll(std::io::Error),
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => f.write_str("ended well"),
            Self::Badly(status, said) if said.is_empty() => write!(f, "ended with {status}"),
            Self::Badly(status, said) => write!(f, "ended with {status}: {said}"),
            Self::TooLong(timeout) => write!(f, "was ended after {timeout:?}"),
            Self::Cut => f.write_str("was ended because the run ends"),
            Self::NotAtAll(error) => write!(f, "could not be started: {error}"),
        }
    }
}

impl Task {
    /// Runs it to its end, or until the other side of `life` is dropped.
    pub fn run(&self, life: &Receiver<()>) -> Ran {
        self.try_run(life).unwrap_or_else(Ran::NotAtAll)
    }

    fn try_run(&self, life: &Receiver<()>) -> std::io::Result<Ran> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(std::io::Error::other("no program is given"));
        };
        let mut said = tempfile::tempfile()?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.directory).envs(self.set.iter().cloned());
        self.hidden.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
        let mut child = command.process_group(0).spawn()?;
        let started = Instant::now();
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if started.elapsed() >= self.timeout => {
                    end(&mut child)?;
                    return Ok(Ran::TooLong(self.timeout));
                }
                None if life.recv_timeout(POLL) != Err(RecvTimeoutError::Timeout) => {
                    end(&mut child)?;
                    return Ok(Ran::Cut);
                }
                None => {}
            }
        };
        if status.success() {
            return Ok(Ran::Well);
        }
        let length = said.seek(SeekFrom::End(0))?;
        said.seek(SeekFrom::Start(length.saturating_sub(MOST_OUTPUT)))?;
        let mut text = Vec::new();
        said.read_to_end(&mut text)?;
        Ok(Ran::Badly(status, String::from_utf8_lossy(&text).trim().to_owned()))
    }
}

fn end(child: &mut Child) -> std::io::Result<()> {
    // The group is its own, and it has not been waited for: its number is still its own.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    child.wait().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::Process;
    use super::*;
    use crossbeam_channel::bounded;

    fn task(script: &str) -> Task {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let set = vec![("CONVERGD_ACTION", "stop".to_owned())];
        let hidden = vec!["CARGO_MANIFEST_DIR".to_owned()];
        let timeout = Duration::from_secs(60);
        Task { command, directory: std::env::temp_dir(), set, hidden, timeout }
    }

    #[test]
    fn a_task_sees_what_it_may_and_its_end_is_told() {
        let (_run, life) = bounded(0);
        let well = task("[ \"$CONVERGD_ACTION\" = stop ] && [ -z \"${CARGO_MANIFEST_DIR+set}\" ]")
            .run(&life);
        assert!(matches!(well, Ran::Well), "{well}");
        let badly = task("echo no such job >&2; exit 3").run(&life).to_string();
        assert!(badly.contains('3') && badly.ends_with("no such job"), "{badly}");
        let missing = Task { command: vec!["/nowhere/at-all".to_owned()], ..task("") }.run(&life);
        assert!(matches!(missing, Ran::NotAtAll(_)), "{missing}");
        let long = Task { timeout: Duration::from_millis(100), ..task("exec /bin/sleep 600") };
        assert!(matches!(long.run(&life), Ran::TooLong(_)));
    }

    #[test]
    fn a_task_ends_with_what_waits_for_it() {
        let (run, life) = bounded(0);
        let directory = tempfile::tempdir().expect("a directory");
        let begun = directory.path().join("begun");
        let script = format!("/bin/sleep 600 & echo $! > {}; wait", begun.display());
        let long = task(&script);
        let ran = std::thread::spawn(move || long.run(&life));
        let eventually = |what: &str, is_so: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !is_so() {
                assert!(Instant::now() < deadline, "not in time: {what}");
                std::thread::sleep(POLL);
            }
        };
        let pid = || std::fs::read_to_string(&begun).ok()?.strip_suffix('\n')?.parse().ok();
        eventually("it begins", &|| pid().is_some());
        drop(run);
        assert!(matches!(ran.join().expect("ended"), Ran::Cut));
        let runs = || pid().and_then(Process::running).is_some();
        eventually("what it has started is ended too", &|| !runs());
    }
}
