//! All 2^n masked inputs of every sample of a probe, and their way through a network (DESIGN section 1).

use super::masked::{Masked, subsets};
use super::sample::{refuse, samples};
use super::values::{Outputs, Values};
use super::{Batch, Context, NetworkError, Probe, Program, memory};
use crate::evaluation::{Baseline, Variables};
use std::ops::Range;
use tch::Tensor;

/// The masked inputs of a probe for one checkpoint: rows, counted sample by sample and subset by subset.
///
/// The masked copies are made on the device from one feature tensor: h at the positions of present
/// variables, b elsewhere. Batches are full whatever n is: a batch takes masked inputs of
/// as many samples as it needs. Of each only v(S) leaves the device.
pub struct MaskedInputs {
    masked: Vec<Masked>,
    subsets: Tensor,
    classes: Vec<i64>,
}

impl MaskedInputs {
    /// Sends the samples through the lower part of the network, which holds the weights of the checkpoint.
    ///
    /// # Errors
    /// libtorch's, and variables that do not fit the features.
    pub fn new(
        program: &Program,
        probe: &Probe,
        chosen: &Variables,
        baseline: Baseline,
        device: tch::Device,
    ) -> Result<Self, NetworkError> {
        let mut masked = Vec::new();
        for (index, sample) in samples(program, probe, device)?.into_iter().enumerate() {
            masked.push(Masked::new(index, sample, probe, chosen, baseline)?);
        }
        let subsets = subsets(chosen.count, device)?;
        Ok(Self { masked, subsets, classes: chosen.classes.clone() })
    }

    /// Masked inputs of one sample, 2^n.
    pub fn rows_of_a_sample(&self) -> usize {
        self.subsets.size()[0] as usize
    }

    /// Masked inputs of all samples.
    pub fn rows(&self) -> usize {
        self.masked.len() * self.rows_of_a_sample()
    }

    /// Sends some of them through the upper part, in the precision that is set. Where there is not enough memory, the
    /// batch becomes smaller, down to one masked input.
    ///
    /// # Errors
    /// libtorch's, and a label that is no class.
    pub fn through(
        &self,
        program: &Program,
        rows: Range<usize>,
        batch: &mut Batch,
    ) -> Result<Values, NetworkError> {
        let mut outputs = Outputs::default();
        // One for all batches, so that each writes where the one before has been.
        let mut room: Option<Tensor> = None;
        let mut start = rows.start;
        while start < rows.end {
            let some = start..(start + batch.rows()).min(rows.end);
            let pieces = self.pieces(&some);
            let mut forward = || {
                let first = self.masked.first().ok_or(NetworkError::Died)?;
                let most = batch.rows().min(rows.end - rows.start);
                let room = match &mut room {
                    Some(room) => room,
                    room => room.insert(first.room(most)?),
                };
                self.forward(program, &pieces, &room.narrow(0, 0, some.len() as i64))
            };
            let logits = match super::guarded(&mut forward) {
                Err(error) if batch.shrink(&error, some.len()) => {
                    room = None;
                    continue;
                }
                logits => logits?,
            };
            for &(index, from, to) in &pieces {
                let class = self.classes[index];
                if class >= logits.size()[1] {
                    return Err(refuse(index)(format!(
                        "has label {class}, but the network has {} classes; labels count from 0",
                        logits.size()[1]
                    )));
                }
                outputs.add(class, to - from, to == self.rows_of_a_sample());
            }
            // They stay where their memory ran out, which what is kept for the next batch may have been.
            if let Err(error) = outputs.take(logits) {
                if !error.lacks_memory() {
                    return Err(error);
                }
                room = None;
                memory::release();
                outputs.work()?;
            }
            start = some.end;
        }
        outputs.finish()
    }

    /// The rows of each sample among some: (sample, first subset, last subset + 1).
    fn pieces(&self, rows: &Range<usize>) -> Vec<(usize, usize, usize)> {
        let subsets = self.rows_of_a_sample();
        (rows.start / subsets..=(rows.end - 1) / subsets)
            .map(|index| {
                let first = index * subsets;
                (index, rows.start.max(first) - first, rows.end.min(first + subsets) - first)
            })
            .collect()
    }

    /// The logits of one batch, whose masked features are written into `features`.
    fn forward(
        &self,
        program: &Program,
        pieces: &[(usize, usize, usize)],
        features: &Tensor,
    ) -> Result<Tensor, NetworkError> {
        let mut further = Vec::with_capacity(pieces.len());
        let mut row = 0;
        for &(index, from, to) in pieces {
            let count = (to - from) as i64;
            let own = self.subsets.narrow(0, from as i64, count);
            further.push(self.masked[index].write(&own, &mut features.narrow(0, row, count))?);
            row += count;
        }
        program.head(features, &joined(further)?)
    }
}

/// The further inputs of a batch, from those of its samples.
fn joined(mut parts: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>, NetworkError> {
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    let count = parts.first().map_or(0, Vec::len);
    let input = |input: usize| {
        let own: Vec<&Tensor> = parts.iter().map(|further| &further[input]).collect();
        Tensor::f_cat(&own, 0).context(|| "further inputs".to_owned())
    };
    (0..count).map(input).collect()
}
