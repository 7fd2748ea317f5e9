//! One column of vectors: loaded, a few stages in registers, stored.

use super::table::Table;
use std::arch::x86_64::*;
use std::ops::Range;

/// Vectors of the processor. A row of a table is one or more of them.
///
/// # Safety
/// Its methods may only be called where the processor has its instructions.
pub(super) unsafe trait Vector: Copy {
    unsafe fn plus(self, other: Self) -> Self;
    unsafe fn minus(self, other: Self) -> Self;

    /// [`Table::pass`] as a function of its own: one for all passes takes minutes to compile.
    unsafe fn pass<const SUBTRACT: bool, const MODE: u8, const STAGES: u32, const AHEAD: usize>(
        table: Table<Self>,
        block: Range<usize>,
        distance: usize,
        ahead: *const u8,
    );

    /// [`Table::tiled`] as a function of its own.
    unsafe fn tiled<const SUBTRACT: bool, const MODE: u8, const STAGES: u32, const G: usize>(
        table: Table<Self>,
        block: Range<usize>,
        distance: usize,
        kept: *mut Self,
    );

    /// [`any_column`] into another column, as a function of its own.
    unsafe fn moved<const STAGES: u32>(from: Column<Self>, to: Column<Self>);
}

macro_rules! vector {
    ($feature:literal, $vector:ty, $plus:ident, $minus:ident) => {
        // SAFETY: both methods are one instruction on values; the caller has asked for it.
        unsafe impl Vector for $vector {
            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                // SAFETY: the caller has asked the processor.
                unsafe { $plus(self, other) }
            }

            #[inline(always)]
            unsafe fn minus(self, other: Self) -> Self {
                // SAFETY: the caller has asked the processor.
                unsafe { $minus(self, other) }
            }

            #[target_feature(enable = $feature)]
            unsafe fn pass<
                const SUBTRACT: bool,
                const MODE: u8,
                const STAGES: u32,
                const AHEAD: usize,
            >(
                table: Table<Self>,
                block: Range<usize>,
                distance: usize,
                ahead: *const u8,
            ) {
                // SAFETY: the caller's.
                unsafe { table.pass::<SUBTRACT, MODE, STAGES, AHEAD>(block, distance, ahead) }
            }

            #[target_feature(enable = $feature)]
            unsafe fn tiled<
                const SUBTRACT: bool,
                const MODE: u8,
                const STAGES: u32,
                const G: usize,
            >(
                table: Table<Self>,
                block: Range<usize>,
                distance: usize,
                kept: *mut Self,
            ) {
                // SAFETY: the caller's.
                unsafe { table.tiled::<SUBTRACT, MODE, STAGES, G>(block, distance, kept) }
            }

            #[target_feature(enable = $feature)]
            unsafe fn moved<const STAGES: u32>(from: Column<Self>, to: Column<Self>) {
                // SAFETY: the caller's.
                unsafe { any_column::<Self, false, MOVED, STAGES>(from, to, std::ptr::null()) }
            }
        }
    };
}

vector!("avx512f", __m512d, _mm512_add_pd, _mm512_sub_pd);
vector!("avx512f", __m512, _mm512_add_ps, _mm512_sub_ps);
vector!("avx2", __m256d, _mm256_add_pd, _mm256_sub_pd);
vector!("avx2", __m256, _mm256_add_ps, _mm256_sub_ps);

/// What happens to the result of a column.
pub(super) const IN_PLACE: u8 = 0;
/// It goes to another column, so the first row, which no stage changes, is stored too.
pub(super) const MOVED: u8 = 1;
/// It is subtracted from the total.
pub(super) const FROM_TOTAL: u8 = 2;

/// Vectors that stand `step` apart.
#[derive(Clone, Copy)]
pub(super) struct Column<V> {
    pub(super) first: *mut V,
    pub(super) step: isize,
}

impl<V: Vector> Column<V> {
    /// # Safety
    /// The vector belongs to the table.
    #[inline(always)]
    pub(super) unsafe fn at(self, index: usize) -> *mut V {
        // SAFETY: the caller stays within the table.
        unsafe { self.first.offset(index as isize * self.step) }
    }

    /// # Safety
    /// The vector belongs to the table.
    #[inline(always)]
    pub(super) unsafe fn from(self, index: usize) -> Self {
        // SAFETY: the caller stays within the table.
        Self { first: unsafe { self.at(index) }, ..self }
    }
}

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn combine<V: Vector, const SUBTRACT: bool>(taking: V, giving: V) -> V {
    // SAFETY: as above.
    unsafe { if SUBTRACT { taking.minus(giving) } else { taking.plus(giving) } }
}

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn combine_all<V: Vector, const SUBTRACT: bool, const G: usize>(
    taking: [V; G],
    giving: [V; G],
) -> [V; G] {
    let mut rows = taking;
    for i in 0..G {
        // SAFETY: as above.
        rows[i] = unsafe { combine::<V, SUBTRACT>(rows[i], giving[i]) };
    }
    rows
}

/// Reads `G` vectors.
///
/// # Safety
/// They belong to the table.
#[inline(always)]
pub(super) unsafe fn read<V: Vector, const G: usize>(from: Column<V>) -> [V; G] {
    // SAFETY: the caller stays within the table.
    unsafe {
        let mut rows = [from.first.read_unaligned(); G];
        for i in 1..G {
            rows[i] = from.at(i).read_unaligned();
        }
        rows
    }
}

/// Loads `G` vectors and takes them through their log₂ G stages.
///
/// # Safety
/// They belong to the table; the processor has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn load<V: Vector, const SUBTRACT: bool, const G: usize>(
    from: Column<V>,
) -> [V; G] {
    // SAFETY: the caller's.
    let mut rows: [V; G] = unsafe { read(from) };
    let mut half = 1;
    while half < G {
        for i in 0..G {
            if i & half == 0 {
                // SAFETY: the caller has asked the processor.
                rows[i + half] = unsafe { combine::<V, SUBTRACT>(rows[i + half], rows[i]) };
            }
        }
        half *= 2;
    }
    rows
}

/// Stores `G` vectors; `FIRST` says that they are those of which the first row did not change.
///
/// # Safety
/// They belong to the table, as `total` does where the mode needs it; the processor has the
/// instructions of `V`.
#[inline(always)]
pub(super) unsafe fn store<V: Vector, const MODE: u8, const FIRST: bool, const G: usize>(
    to: Column<V>,
    rows: [V; G],
    total: *const V,
) {
    for i in usize::from(FIRST && MODE == IN_PLACE)..G {
        // SAFETY: the caller stays within the table and has asked the processor.
        unsafe {
            let row = match MODE {
                FROM_TOTAL => total.read().minus(rows[i]),
                _ => rows[i],
            };
            to.at(i).write_unaligned(row);
        }
    }
}
/// One stage on two vectors.
///
/// # Safety
/// As of [`load`] and [`store`].
#[inline(always)]
pub(super) unsafe fn pair<V: Vector, const SUBTRACT: bool, const MODE: u8>(
    from: Column<V>,
    to: Column<V>,
    total: *const V,
) {
    // SAFETY: the caller's.
    unsafe {
        let rows = load::<V, SUBTRACT, 2>(from);
        store::<V, MODE, true, 2>(to, rows, total);
    }
}

/// Two stages and log₂ G more on 4·G vectors, quarter by quarter.
///
/// # Safety
/// As of [`load`] and [`store`].
#[inline(always)]
pub(super) unsafe fn column<V: Vector, const SUBTRACT: bool, const MODE: u8, const G: usize>(
    from: Column<V>,
    to: Column<V>,
    total: *const V,
) {
    // SAFETY: the caller's.
    unsafe {
        let a = load::<V, SUBTRACT, G>(from);
        store::<V, MODE, true, G>(to, a, total);
        let b = load::<V, SUBTRACT, G>(from.from(G));
        let b = combine_all::<V, SUBTRACT, G>(b, a);
        store::<V, MODE, false, G>(to.from(G), b, total);
        let c = load::<V, SUBTRACT, G>(from.from(2 * G));
        store::<V, MODE, false, G>(to.from(2 * G), combine_all::<V, SUBTRACT, G>(c, a), total);
        let d = load::<V, SUBTRACT, G>(from.from(3 * G));
        let d = combine_all::<V, SUBTRACT, G>(combine_all::<V, SUBTRACT, G>(d, c), b);
        store::<V, MODE, false, G>(to.from(3 * G), d, total);
    }
}

/// The column of `STAGES` stages.
///
/// # Safety
/// As of [`load`] and [`store`].
#[inline(always)]
pub(super) unsafe fn any_column<
    V: Vector,
    const SUBTRACT: bool,
    const MODE: u8,
    const STAGES: u32,
>(
    from: Column<V>,
    to: Column<V>,
    total: *const V,
) {
    // SAFETY: the caller's.
    unsafe {
        match STAGES {
            1 => pair::<V, SUBTRACT, MODE>(from, to, total),
            2 => column::<V, SUBTRACT, MODE, 1>(from, to, total),
            3 => column::<V, SUBTRACT, MODE, 2>(from, to, total),
            4 => column::<V, SUBTRACT, MODE, 4>(from, to, total),
            _ => column::<V, SUBTRACT, MODE, 8>(from, to, total),
        }
    }
}
/// Stages from one column into another.
///
/// # Safety
/// As of [`load`] and [`store`].
#[inline(always)]
pub(super) unsafe fn moved<V: Vector>(stages: u32, from: Column<V>, to: Column<V>) {
    // SAFETY: the caller's.
    unsafe {
        match stages {
            1 => V::moved::<1>(from, to),
            2 => V::moved::<2>(from, to),
            3 => V::moved::<3>(from, to),
            4 => V::moved::<4>(from, to),
            _ => V::moved::<5>(from, to),
        }
    }
}
