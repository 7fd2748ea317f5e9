//! Probe samples on a device, as the upper part of a network takes them.

use super::{NetworkError, Probe, Program};
use std::ops::Range;
use tch::Tensor;

/// Probe samples that go through the lower part at a time.
const SAMPLES_AT_ONCE: usize = 32;

/// One probe sample on the device.
pub struct Sample {
    /// The features [1, …] at the split layer.
    pub features: Tensor,
    /// The further inputs [1, …] of the head.
    pub further: Vec<Tensor>,
}

/// One probe sample on the device, by its number.
///
/// # Errors
/// libtorch's, and an input that the probe lacks.
pub fn sample(
    program: &Program,
    probe: &Probe,
    index: usize,
    device: tch::Device,
) -> Result<Sample, NetworkError> {
    some(program, probe, index..index + 1, device).map(|mut one| one.swap_remove(0))
}

/// Every probe sample on the device.
///
/// # Errors
/// As [`sample`].
pub fn samples(
    program: &Program,
    probe: &Probe,
    device: tch::Device,
) -> Result<Vec<Sample>, NetworkError> {
    let mut all = Vec::with_capacity(probe.samples());
    for first in (0..probe.samples()).step_by(SAMPLES_AT_ONCE) {
        let last = (first + SAMPLES_AT_ONCE).min(probe.samples());
        all.extend(some(program, probe, first..last, device)?);
    }
    Ok(all)
}

/// Some samples, through the lower part together.
fn some(
    program: &Program,
    probe: &Probe,
    range: Range<usize>,
    device: tch::Device,
) -> Result<Vec<Sample>, NetworkError> {
    let (first, count) = (range.start, range.len() as i64);
    let inputs = probe.some(range, program.further()).map_err(refuse(first))?;
    let mut inputs: Vec<Tensor> = inputs.iter().map(|own| own.to_device(device)).collect();
    let features = program.features(&inputs)?;
    let further = inputs.split_off(1);
    let one = |row: i64| {
        let own = |tensor: &Tensor| tensor.narrow(0, row, 1);
        Sample { features: own(&features), further: further.iter().map(own).collect() }
    };
    Ok((0..count).map(one).collect())
}

pub(super) fn refuse(sample: usize) -> impl Fn(String) -> NetworkError {
    move |message| NetworkError::Torch { context: format!("probe sample {sample}"), message }
}
