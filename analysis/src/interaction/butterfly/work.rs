//! A whole transform: its passes in the order of the plan.

use super::column::{Column, FROM_TOTAL, IN_PLACE, Vector, moved};
use super::kept::tile_bytes;
use super::table::{HALF, NONE, Table};
use crate::interaction::plan::{self, Plan};
use std::mem::MaybeUninit;
use std::ops::Range;

/// A transform of one table.
pub(super) struct Work<V> {
    pub(super) table: Table<V>,
    pub(super) plan: Plan,
    pub(super) kept: *mut V,
}

impl<V: Vector> Work<V> {
    /// All stages. `OR` gives what [`super::transform::or`] does, on a table that is taken backward:
    /// T does not meet S where it is a subset of N∖S, so the rows are mirrored in the first pass, and
    /// the last one subtracts from the total.
    ///
    /// # Safety
    /// The plan is that of the table; the processor has the instructions of `V`.
    #[inline(always)]
    pub(super) unsafe fn run<const SUBTRACT: bool, const OR: bool>(&self) {
        let [small, middle, whole] = self.plan.levels.map(|level| self.table.row << level.block);
        let half = if OR && middle < whole { whole / 2 } else { whole };
        for start in (0..half).step_by(middle) {
            // SAFETY: the blocks divide the table.
            unsafe {
                if !OR {
                    for start in (start..start + middle).step_by(small) {
                        self.inner::<SUBTRACT, OR>(start..start + small);
                    }
                    self.outer::<SUBTRACT, OR>(1, start..start + middle);
                    continue;
                }
                let end = if middle < whole { start + middle } else { whole.div_ceil(2) };
                for start in (start..end).step_by(small) {
                    self.mirror(start..end.min(start + small));
                    self.inner::<SUBTRACT, OR>(start..start + small);
                    if small < whole {
                        self.inner::<SUBTRACT, OR>(whole - start - small..whole - start);
                    }
                }
                self.outer::<SUBTRACT, OR>(1, start..start + middle);
                if middle < whole {
                    self.outer::<SUBTRACT, OR>(1, whole - start - middle..whole - start);
                }
            }
        }
        // SAFETY: this block is the table.
        unsafe { self.outer::<SUBTRACT, OR>(2, 0..whole) };
    }

    /// The passes over a block that the first cache holds, while the one after it is fetched; without
    /// the first pass where that has mirrored the rows.
    ///
    /// # Safety
    /// As of [`Table::pass`].
    #[inline(always)]
    pub(super) unsafe fn inner<const SUBTRACT: bool, const OR: bool>(&self, block: Range<usize>) {
        let [small, _, whole] = self.plan.levels;
        let fetches = small.block < whole.block && !OR;
        let start = self.table.start.wrapping_add(block.start).cast::<u8>();
        let mut ahead = start.wrapping_add(plan::SMALL_BYTES).cast_const();
        for (pass, (done, stages)) in small.passes(0).enumerate().skip(usize::from(OR)) {
            let (block, distance) = (block.clone(), self.table.row << done);
            let last = OR && done + stages == whole.block;
            let bytes = block.len() * size_of::<V>();
            // SAFETY: the caller's.
            unsafe {
                match (last, fetches && pass < 2) {
                    (true, _) => {
                        self.pass::<false, FROM_TOTAL, NONE>(block, distance, stages, ahead)
                    }
                    (_, false) => {
                        self.pass::<SUBTRACT, IN_PLACE, NONE>(block, distance, stages, ahead)
                    }
                    _ => self.pass::<SUBTRACT, IN_PLACE, HALF>(block, distance, stages, ahead),
                }
            }
            ahead = ahead.wrapping_add(bytes / 2);
        }
    }

    /// The passes over a larger block.
    ///
    /// # Safety
    /// As of [`Table::pass`].
    #[inline(always)]
    pub(super) unsafe fn outer<const SUBTRACT: bool, const OR: bool>(
        &self,
        level: usize,
        block: Range<usize>,
    ) {
        let levels = &self.plan.levels;
        for (done, stages) in levels[level].passes(levels[level - 1].block) {
            let (block, distance) = (block.clone(), self.table.row << done);
            let last = OR && done + stages == levels[2].block;
            // SAFETY: the caller's.
            unsafe {
                match last {
                    true => self.wide::<false, FROM_TOTAL>(block, distance, stages),
                    false => self.wide::<SUBTRACT, IN_PLACE>(block, distance, stages),
                }
            }
        }
    }

    /// # Safety
    /// As of [`Table::pass`].
    #[inline(always)]
    pub(super) unsafe fn pass<const SUBTRACT: bool, const MODE: u8, const AHEAD: usize>(
        &self,
        block: Range<usize>,
        distance: usize,
        stages: u32,
        ahead: *const u8,
    ) {
        let table = self.table;
        // SAFETY: the caller's.
        unsafe {
            match stages {
                1 => V::pass::<SUBTRACT, MODE, 1, AHEAD>(table, block, distance, ahead),
                2 => V::pass::<SUBTRACT, MODE, 2, AHEAD>(table, block, distance, ahead),
                3 => V::pass::<SUBTRACT, MODE, 3, AHEAD>(table, block, distance, ahead),
                4 => V::pass::<SUBTRACT, MODE, 4, AHEAD>(table, block, distance, ahead),
                _ => V::pass::<SUBTRACT, MODE, 5, AHEAD>(table, block, distance, ahead),
            }
        }
    }

    /// # Safety
    /// As of [`Table::tiled`].
    #[inline(always)]
    pub(super) unsafe fn wide<const SUBTRACT: bool, const MODE: u8>(
        &self,
        block: Range<usize>,
        distance: usize,
        stages: u32,
    ) {
        let (table, kept) = (self.table, self.kept);
        let tiles =
            |quarter: usize| (distance * size_of::<V>()).is_multiple_of(tile_bytes(quarter));
        // SAFETY: the caller's.
        unsafe {
            match stages {
                4 if tiles(4) => V::tiled::<SUBTRACT, MODE, 4, 4>(table, block, distance, kept),
                5 if tiles(8) => V::tiled::<SUBTRACT, MODE, 5, 8>(table, block, distance, kept),
                _ => self.pass::<SUBTRACT, MODE, NONE>(block, distance, stages, std::ptr::null()),
            }
        }
    }

    /// The first pass on a block and the one opposite, which exchange their places: of the rows from
    /// the other end, each row stands for its complement.
    ///
    /// # Safety
    /// As of [`Table::pass`]; the block lies in the first half of the table.
    #[inline(always)]
    pub(super) unsafe fn mirror(&self, block: Range<usize>) {
        let [small, _, whole] = self.plan.levels;
        let (table, stages) = (self.table, small.passes[0]);
        let group = table.row << stages;
        let end = table.row << whole.block;
        for start in block.step_by(group) {
            for vector in start..start + table.row {
                let opposite = end - start - group + (vector - start);
                // SAFETY: both columns belong to the table, and 32 vectors hold one.
                unsafe {
                    let forward = Table { backward: false, ..table };
                    let here = forward.column(vector, table.row, stages);
                    let there = forward.column(opposite, table.row, stages);
                    let mut rows = MaybeUninit::<[V; 32]>::uninit();
                    let kept = Column { first: rows.as_mut_ptr().cast::<V>(), step: 1 };
                    for i in 0..1 << stages {
                        kept.at(i).write(here.at(i).read_unaligned());
                    }
                    moved(stages, there, table.column(vector, table.row, stages));
                    moved(stages, kept, table.column(opposite, table.row, stages));
                }
            }
        }
    }
}
