//! Kills: whatever happens to the process and whenever, a run decides what an undisturbed one decides, once.
//!
//! A run of several pairs with a phase switch and a stop is driven as trainers would drive it: checkpoints are put
//! on the disk one step at a time, and each decision is acknowledged. The process is killed and started again
//! until the run is over; then everything that it has stored and told is compared with an undisturbed run. In another run
//! persons decide too, the policy changes, a webhook is told and the ladder is climbed.
//! Also here, since they need the same feature: a clock that is turned, devices that fail, and kills of processes that
//! make value tables together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod backfill;
#[allow(dead_code, unused_imports)]
#[path = "../bad_input/bench.rs"]
mod bench;
mod clock;
#[path = "../common/mod.rs"]
mod common;
mod devices;
mod ending;
mod events;
mod failing;
mod places;
mod random;
#[allow(dead_code)]
#[path = "../control/receiver.rs"]
mod receiver;
mod requests;
mod tables;
mod world;
