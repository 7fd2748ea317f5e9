//! Bad input through the real program: every refusal names the file, the place and the value, says
//! what to try, and loses nothing.
//!
//! `tests/fixtures/make_bad_input.py` makes a small run and everything that can be wrong with its
//! files. Without the virtual environment the tests say so and end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod arrivals;
mod bench;
mod best;
mod cache;
mod checkpoints;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod control;
mod directories;
mod doctor;
mod explain;
mod extract;
mod full;
mod layouts;
mod memory;
mod pairing;
mod policy;
mod probe_and_program;
mod state;
mod values;
