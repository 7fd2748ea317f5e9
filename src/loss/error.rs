//! Why a loss cannot be evaluated.

use crate::network::first_lines;
use thiserror::Error;

/// Why a loss cannot be evaluated.
#[derive(Debug, Error)]
pub enum LossError {
    /// A setting is out of its range.
    #[error("{0}")]
    Setting(String),
    /// A tensor does not fit the others or the variables.
    #[error("{0}")]
    Shape(String),
    /// libtorch refused something, such as a label that is no class.
    #[error("libtorch refuses a step of the loss: {0}")]
    Torch(String),
}

impl From<tch::TchError> for LossError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(first_lines(&error))
    }
}
