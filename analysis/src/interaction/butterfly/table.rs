//! Passes over the blocks of a table: column by column, or tile by tile.

use super::column::{Column, FROM_TOTAL, MOVED, Vector, any_column, combine_all, load, store};
use super::kept::{LINE_BYTES, Places, keep, kept_at, tile_bytes};
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::mem::MaybeUninit;
use std::ops::Range;

/// How many lines of the next block a column fetches: none, or half as many as its own.
pub(super) const NONE: usize = 0;
pub(super) const HALF: usize = 1;

/// Vectors of a row whose total is kept.
pub(super) const MOST_VECTORS: usize = 4;

/// A table of vectors.
#[derive(Clone, Copy)]
pub(super) struct Table<V> {
    pub(super) start: *mut V,
    /// Vectors of a row.
    pub(super) row: usize,
    /// Last row first: sums over supersets instead of subsets.
    pub(super) backward: bool,
}

impl<V: Vector> Table<V> {
    /// The column of 2^`stages` rows that begins at a vector.
    ///
    /// # Safety
    /// It belongs to the table.
    #[inline(always)]
    pub(super) unsafe fn column(self, vector: usize, distance: usize, stages: u32) -> Column<V> {
        let (last, step) = (((1 << stages) - 1) * distance, distance as isize);
        // SAFETY: the caller stays within the table.
        unsafe {
            match self.backward {
                true => Column { first: self.start.add(vector + last), step: -step },
                false => Column { first: self.start.add(vector), step },
            }
        }
    }

    /// The totals of all rows: the last result of the column that ends with the last row.
    ///
    /// # Safety
    /// The first columns of the table belong to it; the processor has the instructions of `V`.
    #[inline(always)]
    pub(super) unsafe fn totals<const MODE: u8, const STAGES: u32>(
        self,
        distance: usize,
    ) -> [V; MOST_VECTORS] {
        // SAFETY: 32 vectors hold every column, and `column` stays within the table.
        unsafe {
            let mut totals = [self.start.read_unaligned(); MOST_VECTORS];
            for vector in 0..if MODE == FROM_TOTAL { self.row } else { 0 } {
                let from = self.column(vector, distance, STAGES);
                let mut rows = MaybeUninit::<[V; 32]>::uninit();
                let to = Column { first: rows.as_mut_ptr().cast::<V>(), step: 1 };
                any_column::<V, false, MOVED, STAGES>(from, to, std::ptr::null());
                totals[vector] = to.at((1 << STAGES) - 1).read();
            }
            totals
        }
    }

    /// The total of a vector of a row, where the mode needs it.
    ///
    /// # Safety
    /// The totals are those of the table.
    #[inline(always)]
    pub(super) unsafe fn total<const MODE: u8>(
        self,
        totals: &[V; MOST_VECTORS],
        vector: usize,
    ) -> *const V {
        match MODE {
            // SAFETY: a row has at most so many vectors, a power of two.
            FROM_TOTAL => unsafe { totals.as_ptr().add(vector & (self.row - 1)) },
            _ => std::ptr::null(),
        }
    }

    /// `STAGES` stages of a block, column by column.
    ///
    /// # Safety
    /// The block belongs to the table and is a multiple of its columns; the processor has the
    /// instructions of `V`.
    #[inline(always)]
    pub(super) unsafe fn pass<
        const SUBTRACT: bool,
        const MODE: u8,
        const STAGES: u32,
        const AHEAD: usize,
    >(
        self,
        block: Range<usize>,
        distance: usize,
        ahead: *const u8,
    ) {
        let mut ahead = ahead;
        // SAFETY: a prefetch reads nothing; the rest is the caller's.
        unsafe {
            let totals = self.totals::<MODE, STAGES>(distance);
            let mut start = block.start;
            while start < block.end {
                for vector in 0..distance {
                    for _ in 0..((size_of::<V>() << STAGES) * AHEAD).div_ceil(2 * LINE_BYTES) {
                        if AHEAD > NONE {
                            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                            ahead = ahead.wrapping_add(LINE_BYTES);
                        }
                    }
                    let column = self.column(start + vector, distance, STAGES);
                    let total = self.total::<MODE>(&totals, vector);
                    any_column::<V, SUBTRACT, MODE, STAGES>(column, column, total);
                }
                start += distance << STAGES;
            }
        }
    }

    /// Two stages and log₂ G more of a block, tile by tile; what a quarter gives to later ones is kept
    /// meanwhile.
    ///
    /// # Safety
    /// As of [`Self::pass`], and a tile is a divisor of the distance.
    #[inline(always)]
    pub(super) unsafe fn tiled<
        const SUBTRACT: bool,
        const MODE: u8,
        const STAGES: u32,
        const G: usize,
    >(
        self,
        block: Range<usize>,
        distance: usize,
        kept: *mut V,
    ) {
        let width = tile_bytes(G) / size_of::<V>();
        // SAFETY: two times `width` columns of G ≤ 8 vectors are kept; the rest is the caller's.
        unsafe {
            let totals = self.totals::<MODE, STAGES>(distance);
            let mut start = block.start;
            while start < block.end {
                let mut tile = 0;
                while tile < distance {
                    let kept = Places { kept, tile: self.start.add(start + tile) };
                    for vector in 0..width {
                        let to = self.column(start + tile + vector, distance, STAGES);
                        let total = self.total::<MODE>(&totals, tile + vector);
                        let a = load::<V, SUBTRACT, G>(to);
                        store::<V, MODE, true, G>(to, a, total);
                        keep(kept.at::<G>(vector), a);
                    }
                    for vector in 0..width {
                        let to = self.column(start + tile + vector, distance, STAGES).from(G);
                        let total = self.total::<MODE>(&totals, tile + vector);
                        let b = load::<V, SUBTRACT, G>(to);
                        let b = combine_all::<V, SUBTRACT, G>(b, kept_at(kept.at::<G>(vector)));
                        store::<V, MODE, false, G>(to, b, total);
                        keep(kept.at::<G>(width + vector), b);
                    }
                    for vector in 0..width {
                        let to = self.column(start + tile + vector, distance, STAGES).from(2 * G);
                        let total = self.total::<MODE>(&totals, tile + vector);
                        let c = load::<V, SUBTRACT, G>(to);
                        let a = kept_at(kept.at::<G>(vector));
                        store::<V, MODE, false, G>(to, combine_all::<V, SUBTRACT, G>(c, a), total);
                        keep(kept.at::<G>(vector), c);
                    }
                    for vector in 0..width {
                        let to = self.column(start + tile + vector, distance, STAGES).from(3 * G);
                        let total = self.total::<MODE>(&totals, tile + vector);
                        let d = load::<V, SUBTRACT, G>(to);
                        let d = combine_all::<V, SUBTRACT, G>(d, kept_at(kept.at::<G>(vector)));
                        let d =
                            combine_all::<V, SUBTRACT, G>(d, kept_at(kept.at::<G>(width + vector)));
                        store::<V, MODE, false, G>(to, d, total);
                    }
                    tile += width;
                }
                start += distance << STAGES;
            }
        }
    }
}
