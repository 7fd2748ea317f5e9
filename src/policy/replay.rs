//! A policy over a stored history.

use super::engine::{Observation, decide};
use super::rule::Policy;
use super::state::{Decision, PolicyState};

/// What `policy` decides over pairs in the order in which they were evaluated, each with its time in seconds
/// since 1970. The engine is pure, so for the policy that ran these are the decisions that were made.
///
/// Of another policy, what comes after a phase switch that was not made is a guess: the training would have
/// gone on otherwise.
pub fn replay<'a>(
    policy: &Policy,
    pairs: impl IntoIterator<Item = (&'a Observation, f64)>,
) -> Vec<Decision> {
    let mut state = PolicyState::default();
    let mut decisions = Vec::new();
    for (observation, time) in pairs {
        let decision;
        (state, decision) = decide(policy, state, observation, time);
        decisions.extend(decision);
    }
    decisions
}
