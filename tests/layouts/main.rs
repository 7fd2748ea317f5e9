//! Checkpoints in every layout, written by the libraries that trainers use: each is loaded by the
//! product's own path, and its values are PyTorch's. Damaged and hostile ones are refused with a reason.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod fixture;
mod hostile;
mod parity;
mod refused;
