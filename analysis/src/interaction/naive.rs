//! The transforms written as their definitions, O(4^n): the oracle of the fast ones.

fn sums(table: &[f64], weight: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let subsets = 0..table.len();
    let row = |s| subsets.clone().map(|t| weight(s, t) * table[t]).sum();
    (0..table.len()).map(row).collect()
}

fn indicator(condition: bool) -> f64 {
    if condition { 1.0 } else { 0.0 }
}

/// `Σ_{T⊆S} a[T]`.
pub fn zeta(table: &[f64]) -> Vec<f64> {
    sums(table, |s, t| indicator(t & !s == 0))
}

/// `Σ_{L⊆T} (−1)^{|T|−|L|} a[L]`.
pub fn moebius(table: &[f64]) -> Vec<f64> {
    let sign =
        |t: usize, l: usize| if (t & !l).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    sums(table, |t, l| indicator(l & !t == 0) * sign(t, l))
}

/// `Σ_{S⊇T} a[S]`.
pub fn zeta_adjoint(table: &[f64]) -> Vec<f64> {
    sums(table, |t, s| indicator(t & !s == 0))
}

/// `Σ_{T∩S≠∅} a[T]`.
pub fn or(table: &[f64]) -> Vec<f64> {
    sums(table, |s, t| indicator(s & t != 0))
}
