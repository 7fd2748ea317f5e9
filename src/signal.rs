//! What trainers are told and what they answer (DESIGN section 8). Pure data; `control` carries it.

use crate::policy::{Decision, FIRST_PHASE};
use serde::{Deserialize, Serialize};

/// Version of both files.
pub const SCHEMA: u32 = 1;

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
    /// Checkpoint of the target.
    pub target: String,
    /// Checkpoint of the baseline.
    pub baseline: String,
}

impl Document {
    /// Before any decision of a run. In a directory that another run has used, the generation goes on
    /// from there: a trainer takes nothing that is not newer than what it has seen.
    pub fn start(left_behind: Option<&Self>) -> Self {
        let generation = left_behind.map_or(0, |old| match old.action.as_str() {
            "continue" => old.generation,
            _ => old.generation + 1,
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_goes_on_where_an_earlier_run_left_it() {
        let fresh = Document::start(None);
        assert_eq!((fresh.generation, fresh.action.as_str()), (0, "continue"));
        let stop = Document { generation: 4, action: "stop".to_owned(), ..fresh.clone() };
        assert_eq!(Document::start(Some(&stop)).generation, 5);
        // A start that nobody has decided on since is the same start.
        assert_eq!(Document::start(Some(&fresh)), fresh);
    }
}
