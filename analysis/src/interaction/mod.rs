//! AND-OR interactions of one value table (DESIGN section 1; paper Eq. 3, Theorem 1).
//!
//! A value table holds v(S) for every subset S of n variables, indexed by the bitmask of S. The
//! logical model explains it as
//!
//! ```text
//! v(S) − v(∅) = Σ_{∅≠T⊆S} x_T  +  Σ_{T∩S≠∅} y_T  +  δ_S        for every S ≠ ∅
//! ```
//!
//! with AND effects x, OR effects y and noise δ.

#[cfg(target_arch = "x86_64")]
mod butterfly;
mod form;
pub mod logical_model;
pub mod naive;
#[cfg(target_arch = "x86_64")]
mod plan;
pub mod real;
pub mod subset;
pub mod transform;

pub use logical_model::{Fidelity, Interactions, Kind};
