//! What an evaluation of networks is asked for, and what it gives; pure data, and the cache of it.
//!
//! libtorch does it, in a crate of its own: what only reads a history needs none.

pub mod cache;
pub mod device;
pub mod precision;
pub mod priority;
pub mod probe;
pub mod values;
pub mod variables;

pub use cache::{Cached, ValueCache};
pub use device::{DeviceChoice, UnknownDevice};
pub use precision::{Precision, UnknownPrecision};
pub use priority::{IoPriority, Priority, UnknownIoPriority};
pub use values::ProbeValues;
pub use variables::{Assignment, Baseline, VariableRule, Variables};

use crate::layout::Reading;
use std::path::PathBuf;

/// Share of the free memory of a device that a batch may take, by default: as much is left to who grows beside it.
pub const MEMORY_SHARE: f64 = 0.5;

/// What is evaluated, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// TorchScript files, (target, baseline).
    pub programs: [PathBuf; 2],
    /// How checkpoints are read, (target, baseline).
    pub reading: [Reading; 2],
    /// safetensors file of the probe.
    pub probe: PathBuf,
    /// Only the first so many samples.
    pub samples: Option<usize>,
    /// How variables are chosen where the probe file does not say.
    pub variables: Option<VariableRule>,
    /// What replaces an absent variable.
    pub baseline: Baseline,
    /// The devices, of one kind; the samples are shared out among them.
    pub devices: Vec<DeviceChoice>,
    /// The precision of the forwards.
    pub precision: Precision,
    /// Threads of libtorch. Its idle threads spin, so this is set explicitly.
    pub threads: usize,
    /// Masked inputs in one forward; by default what suits the device.
    pub batch: Option<usize>,
    /// Share of the free memory of a device that a batch may take.
    pub memory: f64,
    /// Of the threads that evaluate, beside a training.
    pub priority: Priority,
}
