//! Rules as checked values: what a policy file becomes.

use super::condition::{Condition, Patience};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The phase in which every run starts.
pub const FIRST_PHASE: &str = "plain";

/// Rules in order of precedence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Unique ids.
    pub rules: Vec<Rule>,
    /// What a pair without a rule's monitor means to it.
    pub missing: Missing,
    /// Phases that each may be left for; a phase without an entry may be left for any.
    pub transitions: BTreeMap<String, BTreeSet<String>>,
    /// Where a run begins.
    pub start: Start,
}

impl Policy {
    /// Whether the training may go from one phase to another.
    pub fn allows(&self, from: &str, to: &str) -> bool {
        self.transitions.get(from).is_none_or(|allowed| allowed.contains(to))
    }

    /// Whether a rule needs the samples of a pair.
    pub fn needs_samples(&self) -> bool {
        self.rules.iter().any(|rule| rule.when.needs_samples())
    }
}

/// What a pair means to a condition whose monitor it lacks, because outputs are not finite or the probe
/// has no labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// Nothing: the condition stays as it was, and its patience is not used up.
    #[default]
    Skip,
    /// A value worse than any other.
    CountAsBad,
    /// A mistake: the run ends, unless another rule decides something.
    Error,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Key of the rule's state and name in decisions.
    pub id: String,
    /// When it fires.
    pub when: Condition,
    /// What then happens.
    pub then: Action,
    /// What must be over before it looks at anything.
    pub warmup: Warmup,
    /// How long it rests after it has fired.
    pub cooldown: Option<Patience>,
    /// The only phase in which it holds, or any.
    pub phase: Option<String>,
}

/// What must be over before a rule looks at anything.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Warmup {
    /// Observations that are passed over.
    pub checks: u64,
    /// First step that is looked at.
    pub step: u64,
    /// Output scale that both networks must have reached once, in log-odds.
    pub min_output_scale: f64,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// End the run.
    Stop,
    /// Switch the training to another phase.
    Phase {
        /// Name of the phase.
        to: String,
        /// Weight λ of the interaction loss in it, in [0, 1].
        lambda: f64,
        /// Training steps over which λ rises to its value.
        ramp: u64,
        /// Output scale (the larger of the two) above which the rule does not fire.
        max_output_scale: Option<f64>,
    },
    /// Take the best pair that the rule knows, or the current one, for the best of the phase.
    MarkBest,
    /// Tell people.
    Notify {
        /// What to tell them beside the reason.
        message: Option<String>,
    },
    /// Raise an alert for as long as the condition holds.
    Alert {
        /// How urgent it is.
        severity: Severity,
        /// What to say beside the reason.
        message: Option<String>,
    },
}

/// Where a run begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Its phase.
    pub phase: String,
    /// Weight λ of the interaction loss in it.
    pub lambda: f64,
}

impl Default for Start {
    fn default() -> Self {
        Self { phase: FIRST_PHASE.to_owned(), lambda: 0.0 }
    }
}

/// How urgent an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look at it in working hours.
    #[default]
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// The name in metrics and the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Action {
    /// The name in the control file, metrics and the history.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Phase { .. } => "phase",
            Self::MarkBest => "mark_best",
            Self::Notify { .. } => "notify",
            Self::Alert { .. } => "alert",
        }
    }

    /// Whether it changes the training.
    pub fn is_control(&self) -> bool {
        matches!(self, Self::Stop | Self::Phase { .. })
    }
}
