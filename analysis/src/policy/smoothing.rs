//! Smoothing of a series of values.

use super::condition::Smooth;

/// The smoothed value; `past` is what was needed of the values before.
pub(super) fn next(smooth: Smooth, past: &mut Vec<f64>, value: f64) -> f64 {
    match smooth {
        Smooth::Nothing => value,
        Smooth::Ema(share) => {
            let smoothed = past.first().map_or(value, |old| old + share * (value - old));
            *past = vec![smoothed];
            smoothed
        }
        Smooth::Median(count) => {
            past.push(value);
            past.drain(..past.len().saturating_sub(count));
            median(past)
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
