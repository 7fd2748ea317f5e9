//! What can be wrong with a checkpoint.

use thiserror::Error;

/// Why a checkpoint is not read. Messages continue a sentence that begins with its path.
#[derive(Debug, Error)]
pub enum Flaw {
    /// A file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// A file is shorter than its own header says, or longer.
    #[error("is {found} bytes long, its header wants {wanted}: truncated or still being written")]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have.
        wanted: u64,
    },
    /// Damaged, incomplete, or of another layout.
    #[error("{0}")]
    Wrong(String),
}

impl Flaw {
    /// A flaw in words.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Wrong(message.into())
    }

    /// The same flaw of a file inside a checkpoint's directory.
    pub(super) fn of(self, name: &str) -> Self {
        match self {
            Self::Read(error) => {
                Self::Read(std::io::Error::new(error.kind(), format!("`{name}`: {error}")))
            }
            flaw => Self::Wrong(format!("has `{name}`, which {flaw}")),
        }
    }
}

/// Refuses what asks for more than a limit of the configuration.
pub(super) fn within(what: &str, found: u64, most: u64, setting: &str) -> Result<(), Flaw> {
    if found <= most {
        return Ok(());
    }
    Err(Flaw::new(format!(
        "asks for too much: {what} has {found}, the limit is {most}; raise `{setting}` if that is right"
    )))
}
