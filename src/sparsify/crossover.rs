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

use super::basis::{Basis, Dual, Primal};
use super::problem::{Costs, Problem};
use crate::interaction::Interactions;
use crate::interaction::subset::order;
use crate::interaction::transform::{Row, zeta};

/// Shifts below this are rounding: there exchanges among ties could go on for ever.
const LEAST_SHIFT: f64 = 1e-12;
/// Rates below this do not move anything.
const LEAST_RATE: f64 = 1e-12;
/// Entries of a direction below this cannot be pivots.
const LEAST_PIVOT: f64 = 1e-7;
/// How far the images of the directions may be off where the basis fixes them, relative to the
/// largest entry of the direction.
const MOST_DRIFT: f64 = 1e-9;
/// How far a condition may be overstepped so that the largest of nearly equal pivots is taken.
const SLACK: f64 = 1e-10;
/// What a condition may be broken by at θ = 0, so that rounding causes no exchanges. Highly symmetric
/// tables would go round in circles there.
const ROUNDING: f64 = 1e-11;
/// Differences of costs below this are ties.
const TIE: f64 = 1e-9;
/// Shares of ζ and c within which the margins of the start lie.
const ROW_MARGIN: f64 = 0.02;
const COLUMN_MARGIN: f64 = 0.01;
/// Exchanges after which the inverse is computed afresh.
const REFRESH: usize = 150;
/// How exactly a fit must give the values, relative to the largest, and how many rows it must have for
/// each column: what fits by having as many effects as values explains nothing.
const EXACT_FIT: f64 = 1e-11;
const LEAST_ROWS_A_COLUMN: usize = 4;
/// Bytes that the matrix library keeps for packing on each thread, by its cache sizes: 4.4 MB here.
const PACKING: usize = 8 << 20;
/// Weight of the least wanted row or column of the first basis.
const LEAST_WEIGHT: f64 = 1e-2;
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// An optimal vertex.
pub(super) struct Vertex {
    pub(super) effects: Interactions,
    pub(super) dual: Vec<f64>,
    /// Exchanges that it took.
    pub(super) pivots: usize,
}

/// A quantity and its rate: at θ it is `at_zero + θ·rate`.
#[derive(Default)]
struct Path {
    at_zero: Vec<f64>,
    rate: Vec<f64>,
}

impl Path {
    #[inline(always)]
    fn at(&self, index: usize, theta: f64) -> f64 {
        self.at_zero[index] + theta * self.rate[index]
    }

    fn set(&mut self, index: usize, at_zero: f64) {
        (self.at_zero[index], self.rate[index]) = (at_zero, 0.0);
    }

    /// self ← self + (amount[0] + θ·amount[1])·direction.
    #[inline(always)]
    fn move_along(&mut self, amount: [f64; 2], direction: &[f64]) {
        super::basis::subtract(&mut self.at_zero, -amount[0], direction);
        super::basis::subtract(&mut self.rate, -amount[1], direction);
    }

    fn swap_remove(&mut self, index: usize) {
        self.at_zero.swap_remove(index);
        self.rate.swap_remove(index);
    }

    fn push(&mut self, [at_zero, rate]: [f64; 2]) {
        self.at_zero.push(at_zero);
        self.rate.push(rate);
    }
}

/// What breaks first as θ falls.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The effect at this place of the basis changes its sign.
    EffectVanishes(usize),
    /// This row reaches its bound of this sign.
    RowTightens(usize, f64),
    /// The dual at this place of the basis changes its sign.
    DualVanishes(usize),
    /// This column reaches its cost with this sign.
    ColumnActivates(usize, f64),
}

/// How an exchange went.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Exchange {
    Done,
    /// Nothing was changed: the inverse is not accurate enough to go on.
    Drifted,
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
    /// it afresh takes (the transpose, its factors, the inverse, and the matrix of the first choice),
    /// and what the matrix products keep for packing.
    pub(super) fn bytes(variables: usize, basis: usize) -> usize {
        let margin = basis + basis / 4;
        size_of::<f64>() * ((20 << variables) + margin * margin + 4 * basis * basis) + PACKING
    }

    /// Finds an optimal vertex from a near-optimal sparse point (effects in units of v, dual), or
    /// `None` where the exchanges run out or the arithmetic fails: the caller then keeps what it has.
    pub(super) fn solve(
        &mut self,
        problem: &Problem,
        near: &Interactions,
        dual: &[f64],
        most_pivots: usize,
    ) -> Option<Vertex> {
        #[cfg(target_arch = "x86_64")]
        {
            type Call<'a> = (&'a mut Crossover, &'a Problem, &'a Interactions, &'a [f64], usize);
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
                return unsafe { avx512((self, problem, near, dual, most_pivots)) };
            }
            if std::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor was just asked for AVX2.
                return unsafe { avx2((self, problem, near, dual, most_pivots)) };
            }
        }
        self.run(problem, near, dual, most_pivots)
    }

    #[inline(always)]
    fn run(
        &mut self,
        problem: &Problem,
        near: &Interactions,
        dual: &[f64],
        most_pivots: usize,
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
            if pivots >= most_pivots {
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

    /// From here on the rates of the dual are those of the second costs, and the rate of a column is
    /// by how much it exceeds its own; θ stays 0.
    #[inline(always)]
    fn weigh_ties(&mut self) {
        let Basis { rows, columns, .. } = &self.basis;
        self.effects.rate.fill(0.0);
        self.residual.rate.fill(0.0);
        let signs = columns.iter().zip(&self.column_signs);
        self.spare.clear();
        self.spare.extend(signs.map(|(&c, sign)| self.second_costs[c] * sign));
        self.basis.solve_transposed(&self.spare, &mut self.dual.rate);
        let image = &mut self.image_on_columns;
        apply_transposed(&mut self.table, rows, &self.dual.rate, image);
        for (c, image) in image.iter().enumerate() {
            let own = self.second_costs[c].copysign(self.reduced.at_zero[c]);
            self.reduced.rate[c] = image - own;
        }
        for &c in columns {
            self.reduced.rate[c] = 0.0;
        }
    }

    /// The exchange on the optimal face that lowers the second costs fastest.
    #[inline(always)]
    fn worst_tie(&self) -> Option<(Event, f64)> {
        let (mut worst, mut event) = (TIE, None);
        for (c, cost) in self.costs.iter().enumerate() {
            let (reduced, rate) = (self.reduced.at_zero[c], self.reduced.rate[c]);
            let sign = reduced.signum();
            if sign * rate > worst && reduced.abs() > cost - TIE && *cost > 0.0 {
                (worst, event) = (sign * rate, Some(Event::ColumnActivates(c, sign)));
            }
        }
        for (place, sign) in self.row_signs.iter().enumerate() {
            let (dual, rate) = (self.dual.at_zero[place], self.dual.rate[place]);
            if -sign * rate > worst && sign * dual < TIE {
                (worst, event) = (-sign * rate, Some(Event::DualVanishes(place)));
            }
        }
        event.map(|event| (event, 0.0))
    }

    /// Effects on the near-optimal support alone that give every value exactly, where there are such:
    /// without noise a sparse game is found so to the last digit.
    pub(super) fn fit(&mut self, problem: &Problem, near: &Interactions) -> Option<Interactions> {
        let (length, scale) = (self.length, problem.scale());
        let effect = |column: usize| near_effect(near, column) / scale;
        let support = (0..2 * length).filter(|&c| self.costs[c] > 0.0 && effect(c) != 0.0);
        let columns: Vec<usize> = support.collect();
        if columns.is_empty() || columns.len() > length / LEAST_ROWS_A_COLUMN {
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

    /// The largest θ above [`LEAST_SHIFT`], at most `theta`, at which a condition breaks.
    #[inline(always)]
    fn first_event(&mut self, theta: f64) -> Option<(Event, f64)> {
        let mut first = (LEAST_SHIFT, None);
        let mut consider = |(at, event): (f64, Event)| {
            if at > first.0 {
                first = (at, Some(event));
            }
        };
        if let Some((at, place)) = vanishing(&self.effects, &self.column_signs) {
            consider((at, Event::EffectVanishes(place)));
        }
        if let Some((at, place)) = vanishing(&self.dual, &self.row_signs) {
            consider((at, Event::DualVanishes(place)));
        }
        // Rows and columns of the basis have rate 0.
        if let Some((at, s)) = reaching(&self.residual, &self.zetas, &mut self.times) {
            consider((at, Event::RowTightens(s, -self.residual.rate[s].signum())));
        }
        if let Some((at, c)) = reaching(&self.reduced, &self.costs, &mut self.times) {
            consider((at, Event::ColumnActivates(c, -self.reduced.rate[c].signum())));
        }
        first.1.map(|event| (event, first.0.min(theta)))
    }

    /// Restores optimality at θ by one exchange.
    #[inline(always)]
    fn exchange(&mut self, event: Event, theta: f64) -> Option<Exchange> {
        match event {
            Event::EffectVanishes(place) => {
                let sign = -self.column_signs[place];
                self.exchange_from_dual(Dual::ColumnOut(place), sign, theta)
            }
            Event::RowTightens(row, sign) => self.exchange_from_dual(Dual::RowIn(row), sign, theta),
            Event::DualVanishes(place) => {
                let sign = self.row_signs[place];
                self.exchange_from_primal(Primal::RowOut(place), sign, theta)
            }
            Event::ColumnActivates(column, sign) => {
                self.exchange_from_primal(Primal::ColumnIn(column), sign, theta)
            }
        }
    }

    /// The dual moves along `sign`·Δp until a tight row's dual vanishes or a column activates.
    #[inline(always)]
    fn exchange_from_dual(&mut self, dual: Dual, sign: f64, theta: f64) -> Option<Exchange> {
        let drift = self.set_dual_direction(dual);
        let row = first_to_vanish(&self.dual, theta, &self.on_rows, sign, &self.row_signs);
        let images = (&self.image_on_columns[..], sign);
        let column = first_to_reach(&self.reduced, theta, images, &self.costs, &mut self.times);
        let (primal, column_sign) = match (row, column) {
            (Some((at, place)), other) if other.is_none_or(|(other, _)| at <= other) => {
                (Primal::RowOut(place), 0.0)
            }
            (_, Some((_, column))) => {
                let column_sign = (sign * self.image_on_columns[column]).signum();
                (Primal::ColumnIn(column), column_sign)
            }
            _ => return None,
        };
        match (primal, dual) {
            (Primal::ColumnIn(column), Dual::ColumnOut(place))
                if self.basis.columns[place] == column =>
            {
                self.flip_column(place);
                Some(Exchange::Done)
            }
            _ => {
                let drift = drift.max(self.set_primal_direction(primal));
                Some(self.finish((primal, column_sign), (dual, sign), drift))
            }
        }
    }

    /// The effects move along `sign`·Δw until an effect vanishes or a row tightens.
    #[inline(always)]
    fn exchange_from_primal(&mut self, primal: Primal, sign: f64, theta: f64) -> Option<Exchange> {
        let drift = self.set_primal_direction(primal);
        let signs = &self.column_signs;
        let column = first_to_vanish(&self.effects, theta, &self.on_columns, sign, signs);
        let images = (&self.image_on_rows[..], -sign);
        let row = first_to_reach(&self.residual, theta, images, &self.zetas, &mut self.times);
        let (dual, row_sign) = match (column, row) {
            (Some((at, place)), other) if other.is_none_or(|(other, _)| at <= other) => {
                (Dual::ColumnOut(place), 0.0)
            }
            (_, Some((_, row))) => {
                let row_sign = (-sign * self.image_on_rows[row]).signum();
                (Dual::RowIn(row), row_sign)
            }
            _ => return None,
        };
        match (primal, dual) {
            (Primal::RowOut(place), Dual::RowIn(row)) if self.basis.rows[place] == row => {
                self.flip_row(place);
                Some(Exchange::Done)
            }
            _ => {
                let drift = drift.max(self.set_dual_direction(dual));
                Some(self.finish((primal, sign), (dual, row_sign), drift))
            }
        }
    }

    /// Δw and its image; gives by how much the inverse missed what it promises.
    #[inline(always)]
    fn set_primal_direction(&mut self, primal: Primal) -> f64 {
        self.basis.primal_direction(primal, &mut self.spare, &mut self.on_columns);
        scatter(&mut self.table, &self.basis.columns, &self.on_columns);
        if let Primal::ColumnIn(column) = primal {
            self.table[column % self.length][column / self.length] += 1.0;
        }
        gather(&mut self.table, &mut self.image_on_rows);
        let leaving = if let Primal::RowOut(place) = primal { Some(place) } else { None };
        let largest = largest_of(&self.on_columns);
        fix_images(&mut self.image_on_rows, &self.basis.rows, leaving) / largest
    }

    /// Δp and its image; gives by how much the inverse missed what it promises.
    #[inline(always)]
    fn set_dual_direction(&mut self, dual: Dual) -> f64 {
        self.basis.dual_direction(dual, &mut self.spare, &mut self.on_rows);
        scatter_transposed(&mut self.table, &self.basis.rows, &self.on_rows);
        if let Dual::RowIn(row) = dual {
            let reversed = self.length - 1 - row;
            self.table[reversed][0] += 1.0;
            self.table[row][1] += 1.0;
        }
        gather_transposed(&mut self.table, &mut self.image_on_columns);
        let leaving = if let Dual::ColumnOut(place) = dual { Some(place) } else { None };
        let largest = largest_of(&self.on_rows);
        fix_images(&mut self.image_on_columns, &self.basis.columns, leaving) / largest
    }

    /// Carries out an exchange, given both directions and by how much the inverse missed. What enters
    /// does so with its sign.
    #[inline(always)]
    fn finish(
        &mut self,
        (primal, column_sign): (Primal, f64),
        (dual, row_sign): (Dual, f64),
        drift: f64,
    ) -> Exchange {
        let (pivot, on_effects) = match dual {
            Dual::ColumnOut(place) => {
                let pivot = self.on_columns[place];
                let amount = |of: &[f64]| -of[place] / pivot;
                (pivot, [amount(&self.effects.at_zero), amount(&self.effects.rate)])
            }
            Dual::RowIn(row) => {
                let image = self.image_on_rows[row];
                let target = row_sign * self.zetas[row];
                let at_zero = (self.residual.at_zero[row] - target) / image;
                (-image, [at_zero, self.residual.rate[row] / image])
            }
        };
        let (pivot, on_dual) = match primal {
            Primal::RowOut(place) => {
                let own = self.on_rows[place];
                let amount = |of: &[f64]| -of[place] / own;
                let pivot = if matches!(dual, Dual::RowIn(_)) { own } else { pivot };
                (pivot, [amount(&self.dual.at_zero), amount(&self.dual.rate)])
            }
            Primal::ColumnIn(column) => {
                let image = self.image_on_columns[column];
                let target = column_sign * self.costs[column];
                let at_zero = (target - self.reduced.at_zero[column]) / image;
                (pivot, [at_zero, -self.reduced.rate[column] / image])
            }
        };
        if drift > MOST_DRIFT || pivot.abs() < LEAST_PIVOT {
            return Exchange::Drifted;
        }
        self.effects.move_along(on_effects, &self.on_columns);
        self.residual.move_along(on_effects.map(|amount| -amount), &self.image_on_rows);
        self.dual.move_along(on_dual, &self.on_rows);
        self.reduced.move_along(on_dual, &self.image_on_columns);
        self.basis.exchange(primal, dual, (&self.on_columns, &self.on_rows), pivot);
        match (primal, dual) {
            (Primal::ColumnIn(_), Dual::ColumnOut(place)) => {
                self.column_signs[place] = column_sign;
                (self.effects.at_zero[place], self.effects.rate[place]) = on_effects.into();
            }
            (Primal::RowOut(place), Dual::RowIn(_)) => {
                self.row_signs[place] = row_sign;
                (self.dual.at_zero[place], self.dual.rate[place]) = on_dual.into();
            }
            (Primal::ColumnIn(_), Dual::RowIn(_)) => {
                self.column_signs.push(column_sign);
                self.row_signs.push(row_sign);
                self.effects.push(on_effects);
                self.dual.push(on_dual);
            }
            (Primal::RowOut(row), Dual::ColumnOut(column)) => {
                self.column_signs.swap_remove(column);
                self.row_signs.swap_remove(row);
                self.effects.swap_remove(column);
                self.dual.swap_remove(row);
            }
        }
        if let Primal::ColumnIn(column) = primal {
            self.reduced.set(column, column_sign * self.costs[column]);
        }
        if let Dual::RowIn(row) = dual {
            self.residual.set(row, row_sign * self.zetas[row]);
        }
        Exchange::Done
    }

    /// The column stays basic with the other sign; expects its dual direction.
    #[inline(always)]
    fn flip_column(&mut self, place: usize) {
        let column = self.basis.columns[place];
        let sign = self.column_signs[place];
        let amount = [-2.0 * sign * self.costs[column], 0.0];
        self.dual.move_along(amount, &self.on_rows);
        self.reduced.move_along(amount, &self.image_on_columns);
        self.reduced.set(column, -sign * self.costs[column]);
        self.column_signs[place] = -sign;
    }

    /// The row stays tight at the other bound; expects its primal direction.
    #[inline(always)]
    fn flip_row(&mut self, place: usize) {
        let row = self.basis.rows[place];
        let sign = self.row_signs[place];
        let amount = 2.0 * sign * self.zetas[row];
        self.effects.move_along([amount, 0.0], &self.on_columns);
        self.residual.move_along([-amount, 0.0], &self.image_on_rows);
        self.residual.set(row, -sign * self.zetas[row]);
        self.row_signs[place] = -sign;
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

/// The largest θ above 0 at which a quantity that is kept at its sign vanishes as θ falls, if it then
/// goes on beyond rounding.
#[inline(always)]
fn vanishing(path: &Path, signs: &[f64]) -> Option<(f64, usize)> {
    let mut best = (0.0, None);
    for (place, sign) in signs.iter().enumerate() {
        let (at_zero, rate) = (path.at_zero[place], path.rate[place]);
        let breaks = sign * at_zero < -ROUNDING && sign * rate > LEAST_RATE;
        if breaks && -at_zero / rate > best.0 {
            best = (-at_zero / rate, Some(place));
        }
    }
    best.1.map(|place| (best.0, place))
}

/// The largest θ above 0 at which some |at_zero + θ·rate| reaches its bound, coming from larger θ, if
/// it then goes on beyond rounding. What has no bound is left out.
#[inline(always)]
fn reaching(path: &Path, bounds: &[f64], times: &mut Vec<f64>) -> Option<(f64, usize)> {
    let count = bounds.len();
    let (at_zero, rate) = (&path.at_zero[..count], &path.rate[..count]);
    times.resize(count, 0.0);
    let times = &mut times[..count];
    for i in 0..count {
        let at = (-bounds[i].copysign(rate[i]) - at_zero[i]) / rate[i];
        let breaks = at_zero[i].abs() > bounds[i] + ROUNDING;
        let moves = rate[i].abs() > LEAST_RATE && bounds[i] > 0.0;
        times[i] = if moves && breaks { -at } else { 0.0 };
    }
    let earliest = least(times);
    let index = times.iter().position(|&at| at == earliest)?;
    (earliest < 0.0).then_some((-earliest, index))
}

/// The smallest number, found in eight strands. NaN is passed over.
#[inline(always)]
fn least(numbers: &[f64]) -> f64 {
    let mut strands = [f64::INFINITY; 8];
    let (chunks, rest) = numbers.as_chunks::<8>();
    for chunk in chunks {
        for i in 0..8 {
            strands[i] = if chunk[i] < strands[i] { chunk[i] } else { strands[i] };
        }
    }
    let smaller = |a: f64, &b: &f64| if b < a { b } else { a };
    rest.iter().chain(&strands).fold(f64::INFINITY, smaller)
}

/// Which quantity, kept at its sign and moving along `direction`·`way`, vanishes first: the time and
/// the place. Of those that vanish about as early, the fastest.
#[inline(always)]
fn first_to_vanish(
    path: &Path,
    theta: f64,
    direction: &[f64],
    way: f64,
    signs: &[f64],
) -> Option<(f64, usize)> {
    let arrival = |i: usize| {
        let speed = -signs[i] * way * direction[i];
        ((signs[i] * path.at(i, theta)).max(0.0), speed)
    };
    let mut latest = f64::INFINITY;
    for i in 0..signs.len() {
        let (distance, speed) = arrival(i);
        if speed > LEAST_PIVOT && distance + SLACK < latest * speed {
            latest = (distance + SLACK) / speed;
        }
    }
    let mut first = None;
    let mut fastest = LEAST_PIVOT;
    for i in 0..signs.len() {
        let (distance, speed) = arrival(i);
        if speed > fastest && distance <= latest * speed {
            (first, fastest) = (Some((distance / speed, i)), speed);
        }
    }
    first
}

/// Which quantity, kept within ±bound and moving along `images`·`way`, reaches a bound first: the time
/// and the index. Of those that reach it about as early, the fastest.
#[inline(always)]
fn first_to_reach(
    path: &Path,
    theta: f64,
    (images, way): (&[f64], f64),
    bounds: &[f64],
    times: &mut Vec<f64>,
) -> Option<(f64, usize)> {
    let count = bounds.len();
    let (at_zero, rate, images) = (&path.at_zero[..count], &path.rate[..count], &images[..count]);
    times.resize(count, 0.0);
    let times = &mut times[..count];
    for i in 0..count {
        let velocity = way * images[i];
        let distance = bounds[i] - velocity.signum() * (at_zero[i] + theta * rate[i]);
        let able = velocity.abs() > LEAST_PIVOT && bounds[i] > 0.0;
        let distance = if distance > 0.0 { distance } else { 0.0 };
        times[i] = if able { (distance + SLACK) / velocity.abs() } else { f64::INFINITY };
    }
    let latest = least(times);
    let mut first = None;
    let mut fastest = 0.0;
    for (i, &time) in times.iter().enumerate() {
        let speed = images[i].abs();
        if time - SLACK / speed <= latest && speed > fastest && time < f64::INFINITY {
            (first, fastest) = (Some(((time - SLACK / speed).max(0.0), i)), speed);
        }
    }
    first
}

/// The image of a direction is 0 where the basis fixes it, or 1 at the place that leaves. Makes it so
/// exactly and gives the largest correction.
#[inline(always)]
fn fix_images(images: &mut [f64], basic: &[usize], leaving: Option<usize>) -> f64 {
    let mut most = 0.0f64;
    for (place, &index) in basic.iter().enumerate() {
        let exact = if Some(place) == leaving { 1.0 } else { 0.0 };
        most = most.max((images[index] - exact).abs());
        images[index] = exact;
    }
    most
}

/// The largest size in a direction, at least 1.
#[inline(always)]
fn largest_of(direction: &[f64]) -> f64 {
    direction.iter().fold(1.0, |largest, d| largest.max(d.abs()))
}

/// Puts AND effects into lane 0 and OR effects into lane 1.
#[inline(always)]
fn scatter(table: &mut [Row<2>], columns: &[usize], effects: &[f64]) {
    let length = table.len();
    table.fill([0.0; 2]);
    for (&column, effect) in columns.iter().zip(effects) {
        table[column % length][column / length] += effect;
    }
}

/// `out` ← Z x + O y.
#[inline(always)]
fn gather(table: &mut [Row<2>], out: &mut [f64]) {
    zeta(table);
    let full = table.len() - 1;
    let total = table[full][1];
    for s in 0..=full {
        out[s] = table[s][0] + (total - table[full - s][1]);
    }
}

/// `out` ← K w for effects on the given columns.
#[inline(always)]
fn apply(table: &mut [Row<2>], columns: &[usize], effects: &[f64], out: &mut [f64]) {
    scatter(table, columns, effects);
    gather(table, out);
}

/// Puts a dual into lane 0 at the complements, so that a zeta transform sums over supersets, and into
/// lane 1 as it is.
#[inline(always)]
fn scatter_transposed(table: &mut [Row<2>], rows: &[usize], dual: &[f64]) {
    let full = table.len() - 1;
    table.fill([0.0; 2]);
    for (&row, p) in rows.iter().zip(dual) {
        table[full - row][0] += p;
        table[row][1] += p;
    }
}

/// `out` ← (Zᵀp, Oᵀp).
#[inline(always)]
fn gather_transposed(table: &mut [Row<2>], out: &mut [f64]) {
    zeta(table);
    let full = table.len() - 1;
    let total = table[full][1];
    let (and, or) = out.split_at_mut(table.len());
    for t in 0..=full {
        and[t] = table[full - t][0];
        or[t] = total - table[full - t][1];
    }
}

/// `out` ← Kᵀ p for a dual on the given rows.
#[inline(always)]
fn apply_transposed(table: &mut [Row<2>], rows: &[usize], dual: &[f64], out: &mut [f64]) {
    scatter_transposed(table, rows, dual);
    gather_transposed(table, out);
}
