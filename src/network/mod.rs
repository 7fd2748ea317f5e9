//! Networks in libtorch: with `tensor_solver` and `loss`, the only module that names tch.
//!
//! A [`program`] is a TorchScript file with `features` and `head` (DESIGN section 4); [`weights`] copies
//! a checkpoint into it by name, `placement` brings them to the device; [`probe`] is the held-out samples, each a
//! [`sample`] on the device, [`variables`] says what is masked; `masked` makes the copies that lack variables,
//! [`inputs`] sends all of them through the network in a [`precision`], a [`batch`] at a time as [`memory`] allows,
//! and [`values`] are what comes out. `networks` are all that is on one device, owned by the thread of a `worker`;
//! the [`evaluator`] shares the work out among the devices, and a cache keeps what was evaluated.

pub mod batch;
pub mod device;
pub mod evaluator;
mod host;
pub mod inputs;
mod masked;
pub mod memory;
mod networks;
mod placement;
pub mod precision;
pub mod probe;
pub mod program;
pub mod sample;
mod source;
pub mod values;
pub mod variables;
pub mod weights;
mod worker;

pub use batch::Batch;
pub use device::Device;
pub use evaluator::{Answer, Evaluated, Evaluator};
pub use inputs::MaskedInputs;
pub use probe::Probe;
pub use program::Program;
pub use source::Source;

use std::path::PathBuf;
use thiserror::Error;

/// Why a network cannot be evaluated.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// libtorch refused something; the message names the file or the step.
    #[error("{context}: {message}")]
    Torch {
        /// What was tried.
        context: String,
        /// libtorch's words, first line.
        message: String,
    },
    /// The TorchScript file is none that convergd can use.
    #[error("program `{path}` {message}")]
    Program {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to try.
        message: String,
    },
    /// The probe file is wrong.
    #[error("probe `{path}` {message}")]
    Probe {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to try.
        message: String,
    },
    /// A checkpoint does not fit its program, or is damaged. Other checkpoints may be fine.
    #[error("checkpoint `{path}` {message}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to try.
        message: String,
        /// Whether the system could not read it, which may pass.
        is_passing: bool,
    },
    /// There is not enough memory, however small a batch is.
    #[error(
        "{device} has not enough memory, however little it does at a time: {message}; leave it more, or take another \
         `compute.device`"
    )]
    Memory {
        /// Where.
        device: String,
        /// libtorch's words.
        message: String,
    },
    /// A sample of the probe does not fit the network or the variables.
    #[error("probe sample {sample} {message}")]
    Sample {
        /// Counted from 0.
        sample: usize,
        /// What is wrong and what to try.
        message: String,
    },
    /// The network thread is gone.
    #[error("BUG: the network thread ended before it answered")]
    Died,
    /// The device is not there.
    #[error("{0}")]
    Device(String),
}

impl NetworkError {
    /// Whether only this checkpoint is bad, so that the run goes on without it.
    pub fn is_of_checkpoint(&self) -> bool {
        matches!(self, Self::Checkpoint { .. })
    }

    /// Whether the same may be possible a little later: a file that could not be read, memory that others have.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Checkpoint { is_passing: true, .. } | Self::Memory { .. })
    }

    /// With the device named where it lacked memory.
    pub(crate) fn on(self, device: Device) -> Self {
        match self {
            Self::Torch { context, message } if memory::is_exhausted(&message) => Self::Memory {
                device: device.to_string(),
                message: format!("{context}: {message}"),
            },
            other => other,
        }
    }

    /// Whether a device has failed, so that it is better done without.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Torch { .. } | Self::Died) && !self.lacks_memory()
    }

    /// Whether a device is not there, has failed or has not enough memory, and another may do.
    pub(crate) fn is_of_device(&self) -> bool {
        matches!(self, Self::Device(_)) || self.is_failure() || self.lacks_memory()
    }

    /// Whether there was not enough memory, which may pass.
    pub(crate) fn lacks_memory(&self) -> bool {
        match self {
            Self::Memory { .. } => true,
            Self::Torch { message, .. } => memory::is_exhausted(message),
            _ => false,
        }
    }
}

/// Gives libtorch's errors a context; its messages carry a stack after the first line.
pub(crate) trait Context<T> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T, NetworkError>;
}

impl<T> Context<T> for Result<T, tch::TchError> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T, NetworkError> {
        self.map_err(|error| NetworkError::Torch {
            context: context(),
            message: first_lines(&error),
        })
    }
}

/// What libtorch says, without the stacks around it: the interpreter of TorchScript puts its stack
/// before the reason, everything else appends one.
pub(crate) fn first_lines(error: &tch::TchError) -> String {
    let text = error.to_string();
    let text = text.rsplit_once("\nRuntimeError: ").map_or(text.as_str(), |(_, reason)| reason);
    let stack = ["Exception raised from", "frame #0: ", " (function "];
    let end = stack.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len());
    let mut lines = text[..end].lines().map(str::trim).filter(|line| !line.is_empty());
    lines.by_ref().take(3).collect::<Vec<_>>().join(" ")
}

/// tch panics where libtorch refuses something that was not foreseen; the thread lives on.
pub(crate) fn guarded<T>(
    work: impl FnOnce() -> Result<T, NetworkError>,
) -> Result<T, NetworkError> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        Err(NetworkError::Torch {
            context: "BUG: libtorch refused something unforeseen".to_owned(),
            message: text.lines().next().unwrap_or_default().to_owned(),
        })
    })
}
