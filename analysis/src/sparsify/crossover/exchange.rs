//! Where a condition breaks, and the exchange that restores it.

use super::Crossover;
use super::basis::{Basis, Dual, Primal};
use super::image::scatter_transposed;
use super::image::{apply_transposed, fix_images, gather, gather_transposed, largest_of, scatter};
use super::path::{LEAST_PIVOT, first_to_reach, first_to_vanish, reaching, vanishing};

/// Shifts below this are rounding: there exchanges among ties could go on for ever.
const LEAST_SHIFT: f64 = 1e-12;
/// How far the images of the directions may be off where the basis fixes them, relative to the
/// largest entry of the direction.
const MOST_DRIFT: f64 = 1e-9;
/// Differences of costs below this are ties.
const TIE: f64 = 1e-9;

/// What breaks first as θ falls.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
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
pub(super) enum Exchange {
    Done,
    /// Nothing was changed: the inverse is not accurate enough to go on.
    Drifted,
}

impl Crossover {
    /// From here on the rates of the dual are those of the second costs, and the rate of a column is
    /// by how much it exceeds its own; θ stays 0.
    #[inline(always)]
    pub(super) fn weigh_ties(&mut self) {
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
    pub(super) fn worst_tie(&self) -> Option<(Event, f64)> {
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

    /// The largest θ above [`LEAST_SHIFT`], at most `theta`, at which a condition breaks.
    #[inline(always)]
    pub(super) fn first_event(&mut self, theta: f64) -> Option<(Event, f64)> {
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
    pub(super) fn exchange(&mut self, event: Event, theta: f64) -> Option<Exchange> {
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
}
