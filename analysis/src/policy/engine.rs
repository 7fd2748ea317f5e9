//! The state machine. The specification stands in the module's documentation.

use super::rule::{Action, Missing, Policy, Rule, Warmup};
use super::state::{Decision, Moment, Notice, PolicyState, RuleState};
use super::verdict::{Verdict, View};
use crate::convergence::{Estimate, Monitor, Monitors, Samples};

/// One pair of checkpoints, as the policy sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The step of the pair.
    pub step: u64,
    /// Its monitors; empty when `finite` is false.
    pub monitors: Monitors,
    /// Whether all outputs of both networks were finite.
    pub finite: bool,
    /// What every sample adds to the monitors, where a rule asks for significance and they are known.
    pub samples: Option<Samples>,
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

/// What an observation leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The new state.
    pub state: PolicyState,
    /// That of the first rule that fires and changes the training.
    pub decision: Option<Decision>,
    /// What other rules had to say, in their order.
    pub notices: Vec<Notice>,
    /// A monitor that a rule follows and the pair lacks, where that is an error.
    pub missing: Option<MissingMonitor>,
}

/// A monitor that a pair lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingMonitor {
    /// Id of the rule that follows it.
    pub rule: String,
    /// The monitor.
    pub monitor: Monitor,
    /// The step of the pair.
    pub step: u64,
}

/// Takes one observation; gives the new state and what the rules decide and say.
/// `now` is the time in seconds since 1970: budgets and patience may be given in time.
pub fn decide(
    policy: &Policy,
    mut state: PolicyState,
    observation: &Observation,
    now: f64,
) -> Outcome {
    if state.stopped {
        return Outcome { state, decision: None, notices: Vec::new(), missing: None };
    }
    state.checks += 1;
    let view = View {
        observation,
        now: Moment { checks: state.checks, step: observation.step, time: now },
        started: *state.started.get_or_insert(now),
        missing: policy.missing,
    };
    let phase = state.phase.clone();
    let (mut winner, mut notices, mut missing) = (None, Vec::new(), None);
    for rule in policy.rules.iter().filter(|rule| rule.holds_in(&phase, policy)) {
        let memory = state.rules.entry(rule.id.clone()).or_default();
        let fired = state.fired.get(&rule.id).copied();
        let verdict = rule.observe(memory, fired, &view);
        if memory.warm && policy.missing == Missing::Error {
            missing = missing.or_else(|| rule.lacks(observation));
        }
        let Some(verdict) = verdict else { continue };
        if rule.then.is_control() {
            winner = winner.or(Some((rule, verdict)));
        } else {
            notices.push(tell(&mut state, rule, verdict, view.now));
        }
    }
    let decision = winner.map(|(rule, mut verdict)| {
        verdict.best_step = verdict.best_step.or_else(|| best_known(policy, &state));
        enact(&mut state, rule, verdict, view.now)
    });
    // A decision is what the run needed; it may well be about outputs that are not finite.
    let missing = missing.filter(|_| decision.is_none());
    Outcome { state, decision, notices, missing }
}

/// The step that a rule has marked, or the best that the first rule with a best knows: what a budget's
/// decision names.
pub(super) fn best_known(policy: &Policy, state: &PolicyState) -> Option<u64> {
    let memories = policy.rules.iter().filter_map(|rule| state.rules.get(&rule.id));
    let conditions = memories.flat_map(|memory| memory.conditions.values());
    let mut bests = conditions.filter_map(|condition| condition.overall());
    state.marked.or_else(|| bests.next().map(|best| best.at.step))
}

fn enact(state: &mut PolicyState, rule: &Rule, verdict: Verdict, now: Moment) -> Decision {
    let mut ramp_steps = 0;
    state.fired.insert(rule.id.clone(), now);
    match &rule.then {
        Action::Phase { to, lambda, ramp, .. } => {
            (state.phase, state.lambda, ramp_steps) = (to.clone(), *lambda, *ramp);
            state.rules.clear();
            state.marked = None;
        }
        _ => state.stopped = true,
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

fn tell(state: &mut PolicyState, rule: &Rule, verdict: Verdict, now: Moment) -> Notice {
    state.fired.insert(rule.id.clone(), now);
    let (message, severity) = match &rule.then {
        Action::Notify { message } => (message.clone(), None),
        Action::Alert { message, severity } => (message.clone(), Some(*severity)),
        _ => (None, None),
    };
    let mut best_step = verdict.best_step;
    if rule.then == Action::MarkBest {
        best_step = best_step.or(Some(now.step));
        state.marked = best_step;
    }
    Notice {
        id: format!("{}@{}", rule.id, now.step),
        rule: rule.id.clone(),
        action: rule.then.name().to_owned(),
        message,
        severity,
        step: now.step,
        best_step,
        reason: verdict.reason,
        time: now.time,
    }
}

impl Rule {
    fn holds_in(&self, phase: &str, policy: &Policy) -> bool {
        let is_reachable = match &self.then {
            Action::Phase { to, .. } => to != phase && policy.allows(phase, to),
            _ => true,
        };
        is_reachable && self.phase.as_deref().is_none_or(|only| only == phase)
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
            memory.reason =
                format!("is warming up: {}", self.warmup.told(memory, view.observation));
            return None;
        }
        let verdict = self.when.observe("", &mut memory.conditions, view);
        memory.holds = verdict.holds;
        memory.reason.clone_from(&verdict.reason);
        memory.told &= verdict.holds;
        // What changes nothing is said once, until it holds no more.
        let is_due = self.then.is_control() || !memory.told;
        let fires =
            verdict.holds && is_due && !self.rests(fired, view) && !self.comes_too_late(view);
        memory.told |= fires;
        fires.then_some(verdict)
    }

    /// The first monitor that it follows and the pair lacks.
    fn lacks(&self, observation: &Observation) -> Option<MissingMonitor> {
        let mut monitors = self.when.monitors().into_iter();
        let monitor = monitors.find(|&monitor| observation.estimate(monitor).is_none())?;
        Some(MissingMonitor { rule: self.id.clone(), monitor, step: observation.step })
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

    /// How far it is.
    fn told(&self, memory: &RuleState, observation: &Observation) -> String {
        let [a, b] = observation.output_scales();
        let mut parts = Vec::new();
        if self.checks > 0 {
            parts.push(format!("{} of {} checks", memory.seen.min(self.checks), self.checks));
        }
        if observation.step < self.step {
            parts.push(format!("step {} of {}", observation.step, self.step));
        }
        if self.min_output_scale > 0.0 {
            let [scale, least] = [a.min(b), self.min_output_scale];
            parts.push(format!("output scale {scale:.3} of {least}"));
        }
        parts.join(", ")
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
