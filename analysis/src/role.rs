//! The two networks of a pair.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Which network of the pair. Arrays over both are (target, baseline).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The network that the user cares for.
    Target,
    /// The network that it is compared with.
    Baseline,
}

impl Role {
    /// Both, in the order of arrays.
    pub const BOTH: [Self; 2] = [Self::Target, Self::Baseline];

    /// Position in arrays over both.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name in files, metrics and the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Baseline => "baseline",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
