//! How often directories were scanned, and why, and whether one is being scanned.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Why a directory is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The watcher begins.
    Start,
    /// Something has changed.
    Event,
    /// Time has passed.
    Timer,
    /// Events were lost.
    Overflow,
    /// Events failed.
    Error,
    /// The daemon asks, at the end.
    Request,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Start, Self::Event, Self::Timer, Self::Overflow, Self::Error, Self::Request];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Event => "event",
            Self::Timer => "timer",
            Self::Overflow => "overflow",
            Self::Error => "error",
            Self::Request => "request",
        }
    }
}

/// Scans of all watchers since the last time somebody asked, by cause: shared, since a report for
/// each would fill the channel of checkpoints.
#[derive(Debug, Default)]
pub struct Scans {
    begun: [AtomicU64; Cause::ALL.len()],
    /// Watchers that scan, pin what they find, or report it.
    at_work: AtomicUsize,
}

impl Scans {
    /// A scan begins; it lasts until everything that it finds is reported, which is when what is given back is dropped.
    pub(super) fn begin(&self, cause: Cause) -> AtWork<'_> {
        self.begun[cause as usize].fetch_add(1, Ordering::Relaxed);
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(&self.at_work)
    }

    /// Whether a watcher is at work: to pin on another file system means to copy, which may take minutes.
    pub fn is_under_way(&self) -> bool {
        self.at_work.load(Ordering::Acquire) > 0
    }

    /// Takes the numbers, which begin at 0 again.
    pub fn take(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        Cause::ALL
            .into_iter()
            .map(|cause| (cause, self.begun[cause as usize].swap(0, Ordering::Relaxed)))
    }
}

/// A watcher at work.
pub(super) struct AtWork<'a>(&'a AtomicUsize);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        // What was reported before is there for whoever sees this.
        self.0.fetch_sub(1, Ordering::Release);
    }
}
