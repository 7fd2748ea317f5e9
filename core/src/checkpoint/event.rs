//! What watchers report, and the time at which they look.

use super::{Checkpoint, Mode};
use crate::role::Role;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// What a watcher reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The directory is not there yet (reported once), or cannot be listed.
    Waiting {
        /// Whose directory.
        role: Role,
        /// Why.
        reason: String,
    },
    /// The directory holds no checkpoint of its layout, but something of another (reported once).
    Foreign {
        /// Whose directory.
        role: Role,
        /// What was found, and what to write in the configuration.
        reason: String,
    },
    /// A checkpoint is ready and pinned.
    Ready {
        /// It.
        checkpoint: Checkpoint,
        /// How long ago it was first seen as it is now.
        delay: Duration,
    },
    /// A file stays incomplete or damaged; it is left alone until it changes.
    Quarantined {
        /// Whose file.
        role: Role,
        /// Its step; 0 where neither its name nor the file tells one.
        step: u64,
        /// Where it stands.
        path: PathBuf,
        /// Its identity.
        identity: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory has been listed once, and everything that was ready has been reported.
    Listed {
        /// Whose directory.
        role: Role,
    },
    /// How the directory is watched from now on.
    Mode {
        /// Whose directory.
        role: Role,
        /// The mode.
        mode: Mode,
        /// Why.
        reason: String,
    },
}

/// A time, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Never goes back.
    pub monotonic: Instant,
    /// What files are stamped with.
    pub wall: SystemTime,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }
}
