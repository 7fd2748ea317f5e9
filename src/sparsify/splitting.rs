//! Batched Halpern–Peaceman–Rachford splitting with an exact projection (DESIGN section 6).
//!
//! With w = (x, y, δ), K w = Z x + O y + δ and the metric D (diagonal, by order), one iteration is
//!
//! ```text
//! z    = prox(t)                      soft-threshold at c·D for x and y, clip to ±ζ for δ
//! p    = H⁻¹ (v − K(2z − t))          H = K D Kᵀ
//! T(t) = t + 2 (z − t + D Kᵀ p)
//! t    ← t₀/(h+1) + h/(h+1) · T(t)    Halpern, re-anchored at t₀ = T(t)
//! ```
//!
//! At a fixed point z is optimal and p is the dual. Tables are scaled by max|v|; eight run side by
//! side, each with its own metric, and what happens in one lane does not depend on the others.

use super::metric::{Metric, Sizes, take_lane};
use super::problem::{Costs, Problem};
use super::symmetry::{Factor, Symmetry};
use crate::interaction::Interactions;
use crate::interaction::subset::order;
use crate::interaction::transform::{Row, moebius, or_inverse, zeta, zeta_adjoint};
use aligned_vec::{AVec, ConstAlign, avec};

/// Tables that run side by side.
pub(super) const LANES: usize = 8;
/// Lanes for a few tables that are left over.
pub(super) const FEW_LANES: usize = 4;

/// Iterations at which the metric is adapted.
pub(crate) const ADAPT_AT: [usize; 2] = [40, 80];
/// Halpern's anchor is renewed after max(30, 0.3·k) iterations.
pub(crate) const LEAST_ANCHOR_AGE: usize = 30;
pub(crate) const ANCHOR_AGE_SHARE: f64 = 0.3;
/// Share of rounding within which a cost is no worse than another.
const NO_WORSE: f64 = 1e-9;
/// Rounds of clipping and projecting that tighten the dual before it is scaled.
pub(crate) const DUAL_ROUNDS: usize = 10;

/// What all tables of n variables share.
pub(super) struct Plan {
    pub(super) variables: usize,
    pub(super) costs: Costs,
    symmetry: Symmetry,
    orders: Vec<usize>,
}

impl Plan {
    pub(super) fn new(variables: usize) -> Self {
        Self {
            variables,
            costs: Costs::canonical(variables),
            symmetry: Symmetry::new(variables),
            orders: (0..1usize << variables).map(order).collect(),
        }
    }

    /// Bytes of the splittings of one thread, up to what grows with n alone.
    pub(super) fn splitting_bytes(&self) -> usize {
        (ARRAYS * size_of::<Row<{ LANES + FEW_LANES }>>()) << self.variables
    }
}

/// Arrays of 2^n rows in a [`Splitting`]: values, dual, two scratch, and three in each of three points.
const ARRAYS: usize = 13;

/// A table of 2^n rows that starts at a cache line.
type Rows<const L: usize> = AVec<Row<L>, ConstAlign<64>>;

fn zeros<const L: usize>(length: usize) -> Rows<L> {
    avec![[64]| [0.0; L]; length]
}

/// The point t, or its anchor.
#[derive(Clone)]
struct Point<const L: usize> {
    and: Rows<L>,
    or: Rows<L>,
    noise: Rows<L>,
}

impl<const L: usize> Point<L> {
    fn zero(length: usize) -> Self {
        Self { and: zeros(length), or: zeros(length), noise: zeros(length) }
    }

    fn copy_from(&mut self, other: &Self) {
        self.and.copy_from_slice(&other.and);
        self.or.copy_from_slice(&other.or);
        self.noise.copy_from_slice(&other.noise);
    }

    fn take_lane<const M: usize>(&mut self, lane: usize, from: &Point<M>, from_lane: usize) {
        take_lane(&mut self.and, lane, &from.and, from_lane);
        take_lane(&mut self.or, lane, &from.or, from_lane);
        take_lane(&mut self.noise, lane, &from.noise, from_lane);
    }
}

/// Where one table stands, taken out of its lane so that it can go on in another.
pub(super) struct Paused {
    state: Point<1>,
    anchor: Point<1>,
    metric: Metric<1>,
    anchor_age: usize,
    iteration: usize,
}

/// Eight tables on their way. Made once, loaded again for each group; a run allocates nothing but a
/// new factor when the metric adapts.
pub(super) struct Splitting<'a, const L: usize> {
    plan: &'a Plan,
    /// v(S) − v(∅), scaled.
    values: Rows<L>,
    scale: Row<L>,
    zeta: Row<L>,
    metric: Metric<L>,
    factor: Factor<L>,
    state: Point<L>,
    anchor: Point<L>,
    anchor_age: usize,
    iteration: usize,
    dual: Rows<L>,
    /// AND and OR scratch: the reflection 2z − t between iterations, Kᵀp within one.
    and: Rows<L>,
    or: Rows<L>,
    /// Used by the checks alone.
    spare: Point<L>,
}

/// What one table has reached: the prox of its state, which is exactly sparse.
pub(crate) struct Iterate {
    /// Soft-thresholded effects, near-feasible, in units of v.
    pub(crate) effects: Interactions,
    /// Dual of the noise bounds, exactly zero where a bound is slack.
    pub(crate) dual: Vec<f64>,
}

/// The best feasible effects and the best dual of one table so far.
pub(super) struct Best {
    /// Feasible effects, in units of v.
    pub(super) effects: Interactions,
    /// Their cost, scaled.
    objective: f64,
    pub(super) dual: Vec<f64>,
    /// The lower bound behind `dual`, scaled.
    bound: f64,
}

impl Best {
    pub(super) fn new(length: usize) -> Self {
        Self {
            effects: Interactions { and: vec![0.0; length], or: vec![0.0; length] },
            objective: f64::INFINITY,
            dual: vec![0.0; length],
            bound: 0.0,
        }
    }

    /// Takes feasible effects if they are no worse than the best so far: exact ones are cleaner.
    pub(super) fn offer(&mut self, effects: Interactions, cost: f64, scale: f64) {
        if cost / scale <= self.objective * (1.0 + NO_WORSE) {
            (self.objective, self.effects) = (cost / scale, effects);
        }
    }

    /// Whether the gap is at most the wanted one, by the solver's own reckoning.
    pub(super) fn reaches(&self, gap: f64) -> bool {
        self.objective - self.bound <= gap * self.objective
    }
}

#[inline(always)]
fn lanes<const L: usize>(f: impl FnMut(usize) -> f64) -> Row<L> {
    std::array::from_fn(f)
}

/// `x` clipped to ±`bound`; written with comparisons that compile to vector minima and maxima.
#[inline(always)]
fn clip(x: f64, bound: f64) -> f64 {
    let upper = if x < bound { x } else { bound };
    if upper > -bound { upper } else { -bound }
}

/// The next t of an effect with the gradient (Kᵀp)_T, and its 2z − t.
#[inline(always)]
fn advance_effect<const L: usize>(
    t: Row<L>,
    gradient: Row<L>,
    anchor: Row<L>,
    (metric, cost): (Row<L>, f64),
    pull: f64,
) -> (Row<L>, Row<L>) {
    let threshold: Row<L> = lanes(|lane| cost * metric[lane]);
    let next = lanes(|lane| {
        let step = metric[lane] * gradient[lane] - clip(t[lane], threshold[lane]);
        (1.0 - pull) * (t[lane] + 2.0 * step) + pull * anchor[lane]
    });
    (next, lanes(|lane| next[lane] - 2.0 * clip(next[lane], threshold[lane])))
}

/// Runs the same arithmetic with wider registers where the processor has them. No fused operations
/// are allowed in, so the result is the same everywhere.
macro_rules! with_best_instructions {
    ($(#[$doc:meta])* $name:ident => $body:ident($($argument:ident: $type:ty),*)) => {
        $(#[$doc])*
        pub(super) fn $name(&mut self, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512<const L: usize>(splitting: &mut Splitting<'_, L>, $($argument: $type),*) {
                    splitting.$body($($argument),*);
                }
                #[target_feature(enable = "avx2")]
                fn avx2<const L: usize>(splitting: &mut Splitting<'_, L>, $($argument: $type),*) {
                    splitting.$body($($argument),*);
                }
                if std::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the processor was just asked for AVX-512.
                    return unsafe { avx512(self, $($argument),*) };
                }
                if std::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor was just asked for AVX2.
                    return unsafe { avx2(self, $($argument),*) };
                }
            }
            self.$body($($argument),*);
        }
    };
}

impl<'a, const L: usize> Splitting<'a, L> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let length = 1 << plan.variables;
        let metric = Metric::start(plan.variables, &[0.0; L]);
        Self {
            plan,
            values: zeros(length),
            scale: [1.0; L],
            zeta: [0.0; L],
            factor: plan.symmetry.factor(&metric),
            metric,
            state: Point::zero(length),
            anchor: Point::zero(length),
            anchor_age: 0,
            iteration: 0,
            dual: zeros(length),
            and: zeros(length),
            or: zeros(length),
            spare: Point::zero(length),
        }
    }

    /// Puts up to eight problems into the lanes, from the start; unused lanes repeat the last one.
    pub(super) fn load(&mut self, group: &[&Problem]) {
        let of = |lane: usize| group[lane.min(group.len() - 1)];
        self.load_values(of);
        self.metric = Metric::start(self.plan.variables, &self.zeta);
        self.factor = self.plan.symmetry.factor(&self.metric);
        for rows in [&mut self.state.and, &mut self.state.or, &mut self.state.noise] {
            rows.fill([0.0; L]);
        }
        (self.anchor_age, self.iteration) = (0, 0);
        self.prepare();
    }

    fn load_values<'p>(&mut self, of: impl Fn(usize) -> &'p Problem) {
        self.scale = lanes(|lane| of(lane).scale());
        self.scale = self.scale.map(|scale| if scale == 0.0 { 1.0 } else { scale });
        self.zeta = lanes(|lane| of(lane).zeta / self.scale[lane]);
        for lane in 0..L {
            let (scale, values) = (self.scale[lane], &of(lane).values);
            for (row, value) in self.values.iter_mut().zip(values) {
                row[lane] = value / scale;
            }
        }
    }

    /// Takes a table out of its lane.
    pub(super) fn pause(&self, lane: usize) -> Paused {
        let mut paused = Paused {
            state: Point::zero(self.dual.len()),
            anchor: Point::zero(self.dual.len()),
            metric: Metric::start(self.plan.variables, &[0.0]),
            anchor_age: self.anchor_age,
            iteration: self.iteration,
        };
        paused.state.take_lane(0, &self.state, lane);
        paused.anchor.take_lane(0, &self.anchor, lane);
        paused.metric.take_lane(0, &self.metric, lane);
        paused
    }

    /// How many iterations are done.
    pub(super) fn iteration(&self) -> usize {
        self.iteration
    }

    /// Puts up to eight paused tables, all after the same number of iterations, into the lanes.
    pub(super) fn resume(&mut self, group: &[(&Problem, &Paused)]) {
        let of = |lane: usize| group[lane.min(group.len() - 1)];
        self.load_values(|lane| of(lane).0);
        for lane in 0..L {
            let paused = of(lane).1;
            (self.iteration, self.anchor_age) = (paused.iteration, paused.anchor_age);
            self.state.take_lane(lane, &paused.state, 0);
            self.anchor.take_lane(lane, &paused.anchor, 0);
            self.metric.take_lane(lane, &paused.metric, 0);
        }
        self.factor = self.plan.symmetry.factor(&self.metric);
        self.prepare();
    }

    with_best_instructions! {
        /// Iterates until `last` iterations are done.
        iterate_until => run(last: usize)
    }

    with_best_instructions! {
        /// Improves the best answers: `best[lane]` is skipped where it is `None`.
        improve => improve_answers(best: &mut [Option<&mut Best>])
    }

    #[inline(always)]
    fn run(&mut self, last: usize) {
        while self.iteration < last {
            self.iteration += 1;
            self.evaluate_dual();
            self.advance();
            if ADAPT_AT.contains(&self.iteration) {
                self.adapt_metric();
                self.prepare();
            }
        }
    }

    /// (and, or) ← 2z − t = t − 2·clip(t, c·D).
    #[inline(always)]
    fn prepare(&mut self) {
        let Plan { costs, orders, .. } = self.plan;
        for s in 0..orders.len() {
            let (d_and, d_or) = (&self.metric.and[orders[s]], &self.metric.or[orders[s]]);
            for lane in 0..L {
                let t = self.state.and[s][lane];
                self.and[s][lane] = t - 2.0 * clip(t, costs.and[s] * d_and[lane]);
                let t = self.state.or[s][lane];
                self.or[s][lane] = t - 2.0 * clip(t, costs.or[s] * d_or[lane]);
            }
        }
    }

    /// p = H⁻¹ (v − K(2z − t)); expects 2z − t of x and y in the scratch and destroys it.
    #[inline(always)]
    fn evaluate_dual(&mut self) {
        zeta(&mut self.and);
        zeta(&mut self.or);
        let full = self.dual.len() - 1;
        let total = self.or[full];
        self.dual[0] = [0.0; L];
        for s in 1..=full {
            let (x, y, t) = (self.and[s], self.or[full - s], self.state.noise[s]);
            let (v, zeta) = (self.values[s], self.zeta);
            self.dual[s] = lanes(|lane| {
                let noise = 2.0 * clip(t[lane], zeta[lane]) - t[lane];
                // O y (S) = Σ y − ζ(y)(N∖S).
                v[lane] - (x[lane] + (total[lane] - y[lane])) - noise
            });
        }
        self.plan.symmetry.solve(&self.factor, &mut self.dual);
    }

    /// (and, or) ← Kᵀp, where the OR part still lacks its reversal: (Oᵀp)(T) = or[N] − or[N∖T].
    #[inline(always)]
    fn adjoint(&mut self) {
        self.and.copy_from_slice(&self.dual);
        self.or.copy_from_slice(&self.dual);
        zeta_adjoint(&mut self.and);
        zeta(&mut self.or);
    }

    /// t ← T(t) pulled to the anchor, and the scratch ← 2z − t of the new t, in one pass.
    #[inline(always)]
    fn advance(&mut self) {
        self.adjoint();
        let oldest = (self.iteration as f64 * ANCHOR_AGE_SHARE) as usize;
        let renew = self.anchor_age == 0;
        self.anchor_age += 1;
        let pull = if renew { 0.0 } else { 1.0 / self.anchor_age as f64 };
        let full = self.dual.len() - 1;
        let total = self.or[full];
        // S and its complement together: each needs the OR scratch of the other before it is
        // overwritten.
        for s in 0..=full / 2 {
            let (on_s, on_complement) = (self.or[full - s], self.or[s]);
            self.advance_row(s, &total, &on_s, pull);
            self.advance_row(full - s, &total, &on_complement, pull);
        }
        if renew {
            self.anchor.copy_from(&self.state);
        } else if self.anchor_age > oldest.max(LEAST_ANCHOR_AGE) {
            self.anchor_age = 0;
        }
    }

    #[inline(always)]
    fn advance_row(&mut self, s: usize, total: &Row<L>, reversed: &Row<L>, pull: f64) {
        let Plan { costs, orders, .. } = self.plan;
        let (k, state, anchor) = (orders[s], &mut self.state, &self.anchor);
        (state.and[s], self.and[s]) = advance_effect(
            state.and[s],
            self.and[s],
            anchor.and[s],
            (self.metric.and[k], costs.and[s]),
            pull,
        );
        (state.or[s], self.or[s]) = advance_effect(
            state.or[s],
            lanes(|lane| total[lane] - reversed[lane]),
            anchor.or[s],
            (self.metric.or[k], costs.or[s]),
            pull,
        );
        let (t, p, anchor) = (state.noise[s], self.dual[s], anchor.noise[s]);
        let (d, zeta) = (self.metric.noise[k], self.zeta);
        state.noise[s] = lanes(|lane| {
            let moved = t[lane] + 2.0 * (d[lane] * p[lane] + clip(t[lane], zeta[lane]) - t[lane]);
            (1.0 - pull) * moved + pull * anchor[lane]
        });
    }

    /// What a table has reached, for a crossover to start from.
    pub(super) fn iterate(&self, lane: usize) -> Iterate {
        let Plan { costs, orders, .. } = self.plan;
        let shrink = |t: &[Row<L>], costs: &[f64], d: &[Row<L>]| -> Vec<f64> {
            let size = |s: usize| costs[s] * d[orders[s]][lane];
            let of = |s: usize| (t[s][lane] - clip(t[s][lane], size(s))) * self.scale[lane];
            (0..orders.len()).map(of).collect()
        };
        let dual = |s: usize| {
            let t = self.state.noise[s][lane];
            (t - clip(t, self.zeta[lane])) / self.metric.noise[orders[s]][lane]
        };
        Iterate {
            effects: Interactions {
                and: shrink(&self.state.and, &costs.and, &self.metric.and),
                or: shrink(&self.state.or, &costs.or, &self.metric.or),
            },
            dual: (0..orders.len()).map(|s| if s == 0 { 0.0 } else { dual(s) }).collect(),
        }
    }

    #[inline(always)]
    fn improve_answers(&mut self, best: &mut [Option<&mut Best>]) {
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
            self.plan.symmetry.solve(&self.factor, &mut self.dual);
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
        self.plan.symmetry.solve(&self.factor, &mut self.dual);
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

    /// Moves D, per order and block, towards the ratio of the sizes of z and of its dual, and t with
    /// it so that z and the dual stay where they are.
    fn adapt_metric(&mut self) {
        self.anchor_age = 0;
        for lane in 0..L {
            self.adapt_lane(lane);
        }
        self.factor = self.plan.symmetry.factor(&self.metric);
    }

    fn adapt_lane(&mut self, lane: usize) {
        let Plan { costs, orders, variables, .. } = self.plan;
        let Self { metric, state, zeta, .. } = self;
        let zeta = zeta[lane];
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
            and.add(orders[s], split_and(&old, s, state.and[s][lane]));
            noise.add(orders[s], split_noise(&old, s, state.noise[s][lane]));
        }
        for s in first_or.clone() {
            or.add(orders[s], split_or(&old, s, state.or[s][lane]));
        }
        and.adapt(1, &mut metric.and, lane);
        or.adapt(2, &mut metric.or, lane);
        if zeta > 0.0 {
            noise.adapt(1, &mut metric.noise, lane);
        }
        for s in 1..orders.len() {
            let (z, p) = split_and(&old, s, state.and[s][lane]);
            state.and[s][lane] = z + p * metric.and[orders[s]][lane];
            let (z, p) = split_noise(&old, s, state.noise[s][lane]);
            state.noise[s][lane] = z + p * metric.noise[orders[s]][lane];
        }
        for s in first_or {
            let (z, p) = split_or(&old, s, state.or[s][lane]);
            state.or[s][lane] = z + p * metric.or[orders[s]][lane];
        }
    }
}
