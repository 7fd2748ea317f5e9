//! v(S) for every S: the masked forwards (DESIGN section 1).

use super::masked::{Masked, subsets};
use super::{NetworkError, Probe, Program, precision};
use crate::evaluation::precision::REFERENCE_SAMPLES;
use crate::evaluation::{Baseline, Precision, ProbeValues, Variables};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Logits that are float64 at a time, 32 MiB: those of a language model are many.
const LARGEST_BLOCK: i64 = 1 << 22;
/// Logits that are worked on together at least, where there are so many.
const WORTH_A_KERNEL: i64 = 1 << 16;
/// Features of a batch on a CPU: more take longer, row by row.
const CACHED_BYTES: usize = 16 << 20;
/// Features of a batch on a GPU: fewer leave it idle, more gain little (docs/gpu.md).
const FILLING_BYTES: usize = 32 << 20;
/// Rows of a batch that is not chosen.
const LEAST_BATCH: usize = 16;
const LARGEST_BATCH: usize = 256;
const LARGEST_BATCH_OF_A_GPU: usize = 8192;
/// Probe samples that go through the lower part at a time.
const SAMPLES_AT_ONCE: usize = 32;

/// How masked inputs go through a network.
#[derive(Clone, Copy, Debug)]
pub struct Forwards {
    /// Masked inputs at a time; by default what suits the device.
    pub batch: Option<usize>,
    /// Where.
    pub device: tch::Device,
    /// How matrix products and convolutions are computed.
    pub precision: Precision,
}

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

/// Evaluates all 2^n masked inputs of every sample.
///
/// The masked copies are made on the device from one feature tensor: h at the positions of present
/// variables, b elsewhere. Batches are full whatever n is: a batch takes masked inputs of
/// as many samples as it needs. Of each only v(S) leaves the device. In a lower precision than float32 the
/// features stay float32, and the first samples are evaluated in float32 as well.
///
/// # Errors
/// libtorch's, and variables that do not fit the features.
pub fn evaluate(
    program: &Program,
    probe: &Probe,
    chosen: &Variables,
    baseline: Baseline,
    forwards: Forwards,
) -> Result<ProbeValues, NetworkError> {
    let Forwards { batch, device, precision } = forwards;
    let mut masked = Vec::new();
    for (index, sample) in self::samples(program, probe, device)?.into_iter().enumerate() {
        masked.push(Masked::new(index, sample, probe, chosen, baseline)?);
    }
    let subsets = subsets(chosen.count, device);
    let batch = batch.unwrap_or_else(|| suitable_batch(&masked, device));
    let through = |masked: &[Masked]| through(program, masked, &subsets, &chosen.classes, batch);
    if precision == Precision::Float32 {
        return precision::within(precision, device, || through(&masked));
    }
    let result = precision::within(precision, device, || through(&masked))?;
    let first = &masked[..masked.len().min(REFERENCE_SAMPLES)];
    let reference = precision::within(Precision::Float32, device, || through(first))?.values;
    Ok(ProbeValues { reference, ..result })
}

/// Masked inputs at a time: on a CPU what its caches help with, on a GPU what fills it.
fn suitable_batch(masked: &[Masked], device: tch::Device) -> usize {
    let Some(first) = masked.first() else { return LEAST_BATCH };
    let (bytes, most) = match device.is_cuda() {
        true => (FILLING_BYTES, LARGEST_BATCH_OF_A_GPU),
        false => (CACHED_BYTES, LARGEST_BATCH),
    };
    (bytes / first.bytes().max(1)).clamp(LEAST_BATCH, most)
}

/// All masked inputs of some samples through the head, in the precision that is set.
fn through(
    program: &Program,
    masked: &[Masked],
    bitmasks: &Tensor,
    classes_of: &[i64],
    batch: usize,
) -> Result<ProbeValues, NetworkError> {
    let subsets = bitmasks.size()[0] as usize;
    let mut outputs = Outputs::default();
    let rows = masked.len() * subsets;
    let Some(first) = masked.first() else { return Ok(ProbeValues::default()) };
    // One for all batches, so that each writes where the one before has been.
    let room = first.room(batch.max(1).min(rows));
    for start in (0..rows).step_by(batch.max(1)) {
        let end = (start + batch.max(1)).min(rows);
        // The rows of each sample in this batch: (sample, first subset, last subset + 1).
        let pieces: Vec<(usize, usize, usize)> = (start / subsets..=(end - 1) / subsets)
            .map(|index| {
                let first = index * subsets;
                (index, start.max(first) - first, end.min(first + subsets) - first)
            })
            .collect();
        let features = room.narrow(0, 0, (end - start) as i64);
        let mut further = Vec::with_capacity(pieces.len());
        let mut row = 0;
        for &(index, from, to) in &pieces {
            let count = (to - from) as i64;
            let own = bitmasks.narrow(0, from as i64, count);
            further.push(masked[index].write(&own, &mut features.narrow(0, row, count)));
            row += count;
        }
        let logits = program.head(&features, &joined(further))?;
        for &(index, from, to) in &pieces {
            let class = classes_of[index];
            if class >= logits.size()[1] {
                return Err(refuse(index)(format!(
                    "has label {class}, but the network has {} classes; labels count from 0",
                    logits.size()[1]
                )));
            }
            outputs.add(class, to - from, to == subsets);
        }
        outputs.take(logits)?;
    }
    outputs.finish()?;
    let values = outputs.values.chunks_exact(subsets).map(<[f64]>::to_vec).collect();
    Ok(ProbeValues { values, logits: outputs.unmasked, reference: Vec::new() })
}

/// The further inputs of a batch, from those of its samples.
fn joined(mut parts: Vec<Vec<Tensor>>) -> Vec<Tensor> {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let count = parts.first().map_or(0, Vec::len);
    let input = |input: usize| {
        let own: Vec<&Tensor> = parts.iter().map(|further| &further[input]).collect();
        Tensor::cat(&own, 0)
    };
    (0..count).map(input).collect()
}

/// Logits on their way to v(S). Those of several batches are worked on together: of few classes each batch
/// is little work and many kernels.
#[derive(Default)]
struct Outputs {
    /// [B, classes] of each batch.
    logits: Vec<Tensor>,
    /// The class of each row.
    classes: Vec<i64>,
    /// Rows of whole samples.
    whole: Vec<i64>,
    /// v(S) of the rows before.
    values: Vec<f64>,
    /// Logits of the whole samples before.
    unmasked: Vec<Vec<f64>>,
}

impl Outputs {
    /// Some rows of one sample, of which the last is the whole sample or not.
    fn add(&mut self, class: i64, rows: usize, ends_whole: bool) {
        self.classes.resize(self.classes.len() + rows, class);
        if ends_whole {
            self.whole.push(self.classes.len() as i64 - 1);
        }
    }

    /// The logits of the rows that were added.
    fn take(&mut self, logits: Tensor) -> Result<(), NetworkError> {
        let numbers = self.classes.len() as i64 * logits.size()[1];
        if numbers >= WORTH_A_KERNEL {
            self.logits.push(logits);
            return self.finish();
        }
        // They may be a view of the masked inputs, which the next batch writes over.
        self.logits.push(logits.copy());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), NetworkError> {
        if self.logits.is_empty() {
            return Ok(());
        }
        let logits = match self.logits.len() {
            1 => self.logits.swap_remove(0),
            _ => Tensor::cat(&std::mem::take(&mut self.logits), 0),
        };
        self.values.extend(to_vec(&log_odds(&logits, &self.classes))?);
        if !self.whole.is_empty() {
            let whole = Tensor::from_slice(&self.whole).to_device(logits.device());
            let rows = to_vec(&logits.index_select(0, &whole).flatten(0, -1))?;
            let classes = logits.size()[1] as usize;
            self.unmasked.extend(rows.chunks_exact(classes).map(<[f64]>::to_vec));
        }
        self.logits.clear();
        self.classes.clear();
        self.whole.clear();
        Ok(())
    }
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f64>, NetworkError> {
    let numbers = tensor.to_kind(Kind::Double).to_device(tch::Device::Cpu);
    Vec::<f64>::try_from(numbers).map_err(|error| NetworkError::Torch {
        context: "outputs".to_owned(),
        message: error.to_string(),
    })
}

/// v = z_y − logsumexp(z_{c≠y}) in float64 over rows of logits [B, classes], y of each row in `classes`.
fn log_odds(logits: &Tensor, classes: &[i64]) -> Tensor {
    let classes = Tensor::from_slice(classes).to_device(logits.device()).unsqueeze(1);
    let rows = (LARGEST_BLOCK / logits.size()[1].max(1)).max(1);
    let blocks = logits.split(rows, 0).into_iter().zip(classes.split(rows, 0));
    let values = blocks.map(|(logits, classes)| {
        let logits = logits.to_kind(Kind::Double);
        let own = logits.gather(1, &classes, false).squeeze_dim(1);
        let others = logits.scatter_value(1, &classes, f64::NEG_INFINITY);
        own - others.logsumexp(&[1i64][..], false)
    });
    Tensor::cat(&values.collect::<Vec<_>>(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_that_are_a_view_of_the_inputs_outlive_the_next_batch() {
        let mut outputs = Outputs::default();
        let mut inputs = Tensor::from_slice(&[1.0f32, 0.0]).view([1, 2]);
        for value in [1.0, 2.0] {
            let _ = inputs.fill_(0.0).select(1, 0).fill_(value);
            outputs.add(0, 1, value == 2.0);
            outputs.take(inputs.view([1, 2])).expect("taken");
        }
        let _ = inputs.fill_(9.0);
        outputs.finish().expect("finished");
        assert_eq!(outputs.values, [1.0, 2.0]);
        assert_eq!(outputs.unmasked, [[2.0, 0.0]]);
    }

    #[test]
    fn log_odds_do_not_saturate_where_probabilities_do() {
        let logits = Tensor::from_slice(&[60.0f64, 0.0, 0.0, -60.0, 0.0, 0.0]).view([2, 3]);
        let values = Vec::<f64>::try_from(&log_odds(&logits, &[0, 0])).expect("a vector");
        for (value, wanted) in values.iter().zip([60.0 - 2f64.ln(), -60.0 - 2f64.ln()]) {
            assert!((value - wanted).abs() < 1e-12, "{value} is not {wanted}");
        }
    }
}
