//! Conditions that compare a value with the best one.

use super::condition::{Declined, Followed, Margin, Peaked, Plateaued};
use super::engine::Observation;
use super::flat::{self, FlatSeries, LEAST_SAMPLES};
use super::followed::{Seen, kept};
use super::latch::latch;
use super::rule::Missing;
use super::state::{Best, ConditionState};
use super::verdict::{Verdict, View};
use crate::convergence::Estimate;

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
            memory.former = memory.former.filter(|f| followed.behind(f.value, value) > 0.0);
            let (metric, step) = (followed.metric, view.now.step);
            let reason = format!("`{metric}` is best at step {step}: {value:.4}{}", before(memory));
            let best_step = memory.overall().map(|best| best.at.step);
            Err(Verdict { holds: false, reason, best_step, is_unknown: false })
        }
        (None, None) => Err(kept(followed, memory, view)),
    }
}

/// The words for a value that is no new best.
fn told(behind: &Behind, memory: &ConditionState, view: &View<'_>) -> String {
    let Behind { best, value, .. } = behind;
    let now = value.map_or_else(|| "no value".to_owned(), |now| format!("{:.4}", now.value));
    format!(
        "best {:.4} at step {}{}, {now} at step {}",
        best.value,
        best.at.step,
        before(memory),
        view.now.step
    )
}

/// The words for a best that was better, before the run was resumed.
fn before(memory: &ConditionState) -> String {
    let words = |f: Best| format!(" ({:.4} at step {} before the resume)", f.value, f.at.step);
    memory.former.map(words).unwrap_or_default()
}

/// What a condition on the best says of its state: so it is, or it is not so yet.
fn verb(holds: bool, so: &'static str, not_so: &'static str) -> &'static str {
    if holds { so } else { not_so }
}

fn verdict(memory: &ConditionState, reason: String) -> Verdict {
    let best_step = memory.overall().map(|best| best.at.step);
    Verdict { holds: memory.holds, reason, best_step, is_unknown: false }
}

impl Peaked {
    pub(super) fn observe(&self, memory: &mut ConditionState, view: &View<'_>) -> Verdict {
        let Self { followed, patience, min_drop, .. } = self;
        // Also at a new best: the flat series see every check.
        let chance = self.significance.map(|level| Chance::at(level, self, memory, view));
        let behind = match behind(followed, Margin::NONE, memory, view) {
            Ok(behind) => behind,
            Err(verdict) => return verdict,
        };
        let Behind { best, by, value } = behind;
        let since = memory.since_best;
        let least = value.map_or(0.0, |now| min_drop.of(best, now));
        memory.holds = patience.is_over(best.at, u64::from(since), view.now)
            && (*min_drop == Margin::NONE || by > least)
            && chance.as_ref().is_none_or(|chance| chance.is_exceeded(by));
        let chance = chance.map(|chance| format!(", {chance}")).unwrap_or_default();
        let reason = format!(
            "`{}` {}: {} after {since} checks without a better value (patience {patience}, drop \
             {by:.4}, least drop {min_drop}{chance})",
            followed.metric,
            verb(memory.holds, "peaked", "has not peaked yet"),
            told(&behind, memory, view)
        );
        verdict(memory, reason)
    }
}

/// What a drop must exceed to be no chance.
struct Chance {
    level: f64,
    /// In units of the monitor; nothing where it cannot be told.
    drop: Option<f64>,
}

impl Chance {
    fn at(level: f64, peaked: &Peaked, memory: &mut ConditionState, view: &View<'_>) -> Self {
        let Peaked { followed, patience, .. } = peaked;
        let Observation { samples, .. } = view.observation;
        let is_there = view.observation.estimate(followed.metric).is_some();
        let noise = samples.as_ref().filter(|_| is_there);
        let noise = noise.and_then(|samples| flat::noise(samples, followed.metric));
        let uses_up_patience = is_there || view.missing == Missing::CountAsBad;
        let drop = match (noise, &mut memory.flat) {
            (Some(noise), Some(series)) => Some(series.observe(&noise, followed, *patience, level)),
            (Some(noise), None) => {
                // What was best before there were series to compare it with is none: all begin together.
                *memory = ConditionState { former: memory.former, ..ConditionState::default() };
                let series = memory.flat.insert(FlatSeries::default());
                Some(series.observe(&noise, followed, *patience, level))
            }
            (None, series) => {
                series.iter_mut().filter(|_| uses_up_patience).for_each(FlatSeries::pass);
                None
            }
        };
        Self { level, drop }
    }

    /// A value that is missing and counts as bad is behind by any margin.
    fn is_exceeded(&self, by: f64) -> bool {
        by == f64::INFINITY || self.drop.is_some_and(|drop| by > drop)
    }
}

impl std::fmt::Display for Chance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = 100.0 * self.level;
        match self.drop {
            Some(f64::INFINITY) => write!(f, "not significant yet at {percent} %"),
            Some(drop) => write!(f, "significant at {percent} % from {drop:.4}"),
            None => write!(f, "no significance: the pair has fewer than {LEAST_SAMPLES} samples"),
        }
    }
}

impl Plateaued {
    pub(super) fn observe(&self, memory: &mut ConditionState, view: &View<'_>) -> Verdict {
        let Self { followed, patience, min_gain } = self;
        let behind = match behind(followed, *min_gain, memory, view) {
            Ok(behind) => behind,
            Err(verdict) => return verdict,
        };
        let best = behind.best;
        let since = memory.since_best;
        memory.holds = patience.is_over(best.at, u64::from(since), view.now);
        let reason = format!(
            "`{}` {}: {} after {since} checks without a gain above {min_gain} (patience {patience})",
            followed.metric,
            verb(memory.holds, "got no better", "may get better yet"),
            told(&behind, memory, view)
        );
        verdict(memory, reason)
    }
}

impl Declined {
    pub(super) fn observe(&self, memory: &mut ConditionState, view: &View<'_>) -> Verdict {
        let Self { followed, drop, leave, confirm } = self;
        let behind = match behind(followed, Margin::NONE, memory, view) {
            Ok(behind) => behind,
            Err(verdict) => return verdict,
        };
        let Behind { best, by, value } = behind;
        let in_units = |margin: &Margin| value.map_or(0.0, |now| margin.of(best, now));
        latch(memory, by > in_units(drop), by <= in_units(leave), *confirm);
        let reason = format!(
            "`{}` {}: {} (drop {by:.4}, wanted more than {drop}, {} of {confirm} checks)",
            followed.metric,
            verb(memory.holds, "declined", "has not declined"),
            told(&behind, memory, view),
            memory.crossed
        );
        verdict(memory, reason)
    }
}
