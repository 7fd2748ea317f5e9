//! v(S) for every S: the masked forwards (DESIGN section 1).

use super::variables::Layout;
use super::{NetworkError, Probe, Program, Variables, variables};
use tch::{Kind, Tensor};

/// What one network gives for the probe, before any extraction. This is what the cache holds.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeValues {
    /// v(S) by sample and bitmask, [P][2^n], in log-odds. May hold NaN when the weights do.
    pub values: Vec<Vec<f64>>,
    /// Logits of the unmasked samples, [P][classes].
    pub logits: Vec<Vec<f64>>,
}

/// The features of each probe sample, one [1, …] tensor each.
pub fn features(
    program: &Program,
    probe: &Probe,
    device: tch::Device,
) -> Result<Vec<Tensor>, NetworkError> {
    (0..probe.samples() as i64)
        .map(|sample| program.features(&probe.inputs.narrow(0, sample, 1).to_device(device)))
        .collect()
}

/// Evaluates all 2^n masked inputs of every sample.
///
/// The masked copies are made on the device from one feature tensor: h·K + b·(1 − K), where K is 1 at
/// positions of present variables.
///
/// # Errors
/// libtorch's, and variables that do not fit the features.
pub fn evaluate(
    program: &Program,
    probe: &Probe,
    chosen: &Variables,
    baseline: variables::Baseline,
    batch: usize,
    device: tch::Device,
) -> Result<ProbeValues, NetworkError> {
    let bits = presence(chosen.count, device);
    let mut result = ProbeValues { values: Vec::new(), logits: Vec::new() };
    for (sample, features) in self::features(program, probe, device)?.into_iter().enumerate() {
        let refuse =
            |message| NetworkError::Torch { context: format!("probe sample {sample}"), message };
        let layout = Layout::of(&features).map_err(refuse)?;
        let of_position = chosen.of_sample(sample, &layout).map_err(refuse)?;
        let absent =
            absent_value(&features, &layout, &of_position, probe, baseline).map_err(refuse)?;
        // The last column of `bits` is 1 throughout: positions that always stay.
        let last = chosen.count as i64;
        let columns: Vec<i64> = of_position.iter().map(|&v| if v < 0 { last } else { v }).collect();
        let keep = bits.index_select(1, &Tensor::from_slice(&columns).to_device(device));
        let mut logits = Vec::new();
        for start in (0..keep.size()[0]).step_by(batch) {
            let length = (batch as i64).min(keep.size()[0] - start);
            let keep = layout.shape_mask(&keep.narrow(0, start, length));
            // where, not a product: a feature that is not finite must not leak into states that
            // lack it.
            let masked = features.where_self(&keep, &absent);
            logits.push(program.head(&masked)?.to_kind(Kind::Double).to_device(tch::Device::Cpu));
        }
        let logits = Tensor::cat(&logits, 0);
        let class = chosen.classes[sample];
        if class >= logits.size()[1] {
            return Err(NetworkError::Torch {
                context: format!("probe sample {sample}"),
                message: format!(
                    "has label {class}, but the network has {} classes; labels count from 0",
                    logits.size()[1]
                ),
            });
        }
        let to_vec = |tensor: &Tensor| {
            Vec::<f64>::try_from(tensor).map_err(|error| refuse(error.to_string()))
        };
        result.values.push(to_vec(&log_odds(&logits, class))?);
        result.logits.push(to_vec(&logits.select(0, -1))?);
    }
    Ok(result)
}

/// Presence of variable i in S: bool [2^n, n + 1], the last column always true.
fn presence(count: usize, device: tch::Device) -> Tensor {
    let subsets = Tensor::arange(1i64 << count, (Kind::Int64, device)).unsqueeze(1);
    let shifts = Tensor::arange(count as i64, (Kind::Int64, device)).unsqueeze(0);
    let bits = subsets.bitwise_right_shift(&shifts).bitwise_and(1);
    let always = Tensor::ones([1i64 << count, 1], (Kind::Int64, device));
    Tensor::cat(&[bits, always], 1).to_kind(Kind::Bool)
}

/// Whether the variables and the baseline fit the features [1, …] of the first sample.
///
/// # Errors
/// What does not fit, said of the probe.
pub fn check(
    features: &Tensor,
    probe: &Probe,
    chosen: &Variables,
    baseline: variables::Baseline,
) -> Result<(), String> {
    let layout = Layout::of(features)?;
    let of_position = chosen.of_sample(0, &layout)?;
    absent_value(features, &layout, &of_position, probe, baseline).map(|_| ())
}

fn absent_value(
    features: &Tensor,
    layout: &Layout,
    of_position: &[i64],
    probe: &Probe,
    baseline: variables::Baseline,
) -> Result<Tensor, String> {
    match (baseline, &probe.baseline) {
        (variables::Baseline::Zero, _) => Ok(features.zeros_like()),
        (variables::Baseline::Mean, _) => {
            let weight: Vec<f32> =
                of_position.iter().map(|&v| if v < 0 { 0.0 } else { 1.0 }).collect();
            let weight = Tensor::from_slice(&weight).to_device(features.device());
            Ok(layout.mean(features, &weight).expand_as(features))
        }
        (variables::Baseline::File, Some(given)) => {
            let given = given.to_device(features.device());
            given.f_expand(features.size(), false).map_err(|_| {
                format!(
                    "has `baseline` of shape {:?}, which does not broadcast to features of shape {:?}",
                    given.size(),
                    features.size()
                )
            })
        }
        (variables::Baseline::File, None) => {
            Err("has no tensor `baseline`, but `probe.baseline` is `file`; write it with \
                 `convergd.make_probe`, or take `zero` or `mean`"
                .to_owned())
        }
    }
}

/// v = z_y − logsumexp(z_{c≠y}) over rows of float64 logits [B, classes].
fn log_odds(logits: &Tensor, class: i64) -> Tensor {
    let classes = logits.size()[1];
    let others: Vec<i64> = (0..classes).filter(|&c| c != class).collect();
    let others = logits.index_select(1, &Tensor::from_slice(&others));
    logits.select(1, class) - others.logsumexp(&[1i64][..], false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_odds_do_not_saturate_where_probabilities_do() {
        let logits = Tensor::from_slice(&[60.0f64, 0.0, 0.0, -60.0, 0.0, 0.0]).view([2, 3]);
        let values = Vec::<f64>::try_from(&log_odds(&logits, 0)).expect("a vector");
        for (value, wanted) in values.iter().zip([60.0 - 2f64.ln(), -60.0 - 2f64.ln()]) {
            assert!((value - wanted).abs() < 1e-12, "{value} is not {wanted}");
        }
    }

    #[test]
    fn presence_follows_the_bits() {
        let bits = Vec::<Vec<bool>>::try_from(&presence(2, tch::Device::Cpu)).expect("rows");
        let wanted = [[false, false, true], [true, false, true], [false, true, true], [true; 3]];
        assert_eq!(bits, wanted.map(|row| row.to_vec()));
    }
}
