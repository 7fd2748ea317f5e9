//! Event files for TensorBoard, beside the history.

use super::Daemon;
use crate::tensorboard::{EventError, EventFiles};

/// What `telemetry.tensorboard` asks for.
#[derive(Default)]
pub(super) struct Events {
    /// Opened when there is something to write, and anew after an error.
    files: Option<EventFiles>,
    /// Whether it has been said that they cannot be written.
    was_failing: bool,
}

impl Daemon<'_> {
    /// Writes what the history has and the event files have not. Where that fails it is said once, and tried again at the
    /// next pair: they are no reason to end a run.
    pub(super) fn write_events(&mut self) {
        match self.append_events() {
            Ok(()) if self.events.was_failing => {
                self.events.was_failing = false;
                tracing::info!("event files are written again, with what they lacked");
            }
            Ok(()) => {}
            Err(error) => {
                self.events.files = None;
                self.metrics.count_error("tensorboard");
                if !std::mem::replace(&mut self.events.was_failing, true) {
                    tracing::warn!(
                        "{error}; the run goes on without, and tries again at each pair"
                    );
                }
            }
        }
    }

    fn append_events(&mut self) -> Result<(), EventError> {
        let Some(directory) = &self.config.tensorboard else { return Ok(()) };
        let files = match self.events.files.take() {
            Some(files) => files,
            None => EventFiles::open(directory, &self.history)?,
        };
        self.events.files.insert(files).append(&self.history)
    }
}
