//! What changes the engine's memory from outside: a person's decision, and another policy.
//!
//! Pure, like the engine: a stored history with its interventions replays to the same decisions.
//!
//! - `stop` ends the run as a rule's `stop` does; its best step is what the first rule with a best knows.
//! - `phase` switches the training as a rule's `phase` does: every rule forgets what it has seen.
//! - `resume` takes a stop back. Every rule begins anew, or the one that stopped would do so again at the next pair; a best
//!   that nothing since has reached is named by decisions all the same. Budgets are no memory, and one that is used up
//!   stops the run again.
//! - Another policy: what rules remember is kept by their ids. A rule begins anew whose action or phase is another,
//!   or whose conditions are put together otherwise than those of its id before, or follow other monitors, in another direction, smoothed or judged for
//!   significance otherwise: what was remembered of one means nothing to the other. Thresholds, margins, patience and
//!   confirmations may differ.

use super::condition::Condition;
use super::engine::best_known;
use super::rule::Policy;
use super::state::{Decision, PolicyState};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Name of the rule in decisions of a person.
pub const MANUAL: &str = "manual";

/// Something from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intervention {
    /// A person ends the run.
    Stop {
        /// Why.
        reason: String,
    },
    /// A person switches the phase.
    Phase {
        /// Name of the phase.
        to: String,
        /// Weight λ of the interaction loss in it, in [0, 1].
        lambda: f64,
        /// Training steps over which λ rises.
        ramp: u64,
        /// Why.
        reason: String,
    },
    /// A person takes a stop back.
    Resume {
        /// Why.
        reason: String,
    },
    /// Another policy runs from here on, as YAML.
    Policy {
        /// The file's `policy`, with that key.
        text: String,
    },
}

/// Why a person's decision changes nothing.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refused {
    /// The run is stopped.
    #[error("the run is stopped already; `convergd resume` takes that back")]
    Stopped,
    /// The run is not stopped.
    #[error("the run is not stopped, so there is nothing to take back")]
    NotStopped,
    /// It is in this phase.
    #[error("the run is in phase `{0}` with λ = {1} already")]
    SamePhase(String, f64),
    /// The name is empty.
    #[error("a phase needs a name")]
    NoName,
    /// λ is out of its range.
    #[error("λ is {0}, but must lie between 0 and 1")]
    Lambda(f64),
    /// It is no decision.
    #[error("BUG: another policy is no decision")]
    NoDecision,
}

/// A person's decision at `step`, the last pair's. `number` counts the decisions of persons in a run, from 1.
///
/// # Errors
/// What would change nothing, or must not.
pub fn intervene(
    policy: &Policy,
    mut state: PolicyState,
    intervention: &Intervention,
    number: u64,
    step: u64,
    now: f64,
) -> Result<(PolicyState, Decision), Refused> {
    let best_step = best_known(policy, &state);
    let mut ramp_steps = 0;
    let (action, reason) = match intervention {
        Intervention::Stop { .. } | Intervention::Phase { .. } if state.stopped => {
            return Err(Refused::Stopped);
        }
        Intervention::Stop { reason } => {
            state.stopped = true;
            ("stop", reason)
        }
        Intervention::Phase { to, lambda, ramp, reason } => {
            refuse_phase(&state, to, *lambda)?;
            (state.phase, state.lambda, ramp_steps) = (to.clone(), *lambda, *ramp);
            state.rules.clear();
            state.marked = None;
            ("phase", reason)
        }
        Intervention::Resume { .. } if !state.stopped => return Err(Refused::NotStopped),
        Intervention::Resume { reason } => {
            state.stopped = false;
            state.begin_anew();
            ("continue", reason)
        }
        Intervention::Policy { .. } => return Err(Refused::NoDecision),
    };
    let decision = Decision {
        id: format!("{MANUAL}-{number}@{step}"),
        rule: MANUAL.to_owned(),
        action: action.to_owned(),
        phase: state.phase.clone(),
        lambda: state.lambda,
        ramp: ramp_steps,
        step,
        best_step,
        reason: reason.clone(),
        time: now,
    };
    Ok((state, decision))
}

fn refuse_phase(state: &PolicyState, to: &str, lambda: f64) -> Result<(), Refused> {
    if to.is_empty() {
        return Err(Refused::NoName);
    }
    if !(0.0..=1.0).contains(&lambda) {
        return Err(Refused::Lambda(lambda));
    }
    match state.phase == to && state.lambda == lambda {
        true => Err(Refused::SamePhase(to.to_owned(), lambda)),
        false => Ok(()),
    }
}

/// What is remembered when `new` takes the place of `old`.
pub fn adopt(old: &Policy, new: &Policy, mut state: PolicyState) -> PolicyState {
    let of = |policy: &'_ Policy, id: &str| policy.rules.iter().find(|rule| rule.id == id).cloned();
    state.rules.retain(|id, _| {
        of(new, id).zip(of(old, id)).is_some_and(|(new, old)| {
            let is_same = new.phase == old.phase && new.then.name() == old.then.name();
            is_same && remember_alike(&new.when, &old.when)
        })
    });
    state
}

/// Whether what one remembers means the same to the other.
fn remember_alike(a: &Condition, b: &Condition) -> bool {
    let all_alike = |a: &[Condition], b: &[Condition]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| remember_alike(a, b))
    };
    match (a, b) {
        (Condition::Peaked(a), Condition::Peaked(b)) => {
            a.followed == b.followed && a.significance == b.significance
        }
        (Condition::Plateaued(a), Condition::Plateaued(b)) => a.followed == b.followed,
        (Condition::Declined(a), Condition::Declined(b)) => a.followed == b.followed,
        (Condition::Below(a), Condition::Below(b)) | (Condition::Above(a), Condition::Above(b)) => {
            a.followed == b.followed
        }
        (Condition::Diverged(a), Condition::Diverged(b)) => a.followed == b.followed,
        (Condition::All(a), Condition::All(b)) | (Condition::Any(a), Condition::Any(b)) => {
            all_alike(a, b)
        }
        (Condition::KOf { of: a, .. }, Condition::KOf { of: b, .. }) => all_alike(a, b),
        (Condition::Not(a), Condition::Not(b)) => remember_alike(a, b),
        (Condition::Reached(_), Condition::Reached(_))
        | (Condition::NotFinite, Condition::NotFinite) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::condition::{Followed, Margin, Patience, Peaked, Reached, Smooth};
    use super::super::rule::{Action, Rule, Warmup};
    use super::*;
    use crate::convergence::{Estimate, Goal, Monitor};
    use crate::policy::{Happened, Observation, decide, replay_run};

    fn rule(id: &str, metric: Monitor, checks: u32) -> Rule {
        let followed = Followed { metric, goal: Goal::Max, smooth: Smooth::Nothing };
        let patience = Patience::Checks(checks);
        let peaked = Peaked { followed, patience, min_drop: Margin::NONE, significance: None };
        Rule {
            id: id.to_owned(),
            when: Condition::Peaked(peaked),
            then: Action::Stop,
            warmup: Warmup::default(),
            cooldown: None,
            phase: None,
        }
    }

    fn policy(rules: Vec<Rule>) -> Policy {
        Policy { rules, ..Policy::default() }
    }

    fn pair(step: u64, score: f64) -> Observation {
        let estimate = Estimate { value: score, standard_error: 0.0 };
        let monitors = [(Monitor::ConvergenceScore, estimate)].into();
        Observation { step, monitors, finite: true, samples: None }
    }

    fn after(policy: &Policy, scores: &[f64]) -> PolicyState {
        let pairs = scores.iter().enumerate().map(|(at, score)| pair(at as u64 + 1, *score));
        pairs.fold(PolicyState::default(), |state, pair| judge(policy, state, &pair, 0.0).0)
    }

    fn judge(
        policy: &Policy,
        state: PolicyState,
        pair: &Observation,
        now: f64,
    ) -> (PolicyState, Option<Decision>) {
        let outcome = decide(policy, state, pair, now);
        (outcome.state, outcome.decision)
    }

    fn because(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn a_manual_stop_names_the_best_step_and_ends_the_run() {
        let policy = policy(vec![rule("peak", Monitor::ConvergenceScore, 9)]);
        let state = after(&policy, &[0.1, 0.5, 0.4]);
        let stop = Intervention::Stop { reason: because("enough") };
        let (state, decision) = intervene(&policy, state, &stop, 4, 3, 7.0).expect("decided");
        assert_eq!((decision.id.as_str(), decision.rule.as_str()), ("manual-4@3", "manual"));
        assert_eq!((decision.action.as_str(), decision.best_step), ("stop", Some(2)));
        assert_eq!(judge(&policy, state.clone(), &pair(4, 0.0), 8.0).1, None);
        assert_eq!(intervene(&policy, state, &stop, 5, 3, 9.0), Err(Refused::Stopped));
    }

    #[test]
    fn a_resumed_run_begins_to_look_for_a_peak_anew() {
        let policy = policy(vec![rule("peak", Monitor::ConvergenceScore, 2)]);
        let state = after(&policy, &[0.5, 0.4, 0.3]);
        assert!(state.stopped);
        let resume = Intervention::Resume { reason: because("on") };
        let (state, decision) = intervene(&policy, state, &resume, 1, 3, 7.0).expect("decided");
        assert_eq!(decision.action, "continue");
        let (state, none) = judge(&policy, state, &pair(4, 0.2), 8.0);
        assert_eq!(none, None, "it does not stop again at once");
        let (state, none) = judge(&policy, state, &pair(5, 0.1), 9.0);
        assert_eq!(none, None);
        assert_eq!(state.best_steps().into_iter().collect::<Vec<_>>(), [1, 4], "both are kept");
        let (state, stop) = judge(&policy, state, &pair(6, 0.0), 10.0);
        let stop = stop.expect("patience is used up again");
        assert_eq!((stop.step, stop.best_step), (6, Some(1)), "none since was as good");
        let said = "best 0.2000 at step 4 (0.5000 at step 1 before the resume)";
        assert!(stop.reason.contains(said), "{}", stop.reason);
        assert!(state.stopped);
        let (state, _) = intervene(&policy, state, &resume, 2, 6, 11.0).expect("decided");
        let (state, _) = judge(&policy, state, &pair(7, 0.6), 12.0);
        assert_eq!(state.best_steps().into_iter().collect::<Vec<_>>(), [7], "a better one");
        let stop = intervene(
            &policy,
            state,
            &Intervention::Stop { reason: because("enough") },
            3,
            7,
            13.0,
        );
        assert_eq!(stop.expect("decided").1.best_step, Some(7));
        let going = PolicyState::default();
        assert_eq!(intervene(&policy, going, &resume, 2, 6, 11.0), Err(Refused::NotStopped));
    }

    #[test]
    fn a_manual_phase_is_checked_and_makes_rules_forget() {
        let policy = policy(vec![rule("peak", Monitor::ConvergenceScore, 9)]);
        let state = after(&policy, &[0.5, 0.4]);
        let phase = |to: &str, lambda| Intervention::Phase {
            to: to.to_owned(),
            lambda,
            ramp: 3,
            reason: because("now"),
        };
        let refused = |state: &PolicyState, what| {
            intervene(&policy, state.clone(), &what, 1, 2, 0.0).unwrap_err()
        };
        assert_eq!(refused(&state, phase("", 0.5)), Refused::NoName);
        assert_eq!(refused(&state, phase("on", 1.5)), Refused::Lambda(1.5));
        assert!(matches!(refused(&state, phase("on", f64::NAN)), Refused::Lambda(_)));
        let (state, decision) =
            intervene(&policy, state, &phase("on", 0.5), 1, 2, 0.0).expect("decided");
        assert_eq!((decision.phase.as_str(), decision.lambda, decision.ramp), ("on", 0.5, 3));
        assert!(state.rules.is_empty());
        assert_eq!(refused(&state, phase("on", 0.5)), Refused::SamePhase("on".to_owned(), 0.5));
    }

    #[test]
    fn another_policy_keeps_memories_by_id_and_monitor() {
        let score = Monitor::ConvergenceScore;
        let old =
            policy(vec![rule("kept", score, 9), rule("other", score, 9), rule("gone", score, 9)]);
        let new = policy(vec![
            rule("kept", score, 2),
            rule("other", Monitor::ProbeLoss, 9),
            rule("new", score, 9),
        ]);
        let state = after(&old, &[0.5, 0.4, 0.3]);
        let state = adopt(&old, &new, state);
        assert_eq!(state.rules.keys().collect::<Vec<_>>(), ["kept"]);
        let (_, stop) = judge(&new, state, &pair(4, 0.2), 0.0);
        assert_eq!(stop.map(|stop| stop.rule), Some("kept".to_owned()), "its patience is used up");
    }

    #[test]
    fn a_run_with_interventions_replays_to_its_decisions() {
        let first = policy(vec![rule("peak", Monitor::ConvergenceScore, 9)]);
        let second = policy(vec![rule("peak", Monitor::ConvergenceScore, 1)]);
        let budget = Condition::Reached(Reached { step: Some(99), checks: None, seconds: None });
        let third = policy(vec![Rule { when: budget, ..rule("budget", Monitor::ProbeLoss, 1) }]);
        let pairs: Vec<Observation> = [0.5, 0.4, 0.3, 0.2]
            .iter()
            .enumerate()
            .map(|(at, score)| pair(at as u64 + 1, *score))
            .collect();
        let stop = Intervention::Stop { reason: because("enough") };
        let resume = Intervention::Resume { reason: because("on") };
        let events = [
            Happened::Pair(&pairs[0], 1.0),
            Happened::Person(&stop, 1, 1.5),
            Happened::Pair(&pairs[1], 2.0),
            Happened::Person(&resume, 2, 2.5),
            Happened::Policy(&second),
            Happened::Pair(&pairs[2], 3.0),
            Happened::Pair(&pairs[3], 4.0),
            Happened::Policy(&third),
        ];
        let made = replay_run(&first, events);
        let ids: Vec<&str> = made.decisions.iter().map(|decision| decision.id.as_str()).collect();
        assert_eq!(ids, ["manual-1@1", "manual-2@2", "peak@4"]);
    }

    #[test]
    fn a_rule_that_looks_otherwise_begins_anew() {
        let old = policy(vec![rule("peak", Monitor::ConvergenceScore, 2)]);
        let state = after(&old, &[0.5, 0.4]);
        let changed = |change: &dyn Fn(&mut Peaked)| {
            let mut new = old.clone();
            let Condition::Peaked(peaked) = &mut new.rules[0].when else { panic!("a peak") };
            change(peaked);
            adopt(&old, &new, state.clone()).rules.contains_key("peak")
        };
        assert!(changed(&|peaked| peaked.patience = Patience::Checks(7)));
        assert!(changed(&|peaked| peaked.min_drop = Margin::Absolute(0.1)));
        assert!(!changed(&|peaked| peaked.followed.smooth = Smooth::Median(3)));
        assert!(!changed(&|peaked| peaked.followed.goal = Goal::Min));
        assert!(!changed(&|peaked| peaked.significance = Some(0.05)));
        let mut wrapped = old.clone();
        wrapped.rules[0].when = Condition::All(vec![old.rules[0].when.clone()]);
        assert!(!adopt(&old, &wrapped, state).rules.contains_key("peak"));
    }
}
