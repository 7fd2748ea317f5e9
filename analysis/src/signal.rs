//! What trainers are told and what they answer (DESIGN section 8). Pure data; `control` carries it.

use crate::policy::{Decision, FIRST_PHASE};
use serde::{Deserialize, Serialize};

/// Version of both files.
pub const SCHEMA: u32 = 1;
/// What a trainer can be told.
pub const ACTIONS: [&str; 3] = ["continue", STOP, "phase"];
const STOP: &str = "stop";

/// `control.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Version of this form.
    pub schema: u32,
    /// Grows with every decision.
    pub generation: u64,
    /// `continue`, `stop` or `phase`.
    pub action: String,
    /// The phase that the training is in from `at_step` on.
    pub phase: String,
    /// Weight λ of the interaction loss in it.
    pub lambda: f64,
    /// Training steps over which λ rises.
    pub ramp: u64,
    /// All ranks act at this step or later.
    pub at_step: u64,
    /// The best pair, where the deciding rule knows one.
    pub best: Option<Best>,
    /// Why.
    pub reason: String,
    /// Id of the decision in the history.
    pub decision_id: Option<String>,
}

/// The best pair and its checkpoints, where the trainer wrote them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its step.
    pub step: u64,
    /// Checkpoint of the target; nothing where its trainer has removed it.
    pub target: Option<String>,
    /// Checkpoint of the baseline; nothing where its trainer has removed it.
    pub baseline: Option<String>,
}

impl Document {
    /// Before any decision of a run. `generation` is newer than whatever an earlier run has left in the
    /// directory: a trainer takes nothing that is not newer than what it has seen.
    pub fn start(generation: u64) -> Self {
        Self {
            schema: SCHEMA,
            generation,
            action: "continue".to_owned(),
            phase: FIRST_PHASE.to_owned(),
            lambda: 0.0,
            ramp: 0,
            at_step: 0,
            best: None,
            reason: "the run goes on".to_owned(),
            decision_id: None,
        }
    }

    /// Whether training is to end.
    pub fn is_stop(&self) -> bool {
        self.action == STOP
    }

    /// The document that follows from a decision.
    pub fn of(decision: &Decision, generation: u64, at_step: u64, best: Option<Best>) -> Self {
        Self {
            schema: SCHEMA,
            generation,
            action: decision.action.clone(),
            phase: decision.phase.clone(),
            lambda: decision.lambda,
            ramp: decision.ramp,
            at_step,
            best,
            reason: decision.reason.clone(),
            decision_id: Some(decision.id.clone()),
        }
    }
}

/// The step from which a decision at the pair of `step` holds, where `newest` are the newest steps that are known.
/// Trainings that keep pace act at one step, the one after the newest. Where one is further ahead than pairs lie
/// apart, the other would train on in vain for as long: both act at once. A training without a peer acts at the
/// next.
pub fn at_step(
    newest: [Option<u64>; 2],
    step: u64,
    between_pairs: u64,
    is_baseline_fixed: bool,
) -> u64 {
    let [target, baseline] = newest.map(|newest| newest.unwrap_or(step));
    if is_baseline_fixed {
        return target + 1;
    }
    let keep_pace = target.abs_diff(baseline) <= between_pairs;
    if keep_pace { target.max(baseline) + 1 } else { step }
}

/// `ack-<network>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The generation that the trainer acts on.
    pub generation: u64,
    /// Its step at that moment.
    pub step: u64,
    /// Its rank.
    #[serde(default)]
    pub rank: u64,
    /// Its clock, in seconds since 1970.
    #[serde(default)]
    pub time: f64,
}
