//! convergd stops the training of neural networks when their interactions have converged.
//!
//! Everything that needs no libtorch is in [`convergd_core`], whose modules stand here too: transforms, solver,
//! convergence, policy, checkpoints, history, control. This crate adds the networks, the solver's form for a GPU,
//! the daemon on top, and for trainers in Rust the [`loss`] of the regularised phase and [`saving`].

pub use convergd_core::{
    best, checkpoint, clock, config, control, convergence, evaluation, extractor, failpoint, files,
    history, interaction, layout, libtorch, notify, outbox, page, person, pipeline, policy, role,
    run_clock, signal, sparsify, tables, telemetry, tensorboard,
};

pub mod backfill;
pub mod cli;
pub mod daemon;
pub mod loss;
pub mod network;
mod priority;
pub mod saving;
pub mod tensor_solver;
