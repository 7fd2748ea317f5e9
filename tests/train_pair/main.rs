//! The trainer in Rust, `examples/train_pair`: its networks, and how it obeys the control file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;
mod control;
#[path = "../../examples/train_pair/main.rs"]
#[allow(dead_code)]
mod example;
mod networks;
mod run;
mod samples;
