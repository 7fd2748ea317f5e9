//! What a run has begun with, for whoever makes value tables of it on another machine.
//!
//! The history is for processes of one machine: SQLite's log has an index in their shared memory, which no network file
//! system shares. So a run says beside it, in a file that appears whole, what must be the same for all tables.

use super::{History, HistoryError, setting};
use crate::evaluation::Variables;
use crate::files::{read_small, write_atomically};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "begun.json";
/// Far more than the variables of a large probe take.
const MOST_BYTES: u64 = 256 << 20;

/// Settings of a run that its value tables depend on, and its variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// By name, as in the history.
    facts: BTreeMap<String, String>,
    /// Chosen at the first pair; nothing before.
    pub variables: Option<Variables>,
}

impl Begun {
    /// What a run has begun with.
    pub fn new(facts: &[(&'static str, String)], variables: Option<&Variables>) -> Self {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Self { facts: facts.collect(), variables: variables.cloned() }
    }

    /// Its file in a state directory.
    pub fn path(state: &Path) -> PathBuf {
        state.join(FILE_NAME)
    }

    /// Reads it; nothing where no run has begun.
    ///
    /// # Errors
    /// A file that cannot be read, or is none of these.
    pub fn read(state: &Path) -> io::Result<Option<Self>> {
        match read_small(&Self::path(state), MOST_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => Ok(Some(serde_json::from_slice(&bytes?)?)),
        }
    }

    /// Replaces it.
    ///
    /// # Errors
    /// What the file system says; the file is unchanged then.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        write_atomically(&Self::path(state), &serde_json::to_vec(self)?)
    }

    /// Refuses settings other than those of the run.
    ///
    /// # Errors
    /// The first that differs.
    pub fn compare(
        &self,
        state: &Path,
        facts: &[(&'static str, String)],
    ) -> Result<(), HistoryError> {
        let history = History::file(state);
        facts.iter().try_for_each(|(name, wanted)| {
            let found = self.facts.get(*name).map(String::as_str);
            setting::compare(&history, name, found, wanted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Assignment;

    fn facts(probe: &str) -> Vec<(&'static str, String)> {
        vec![("probe", probe.to_owned()), ("precision", "fp32".to_owned())]
    }

    #[test]
    fn it_is_read_as_it_was_written_and_others_are_refused_by_name() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        assert_eq!(Begun::read(state).unwrap(), None);
        let chosen = vec![vec![0, 2], vec![1, 3]];
        let assignment = Assignment::Patches { grid: 2, chosen };
        let variables = Variables { count: 2, classes: vec![1, 0], assignment };
        let begun = Begun::new(&facts("a"), Some(&variables));
        begun.write(state).unwrap();
        let read = Begun::read(state).unwrap().unwrap();
        assert_eq!(read, begun);
        read.compare(state, &facts("a")).unwrap();
        let refused = read.compare(state, &facts("b")).unwrap_err().to_string();
        assert!(refused.contains("history.sqlite") && refused.contains("probe"), "{refused}");
        std::fs::write(Begun::path(state), "{").unwrap();
        Begun::read(state).unwrap_err();
    }
}
