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
//! side, each with its own metric. Every table gets the same number of iterations, and more only
//! while its gap is not reached.

use super::certificate::Certificate;
use super::problem::{Costs, Problem};
use super::settings::Settings;
use super::symmetry::{Factor, Metric, Symmetry};
use crate::interaction::Interactions;
use crate::interaction::subset::order;
use crate::interaction::transform::{Row, moebius, or, or_inverse, zeta, zeta_adjoint};
use rayon::prelude::*;

/// What the history records as the solver of a run.
pub const SOLVER_NAME: &str = "halpern-peaceman-rachford";
/// Raised whenever a change can move an answer beyond its stated tolerance.
pub const SOLVER_VERSION: u32 = 1;

/// Tables that are solved side by side.
const LANES: usize = 8;
type Lane = Row<LANES>;

/// Metric before adaptation: D_x = 0.02·2^(−0.3(|T| − n/2)), D_y = 0.02, D_δ = ζ/scale clipped from
/// below at 1e-4 (the values that the prototype found best).
const METRIC_START: f64 = 0.02;
const METRIC_DECAY: f64 = 0.3;
const LEAST_NOISE_METRIC: f64 = 1e-4;
/// Iterations at which the metric is adapted, how far a step goes (in logarithms), how much each
/// order counts against its whole block, and the pseudo-count that keeps empty orders near the block.
const ADAPT_AT: [usize; 2] = [40, 80];
const ADAPT_DAMPING: f64 = 0.7;
const ADAPT_BY_ORDER: f64 = 0.6;
const ADAPT_SHRINK: f64 = 0.02;
const ADAPT_FACTOR: f64 = 0.5;
/// Halpern's anchor is renewed after max(30, 0.3·k) iterations.
const LEAST_ANCHOR_AGE: usize = 30;
const ANCHOR_AGE_SHARE: f64 = 0.3;
/// Beyond the common schedule a table is looked at again after 15 % more iterations.
const CHECK_GROWTH: f64 = 1.15;
/// Rounds of clipping and projecting that tighten the dual before it is scaled.
const DUAL_ROUNDS: usize = 10;

/// How a table ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The certificate proves a gap of at most the wanted one.
    Certified,
    /// The iterations ran out first: the answer is feasible and carries its true gap, no more.
    GapNotReached,
}

/// One answer with its certificate.
#[derive(Clone, Debug)]
pub struct Solution {
    /// The AND-OR effects, in units of v.
    pub effects: Interactions,
    /// The dual vector p behind the bound, length 2^n, without unit.
    pub dual: Vec<f64>,
    /// Computed from `effects` and `dual` alone.
    pub certificate: Certificate,
    /// Iterations spent.
    pub iterations: usize,
    /// Whether the wanted gap is proven.
    pub status: Status,
}

/// Everything that tables of n variables share.
pub struct Solver {
    variables: usize,
    settings: Settings,
    costs: Costs,
    symmetry: Symmetry,
    orders: Vec<usize>,
}

impl Solver {
    /// Prepares for tables of n variables.
    pub fn new(variables: usize, settings: Settings) -> Self {
        Self {
            variables,
            settings,
            costs: Costs::canonical(variables),
            symmetry: Symmetry::new(variables),
            orders: (0..1usize << variables).map(order).collect(),
        }
    }

    /// The canonical costs, for whoever wants to check an answer.
    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// Number of variables n.
    pub fn variables(&self) -> usize {
        self.variables
    }

    /// Solves all problems, in parallel over groups of eight on the current rayon pool. An answer
    /// does not depend on its neighbours.
    ///
    /// # Panics
    /// When a problem has another number of variables.
    pub fn solve(&self, problems: &[Problem]) -> Vec<Solution> {
        let fits = problems.iter().all(|problem| problem.variables == self.variables);
        assert!(fits, "every problem has {} variables", self.variables);
        problems.par_chunks(LANES).flat_map_iter(|group| self.solve_group(group)).collect()
    }

    fn solve_group(&self, group: &[Problem]) -> Vec<Solution> {
        let mut batch = Batch::new(self, group);
        batch.run_with_best_instructions();
        let answers = batch.answers.into_iter().zip(group);
        answers.map(|(answer, problem)| self.certify(problem, answer)).collect()
    }

    fn certify(&self, problem: &Problem, answer: Answer) -> Solution {
        let Answer { effects, dual, iterations, .. } = answer;
        let certificate = Certificate::check(problem, &self.costs, &effects, &dual);
        let reached = certificate.gap() <= self.settings.gap;
        let status = if reached { Status::Certified } else { Status::GapNotReached };
        Solution { effects, dual, certificate, iterations, status }
    }
}

/// The best feasible effects and the best dual of one table so far, in its own units.
struct Answer {
    effects: Interactions,
    objective: f64,
    dual: Vec<f64>,
    bound: f64,
    iterations: usize,
    finished: bool,
}

/// A point w = (x, y, δ) or t of all lanes.
#[derive(Clone)]
struct Point {
    and: Vec<Lane>,
    or: Vec<Lane>,
    noise: Vec<Lane>,
}

impl Point {
    fn zero(length: usize) -> Self {
        let zeros = vec![[0.0; LANES]; length];
        Self { and: zeros.clone(), or: zeros.clone(), noise: zeros }
    }
}

/// Eight tables on their way.
struct Batch<'a> {
    solver: &'a Solver,
    /// v(S) − v(∅), scaled.
    values: Vec<Lane>,
    scale: Lane,
    zeta: Lane,
    metric: Metric<LANES>,
    factor: Factor<LANES>,
    state: Point,
    anchor: Option<Point>,
    anchor_age: usize,
    iteration: usize,
    dual: Vec<Lane>,
    scratch: Point,
    answers: Vec<Answer>,
}

#[inline(always)]
fn lanes(f: impl FnMut(usize) -> f64) -> Lane {
    std::array::from_fn(f)
}

/// `x` clipped to ±`bound`; written with comparisons that compile to vector minima and maxima.
#[inline(always)]
fn clip(x: f64, bound: f64) -> f64 {
    let upper = if x < bound { x } else { bound };
    if upper > -bound { upper } else { -bound }
}

impl<'a> Batch<'a> {
    fn new(solver: &'a Solver, group: &[Problem]) -> Self {
        let length = 1 << solver.variables;
        let of = |lane: usize| &group[lane.min(group.len() - 1)];
        let scale = lanes(|lane| match of(lane).scale() {
            0.0 => 1.0,
            scale => scale,
        });
        let zeta = lanes(|lane| of(lane).zeta / scale[lane]);
        let values = (0..length).map(|s| lanes(|lane| of(lane).values[s] / scale[lane])).collect();
        let metric = starting_metric(solver.variables, &zeta);
        let answer = |_: &Problem| Answer {
            effects: Interactions { and: vec![0.0; length], or: vec![0.0; length] },
            objective: f64::INFINITY,
            dual: vec![0.0; length],
            bound: 0.0,
            iterations: 0,
            finished: false,
        };
        Self {
            factor: solver.symmetry.factor(&metric),
            solver,
            values,
            scale,
            zeta,
            metric,
            state: Point::zero(length),
            anchor: None,
            anchor_age: 0,
            iteration: 0,
            dual: vec![[0.0; LANES]; length],
            scratch: Point::zero(length),
            answers: group.iter().map(answer).collect(),
        }
    }

    /// Runs the same arithmetic with wider registers where the processor has them. No fused
    /// operations are allowed in, so the result is the same everywhere.
    fn run_with_best_instructions(&mut self) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn run_avx2(batch: &mut Batch<'_>) {
                batch.run();
            }
            if std::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor was just asked for AVX2.
                return unsafe { run_avx2(self) };
            }
        }
        self.run();
    }

    #[inline(always)]
    fn run(&mut self) {
        let Settings { iterations, most_iterations, .. } = self.solver.settings;
        let mut next_check = iterations.max(1);
        loop {
            self.iteration += 1;
            self.evaluate_dual();
            if self.iteration >= next_check {
                self.improve_dual();
                self.repair_primal();
                if self.finish_lanes() || self.iteration >= most_iterations {
                    return;
                }
                next_check = (self.iteration as f64 * CHECK_GROWTH).ceil() as usize;
                next_check = next_check.min(most_iterations);
            }
            self.reflect();
            self.pull_to_anchor();
            if ADAPT_AT.contains(&self.iteration) {
                self.adapt_metric();
            }
        }
    }

    /// p = H⁻¹ (v − K(2z − t)), with 2z − t = t − 2·clip(t, c·D) for x and y.
    #[inline(always)]
    fn evaluate_dual(&mut self) {
        let Solver { costs, orders, .. } = self.solver;
        for s in 0..orders.len() {
            let (d_and, d_or) = (&self.metric.and[orders[s]], &self.metric.or[orders[s]]);
            for lane in 0..LANES {
                let t = self.state.and[s][lane];
                self.scratch.and[s][lane] = t - 2.0 * clip(t, costs.and[s] * d_and[lane]);
                let t = self.state.or[s][lane];
                self.scratch.or[s][lane] = t - 2.0 * clip(t, costs.or[s] * d_or[lane]);
                let t = self.state.noise[s][lane];
                self.scratch.noise[s][lane] = 2.0 * clip(t, self.zeta[lane]) - t;
            }
        }
        self.residual_of_scratch();
        self.solver.symmetry.solve(&self.factor, &mut self.dual);
    }

    /// dual ← v − K·scratch (0 at ∅); destroys scratch.
    #[inline(always)]
    fn residual_of_scratch(&mut self) {
        zeta(&mut self.scratch.and);
        or(&mut self.scratch.or);
        for s in 1..self.dual.len() {
            for lane in 0..LANES {
                self.dual[s][lane] = self.values[s][lane]
                    - (self.scratch.and[s][lane] + self.scratch.or[s][lane])
                    - self.scratch.noise[s][lane];
            }
        }
        self.dual[0] = [0.0; LANES];
    }

    /// scratch ← Kᵀ p.
    #[inline(always)]
    fn adjoint_into_scratch(&mut self) {
        self.scratch.and.copy_from_slice(&self.dual);
        self.scratch.or.copy_from_slice(&self.dual);
        self.scratch.noise.copy_from_slice(&self.dual);
        zeta_adjoint(&mut self.scratch.and);
        or(&mut self.scratch.or);
    }

    /// t ← T(t) = t + 2 (z − t + D Kᵀ p), with z − t = −clip(t, c·D) for x and y.
    #[inline(always)]
    fn reflect(&mut self) {
        self.adjoint_into_scratch();
        let Solver { costs, orders, .. } = self.solver;
        for s in 1..orders.len() {
            let k = orders[s];
            let (d_and, d_or) = (&self.metric.and[k], &self.metric.or[k]);
            for lane in 0..LANES {
                let t = self.state.and[s][lane];
                let step = d_and[lane] * self.scratch.and[s][lane];
                self.state.and[s][lane] = t + 2.0 * (step - clip(t, costs.and[s] * d_and[lane]));
                let t = self.state.or[s][lane];
                let step = d_or[lane] * self.scratch.or[s][lane];
                self.state.or[s][lane] = t + 2.0 * (step - clip(t, costs.or[s] * d_or[lane]));
                let t = self.state.noise[s][lane];
                let step = self.metric.noise[k][lane] * self.scratch.noise[s][lane];
                self.state.noise[s][lane] = t + 2.0 * (step + clip(t, self.zeta[lane]) - t);
            }
        }
    }

    /// t ← t₀/(h+1) + h/(h+1)·t, with a new anchor t₀ when the old one has aged.
    #[inline(always)]
    fn pull_to_anchor(&mut self) {
        let Some(anchor) = &self.anchor else {
            self.anchor = Some(self.state.clone());
            self.anchor_age = 0;
            return;
        };
        self.anchor_age += 1;
        let pull = 1.0 / (self.anchor_age as f64 + 1.0);
        let blend = |state: &mut [Lane], anchor: &[Lane]| {
            for (t, t0) in state.iter_mut().zip(anchor) {
                for lane in 0..LANES {
                    t[lane] = (1.0 - pull) * t[lane] + pull * t0[lane];
                }
            }
        };
        blend(&mut self.state.and, &anchor.and);
        blend(&mut self.state.or, &anchor.or);
        blend(&mut self.state.noise, &anchor.noise);
        let oldest = (self.iteration as f64 * ANCHOR_AGE_SHARE) as usize;
        if self.anchor_age >= oldest.max(LEAST_ANCHOR_AGE) {
            self.anchor = None;
        }
    }

    /// Keeps the best dual of each lane, first as it is, then after rounds that alternately clip
    /// Kᵀp into the feasible box and project back onto the range of Kᵀ in the metric.
    #[inline(always)]
    fn improve_dual(&mut self) {
        let Solver { costs, orders, .. } = self.solver;
        let iterate = self.dual.clone();
        for round in 0..=DUAL_ROUNDS {
            self.adjoint_into_scratch();
            self.keep_better_dual();
            if round == DUAL_ROUNDS {
                break;
            }
            for s in 0..orders.len() {
                let k = orders[s];
                for lane in 0..LANES {
                    let x = clip(self.scratch.and[s][lane], costs.and[s]);
                    self.scratch.and[s][lane] = self.metric.and[k][lane] * x;
                    let y = clip(self.scratch.or[s][lane], costs.or[s]);
                    self.scratch.or[s][lane] = self.metric.or[k][lane] * y;
                    self.scratch.noise[s][lane] *= self.metric.noise[k][lane];
                }
            }
            zeta(&mut self.scratch.and);
            or(&mut self.scratch.or);
            for s in 1..orders.len() {
                for lane in 0..LANES {
                    self.dual[s][lane] = self.scratch.and[s][lane]
                        + self.scratch.or[s][lane]
                        + self.scratch.noise[s][lane];
                }
            }
            self.dual[0] = [0.0; LANES];
            self.solver.symmetry.solve(&self.factor, &mut self.dual);
        }
        self.dual = iterate;
    }

    /// Compares each lane's dual (with Kᵀp in scratch) with its best bound.
    #[inline(always)]
    fn keep_better_dual(&mut self) {
        let Solver { costs, orders, .. } = self.solver;
        let (mut excess, mut gain) = ([0.0f64; LANES], [0.0; LANES]);
        for s in 1..orders.len() {
            for lane in 0..LANES {
                let p = self.dual[s][lane];
                gain[lane] += p * self.values[s][lane] - self.zeta[lane] * p.abs();
                excess[lane] = excess[lane].max(self.scratch.and[s][lane].abs() / costs.and[s]);
                if orders[s] > 1 {
                    excess[lane] = excess[lane].max(self.scratch.or[s][lane].abs() / costs.or[s]);
                }
            }
        }
        for (lane, answer) in self.answers.iter_mut().enumerate() {
            let bound = gain[lane] / excess[lane];
            if !answer.finished && bound > answer.bound {
                answer.bound = bound;
                for (kept, row) in answer.dual.iter_mut().zip(&self.dual) {
                    *kept = row[lane];
                }
            }
        }
    }

    /// Makes z feasible: one projection onto K w = v in the metric, then what still exceeds ζ goes
    /// into AND effects where |S| ≥ n/2 and into OR effects below. Keeps the best of each lane.
    #[inline(always)]
    fn repair_primal(&mut self) {
        let Solver { costs, orders, variables, .. } = self.solver;
        let iterate = self.dual.clone();
        let (mut x, mut y) = (self.state.and.clone(), self.state.or.clone());
        for s in 0..orders.len() {
            let k = orders[s];
            for lane in 0..LANES {
                x[s][lane] -= clip(x[s][lane], costs.and[s] * self.metric.and[k][lane]);
                y[s][lane] -= clip(y[s][lane], costs.or[s] * self.metric.or[k][lane]);
                self.scratch.noise[s][lane] = clip(self.state.noise[s][lane], self.zeta[lane]);
            }
        }
        self.scratch.and.copy_from_slice(&x);
        self.scratch.or.copy_from_slice(&y);
        self.residual_of_scratch();
        self.solver.symmetry.solve(&self.factor, &mut self.dual);
        self.adjoint_into_scratch();
        for s in 1..orders.len() {
            let k = orders[s];
            for lane in 0..LANES {
                x[s][lane] += self.metric.and[k][lane] * self.scratch.and[s][lane];
                y[s][lane] += self.metric.or[k][lane] * self.scratch.or[s][lane];
            }
        }
        self.scratch.and.copy_from_slice(&x);
        self.scratch.or.copy_from_slice(&y);
        self.scratch.noise.fill([0.0; LANES]);
        self.residual_of_scratch();
        for s in 0..orders.len() {
            let high = 2 * orders[s] >= *variables;
            for lane in 0..LANES {
                let residual = self.dual[s][lane];
                let excess = residual - clip(residual, self.zeta[lane]);
                self.scratch.and[s][lane] = if high { excess } else { 0.0 };
                self.scratch.or[s][lane] = if high { 0.0 } else { excess };
            }
        }
        moebius(&mut self.scratch.and);
        or_inverse(&mut self.scratch.or);
        for s in 1..orders.len() {
            for lane in 0..LANES {
                x[s][lane] += self.scratch.and[s][lane];
                let spill = self.scratch.or[s][lane];
                if orders[s] == 1 { x[s][lane] += spill } else { y[s][lane] += spill }
            }
        }
        self.dual = iterate;
        self.keep_better_primal(&x, &y);
    }

    #[inline(always)]
    fn keep_better_primal(&mut self, x: &[Lane], y: &[Lane]) {
        let Solver { costs, orders, .. } = self.solver;
        let mut objective = [0.0; LANES];
        for s in 1..orders.len() {
            for lane in 0..LANES {
                objective[lane] += costs.and[s] * x[s][lane].abs() + costs.or[s] * y[s][lane].abs();
            }
        }
        for (lane, answer) in self.answers.iter_mut().enumerate() {
            if !answer.finished && objective[lane] < answer.objective {
                answer.objective = objective[lane];
                for s in 1..orders.len() {
                    answer.effects.and[s] = x[s][lane] * self.scale[lane];
                    answer.effects.or[s] = y[s][lane] * self.scale[lane];
                }
            }
        }
    }

    /// Freezes the lanes whose gap is reached; says whether all are.
    fn finish_lanes(&mut self) -> bool {
        let (iteration, gap) = (self.iteration, self.solver.settings.gap);
        for answer in self.answers.iter_mut().filter(|answer| !answer.finished) {
            answer.iterations = iteration;
            answer.finished = answer.objective - answer.bound <= gap * answer.objective;
        }
        self.answers.iter().all(|answer| answer.finished)
    }

    /// Moves D, per order and block, towards the ratio of the sizes of z and of its dual, and t with
    /// it so that z and the dual stay where they are.
    fn adapt_metric(&mut self) {
        self.anchor = None;
        for lane in 0..LANES {
            self.adapt_lane(lane);
        }
        self.factor = self.solver.symmetry.factor(&self.metric);
    }

    fn adapt_lane(&mut self, lane: usize) {
        let Solver { costs, orders, variables, .. } = self.solver;
        let Self { metric, state, zeta, .. } = self;
        let zeta = zeta[lane];
        let threshold = |costs: &[f64], d: &[Lane], s: usize| costs[s] * d[orders[s]][lane];
        // (primal, dual) parts of t in each block.
        let split_and = |metric: &Metric<LANES>, s: usize, t: f64| {
            let u = clip(t, threshold(&costs.and, &metric.and, s));
            (t - u, u / metric.and[orders[s]][lane])
        };
        let split_or = |metric: &Metric<LANES>, s: usize, t: f64| {
            let u = clip(t, threshold(&costs.or, &metric.or, s));
            (t - u, u / metric.or[orders[s]][lane])
        };
        let split_noise = |metric: &Metric<LANES>, s: usize, t: f64| {
            let z = clip(t, zeta);
            (z, (t - z) / metric.noise[orders[s]][lane])
        };
        let n = *variables;
        let first_or = (1..orders.len()).filter(|&s| orders[s] > 1);
        let old =
            Metric { and: metric.and.clone(), or: metric.or.clone(), noise: metric.noise.clone() };
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

fn starting_metric(n: usize, zeta: &Lane) -> Metric<LANES> {
    let from_middle = |k: usize| k as f64 - n as f64 / 2.0;
    let and = (0..=n).map(|k| match k {
        0 => [0.0; LANES],
        _ => [METRIC_START * f64::powf(2.0, -METRIC_DECAY * from_middle(k)); LANES],
    });
    let or = (0..=n).map(|k| if k < 2 { [0.0; LANES] } else { [METRIC_START; LANES] });
    let noise = (0..=n).map(|k| match k {
        // ∅ is no constraint: H is 1 there and decouples.
        0 => [1.0; LANES],
        _ => lanes(|lane| zeta[lane].max(LEAST_NOISE_METRIC)),
    });
    Metric { and: and.collect(), or: or.collect(), noise: noise.collect() }
}

/// Squared sizes of the primal and dual parts of one block, by order.
struct Sizes {
    primal: Vec<f64>,
    dual: Vec<f64>,
    count: Vec<f64>,
}

impl Sizes {
    fn new(n: usize) -> Self {
        let zeros = vec![0.0; n + 1];
        Self { primal: zeros.clone(), dual: zeros.clone(), count: zeros }
    }

    fn add(&mut self, order: usize, (primal, dual): (f64, f64)) {
        self.primal[order] += primal * primal;
        self.dual[order] += dual * dual;
        self.count[order] += 1.0;
    }

    fn adapt(&self, first_order: usize, metric: &mut [Lane], lane: usize) {
        let (primal, dual) = (self.primal.iter().sum::<f64>(), self.dual.iter().sum::<f64>());
        let subsets = f64::powi(2.0, self.primal.len() as i32 - 1);
        let block = (primal / dual.max(1e-30)).sqrt();
        for (k, row) in metric.iter_mut().enumerate().skip(first_order) {
            let share = ADAPT_SHRINK * self.count[k] / subsets;
            let own = (self.primal[k] + share * primal) / (self.dual[k] + share * dual).max(1e-30);
            let target = block.ln() * (1.0 - ADAPT_BY_ORDER) + own.sqrt().ln() * ADAPT_BY_ORDER;
            let step = (ADAPT_FACTOR * target.exp() / row[lane]).powf(ADAPT_DAMPING);
            if step.is_finite() {
                row[lane] *= step.clamp(0.1, 10.0);
            }
        }
    }
}
