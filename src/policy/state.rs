//! What the engine remembers between observations, and what it decides.

use super::rule::FIRST_PHASE;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The memory of the engine, stored with every pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyState {
    /// The phase that the training is in.
    pub phase: String,
    /// Weight λ of the interaction loss in it.
    pub lambda: f64,
    /// Observations since the start of the run.
    pub checks: u64,
    /// Whether a rule has stopped the run.
    pub stopped: bool,
    /// Memory of each rule, by id.
    pub rules: BTreeMap<String, RuleState>,
}

impl Default for PolicyState {
    fn default() -> Self {
        Self {
            phase: FIRST_PHASE.to_owned(),
            lambda: 0.0,
            checks: 0,
            stopped: false,
            rules: BTreeMap::new(),
        }
    }
}

/// The memory of one rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleState {
    /// Observations that it has been passed, before and after the warm-up.
    pub seen: u64,
    /// Whether the warm-up is over.
    pub warm: bool,
    /// Best value of its metric and the step of it.
    pub best: Option<(f64, u64)>,
    /// Checks since the best value.
    pub since_best: u32,
}

/// What a rule decided, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Unique within a run: `<rule>@<step>`.
    pub id: String,
    /// Id of the rule.
    pub rule: String,
    /// `stop` or `phase`.
    pub action: String,
    /// Phase of the training from now on.
    pub phase: String,
    /// Weight λ of the interaction loss from now on.
    pub lambda: f64,
    /// Training steps over which λ rises.
    pub ramp: u64,
    /// The step of the pair that led to it.
    pub step: u64,
    /// The step of the best pair, where the rule knows one.
    pub best_step: Option<u64>,
    /// The values and thresholds that led to it, in one sentence.
    pub reason: String,
    /// Time of the decision, in seconds since 1970.
    pub time: f64,
}
