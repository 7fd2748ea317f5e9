//! The variables of a run, which are present or masked.

use serde::{Deserialize, Serialize};

/// How variables are chosen where the probe file does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariableRule {
    /// A grid × grid of patches of the feature map; of those at least `margin` from the border, the
    /// `select` with the largest L1 norm of the features, summed over the two networks.
    ImagePatches {
        /// Patches a side.
        grid: usize,
        /// Patches at the border that are never chosen.
        margin: usize,
        /// Number of variables n.
        select: usize,
    },
    /// Of the tokens that are there and not excluded, a random sample (paper, Appendix J.3: ten
    /// words with a meaning, drawn at random). See [`draw_tokens`].
    Tokens {
        /// Number of variables n.
        select: usize,
        /// Ids that are never chosen: special tokens, punctuation, stop words.
        exclude_ids: Vec<i64>,
    },
    /// Position j belongs to variable j mod `groups`.
    Columns {
        /// Number of variables n.
        groups: usize,
    },
}

/// What replaces an absent variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Zero.
    Zero,
    /// Mean of the features over all variable positions of the sample.
    Mean,
    /// The tensor of the probe file.
    File,
}

/// The variables of a run: the same for both networks and every step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variables {
    /// Number of variables n.
    pub count: usize,
    /// Class y* of each sample whose log-odds is v.
    pub classes: Vec<i64>,
    /// How positions belong to variables.
    pub assignment: Assignment,
}

/// How positions belong to variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// Variable i of a sample is its i-th chosen patch of a grid × grid.
    Patches {
        /// Patches a side.
        grid: usize,
        /// Chosen patches of each sample, ascending, row by row from the top left.
        chosen: Vec<Vec<usize>>,
    },
    /// Variable of every position, −1 where always present, by sample.
    Positions(Vec<Vec<i64>>),
    /// Position j belongs to variable j mod n.
    Columns,
}
