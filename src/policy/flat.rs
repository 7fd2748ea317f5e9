//! What the noise of a probe does to a curve that does not change: how far behind its best would such a
//! curve fall, by chance, at some time of a run?
//!
//! The paired bootstrap over probe samples answers it. A resample of the samples deviates at every check by
//! what could as well have been the noise of that check. The same resamples are taken at every check, so the
//! noise of two checks is as alike as the samples make it, and what a sample has at all checks cancels in the
//! difference of two of them. Every resample is so a *flat series*: a run whose true curve is level and whose
//! noise is that of this one.
//!
//! On all of them the very rule is played: its smoothing, its best value so far (the largest of many, which
//! lies above the truth by chance), its patience where that is a number of checks, at every check again. The
//! threshold of a check is what lets no more than a given share of the flat series stop until then; that share
//! rises to the level, the sooner part of it early: `level·k/(k + 10)` at the k-th check. Over a whole run,
//! however long, a flat curve is so stopped with a probability of about the level at most. A single test at
//! each check would do so nearly always in a long run.

use super::condition::{Followed, Patience};
use super::smoothing;
use crate::convergence::{Monitor, Samples};
use serde::{Deserialize, Serialize};

/// Flat series that are followed: a level of 1 % rests on ten of them.
const SERIES: usize = 1000;
/// Checks after which half of the level is spent.
const HALF_SPENT: f64 = 10.0;
/// Samples below which the bootstrap knows too little of the noise.
pub(super) const LEAST_SAMPLES: usize = 8;

/// The flat series of a condition that have not been stopped yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlatSeries {
    /// Checks so far.
    checks: u32,
    /// One each, but for those that have been stopped.
    series: Vec<Series>,
}

/// Index of the resample, best deviation so far, checks since it, what smoothing needs of the past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Series(u16, f32, u32, Vec<f64>);

impl FlatSeries {
    /// Takes the next check, and gives the drop behind the best above which a value is no chance, in units of
    /// the monitor. `noise` are the deviations of [`noise`].
    pub(super) fn observe(
        &mut self,
        noise: &[f64],
        followed: &Followed,
        patience: Patience,
        level: f64,
    ) -> f64 {
        if self.checks == 0 {
            let fresh = |index: usize| Series(index as u16, f32::NAN, 0, Vec::new());
            self.series = (0..noise.len()).map(fresh).collect();
        }
        self.checks += 1;
        let wanted = match patience {
            Patience::Checks(checks) => checks,
            // Their moments are not followed: a flat series has no patience then, which is stricter.
            Patience::Steps(_) | Patience::Epochs { .. } | Patience::Seconds(_) => 0,
        };
        let drop_of = |series: &mut Series| {
            let Series(index, best, since, past) = series;
            let deviation = noise.get(usize::from(*index)).copied().unwrap_or(0.0);
            let value = smoothing::next(followed.smooth, past, deviation);
            let drop = followed.behind(f64::from(*best), value);
            // The first is the best.
            if best.is_nan() || drop < 0.0 {
                (*best, *since) = (value as f32, 0);
                return 0.0;
            }
            *since = since.saturating_add(1);
            if *since >= wanted { drop } else { 0.0 }
        };
        let drops: Vec<f64> = self.series.iter_mut().map(drop_of).collect();
        let checks = f64::from(self.checks);
        let spent = level * checks / (checks + HALF_SPENT) * noise.len() as f64;
        let stopped = noise.len().saturating_sub(drops.len());
        let threshold = exceeded_by(&drops, (spent.floor() as usize).saturating_sub(stopped));
        let mut drops = drops.into_iter();
        self.series.retain(|_| drops.next().is_none_or(|drop| drop <= threshold));
        threshold
    }
}

/// What at most so many of them lie above; at least 0.
fn exceeded_by(drops: &[f64], count: usize) -> f64 {
    let mut descending = drops.to_vec();
    descending.sort_by(|a, b| b.total_cmp(a));
    descending.get(count).copied().unwrap_or(0.0)
}

/// What a monitor of the flat series would be beside its true value; nothing where there are too few samples.
pub(super) fn noise(samples: &Samples, monitor: Monitor) -> Option<Vec<f64>> {
    let is_enough = samples.count() >= LEAST_SAMPLES;
    is_enough.then(|| samples.deviations(monitor, SERIES)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convergence::Goal;
    use crate::policy::Smooth;

    const SCORE: Followed =
        Followed { metric: Monitor::ConvergenceScore, goal: Goal::Max, smooth: Smooth::Nothing };

    fn normal(random: &mut fastrand::Rng) -> f64 {
        let (u, v) = (1.0 - random.f64(), random.f64());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    #[test]
    fn no_more_series_are_stopped_than_the_level_allows_until_then() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut flat = FlatSeries::default();
        for check in 1..=60 {
            let noise: Vec<f64> = (0..SERIES).map(|_| normal(&mut random)).collect();
            flat.observe(&noise, &SCORE, Patience::Checks(2), 0.1);
            let stopped = SERIES - flat.series.len();
            let spent = 100 * check / (check + 10);
            // All that may be stopped are, once patience can be used up.
            let wanted = if check > 2 { spent } else { 0 };
            assert_eq!(stopped, wanted, "at check {check}");
        }
    }

    #[test]
    fn the_threshold_is_a_quantile_of_the_drops() {
        let mut flat = FlatSeries::default();
        let first: Vec<f64> = vec![0.0; 1000];
        assert_eq!(flat.observe(&first, &SCORE, Patience::Checks(1), 0.5), 0.0);
        // Drops of 0.001, 0.002 … 1.0; of a level of 50 % 2/12 are spent: 83 series lie above 0.917.
        let second: Vec<f64> = (1..=1000).map(|i| -f64::from(i) / 1000.0).collect();
        let threshold = flat.observe(&second, &SCORE, Patience::Checks(1), 0.5);
        assert!((threshold - 0.917).abs() < 1e-9, "{threshold}");
        assert_eq!(flat.series.len(), 917);
        // Where more is worse, the same of the opposite.
        let (mut flat, goal) = (FlatSeries::default(), Goal::Min);
        flat.observe(&first, &Followed { goal, ..SCORE }, Patience::Checks(1), 0.5);
        let opposite: Vec<f64> = second.iter().map(|value| -value).collect();
        let threshold =
            flat.observe(&opposite, &Followed { goal, ..SCORE }, Patience::Checks(1), 0.5);
        assert!((threshold - 0.917).abs() < 1e-9, "{threshold}");
    }

    #[test]
    fn what_is_stored_goes_on_as_it_would_have() {
        let mut random = fastrand::Rng::with_seed(3);
        let followed = Followed { smooth: Smooth::Median(3), ..SCORE };
        let mut flat = FlatSeries::default();
        for _ in 0..20 {
            let noise: Vec<f64> = (0..SERIES).map(|_| normal(&mut random)).collect();
            let text = serde_json::to_string(&flat).expect("written");
            let mut restored: FlatSeries = serde_json::from_str(&text).expect("read");
            let threshold = flat.observe(&noise, &followed, Patience::Checks(3), 0.05);
            assert_eq!(restored.observe(&noise, &followed, Patience::Checks(3), 0.05), threshold);
            assert_eq!(restored, flat);
        }
    }
}
