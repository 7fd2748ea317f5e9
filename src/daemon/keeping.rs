//! Storing, on a disk that may be full.

use super::{Daemon, Result};
use crate::history::{History, HistoryError};
use std::time::Duration;

/// How long to wait for room on a disk, or for a disk.
pub(super) const RETRY: Duration = Duration::from_secs(1);

impl Daemon<'_> {
    /// Stores something. While the disk takes no more, nothing else is done, since nothing could be decided so
    /// that a crash does not lose it: it is tried again until there is room or the end is asked for.
    ///
    /// # Errors
    /// The history's; a full disk only when the end is asked for.
    pub(super) fn keep<T>(
        &mut self,
        mut store: impl FnMut(&mut History) -> std::result::Result<T, HistoryError>,
    ) -> Result<T> {
        let mut was_full = false;
        loop {
            match store(&mut self.history) {
                Err(error) if error.is_of_disk() && !self.is_interrupted => {
                    if !std::mem::replace(&mut was_full, true) {
                        self.metrics.count_error("history");
                        let state = self.config.state.display();
                        tracing::error!(
                            %state, "{error}; the run waits until the state can be written again"
                        );
                    }
                    self.is_interrupted = self.interrupts.recv_timeout(RETRY).is_ok();
                }
                stored => {
                    if was_full && stored.is_ok() {
                        tracing::info!("the state can be written again");
                    }
                    return Ok(stored?);
                }
            }
        }
    }
}
