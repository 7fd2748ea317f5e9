//! Checkpoints as they appear: found, found ready, pinned, paired (DESIGN section 5).
//!
//! [`watch`] runs one thread a directory. Events of the file system only wake it up; [`scan`] of the
//! directory is the truth. A ready checkpoint is pinned by [`pin`] before anybody is told of it, so
//! that a trainer that keeps only its last files cannot take it away. [`pairing`] matches steps.

pub mod format;
pub mod pairing;
pub mod pin;
pub mod scan;
pub mod watch;

pub use pairing::{Next, Pairing, Pairs};
pub use watch::{Event, Watcher};

use crate::role::Role;
use std::path::PathBuf;

/// One watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose checkpoints these are.
    pub role: Role,
    /// Where they appear; need not exist yet.
    pub directory: PathBuf,
}

/// A ready checkpoint, pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose it is.
    pub role: Role,
    /// Training step, from the file's name.
    pub step: u64,
    /// Where the trainer wrote it; may be gone.
    pub path: PathBuf,
    /// Where it is kept until it is evaluated.
    pub pin: PathBuf,
    /// Tells it from every other file, a re-saved step too.
    pub identity: String,
}
