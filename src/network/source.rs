//! A checkpoint file that is to be evaluated.

use crate::role::Role;
use std::path::PathBuf;

/// A checkpoint file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Whose weights it holds.
    pub role: Role,
    /// Where it is read.
    pub file: PathBuf,
    /// What messages call it: where the trainer wrote it.
    pub name: PathBuf,
}
