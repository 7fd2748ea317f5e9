//! What a condition makes of an observation.

use super::condition::{
    Condition, Declined, Diverged, Followed, Margin, Patience, Peaked, Plateaued, Reached, Smooth,
    Threshold,
};
use super::engine::Observation;
use super::rule::Missing;
use super::state::{Best, ConditionState, Moment};
use crate::convergence::{Estimate, Goal};
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
                Verdict { holds: !verdict.holds, reason, best_step: verdict.best_step }
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

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Holds where at least `wanted` of them do; the reason is theirs, or that of those that do not.
fn combine(verdicts: Vec<Verdict>, wanted: usize) -> Verdict {
    let holds = verdicts.iter().filter(|verdict| verdict.holds).count() >= wanted;
    let best_step = verdicts.iter().find_map(|verdict| verdict.best_step);
    let reasons = verdicts.into_iter().filter(|verdict| verdict.holds == holds);
    let reason = reasons.map(|verdict| verdict.reason).collect::<Vec<_>>().join("; and ");
    Verdict { holds, reason, best_step }
}

/// A monitor's value at this observation.
enum Seen {
    /// Smoothed, with the standard error of the raw value.
    Value(Estimate),
    /// Missing, and worse than any other.
    Bad,
    /// Missing, and to be passed over.
    Nothing,
}

impl Followed {
    fn see(&self, memory: &mut ConditionState, view: &View<'_>) -> Seen {
        match (view.observation.estimate(self.metric), view.missing) {
            (Some(Estimate { value, standard_error }), _) => {
                let value = self.smooth.next(&mut memory.past, value);
                Seen::Value(Estimate { value, standard_error })
            }
            (None, Missing::CountAsBad) => Seen::Bad,
            (None, Missing::Skip) => Seen::Nothing,
        }
    }

    /// How much worse than `best` a value is; negative where it is better.
    fn behind(&self, best: f64, value: f64) -> f64 {
        match self.goal {
            Goal::Max => best - value,
            Goal::Min => value - best,
        }
    }

    fn missing(&self, view: &View<'_>) -> String {
        format!("`{}` is missing at step {}", self.metric, view.now.step)
    }
}

impl Smooth {
    fn next(self, past: &mut Vec<f64>, value: f64) -> f64 {
        match self {
            Self::Nothing => value,
            Self::Ema(share) => {
                let smoothed = past.first().map_or(value, |old| old + share * (value - old));
                *past = vec![smoothed];
                smoothed
            }
            Self::Median(count) => {
                past.push(value);
                past.drain(..past.len().saturating_sub(count));
                median(past)
            }
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => 0.5 * (sorted[middle - 1] + sorted[middle]),
        _ => sorted[middle],
    }
}

impl Patience {
    /// Whether it is used up, `checks` checks after a moment.
    pub(super) fn is_over(self, since: Moment, checks: u64, now: Moment) -> bool {
        match self {
            Self::Checks(patience) => checks >= u64::from(patience),
            Self::Steps(patience) => now.step.saturating_sub(since.step) >= patience,
            Self::Seconds(patience) => now.time - since.time >= patience,
        }
    }
}

impl std::fmt::Display for Patience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Checks(checks) => write!(f, "{checks}"),
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Seconds(seconds) => write!(f, "{seconds} s"),
        }
    }
}

impl Margin {
    /// The margin in units of the monitor.
    fn of(self, best: Best, now: Estimate) -> f64 {
        match self {
            Self::Absolute(margin) => margin,
            Self::Relative(share) => share * best.value.abs(),
            Self::StandardErrors(count) => count * best.standard_error.hypot(now.standard_error),
        }
    }
}

impl std::fmt::Display for Margin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absolute(margin) => write!(f, "{margin}"),
            Self::Relative(share) => write!(f, "{} % of the best", 100.0 * share),
            Self::StandardErrors(count) => write!(f, "{count} standard errors"),
        }
    }
}

/// A value that is no new best.
struct Behind {
    best: Best,
    /// In units of the monitor; infinite where the value is missing and counts as bad.
    by: f64,
    value: Option<Estimate>,
}

/// Takes in a value: a new best where it is better by more than `min_gain`, else one check more without.
/// Where nothing lies behind the best, what is to be said instead: a condition on the best ends with a new
/// one, and stays as it was without a value.
fn behind(
    followed: &Followed,
    min_gain: Margin,
    memory: &mut ConditionState,
    view: &View<'_>,
) -> Result<Behind, Verdict> {
    let value = match followed.see(memory, view) {
        Seen::Value(value) => Some(value),
        Seen::Bad => None,
        Seen::Nothing => return Err(kept(followed, memory, view)),
    };
    let is_better = |best: Best, now: Estimate| {
        -followed.behind(best.value, now.value) > min_gain.of(best, now)
    };
    match (memory.best, value) {
        (Some(best), Some(now)) if !is_better(best, now) => {
            memory.since_best += 1;
            Ok(Behind { best, by: followed.behind(best.value, now.value), value })
        }
        (Some(best), None) => {
            memory.since_best += 1;
            Ok(Behind { best, by: f64::INFINITY, value })
        }
        (_, Some(Estimate { value, standard_error })) => {
            memory.best = Some(Best { value, standard_error, at: view.now });
            (memory.since_best, memory.crossed, memory.holds) = (0, 0, false);
            let step = view.now.step;
            let reason = format!("`{}` is best at step {step}: {value:.4}", followed.metric);
            Err(Verdict { holds: false, reason, best_step: Some(step) })
        }
        (None, None) => Err(kept(followed, memory, view)),
    }
}

/// The words for a value that is no new best.
fn told(behind: &Behind, view: &View<'_>) -> String {
    let Behind { best, value, .. } = behind;
    let now = value.map_or_else(|| "no value".to_owned(), |now| format!("{:.4}", now.value));
    format!("best {:.4} at step {}, {now} at step {}", best.value, best.at.step, view.now.step)
}

/// What holds stays so while the monitor is missing.
fn kept(followed: &Followed, memory: &ConditionState, view: &View<'_>) -> Verdict {
    let best_step = memory.best.map(|best| best.at.step);
    Verdict { holds: memory.holds, reason: followed.missing(view), best_step }
}

impl Peaked {
    fn observe(&self, memory: &mut ConditionState, view: &View<'_>) -> Verdict {
        let Self { followed, patience, min_drop } = self;
        let behind = match behind(followed, Margin::NONE, memory, view) {
            Ok(behind) => behind,
            Err(verdict) => return verdict,
        };
        let Behind { best, by, value } = behind;
        let since = memory.since_best;
        let least = value.map_or(0.0, |now| min_drop.of(best, now));
        memory.holds =
            patience.is_over(best.at, u64::from(since), view.now) && (least == 0.0 || by > least);
        let reason = format!(
            "`{}` peaked: {} after {since} checks without a better value (patience {patience}, drop \
             {by:.4}, least drop {min_drop})",
            followed.metric,
            told(&behind, view)
        );
        Verdict { holds: memory.holds, reason, best_step: Some(best.at.step) }
    }
}

impl Plateaued {
    fn observe(&self, memory: &mut ConditionState, view: &View<'_>) -> Verdict {
        let Self { followed, patience, min_gain } = self;
        let behind = match behind(followed, *min_gain, memory, view) {
            Ok(behind) => behind,
            Err(verdict) => return verdict,
        };
        let best = behind.best;
        let since = memory.since_best;
        memory.holds = patience.is_over(best.at, u64::from(since), view.now);
        let reason = format!(
            "`{}` got no better: {} after {since} checks without a gain above {min_gain} (patience \
             {patience})",
            followed.metric,
            told(&behind, view)
        );
        Verdict { holds: memory.holds, reason, best_step: Some(best.at.step) }
    }
}

impl Declined {
    fn observe(&self, memory: &mut ConditionState, view: &View<'_>) -> Verdict {
        let Self { followed, drop, leave, confirm } = self;
        let behind = match behind(followed, Margin::NONE, memory, view) {
            Ok(behind) => behind,
            Err(verdict) => return verdict,
        };
        let Behind { best, by, value } = behind;
        let in_units = |margin: &Margin| value.map_or(0.0, |now| margin.of(best, now));
        latch(memory, by > in_units(drop), by <= in_units(leave), *confirm);
        let reason = format!(
            "`{}` declined: {} (drop {by:.4}, wanted more than {drop}, {} of {confirm} checks)",
            followed.metric,
            told(&behind, view),
            memory.crossed
        );
        Verdict { holds: memory.holds, reason, best_step: Some(best.at.step) }
    }
}

/// Confirmation and hysteresis: holds after `confirm` crossings in a row, until it is crossed back.
fn latch(memory: &mut ConditionState, is_crossed: bool, is_back: bool, confirm: u32) {
    memory.crossed = if is_crossed { memory.crossed.saturating_add(1) } else { 0 };
    memory.holds = match memory.holds {
        true => !is_back,
        false => memory.crossed >= confirm,
    };
}

impl Threshold {
    fn observe(&self, is_below: bool, memory: &mut ConditionState, view: &View<'_>) -> Verdict {
        let Self { followed, threshold, leave, confirm } = self;
        let metric = followed.metric;
        // A value that is missing and bad lies on the worse side of every threshold.
        let bad = match followed.goal {
            Goal::Max => f64::NEG_INFINITY,
            Goal::Min => f64::INFINITY,
        };
        let value = match followed.see(memory, view) {
            Seen::Value(now) => now.value,
            Seen::Bad => bad,
            Seen::Nothing => return kept(followed, memory, view),
        };
        let side = if is_below { "below" } else { "above" };
        let (is_crossed, is_back) = match is_below {
            true => (value < *threshold, value >= *leave),
            false => (value > *threshold, value <= *leave),
        };
        latch(memory, is_crossed, is_back, *confirm);
        let reason = format!(
            "`{metric}` {side} {threshold}: {value:.4} at step {} ({} of {confirm} checks, until {leave})",
            view.now.step, memory.crossed
        );
        Verdict { holds: memory.holds, reason, best_step: None }
    }
}

impl Diverged {
    fn observe(&self, memory: &mut ConditionState, view: &View<'_>) -> Verdict {
        let Self { followed, worse_than, confirm } = self;
        if !view.observation.finite {
            memory.holds = true;
            return not_finite(view);
        }
        let value = match followed.see(memory, view) {
            Seen::Value(now) => now.value,
            Seen::Bad | Seen::Nothing => return kept(followed, memory, view),
        };
        let is_worse = followed.behind(*worse_than, value) > 0.0;
        latch(memory, is_worse, !is_worse, *confirm);
        let reason = format!(
            "`{}` diverged: {value:.4} at step {} against {worse_than} ({} of {confirm} checks)",
            followed.metric, view.now.step, memory.crossed
        );
        Verdict { holds: memory.holds, reason, best_step: None }
    }
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
        Verdict { holds, reason, best_step: None }
    }
}

fn not_finite(view: &View<'_>) -> Verdict {
    let (holds, step) = (!view.observation.finite, view.now.step);
    let words = if holds { "a network's outputs are not" } else { "all outputs are" };
    Verdict { holds, reason: format!("{words} finite at step {step}"), best_step: None }
}
