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
//! This crate is all of it that needs no libtorch, which takes a fifth of a second to load: whoever only reads a
//! history or checks a policy does without. The crate `convergd` adds the networks and the daemon.
//!
//! The pure core, which needs no file, thread or clock either: [`interaction`], [`sparsify`],
//! [`convergence`], [`policy`]. Around it one adapter for each outside thing.

pub mod convergence;
pub mod interaction;
pub mod policy;
pub mod role;
pub mod signal;
pub mod sparsify;

#[cfg(feature = "sidecar")]
pub mod account;
#[cfg(feature = "sidecar")]
pub mod best;
#[cfg(feature = "sidecar")]
pub mod checkpoint;
#[cfg(feature = "sidecar")]
pub mod cli;
#[cfg(feature = "sidecar")]
pub mod clock;
#[cfg(feature = "sidecar")]
pub mod config;
#[cfg(feature = "sidecar")]
pub mod control;
#[cfg(feature = "sidecar")]
pub mod evaluation;
#[cfg(feature = "sidecar")]
pub mod explanation;
#[cfg(feature = "sidecar")]
pub mod extractor;
#[cfg(feature = "sidecar")]
pub mod failpoint;
#[cfg(feature = "sidecar")]
pub mod files;
#[cfg(feature = "sidecar")]
pub mod history;
#[cfg(feature = "sidecar")]
pub mod layout;
#[cfg(feature = "sidecar")]
pub mod libtorch;
#[cfg(feature = "sidecar")]
pub mod notify;
#[cfg(feature = "sidecar")]
pub mod outbox;
#[cfg(feature = "sidecar")]
pub mod page;
#[cfg(feature = "sidecar")]
pub mod person;
#[cfg(feature = "sidecar")]
pub mod pipeline;
#[cfg(feature = "sidecar")]
pub mod run_clock;
#[cfg(feature = "sidecar")]
pub mod tables;
#[cfg(feature = "sidecar")]
pub mod telemetry;
#[cfg(feature = "sidecar")]
pub mod tensorboard;
