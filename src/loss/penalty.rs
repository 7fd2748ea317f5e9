//! The interaction loss for one network without a partner.

use super::network::{Network, Plain, plain};
use super::sets::{Interactions, Sets, Settings};
use super::values::{check_labels, cross_entropy, weighted, zero};
use super::{LossError, Ramp, Ramped};
use tch::Tensor;

/// One evaluation of the loss.
#[derive(Debug)]
pub struct PenaltyLoss {
    /// λ · penalty + (1 − λ) · cross entropy, scalar: `backward()` is called on this.
    pub loss: Tensor,
    /// Cross entropy of the unmasked batch, scalar, in nats.
    pub cross_entropy: Tensor,
    /// E[𝓘²] over the batch, scalar, in squared log-odds; zero if λ = 0.
    pub penalty: Tensor,
    /// The λ of this step.
    pub lambda: f64,
    /// Logits of the unmasked batch, [B, K].
    pub logits: Tensor,
}

/// λ · E[𝓘²] + (1 − λ) · CE of one network.
///
/// Complex interactions, by which networks memorise, make 𝓘 large. As in the Python package, image patches are chosen
/// by the features at the split, there being no partner that must have the same ones. At λ = 0 the loss is the
/// plain cross entropy and costs no more.
#[derive(Debug)]
pub struct InteractionPenalty {
    interactions: Interactions,
}

impl InteractionPenalty {
    /// # Errors
    /// A setting out of its range.
    pub fn new(settings: Settings) -> Result<Self, LossError> {
        Ok(Self { interactions: Interactions::new(settings)? })
    }

    /// Evaluates the loss on a batch of inputs [B, …] with labels int64 [B], as one step of the ramp.
    ///
    /// # Errors
    /// Variables that do not fit the inputs or the features, labels that do not fit the batch.
    pub fn evaluate(
        &mut self,
        network: &dyn Network,
        inputs: &Tensor,
        labels: &Tensor,
    ) -> Result<PenaltyLoss, LossError> {
        let lambda = self.interactions.ramp.step();
        let plain = plain(network, inputs)?;
        let sets = match lambda == 0.0 {
            true => None,
            false => {
                let by = self.chosen_by(&plain, inputs);
                Some(self.interactions.draw(&by)?)
            }
        };
        self.at(lambda, network, plain, inputs, labels, sets.as_ref())
    }

    /// The same with given sets; at λ = 0 they do not matter.
    ///
    /// # Errors
    /// As [`InteractionPenalty::evaluate`], and sets that do not fit.
    pub fn evaluate_on(
        &mut self,
        network: &dyn Network,
        inputs: &Tensor,
        labels: &Tensor,
        sets: &Sets,
    ) -> Result<PenaltyLoss, LossError> {
        let lambda = self.interactions.ramp.step();
        let plain = plain(network, inputs)?;
        self.at(lambda, network, plain, inputs, labels, (lambda != 0.0).then_some(sets))
    }

    /// What variables are chosen by.
    fn chosen_by(&self, plain: &Plain, inputs: &Tensor) -> Tensor {
        match self.interactions.is_of_patches() {
            true => plain.features.detach(),
            false => inputs.shallow_clone(),
        }
    }

    fn at(
        &self,
        lambda: f64,
        network: &dyn Network,
        plain: Plain,
        inputs: &Tensor,
        labels: &Tensor,
        sets: Option<&Sets>,
    ) -> Result<PenaltyLoss, LossError> {
        check_labels(labels, plain.logits.size()[0])?;
        let cross_entropy = cross_entropy(&plain.logits, labels)?;
        let penalty = match sets {
            None => zero(&plain.logits)?,
            Some(sets) => {
                let by = self.chosen_by(&plain, inputs);
                let own = self.interactions.of_network(network, &plain, labels, &by, sets)?;
                own.f_square()?.f_mean(None)?
            }
        };
        let loss = weighted(lambda, &penalty, &cross_entropy)?;
        Ok(PenaltyLoss { loss, cross_entropy, penalty, lambda, logits: plain.logits })
    }
}

impl Ramped for InteractionPenalty {
    fn ramp(&self) -> &Ramp {
        &self.interactions.ramp
    }

    fn ramp_mut(&mut self) -> &mut Ramp {
        &mut self.interactions.ramp
    }
}
