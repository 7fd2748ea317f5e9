//! Storing, on a disk that may be full.

use super::{Daemon, DaemonError, Result};
use crate::history::{History, HistoryError};
use crossbeam_channel::Receiver;
use std::path::Path;
use std::time::Duration;

/// How long to wait for room on a disk, or for a disk.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// Tries something that is of the state until the disk takes it; what else fails is an error at once.
///
/// # Errors
/// The history's; [`DaemonError::NoRoom`] where the end is asked for while the disk takes no more.
pub(super) fn until_there_is_room<T>(
    state: &Path,
    interrupts: &Receiver<()>,
    mut store: impl FnMut() -> std::result::Result<T, HistoryError>,
    mut note: impl FnMut(),
) -> Result<T> {
    let mut was_full = false;
    loop {
        match store() {
            Err(error) if error.is_of_disk() => {
                if !std::mem::replace(&mut was_full, true) {
                    note();
                    let state = state.display();
                    tracing::error!(
                        %state, "{error}; the run waits until the state can be written again"
                    );
                }
                if interrupts.recv_timeout(RETRY).is_ok() {
                    return Err(DaemonError::NoRoom(error));
                }
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
        if self.is_interrupted {
            return Ok(store(&mut self.history)?);
        }
        let Self { config, interrupts, history, metrics, is_interrupted, .. } = self;
        let note = || metrics.count_error("history");
        let stored = until_there_is_room(&config.state, interrupts, || store(&mut *history), note);
        *is_interrupted = matches!(stored, Err(DaemonError::NoRoom(_)));
        self.news.changed();
        stored
    }
}
