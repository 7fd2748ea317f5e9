//! What a run has been, from its history: the same for commands, the page and its interface.

mod objects;
pub mod report;
mod status;
mod told;

pub use objects::{decision, facts, pair};
pub use status::{SetAside, Status};
pub use told::Told;

use crate::config::Config;
use crate::history::{History, HistoryError};
use crate::policy::Policy;
use std::path::Path;

/// The rules as they run; those of the file run from the next start or reload on.
///
/// # Errors
/// A history that cannot be read.
pub fn rules(config: &Config, history: &History) -> Result<Policy, HistoryError> {
    let ran = history.last_policy()?;
    let ran = ran.and_then(|text| Config::parse_policy(Path::new("history"), &text).ok());
    Ok(ran.unwrap_or_else(|| config.policy.clone()))
}
