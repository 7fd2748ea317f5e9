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
//! At a fixed point z is optimal and p is the dual. Tables are scaled by max|v|. A row of the
//! arrays, a cache line, holds the same entry of eight tables in double precision or of sixteen in
//! single, each with its own metric; what happens in one lane does not depend on the others.

mod adapt;
mod answer;
mod point;

pub(super) use answer::Best;
pub use answer::{DUAL_ROUNDS, NO_WORSE};
pub(super) use point::Paused;

use super::metric::Metric;
use super::problem::{Costs, Problem};
use super::symmetry::{Factor, Symmetry};
use crate::interaction::Interactions;
use crate::interaction::real::Real;
use crate::interaction::subset::order;
use crate::interaction::transform::{Row, zeta, zeta_adjoint};
use point::{Point, Rows, zeros};

/// Tables that run side by side, in double and in single precision: a row fills a cache line.
pub(super) const LANES: usize = 8;
pub(super) const ROUGH_LANES: usize = 16;

/// ζ at most, scaled.
const MOST_ROOM: f64 = 2.0;

/// Iterations at which the metric is adapted.
pub const ADAPT_AT: [usize; 2] = [40, 80];
/// Halpern's anchor is renewed after max(30, 0.3·k) iterations.
pub const LEAST_ANCHOR_AGE: usize = 30;
/// The 0.3 of it.
pub const ANCHOR_AGE_SHARE: f64 = 0.3;

/// What all tables of n variables share.
pub(super) struct Plan {
    pub(super) variables: usize,
    pub(super) costs: Costs,
    orders: Vec<usize>,
    /// For the rough first iterations, and for those that a certificate is made from.
    pub(super) rough: Numbers<f32>,
    pub(super) exact: Numbers<f64>,
}

/// The part of a plan that depends on the floating-point type.
pub(super) struct Numbers<T> {
    symmetry: Symmetry<T>,
    and_costs: Vec<T>,
    or_costs: Vec<T>,
}

impl<T: Real> Numbers<T> {
    fn new(symmetry: Symmetry<T>, costs: &Costs) -> Self {
        let round = |costs: &[f64]| costs.iter().map(|&cost| T::of(cost)).collect();
        Self { symmetry, and_costs: round(&costs.and), or_costs: round(&costs.or) }
    }
}

impl Plan {
    pub(super) fn new(variables: usize) -> Self {
        let costs = Costs::canonical(variables);
        let symmetry = Symmetry::new(variables);
        Self {
            variables,
            rough: Numbers::new(symmetry.rounded(), &costs),
            exact: Numbers::new(symmetry, &costs),
            costs,
            orders: (0..1usize << variables).map(order).collect(),
        }
    }

    /// Bytes of the splittings of one thread, up to what grows with n alone.
    pub(super) fn splitting_bytes(&self) -> usize {
        // A full splitting and one of half the lanes; single and double precision are not there at once.
        (ARRAYS * size_of::<Row<{ LANES + LANES / 2 }>>()) << self.variables
    }
}

/// Arrays of 2^n rows in a [`Splitting`]: values, dual, two scratch, and three in each of three points.
const ARRAYS: usize = 13;

/// Tables on their way, one a lane. Made once, loaded again for each group; a run allocates nothing
/// but when the metric adapts.
pub(super) struct Splitting<'a, const L: usize, T> {
    plan: &'a Plan,
    numbers: &'a Numbers<T>,
    /// v(S) − v(∅), scaled.
    values: Rows<L, T>,
    scale: Row<L>,
    zeta: Row<L, T>,
    metric: Metric<L>,
    /// The metric in the numbers of the iteration.
    rounded: Metric<L, T>,
    factor: Factor<L>,
    state: Point<L, T>,
    anchor: Point<L, T>,
    anchor_age: usize,
    iteration: usize,
    dual: Rows<L, T>,
    /// AND and OR scratch: the reflection 2z − t between iterations, Kᵀp within one.
    and: Rows<L, T>,
    or: Rows<L, T>,
    /// Used by the checks alone; empty before the first.
    spare: Point<L, T>,
}

/// What one table has reached: the prox of its state, which is exactly sparse.
pub struct Iterate {
    /// Soft-thresholded effects, near-feasible, in units of v.
    pub effects: Interactions,
    /// Dual of the noise bounds, exactly zero where a bound is slack.
    pub dual: Vec<f64>,
}

#[inline(always)]
fn lanes<const L: usize, T>(f: impl FnMut(usize) -> T) -> Row<L, T> {
    std::array::from_fn(f)
}

/// `x` clipped to ±`bound`; written with comparisons that compile to vector minima and maxima.
#[inline(always)]
fn clip<T: Real>(x: T, bound: T) -> T {
    let upper = if x < bound { x } else { bound };
    if upper > -bound { upper } else { -bound }
}

/// The next t of an effect with the gradient (Kᵀp)_T, and its 2z − t.
#[inline(always)]
fn advance_effect<const L: usize, T: Real>(
    t: Row<L, T>,
    gradient: Row<L, T>,
    anchor: Row<L, T>,
    (metric, cost): (Row<L, T>, T),
    pull: T,
) -> (Row<L, T>, Row<L, T>) {
    let two = T::of(2.0);
    let threshold: Row<L, T> = lanes(|lane| cost * metric[lane]);
    let next: Row<L, T> = lanes(|lane| {
        let step = metric[lane] * gradient[lane] - clip(t[lane], threshold[lane]);
        (T::ONE - pull) * (t[lane] + two * step) + pull * anchor[lane]
    });
    (next, lanes(|lane| next[lane] - two * clip(next[lane], threshold[lane])))
}

/// Runs the same arithmetic with wider registers where the processor has them. No fused operations
/// are allowed in, so an iteration gives the same on every processor.
macro_rules! with_best_instructions {
    ([$($generics:tt)*] $number:ty, $(#[$doc:meta])* $name:ident => $body:ident($($argument:ident: $type:ty),*)) => {
        $(#[$doc])*
        pub(super) fn $name(&mut self, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512<$($generics)*>(splitting: &mut Splitting<'_, L, $number>, $($argument: $type),*) {
                    splitting.$body($($argument),*);
                }
                #[target_feature(enable = "avx2")]
                fn avx2<$($generics)*>(splitting: &mut Splitting<'_, L, $number>, $($argument: $type),*) {
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

impl<'a, const L: usize, T: Real> Splitting<'a, L, T> {
    pub(super) fn new(plan: &'a Plan, numbers: &'a Numbers<T>) -> Self {
        let length = 1 << plan.variables;
        let metric = Metric::start(plan.variables, &[0.0; L]);
        Self {
            plan,
            numbers,
            values: zeros(length),
            scale: [1.0; L],
            zeta: [T::ZERO; L],
            factor: numbers.symmetry.factor(&metric),
            rounded: metric.rounded(),
            metric,
            state: Point::zero(length),
            anchor: Point::zero(length),
            anchor_age: 0,
            iteration: 0,
            dual: zeros(length),
            and: zeros(length),
            or: zeros(length),
            spare: Point::zero(0),
        }
    }

    /// Puts problems into the lanes, from the start; unused lanes repeat the last one.
    pub(super) fn load(&mut self, group: &[&Problem]) {
        let of = |lane: usize| group[lane.min(group.len() - 1)];
        self.load_values(of);
        self.metric = Metric::start(self.plan.variables, &self.zeta.map(Real::wide));
        self.take_metric();
        // The anchor too: 0 times what another table left there need not be 0.
        for point in [&mut self.state, &mut self.anchor] {
            point.and.fill([T::ZERO; L]);
            point.or.fill([T::ZERO; L]);
            point.noise.fill([T::ZERO; L]);
        }
        (self.anchor_age, self.iteration) = (0, 0);
        self.prepare();
    }

    /// What follows from the metric.
    fn take_metric(&mut self) {
        self.factor = self.numbers.symmetry.factor(&self.metric);
        self.rounded = self.metric.rounded();
    }

    fn load_values<'p>(&mut self, of: impl Fn(usize) -> &'p Problem) {
        self.scale = lanes(|lane| of(lane).scale());
        self.scale = self.scale.map(|scale| if scale == 0.0 { 1.0 } else { scale });
        // Scaled values are at most 1, so more room than this changes nothing; it might overflow.
        self.zeta = lanes(|lane| T::of((of(lane).zeta / self.scale[lane]).min(MOST_ROOM)));
        for lane in 0..L {
            let (scale, values) = (self.scale[lane], &of(lane).values);
            for (row, value) in self.values.iter_mut().zip(values) {
                row[lane] = T::of(value / scale);
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

    /// Puts paused tables, all after the same number of iterations, into the lanes.
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
        self.take_metric();
        self.prepare();
    }

    with_best_instructions! {
        [const L: usize, T: Real] T,
        /// Iterates until `last` iterations are done.
        iterate_until => run(last: usize)
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
        let (orders, numbers, two) = (&self.plan.orders, self.numbers, T::of(2.0));
        for s in 0..orders.len() {
            let (d_and, d_or) = (&self.rounded.and[orders[s]], &self.rounded.or[orders[s]]);
            for lane in 0..L {
                let t = self.state.and[s][lane];
                self.and[s][lane] = t - two * clip(t, numbers.and_costs[s] * d_and[lane]);
                let t = self.state.or[s][lane];
                self.or[s][lane] = t - two * clip(t, numbers.or_costs[s] * d_or[lane]);
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
        self.dual[0] = [T::ZERO; L];
        let two = T::of(2.0);
        for s in 1..=full {
            let (x, y, t) = (self.and[s], self.or[full - s], self.state.noise[s]);
            let (v, zeta) = (self.values[s], self.zeta);
            self.dual[s] = lanes(|lane| {
                let noise = two * clip(t[lane], zeta[lane]) - t[lane];
                // O y (S) = Σ y − ζ(y)(N∖S).
                v[lane] - (x[lane] + (total[lane] - y[lane])) - noise
            });
        }
        self.numbers.symmetry.solve(&self.factor, &mut self.dual);
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
        let pull = T::of(if renew { 0.0 } else { 1.0 / self.anchor_age as f64 });
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
    fn advance_row(&mut self, s: usize, total: &Row<L, T>, reversed: &Row<L, T>, pull: T) {
        let Numbers { and_costs, or_costs, .. } = self.numbers;
        let (k, state, anchor) = (self.plan.orders[s], &mut self.state, &self.anchor);
        (state.and[s], self.and[s]) = advance_effect(
            state.and[s],
            self.and[s],
            anchor.and[s],
            (self.rounded.and[k], and_costs[s]),
            pull,
        );
        (state.or[s], self.or[s]) = advance_effect(
            state.or[s],
            lanes(|lane| total[lane] - reversed[lane]),
            anchor.or[s],
            (self.rounded.or[k], or_costs[s]),
            pull,
        );
        let (t, p, anchor) = (state.noise[s], self.dual[s], anchor.noise[s]);
        let (d, zeta, two) = (self.rounded.noise[k], self.zeta, T::of(2.0));
        state.noise[s] = lanes(|lane| {
            let moved = t[lane] + two * (d[lane] * p[lane] + clip(t[lane], zeta[lane]) - t[lane]);
            (T::ONE - pull) * moved + pull * anchor[lane]
        });
    }

    /// What a table has reached, for a crossover to start from.
    pub(super) fn iterate(&self, lane: usize) -> Iterate {
        let (orders, numbers) = (&self.plan.orders, self.numbers);
        let shrink = |t: &[Row<L, T>], costs: &[T], d: &[Row<L, T>]| -> Vec<f64> {
            let size = |s: usize| costs[s] * d[orders[s]][lane];
            let of = |s: usize| (t[s][lane] - clip(t[s][lane], size(s))).wide() * self.scale[lane];
            (0..orders.len()).map(of).collect()
        };
        let dual = |s: usize| {
            let t = self.state.noise[s][lane];
            (t - clip(t, self.zeta[lane])).wide() / self.metric.noise[orders[s]][lane]
        };
        Iterate {
            effects: Interactions {
                and: shrink(&self.state.and, &numbers.and_costs, &self.rounded.and),
                or: shrink(&self.state.or, &numbers.or_costs, &self.rounded.or),
            },
            dual: (0..orders.len()).map(|s| if s == 0 { 0.0 } else { dual(s) }).collect(),
        }
    }
}

impl<const L: usize> Splitting<'_, L, f64> {
    with_best_instructions! {
        [const L: usize] f64,
        /// Improves the best answers: `best[lane]` is skipped where it is `None`.
        improve => improve_answers(best: &mut [Option<&mut Best>])
    }
}
