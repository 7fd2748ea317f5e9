//! Sparsest AND-OR extraction: a linear programme, solved with a certificate (DESIGN section 6).
//!
//! ```text
//! minimise    Σ c_T |x_T| + Σ d_T |y_T|
//! subject to  v(S) − v(∅) = Σ_{∅≠T⊆S} x_T + Σ_{T∩S≠∅} y_T + δ_S,   |δ_S| ≤ ζ,   S ≠ ∅
//! ```
//!
//! [`problem`] states it, [`solver`] solves it in batches, and [`certificate`] says, knowing nothing
//! of the solver, how far an answer can be from the optimum. Only the certificate is believed.

pub mod certificate;
mod crossover;
#[doc(hidden)] // For the other form of the solver.
pub mod metric;
pub mod problem;
mod rotations;
pub mod settings;
pub mod solver;
#[doc(hidden)] // For the other form of the solver.
pub mod splitting;
mod symmetry;
#[cfg(test)]
mod tests;

pub use certificate::Certificate;
pub use problem::{Problem, ProblemError};
pub use settings::{LARGEST_SHARE, Settings};
pub use solver::{EXACT_GAP, SOLVER_NAME, SOLVER_VERSION, Solution, Solver, Status};
