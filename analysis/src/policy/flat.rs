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
//! lies above the truth by chance), its patience where that is a number of checks, at every check again. A level
//! is spent on the checks of a run, the sooner part of it early: `level·k/(k + 10)` until the k-th check. What falls
//! to a check is how often a flat series may stop there, and the threshold is the drop that so many of them exceed.
//! From some twentieth check on that is less than one series; then the threshold is extrapolated from the largest
//! drops, as if their tail were exponential, which it is not by far: too large, if anything. So over a whole
//! run, however long, a flat curve is stopped with a probability of the level at most. A single test at each check
//! would do so nearly always in a long run.

use super::condition::{Followed, Patience};
use super::smoothing;
use crate::convergence::{Monitor, Samples};
use serde::{Deserialize, Serialize};

/// Flat series that are followed: a level of 1 % rests on ten of them.
const SERIES: usize = 1000;
/// Checks after which half of the level is spent.
const HALF_SPENT: f64 = 10.0;
/// Largest drops from which the tail is extrapolated.
const TAIL: usize = 50;
/// Samples below which the bootstrap knows too little of the noise.
pub const LEAST_SAMPLES: usize = 8;

/// The flat series of a condition that have not been stopped yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlatSeries {
    /// Checks so far.
    checks: u32,
    /// How many series could have stopped so far, as the level allows.
    granted: f64,
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
                return None;
            }
            *since = since.saturating_add(1);
            (*since >= wanted).then_some(drop)
        };
        let drops: Vec<Option<f64>> = self.series.iter_mut().map(drop_of).collect();
        let mut descending: Vec<f64> = drops.iter().flatten().copied().collect();
        if descending.is_empty() {
            // What falls to this check is kept for the next.
            return f64::INFINITY;
        }
        let checks = f64::from(self.checks);
        let spent = level * checks / (checks + HALF_SPENT) * noise.len() as f64;
        let granted = spent - std::mem::replace(&mut self.granted, spent);
        descending.sort_by(|a, b| b.total_cmp(a));
        let threshold = exceeded_by(&descending, granted);
        let mut drops = drops.into_iter();
        self.series.retain(|_| drops.next().flatten().is_none_or(|drop| drop < threshold));
        threshold
    }

    /// Takes a check without noise that uses up patience: a value that is missing and bad, or without its samples.
    pub(super) fn pass(&mut self) {
        for Series(_, _, since, _) in &mut self.series {
            *since = since.saturating_add(1);
        }
    }
}

/// What `count` of the drops reach; less than one, beyond the largest.
fn exceeded_by(descending: &[f64], count: f64) -> f64 {
    if count >= 1.0 {
        let last = descending.len() - 1;
        return descending[(count as usize - 1).min(last)];
    }
    let tail = TAIL.min(descending.len() / 4).max(1).min(descending.len() - 1);
    let start = descending[tail];
    let excess = descending[..tail].iter().map(|drop| drop - start).sum::<f64>();
    let excess = excess / tail.max(1) as f64;
    let beyond = start + excess * (tail as f64 / count.max(f64::MIN_POSITIVE)).ln();
    beyond.max(descending[0])
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
        for check in 1..=60_u32 {
            let noise: Vec<f64> = (0..SERIES).map(|_| normal(&mut random)).collect();
            let threshold = flat.observe(&noise, &SCORE, Patience::Checks(2), 0.1);
            let stopped = SERIES - flat.series.len();
            assert!(stopped <= (100 * check / (check + 10)) as usize, "{stopped} at {check}");
            // No series has waited for two checks before.
            assert_eq!(threshold.is_infinite(), check < 3, "{threshold} at check {check}");
        }
        assert!(
            SERIES - flat.series.len() >= 60,
            "most of the level is spent: {}",
            flat.series.len()
        );
    }

    #[test]
    fn the_threshold_is_a_quantile_of_the_drops() {
        let drops: Vec<f64> = (1..=1000).rev().map(|i| f64::from(i) / 1000.0).collect();
        assert_eq!([1.0, 1.9, 83.0].map(|count| exceeded_by(&drops, count)), [1.0, 1.0, 0.918]);
        // Of less than one, beyond the largest, and the further the less.
        let [half, tenth] = [0.5, 0.1].map(|count| exceeded_by(&drops, count));
        assert!(1.0 < half && half < tenth && tenth < 1.3, "{half} and {tenth}");
        // Exponential drops are extrapolated to what they are.
        let drops: Vec<f64> = (1..=1000).map(|i| -((f64::from(i) - 0.5) / 1000.0).ln()).collect();
        let found = exceeded_by(&drops, 0.01);
        assert!((found - 100_000_f64.ln()).abs() < 0.5, "{found}");
        assert_eq!(exceeded_by(&[0.3], 0.5), 0.3);
    }

    #[test]
    fn where_more_is_worse_the_drops_are_the_opposite() {
        let mut random = fastrand::Rng::with_seed(9);
        let (mut up, mut down) = (FlatSeries::default(), FlatSeries::default());
        for _ in 0..20 {
            let noise: Vec<f64> = (0..SERIES).map(|_| normal(&mut random)).collect();
            let opposite: Vec<f64> = noise.iter().map(|value| -value).collect();
            let less = Followed { goal: Goal::Min, ..SCORE };
            let [a, b] = [
                up.observe(&noise, &SCORE, Patience::Checks(1), 0.2),
                down.observe(&opposite, &less, Patience::Checks(1), 0.2),
            ];
            assert_eq!(a, b);
        }
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
