//! What a condition makes of an observation.

use super::condition::{Condition, Reached};
use super::engine::Observation;
use super::rule::Missing;
use super::state::{ConditionState, Moment};
use std::collections::BTreeMap;

/// One observation and everything that conditions may ask about the run.
pub(super) struct View<'a> {
    pub(super) observation: &'a Observation,
    pub(super) now: Moment,
    /// Time of the first observation.
    pub(super) started: f64,
    pub(super) missing: Missing,
}

/// Whether a condition holds, why or why not, and the best step that it knows.
pub(super) struct Verdict {
    pub(super) holds: bool,
    pub(super) reason: String,
    pub(super) best_step: Option<u64>,
    /// Nothing has been seen yet that it could be judged by: neither it nor its opposite fires.
    pub(super) is_unknown: bool,
}

type Memories = BTreeMap<String, ConditionState>;

impl Condition {
    /// Every condition sees every observation, whether its neighbours hold or not.
    pub(super) fn observe(&self, path: &str, memories: &mut Memories, view: &View<'_>) -> Verdict {
        let mut of_all = |name: &str, of: &[Self]| -> Vec<Verdict> {
            let observe = |(i, c): (usize, &Self)| {
                c.observe(&below(path, &format!("{name}[{i}]")), memories, view)
            };
            of.iter().enumerate().map(observe).collect()
        };
        match self {
            Self::All(of) => {
                let verdicts = of_all("all", of);
                let wanted = verdicts.len();
                combine(verdicts, wanted)
            }
            Self::Any(of) => combine(of_all("any", of), 1),
            Self::KOf { k, of } => combine(of_all("k_of", of), *k),
            Self::Not(of) => {
                let verdict = of.observe(&below(path, "not"), memories, view);
                let reason = format!("not so: {}", verdict.reason);
                let holds = !verdict.holds && !verdict.is_unknown;
                Verdict { holds, reason, ..verdict }
            }
            Self::Reached(reached) => reached.observe(view),
            Self::NotFinite => not_finite(view),
            Self::Peaked(peaked) => peaked.observe(memory(memories, path), view),
            Self::Plateaued(plateaued) => plateaued.observe(memory(memories, path), view),
            Self::Declined(declined) => declined.observe(memory(memories, path), view),
            Self::Below(threshold) => threshold.observe(true, memory(memories, path), view),
            Self::Above(threshold) => threshold.observe(false, memory(memories, path), view),
            Self::Diverged(diverged) => diverged.observe(memory(memories, path), view),
        }
    }
}

fn memory<'m>(memories: &'m mut Memories, path: &str) -> &'m mut ConditionState {
    memories.entry(path.to_owned()).or_default()
}

pub(super) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Holds where at least `wanted` of them do; the reason is theirs, or that of those that do not.
fn combine(verdicts: Vec<Verdict>, wanted: usize) -> Verdict {
    let holds = verdicts.iter().filter(|verdict| verdict.holds).count() >= wanted;
    // With those that may hold as well as not.
    let may_hold = verdicts.iter().filter(|verdict| verdict.holds || verdict.is_unknown).count();
    let is_unknown = !holds && may_hold >= wanted;
    let best_step = verdicts.iter().find_map(|verdict| verdict.best_step);
    let reasons = verdicts.into_iter().filter(|verdict| verdict.holds == holds);
    let reason = reasons.map(|verdict| verdict.reason).collect::<Vec<_>>().join("; and ");
    Verdict { holds, reason, best_step, is_unknown }
}

impl Reached {
    fn observe(&self, view: &View<'_>) -> Verdict {
        let Moment { checks, step, time } = view.now;
        let elapsed = time - view.started;
        let mut reasons = [Vec::new(), Vec::new()];
        let mut add = |is_reached: bool, what: String, budget: String| {
            let verb = if is_reached { "reached" } else { "has not reached" };
            reasons[usize::from(is_reached)].push(format!("{what} {verb} the budget of {budget}"));
        };
        if let Some(budget) = self.step {
            add(step >= budget, format!("step {step}"), format!("{budget} steps"));
        }
        if let Some(budget) = self.checks {
            add(checks >= budget, format!("check {checks}"), format!("{budget} checks"));
        }
        if let Some(budget) = self.seconds {
            add(elapsed >= budget, format!("{elapsed:.0} s"), format!("{budget:.0} s"));
        }
        let [open, reached] = reasons;
        let holds = !reached.is_empty();
        let reason = if holds { reached } else { open }.join("; and ");
        Verdict { holds, reason, best_step: None, is_unknown: false }
    }
}

pub(super) fn not_finite(view: &View<'_>) -> Verdict {
    let (holds, step) = (!view.observation.finite, view.now.step);
    let words = if holds { "a network's outputs are not" } else { "all outputs are" };
    Verdict {
        holds,
        reason: format!("{words} finite at step {step}"),
        best_step: None,
        is_unknown: false,
    }
}
