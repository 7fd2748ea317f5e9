//! K and Kᵀ applied to sparse vectors over the basis: one transform of two lanes.

use crate::interaction::transform::{Row, zeta};

/// The image of a direction is 0 where the basis fixes it, or 1 at the place that leaves. Makes it so
/// exactly and gives the largest correction.
#[inline(always)]
pub(super) fn fix_images(images: &mut [f64], basic: &[usize], leaving: Option<usize>) -> f64 {
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
pub(super) fn largest_of(direction: &[f64]) -> f64 {
    direction.iter().fold(1.0, |largest, d| largest.max(d.abs()))
}

/// Puts AND effects into lane 0 and OR effects into lane 1.
#[inline(always)]
pub(super) fn scatter(table: &mut [Row<2>], columns: &[usize], effects: &[f64]) {
    let length = table.len();
    table.fill([0.0; 2]);
    for (&column, effect) in columns.iter().zip(effects) {
        table[column % length][column / length] += effect;
    }
}

/// `out` ← Z x + O y.
#[inline(always)]
pub(super) fn gather(table: &mut [Row<2>], out: &mut [f64]) {
    zeta(table);
    let full = table.len() - 1;
    let total = table[full][1];
    for s in 0..=full {
        out[s] = table[s][0] + (total - table[full - s][1]);
    }
}

/// `out` ← K w for effects on the given columns.
#[inline(always)]
pub(super) fn apply(table: &mut [Row<2>], columns: &[usize], effects: &[f64], out: &mut [f64]) {
    scatter(table, columns, effects);
    gather(table, out);
}

/// Puts a dual into lane 0 at the complements, so that a zeta transform sums over supersets, and into
/// lane 1 as it is.
#[inline(always)]
pub(super) fn scatter_transposed(table: &mut [Row<2>], rows: &[usize], dual: &[f64]) {
    let full = table.len() - 1;
    table.fill([0.0; 2]);
    for (&row, p) in rows.iter().zip(dual) {
        table[full - row][0] += p;
        table[row][1] += p;
    }
}

/// `out` ← (Zᵀp, Oᵀp).
#[inline(always)]
pub(super) fn gather_transposed(table: &mut [Row<2>], out: &mut [f64]) {
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
pub(super) fn apply_transposed(
    table: &mut [Row<2>],
    rows: &[usize],
    dual: &[f64],
    out: &mut [f64],
) {
    scatter_transposed(table, rows, dual);
    gather_transposed(table, out);
}
