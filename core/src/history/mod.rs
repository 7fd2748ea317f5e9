//! The history: one SQLite file in the state directory, and the lock on it (DESIGN section 9).
//!
//! A pair's monitors, the new policy state and the decision are one transaction; signals go out after
//! it. So a crash at any moment loses nothing and decides nothing twice.

mod begun;
mod escalation;
mod failure;
mod intervention;
mod lock;
mod notification;
mod queries;
mod row;
mod schema;
pub mod setting;
mod store;

pub use begun::Begun;
pub use escalation::EscalationRow;
pub use failure::Failure;
pub use intervention::{InterventionRecord, InterventionRow};
pub use lock::{Holder, StateLock};
pub use notification::NotificationRow;
pub use row::{CheckpointRow, DeliveryRow, Evidence, Outcome, PairRecord, PairRow};
pub use store::History;

use std::path::PathBuf;
use thiserror::Error;

/// Why the state cannot be used.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The directory cannot be made or written.
    #[error(
        "state directory `{path}` cannot be used: {source}; give another `state` or its rights"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// Another process holds the state.
    #[error(
        "state directory `{path}` is held by another convergd{holder}; stop that one, or give this one \
         another `state`"
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// ` (process N)`, where it is known.
        holder: String,
    },
    /// Another run is at work at the control directory of this one.
    #[error(
        "control directory `{path}` is held by another convergd{holder}, and trainers would take the decisions of both; \
         wait for that run to end, or give this one another `control.directory`"
    )]
    ControlHeld {
        /// The directory.
        path: PathBuf,
        /// ` (process N)`, where it is known.
        holder: String,
    },
    /// Another run has delivered its decisions to the control directory of this one since.
    #[error(
        "control directory `{path}` has generation {seen}, but the last one in the history is {own}: another run has used \
         it since, or this state is an older copy, and trainers would take what is not meant for them, or nothing; give \
         another `control.directory` or the right `state`"
    )]
    ControlAhead {
        /// The directory.
        path: PathBuf,
        /// The newest generation there.
        seen: u64,
        /// That of the last decision in the history.
        own: u64,
    },
    /// There is no history at this place.
    #[error("`{path}` holds no history yet; `convergd run` makes one")]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// The database was written by a newer version.
    #[error("history `{path}` has version {found}, this convergd knows {known}; update convergd")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        found: i64,
        /// Newest known version.
        known: i64,
    },
    /// The run was begun with other settings, and its numbers would not be comparable.
    #[error(
        "history `{path}` was begun with {what} {}, now it is {}{}; give a new `state` directory for the new settings",
        setting::readable(.what, .found), setting::readable(.what, .wanted), setting::place(.what)
    )]
    Mixed {
        /// The file.
        path: PathBuf,
        /// Which setting.
        what: String,
        /// As begun.
        found: String,
        /// As configured now.
        wanted: String,
    },
    /// The disk takes no more, or is not there for the moment.
    #[error("the disk of the history is full or fails: {0}")]
    Disk(rusqlite::Error),
    /// SQLite refused something.
    #[error("history: {0}")]
    Database(rusqlite::Error),
    /// A stored value cannot be read.
    #[error("history: a stored value cannot be read: {0}")]
    Value(#[from] serde_json::Error),
}

impl HistoryError {
    /// Whether the disk takes no more, or is not there for the moment: what failed can be tried again.
    pub fn is_of_disk(&self) -> bool {
        match self {
            Self::Disk(_) => true,
            Self::Directory { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for HistoryError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
        match error.sqlite_error_code() {
            Some(DiskFull | SystemIoFailure) => Self::Disk(error),
            _ => Self::Database(error),
        }
    }
}

#[cfg(test)]
pub(crate) mod invented;
#[cfg(test)]
mod tests;
