//! Rules as checked values: what a policy file becomes.

use crate::convergence::{Goal, Monitor};

/// The phase in which every run starts.
pub const FIRST_PHASE: &str = "plain";

/// Rules in order of precedence.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Unique ids.
    pub rules: Vec<Rule>,
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
    /// The only phase in which it holds, or any.
    pub phase: Option<String>,
}

/// When a rule fires.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A monitor has passed its best value.
    Peaked(Peaked),
    /// A budget is used up.
    Reached(Reached),
    /// A network's outputs are not finite.
    NotFinite,
}

/// See the module's `peaked`.
#[derive(Clone, Debug, PartialEq)]
pub struct Peaked {
    /// The monitor that is followed.
    pub metric: Monitor,
    /// Whether its best is its largest or its smallest value.
    pub goal: Goal,
    /// Checks without a new best after which the peak is taken as passed; at least 1.
    pub patience: u32,
    /// How far below the best the value must lie, in units of the metric; at least 0.
    pub min_drop: f64,
}

/// See the module's `reached`; at least one of the two is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// The step of the pair.
    pub step: Option<u64>,
    /// The number of pairs evaluated.
    pub checks: Option<u64>,
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
}

impl Action {
    /// The name in the control file, metrics and the history.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Phase { .. } => "phase",
        }
    }
}

impl Condition {
    /// Whether the condition is sure to be met at some time, whatever the networks do.
    pub fn is_budget(&self) -> bool {
        matches!(self, Self::Reached(_))
    }
}
