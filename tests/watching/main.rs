//! Watching, in simulated worlds with their own clock and with the real threads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;
mod full_disk;
mod reports;
mod simulation;
mod threads;
mod world;
