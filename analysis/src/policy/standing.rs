//! Where the rules stand, for who looks on: what is in their memory, in the terms of their conditions.

use super::condition::{Condition, Patience, Peaked, Plateaued};
use super::rule::{Policy, Rule};
use super::state::{Best, ConditionState, PolicyState};
use super::verdict::below;
use crate::convergence::Monitor;
use std::collections::BTreeMap;

/// What is left of the patience of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksLeft {
    /// Checks that may yet pass without a better value.
    pub left: u32,
    /// Those that it has from a better value on.
    pub of: u32,
}

impl Policy {
    /// The best value of each monitor whose best a rule knows; of several rules, what the first one knows. None
    /// before the warm-up, and after a switch of the phase until the next value.
    pub fn bests(&self, state: &PolicyState) -> BTreeMap<Monitor, Best> {
        let mut bests = BTreeMap::new();
        for (_, condition, memory) in self.memories(state) {
            if let (&[monitor], Some(best)) = (&*condition.monitors(), memory.best) {
                bests.entry(monitor).or_insert(best);
            }
        }
        bests
    }

    /// The monitor of the first rule that follows one.
    pub fn primary(&self) -> Monitor {
        let mut monitors = self.rules.iter().flat_map(|rule| rule.when.monitors());
        monitors.next().unwrap_or(Monitor::ConvergenceScore)
    }

    /// How many checks may yet pass without a better value until the patience of a rule is used up, by the rule's id.
    pub fn checks_left<'a>(&'a self, state: &'a PolicyState) -> BTreeMap<&'a str, u32> {
        let patience = self.patience(state).into_iter();
        patience.map(|(rule, patience)| (rule, patience.left)).collect()
    }

    /// The patience of each rule, by its id; of several conditions of a rule that of which the least is left. Only
    /// patience in checks, once there is a best value.
    pub fn patience<'a>(&'a self, state: &'a PolicyState) -> BTreeMap<&'a str, ChecksLeft> {
        let mut all = BTreeMap::new();
        for (rule, condition, memory) in self.memories(state) {
            let (Condition::Peaked(Peaked { patience: Patience::Checks(patience), .. })
            | Condition::Plateaued(Plateaued { patience: Patience::Checks(patience), .. })) =
                condition
            else {
                continue;
            };
            if memory.best.is_some() {
                let left = patience.saturating_sub(memory.since_best);
                let own = ChecksLeft { left, of: *patience };
                let least = all.entry(rule.id.as_str()).or_insert(own);
                if own.left < least.left {
                    *least = own;
                }
            }
        }
        all
    }

    /// Every condition on a monitor with its rule and its memory, in the order of the rules.
    fn memories<'a>(
        &'a self,
        state: &'a PolicyState,
    ) -> impl Iterator<Item = (&'a Rule, &'a Condition, &'a ConditionState)> {
        self.rules.iter().flat_map(move |rule| {
            let memory = state.rules.get(&rule.id);
            rule.when.leaves("").into_iter().filter_map(move |(path, condition)| {
                Some((rule, condition, memory?.conditions.get(&path)?))
            })
        })
    }
}

impl Condition {
    /// The conditions in it that are made of no others, with their paths in the rule.
    fn leaves(&self, path: &str) -> Vec<(String, &Self)> {
        let of_all = |name: &str, of: &'_ [Self]| -> Vec<String> {
            (0..of.len()).map(|i| below(path, &format!("{name}[{i}]"))).collect()
        };
        let (paths, of) = match self {
            Self::All(of) => (of_all("all", of), &**of),
            Self::Any(of) => (of_all("any", of), &**of),
            Self::KOf { of, .. } => (of_all("k_of", of), &**of),
            Self::Not(of) => (vec![below(path, "not")], std::slice::from_ref(&**of)),
            _ => return vec![(path.to_owned(), self)],
        };
        paths.iter().zip(of).flat_map(|(path, condition)| condition.leaves(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::condition::{Declined, Followed, Margin, Reached, Smooth};
    use super::super::engine::{Observation, decide};
    use super::super::rule::{Action, Warmup};
    use super::*;
    use crate::convergence::{Estimate, Goal};

    fn peaked(metric: Monitor, patience: Patience) -> Condition {
        let followed = Followed { metric, goal: metric.goal(), smooth: Smooth::Nothing };
        let min_drop = Margin::Absolute(100.0);
        Condition::Peaked(Peaked { followed, patience, min_drop, significance: None })
    }

    fn declined(metric: Monitor, smooth: Smooth) -> Condition {
        let followed = Followed { metric, goal: Goal::Max, smooth };
        let (drop, leave) = (Margin::Absolute(100.0), Margin::Absolute(100.0));
        Condition::Declined(Declined { followed, drop, leave, confirm: 1 })
    }

    fn rule(id: &str, when: Condition, warmup: Warmup) -> Rule {
        let (then, cooldown, phase) = (Action::Notify { message: None }, None, None);
        Rule { id: id.to_owned(), when, then, warmup, cooldown, phase }
    }

    /// Shows the policy these values of two monitors, one check after the other.
    fn after(policy: &Policy, checks: &[(f64, f64)]) -> PolicyState {
        let mut state = PolicyState::default();
        for (step, &(score, loss)) in (1..).zip(checks) {
            let estimate = |value| Estimate { value, standard_error: 0.25 };
            let monitors = [
                (Monitor::ConvergenceScore, estimate(score)),
                (Monitor::ProbeLoss, estimate(loss)),
            ];
            let monitors = monitors.into();
            let observation = Observation { step, monitors, finite: true, samples: None };
            state = decide(policy, state, &observation, step as f64).state;
        }
        state
    }

    #[test]
    fn the_first_rule_that_knows_a_best_tells_it_and_none_does_before_its_warm_up() {
        let score = Monitor::ConvergenceScore;
        let warmup = Warmup { checks: 2, ..Warmup::default() };
        let rules = vec![
            rule(
                "budget",
                Condition::Reached(Reached { step: Some(99), checks: None, seconds: None }),
                warmup,
            ),
            rule(
                "deep",
                Condition::Not(Box::new(Condition::Any(vec![
                    declined(score, Smooth::Nothing),
                    peaked(Monitor::ProbeLoss, Patience::Steps(9)),
                ]))),
                warmup,
            ),
            rule("smoothed", declined(score, Smooth::Ema(0.5)), warmup),
        ];
        let policy = Policy { rules, ..Policy::default() };
        let values = [(9.0, 0.0), (8.0, 0.0), (1.0, 3.0), (2.0, 5.0), (-1.0, 2.0)];
        assert_eq!(policy.bests(&after(&policy, &values[..2])), BTreeMap::new());
        let bests = policy.bests(&after(&policy, &values));
        let told: Vec<_> =
            bests.iter().map(|(monitor, best)| (*monitor, best.value, best.at.step)).collect();
        assert_eq!(told, [(Monitor::ProbeLoss, 2.0, 5), (score, 2.0, 4)]);
        assert_eq!(bests[&score].standard_error, 0.25);
    }

    #[test]
    fn patience_in_checks_runs_out_and_begins_anew_at_a_better_value() {
        let (score, loss) = (Monitor::ConvergenceScore, Monitor::ProbeLoss);
        let rules = vec![
            rule("one", peaked(score, Patience::Checks(2)), Warmup::default()),
            rule(
                "two",
                Condition::Any(vec![
                    peaked(score, Patience::Checks(3)),
                    peaked(loss, Patience::Checks(9)),
                ]),
                Warmup::default(),
            ),
            rule("steps", peaked(score, Patience::Steps(2)), Warmup::default()),
        ];
        let policy = Policy { rules, ..Policy::default() };
        let left = |values: &[(f64, f64)]| -> Vec<(String, u32)> {
            let state = after(&policy, values);
            let left = policy.checks_left(&state);
            left.into_iter().map(|(rule, left)| (rule.to_owned(), left)).collect()
        };
        let is = |one: u32, two: u32| vec![("one".to_owned(), one), ("two".to_owned(), two)];
        let values = [(1.0, 1.0), (0.5, 0.5), (0.4, 0.4), (0.3, 0.3), (2.0, 0.2)];
        assert_eq!(left(&[]), []);
        assert_eq!(left(&values[..1]), is(2, 3));
        assert_eq!(left(&values[..2]), is(1, 2));
        assert_eq!(left(&values[..4]), is(0, 0));
        assert_eq!(left(&values), is(2, 3));
    }
}
