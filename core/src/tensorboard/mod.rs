//! The history of a run as event files, which TensorBoard reads.
//!
//! Three runs below one directory: `target`, `baseline`, and `pair` for what the two have together. What
//! has been written is found in the files themselves, so after a crash, a full disk or a first start in the middle of a run the
//! files go on where they end, and no pair is written twice.

mod curves;
mod event;
mod record;
mod run;

use self::curves::Whose;
use self::run::Run;
use crate::clock::now;
use crate::failpoint;
use crate::history::{History, HistoryError};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Pairs that are read and written at a time.
const PAIRS_AT_ONCE: usize = 256;

/// Why event files cannot be written.
#[derive(Debug, Error)]
pub enum EventError {
    /// The directory cannot be made, read or written.
    #[error(
        "event files cannot be written to `{path}`: {source}; give another directory, room, or rights"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// Another process writes there.
    #[error("another convergd writes event files to `{path}`; give another directory")]
    Held {
        /// The directory.
        path: PathBuf,
    },
    /// The files there tell of other pairs.
    #[error(
        "`{path}` holds event files of another run, with a pair of step {step} that this history does not have; \
         give another directory, or remove them"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The last step there.
        step: u64,
    },
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// The event files of a run, which grow with its history.
#[derive(Debug)]
pub struct EventFiles {
    directory: PathBuf,
    runs: [Run; 3],
    /// Held, so that nobody else writes there; the system lets go of it.
    _lock: File,
}

impl EventFiles {
    /// Opens a directory, which is made, and reads what has been written of this history there.
    ///
    /// # Errors
    /// A directory that cannot be used, that another process writes to, or that has event files of another run.
    pub fn open(directory: &Path, history: &History) -> Result<Self, EventError> {
        let refuse = |source| EventError::Directory { path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(refuse)?;
        let lock = File::open(directory).map_err(refuse)?;
        // A file system without locks has none to respect.
        if flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(EventError::Held { path: directory.to_owned() });
        }
        let [target, baseline, pair] = Whose::ALL.map(|whose| Run::read(whose, directory));
        let read = || Ok([target?, baseline?, pair?]);
        let files =
            Self { directory: directory.to_owned(), runs: read().map_err(refuse)?, _lock: lock };
        files.refuse_foreign(history)?;
        Ok(files)
    }

    /// No two runs store a pair of one step at the same instant.
    fn refuse_foreign(&self, history: &History) -> Result<(), EventError> {
        for (step, time) in self.runs.iter().filter_map(|run| run.last) {
            if history.pair(step)?.is_none_or(|pair| pair.time != time) {
                return Err(EventError::Foreign { path: self.directory.clone(), step });
            }
        }
        Ok(())
    }

    /// Writes what the history has and the files have not.
    ///
    /// # Errors
    /// A history that cannot be read, a directory that cannot be written. What was written stays whole, so
    /// that files that are opened again go on there.
    pub fn append(&mut self, history: &History) -> Result<(), EventError> {
        let path = self.directory.clone();
        let refuse = |source| EventError::Directory { path: path.clone(), source };
        loop {
            // Nothing is less than any step.
            let after = self.runs.iter().map(|run| run.last.map(|(step, _)| step)).min().flatten();
            let mut pairs = Vec::new();
            for pair in history.pairs_from(after.map_or(0, |step| step + 1), PAIRS_AT_ONCE)? {
                let notices = history.notices_at(pair.step)?;
                pairs.push((pair, notices));
            }
            if pairs.is_empty() {
                break;
            }
            for run in &mut self.runs {
                let last = run.last.map(|(step, _)| step);
                let new = pairs.iter().filter(|(pair, _)| Some(pair.step) > last);
                let new: Vec<_> =
                    new.map(|(pair, notices)| run.whose.pair(pair, notices)).collect();
                run.append(&new, now()).map_err(refuse)?;
                failpoint::reach("events-written");
            }
        }
        for run in self.runs.iter_mut().filter(|run| run.whose == Whose::Pair) {
            let decisions = history.decisions()?;
            let new: Vec<_> = decisions.iter().skip(run.decisions).map(curves::decision).collect();
            run.append(&new, now()).map_err(refuse)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
