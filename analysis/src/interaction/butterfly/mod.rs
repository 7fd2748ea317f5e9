//! The butterflies of a transform on whole vectors of the processor, for AVX-512 and AVX2.
//!
//! All `unsafe` code of the transforms is here. A *column* is 2, 4, 8, 16 or 32 vectors that stand
//! `distance` vectors apart: it is loaded, goes through 1 to 5 stages in registers and is stored. The
//! rows of its first half are final before those of the second are loaded, so they are stored first.
//! Every number takes part in the same additions in the same order as in the portable form.
#![cfg(target_arch = "x86_64")]

mod column;
mod kept;
mod table;
mod work;

use super::form::Form;
use super::plan::Plan;
use super::real::Real;
use column::Vector;
use kept::Kept;
use std::any::TypeId;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use table::{MOST_VECTORS, Table};
use work::Work;

/// # Safety
/// As of [`Work::run`].
#[inline(always)]
unsafe fn run<V: Vector>(form: Form, work: Work<V>) {
    // SAFETY: the caller's.
    unsafe {
        match form {
            Form::Zeta | Form::Adjoint => work.run::<false, false>(),
            Form::Moebius => work.run::<true, false>(),
            Form::Or => work.run::<false, true>(),
        }
    }
}

/// # Safety
/// As of [`Work::run`].
#[target_feature(enable = "avx512f")]
unsafe fn avx512<V: Vector>(form: Form, work: Work<V>) {
    // SAFETY: the caller's.
    unsafe { run(form, work) }
}

/// # Safety
/// As of [`Work::run`].
#[target_feature(enable = "avx2")]
unsafe fn avx2<V: Vector>(form: Form, work: Work<V>) {
    // SAFETY: the caller's.
    unsafe { run(form, work) }
}

/// Calls with room for what tiles keep. A function of its own: small tables need none, and to have it
/// takes as long as they do.
#[inline(never)]
fn with_room(call: impl FnOnce(*mut Kept)) {
    call(MaybeUninit::uninit().as_mut_ptr());
}

/// The vectors that a table is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vectors {
    Avx512,
    Avx2,
}

impl Vectors {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Avx512 => size_of::<__m512>(),
            Self::Avx2 => size_of::<__m256>(),
        }
    }

    /// Stages of one pass in registers.
    pub(super) fn stages(self) -> u32 {
        match self {
            Self::Avx512 => 5,
            Self::Avx2 => 4,
        }
    }

    pub(super) fn are_there(self) -> bool {
        match self {
            Self::Avx512 => std::is_x86_feature_detected!("avx512f"),
            Self::Avx2 => std::is_x86_feature_detected!("avx2"),
        }
    }

    /// Transforms a table whose rows are whole vectors.
    ///
    /// # Panics
    /// When the processor lacks the instructions, or the plan is not that of the table.
    pub(super) fn transform<T: Real>(self, form: Form, table: &mut [T], plan: Plan) {
        let rows = 1 << plan.levels[2].block;
        let row = size_of_val(table) / self.bytes() / rows;
        assert!(self.are_there(), "BUG: no {self:?} here");
        assert_eq!(size_of_val(table), row * rows * self.bytes(), "BUG: a row is no whole vectors");
        assert!(form != Form::Or || is_or_done(row, plan), "BUG: no OR of {plan:?}");
        let double = TypeId::of::<T>() == TypeId::of::<f64>();
        assert!(
            double || TypeId::of::<T>() == TypeId::of::<f32>(),
            "BUG: no floating-point number"
        );
        let start = table.as_mut_ptr();
        let call = |kept: *mut Kept| {
            // SAFETY: the processor was asked, the numbers are of the vectors' type, and the table
            // holds the rows of the plan.
            unsafe {
                match (self, double) {
                    (Self::Avx512, true) => {
                        avx512::<__m512d>(form, work(form, start, row, plan, kept))
                    }
                    (Self::Avx512, false) => {
                        avx512::<__m512>(form, work(form, start, row, plan, kept))
                    }
                    (Self::Avx2, true) => avx2::<__m256d>(form, work(form, start, row, plan, kept)),
                    (Self::Avx2, false) => avx2::<__m256>(form, work(form, start, row, plan, kept)),
                }
            }
        };
        if plan.is_within_first_cache() {
            call(std::ptr::null_mut());
        } else {
            with_room(call);
        }
    }
}

fn work<T, V>(form: Form, start: *mut T, row: usize, plan: Plan, kept: *mut Kept) -> Work<V> {
    let backward = matches!(form, Form::Adjoint | Form::Or);
    Work { table: Table { start: start.cast(), row, backward }, plan, kept: kept.cast() }
}

/// Whether the OR transform of a table of such rows is done in the passes of its plan: its first pass is
/// not the last one, and the total of a row is found by the number of a vector.
pub(super) fn is_or_done(row: usize, plan: Plan) -> bool {
    row.is_power_of_two() && row <= MOST_VECTORS && plan.levels[0].passes[0] < plan.levels[2].block
}
