//! The process of a trainer whose client tells none: its number stands in a file.
//!
//! A number alone is no identity, so the start of the process is taken at first sight and kept. A file that is older than
//! the process that now has the number was written of another, and of one from the future that cannot be told. Only whose
//! process it is may name it, and nobody names the first process of the system, convergd, or what it was started by.

use super::process::Process;
use crate::files::read_small;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A number, with white space around it.
const LARGEST: u64 = 1 << 10;
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

impl Sighting {
    /// As the history keeps it; what cannot be read is seen anew.
    pub fn of(stored: Option<String>) -> Option<Self> {
        serde_json::from_str(&stored?).ok()
    }
}

/// Looks at a pid file. What was seen before stands while the file is the same, also when its process
/// has ended and another has its number.
pub fn look(path: &Path, before: Option<&Sighting>) -> Option<Sighting> {
    let metadata = std::fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?;
    let written = modified.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    let written = u64::try_from(written).ok()?;
    if let Some(before) = before.filter(|before| before.written == written) {
        return Some(before.clone());
    }
    let text = String::from_utf8(read_small(path, LARGEST).ok()?).ok()?;
    let process = Process::running(text.trim().parse().ok()?)?;
    let file_age = (SystemTime::now() + SLACK).duration_since(modified).ok()?;
    let is_older = process.age()? + 2 * SLACK >= file_age;
    let may_be_named = !process.is_above() && process.owner() == Some(metadata.uid());
    (is_older && may_be_named).then_some(Sighting { written, process })
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
        for away in [3600, 10] {
            let away = Duration::from_secs(away);
            file.set_modified(SystemTime::now() - away).expect("set");
            assert_eq!(look(&path, None), None, "{away:?} before the process");
            file.set_modified(SystemTime::now() + away).expect("set");
            assert_eq!(look(&path, None), None, "{away:?} ahead of the clock");
        }
        std::fs::write(&path, format!("{pid}\n")).expect("written");
        let again = look(&path, None).expect("seen");
        child.kill().expect("ended");
        child.wait().expect("waited for");
        assert_eq!(look(&path, Some(&again)), Some(again), "it is remembered");
        assert_eq!(look(&path, Some(&seen)), None, "another file, and nobody has the number");
    }

    #[test]
    fn neither_the_first_process_nor_this_one_nor_what_started_it_is_a_trainer() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("trainer.pid");
        let (own, above) = (std::process::id(), std::os::unix::process::parent_id());
        for pid in [1, own, above] {
            std::fs::write(&path, format!("{pid}\n")).expect("written");
            assert!(Process::running(pid).is_none_or(|process| process.is_above()), "{pid}");
            assert_eq!(look(&path, None), None, "{pid}");
        }
    }

    #[test]
    fn a_file_of_another_user_names_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("trainer.pid");
        let mut child = Command::new("sleep").arg("600").spawn().expect("started");
        std::fs::write(&path, child.id().to_string()).expect("written");
        let owner = std::fs::metadata(&path).expect("there").uid();
        let of_another = std::os::unix::fs::chown(&path, Some(owner + 1), None).is_ok();
        let seen = look(&path, None);
        child.kill().expect("ended");
        child.wait().expect("waited for");
        // Only root can give a file away.
        assert_eq!(seen.is_none(), of_another);
    }
}
