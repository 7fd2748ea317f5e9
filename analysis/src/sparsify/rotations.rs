//! Stages of plane rotations between the rows of a table, two stages a pass over the memory.
//!
//! Stage s repeats its rotations in every block of 2^(s+1) rows. The rotations of two successive
//! stages fall into groups of at most four rows, which are loaded once and stored once:
//!
//! ```text
//! four:   (p, q), (r, s), then (p, r), (q, s)
//! three:  (p, q), then (q, r)
//! ```
//!
//! What fits neither is a rotation of its own.

use crate::interaction::real::Real;
use crate::interaction::transform::Row;

/// Rows whose passes are done together, so that they stay in the first level cache.
const BLOCK_ROWS: usize = 256;
/// Rows whose passes are one list of groups: there a pass is too short for a loop of its own.
const SMALL_ROWS: usize = 64;

/// One rotation of rows p and q, up to their scales: p ← p + on_p·q and q ← q + on_q·p at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) p: u32,
    pub(super) q: u32,
    pub(super) on_p: f64,
    pub(super) on_q: f64,
}

/// Which stage comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
}

/// Two stages at once.
struct Pass<T> {
    fours: Vec<Four<T>>,
    threes: Vec<Three<T>>,
    singles: Vec<Single<T>>,
}

/// Rows p, q, r, s with the coefficients of (p, q), (r, s), (p, r), (q, s).
struct Four<T> {
    rows: [u32; 4],
    first: [[T; 2]; 2],
    second: [[T; 2]; 2],
}

/// Rows p, q, r with the coefficients of (p, q), (q, r).
struct Three<T> {
    rows: [u32; 3],
    first: [T; 2],
    second: [T; 2],
}

/// Rows p, q with their coefficients.
struct Single<T> {
    rows: [u32; 2],
    only: [T; 2],
}

/// All stages of a table, in the order in which they are applied.
pub(super) struct Rotations<T> {
    order: Order,
    /// Passes with the number of rows that each repeats itself after, by ascending number.
    passes: Vec<(usize, Pass<T>)>,
    /// How many passes are within [`SMALL_ROWS`].
    small: usize,
}

impl Rotation {
    fn moved(self, start: usize) -> Self {
        Self { p: self.p + start as u32, q: self.q + start as u32, ..self }
    }

    /// The same rotation, called so that `row` is p.
    fn with_first(self, row: u32) -> Self {
        match self.p == row {
            true => self,
            false => Self { p: self.q, q: self.p, on_p: self.on_q, on_q: self.on_p },
        }
    }

    fn coefficients(self) -> [f64; 2] {
        [self.on_p, self.on_q]
    }
}

impl Rotations<f64> {
    /// The same with rounded coefficients.
    pub(super) fn rounded<T: Real>(&self) -> Rotations<T> {
        let passes = self.passes.iter().map(|(rows, pass)| (*rows, pass.rounded()));
        Rotations { order: self.order, passes: passes.collect(), small: self.small }
    }

    /// Prepares stages for a table of 2^(number of stages) rows.
    pub(super) fn new(stages: &[Vec<Rotation>], order: Order) -> Self {
        let table = 1 << stages.len();
        let repeated = |stage: usize, rows: usize| -> Vec<Rotation> {
            let starts = (0..rows).step_by(2 << stage);
            starts.flat_map(|start| stages[stage].iter().map(move |r| r.moved(start))).collect()
        };
        let mut passes = Vec::new();
        let mut small = 0;
        for lower in (0..stages.len()).step_by(2) {
            let own = (4usize << lower).min(table);
            // A short pass is written out for as many rows as are done in one go.
            let rows = own.max(SMALL_ROWS.min(table));
            let low = repeated(lower, rows);
            let high =
                if lower + 1 < stages.len() { repeated(lower + 1, rows) } else { Vec::new() };
            let pass = match order {
                Order::Ascending => Pass::of(rows, &low, &high),
                Order::Descending => Pass::of(rows, &high, &low),
            };
            small += usize::from(rows == SMALL_ROWS);
            passes.push((rows, pass));
        }
        Self { order, passes, small }
    }
}

impl<T: Real> Rotations<T> {
    /// Applies all stages.
    #[inline(always)]
    pub(super) fn apply<const L: usize>(&self, table: &mut [Row<L, T>]) {
        let together = table.len().min(BLOCK_ROWS);
        let inner = self.passes.iter().take_while(|(rows, _)| *rows <= together).count();
        if self.order == Order::Descending {
            self.apply_passes(table, inner..self.passes.len());
        }
        for block in table.chunks_exact_mut(together) {
            if self.order == Order::Ascending {
                self.apply_small(block);
                self.apply_passes(block, self.small..inner);
            } else {
                self.apply_passes(block, self.small..inner);
                self.apply_small(block);
            }
        }
        if self.order == Order::Ascending {
            self.apply_passes(table, inner..self.passes.len());
        }
    }

    #[inline(always)]
    fn apply_passes<const L: usize>(&self, table: &mut [Row<L, T>], range: std::ops::Range<usize>) {
        let mut apply = |(rows, pass): &(usize, Pass<T>)| {
            table.chunks_exact_mut(*rows).for_each(|block| pass.apply(block));
        };
        match self.order {
            Order::Ascending => self.passes[range].iter().for_each(&mut apply),
            Order::Descending => self.passes[range].iter().rev().for_each(&mut apply),
        }
    }

    #[inline(always)]
    fn apply_small<const L: usize>(&self, table: &mut [Row<L, T>]) {
        let passes = &self.passes[..self.small];
        for block in table.as_chunks_mut::<SMALL_ROWS>().0 {
            match self.order {
                Order::Ascending => passes.iter().for_each(|(_, pass)| pass.apply_small(block)),
                Order::Descending => {
                    passes.iter().rev().for_each(|(_, pass)| pass.apply_small(block));
                }
            }
        }
    }
}

fn rounded<T: Real>(coefficients: [f64; 2]) -> [T; 2] {
    coefficients.map(T::of)
}

impl Pass<f64> {
    /// Groups two stages of `rows` rows, where each stage has at most one rotation a row.
    fn of(rows: usize, first: &[Rotation], second: &[Rotation]) -> Self {
        let mut first = Stage::new(rows, first);
        let mut second = Stage::new(rows, second);
        let mut pass = Self { fours: Vec::new(), threes: Vec::new(), singles: Vec::new() };
        for p in 0..rows as u32 {
            if let Some(four) = Four::of(&first, &second, p) {
                let [p, q, r, _] = four.rows;
                [p, r].iter().for_each(|&row| first.take(row));
                [p, q].iter().for_each(|&row| second.take(row));
                pass.fours.push(four);
            } else if let Some(three) = Three::of(&first, &second, p) {
                first.take(p);
                second.take(three.rows[1]);
                pass.threes.push(three);
            }
        }
        // They touch no rows of the groups, and the first stage comes first among them.
        pass.singles = first.rest().chain(second.rest()).collect();
        pass
    }

    /// The same with rounded coefficients.
    fn rounded<T: Real>(&self) -> Pass<T> {
        let four = |&Four { rows, first, second }: &Four<f64>| Four {
            rows,
            first: first.map(rounded),
            second: second.map(rounded),
        };
        let three = |&Three { rows, first, second }: &Three<f64>| Three {
            rows,
            first: rounded(first),
            second: rounded(second),
        };
        let single = |&Single { rows, only }: &Single<f64>| Single { rows, only: rounded(only) };
        Pass {
            fours: self.fours.iter().map(four).collect(),
            threes: self.threes.iter().map(three).collect(),
            singles: self.singles.iter().map(single).collect(),
        }
    }
}

impl<T: Real> Pass<T> {
    #[inline(always)]
    fn apply<const L: usize>(&self, block: &mut [Row<L, T>]) {
        self.fours.iter().for_each(|four| on_rows(block, four.rows, |rows| four.apply(rows)));
        self.threes.iter().for_each(|three| on_rows(block, three.rows, |rows| three.apply(rows)));
        self.singles.iter().for_each(|one| on_rows(block, one.rows, |rows| one.apply(rows)));
    }

    /// The same on a block of known size. The remainders change nothing but that no bounds need to be
    /// checked.
    #[inline(always)]
    fn apply_small<const L: usize>(&self, block: &mut [Row<L, T>; SMALL_ROWS]) {
        fn within<const R: usize>(rows: [u32; R]) -> [u32; R] {
            rows.map(|row| row % SMALL_ROWS as u32)
        }
        for four in &self.fours {
            on_rows(block, within(four.rows), |rows| four.apply(rows));
        }
        for three in &self.threes {
            on_rows(block, within(three.rows), |rows| three.apply(rows));
        }
        for one in &self.singles {
            on_rows(block, within(one.rows), |rows| one.apply(rows));
        }
    }
}

/// Loads some rows, applies, stores them.
#[inline(always)]
fn on_rows<const R: usize, const L: usize, T: Real>(
    block: &mut [Row<L, T>],
    rows: [u32; R],
    apply: impl FnOnce([Row<L, T>; R]) -> [Row<L, T>; R],
) {
    let applied = apply(rows.map(|row| block[row as usize]));
    for (row, applied) in rows.into_iter().zip(applied) {
        block[row as usize] = applied;
    }
}

/// The rotations of one stage by their rows.
struct Stage(Vec<Option<Rotation>>);

impl Stage {
    fn new(rows: usize, rotations: &[Rotation]) -> Self {
        let mut by_row = vec![None; rows];
        for rotation in rotations {
            by_row[rotation.p as usize] = Some(*rotation);
            by_row[rotation.q as usize] = Some(*rotation);
        }
        Self(by_row)
    }

    /// The rotation of a row, called so that the row is p.
    fn of(&self, row: u32) -> Option<Rotation> {
        self.0[row as usize].map(|rotation| rotation.with_first(row))
    }

    fn take(&mut self, row: u32) {
        if let Some(rotation) = self.0[row as usize] {
            (self.0[rotation.p as usize], self.0[rotation.q as usize]) = (None, None);
        }
    }

    /// What was not taken.
    fn rest(self) -> impl Iterator<Item = Single<f64>> {
        let once = |(row, rotation): (usize, Option<Rotation>)| {
            let own = rotation.filter(|rotation| rotation.p as usize == row)?;
            Some(Single { rows: [own.p, own.q], only: own.coefficients() })
        };
        self.0.into_iter().enumerate().filter_map(once)
    }
}

impl Four<f64> {
    /// The four rows around row p, if that is what the rotations of p lead to.
    fn of(first: &Stage, second: &Stage, p: u32) -> Option<Self> {
        let upper = first.of(p)?;
        let left = second.of(p)?;
        let lower = first.of(left.q)?;
        let right = second.of(upper.q)?;
        (right.q == lower.q && upper.q != left.q).then_some(Self {
            rows: [p, upper.q, left.q, lower.q],
            first: [upper.coefficients(), lower.coefficients()],
            second: [left.coefficients(), right.coefficients()],
        })
    }
}

impl<T: Real> Four<T> {
    #[inline(always)]
    fn apply<const L: usize>(&self, [p, q, r, s]: [Row<L, T>; 4]) -> [Row<L, T>; 4] {
        let (p, q) = rotate(p, q, self.first[0]);
        let (r, s) = rotate(r, s, self.first[1]);
        let (p, r) = rotate(p, r, self.second[0]);
        let (q, s) = rotate(q, s, self.second[1]);
        [p, q, r, s]
    }
}

impl Three<f64> {
    /// The three rows from row p on, if that is what the rotations of p lead to.
    fn of(first: &Stage, second: &Stage, p: u32) -> Option<Self> {
        let own = first.of(p)?;
        let next = second.of(own.q)?;
        let ends = second.of(p).is_none() && first.of(next.q).is_none();
        ends.then_some(Self {
            rows: [p, own.q, next.q],
            first: own.coefficients(),
            second: next.coefficients(),
        })
    }
}

impl<T: Real> Three<T> {
    #[inline(always)]
    fn apply<const L: usize>(&self, [p, q, r]: [Row<L, T>; 3]) -> [Row<L, T>; 3] {
        let (p, q) = rotate(p, q, self.first);
        let (q, r) = rotate(q, r, self.second);
        [p, q, r]
    }
}

impl<T: Real> Single<T> {
    #[inline(always)]
    fn apply<const L: usize>(&self, [p, q]: [Row<L, T>; 2]) -> [Row<L, T>; 2] {
        rotate(p, q, self.only).into()
    }
}

#[inline(always)]
fn rotate<const L: usize, T: Real>(
    p: Row<L, T>,
    q: Row<L, T>,
    [on_p, on_q]: [T; 2],
) -> (Row<L, T>, Row<L, T>) {
    (
        std::array::from_fn(|lane| p[lane] + on_p * q[lane]),
        std::array::from_fn(|lane| q[lane] + on_q * p[lane]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every stage on its own.
    fn one_by_one(stages: &[Vec<Rotation>], order: Order, table: &mut [Row<1>]) {
        let mut turn = |stage: usize| {
            for block in table.chunks_exact_mut(2 << stage) {
                for &Rotation { p, q, on_p, on_q } in &stages[stage] {
                    let (p, q) = (p as usize, q as usize);
                    (block[p], block[q]) = rotate(block[p], block[q], [on_p, on_q]);
                }
            }
        };
        match order {
            Order::Ascending => (0..stages.len()).for_each(&mut turn),
            Order::Descending => (0..stages.len()).rev().for_each(&mut turn),
        }
    }

    /// Stages that pair some rows of the two halves of a block at random.
    fn stages(count: usize, random: &mut fastrand::Rng) -> Vec<Vec<Rotation>> {
        let stage = |stage: usize| {
            let half = 1u32 << stage;
            let mut partners: Vec<u32> = (half..2 * half).collect();
            random.shuffle(&mut partners);
            let rotation = |(p, q)| Rotation { p, q, on_p: random.f64(), on_q: -random.f64() };
            let all: Vec<Rotation> = (0..half).zip(partners).map(rotation).collect();
            all.into_iter().filter(|rotation| rotation.p % 5 != 3).collect()
        };
        (0..count).map(stage).collect()
    }

    #[test]
    fn grouped_stages_equal_stages_one_by_one_to_the_last_bit() {
        let mut random = fastrand::Rng::with_seed(12);
        for count in 1..=12 {
            // Chance pairs hardly ever meet in fours; pairs at equal distance always do.
            let scattered = stages(count, &mut random);
            let mut straight = scattered.clone();
            for (stage, rotations) in straight.iter_mut().enumerate() {
                rotations.iter_mut().for_each(|rotation| rotation.q = rotation.p + (1 << stage));
            }
            for (stages, order) in [
                (&scattered, Order::Ascending),
                (&scattered, Order::Descending),
                (&straight, Order::Ascending),
                (&straight, Order::Descending),
            ] {
                let mut wanted: Vec<Row<1>> = (0..1 << count).map(|_| [random.f64()]).collect();
                let mut found = wanted.clone();
                Rotations::new(stages, order).apply(&mut found);
                one_by_one(stages, order, &mut wanted);
                assert_eq!(found, wanted, "{count} stages, {order:?}");
            }
        }
    }

    #[test]
    fn pairs_at_equal_distance_are_grouped_in_fours() {
        let straight = |stage: usize| {
            let rotation = |p| Rotation { p, q: p + (1 << stage), on_p: 0.5, on_q: -0.5 };
            (0..1u32 << stage).map(rotation).collect()
        };
        let rotations = Rotations::new(&(0..8).map(straight).collect::<Vec<_>>(), Order::Ascending);
        for (rows, pass) in &rotations.passes {
            assert_eq!((pass.fours.len(), pass.singles.len()), (rows / 4, 0), "{rows} rows");
        }
    }
}
