//! What stands in a file, without comments and order: what a reload compares, and the policy as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The parts of a file that may change while a run is at work.
pub const RELOADABLE: [&str; 3] = ["policy", "notify", "control.escalate"];

/// A file as it was written.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Every value that holds no others, by its path.
    pub(super) leaves: BTreeMap<String, String>,
    /// The policy alone, as YAML.
    pub(super) policy: String,
}

impl Written {
    /// The policy as YAML, with its key.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Paths that differ in another file and cannot change while a run is at work.
    pub fn fixed_differences(&self, other: &Self) -> Vec<String> {
        let paths: BTreeSet<&String> = self.leaves.keys().chain(other.leaves.keys()).collect();
        let is_reloadable = |path: &str| {
            RELOADABLE.iter().any(|part| {
                let rest = path.strip_prefix(part);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
        };
        let differ =
            paths.into_iter().filter(|path| self.leaves.get(*path) != other.leaves.get(*path));
        differ.filter(|path| !is_reloadable(path)).cloned().collect()
    }
}

/// Values may be secrets.
impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.leaves.keys()).finish()
    }
}
