//! How decisions reach trainers, through the real program: the ladder, webhooks, manual commands, reload.
//!
//! The trainers are processes without a network (`tests/fixtures/trainer.py`); checkpoints are copied. Without the
//! virtual environment the tests say so and end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    dead_code,
    missing_docs,
    unused_imports
)]

#[path = "../bad_input/bench.rs"]
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod ladder;
mod manual;
mod receiver;
mod reload;
mod trainer;
mod webhooks;
