//! The error that a run has ended with, until it goes on.

use super::{History, HistoryError};
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, HistoryError>;

/// Name of the fact.
const FAILED: &str = "failed";

/// An error that a run could not begin or go on with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// In seconds since 1970, by the clock of the system.
    pub time: f64,
    /// What it was, with what to try.
    pub error: String,
}

impl History {
    /// Stores it in the place of an earlier one, until [`History::forget_failure`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn record_failure(&self, failure: &Failure) -> Result<()> {
        let insert = "INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)";
        let value = serde_json::to_string(failure)?;
        self.connection.execute(insert, [FAILED, &value])?;
        Ok(())
    }

    /// What the run has ended with last, unless it went on since.
    ///
    /// # Errors
    /// SQLite's, and a stored value that cannot be read.
    pub fn failure(&self) -> Result<Option<Failure>> {
        let value = self.fact(FAILED)?;
        Ok(value.map(|value| serde_json::from_str(&value)).transpose()?)
    }

    /// The run goes on.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forget_failure(&self) -> Result<()> {
        self.connection.execute("DELETE FROM fact WHERE name = ?", [FAILED])?;
        Ok(())
    }
}
