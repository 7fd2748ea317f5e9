//! From a near-optimal point to an optimal vertex: a parametric self-dual simplex method.
//!
//! A vertex is given by tight rows E with signs ε and active columns B with signs σ, as many as rows:
//!
//! ```text
//! K_EB w_B = v_E − ε ζ          K_EBᵀ p_E = σ c_B
//! optimal:  σ w ≥ 0,  ε p ≥ 0,  |v − K w| ≤ ζ,  |Kᵀp| ≤ c
//! ```
//!
//! The near-optimal point suggests E and B. Right-hand side and costs are shifted so that this first
//! basis is optimal with room on all sides; then the shift θ goes from 1 to 0. Wherever a condition
//! would break, one exchange of the basis restores it: what breaks in the primal is found on the dual
//! side and the other way round. At θ = 0 the basis is optimal for the problem itself. The shifts
//! carry random margins from a fixed seed, so ties are rare and the path is the same every time.
//!
//! The optimal vertex is seldom the only one: columns outside the basis whose |Kᵀp| equals their cost
//! could take part for nothing. Exchanges among these, each one a step that lowers the second costs
//! ([`Costs::second`]), end at the one canonical answer, wherever they began.

mod basis;
mod exchange;
mod image;
mod path;

use super::problem::{Costs, Problem};
use crate::interaction::Interactions;
use crate::interaction::subset::order;
use crate::interaction::transform::Row;
use basis::Basis;
use exchange::Exchange;
use image::{apply, apply_transposed};
use path::Path;

/// Shares of ζ and c within which the margins of the start lie.
const ROW_MARGIN: f64 = 0.02;
const COLUMN_MARGIN: f64 = 0.01;
/// Exchanges after which the inverse is computed afresh.
const REFRESH: usize = 150;
/// How exactly a fit must give the values, relative to the largest, and how many rows it must have for
/// each column: what fits by having as many effects as values explains nothing.
const EXACT_FIT: f64 = 1e-11;
const LEAST_ROWS_A_COLUMN: usize = 4;
/// Entries of the matrix of a fit, at most: 32 MiB.
const MOST_FITTED: usize = 1 << 22;
/// Rows or columns that a first basis is chosen from, for each one of it: the most wanted.
const MOST_CANDIDATES: usize = 4;
/// Bytes that the matrix library keeps for packing on each thread, by its cache sizes: 4.4 MB here.
const PACKING: usize = 8 << 20;
/// Weight of the least wanted row or column of the first basis.
const LEAST_WEIGHT: f64 = 1e-2;
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// When a crossover gives up.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Exchanges.
    pub(super) pivots: usize,
    /// Tight rows at the start; a quarter more may come on the way.
    pub(super) basis: usize,
}

/// An optimal vertex.
pub(super) struct Vertex {
    pub(super) effects: Interactions,
    pub(super) dual: Vec<f64>,
    /// Exchanges that it took.
    pub(super) pivots: usize,
}

/// Buffers for tables of one size, used again for every table.
pub(super) struct Crossover {
    length: usize,
    basis: Basis,
    /// Signs σ of the basic columns and ε of the tight rows.
    column_signs: Vec<f64>,
    row_signs: Vec<f64>,
    /// The scaled table; ζ by row and costs by column, 0 where there is no row or column.
    values: Vec<f64>,
    zetas: Vec<f64>,
    costs: Vec<f64>,
    second_costs: Vec<f64>,
    /// Shifts of the values and of the costs at θ = 1.
    value_shift: Vec<f64>,
    cost_shift: Vec<f64>,
    /// w_B, v − K w, p_E, Kᵀp.
    effects: Path,
    residual: Path,
    dual: Path,
    reduced: Path,
    /// Directions over the basis and their images over all rows and columns.
    on_columns: Vec<f64>,
    on_rows: Vec<f64>,
    image_on_rows: Vec<f64>,
    image_on_columns: Vec<f64>,
    spare: Vec<f64>,
    times: Vec<f64>,
    table: Vec<Row<2>>,
}

impl Crossover {
    pub(super) fn new(variables: usize, costs: &Costs) -> Self {
        let length = 1usize << variables;
        let mut all = [&costs.and[..], &costs.or[..]].concat();
        for column in 0..2 * length {
            let least = if column < length { 1 } else { 2 };
            if order(column % length) < least {
                all[column] = 0.0;
            }
        }
        Self {
            length,
            basis: Basis::default(),
            column_signs: Vec::new(),
            row_signs: Vec::new(),
            values: vec![0.0; length],
            zetas: vec![0.0; length],
            costs: all,
            second_costs: costs.second.concat(),
            value_shift: vec![0.0; length],
            cost_shift: vec![0.0; 2 * length],
            effects: Path::default(),
            residual: Path::default(),
            dual: Path::default(),
            reduced: Path::default(),
            on_columns: Vec::new(),
            on_rows: Vec::new(),
            image_on_rows: vec![0.0; length],
            image_on_columns: vec![0.0; 2 * length],
            spare: Vec::new(),
            times: Vec::new(),
            table: vec![[0.0; 2]; length],
        }
    }

    /// Bytes of the buffers with a basis of the given size: the inverse with its margin, what computing
    /// it afresh takes (the transpose, its factors, the inverse), the matrix of the first choice or of a
    /// fit with its factors, and what the matrix products keep for packing.
    pub(super) fn bytes(variables: usize, basis: usize) -> usize {
        let margin = basis + basis / 4;
        let chosen = 2 * MOST_CANDIDATES * basis * basis;
        let fitted = if basis == 0 { 0 } else { 2 * MOST_FITTED.min(1 << (2 * variables)) };
        let matrices = margin * margin + 3 * basis * basis + chosen.max(fitted);
        size_of::<f64>() * ((20 << variables) + matrices) + PACKING
    }

    /// Finds an optimal vertex from a near-optimal sparse point (effects in units of v, dual), or
    /// `None` where the exchanges run out or the arithmetic fails: the caller then keeps what it has.
    pub(super) fn solve(
        &mut self,
        problem: &Problem,
        near: &Interactions,
        dual: &[f64],
        limits: Limits,
    ) -> Option<Vertex> {
        #[cfg(target_arch = "x86_64")]
        {
            type Call<'a> = (&'a mut Crossover, &'a Problem, &'a Interactions, &'a [f64], Limits);
            #[target_feature(enable = "avx512f")]
            fn avx512(call: Call<'_>) -> Option<Vertex> {
                call.0.run(call.1, call.2, call.3, call.4)
            }
            #[target_feature(enable = "avx2")]
            fn avx2(call: Call<'_>) -> Option<Vertex> {
                call.0.run(call.1, call.2, call.3, call.4)
            }
            if std::is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor was just asked for AVX-512.
                return unsafe { avx512((self, problem, near, dual, limits)) };
            }
            if std::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor was just asked for AVX2.
                return unsafe { avx2((self, problem, near, dual, limits)) };
            }
        }
        self.run(problem, near, dual, limits)
    }

    #[inline(always)]
    fn run(
        &mut self,
        problem: &Problem,
        near: &Interactions,
        dual: &[f64],
        limits: Limits,
    ) -> Option<Vertex> {
        let scale = problem.scale();
        // Without room for noise every row is tight and the vertex degenerate.
        if problem.zeta == 0.0 {
            return None;
        }
        self.start(problem, scale, near, dual);
        let (mut theta, mut pivots, mut fresh) = (1.0, 0, 0);
        loop {
            let event = if theta > 0.0 { self.first_event(theta) } else { self.worst_tie() };
            match event {
                Some((event, at)) => {
                    theta = at;
                    match self.exchange(event, theta)? {
                        Exchange::Done => (pivots, fresh) = (pivots + 1, fresh + 1),
                        Exchange::Drifted if fresh == 0 => return None,
                        Exchange::Drifted => fresh = REFRESH,
                    }
                }
                None if theta > 0.0 => {
                    theta = 0.0;
                    self.weigh_ties();
                }
                None => return Some(self.vertex(scale, pivots)),
            }
            if pivots >= limits.pivots || self.basis.size() > limits.basis + limits.basis / 4 {
                return None;
            }
            if fresh >= REFRESH {
                self.basis.invert();
                self.recompute();
                if theta == 0.0 {
                    self.weigh_ties();
                }
                fresh = 0;
            }
        }
    }

    /// Effects on the near-optimal support alone that give every value exactly, where there are such:
    /// without noise a sparse game is found so to the last digit.
    pub(super) fn fit(&mut self, problem: &Problem, near: &Interactions) -> Option<Interactions> {
        let (length, scale) = (self.length, problem.scale());
        let effect = |column: usize| near_effect(near, column) / scale;
        let support = (0..2 * length).filter(|&c| self.costs[c] > 0.0 && effect(c) != 0.0);
        let columns: Vec<usize> = support.collect();
        if columns.is_empty()
            || columns.len() > length / LEAST_ROWS_A_COLUMN
            || columns.len() * length > MOST_FITTED
        {
            return None;
        }
        for (value, v) in self.values.iter_mut().zip(&problem.values) {
            *value = v / scale;
        }
        let columns = most_wanted_first(columns, &|c| effect(c).abs());
        let rows = ((1..length).collect(), vec![1.0; length - 1]);
        self.basis.choose(length, rows, columns);
        let Basis { rows, columns, .. } = &self.basis;
        self.spare.clear();
        self.spare.extend(rows.iter().map(|&s| self.values[s]));
        self.basis.solve(&self.spare, &mut self.effects.at_zero);
        apply(&mut self.table, columns, &self.effects.at_zero, &mut self.image_on_rows);
        let misses = self.values.iter().zip(&self.image_on_rows);
        let worst = misses.map(|(v, image)| (v - image).abs()).fold(0.0, f64::max);
        (worst <= EXACT_FIT).then(|| self.vertex(scale, 0).effects)
    }

    /// The first basis, and the shifts that make it optimal at θ = 1.
    #[inline(always)]
    fn start(&mut self, problem: &Problem, scale: f64, near: &Interactions, dual: &[f64]) {
        let length = self.length;
        let zeta = problem.zeta / scale;
        self.zetas[1..].fill(zeta);
        for (value, v) in self.values.iter_mut().zip(&problem.values) {
            *value = v / scale;
        }
        let effect = |column: usize| near_effect(near, column) / scale;
        let columns = (0..2 * length).filter(|&c| self.costs[c] > 0.0 && effect(c) != 0.0);
        let columns = most_wanted_first(columns.collect(), &|c| effect(c).abs());
        let rows = (1..length).filter(|&s| dual[s] != 0.0);
        let rows = most_wanted_first(rows.collect(), &|s| dual[s].abs());
        let few = rows.0.len().min(columns.0.len());
        let [rows, columns] = [rows, columns].map(|(mut indices, mut weights)| {
            indices.truncate(MOST_CANDIDATES * few);
            weights.truncate(MOST_CANDIDATES * few);
            (indices, weights)
        });
        self.basis.choose(length, rows, columns);
        let Basis { rows, columns, .. } = &self.basis;
        self.column_signs = columns.iter().map(|&c| effect(c).signum()).collect();
        self.row_signs = rows.iter().map(|&s| dual[s].signum()).collect();
        // The point at θ = 1: the near effects and duals of the basis, and what follows from them.
        let effects: Vec<f64> = columns.iter().map(|&c| effect(c)).collect();
        let duals: Vec<f64> = rows.iter().map(|&s| dual[s]).collect();
        let mut random = fastrand::Rng::with_seed(SEED);
        apply(&mut self.table, columns, &effects, &mut self.image_on_rows);
        for s in 1..length {
            let residual = self.values[s] - self.image_on_rows[s];
            let bound = zeta * (1.0 - ROW_MARGIN * random.f64());
            self.value_shift[s] = residual.clamp(-bound, bound) - residual;
        }
        for (&s, sign) in rows.iter().zip(&self.row_signs) {
            self.value_shift[s] = sign * zeta - (self.values[s] - self.image_on_rows[s]);
        }
        apply_transposed(&mut self.table, rows, &duals, &mut self.image_on_columns);
        for c in 0..2 * length {
            let bound = self.costs[c] * (1.0 - COLUMN_MARGIN * random.f64());
            let reduced = self.image_on_columns[c];
            self.cost_shift[c] = reduced.clamp(-bound, bound) - reduced;
        }
        for (&c, sign) in columns.iter().zip(&self.column_signs) {
            self.cost_shift[c] = sign * self.costs[c] - self.image_on_columns[c];
        }
        self.recompute();
    }

    /// Everything that follows from the basis and the shifts.
    #[inline(always)]
    fn recompute(&mut self) {
        let Basis { rows, columns, .. } = &self.basis;
        let right = rows.iter().zip(&self.row_signs);
        self.spare.clear();
        self.spare.extend(right.map(|(&s, sign)| self.values[s] - sign * self.zetas[s]));
        self.basis.solve(&self.spare, &mut self.effects.at_zero);
        self.spare.clear();
        self.spare.extend(rows.iter().map(|&s| self.value_shift[s]));
        self.basis.solve(&self.spare, &mut self.effects.rate);
        let costs = columns.iter().zip(&self.column_signs);
        self.spare.clear();
        self.spare.extend(costs.map(|(&c, sign)| self.costs[c] * sign));
        self.basis.solve_transposed(&self.spare, &mut self.dual.at_zero);
        self.spare.clear();
        self.spare.extend(columns.iter().map(|&c| -self.cost_shift[c]));
        self.basis.solve_transposed(&self.spare, &mut self.dual.rate);
        let image = &mut self.image_on_rows;
        for (effects, from, out) in [
            (&self.effects.at_zero, &self.values, &mut self.residual.at_zero),
            (&self.effects.rate, &self.value_shift, &mut self.residual.rate),
        ] {
            apply(&mut self.table, columns, effects, image);
            out.clear();
            out.extend(from.iter().zip(image.iter()).map(|(v, image)| v - image));
        }
        let image = &mut self.image_on_columns;
        apply_transposed(&mut self.table, rows, &self.dual.at_zero, image);
        self.reduced.at_zero.clone_from(image);
        apply_transposed(&mut self.table, rows, &self.dual.rate, image);
        self.reduced.rate.clear();
        let shifted = image.iter().zip(&self.cost_shift);
        self.reduced.rate.extend(shifted.map(|(image, shift)| image + shift));
        for (&s, sign) in rows.iter().zip(&self.row_signs) {
            self.residual.set(s, sign * self.zetas[s]);
        }
        self.residual.set(0, 0.0);
        for (&c, sign) in columns.iter().zip(&self.column_signs) {
            self.reduced.set(c, sign * self.costs[c]);
        }
        for c in [0, self.length] {
            self.reduced.set(c, 0.0);
        }
        for bit in 0..self.length.trailing_zeros() {
            self.reduced.set(self.length + (1 << bit), 0.0);
        }
    }

    fn vertex(&self, scale: f64, pivots: usize) -> Vertex {
        let mut effects = Interactions { and: vec![0.0; self.length], or: vec![0.0; self.length] };
        for (&column, effect) in self.basis.columns.iter().zip(&self.effects.at_zero) {
            let kind = if column < self.length { &mut effects.and } else { &mut effects.or };
            kind[column % self.length] = effect * scale;
        }
        let mut dual = vec![0.0; self.length];
        for (&row, p) in self.basis.rows.iter().zip(&self.dual.at_zero) {
            dual[row] = *p;
        }
        Vertex { effects, dual, pivots }
    }
}

/// The effect of a column.
fn near_effect(near: &Interactions, column: usize) -> f64 {
    let length = near.and.len();
    let of = if column < length { &near.and } else { &near.or };
    of[column % length]
}

/// Sorted by size, the largest first, with weights in (0, 1].
fn most_wanted_first(
    mut indices: Vec<usize>,
    size: &dyn Fn(usize) -> f64,
) -> (Vec<usize>, Vec<f64>) {
    indices.sort_by(|&a, &b| size(b).total_cmp(&size(a)));
    let largest = indices.first().map_or(1.0, |&first| size(first));
    let weight = |&i: &usize| (size(i) / largest).sqrt().max(LEAST_WEIGHT);
    let weights = indices.iter().map(weight).collect();
    (indices, weights)
}
