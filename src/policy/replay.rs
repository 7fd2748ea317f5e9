//! A policy over a stored history.

use super::engine::{MissingMonitor, Observation, decide};
use super::rule::Policy;
use super::state::{Decision, Notice, PolicyState};

/// What a policy makes of a history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// What it decides.
    pub decisions: Vec<Decision>,
    /// What it says beside.
    pub notices: Vec<Notice>,
    /// The first monitor that a rule follows and a pair lacks, where that ends the run.
    pub missing: Option<MissingMonitor>,
}

/// What `policy` decides over pairs in the order in which they were evaluated, each with its time in seconds
/// since 1970. The engine is pure, so for the policy that ran these are the decisions that were made.
///
/// Of another policy, what comes after a phase switch that was not made is a guess: the training would have
/// gone on otherwise.
pub fn replay<'a>(
    policy: &Policy,
    pairs: impl IntoIterator<Item = (&'a Observation, f64)>,
) -> Replayed {
    let mut state = PolicyState::default();
    let mut replayed = Replayed::default();
    for (observation, time) in pairs {
        let outcome = decide(policy, state, observation, time);
        state = outcome.state;
        replayed.decisions.extend(outcome.decision);
        replayed.notices.extend(outcome.notices);
        replayed.missing = replayed.missing.or(outcome.missing);
    }
    replayed
}
