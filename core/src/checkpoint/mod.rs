//! Checkpoints as they appear: found, found ready, pinned, paired (DESIGN section 5).
//!
//! [`watch`] runs one thread a directory. Events of the file system ([`notifier`]) only wake it up; [`scan`]
//! of the directory is the truth, and [`directory`] what follows from it, look by look. What is complete, and
//! which step it is of, `layout` says. A checkpoint is held by hard link when it is first seen, and pinned by
//! [`pin`] before anybody is told of it, so that a trainer that keeps only its last files cannot take it
//! away. [`pairing`] matches steps. A [`Census`] is what is there at one moment.

mod census;
pub mod directory;
mod event;
pub mod filesystem;
pub mod fingerprint;
pub mod fixed;
mod foreign;
pub mod notifier;
pub mod pairing;
pub mod pin;
pub mod scan;
mod scans;
pub mod watch;

pub use census::{Census, LeftOut};
pub use directory::Directory;
pub use event::{Event, Moment};
pub use filesystem::{Mode, Watching};
pub use foreign::{foreign, left_out};
pub use pairing::{Next, Order, Pairing, Pairs};
pub use scan::Marker;
pub use scans::{Cause, Scans};
pub use watch::Watcher;

use crate::layout::{Layout, Limits, Steps};
use crate::role::Role;
use std::path::PathBuf;

/// One watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose checkpoints these are.
    pub role: Role,
    /// Where they appear; need not exist yet.
    pub directory: PathBuf,
    /// How they are written.
    pub layout: Layout,
    /// Where their step stands.
    pub steps: Steps,
    /// What they may ask for.
    pub limits: Limits,
    /// The file that declares a checkpoint complete, where there is one.
    pub marker: Option<Marker>,
    /// How the directory is watched.
    pub watching: Watching,
}

impl Settings {
    /// The defaults for a directory of a layout.
    pub fn new(role: Role, directory: PathBuf, layout: Layout) -> Self {
        let (limits, watching) = (Limits::default(), Watching::default());
        Self { role, directory, layout, steps: Steps::Default, limits, marker: None, watching }
    }
}

/// A ready checkpoint, pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose it is.
    pub role: Role,
    /// Training step.
    pub step: u64,
    /// Where the trainer wrote it; may be gone.
    pub path: PathBuf,
    /// Where it is kept until it is evaluated.
    pub pin: PathBuf,
    /// Tells it from every other file or directory, a re-saved step too.
    pub identity: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A directory watched for the target, with the defaults of a layout.
    pub(super) fn settings(layout: Layout, directory: &Path) -> Settings {
        Settings::new(Role::Target, directory.to_owned(), layout)
    }
}
