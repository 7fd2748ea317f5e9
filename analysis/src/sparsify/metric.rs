//! The metric D of the splitting: diagonal, by order, one a lane.

use crate::interaction::real::Real;
use crate::interaction::transform::Row;

/// Metric before adaptation: D_x = 0.02·2^(−0.3(|T| − n/2)), D_y = 0.02, D_δ = ζ/scale clipped from
/// below at 1e-4 (the values that did best on tables of real networks).
pub const START: f64 = 0.02;
/// The 0.3 of D_x.
pub const DECAY: f64 = 0.3;
/// The 1e-4 of D_δ.
pub const LEAST_NOISE: f64 = 1e-4;
/// How far an adaptation goes, in logarithms.
pub const DAMPING: f64 = 0.7;
/// How much each order counts against its whole block.
pub const BY_ORDER: f64 = 0.6;
/// The pseudo-count that keeps empty orders near the block, as a share.
pub const SHRINK: f64 = 0.02;
/// How large a step of an adaptation is.
pub const FACTOR: f64 = 0.5;

/// Diagonal of the metric by order 0..=n, one value a lane.
#[derive(Clone)]
pub(super) struct Metric<const L: usize, T = f64> {
    pub(super) and: Vec<Row<L, T>>,
    pub(super) or: Vec<Row<L, T>>,
    pub(super) noise: Vec<Row<L, T>>,
}

impl<const L: usize> Metric<L> {
    /// The metric of the first iterations, for bounds ζ relative to max|v|.
    pub(super) fn start(n: usize, zeta: &Row<L>) -> Self {
        let from_middle = |k: usize| k as f64 - n as f64 / 2.0;
        let and = (0..=n).map(|k| match k {
            0 => [0.0; L],
            _ => [START * f64::powf(2.0, -DECAY * from_middle(k)); L],
        });
        let or = (0..=n).map(|k| if k < 2 { [0.0; L] } else { [START; L] });
        let noise = (0..=n).map(|k| match k {
            // ∅ is no constraint: H is 1 there and decouples.
            0 => [1.0; L],
            _ => zeta.map(|zeta| zeta.max(LEAST_NOISE)),
        });
        Self { and: and.collect(), or: or.collect(), noise: noise.collect() }
    }

    /// The same with rounded numbers.
    pub(super) fn rounded<T: Real>(&self) -> Metric<L, T> {
        let round = |rows: &[Row<L>]| rows.iter().map(|row| row.map(T::of)).collect();
        Metric { and: round(&self.and), or: round(&self.or), noise: round(&self.noise) }
    }

    /// Takes one lane from another metric of the same n.
    pub(super) fn take_lane<const M: usize>(
        &mut self,
        lane: usize,
        from: &Metric<M>,
        from_lane: usize,
    ) {
        take_lane(&mut self.and, lane, &from.and, from_lane);
        take_lane(&mut self.or, lane, &from.or, from_lane);
        take_lane(&mut self.noise, lane, &from.noise, from_lane);
    }
}

/// Copies one lane of some rows into one lane of others.
pub(super) fn take_lane<const L: usize, const M: usize, T: Real, U: Real>(
    rows: &mut [Row<L, T>],
    lane: usize,
    from: &[Row<M, U>],
    from_lane: usize,
) {
    for (row, from) in rows.iter_mut().zip(from) {
        row[lane] = T::of(from[from_lane].wide());
    }
}

/// Squared sizes of the primal and dual parts of one block of t, by order.
pub(super) struct Sizes {
    primal: Vec<f64>,
    dual: Vec<f64>,
    count: Vec<f64>,
}

impl Sizes {
    pub(super) fn new(n: usize) -> Self {
        let zeros = vec![0.0; n + 1];
        Self { primal: zeros.clone(), dual: zeros.clone(), count: zeros }
    }

    pub(super) fn add(&mut self, order: usize, (primal, dual): (f64, f64)) {
        self.primal[order] += primal * primal;
        self.dual[order] += dual * dual;
        self.count[order] += 1.0;
    }

    /// Moves a block of one lane's metric, from `first_order` on, towards the ratio of the sizes.
    pub(super) fn adapt<const L: usize>(
        &self,
        first_order: usize,
        metric: &mut [Row<L>],
        lane: usize,
    ) {
        let (primal, dual) = (self.primal.iter().sum::<f64>(), self.dual.iter().sum::<f64>());
        let subsets = f64::powi(2.0, self.primal.len() as i32 - 1);
        let block = (primal / dual.max(1e-30)).sqrt();
        for (k, row) in metric.iter_mut().enumerate().skip(first_order) {
            let share = SHRINK * self.count[k] / subsets;
            let own = (self.primal[k] + share * primal) / (self.dual[k] + share * dual).max(1e-30);
            let target = block.ln() * (1.0 - BY_ORDER) + own.sqrt().ln() * BY_ORDER;
            let step = (FACTOR * target.exp() / row[lane]).powf(DAMPING);
            if step.is_finite() {
                row[lane] *= step.clamp(0.1, 10.0);
            }
        }
    }
}
