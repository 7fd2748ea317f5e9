//! The state machine. The specification stands in the module's documentation.

use super::rule::{Action, Policy, Rule, Warmup};
use super::state::{Decision, Moment, PolicyState, RuleState};
use super::verdict::{Verdict, View};
use crate::convergence::{Estimate, Monitor, Monitors};

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
    pub(super) fn estimate(&self, monitor: Monitor) -> Option<Estimate> {
        self.monitors.get(&monitor).copied()
    }

    fn output_scales(&self) -> [f64; 2] {
        [Monitor::OutputScaleTarget, Monitor::OutputScaleBaseline]
            .map(|monitor| self.estimate(monitor).map_or(0.0, |estimate| estimate.value))
    }
}

/// Takes one observation; gives the new state and the decision of the first rule that fires.
/// `now` is the time in seconds since 1970: budgets and patience may be given in time.
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
    let view = View {
        observation,
        now: Moment { checks: state.checks, step: observation.step, time: now },
        started: *state.started.get_or_insert(now),
        missing: policy.missing,
    };
    let phase = state.phase.clone();
    let mut winner = None;
    for rule in policy.rules.iter().filter(|rule| rule.holds_in(&phase)) {
        let memory = state.rules.entry(rule.id.clone()).or_default();
        let fired = state.fired.get(&rule.id).copied();
        let verdict = rule.observe(memory, fired, &view);
        winner = winner.or(verdict.map(|verdict| (rule, verdict)));
    }
    let decision = winner.map(|(rule, mut verdict)| {
        verdict.best_step = verdict.best_step.or_else(|| best_known(policy, &state));
        enact(&mut state, rule, verdict, view.now)
    });
    (state, decision)
}

/// The best step that the first rule with a best knows: what a budget's decision names.
fn best_known(policy: &Policy, state: &PolicyState) -> Option<u64> {
    let memories = policy.rules.iter().filter_map(|rule| state.rules.get(&rule.id));
    let mut bests = memories.flat_map(|memory| memory.conditions.values()).filter_map(|c| c.best);
    bests.next().map(|best| best.at.step)
}

fn enact(state: &mut PolicyState, rule: &Rule, verdict: Verdict, now: Moment) -> Decision {
    let mut ramp_steps = 0;
    state.fired.insert(rule.id.clone(), now);
    match &rule.then {
        Action::Stop => state.stopped = true,
        Action::Phase { to, lambda, ramp, .. } => {
            (state.phase, state.lambda, ramp_steps) = (to.clone(), *lambda, *ramp);
            state.rules.clear();
        }
    }
    Decision {
        id: format!("{}@{}", rule.id, now.step),
        rule: rule.id.clone(),
        action: rule.then.name().to_owned(),
        phase: state.phase.clone(),
        lambda: state.lambda,
        ramp: ramp_steps,
        step: now.step,
        best_step: verdict.best_step,
        reason: verdict.reason,
        time: now.time,
    }
}

impl Rule {
    fn holds_in(&self, phase: &str) -> bool {
        let leads_here = matches!(&self.then, Action::Phase { to, .. } if to == phase);
        !leads_here && self.phase.as_deref().is_none_or(|only| only == phase)
    }

    /// What the rule's condition makes of it, where the rule fires.
    fn observe(
        &self,
        memory: &mut RuleState,
        fired: Option<Moment>,
        view: &View<'_>,
    ) -> Option<Verdict> {
        memory.seen += 1;
        memory.warm = memory.warm || self.warmup.is_over(memory, view.observation);
        if !memory.warm {
            return None;
        }
        let verdict = self.when.observe("", &mut memory.conditions, view);
        let fires = verdict.holds && !self.rests(fired, view) && !self.comes_too_late(view);
        fires.then_some(verdict)
    }

    fn rests(&self, fired: Option<Moment>, view: &View<'_>) -> bool {
        let Some((cooldown, fired)) = self.cooldown.zip(fired) else { return false };
        !cooldown.is_over(fired, view.now.checks - fired.checks, view.now)
    }

    fn comes_too_late(&self, view: &View<'_>) -> bool {
        let [a, b] = view.observation.output_scales();
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

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
