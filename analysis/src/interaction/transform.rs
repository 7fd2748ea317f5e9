//! Fast subset transforms, in place, O(n·2^n), without allocation.
//!
//! A table has 2^n rows, one a subset; a row holds `L` independent tables side by side (the batch is
//! innermost), so that one pass serves L of them. The naive forms stand in [`super::naive`].

#[cfg(target_arch = "x86_64")]
use super::butterfly::{Vectors, is_or_done};
use super::form::{Form, Instructions};
#[cfg(target_arch = "x86_64")]
use super::plan::Plan;
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

/// Applies a transform with the given instructions. A function of its own for each: solvers transform at many places, which
/// are compiled for all instructions themselves.
fn apply<const L: usize, T: Real>(form: Form, table: &mut [Row<L, T>], with: Instructions) {
    assert!(with.are_there(), "BUG: no {with:?} here");
    match with {
        Instructions::Portable => apply_here(form, table, with),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor was asked.
        Instructions::Avx2 => unsafe { apply_avx2(form, table) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor was asked.
        Instructions::Avx512 => unsafe { apply_avx512(form, table) },
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx2")]
fn apply_avx2<const L: usize, T: Real>(form: Form, table: &mut [Row<L, T>]) {
    apply_here(form, table, Instructions::Avx2);
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx512f")]
fn apply_avx512<const L: usize, T: Real>(form: Form, table: &mut [Row<L, T>]) {
    apply_here(form, table, Instructions::Avx512);
}

/// The same with the instructions that the caller is compiled for.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
#[inline(always)]
fn apply_here<const L: usize, T: Real>(form: Form, table: &mut [Row<L, T>], with: Instructions) {
    #[cfg(target_arch = "x86_64")]
    if size_of_val(table) >= LEAST_BYTES
        && let Some(vectors) = vectors_of(size_of::<Row<L, T>>(), with)
        && in_vectors(form, table, vectors)
    {
        return;
    }
    portable(form, table);
}

/// Smaller tables than this are done before a plan is made.
#[cfg(target_arch = "x86_64")]
const LEAST_BYTES: usize = 8 << 10;
/// Stages within a vector that are worth while.
#[cfg(target_arch = "x86_64")]
const MOST_WITHIN: u32 = 2;

/// Stages on the rows that lie in one vector, or in a few if a row does not divide it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stages_within(row_bytes: usize, vectors: Vectors) -> u32 {
    vectors.bytes().ilog2().saturating_sub(row_bytes.trailing_zeros())
}

/// The longest vectors that a row fills, else the longest that few rows fill.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn vectors_of(row_bytes: usize, with: Instructions) -> Option<Vectors> {
    let candidates: &[Vectors] = match with {
        Instructions::Portable => &[],
        Instructions::Avx2 => &[Vectors::Avx2],
        Instructions::Avx512 => &[Vectors::Avx512, Vectors::Avx2],
    };
    (0..=MOST_WITHIN).step_by(MOST_WITHIN as usize).find_map(|most| {
        candidates.iter().copied().find(|&vectors| stages_within(row_bytes, vectors) <= most)
    })
}

/// Applies a transform in vectors, where the table has some: several rows in a vector become one after
/// their own stages. Says whether it did.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn in_vectors<const L: usize, T: Real>(
    form: Form,
    table: &mut [Row<L, T>],
    vectors: Vectors,
) -> bool {
    let row_bytes = size_of::<Row<L, T>>();
    let within = stages_within(row_bytes, vectors);
    if !table.len().is_power_of_two() || table.len() < 4 << within {
        return false;
    }
    let plan = Plan::new(table.len().ilog2() - within, row_bytes << within, vectors.stages());
    if within > 0 {
        for rows in table.chunks_exact_mut(1 << within) {
            match form {
                Form::Zeta | Form::Or => stages::<LOW, L, T>(rows, 1, add_low),
                Form::Moebius => stages::<LOW, L, T>(rows, 1, subtract_low),
                Form::Adjoint => stages::<HIGH, L, T>(rows, 1, add_high),
            }
        }
    }
    let whole = form == Form::Or && within == 0 && is_or_done(row_bytes / vectors.bytes(), plan);
    let stages = if form == Form::Or && !whole { Form::Zeta } else { form };
    vectors.transform(stages, table.as_flattened_mut(), plan);
    if form == Form::Or && !whole {
        complement_from_total(table);
    }
    true
}

/// Applies a transform with what the compiler makes of it.
#[inline(always)]
fn portable<const L: usize, T: Real>(form: Form, table: &mut [Row<L, T>]) {
    match form {
        Form::Zeta => butterflies::<LOW, L, T>(table, add_low),
        Form::Moebius => butterflies::<LOW, L, T>(table, subtract_low),
        Form::Adjoint => butterflies::<HIGH, L, T>(table, add_high),
        Form::Or => {
            butterflies::<LOW, L, T>(table, add_low);
            complement_from_total(table);
        }
    }
}

#[inline(always)]
fn add_low<const L: usize, T: Real>(low: &mut Row<L, T>, high: &mut Row<L, T>) {
    for lane in 0..L {
        high[lane] += low[lane];
    }
}

#[inline(always)]
fn subtract_low<const L: usize, T: Real>(low: &mut Row<L, T>, high: &mut Row<L, T>) {
    for lane in 0..L {
        high[lane] -= low[lane];
    }
}

#[inline(always)]
fn add_high<const L: usize, T: Real>(low: &mut Row<L, T>, high: &mut Row<L, T>) {
    for lane in 0..L {
        low[lane] += high[lane];
    }
}

/// Zeta transform: `a[S] ← Σ_{T⊆S} a[T]`.
#[inline(always)]
pub fn zeta<const L: usize, T: Real>(table: &mut [Row<L, T>]) {
    apply(Form::Zeta, table, Instructions::best());
}

/// Möbius transform, the inverse of [`zeta`]: `a[T] ← Σ_{L⊆T} (−1)^{|T|−|L|} a[L]`.
#[inline(always)]
pub fn moebius<const L: usize, T: Real>(table: &mut [Row<L, T>]) {
    apply(Form::Moebius, table, Instructions::best());
}

/// Adjoint of [`zeta`]: `a[T] ← Σ_{S⊇T} a[S]`.
#[inline(always)]
pub fn zeta_adjoint<const L: usize, T: Real>(table: &mut [Row<L, T>]) {
    apply(Form::Adjoint, table, Instructions::best());
}

/// OR transform: `a[S] ← Σ_{T∩S≠∅} a[T]`. It is its own adjoint.
///
/// T meets S unless T ⊆ N∖S, hence `total − zeta(a)[N∖S]`.
#[inline(always)]
pub fn or<const L: usize, T: Real>(table: &mut [Row<L, T>]) {
    apply(Form::Or, table, Instructions::best());
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
#[path = "transform_tests.rs"]
mod tests;
