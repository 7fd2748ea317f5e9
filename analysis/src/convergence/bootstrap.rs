//! Standard errors by the bootstrap over probe samples.

use super::totals::Totals;

/// Resamples a standard error is computed from: its own relative error is about 1/√(2·200) = 5 %.
pub const RESAMPLES: usize = 200;
/// The same resamples for every pair and every run, so that a result can be computed again.
const SEED: u64 = 0x636f_6e76_6572_6764;

/// Draws of as many samples as there are, with replacement.
pub(super) struct Resamples {
    random: fastrand::Rng,
    count: usize,
}

impl Resamples {
    pub(super) fn of(count: usize) -> Self {
        Self { random: fastrand::Rng::with_seed(SEED), count }
    }

    /// The samples of one more resample; all of it must be taken.
    pub(super) fn next(&mut self) -> impl Iterator<Item = usize> {
        let Self { random, count } = self;
        (0..*count).map(|_| random.usize(0..*count))
    }
}

/// Standard deviation of every statistic over resamples of the samples with replacement. Resamples
/// where a statistic is not finite are left out of it; NaN where fewer than two are left.
pub fn bootstrap(samples: &[Totals], statistics: impl Fn(&Totals) -> Vec<f64>) -> Vec<f64> {
    let Some(first) = samples.first() else { return Vec::new() };
    let zero = Totals::zero(first.strength[0].len());
    let mut draws = Resamples::of(samples.len());
    let resamples: Vec<Vec<f64>> = (0..RESAMPLES)
        .map(|_| {
            let drawn = draws.next().map(|sample| &samples[sample]);
            statistics(&drawn.fold(zero.clone(), |sum, sample| sum.plus(sample)))
        })
        .collect();
    let count = resamples.first().map_or(0, Vec::len);
    (0..count).map(|statistic| deviation(resamples.iter().map(|r| r[statistic]))).collect()
}

fn deviation(values: impl Iterator<Item = f64>) -> f64 {
    let finite: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    let count = finite.len() as f64;
    let mean = finite.iter().sum::<f64>() / count;
    let squares: f64 = finite.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (count - 1.0)).sqrt()
}
