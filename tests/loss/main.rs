//! The losses of the regularised phase: those of the Python package on fixed sets, and what they must be by
//! themselves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;
mod nets;
mod parity;
mod properties;
