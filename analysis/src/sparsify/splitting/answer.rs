//! The best feasible effects and the best dual of a table, made from where the splitting stands.

use super::point::Point;
use super::{Plan, Splitting, clip};
use crate::interaction::Interactions;
use crate::interaction::transform::{moebius, or_inverse, zeta};

/// Rounds of clipping and projecting that tighten the dual before it is scaled.
pub const DUAL_ROUNDS: usize = 10;
/// Share of rounding within which a cost is no worse than another.
pub const NO_WORSE: f64 = 1e-9;

/// The best feasible effects and the best dual of one table so far.
pub(in crate::sparsify) struct Best {
    /// Feasible effects, in units of v.
    pub(in crate::sparsify) effects: Interactions,
    /// Their cost, scaled.
    objective: f64,
    pub(in crate::sparsify) dual: Vec<f64>,
    /// The lower bound behind `dual`, scaled.
    bound: f64,
}

impl Best {
    pub(in crate::sparsify) fn new(length: usize) -> Self {
        Self {
            effects: Interactions { and: vec![0.0; length], or: vec![0.0; length] },
            objective: f64::INFINITY,
            dual: vec![0.0; length],
            bound: 0.0,
        }
    }

    /// Takes feasible effects if they are no worse than the best so far: exact ones are cleaner.
    pub(in crate::sparsify) fn offer(&mut self, effects: Interactions, cost: f64, scale: f64) {
        if cost / scale <= self.objective * (1.0 + NO_WORSE) {
            (self.objective, self.effects) = (cost / scale, effects);
        }
    }

    /// Whether the gap is at most the wanted one, by the solver's own reckoning.
    pub(in crate::sparsify) fn reaches(&self, gap: f64) -> bool {
        self.objective.is_finite() && self.objective - self.bound <= gap * self.objective
    }
}

impl<const L: usize> Splitting<'_, L, f64> {
    #[inline(always)]
    pub(super) fn improve_answers(&mut self, best: &mut [Option<&mut Best>]) {
        if self.spare.and.is_empty() {
            self.spare = Point::zero(self.dual.len());
        }
        self.evaluate_dual();
        self.improve_dual(best);
        self.repair_primal(best);
        self.prepare();
    }

    /// Keeps the best dual of each lane, first as it is, then after rounds that alternately clip
    /// Kᵀp into the feasible box and project back onto the range of Kᵀ in the metric.
    #[inline(always)]
    fn improve_dual(&mut self, best: &mut [Option<&mut Best>]) {
        let Plan { costs, orders, .. } = self.plan;
        let full = orders.len() - 1;
        for round in 0..=DUAL_ROUNDS {
            self.adjoint();
            self.keep_better_dual(best);
            if round == DUAL_ROUNDS {
                break;
            }
            let total = self.or[full];
            for s in 0..orders.len() {
                let k = orders[s];
                for lane in 0..L {
                    let x = clip(self.and[s][lane], costs.and[s]);
                    self.and[s][lane] = self.metric.and[k][lane] * x;
                    let y = clip(total[lane] - self.or[full - s][lane], costs.or[s]);
                    self.spare.or[s][lane] = self.metric.or[k][lane] * y;
                }
            }
            zeta(&mut self.and);
            zeta(&mut self.spare.or);
            let total = self.spare.or[full];
            for s in 1..orders.len() {
                for lane in 0..L {
                    let or = total[lane] - self.spare.or[full - s][lane];
                    let noise = self.metric.noise[orders[s]][lane] * self.dual[s][lane];
                    self.dual[s][lane] = self.and[s][lane] + or + noise;
                }
            }
            self.dual[0] = [0.0; L];
            self.numbers.symmetry.solve(&self.factor, &mut self.dual);
        }
    }

    /// Compares each lane's dual (with Kᵀp in the scratch) with its best bound.
    #[inline(always)]
    fn keep_better_dual(&mut self, best: &mut [Option<&mut Best>]) {
        let Plan { costs, orders, .. } = self.plan;
        let full = orders.len() - 1;
        let total = self.or[full];
        let (mut excess, mut gain) = ([0.0f64; L], [0.0; L]);
        for s in 1..=full {
            for lane in 0..L {
                let p = self.dual[s][lane];
                gain[lane] += p * self.values[s][lane] - self.zeta[lane] * p.abs();
                excess[lane] = excess[lane].max(self.and[s][lane].abs() / costs.and[s]);
                if orders[s] > 1 {
                    let or = total[lane] - self.or[full - s][lane];
                    excess[lane] = excess[lane].max(or.abs() / costs.or[s]);
                }
            }
        }
        for (lane, best) in best.iter_mut().enumerate() {
            let bound = gain[lane] / excess[lane];
            if let Some(best) = best.as_deref_mut().filter(|best| bound > best.bound) {
                best.bound = bound;
                for (kept, row) in best.dual.iter_mut().zip(self.dual.iter()) {
                    *kept = row[lane];
                }
            }
        }
    }

    /// Makes z feasible: one projection onto K w = v in the metric, then what still exceeds ζ goes
    /// into AND effects where |S| ≥ n/2 and into OR effects below. Keeps the best of each lane.
    #[inline(always)]
    fn repair_primal(&mut self, best: &mut [Option<&mut Best>]) {
        let Plan { costs, orders, variables, .. } = self.plan;
        let full = orders.len() - 1;
        for s in 0..orders.len() {
            let k = orders[s];
            for lane in 0..L {
                let t = self.state.and[s][lane];
                let x = t - clip(t, costs.and[s] * self.metric.and[k][lane]);
                let t = self.state.or[s][lane];
                let y = t - clip(t, costs.or[s] * self.metric.or[k][lane]);
                (self.spare.and[s][lane], self.spare.or[s][lane]) = (x, y);
                (self.and[s][lane], self.or[s][lane]) = (x, y);
            }
        }
        self.residual(clip);
        self.numbers.symmetry.solve(&self.factor, &mut self.dual);
        self.adjoint();
        let total = self.or[full];
        for s in 1..orders.len() {
            let k = orders[s];
            for lane in 0..L {
                let or = total[lane] - self.or[full - s][lane];
                self.spare.and[s][lane] += self.metric.and[k][lane] * self.and[s][lane];
                self.spare.or[s][lane] += self.metric.or[k][lane] * or;
            }
        }
        self.and.copy_from_slice(&self.spare.and);
        self.or.copy_from_slice(&self.spare.or);
        self.residual(|_, _| 0.0);
        for s in 0..orders.len() {
            let high = 2 * orders[s] >= *variables;
            for lane in 0..L {
                let residual = self.dual[s][lane];
                let excess = residual - clip(residual, self.zeta[lane]);
                self.and[s][lane] = if high { excess } else { 0.0 };
                self.or[s][lane] = if high { 0.0 } else { excess };
            }
        }
        moebius(&mut self.and);
        or_inverse(&mut self.or);
        for s in 1..orders.len() {
            for lane in 0..L {
                self.spare.and[s][lane] += self.and[s][lane];
                let spill = self.or[s][lane];
                let kind = if orders[s] == 1 { &mut self.spare.and } else { &mut self.spare.or };
                kind[s][lane] += spill;
            }
        }
        self.keep_better_primal(best);
    }

    /// dual ← v − Z and − O or − noise(t, ζ) (0 at ∅); destroys the scratch.
    #[inline(always)]
    fn residual(&mut self, noise: impl Fn(f64, f64) -> f64) {
        zeta(&mut self.and);
        zeta(&mut self.or);
        let full = self.dual.len() - 1;
        let total = self.or[full];
        self.dual[0] = [0.0; L];
        for s in 1..=full {
            for lane in 0..L {
                let or = total[lane] - self.or[full - s][lane];
                let noise = noise(self.state.noise[s][lane], self.zeta[lane]);
                self.dual[s][lane] = self.values[s][lane] - (self.and[s][lane] + or) - noise;
            }
        }
    }

    #[inline(always)]
    fn keep_better_primal(&mut self, best: &mut [Option<&mut Best>]) {
        let Plan { costs, orders, .. } = self.plan;
        let (x, y) = (&self.spare.and, &self.spare.or);
        let mut objective = [0.0; L];
        for s in 1..orders.len() {
            for lane in 0..L {
                objective[lane] += costs.and[s] * x[s][lane].abs() + costs.or[s] * y[s][lane].abs();
            }
        }
        for (lane, best) in best.iter_mut().enumerate() {
            let better = best.as_deref_mut().filter(|best| objective[lane] < best.objective);
            let Some(best) = better else { continue };
            best.objective = objective[lane];
            for s in 1..orders.len() {
                best.effects.and[s] = x[s][lane] * self.scale[lane];
                best.effects.or[s] = y[s][lane] * self.scale[lane];
            }
        }
    }
}
