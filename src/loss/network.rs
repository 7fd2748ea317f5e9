//! A network in two parts: up to the split, where features are masked, and from there on.

use super::LossError;
use tch::Tensor;

/// A network as the losses see it. Both parts together are the network, and nothing goes around the split.
///
/// With `train` a part works as in training; without it as in evaluation: normalisation by its running
/// statistics, which do not move, and no dropout. The plain batch passes with `train`, masked copies without, as they
/// are no data.
pub trait Network {
    /// Inputs [B, …] to the features at the split: [B, C, H, W], [B, L, D] or [B, D]. To mask the inputs
    /// themselves, give them back (`shallow_clone`).
    fn features(&self, inputs: &Tensor, train: bool) -> Tensor;

    /// Features to logits [B, K], K ≥ 2.
    fn head(&self, features: &Tensor, train: bool) -> Tensor;
}

/// Two closures as a network.
#[derive(Clone, Copy, Debug)]
pub struct Halves<F, H> {
    /// See [`Network::features`].
    pub features: F,
    /// See [`Network::head`].
    pub head: H,
}

impl<F, H> Network for Halves<F, H>
where
    F: Fn(&Tensor, bool) -> Tensor,
    H: Fn(&Tensor, bool) -> Tensor,
{
    fn features(&self, inputs: &Tensor, train: bool) -> Tensor {
        (self.features)(inputs, train)
    }

    fn head(&self, features: &Tensor, train: bool) -> Tensor {
        (self.head)(features, train)
    }
}

/// What one ordinary pass gives.
#[derive(Debug)]
pub(super) struct Plain {
    /// Features at the split, [B, …].
    pub(super) features: Tensor,
    /// Logits [B, K].
    pub(super) logits: Tensor,
}

/// One ordinary pass of a batch, as in training.
pub(super) fn plain(network: &dyn Network, inputs: &Tensor) -> Result<Plain, LossError> {
    let features = network.features(inputs, true);
    let logits = network.head(&features, true);
    check_rows("features", &features, rows(inputs)?)?;
    check_logits(&logits, rows(inputs)?)?;
    Ok(Plain { features, logits })
}

/// Logits [M, B, K] of M masked copies of features [M, B, …], as one batch, as in evaluation.
pub(super) fn masked(network: &dyn Network, copies: &Tensor) -> Result<Tensor, LossError> {
    let [count, samples] = [0, 1].map(|dimension| copies.size()[dimension]);
    let logits = network.head(&copies.f_flatten(0, 1)?, false);
    check_logits(&logits, count * samples)?;
    Ok(logits.f_view([count, samples, -1])?)
}

/// The number of samples B.
pub(super) fn rows(inputs: &Tensor) -> Result<i64, LossError> {
    match inputs.size().first() {
        Some(&rows) if rows > 0 => Ok(rows),
        _ => Err(LossError::Shape(format!(
            "inputs must be [B, …] with at least one sample, got shape {:?}",
            inputs.size()
        ))),
    }
}

fn check_rows(what: &str, tensor: &Tensor, rows: i64) -> Result<(), LossError> {
    match tensor.size().first() == Some(&rows) {
        true => Ok(()),
        false => Err(LossError::Shape(format!(
            "{rows} samples gave {what} of shape {:?}; a network keeps the batch first",
            tensor.size()
        ))),
    }
}

fn check_logits(logits: &Tensor, rows: i64) -> Result<(), LossError> {
    match logits.size()[..] {
        [found, classes] if found == rows && classes >= 2 => Ok(()),
        ref other => Err(LossError::Shape(format!(
            "{rows} samples at the split gave logits of shape {other:?}, wanted [{rows}, K] with two classes or \
             more; `head` must depend on the features alone"
        ))),
    }
}
