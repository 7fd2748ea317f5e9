//! Features without some of their variables.

use super::LossError;
use tch::{Kind, Tensor};

/// What replaces an absent variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Baseline {
    /// Zero, as is usual for images.
    #[default]
    Zero,
    /// The mean of the sample's features over its variables, as is usual for text.
    Mean,
}

/// Copies [M, B, …] of features [B, C, H, W], [B, L, D] or [B, D] in which absent variables are replaced. `positions`
/// is the variable of each position, −1 where it always stays, int64 [B, H, W], [B, L] or [B, D]; `present` which
/// variables each copy has, bool [M, B, n].
pub(super) fn masked(
    hidden: &Tensor,
    positions: &Tensor,
    present: &Tensor,
    baseline: Baseline,
) -> Result<Tensor, LossError> {
    // What is drawn on the CPU is small; what is made of it is as large as the features.
    let device = hidden.device();
    let (positions, present) = (positions.f_to_device(device)?, present.f_to_device(device)?);
    let keep = of_positions(&positions, &present)?.f_to_kind(hidden.kind())?;
    let is_variable = positions.f_ge(0)?.f_to_kind(hidden.kind())?;
    // The dimension that positions lack, and those over which a mean goes.
    let (channels, over): (Option<i64>, &[i64]) = match hidden.dim() {
        4 => (Some(1), &[2, 3]),
        3 => (Some(2), &[1]),
        _ => (None, &[1]),
    };
    let (keep, is_variable) = match channels {
        Some(at) => (keep.f_unsqueeze(at + 1)?, is_variable.f_unsqueeze(at)?),
        None => (keep, is_variable),
    };
    match baseline {
        Baseline::Zero => Ok(hidden.f_mul(&keep)?),
        Baseline::Mean => {
            let sum = hidden.f_mul(&is_variable)?.f_sum_dim_intlist(over, true, None::<Kind>)?;
            let count = is_variable.f_sum_dim_intlist(over, true, None::<Kind>)?.f_clamp_min(1)?;
            Ok(sum.f_div(&count)?.f_lerp_tensor(hidden, &keep)?)
        }
    }
}

/// Which positions are present: bool [M, B, …].
fn of_positions(positions: &Tensor, present: &Tensor) -> Result<Tensor, LossError> {
    let (copies, samples) = (present.size()[0], present.size()[1]);
    // What is no variable takes the last column.
    let always = Tensor::f_ones([copies, samples, 1], (Kind::Bool, present.device()))?;
    let present = Tensor::f_cat(&[present.shallow_clone(), always], 2)?;
    let index = positions.f_flatten(1, -1)?;
    let index = index.f_remainder(present.size()[2])?.f_expand([copies, -1, -1], false)?;
    let shape: Vec<i64> = std::iter::once(copies).chain(positions.size()).collect();
    Ok(present.f_gather(2, &index, false)?.f_view(shape.as_slice())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three positions of two features each: variable 0, none, variable 1.
    fn mask(baseline: Baseline, hidden: &Tensor, positions: &Tensor) -> Vec<f32> {
        let present = Tensor::from_slice(&[true, true, false, true, true, false]).view([3, 1, 2]);
        let copies = masked(hidden, positions, &present, baseline).expect("masked");
        assert_eq!(copies.size()[..2], [3, 1]);
        Vec::try_from(copies.flatten(0, -1)).expect("numbers")
    }

    #[test]
    fn absent_tokens_are_replaced_and_what_is_no_variable_stays() {
        let hidden = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 8.0]).view([1, 3, 2]);
        let positions = Tensor::from_slice(&[0i64, -1, 1]).view([1, 3]);
        let zero = [1., 2., 3., 4., 5., 8., 0., 0., 3., 4., 5., 8., 1., 2., 3., 4., 0., 0.];
        assert_eq!(mask(Baseline::Zero, &hidden, &positions), zero);
        let mean = [1., 2., 3., 4., 5., 8., 3., 5., 3., 4., 5., 8., 1., 2., 3., 4., 3., 5.];
        assert_eq!(mask(Baseline::Mean, &hidden, &positions), mean);
    }

    #[test]
    fn pixels_and_columns_are_masked_alike() {
        let numbers = [1f32, 3.0, 5.0, 2.0, 4.0, 8.0];
        let image = Tensor::from_slice(&numbers).view([1, 2, 1, 3]);
        let positions = Tensor::from_slice(&[0i64, -1, 1]).view([1, 1, 3]);
        let mean = [1., 3., 5., 2., 4., 8., 3., 3., 5., 5., 4., 8., 1., 3., 3., 2., 4., 5.];
        assert_eq!(mask(Baseline::Mean, &image, &positions), mean);
        let columns = Tensor::from_slice(&[1f32, 7.0, 5.0]).view([1, 3]);
        let positions = Tensor::from_slice(&[0i64, -1, 1]).view([1, 3]);
        assert_eq!(
            mask(Baseline::Mean, &columns, &positions),
            [1., 7., 5., 3., 7., 5., 1., 7., 3.]
        );
    }
}
