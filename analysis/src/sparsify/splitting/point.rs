//! The point that the splitting moves, and a table on its own between two groups.

use crate::interaction::real::Real;
use crate::interaction::transform::Row;
use crate::sparsify::metric::{Metric, take_lane};
use aligned_vec::{AVec, ConstAlign, avec};

/// A table of 2^n rows that starts at a cache line.
pub(super) type Rows<const L: usize, T = f64> = AVec<Row<L, T>, ConstAlign<64>>;

pub(super) fn zeros<const L: usize, T: Real>(length: usize) -> Rows<L, T> {
    avec![[64]| [T::ZERO; L]; length]
}

/// The point t, or its anchor.
#[derive(Clone)]
pub(super) struct Point<const L: usize, T = f64> {
    pub(super) and: Rows<L, T>,
    pub(super) or: Rows<L, T>,
    pub(super) noise: Rows<L, T>,
}

impl<const L: usize, T: Real> Point<L, T> {
    pub(super) fn zero(length: usize) -> Self {
        Self { and: zeros(length), or: zeros(length), noise: zeros(length) }
    }

    pub(super) fn copy_from(&mut self, other: &Self) {
        self.and.copy_from_slice(&other.and);
        self.or.copy_from_slice(&other.or);
        self.noise.copy_from_slice(&other.noise);
    }

    pub(super) fn take_lane<const M: usize, U: Real>(
        &mut self,
        lane: usize,
        from: &Point<M, U>,
        from_lane: usize,
    ) {
        take_lane(&mut self.and, lane, &from.and, from_lane);
        take_lane(&mut self.or, lane, &from.or, from_lane);
        take_lane(&mut self.noise, lane, &from.noise, from_lane);
    }
}

/// Where one table stands, taken out of its lane so that it can go on in another.
pub(in crate::sparsify) struct Paused {
    pub(super) state: Point<1>,
    pub(super) anchor: Point<1>,
    pub(super) metric: Metric<1>,
    pub(super) anchor_age: usize,
    pub(super) iteration: usize,
}

impl Paused {
    /// Whether the iteration has not left the range of its numbers.
    pub(in crate::sparsify) fn is_finite(&self) -> bool {
        let Point { and, or, noise } = &self.state;
        [and, or, noise].into_iter().flat_map(|rows| rows.iter()).all(|[entry]| entry.is_finite())
    }

    /// The effects of the state, AND then OR.
    #[cfg(test)]
    pub(in crate::sparsify) fn clone_state(&self) -> Vec<f64> {
        self.state.and.iter().chain(self.state.or.iter()).map(|[entry]| *entry).collect()
    }

    /// Takes the state out of the range of numbers.
    #[cfg(test)]
    pub(in crate::sparsify) fn spoil(&mut self) {
        self.state.or[1] = [f64::NAN];
    }
}
