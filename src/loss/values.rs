//! The output v of a network, 𝓘 of Eq. 10 from four of them, and the cross entropy.

use super::LossError;
use tch::{Kind, Reduction, Tensor};

/// log(p / (1 − p)) of the label as z_y − logsumexp of the others, in float32 at least, in nats: logits [..., K]
/// with K ≥ 2 and labels int64 [...] give [...].
///
/// # Errors
/// Whatever libtorch refuses, such as a label that is no class.
pub fn log_odds(logits: &Tensor, labels: &Tensor) -> Result<Tensor, LossError> {
    let logits = at_least_float32(logits)?;
    let index = labels.f_unsqueeze(-1)?;
    // Not `f_scatter_value`: where it refuses a label, tch's number panics when it is dropped.
    let nothing =
        Tensor::f_full(index.size(), f64::NEG_INFINITY, (logits.kind(), logits.device()))?;
    let others = logits.f_scatter(-1, &index, &nothing)?;
    let own = logits.f_gather(-1, &index, false)?.f_squeeze_dim(-1)?;
    Ok(own.f_sub(&others.f_logsumexp([-1i64], false)?)?)
}

/// 𝓘 of Eq. 10 from the values of S1∪S2∪S3, S1∪S3, S2∪S3 and S3 in this order: [4, B] -> [B].
///
/// # Errors
/// Another number of values than four.
pub fn interaction(values: &Tensor) -> Result<Tensor, LossError> {
    let Ok([both, first, second, context]) = <[Tensor; 4]>::try_from(values.f_unbind(0)?) else {
        let message = format!("values must be [4, B], got shape {:?}", values.size());
        return Err(LossError::Shape(message));
    };
    Ok(both.f_sub(&first)?.f_sub(&second)?.f_add(&context)?)
}

/// Mean cross entropy of logits [B, K] in nats.
pub(super) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor, LossError> {
    let logits = at_least_float32(logits)?;
    Ok(logits.f_cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, 0.0)?)
}

/// Half precision is too coarse for a difference of four values.
pub(super) fn at_least_float32(tensor: &Tensor) -> Result<Tensor, LossError> {
    Ok(match tensor.kind() {
        Kind::Double => tensor.shallow_clone(),
        _ => tensor.f_to_kind(Kind::Float)?,
    })
}

/// λ · regularizer + (1 − λ) · cross entropy; at λ = 0 the latter alone.
pub(super) fn weighted(
    lambda: f64,
    regularizer: &Tensor,
    cross_entropy: &Tensor,
) -> Result<Tensor, LossError> {
    if lambda == 0.0 {
        return Ok(cross_entropy.shallow_clone());
    }
    let plain = cross_entropy.f_mul_scalar(1.0 - lambda)?;
    Ok(regularizer.f_mul_scalar(lambda)?.f_add(&plain)?)
}

/// A scalar 0 of the type and on the device of a tensor, float32 at least.
pub(super) fn zero(like: &Tensor) -> Result<Tensor, LossError> {
    let kind = if like.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    Ok(Tensor::f_zeros([0i64; 0], (kind, like.device()))?)
}

/// Labels must be int64 [B].
pub(super) fn check_labels(labels: &Tensor, rows: i64) -> Result<(), LossError> {
    match labels.kind() == Kind::Int64 && labels.size() == [rows] {
        true => Ok(()),
        false => Err(LossError::Shape(format!(
            "labels must be int64 [{rows}] for {rows} samples, got {:?} {:?}",
            labels.kind(),
            labels.size()
        ))),
    }
}
