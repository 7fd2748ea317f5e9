//! The exclusive lock on a state directory.

use super::HistoryError;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

/// How often a lock that is held is tried again, and after how long.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(20);

/// Whether a process holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// None does.
    Nobody,
    /// One does, and this is what it says of itself: its number.
    Process(String),
}

/// Held as long as the process lives or this value does; the system lets go of it after a crash.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Whether a process holds the lock on a directory, for the moment; nothing is changed. `None` where the lock cannot
    /// be looked at.
    pub fn holder(directory: &Path) -> Option<Holder> {
        let Ok(mut file) = File::open(directory.join("lock")) else {
            return (!directory.join("lock").exists()).then_some(Holder::Nobody);
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Some(Holder::Nobody),
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                Some(Holder::Process(text.trim().to_owned()))
            }
            Err(_) => None,
        }
    }

    /// Takes the lock; makes the directory. Whoever only looks at the lock is waited for.
    ///
    /// # Errors
    /// A directory that cannot be used, and one that another process holds.
    pub fn take(directory: &Path) -> Result<Self, HistoryError> {
        for _ in 0..LOOKS {
            match Self::try_take(directory) {
                Err(HistoryError::Held { .. }) => std::thread::sleep(LOOK),
                taken => return taken,
            }
        }
        Self::try_take(directory)
    }

    /// Takes the lock on a control directory: two runs there would overwrite each other's decisions. Nothing where the
    /// directory cannot be locked; that it cannot be written is told of when there is something to write.
    ///
    /// # Errors
    /// A directory that another process holds.
    pub fn take_control(directory: &Path) -> Result<Option<Self>, HistoryError> {
        match Self::take(directory) {
            Err(HistoryError::Held { path, holder }) => {
                Err(HistoryError::ControlHeld { path, holder })
            }
            taken => Ok(taken.ok()),
        }
    }

    /// Takes the lock, or says at once that another process holds it.
    ///
    /// # Errors
    /// As [`StateLock::take`].
    pub fn try_take(directory: &Path) -> Result<Self, HistoryError> {
        let refuse = |source| HistoryError::Directory { path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(refuse)?;
        let path = directory.join("lock");
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(refuse)?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        if let Err(error) = locked
            && error != Errno::WOULDBLOCK
        {
            return Err(refuse(error.into()));
        }
        if locked.is_err() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => String::new(),
                pid => format!(" (process {pid})"),
            };
            return Err(HistoryError::Held { path: directory.to_owned(), holder });
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // The number is for messages; a full disk is told of, and waited for, by what must be stored.
        match write(&mut file) {
            Err(error) if error.kind() != ErrorKind::StorageFull => return Err(refuse(error)),
            _ => {}
        }
        Ok(Self { _file: file })
    }
}
