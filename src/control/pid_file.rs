//! The process of a trainer whose client tells none: its number stands in a file.
//!
//! A number alone is no identity, so the start of the process is taken at first sight and kept. A file that is older than
//! the process that now has the number was written of another.

use super::process::Process;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clocks of processes and files differ, and some file systems count seconds.
const SLACK: Duration = Duration::from_secs(3);

/// What was seen in a pid file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// When the file was written, in nanoseconds since 1970: another time is another sight.
    pub written: u64,
    /// The process that had its number.
    pub process: Process,
}

/// Looks at a pid file. What was seen before stands while the file is the same, also when its process
/// has ended and another has its number.
pub fn look(path: &Path, before: Option<&Sighting>) -> Option<Sighting> {
    let modified = std::fs::metadata(path).ok()?.modified().ok()?;
    let written = modified.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    let written = u64::try_from(written).ok()?;
    if let Some(before) = before.filter(|before| before.written == written) {
        return Some(before.clone());
    }
    let text = std::fs::read_to_string(path).ok()?;
    let process = Process::running(text.trim().parse().ok()?)?;
    let file_age = SystemTime::now().duration_since(modified).unwrap_or_default();
    let is_older = process.age()? + SLACK >= file_age;
    is_older.then_some(Sighting { written, process })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::process::Command;

    #[test]
    fn the_identity_is_taken_at_first_sight_and_never_of_a_younger_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("trainer.pid");
        assert_eq!(look(&path, None), None);
        let mut child = Command::new("sleep").arg("600").spawn().expect("started");
        let pid = child.id();
        std::fs::write(&path, format!("{pid}\n")).expect("written");
        let seen = look(&path, None).expect("seen");
        assert_eq!(seen.process.pid, pid);
        // Written long before the process that has its number now began.
        let file = File::options().write(true).open(&path).expect("opened");
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).expect("set");
        assert_eq!(look(&path, None), None);
        std::fs::write(&path, format!("{pid}\n")).expect("written");
        let again = look(&path, None).expect("seen");
        child.kill().expect("ended");
        child.wait().expect("waited for");
        assert_eq!(look(&path, Some(&again)), Some(again), "it is remembered");
        assert_eq!(look(&path, Some(&seen)), None, "another file, and nobody has the number");
    }
}
