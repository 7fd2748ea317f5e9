//! convergd stops the training of neural networks when their interactions have converged.
//!
//! Two networks learn the same task from different random starts. Each network's output on a sample
//! x, masked to the variables in S ⊆ N, is a table v(S) of 2^n numbers. The sparsest AND-OR model of it
//!
//! ```text
//! v(S) − v(∅) = Σ_{∅≠T⊆S} x_T + Σ_{T∩S≠∅} y_T + δ_S,   |δ_S| ≤ ζ
//! ```
//!
//! names the inference patterns T of the network with their effects. What the two networks have in
//! common of these, and when that peaks, decides when the training stops.
//!
//! ```text
//! checkpoint → value table → interactions + certificate → pair → convergence → decision
//!            → history → control, metrics, report
//! ```
//!
//! The pure core, which needs no libtorch, file, thread or clock: [`interaction`], [`sparsify`],
//! [`convergence`], [`policy`]. Around it one adapter for each outside thing, and on top of them the
//! pipeline and the daemon.

pub mod convergence;
pub mod interaction;
pub mod policy;
pub mod role;
pub mod sparsify;

#[cfg(feature = "torch")]
pub mod checkpoint;
#[cfg(feature = "torch")]
pub mod cli;
#[cfg(feature = "torch")]
pub mod config;
#[cfg(feature = "torch")]
pub mod control;
#[cfg(feature = "torch")]
pub mod daemon;
#[cfg(feature = "torch")]
pub mod extractor;
#[cfg(feature = "torch")]
pub mod failpoint;
#[cfg(feature = "torch")]
pub mod files;
#[cfg(feature = "torch")]
pub mod history;
#[cfg(feature = "torch")]
pub mod layout;
#[cfg(feature = "torch")]
pub mod network;
#[cfg(feature = "torch")]
pub mod notify;
#[cfg(feature = "torch")]
pub mod pipeline;
pub mod signal;
#[cfg(feature = "torch")]
pub mod tables;
#[cfg(feature = "torch")]
pub mod telemetry;
#[cfg(feature = "torch")]
pub mod tensor_solver;
