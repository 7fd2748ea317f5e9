//! A basis of the linear programme: as many tight rows as active columns, and the inverse of the
//! matrix between them.
//!
//! Columns are numbered 0..2N with N = 2^n: T for the AND effect of T, N + T for its OR effect. Rows
//! are the subsets S. K has a 1 at (S, T) where T triggers on S: T ⊆ S for AND, T ∩ S ≠ ∅ for OR.
//! With M = K between the rows and the columns of the basis, `inverse` is M⁻¹: one row a basic column,
//! one column a tight row.

use faer::linalg::solvers::DenseSolveCore;

/// Pivots below this are taken for zero when the first columns and rows are chosen.
const LEAST_PIVOT: f64 = 1e-7;
/// Rows of the inverse are padded to a multiple of this many numbers.
const PAD: usize = 8;

/// Whether column `column` triggers on the subset `row`, as 0 or 1.
#[inline(always)]
pub(super) fn entry(row: usize, column: usize, length: usize) -> f64 {
    let triggers = match column.checked_sub(length) {
        None => column & !row == 0,
        Some(or) => or & row != 0,
    };
    if triggers { 1.0 } else { 0.0 }
}

/// A row or a column that goes in or out, by its place in the basis when it goes out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Primal {
    /// This column enters.
    ColumnIn(usize),
    /// The tight row at this place becomes slack.
    RowOut(usize),
}

/// The other half of an exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Dual {
    /// The basic column at this place becomes zero.
    ColumnOut(usize),
    /// This row becomes tight.
    RowIn(usize),
}

/// Tight rows, active columns and M⁻¹.
#[derive(Default)]
pub(super) struct Basis {
    length: usize,
    pub(super) rows: Vec<usize>,
    pub(super) columns: Vec<usize>,
    /// M⁻¹, row-major with `stride`.
    inverse: Vec<f64>,
    stride: usize,
}

impl Basis {
    /// Chooses a nonsingular M among `rows` and `columns`, as large as can be, and inverts it. The
    /// weights, in (0, 1], say how much each is wanted.
    pub(super) fn choose(
        &mut self,
        length: usize,
        rows: (Vec<usize>, Vec<f64>),
        columns: (Vec<usize>, Vec<f64>),
    ) {
        (self.length, self.stride) = (length, 0);
        let (mut rows, row_weights) = rows;
        let (mut columns, column_weights) = columns;
        // The many are chosen from; the few are all wanted, but for those that depend on the others.
        loop {
            let columns_are_many = columns.len() >= rows.len();
            let (many, few, weights) = if columns_are_many {
                (&mut columns, &mut rows, &column_weights)
            } else {
                (&mut rows, &mut columns, &row_weights)
            };
            let triggers = |many: usize, few: usize| match columns_are_many {
                true => entry(few, many, length),
                false => entry(many, few, length),
            };
            let matrix = faer::Mat::from_fn(many.len(), few.len(), |i, j| {
                triggers(many[i], few[j]) * weights[i]
            });
            let lu = matrix.partial_piv_lu();
            let upper = lu.U();
            let independent = |j: &usize| upper[(*j, *j)].abs() > LEAST_PIVOT;
            let kept: Vec<usize> = (0..few.len()).filter(independent).map(|j| few[j]).collect();
            if kept.len() == few.len() {
                let (order, _) = lu.P().arrays();
                let chosen = order[..few.len()].iter().map(|&i| many[i]).collect();
                *many = chosen;
                break;
            }
            *few = kept;
        }
        (self.rows, self.columns) = (rows, columns);
        self.invert();
    }

    /// Size k of the basis.
    pub(super) fn size(&self) -> usize {
        self.rows.len()
    }

    /// Computes M⁻¹ afresh.
    pub(super) fn invert(&mut self) {
        let k = self.size();
        self.reserve(k);
        if k == 0 {
            return;
        }
        let (rows, columns) = (&self.rows, &self.columns);
        // The inverse of the transpose, column by column, is the inverse, row by row.
        let transpose = faer::Mat::from_fn(k, k, |i, j| entry(rows[j], columns[i], self.length));
        let inverse = transpose.partial_piv_lu().inverse();
        for i in 0..k {
            for (j, entry) in self.inverse[i * self.stride..][..k].iter_mut().enumerate() {
                *entry = inverse[(j, i)];
            }
        }
    }

    fn reserve(&mut self, size: usize) {
        if size > self.stride {
            let stride = (size + size / 4 + PAD).next_multiple_of(PAD);
            let mut wider = vec![0.0; stride * stride];
            for i in 0..self.size().min(self.stride) {
                wider[i * stride..][..self.stride].copy_from_slice(self.inverse_row(i));
            }
            (self.inverse, self.stride) = (wider, stride);
        }
    }

    /// A whole padded row; what lies beyond the size is not defined.
    #[inline(always)]
    fn inverse_row(&self, i: usize) -> &[f64] {
        &self.inverse[i * self.stride..][..self.stride]
    }

    /// `out` ← M⁻¹ `rows`, for a vector over the tight rows.
    #[inline(always)]
    pub(super) fn solve(&self, rows: &[f64], out: &mut Vec<f64>) {
        let k = self.size();
        out.clear();
        out.resize(k, 0.0);
        for (i, out) in out.iter_mut().enumerate() {
            *out = dot(&self.inverse_row(i)[..k], rows);
        }
    }

    /// `out` ← M⁻ᵀ `columns`, for a vector over the basic columns.
    #[inline(always)]
    pub(super) fn solve_transposed(&self, columns: &[f64], out: &mut Vec<f64>) {
        let k = self.size();
        out.clear();
        out.resize(k, 0.0);
        for (i, &factor) in columns.iter().enumerate() {
            if factor != 0.0 {
                subtract(out, -factor, &self.inverse_row(i)[..k]);
            }
        }
    }

    /// The change of the basic columns' effects when the entering column, or what the leaving row
    /// must yield, grows by 1.
    #[inline(always)]
    pub(super) fn primal_direction(
        &self,
        primal: Primal,
        spare: &mut Vec<f64>,
        out: &mut Vec<f64>,
    ) {
        match primal {
            Primal::ColumnIn(column) => {
                spare.clear();
                for &row in &self.rows {
                    spare.push(-entry(row, column, self.length));
                }
                self.solve(spare, out);
            }
            Primal::RowOut(place) => {
                out.clear();
                for row in self.inverse.chunks_exact(self.stride).take(self.size()) {
                    out.push(row[place]);
                }
            }
        }
    }

    /// The change of the tight rows' dual when the entering row's dual, or what the leaving column
    /// must yield, grows by 1.
    #[inline(always)]
    pub(super) fn dual_direction(&self, dual: Dual, spare: &mut Vec<f64>, out: &mut Vec<f64>) {
        match dual {
            Dual::RowIn(row) => {
                spare.clear();
                for &column in &self.columns {
                    spare.push(-entry(row, column, self.length));
                }
                self.solve_transposed(spare, out);
            }
            Dual::ColumnOut(place) => {
                out.clear();
                out.extend_from_slice(&self.inverse_row(place)[..self.size()]);
            }
        }
    }

    /// Exchanges, given both directions (extended by a 1 for what enters) and the pivot:
    /// M⁻¹ ← M⁻¹ − Δw Δpᵀ / pivot, where the row or column of what leaves becomes zero and is dropped.
    #[inline(always)]
    pub(super) fn exchange(
        &mut self,
        primal: Primal,
        dual: Dual,
        (on_columns, on_rows): (&[f64], &[f64]),
        pivot: f64,
    ) {
        let k = self.size();
        self.reserve(k + 1);
        let (stride, scale) = (self.stride, 1.0 / pivot);
        for i in 0..k {
            let factor = on_columns[i] * scale;
            if factor != 0.0 {
                subtract(&mut self.inverse[i * stride..][..k], factor, &on_rows[..k]);
            }
        }
        // The row of M⁻¹ of an entering column is −Δp/pivot, the column of an entering row −Δw/pivot.
        let row_of_column = match (primal, dual) {
            (Primal::ColumnIn(_), Dual::ColumnOut(place)) => Some(place),
            (Primal::ColumnIn(_), Dual::RowIn(_)) => Some(k),
            (Primal::RowOut(_), _) => None,
        };
        if let Some(place) = row_of_column {
            let row = &mut self.inverse[place * stride..][..k];
            row.iter_mut().zip(on_rows).for_each(|(entry, p)| *entry = -p * scale);
        }
        let column_of_row = match (primal, dual) {
            (Primal::RowOut(place), Dual::RowIn(_)) => Some(place),
            (Primal::ColumnIn(_), Dual::RowIn(_)) => Some(k),
            (_, Dual::ColumnOut(_)) => None,
        };
        if let Some(place) = column_of_row {
            for i in 0..k {
                self.inverse[i * stride + place] = -on_columns[i] * scale;
            }
        }
        match (primal, dual) {
            (Primal::ColumnIn(column), Dual::ColumnOut(place)) => self.columns[place] = column,
            (Primal::RowOut(place), Dual::RowIn(row)) => self.rows[place] = row,
            (Primal::ColumnIn(column), Dual::RowIn(row)) => {
                self.inverse[k * stride + k] = -scale;
                self.columns.push(column);
                self.rows.push(row);
            }
            (Primal::RowOut(row), Dual::ColumnOut(column)) => self.shrink(row, column),
        }
    }

    /// Drops one row and one column; the last ones take their places.
    #[inline(always)]
    fn shrink(&mut self, row: usize, column: usize) {
        let (last, stride) = (self.size() - 1, self.stride);
        if column != last {
            let (head, tail) = self.inverse.split_at_mut(last * stride);
            head[column * stride..][..stride].copy_from_slice(&tail[..stride]);
        }
        for i in 0..last {
            self.inverse[i * stride + row] = self.inverse[i * stride + last];
        }
        self.columns.swap_remove(column);
        self.rows.swap_remove(row);
    }
}

/// a ← a − factor·b.
#[inline(always)]
pub(super) fn subtract(a: &mut [f64], factor: f64, b: &[f64]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a -= factor * b;
    }
}

/// Σ a·b, summed in sixteen strands whatever the processor.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut strands = [0.0; 16];
    let (a, rest_of_a) = a.as_chunks::<16>();
    let (b, rest_of_b) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            strands[i] += a[i] * b[i];
        }
    }
    let mut sum = 0.0;
    for (a, b) in rest_of_a.iter().zip(rest_of_b) {
        sum += a * b;
    }
    for strand in strands {
        sum += strand;
    }
    sum
}
