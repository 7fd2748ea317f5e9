//! Fast subset transforms, in place, O(n·2^n), without allocation.
//!
//! A table has 2^n rows, one a subset; a row holds `L` independent tables side by side (the batch is
//! innermost), so that one pass serves L of them. The naive forms stand in [`super::naive`].

use super::real::Real;

/// One row of a batch of `L` tables: their entries for one subset.
pub type Row<const L: usize, T = f64> = [T; L];

/// Numbers that the first and the second level cache hold with room to spare (16 and 256 KiB of
/// doubles): a block goes through all its stages before the next one is touched.
const BLOCK_NUMBERS: [usize; 2] = [1 << 11, 1 << 15];

/// Which row of a pair a butterfly leaves as it is: it is not stored again.
const LOW: bool = false;
const HIGH: bool = true;

/// Applies `(low, high) -> (low, high)` to every pair of rows that differ in one bit, bit by bit, two
/// bits a pass over the memory. `KEPT` is the row that it does not change.
#[inline(always)]
fn butterflies<const KEPT: bool, const L: usize, T: Real>(
    table: &mut [Row<L, T>],
    combine: impl Fn(&mut Row<L, T>, &mut Row<L, T>) + Copy,
) {
    let [small, large] =
        BLOCK_NUMBERS.map(|numbers| table.len().min((numbers / L).next_power_of_two()));
    for block in table.chunks_exact_mut(large) {
        for block in block.chunks_exact_mut(small) {
            stages::<KEPT, L, T>(block, 1, combine);
        }
        stages::<KEPT, L, T>(block, small, combine);
    }
    stages::<KEPT, L, T>(table, large, combine);
}

/// The stages of the bits from `first` on, where `first` is the distance of their rows.
#[inline(always)]
fn stages<const KEPT: bool, const L: usize, T: Real>(
    table: &mut [Row<L, T>],
    first: usize,
    combine: impl Fn(&mut Row<L, T>, &mut Row<L, T>) + Copy,
) {
    let mut distance = first;
    while 4 * distance <= table.len() {
        for block in table.chunks_exact_mut(4 * distance) {
            let (lower, upper) = block.split_at_mut(2 * distance);
            let ((a, b), (c, d)) = (lower.split_at_mut(distance), upper.split_at_mut(distance));
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let (mut w, mut x, mut y, mut z) = (*a, *b, *c, *d);
                combine(&mut w, &mut x);
                combine(&mut y, &mut z);
                combine(&mut w, &mut y);
                combine(&mut x, &mut z);
                match KEPT {
                    LOW => (*b, *c, *d) = (x, y, z),
                    HIGH => (*a, *b, *c) = (w, x, y),
                }
            }
        }
        distance *= 4;
    }
    if distance < table.len() {
        for block in table.chunks_exact_mut(2 * distance) {
            let (low, high) = block.split_at_mut(distance);
            for (low, high) in low.iter_mut().zip(high) {
                combine(low, high);
            }
        }
    }
}

/// Zeta transform: `a[S] ← Σ_{T⊆S} a[T]`.
#[inline(always)]
pub fn zeta<const L: usize, T: Real>(table: &mut [Row<L, T>]) {
    butterflies::<LOW, L, T>(table, |low, high| {
        for lane in 0..L {
            high[lane] += low[lane];
        }
    });
}

/// Möbius transform, the inverse of [`zeta`]: `a[T] ← Σ_{L⊆T} (−1)^{|T|−|L|} a[L]`.
#[inline(always)]
pub fn moebius<const L: usize, T: Real>(table: &mut [Row<L, T>]) {
    butterflies::<LOW, L, T>(table, |low, high| {
        for lane in 0..L {
            high[lane] -= low[lane];
        }
    });
}

/// Adjoint of [`zeta`]: `a[T] ← Σ_{S⊇T} a[S]`.
#[inline(always)]
pub fn zeta_adjoint<const L: usize, T: Real>(table: &mut [Row<L, T>]) {
    butterflies::<HIGH, L, T>(table, |low, high| {
        for lane in 0..L {
            low[lane] += high[lane];
        }
    });
}

/// OR transform: `a[S] ← Σ_{T∩S≠∅} a[T]`. It is its own adjoint.
///
/// T meets S unless T ⊆ N∖S, hence `total − zeta(a)[N∖S]`.
#[inline(always)]
pub fn or<const L: usize, T: Real>(table: &mut [Row<L, T>]) {
    zeta(table);
    complement_from_total(table);
}

/// Inverse of [`or`] on tables with `a[∅] = 0`: finds y with `Σ_{T∩S≠∅} y_T = a[S]`, `y_∅ = 0`.
#[inline(always)]
pub fn or_inverse<const L: usize, T: Real>(table: &mut [Row<L, T>]) {
    complement_from_total(table);
    moebius(table);
}

/// `a[S] ← a[N] − a[N∖S]`.
#[inline(always)]
fn complement_from_total<const L: usize, T: Real>(table: &mut [Row<L, T>]) {
    let Some(&total) = table.last() else { return };
    let (lower, upper) = table.split_at_mut(table.len() / 2);
    for (low, high) in lower.iter_mut().zip(upper.iter_mut().rev()) {
        let (a, b) = (*low, *high);
        *low = std::array::from_fn(|lane| total[lane] - b[lane]);
        *high = std::array::from_fn(|lane| total[lane] - a[lane]);
    }
}

/// A single table seen as a batch of one.
pub fn single(table: &mut [f64]) -> &mut [Row<1>] {
    table.as_chunks_mut::<1>().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::naive;
    use proptest::prelude::*;

    fn table() -> impl Strategy<Value = Vec<f64>> {
        (2usize..=10).prop_flat_map(|n| prop::collection::vec(-10.0..10.0f64, 1 << n))
    }

    fn close(fast: &[f64], slow: &[f64]) -> Result<(), TestCaseError> {
        for (subset, (a, b)) in fast.iter().zip(slow).enumerate() {
            prop_assert!((a - b).abs() < 1e-8, "subset {subset:b}: {a} is not {b}");
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn fast_transforms_equal_their_naive_oracles(table in table()) {
            type Fast = fn(&mut [Row<1>]);
            type Slow = fn(&[f64]) -> Vec<f64>;
            let pairs: [(Fast, Slow); 4] = [
                (zeta, naive::zeta), (moebius, naive::moebius),
                (zeta_adjoint, naive::zeta_adjoint), (or, naive::or),
            ];
            for (fast, slow) in pairs {
                let mut result = table.clone();
                fast(single(&mut result));
                close(&result, &slow(&table))?;
            }
        }

        #[test]
        fn inverses_undo_their_transforms(mut table in table()) {
            table[0] = 0.0;
            let mut there = table.clone();
            zeta(single(&mut there));
            moebius(single(&mut there));
            close(&there, &table)?;
            or(single(&mut there));
            or_inverse(single(&mut there));
            close(&there, &table)?;
        }

        #[test]
        fn adjoints_satisfy_their_inner_product(a in table(), seed in 0u64..1000) {
            let b: Vec<f64> =
                (0..a.len() as u64).map(|i| ((i * 37 + seed * 11) % 23) as f64 - 11.0).collect();
            let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
            type Transform = fn(&mut [Row<1>]);
            let pairs: [(Transform, Transform); 2] =
                [(zeta, zeta_adjoint), (or, or)];
            for (forward, adjoint) in pairs {
                let (mut left, mut right) = (a.clone(), b.clone());
                forward(single(&mut left));
                adjoint(single(&mut right));
                let (left, right) = (dot(&left, &b), dot(&a, &right));
                prop_assert!((left - right).abs() <= 1e-9 * (1.0 + left.abs()));
            }
        }

        #[test]
        fn lanes_do_not_mix(a in table()) {
            let mut batch: Vec<Row<3>> = a.iter().map(|&v| [v, -2.0 * v, 0.5 * v]).collect();
            let mut alone = a;
            or(single(&mut alone));
            or(&mut batch);
            for (row, &value) in batch.iter().zip(&alone) {
                for (lane, factor) in [1.0, -2.0, 0.5].into_iter().enumerate() {
                    prop_assert!((row[lane] - factor * value).abs() < 1e-8);
                }
            }
        }
    }
}
