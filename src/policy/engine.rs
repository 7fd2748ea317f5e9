//! The state machine. The specification stands in the module's documentation.

use super::rule::{Action, Condition, Peaked, Policy, Reached, Rule, Warmup};
use super::state::{Decision, PolicyState, RuleState};
use crate::convergence::{Goal, Monitor, Monitors};

/// One pair of checkpoints, as the policy sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The step of the pair.
    pub step: u64,
    /// Its monitors; empty when `finite` is false.
    pub monitors: Monitors,
    /// Whether all outputs of both networks were finite.
    pub finite: bool,
}

impl Observation {
    fn value(&self, monitor: Monitor) -> Option<f64> {
        self.monitors.get(&monitor).map(|estimate| estimate.value)
    }

    fn output_scales(&self) -> [f64; 2] {
        [Monitor::OutputScaleTarget, Monitor::OutputScaleBaseline]
            .map(|monitor| self.value(monitor).unwrap_or(0.0))
    }
}

/// Why a rule fires, and the best step that it knows.
struct Verdict {
    reason: String,
    best_step: Option<u64>,
}

/// Takes one observation; gives the new state and the decision of the first rule that fires.
/// `now` is the time in seconds since 1970 and only enters the decision's record.
pub fn decide(
    policy: &Policy,
    mut state: PolicyState,
    observation: &Observation,
    now: f64,
) -> (PolicyState, Option<Decision>) {
    if state.stopped {
        return (state, None);
    }
    state.checks += 1;
    let phase = state.phase.clone();
    let mut winner = None;
    for rule in policy.rules.iter().filter(|rule| rule.holds_in(&phase)) {
        let memory = state.rules.entry(rule.id.clone()).or_default();
        let verdict = rule.observe(memory, observation, state.checks);
        winner = winner.or(verdict.map(|verdict| (rule, verdict)));
    }
    let decision = winner.map(|(rule, mut verdict)| {
        verdict.best_step = verdict.best_step.or_else(|| best_known(policy, &state));
        enact(&mut state, rule, verdict, observation, now)
    });
    (state, decision)
}

/// The best step that the first rule with a best knows: what a budget's decision names.
fn best_known(policy: &Policy, state: &PolicyState) -> Option<u64> {
    let mut memories = policy.rules.iter().filter_map(|rule| state.rules.get(&rule.id));
    memories.find_map(|memory| memory.best).map(|(_, step)| step)
}

fn enact(
    state: &mut PolicyState,
    rule: &Rule,
    verdict: Verdict,
    observation: &Observation,
    now: f64,
) -> Decision {
    let mut ramp_steps = 0;
    match &rule.then {
        Action::Stop => state.stopped = true,
        Action::Phase { to, lambda, ramp, .. } => {
            (state.phase, state.lambda, ramp_steps) = (to.clone(), *lambda, *ramp);
            state.rules.clear();
        }
    }
    Decision {
        id: format!("{}@{}", rule.id, observation.step),
        rule: rule.id.clone(),
        action: rule.then.name().to_owned(),
        phase: state.phase.clone(),
        lambda: state.lambda,
        ramp: ramp_steps,
        step: observation.step,
        best_step: verdict.best_step,
        reason: verdict.reason,
        time: now,
    }
}

impl Rule {
    fn holds_in(&self, phase: &str) -> bool {
        let leads_here = matches!(&self.then, Action::Phase { to, .. } if to == phase);
        !leads_here && self.phase.as_deref().is_none_or(|only| only == phase)
    }

    fn observe(
        &self,
        memory: &mut RuleState,
        observation: &Observation,
        checks: u64,
    ) -> Option<Verdict> {
        memory.seen += 1;
        memory.warm = memory.warm || self.warmup.is_over(memory, observation);
        if !memory.warm {
            return None;
        }
        let verdict = match &self.when {
            Condition::Peaked(peaked) => peaked.observe(memory, observation),
            Condition::Reached(reached) => reached.observe(observation, checks),
            Condition::NotFinite => not_finite(observation),
        }?;
        (!self.comes_too_late(observation)).then_some(verdict)
    }

    fn comes_too_late(&self, observation: &Observation) -> bool {
        let [a, b] = observation.output_scales();
        match self.then {
            Action::Phase { max_output_scale: Some(most), .. } => a.max(b) > most,
            _ => false,
        }
    }
}

impl Warmup {
    fn is_over(&self, memory: &RuleState, observation: &Observation) -> bool {
        let [a, b] = observation.output_scales();
        memory.seen > self.checks
            && observation.step >= self.step
            && (self.min_output_scale == 0.0 || a.min(b) >= self.min_output_scale)
    }
}

impl Peaked {
    fn observe(&self, memory: &mut RuleState, observation: &Observation) -> Option<Verdict> {
        let value = observation.value(self.metric)?;
        let drop_from = |best: f64| match self.goal {
            Goal::Max => best - value,
            Goal::Min => value - best,
        };
        let Some((best, best_step)) = memory.best.filter(|(best, _)| drop_from(*best) >= 0.0)
        else {
            (memory.best, memory.since_best) = (Some((value, observation.step)), 0);
            return None;
        };
        memory.since_best += 1;
        let drop = drop_from(best);
        if memory.since_best < self.patience || (self.min_drop > 0.0 && drop <= self.min_drop) {
            return None;
        }
        let Self { metric, patience, min_drop, .. } = self;
        let since = memory.since_best;
        let reason = format!(
            "`{metric}` peaked: best {best:.4} at step {best_step}, {value:.4} at step {} after \
             {since} checks without a better value (patience {patience}, drop {drop:.4}, least drop \
             {min_drop})",
            observation.step
        );
        Some(Verdict { reason, best_step: Some(best_step) })
    }
}

impl Reached {
    fn observe(&self, observation: &Observation, checks: u64) -> Option<Verdict> {
        let at_step = self.step.filter(|&step| observation.step >= step);
        let at_checks = self.checks.filter(|&budget| checks >= budget);
        let reason = match (at_step, at_checks) {
            (Some(step), _) => {
                format!("step {} reached the budget of {step} steps", observation.step)
            }
            (None, Some(budget)) => {
                format!("{checks} checks reached the budget of {budget} checks")
            }
            (None, None) => return None,
        };
        Some(Verdict { reason, best_step: None })
    }
}

fn not_finite(observation: &Observation) -> Option<Verdict> {
    let reason = format!("a network's outputs are not finite at step {}", observation.step);
    (!observation.finite).then_some(Verdict { reason, best_step: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convergence::Estimate;

    fn seen(step: u64, score: f64) -> Observation {
        let estimate = |value| Estimate { value, standard_error: 0.1 };
        let monitors = [
            (Monitor::ConvergenceScore, estimate(score)),
            (Monitor::OutputScaleTarget, estimate(0.1 * step as f64)),
            (Monitor::OutputScaleBaseline, estimate(0.2 * step as f64)),
        ];
        Observation { step, monitors: monitors.into(), finite: true }
    }

    fn rule(id: &str, when: Condition, then: Action) -> Rule {
        Rule { id: id.to_owned(), when, then, warmup: Warmup::default(), phase: None }
    }

    fn peaked(patience: u32) -> Condition {
        Condition::Peaked(Peaked {
            metric: Monitor::ConvergenceScore,
            goal: Goal::Max,
            patience,
            min_drop: 0.0,
        })
    }

    fn at_step(step: u64) -> Condition {
        Condition::Reached(Reached { step: Some(step), checks: None })
    }

    fn run(rules: Vec<Rule>, observations: &[Observation]) -> Vec<Decision> {
        let policy = Policy { rules };
        let mut state = PolicyState::default();
        let mut decisions = Vec::new();
        for observation in observations {
            let decision;
            (state, decision) = decide(&policy, state, observation, 0.0);
            decisions.extend(decision);
        }
        decisions
    }

    fn series(scores: &[f64]) -> Vec<Observation> {
        scores.iter().enumerate().map(|(i, &score)| seen(i as u64 + 1, score)).collect()
    }

    #[test]
    fn stops_once_patience_is_used_up_and_names_the_best_step() {
        let scores = series(&[0.1, 0.3, 0.5, 0.4, 0.45, 0.2, 0.1, 0.9]);
        let decisions = run(vec![rule("peak", peaked(3), Action::Stop)], &scores);
        assert_eq!(decisions.len(), 1, "a stopped run decides nothing more");
        let decision = &decisions[0];
        assert_eq!((decision.step, decision.best_step), (6, Some(3)));
        assert_eq!((decision.id.as_str(), decision.action.as_str()), ("peak@6", "stop"));
        assert!(decision.reason.contains("0.5000 at step 3"), "{}", decision.reason);
    }

    #[test]
    fn a_tie_does_not_renew_the_best() {
        let decisions = run(vec![rule("peak", peaked(2), Action::Stop)], &series(&[0.5, 0.5, 0.5]));
        assert_eq!((decisions[0].step, decisions[0].best_step), (3, Some(1)));
    }

    #[test]
    fn a_small_drop_is_waited_out() {
        let mut patient = rule("peak", peaked(1), Action::Stop);
        if let Condition::Peaked(peaked) = &mut patient.when {
            peaked.min_drop = 0.15;
        }
        let decisions = run(vec![patient], &series(&[0.5, 0.45, 0.4, 0.3]));
        assert_eq!(decisions[0].step, 4);
    }

    #[test]
    fn the_warmup_hides_a_spurious_early_peak() {
        let mut guarded = rule("peak", peaked(2), Action::Stop);
        // The target's scale reaches 0.4 at step 4.
        guarded.warmup.min_output_scale = 0.4;
        let scores = series(&[0.9, 0.1, 0.1, 0.2, 0.3, 0.2, 0.1]);
        let decisions = run(vec![guarded], &scores);
        assert_eq!((decisions[0].step, decisions[0].best_step), (7, Some(5)));
    }

    #[test]
    fn warmup_checks_and_steps_are_counted() {
        let mut by_checks = rule("checks", at_step(0), Action::Stop);
        by_checks.warmup.checks = 3;
        assert_eq!(run(vec![by_checks], &series(&[0.0; 5]))[0].step, 4);
        let mut by_step = rule("step", at_step(0), Action::Stop);
        by_step.warmup.step = 3;
        assert_eq!(run(vec![by_step], &series(&[0.0; 5]))[0].step, 3);
    }

    #[test]
    fn the_first_rule_that_fires_wins() {
        let rules =
            vec![rule("peak", peaked(1), Action::Stop), rule("budget", at_step(2), Action::Stop)];
        assert_eq!(run(rules.clone(), &series(&[0.5, 0.4]))[0].rule, "peak");
        assert_eq!(run(rules, &series(&[0.5, 0.6]))[0].rule, "budget");
    }

    #[test]
    fn a_phase_switch_resets_the_rules_and_keeps_the_run_going() {
        let to = Action::Phase {
            to: "regularized".to_owned(),
            lambda: 0.8,
            ramp: 10,
            max_output_scale: None,
        };
        let mut switch = rule("switch", peaked(1), to);
        switch.phase = Some("plain".to_owned());
        let mut end = rule("end", peaked(1), Action::Stop);
        end.phase = Some("regularized".to_owned());
        let decisions = run(vec![switch, end], &series(&[0.5, 0.4, 0.1, 0.2, 0.1]));
        let steps: Vec<_> = decisions.iter().map(|d| (d.action.as_str(), d.step)).collect();
        assert_eq!(steps, [("phase", 2), ("stop", 5)]);
        assert_eq!((decisions[0].lambda, decisions[0].ramp), (0.8, 10));
        assert_eq!(decisions[1].best_step, Some(4), "the best of the first phase is forgotten");
        assert_eq!(decisions[1].phase, "regularized");
    }

    #[test]
    fn a_phase_rule_does_not_hold_in_the_phase_that_it_leads_to() {
        let to = Action::Phase {
            to: "regularized".to_owned(),
            lambda: 0.8,
            ramp: 0,
            max_output_scale: None,
        };
        let rules = vec![rule("switch", at_step(2), to), rule("budget", at_step(4), Action::Stop)];
        let steps: Vec<_> =
            run(rules, &series(&[0.1; 6])).into_iter().map(|d| (d.rule, d.step)).collect();
        assert_eq!(steps, [("switch".to_owned(), 2), ("budget".to_owned(), 4)]);
    }

    #[test]
    fn a_budget_names_the_best_step_that_another_rule_knows() {
        let rules =
            vec![rule("peak", peaked(9), Action::Stop), rule("budget", at_step(4), Action::Stop)];
        let decisions = run(rules, &series(&[0.1, 0.5, 0.4, 0.3]));
        assert_eq!((decisions[0].rule.as_str(), decisions[0].best_step), ("budget", Some(2)));
    }

    #[test]
    fn a_phase_rule_does_not_fire_at_large_logits() {
        let most = |most| Action::Phase {
            to: "regularized".to_owned(),
            lambda: 0.8,
            ramp: 0,
            max_output_scale: Some(most),
        };
        let scores = series(&[0.5, 0.4, 0.3]);
        assert!(run(vec![rule("late", peaked(1), most(0.3))], &scores).is_empty());
        assert_eq!(run(vec![rule("early", peaked(1), most(0.5))], &scores)[0].step, 2);
    }

    #[test]
    fn pairs_without_the_metric_count_for_nothing() {
        let mut scores = series(&[0.5, 0.4, 0.3, 0.2]);
        scores[1].monitors.remove(&Monitor::ConvergenceScore);
        assert_eq!(run(vec![rule("peak", peaked(2), Action::Stop)], &scores)[0].step, 4);
    }

    #[test]
    fn outputs_that_are_not_finite_fire_their_rule() {
        let mut scores = series(&[0.5, 0.4]);
        scores[1] = Observation { step: 2, monitors: Monitors::new(), finite: false };
        let decisions = run(vec![rule("nan", Condition::NotFinite, Action::Stop)], &scores);
        assert_eq!((decisions.len(), decisions[0].step), (1, 2));
    }

    #[test]
    fn a_budget_counts_checks() {
        let budget = Condition::Reached(Reached { step: None, checks: Some(3) });
        assert_eq!(run(vec![rule("b", budget, Action::Stop)], &series(&[0.0; 5]))[0].step, 3);
    }

    #[test]
    fn state_survives_a_round_trip_in_the_middle() {
        let policy = Policy { rules: vec![rule("peak", peaked(3), Action::Stop)] };
        let scores = series(&[0.1, 0.5, 0.4, 0.3, 0.2]);
        let mut state = PolicyState::default();
        let mut last = None;
        for observation in &scores {
            // What a restart does: the state is all that is kept.
            let kept = state.clone();
            (state, last) = decide(&policy, kept, observation, 0.0);
        }
        assert_eq!(last.map(|decision| decision.step), Some(5));
    }
}
