//! A policy over a stored history.

use super::engine::{MissingMonitor, Observation, decide};
use super::intervene::{Intervention, adopt, intervene};
use super::rule::Policy;
use super::state::{Decision, Notice, PolicyState};

/// What a policy makes of a history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// What is decided.
    pub decisions: Vec<Decision>,
    /// What is said beside.
    pub notices: Vec<Notice>,
    /// The first monitor that a rule follows and a pair lacks, where that ends the run.
    pub missing: Option<MissingMonitor>,
    /// What the rules remember at the end.
    pub state: PolicyState,
}

/// What happened in a run, in order.
#[derive(Clone, Copy, Debug)]
pub enum Happened<'a> {
    /// A pair was evaluated, at this time in seconds since 1970.
    Pair(&'a Observation, f64),
    /// A person stepped in, at this step and time.
    Person(&'a Intervention, u64, f64),
    /// Another policy ran from here on.
    Policy(&'a Policy),
}

/// What `policy` decides over pairs in the order in which they were evaluated, each with its time in seconds
/// since 1970. The engine is pure, so for the policy that ran these are the decisions that were made.
///
/// Of another policy, what comes after a phase switch that was not made is a guess: the training would have
/// gone on otherwise.
pub fn replay<'a>(
    policy: &'a Policy,
    pairs: impl IntoIterator<Item = (&'a Observation, f64)>,
) -> Replayed {
    replay_run(policy, pairs.into_iter().map(|(pair, time)| Happened::Pair(pair, time)))
}

/// What was decided and said in a run that began with `policy`, made anew. A person's decision that is refused now,
/// which the one that ran was not, is left out.
pub fn replay_run<'a>(
    policy: &'a Policy,
    events: impl IntoIterator<Item = Happened<'a>>,
) -> Replayed {
    let mut policy = policy;
    let mut state = PolicyState::begin(policy);
    let mut replayed = Replayed::default();
    let mut persons = 0;
    for event in events {
        match event {
            Happened::Pair(pair, time) => {
                let outcome = decide(policy, state, pair, time);
                state = outcome.state;
                replayed.decisions.extend(outcome.decision);
                replayed.notices.extend(outcome.notices);
                replayed.missing = replayed.missing.or(outcome.missing);
            }
            Happened::Person(intervention, step, time) => {
                persons += 1;
                let decided = intervene(policy, state.clone(), intervention, persons, step, time);
                if let Ok((after, decision)) = decided {
                    state = after;
                    replayed.decisions.push(decision);
                }
            }
            Happened::Policy(next) => {
                let before = std::mem::replace(&mut policy, next);
                state = adopt(before, next, state);
            }
        }
    }
    replayed.state = state;
    replayed
}
