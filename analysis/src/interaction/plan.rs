//! Which stages of a transform are done together, so that a table goes through its caches seldom.
//!
//! A *pass* takes 1 to 5 stages in registers. Passes over a block that the first cache holds are free
//! of the second one's traffic; what is left needs a pass over a larger block for every five stages.

/// A block of this size and the part of the next one that is fetched ahead fit the first cache.
pub(super) const SMALL_BYTES: usize = 16 << 10;
/// A table of this size alone still does.
const WHOLE_BYTES: usize = 32 << 10;
/// Larger tables than this are taken in blocks that the second cache holds.
const MEDIUM_BYTES: usize = 1 << 20;
/// Stages of one pass over a block that the first cache does not hold.
const MOST_STAGES: u32 = 5;
/// Stages in the second cache for a table that it does not hold.
const MIDDLE_STAGES: u32 = 4;

/// The stages of a table, from the innermost block outwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) levels: [Level; 3],
}

/// Stages that are done block by block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// Binary logarithm of the rows of a block.
    pub(super) block: u32,
    /// Stages of each pass, in their order; 0 for none.
    pub(super) passes: [u32; 4],
}

impl Plan {
    /// Whether all stages are done while the table is in the first cache.
    pub(super) fn is_within_first_cache(self) -> bool {
        self.levels[0].block == self.levels[2].block
    }

    /// For 2^`stages` rows; `in_registers` stages at most go into a pass within the first cache.
    #[inline]
    pub(super) fn new(stages: u32, row_bytes: usize, in_registers: u32) -> Self {
        let rows_of = |bytes: usize| (bytes / row_bytes).max(1).ilog2();
        let small = match stages {
            _ if stages <= rows_of(WHOLE_BYTES) => stages,
            // A block that just fits saves a pass over the second cache.
            _ if stages == rows_of(SMALL_BYTES) + MOST_STAGES + 1 => stages - MOST_STAGES,
            _ => rows_of(SMALL_BYTES),
        };
        let middle = match stages {
            _ if stages <= rows_of(MEDIUM_BYTES) => stages,
            _ => stages.min(small + MIDDLE_STAGES),
        };
        let levels = [
            Level::new(small, small, in_registers),
            Level::new(middle, middle - small, MOST_STAGES),
            Level::new(stages, stages - middle, MOST_STAGES),
        ];
        Self { levels }
    }
}

impl Level {
    /// Spreads stages evenly over as few passes as they need, the larger ones first.
    fn new(block: u32, stages: u32, most: u32) -> Self {
        let count = stages.div_ceil(most);
        let passes = std::array::from_fn(|pass| {
            let pass = pass as u32;
            if pass < count { (stages + count - 1 - pass) / count } else { 0 }
        });
        Self { block, passes }
    }

    /// The passes with the stages that are done before each, from `done` on.
    pub(super) fn passes(self, done: u32) -> impl Iterator<Item = (u32, u32)> {
        let mut done = done;
        self.passes.into_iter().take_while(|&stages| stages > 0).map(move |stages| {
            done += stages;
            (done - stages, stages)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW_BYTES: usize = 64;
    const IN_REGISTERS: u32 = 5;

    fn stages_of(plan: Plan) -> Vec<(u32, u32)> {
        let [small, middle, whole] = plan.levels;
        let outer = middle.passes(small.block).chain(whole.passes(middle.block));
        small.passes(0).chain(outer).collect()
    }

    #[test]
    fn every_stage_is_done_once_and_in_its_order() {
        for row_bytes in [32, 64, 96, 128, 192, 1024, 5056, 1 << 15, 1 << 21] {
            for (stages, in_registers) in (0..=24).flat_map(|n| [(n, 3), (n, 4), (n, 5)]) {
                let mut next = 0;
                for (done, stages) in stages_of(Plan::new(stages, row_bytes, in_registers)) {
                    assert_eq!(done, next);
                    assert!((1..=MOST_STAGES).contains(&stages));
                    next += stages;
                }
                assert_eq!(next, stages, "rows of {row_bytes} bytes, {in_registers} in registers");
            }
        }
    }

    #[test]
    fn a_table_goes_through_the_second_cache_at_most_twice_up_to_a_mebibyte() {
        for stages in 2..=14 {
            let [small, middle, whole] = Plan::new(stages, ROW_BYTES, IN_REGISTERS).levels;
            let outer = middle.passes(small.block).count();
            assert!(outer <= 1, "{stages} stages: {outer} passes over the second cache");
            assert_eq!(whole.passes(middle.block).count(), 0);
            assert!(ROW_BYTES << small.block <= WHOLE_BYTES);
        }
    }

    #[test]
    fn larger_tables_are_taken_in_blocks_of_the_second_cache() {
        for stages in 15..=17 {
            let plan = Plan::new(stages, ROW_BYTES, IN_REGISTERS);
            let [_, middle, whole] = plan.levels;
            assert!(ROW_BYTES << middle.block <= MEDIUM_BYTES);
            assert_eq!(whole.passes(middle.block).count(), 1, "{stages} stages");
        }
    }
}
