//! The masked copies x_S of a sample, made on the device from one feature tensor.

use super::sample::{Sample, refuse};
use super::variables::Layout;
use super::{Context, NetworkError, Probe, variables};
use crate::evaluation::{Baseline, Variables};
use tch::{Kind, TchError, Tensor};

/// Of an int32.
const HIGHEST_BIT: i32 = 31;

/// A sample with what makes its masked copies.
pub(super) struct Masked {
    sample: Sample,
    features: Features,
    layout: Layout,
    /// By how much a bitmask is shifted for the bit of each position to be its highest: int32 [1, positions].
    shifts: Tensor,
}

/// The features and what stands for an absent variable.
///
/// A product with 0 and 1 would let a feature that is not finite leak into states that lack it, and a choice
/// by `where` takes five times as long on a CPU. So float32 is chosen by its bits.
enum Features {
    /// int32 [1, …]: the bits in which features and absent value differ, and those of the absent value, where
    /// they are not all 0.
    Bits { differing: Tensor, absent: Option<Tensor> },
    /// Of another type: features and absent value as they are, [1, …].
    Plain { features: Tensor, absent: Tensor },
}

impl Features {
    fn new(features: &Tensor, absent: Tensor, is_zero: bool) -> Self {
        if features.kind() != Kind::Float || absent.kind() != Kind::Float {
            return Self::Plain { features: features.shallow_clone(), absent };
        }
        let bits = |tensor: &Tensor| tensor.contiguous().view_dtype(Kind::Int);
        let own = bits(features);
        if is_zero {
            return Self::Bits { differing: own, absent: None };
        }
        let absent = bits(&absent);
        Self::Bits { differing: own.bitwise_xor_tensor(&absent), absent: Some(absent) }
    }

    /// Writes features where `mask` is −1, the absent value where it is 0, into `rows` [B, …].
    fn mask_into(&self, mask: &Tensor, rows: &mut Tensor) -> Result<(), TchError> {
        match self {
            Self::Bits { differing, absent } => {
                let bits = rows.f_view_dtype(Kind::Int)?;
                let mut bits = differing.f_bitwise_and_tensor_out(&bits, mask)?;
                if let Some(absent) = absent {
                    let _ = bits.f_bitwise_xor_tensor_(absent)?;
                }
            }
            Self::Plain { features, absent } => {
                rows.f_copy_(&features.f_where_self(&mask.f_ne(0)?, absent)?)?;
            }
        }
        Ok(())
    }
}

impl Masked {
    /// Prepares the masked copies of a sample.
    ///
    /// # Errors
    /// Variables or a baseline that do not fit its features.
    pub(super) fn new(
        index: usize,
        sample: Sample,
        probe: &Probe,
        chosen: &Variables,
        baseline: Baseline,
    ) -> Result<Self, NetworkError> {
        let layout = Layout::of(&sample.features).map_err(refuse(index))?;
        let of_position = variables::of_sample(chosen, index, &layout).map_err(refuse(index))?;
        let absent = absent_value(&sample.features, &layout, &of_position, probe, baseline)
            .map_err(refuse(index))?;
        let is_zero = baseline == Baseline::Zero;
        let features = Features::new(&sample.features, absent, is_zero);
        // The bit beyond the last variable is set throughout: positions that always stay.
        let bit =
            |&variable: &i64| if variable < 0 { chosen.count as i32 } else { variable as i32 };
        let shifts: Vec<i32> =
            of_position.iter().map(|variable| HIGHEST_BIT - bit(variable)).collect();
        let shifts = Tensor::from_slice(&shifts).unsqueeze(0).to_device(sample.features.device());
        Ok(Self { sample, features, layout, shifts })
    }

    /// Room for the features of so many masked copies.
    ///
    /// # Errors
    /// Too little memory.
    pub(super) fn room(&self, rows: usize) -> Result<Tensor, NetworkError> {
        let features = &self.sample.features;
        let mut size = features.size();
        size[0] = rows as i64;
        let room = Tensor::f_empty(size, (features.kind(), features.device()));
        room.context(|| format!("{rows} masked inputs at a time"))
    }

    /// Writes the masked copies of these subsets into `rows` [B, …]; their further inputs, [B, …] each.
    ///
    /// # Errors
    /// Too little memory.
    pub(super) fn write(
        &self,
        bitmasks: &Tensor,
        rows: &mut Tensor,
    ) -> Result<Vec<Tensor>, NetworkError> {
        let mask = presence(bitmasks, &self.shifts);
        let masked = mask.and_then(|mask| {
            let mask = self.layout.shape_mask(&mask);
            self.features.mask_into(&mask, rows)
        });
        masked.context(|| format!("{} masked inputs", bitmasks.size()[0]))?;
        let expand = |own: &Tensor| {
            let mut size = own.size();
            size[0] = bitmasks.size()[0];
            own.expand(size, false)
        };
        Ok(self.sample.further.iter().map(expand).collect())
    }
}

/// All subsets as bitmasks, with one more bit that is always set: int32 [2^n, 1].
///
/// # Errors
/// Too little memory.
pub(super) fn subsets(count: usize, device: tch::Device) -> Result<Tensor, NetworkError> {
    let all = Tensor::f_arange(1i64 << count, (Kind::Int, device));
    let all = all.and_then(|all| all.f_bitwise_or(1i64 << count)?.f_unsqueeze(1));
    all.context(|| format!("the subsets of {count} variables"))
}

/// Presence of each position as a mask of bits: int32 [B, positions], −1 where present and 0 elsewhere.
fn presence(bitmasks: &Tensor, shifts: &Tensor) -> Result<Tensor, TchError> {
    // The highest bit is the sign, which a shift to the right repeats.
    let shifted = bitmasks.f_bitwise_left_shift(shifts)?;
    shifted.f_bitwise_right_shift_tensor_scalar(i64::from(HIGHEST_BIT))
}

/// Whether the variables and the baseline fit the features [1, …] of the first sample.
///
/// # Errors
/// What does not fit, said of the probe.
pub(super) fn check(
    features: &Tensor,
    probe: &Probe,
    chosen: &Variables,
    baseline: Baseline,
) -> Result<(), String> {
    let layout = Layout::of(features)?;
    let of_position = variables::of_sample(chosen, 0, &layout)?;
    absent_value(features, &layout, &of_position, probe, baseline).map(|_| ())
}

fn absent_value(
    features: &Tensor,
    layout: &Layout,
    of_position: &[i64],
    probe: &Probe,
    baseline: Baseline,
) -> Result<Tensor, String> {
    match (baseline, &probe.baseline) {
        (Baseline::Zero, _) => Ok(features.zeros_like()),
        (Baseline::Mean, _) => {
            let weight: Vec<f32> =
                of_position.iter().map(|&v| if v < 0 { 0.0 } else { 1.0 }).collect();
            let weight = Tensor::from_slice(&weight).to_device(features.device());
            Ok(layout.mean(features, &weight).expand_as(features))
        }
        (Baseline::File, Some(given)) => {
            let given = given.to_device(features.device());
            given.f_expand(features.size(), false).map_err(|_| {
                format!(
                    "has `baseline` of shape {:?}, which does not broadcast to features of shape {:?}",
                    given.size(),
                    features.size()
                )
            })
        }
        (Baseline::File, None) => {
            Err("has no tensor `baseline`, but `probe.baseline` is `file`; write it with \
                 `convergd.make_probe`, or take `zero` or `mean`"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_follows_the_bits() {
        let shifts = Tensor::from_slice(&[31i32, 30, 29]).unsqueeze(0);
        let bits =
            presence(&subsets(2, tch::Device::Cpu).expect("subsets"), &shifts).expect("bits");
        let bits = Vec::<Vec<i32>>::try_from(&bits).expect("rows");
        let wanted = [[0, 0, -1], [-1, 0, -1], [0, -1, -1], [-1; 3]];
        assert_eq!(bits, wanted.map(|row| row.to_vec()));
    }

    #[test]
    fn masked_features_are_those_of_where_to_the_last_bit() {
        let shifts = Tensor::from_slice(&[31i32, 30, 29]).unsqueeze(0);
        let mask =
            presence(&subsets(2, tch::Device::Cpu).expect("subsets"), &shifts).expect("bits");
        let own = [1.5f32, f32::NAN, -0.0];
        for absent in [[0.0f32; 3], [2.5, f32::INFINITY, -1e-40]] {
            let features = Tensor::from_slice(&own).view([1, 3]);
            let is_zero = absent == [0.0; 3];
            let instead = Tensor::from_slice(&absent).view([1, 3]);
            let masked = |features: Features| {
                let mut rows = Tensor::empty([4, 3], (Kind::Float, tch::Device::Cpu));
                features.mask_into(&mask, &mut rows).expect("masked");
                rows
            };
            let by_bits = masked(Features::new(&features, instead.shallow_clone(), is_zero));
            let plain = masked(Features::Plain { features, absent: instead });
            let bits = |tensor: &Tensor| {
                let rows = Vec::<Vec<f32>>::try_from(tensor).expect("rows");
                rows.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert_eq!(bits(&by_bits), bits(&plain));
        }
    }
}
