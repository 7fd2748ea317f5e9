//! How often directories were scanned, and why.

use std::sync::atomic::{AtomicU64, Ordering};

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
pub struct Scans([AtomicU64; Cause::ALL.len()]);

impl Scans {
    pub(super) fn count(&self, cause: Cause) {
        self.0[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the numbers, which begin at 0 again.
    pub fn take(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        Cause::ALL
            .into_iter()
            .map(|cause| (cause, self.0[cause as usize].swap(0, Ordering::Relaxed)))
    }
}
