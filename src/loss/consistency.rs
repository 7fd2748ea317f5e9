//! The two losses that the paper compares with Eq. 9: consistency of outputs or of features.
//!
//! ‖·‖² is the sum over all logits or features of a sample, E the mean over the batch.

use super::network::{Network, plain};
use super::values::{at_least_float32, check_labels};
use super::{LossError, PairLoss, Ramp, Ramped};
use tch::{Kind, Tensor};

/// λ · E‖z_a − z_b‖² + (1 − λ) · (CE_a + CE_b), z the logits (Eq. 11).
#[derive(Debug)]
pub struct OutputConsistencyLoss {
    ramp: Ramp,
}

/// λ · E‖f_a − f_b‖² + (1 − λ) · (CE_a + CE_b), f the features at the split of each network (Eq. 12).
#[derive(Debug)]
pub struct FeatureConsistencyLoss {
    ramp: Ramp,
}

impl OutputConsistencyLoss {
    /// Begins at `lambda`; a change takes `ramp` steps unless it says otherwise, 0 means at once.
    ///
    /// # Errors
    /// A λ that is not 0 to 1.
    pub fn new(lambda: f64, ramp: u64) -> Result<Self, LossError> {
        Ok(Self { ramp: Ramp::new(lambda, ramp)? })
    }

    /// Evaluates the loss of (target, baseline) on a batch of inputs [B, …] with labels int64 [B], as one step of the
    /// ramp.
    ///
    /// # Errors
    /// Logits of different shape, labels that do not fit the batch.
    pub fn evaluate(
        &mut self,
        networks: [&dyn Network; 2],
        inputs: &Tensor,
        labels: &Tensor,
    ) -> Result<PairLoss, LossError> {
        evaluate(self.ramp.step(), Compared::Logits, networks, inputs, labels)
    }
}

impl FeatureConsistencyLoss {
    /// As [`OutputConsistencyLoss::new`].
    ///
    /// # Errors
    /// A λ that is not 0 to 1.
    pub fn new(lambda: f64, ramp: u64) -> Result<Self, LossError> {
        Ok(Self { ramp: Ramp::new(lambda, ramp)? })
    }

    /// As [`OutputConsistencyLoss::evaluate`].
    ///
    /// # Errors
    /// Features of different shape, labels that do not fit the batch.
    pub fn evaluate(
        &mut self,
        networks: [&dyn Network; 2],
        inputs: &Tensor,
        labels: &Tensor,
    ) -> Result<PairLoss, LossError> {
        evaluate(self.ramp.step(), Compared::Features, networks, inputs, labels)
    }
}

#[derive(Clone, Copy)]
enum Compared {
    Logits,
    Features,
}

fn evaluate(
    lambda: f64,
    compared: Compared,
    [target, baseline]: [&dyn Network; 2],
    inputs: &Tensor,
    labels: &Tensor,
) -> Result<PairLoss, LossError> {
    let (first, second) = (plain(target, inputs)?, plain(baseline, inputs)?);
    check_labels(labels, first.logits.size()[0])?;
    let consistency = match compared {
        _ if lambda == 0.0 => None,
        Compared::Logits => Some(squared_distance(&first.logits, &second.logits)?),
        Compared::Features => Some(squared_distance(&first.features, &second.features)?),
    };
    PairLoss::weigh(lambda, consistency, [first.logits, second.logits], labels)
}

/// The mean over the batch of the squared ℓ2 norm of the difference.
fn squared_distance(first: &Tensor, second: &Tensor) -> Result<Tensor, LossError> {
    if first.size() != second.size() {
        return Err(LossError::Shape(format!(
            "what is compared has shape {:?} and {:?}; compare layers of the same shape",
            first.size(),
            second.size()
        )));
    }
    let difference = at_least_float32(first)?.f_sub(&at_least_float32(second)?)?;
    let norms = difference.f_square()?.f_flatten(1, -1)?;
    Ok(norms.f_sum_dim_intlist(&[1i64][..], false, None::<Kind>)?.f_mean(None)?)
}

impl Ramped for OutputConsistencyLoss {
    fn ramp(&self) -> &Ramp {
        &self.ramp
    }

    fn ramp_mut(&mut self) -> &mut Ramp {
        &mut self.ramp
    }
}

impl Ramped for FeatureConsistencyLoss {
    fn ramp(&self) -> &Ramp {
        &self.ramp
    }

    fn ramp_mut(&mut self) -> &mut Ramp {
        &mut self.ramp
    }
}
