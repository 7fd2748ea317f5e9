//! The interaction loss of two networks that are trained together (Eq. 9, 10).

use super::network::{Network, plain};
use super::sets::{Interactions, Sets, Settings};
use super::values::{check_labels, cross_entropy, weighted, zero};
use super::{LossError, Ramp, Ramped};
use tch::Tensor;

/// One evaluation of a loss of two networks.
#[derive(Debug)]
pub struct PairLoss {
    /// λ · consistency + (1 − λ) · both cross entropies, scalar: `backward()` is called on this.
    pub loss: Tensor,
    /// Cross entropy of the unmasked batch by each network, scalars, in nats.
    pub cross_entropy: [Tensor; 2],
    /// What λ weighs, for example E[(𝓘_a − 𝓘_b)²], scalar; zero if λ = 0.
    pub consistency: Tensor,
    /// The λ of this step.
    pub lambda: f64,
    /// Logits of the unmasked batch by each network, [B, K].
    pub logits: [Tensor; 2],
}

impl PairLoss {
    /// From the logits of both and what λ weighs; None is zero.
    pub(super) fn weigh(
        lambda: f64,
        consistency: Option<Tensor>,
        logits: [Tensor; 2],
        labels: &Tensor,
    ) -> Result<Self, LossError> {
        let [first, second] = &logits;
        let own = [cross_entropy(first, labels)?, cross_entropy(second, labels)?];
        let consistency = consistency.map_or_else(|| zero(first), Ok)?;
        let loss = weighted(lambda, &consistency, &own[0].f_add(&own[1])?)?;
        Ok(Self { loss, cross_entropy: own, consistency, lambda, logits })
    }
}

/// λ · E[(𝓘_a − 𝓘_b)²] + (1 − λ) · (CE_a + CE_b) of two networks in one process (Eq. 9).
///
/// 𝓘 of both is taken on the same samples, variables and random sets. Each network passes the plain batch once, and
/// its four masked copies as one batch; at λ = 0 only the plain batch. Where 𝓘 differs, the networks have learned
/// something that does not come from the data alone.
#[derive(Debug)]
pub struct InteractionLoss {
    interactions: Interactions,
}

impl InteractionLoss {
    /// # Errors
    /// A setting out of its range.
    pub fn new(settings: Settings) -> Result<Self, LossError> {
        Ok(Self { interactions: Interactions::new(settings)? })
    }

    /// Draws samples, variables and sets for a batch of inputs [B, …].
    ///
    /// # Errors
    /// Inputs that the variables do not fit.
    pub fn draw(&mut self, inputs: &Tensor) -> Result<Sets, LossError> {
        self.interactions.draw(inputs)
    }

    /// Evaluates the loss of (target, baseline), which may differ in architecture, on a batch of inputs [B, …] with labels
    /// int64 [B], as one step of the ramp.
    ///
    /// # Errors
    /// Variables that do not fit the inputs or the features, labels that do not fit the batch.
    pub fn evaluate(
        &mut self,
        networks: [&dyn Network; 2],
        inputs: &Tensor,
        labels: &Tensor,
    ) -> Result<PairLoss, LossError> {
        let lambda = self.interactions.ramp.step();
        let sets = if lambda == 0.0 { None } else { Some(self.draw(inputs)?) };
        self.at(lambda, networks, inputs, labels, sets.as_ref())
    }

    /// The same with given sets; at λ = 0 they do not matter.
    ///
    /// # Errors
    /// As [`InteractionLoss::evaluate`], and sets that do not fit.
    pub fn evaluate_on(
        &mut self,
        networks: [&dyn Network; 2],
        inputs: &Tensor,
        labels: &Tensor,
        sets: &Sets,
    ) -> Result<PairLoss, LossError> {
        let lambda = self.interactions.ramp.step();
        self.at(lambda, networks, inputs, labels, (lambda != 0.0).then_some(sets))
    }

    /// 𝓘 of one network on given sets (Eq. 10), [B′]; the plain batch passes too.
    ///
    /// # Errors
    /// As [`InteractionLoss::evaluate_on`].
    pub fn interactions(
        &self,
        network: &dyn Network,
        inputs: &Tensor,
        labels: &Tensor,
        sets: &Sets,
    ) -> Result<Tensor, LossError> {
        let plain = plain(network, inputs)?;
        check_labels(labels, plain.logits.size()[0])?;
        self.interactions.of_network(network, &plain, labels, inputs, sets)
    }

    fn at(
        &self,
        lambda: f64,
        networks: [&dyn Network; 2],
        inputs: &Tensor,
        labels: &Tensor,
        sets: Option<&Sets>,
    ) -> Result<PairLoss, LossError> {
        let [target, baseline] = networks;
        let (first, second) = (plain(target, inputs)?, plain(baseline, inputs)?);
        check_labels(labels, first.logits.size()[0])?;
        let of = |network, plain, sets| {
            self.interactions.of_network(network, plain, labels, inputs, sets)
        };
        let consistency = match sets {
            None => None,
            Some(sets) => {
                let difference = of(target, &first, sets)?.f_sub(&of(baseline, &second, sets)?)?;
                Some(difference.f_square()?.f_mean(None)?)
            }
        };
        PairLoss::weigh(lambda, consistency, [first.logits, second.logits], labels)
    }
}

impl Ramped for InteractionLoss {
    fn ramp(&self) -> &Ramp {
        &self.interactions.ramp
    }

    fn ramp_mut(&mut self) -> &mut Ramp {
        &mut self.interactions.ramp
    }
}
