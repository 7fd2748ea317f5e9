//! From value tables to decisions: all that is mathematics in convergd.
//!
//! Each network's output on a sample x, masked to the variables in S ⊆ N, is a table v(S) of 2^n numbers. The
//! sparsest AND-OR model of it
//!
//! ```text
//! v(S) − v(∅) = Σ_{∅≠T⊆S} x_T + Σ_{T∩S≠∅} y_T + δ_S,   |δ_S| ≤ ζ
//! ```
//!
//! names the inference patterns T of the network with their effects ([`interaction`], [`sparsify`]). What two networks
//! have in common of these ([`convergence`]), and when that peaks ([`policy`]), decides when the training stops.
//!
//! No file, clock or thread: the solver uses the rayon pool that it is called in. Where tests are built this crate of
//! ours alone is optimised, since all others would take minutes to optimise.

pub mod convergence;
pub mod interaction;
pub mod policy;
pub mod role;
pub mod signal;
pub mod sparsify;
