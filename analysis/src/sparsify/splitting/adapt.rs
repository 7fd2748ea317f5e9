//! Adaptation of the metric to each table.

use super::{Plan, Splitting, clip};
use crate::interaction::real::Real;
use crate::interaction::transform::Row;
use crate::sparsify::metric::{Metric, Sizes};

impl<const L: usize, T: Real> Splitting<'_, L, T> {
    /// Moves D, per order and block, towards the ratio of the sizes of z and of its dual, and t with
    /// it so that z and the dual stay where they are.
    pub(super) fn adapt_metric(&mut self) {
        self.anchor_age = 0;
        for lane in 0..L {
            self.adapt_lane(lane);
        }
        self.take_metric();
    }

    fn adapt_lane(&mut self, lane: usize) {
        let Plan { costs, orders, variables, .. } = self.plan;
        let Self { metric, state, zeta, .. } = self;
        let zeta = zeta[lane].wide();
        let threshold = |costs: &[f64], d: &[Row<L>], s: usize| costs[s] * d[orders[s]][lane];
        // (primal, dual) parts of t in each block.
        let split_and = |metric: &Metric<L>, s: usize, t: f64| {
            let u = clip(t, threshold(&costs.and, &metric.and, s));
            (t - u, u / metric.and[orders[s]][lane])
        };
        let split_or = |metric: &Metric<L>, s: usize, t: f64| {
            let u = clip(t, threshold(&costs.or, &metric.or, s));
            (t - u, u / metric.or[orders[s]][lane])
        };
        let split_noise = |metric: &Metric<L>, s: usize, t: f64| {
            let z = clip(t, zeta);
            (z, (t - z) / metric.noise[orders[s]][lane])
        };
        let n = *variables;
        let first_or = (1..orders.len()).filter(|&s| orders[s] > 1);
        let old = metric.clone();
        let (mut and, mut or) = (Sizes::new(n), Sizes::new(n));
        let mut noise = Sizes::new(n);
        for s in 1..orders.len() {
            and.add(orders[s], split_and(&old, s, state.and[s][lane].wide()));
            noise.add(orders[s], split_noise(&old, s, state.noise[s][lane].wide()));
        }
        for s in first_or.clone() {
            or.add(orders[s], split_or(&old, s, state.or[s][lane].wide()));
        }
        and.adapt(1, &mut metric.and, lane);
        or.adapt(2, &mut metric.or, lane);
        if zeta > 0.0 {
            noise.adapt(1, &mut metric.noise, lane);
        }
        for s in 1..orders.len() {
            let (z, p) = split_and(&old, s, state.and[s][lane].wide());
            state.and[s][lane] = T::of(z + p * metric.and[orders[s]][lane]);
            let (z, p) = split_noise(&old, s, state.noise[s][lane].wide());
            state.noise[s][lane] = T::of(z + p * metric.noise[orders[s]][lane]);
        }
        for s in first_or {
            let (z, p) = split_or(&old, s, state.or[s][lane].wide());
            state.or[s][lane] = T::of(z + p * metric.or[orders[s]][lane]);
        }
    }
}
