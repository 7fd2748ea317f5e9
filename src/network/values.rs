//! v(S) of masked inputs, from the logits that a network gives (DESIGN section 1).

use super::{Context, NetworkError};
use tch::{Kind, TchError, Tensor};

/// Logits that are float64 at a time, 32 MiB: those of a language model are many.
const LARGEST_BLOCK: i64 = 1 << 22;
/// Logits that are worked on together at least, where there are so many.
const WORTH_A_KERNEL: i64 = 1 << 16;

/// What consecutive masked inputs gave.
#[derive(Debug, Default)]
pub struct Values {
    /// v(S) of each, sample after sample, in log-odds.
    pub values: Vec<f64>,
    /// Logits of the whole samples among them, [classes] each.
    pub unmasked: Vec<Vec<f64>>,
}

/// Logits on their way to v(S). Those of several batches are worked on together: of few classes each batch
/// is little work and many kernels.
#[derive(Default)]
pub(super) struct Outputs {
    /// [B, classes] of each batch.
    logits: Vec<Tensor>,
    /// The class of each row.
    classes: Vec<i64>,
    /// Rows of whole samples.
    whole: Vec<i64>,
    /// Of the rows before.
    values: Values,
}

impl Outputs {
    /// Some rows of one sample, of which the last is the whole sample or not.
    pub(super) fn add(&mut self, class: i64, rows: usize, ends_whole: bool) {
        self.classes.resize(self.classes.len() + rows, class);
        if ends_whole {
            self.whole.push(self.classes.len() as i64 - 1);
        }
    }

    /// The logits of the rows that were added. Where memory runs out they are here all the same: `work` may go on when
    /// there is more, and the masked inputs that they come from must be left alone.
    pub(super) fn take(&mut self, logits: Tensor) -> Result<(), NetworkError> {
        let numbers = self.classes.len() as i64 * logits.size()[1];
        if numbers >= WORTH_A_KERNEL {
            self.logits.push(logits);
            return self.work();
        }
        // They may be a view of the masked inputs, which the next batch writes over.
        let copy = logits.f_empty_like().and_then(|mut copy| copy.f_copy_(&logits).map(|_| copy));
        let (kept, result) = match copy.context(of_logits) {
            Ok(copy) => (copy, Ok(())),
            // Its room is not written to again.
            Err(error) => (logits, Err(error)),
        };
        self.logits.push(kept);
        result
    }

    /// What all rows gave.
    pub(super) fn finish(mut self) -> Result<Values, NetworkError> {
        self.work()?;
        Ok(self.values)
    }

    /// What the logits give that have come together; where that fails they stay.
    pub(super) fn work(&mut self) -> Result<(), NetworkError> {
        let logits = match &self.logits[..] {
            [] => return Ok(()),
            [logits] => logits.shallow_clone(),
            several => Tensor::f_cat(several, 0).context(of_logits)?,
        };
        let values = to_vec(&log_odds(&logits, &self.classes).context(of_logits)?)?;
        if !self.whole.is_empty() {
            let whole = Tensor::f_from_slice(&self.whole).context(of_logits)?;
            let whole = whole.f_to_device(logits.device()).context(of_logits)?;
            let rows =
                to_vec(&logits.f_index_select(0, &whole).context(of_logits)?.flatten(0, -1))?;
            let classes = logits.size()[1] as usize;
            self.values.unmasked.extend(rows.chunks_exact(classes).map(<[f64]>::to_vec));
        }
        self.values.values.extend(values);
        self.logits.clear();
        self.classes.clear();
        self.whole.clear();
        Ok(())
    }
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f64>, NetworkError> {
    let numbers = tensor.f_to_kind(Kind::Double).context(of_logits)?;
    let numbers = numbers.f_to_device(tch::Device::Cpu).context(of_logits)?;
    Vec::<f64>::try_from(numbers).map_err(|error| NetworkError::Torch {
        context: "outputs".to_owned(),
        message: error.to_string(),
    })
}

/// v = z_y − logsumexp(z_{c≠y}) in float64 over rows of logits [B, classes], y of each row in `classes`.
fn log_odds(logits: &Tensor, classes: &[i64]) -> Result<Tensor, TchError> {
    let classes = Tensor::f_from_slice(classes)?.f_to_device(logits.device())?.f_unsqueeze(1)?;
    let rows = (LARGEST_BLOCK / logits.size()[1].max(1)).max(1);
    let blocks = logits.split(rows, 0).into_iter().zip(classes.split(rows, 0));
    let values = blocks.map(|(logits, classes)| {
        let logits = logits.f_to_kind(Kind::Double)?;
        let own = logits.f_gather(1, &classes, false)?.f_squeeze_dim(1)?;
        let others = logits.f_scatter_value(1, &classes, f64::NEG_INFINITY)?;
        own.f_sub(&others.f_logsumexp(&[1i64][..], false)?)
    });
    Tensor::f_cat(&values.collect::<Result<Vec<_>, TchError>>()?, 0)
}

fn of_logits() -> String {
    "logits".to_owned()
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
        let values = outputs.finish().expect("finished");
        assert_eq!(values.values, [1.0, 2.0]);
        assert_eq!(values.unmasked, [[2.0, 0.0]]);
    }

    #[test]
    fn log_odds_do_not_saturate_where_probabilities_do() {
        let logits = Tensor::from_slice(&[60.0f64, 0.0, 0.0, -60.0, 0.0, 0.0]).view([2, 3]);
        let values =
            Vec::<f64>::try_from(&log_odds(&logits, &[0, 0]).expect("log-odds")).expect("a vector");
        for (value, wanted) in values.iter().zip([60.0 - 2f64.ln(), -60.0 - 2f64.ln()]) {
            assert!((value - wanted).abs() < 1e-12, "{value} is not {wanted}");
        }
    }
}
