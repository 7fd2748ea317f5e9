//! Probe samples on a device, as the upper part of a network takes them.

use super::{Context, NetworkError, Probe, Program, guarded, memory};
use std::ops::Range;
use tch::Tensor;

/// Probe samples that go through the lower part at a time, where there is memory.
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
    let mut at_once = SAMPLES_AT_ONCE;
    while all.len() < probe.samples() {
        let range = all.len()..(all.len() + at_once).min(probe.samples());
        match guarded(|| some(program, probe, range, device)) {
            Err(error) if at_once > 1 && error.lacks_memory() => {
                at_once /= 2;
                memory::release();
            }
            samples => all.extend(samples?),
        }
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
    let inputs: Result<Vec<_>, _> = inputs.iter().map(|own| own.f_to_device(device)).collect();
    let mut inputs = inputs.context(|| format!("probe samples from {first} on"))?;
    let features = program.features(&inputs)?;
    let further = inputs.split_off(1);
    let one = |row: i64| {
        let own = |tensor: &Tensor| tensor.narrow(0, row, 1);
        Sample { features: own(&features), further: further.iter().map(own).collect() }
    };
    Ok((0..count).map(one).collect())
}

pub(super) fn refuse(sample: usize) -> impl Fn(String) -> NetworkError {
    move |message| NetworkError::Sample { sample, message }
}
