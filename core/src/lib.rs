//! convergd stops the training of neural networks when their interactions have converged.
//!
//! ```text
//! checkpoint → value table → interactions + certificate → pair → convergence → decision
//!            → history → control, metrics, report
//! ```
//!
//! This crate is all of it that needs no libtorch, which takes a fifth of a second to load: whoever only reads a
//! history or checks a policy does without. The crate `convergd` adds the networks and the daemon.
//!
//! What it decides by is mathematics and a crate of its own, whose modules are here too: [`interaction`], [`sparsify`],
//! [`convergence`], [`policy`]. Around them one adapter for each outside thing, and the commands.

pub mod account;
pub mod best;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod evaluation;
pub mod explanation;
pub mod extractor;
pub mod failpoint;
pub mod files;
pub mod history;
pub mod layout;
pub mod libtorch;
pub mod notify;
pub mod outbox;
pub mod page;
pub mod person;
pub mod pipeline;
pub mod run_clock;
pub mod tables;
pub mod telemetry;
pub mod tensorboard;

pub use convergd_analysis::{convergence, interaction, policy, role, signal, sparsify};
