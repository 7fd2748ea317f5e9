//! Which parts of a sample are its variables.
//!
//! Variables are chosen by the inputs and by random numbers, never by one network of a pair: so both have the same ones. A
//! position is a pixel of a feature map [B, C, H, W], a token of a sequence [B, L, D] or a column of [B, D]. What is no
//! variable always stays.

use super::LossError;
use super::values::at_least_float32;
use crate::network::variables::patches;
use fastrand::Rng;
use tch::{Device, Kind, Tensor};

const NO_VARIABLE: i64 = -1;

/// What the variables of a sample are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variables {
    /// Patches of a feature map [B, C, H, W], grid × grid.
    ImagePatches {
        /// Patches along each side.
        grid: usize,
        /// How many of them are variables: those with the largest L1 norm of the input image [B, C, H, W], or for
        /// `InteractionPenalty` of the features. None takes all.
        select: Option<usize>,
        /// Patches at the border that are never chosen.
        margin: usize,
    },
    /// A random sample of the tokens, drawn anew at each step and masked at their embeddings [B, L, D]; inputs are ids
    /// int64 [B, L]. A sample with fewer than `select` has fewer variables; with less than two its 𝓘 is zero.
    Tokens {
        /// How many are variables.
        select: usize,
        /// Ids that are none: padding, special tokens, punctuation, stop words.
        exclude_ids: Vec<i64>,
    },
    /// Columns of features [B, D], dealt to the variables in turn: column j to variable j mod `groups`.
    Columns {
        /// The number of variables n.
        groups: usize,
    },
}

impl Default for Variables {
    fn default() -> Self {
        Self::ImagePatches { grid: 4, select: Some(8), margin: 0 }
    }
}

/// The variables of B samples.
#[derive(Debug)]
pub(super) struct Chosen {
    /// How many of them each sample has; None if all have n.
    pub(super) counts: Option<Vec<usize>>,
    /// See [`Sets::units`](super::Sets::units).
    pub(super) units: Option<Tensor>,
}

impl Variables {
    /// The number of variables n that a sample can have.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::ImagePatches { grid, select, margin } => {
                select.unwrap_or_else(|| allowed(*grid, *margin).len())
            }
            Self::Tokens { select, .. } => *select,
            Self::Columns { groups } => *groups,
        }
    }

    /// There must be two variables or more, and as many patches.
    pub(super) fn check(&self) -> Result<(), LossError> {
        let refuse = |message| Err(LossError::Setting(message));
        match self {
            Self::ImagePatches { grid, select, margin } => {
                let most = allowed(*grid, *margin).len();
                match (2..=most).contains(&self.count()) {
                    true => Ok(()),
                    false => refuse(format!(
                        "`select` must be 2 to the {most} patches of a grid of {grid} without a margin of {margin}, \
                         got {}",
                        select.map_or("all".to_owned(), |select| select.to_string())
                    )),
                }
            }
            Self::Tokens { select, .. } if *select < 2 => {
                refuse(format!("`select` must be 2 or more, got {select}"))
            }
            Self::Columns { groups } if *groups < 2 => {
                refuse(format!("`groups` must be 2 or more, got {groups}"))
            }
            _ => Ok(()),
        }
    }

    /// The variables of samples, by their inputs or features [B, …].
    pub(super) fn choose(&self, by: &Tensor, random: &mut Rng) -> Result<Chosen, LossError> {
        match self {
            Self::Tokens { select, exclude_ids } => draw_tokens(by, *select, exclude_ids, random),
            _ => Ok(Chosen { counts: None, units: self.by_rule(by)? }),
        }
    }

    /// The variable of each patch, which nothing random belongs to: int64 [B, grid²]; None for columns.
    pub(super) fn by_rule(&self, by: &Tensor) -> Result<Option<Tensor>, LossError> {
        match self {
            Self::ImagePatches { grid, select, margin } => {
                strongest_patches(by, *grid, *select, &allowed(*grid, *margin)).map(Some)
            }
            Self::Columns { .. } => Ok(None),
            Self::Tokens { .. } => Err(LossError::Shape(
                "tokens are drawn: give `units` beside `present`, the variable of each token or −1, or let \
                 the loss draw both"
                    .to_owned(),
            )),
        }
    }

    /// The variable of each position of features, −1 if it always stays: int64 [B, H, W], [B, L] or [B, D].
    pub(super) fn of_positions(
        &self,
        units: Option<&Tensor>,
        hidden: &Tensor,
    ) -> Result<Tensor, LossError> {
        if let Some(units) = units {
            self.check_units(units, hidden)?;
        }
        let refuse = |wanted: String| {
            let message = format!("features must be {wanted}, got shape {:?}", hidden.size());
            Err(LossError::Shape(message))
        };
        match (self, units, &hidden.size()[..]) {
            (Self::ImagePatches { grid, .. }, Some(units), [_, _, height, width]) => {
                let patches = patch_indices(hidden, *grid)?.f_flatten(0, -1)?;
                let units = units.f_to_device(hidden.device())?;
                let patches = patches.f_to_device(hidden.device())?;
                Ok(units.f_index_select(1, &patches)?.f_view([-1, *height, *width])?)
            }
            (Self::Tokens { .. }, Some(units), [_, length, _]) if units.size()[1] == *length => {
                Ok(units.shallow_clone())
            }
            (Self::Columns { groups }, _, [samples, columns]) if *columns >= *groups as i64 => {
                let column = Tensor::f_arange(*columns, (Kind::Int64, hidden.device()))?;
                Ok(column.f_remainder(*groups as i64)?.f_expand([*samples, -1], false)?)
            }
            (Self::ImagePatches { .. }, ..) => refuse("[B, C, H, W]".to_owned()),
            (Self::Tokens { .. }, ..) => {
                let length = units.map_or("L".to_owned(), |units| units.size()[1].to_string());
                refuse(format!("[B, {length}, D], a vector for each token"))
            }
            (Self::Columns { groups }, ..) => {
                refuse(format!("[B, D] with {groups} columns or more"))
            }
        }
    }

    fn check_units(&self, units: &Tensor, hidden: &Tensor) -> Result<(), LossError> {
        let count = match self {
            Self::ImagePatches { grid, .. } => Some((grid * grid) as i64),
            _ => None,
        };
        let is_fit = match units.size()[..] {
            [samples, found] => {
                hidden.size().first() == Some(&samples) && count.is_none_or(|count| found == count)
            }
            _ => false,
        };
        let largest = self.count() as i64;
        let is_known = is_fit
            && units.kind() == Kind::Int64
            && (units.numel() == 0
                || (units.f_min()?.int64_value(&[]) >= NO_VARIABLE
                    && units.f_max()?.int64_value(&[]) < largest));
        match is_known {
            true => Ok(()),
            false => Err(LossError::Shape(format!(
                "`units` must be int64 [{}, {}], a variable below {largest} or −1 for each, got {:?} {:?}",
                hidden.size().first().unwrap_or(&0),
                count.map_or("L".to_owned(), |count| count.to_string()),
                units.kind(),
                units.size(),
            ))),
        }
    }
}

/// The patches that may be chosen.
fn allowed(grid: usize, margin: usize) -> Vec<i64> {
    let inner = margin..grid.saturating_sub(margin);
    let row = |row: usize| inner.clone().map(move |column| (row * grid + column) as i64);
    inner.clone().flat_map(row).collect()
}

fn strongest_patches(
    images: &Tensor,
    grid: usize,
    select: Option<usize>,
    allowed: &[i64],
) -> Result<Tensor, LossError> {
    let samples = images.size()[0];
    let allowed = Tensor::f_from_slice(allowed)?;
    let patches = match select {
        None => allowed.f_expand([samples, -1], false)?,
        Some(select) => {
            if images.dim() != 4 {
                return Err(LossError::Shape(format!(
                    "`ImagePatches` chooses patches by images [B, C, H, W], got shape {:?}; `select: None` takes \
                     all patches",
                    images.size()
                )));
            }
            let strength = patch_strength(&images.detach(), grid)?.f_index_select(1, &allowed)?;
            let (_, strongest) = strength.f_topk(select as i64, 1, true, true)?;
            allowed.f_take(&strongest)?
        }
    };
    let count = patches.size()[1];
    let on_cpu = (Kind::Int64, Device::Cpu);
    let units = Tensor::f_full([samples, (grid * grid) as i64], NO_VARIABLE, on_cpu)?;
    let variables = Tensor::f_arange(count, on_cpu)?.f_expand([samples, -1], false)?;
    Ok(units.f_scatter(1, &patches, &variables)?)
}

/// L1 norm of the features in each patch, on the CPU: [B, C, H, W] -> [B, grid²].
fn patch_strength(hidden: &Tensor, grid: usize) -> Result<Tensor, LossError> {
    let patches = patch_indices(hidden, grid)?.f_flatten(0, -1)?;
    let norm = at_least_float32(hidden)?.f_abs()?;
    let norm = norm.f_sum_dim_intlist(&[1i64][..], false, None::<Kind>)?.f_flatten(1, -1)?;
    let none =
        Tensor::f_zeros([norm.size()[0], (grid * grid) as i64], (norm.kind(), norm.device()))?;
    let strength = none.f_index_add(1, &patches.f_to_device(norm.device())?, &norm)?;
    Ok(strength.f_to_device(Device::Cpu)?)
}

/// The patch of each position of a feature map [B, C, H, W], row by row: int64 [H, W]. If H or W is no multiple of the
/// grid, patches differ in size by one position.
fn patch_indices(hidden: &Tensor, grid: usize) -> Result<Tensor, LossError> {
    let [_, _, height, width] = hidden.size()[..] else {
        return Err(LossError::Shape(format!(
            "features must be [B, C, H, W], got shape {:?}",
            hidden.size()
        )));
    };
    let grid = grid as i64;
    if height.min(width) < grid {
        return Err(LossError::Shape(format!(
            "a {height}×{width} feature map has no {grid}×{grid} patches; take a smaller `grid` or an \
             earlier split"
        )));
    }
    Ok(Tensor::f_from_slice(&patches(height, width, grid))?.f_view([height, width])?)
}

fn draw_tokens(
    ids: &Tensor,
    select: usize,
    exclude_ids: &[i64],
    random: &mut Rng,
) -> Result<Chosen, LossError> {
    let (&[samples, length], Kind::Int64) = (&ids.size()[..], ids.kind()) else {
        return Err(LossError::Shape(format!(
            "`Tokens` needs ids int64 [B, L] as the input, got {:?} {:?}",
            ids.kind(),
            ids.size()
        )));
    };
    let all = Vec::<i64>::try_from(ids.f_flatten(0, -1)?.f_to_device(Device::Cpu)?)?;
    let mut units = vec![NO_VARIABLE; all.len()];
    let mut counts = Vec::with_capacity(samples as usize);
    for (ids, units) in
        all.chunks(length.max(1) as usize).zip(units.chunks_mut(length.max(1) as usize))
    {
        let is_allowed = |position: &usize| !exclude_ids.contains(&ids[*position]);
        let mut positions: Vec<usize> = (0..ids.len()).filter(is_allowed).collect();
        random.shuffle(&mut positions);
        positions.truncate(select);
        counts.push(positions.len());
        for (variable, position) in positions.into_iter().enumerate() {
            units[position] = variable as i64;
        }
    }
    let units = Tensor::f_from_slice(&units)?.f_view([samples, length])?;
    Ok(Chosen { counts: Some(counts), units: Some(units) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(tensor: &Tensor) -> Vec<i64> {
        Vec::try_from(tensor.flatten(0, -1)).expect("numbers")
    }

    #[test]
    fn the_strongest_patches_are_variables_inside_the_margin() {
        let image = Tensor::zeros([1, 1, 4, 4], (Kind::Float, Device::Cpu));
        for (pixel, value) in [(0, -9.0), (5, 1.0), (6, -3.0), (10, 2.0)] {
            let _ = image.view([16]).narrow(0, pixel, 1).fill_(value);
        }
        let rule = |margin| Variables::ImagePatches { grid: 4, select: Some(2), margin };
        let chosen =
            |margin| numbers(&rule(margin).by_rule(&image).expect("chosen").expect("units"));
        let with = |variables: [usize; 2]| {
            let mut units = [NO_VARIABLE; 16];
            variables.into_iter().zip(0..).for_each(|(patch, variable)| units[patch] = variable);
            units
        };
        assert_eq!(chosen(0), with([0, 6]));
        assert_eq!(chosen(1), with([6, 10]));
    }

    #[test]
    fn patches_of_a_map_that_the_grid_does_not_divide_differ_by_one() {
        let map = Tensor::zeros([1, 1, 3, 5], (Kind::Float, Device::Cpu));
        let patches = numbers(&patch_indices(&map, 2).expect("patches"));
        assert_eq!(patches, [0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3]);
    }

    #[test]
    fn excluded_tokens_are_no_variables_and_others_are_drawn() {
        let ids = Tensor::from_slice(&[7i64, 5, 6, 9, 0, 7, 5, 0, 0, 0]).view([2, 5]);
        let rule = Variables::Tokens { select: 2, exclude_ids: vec![0, 7] };
        let mut random = Rng::with_seed(1);
        let mut seen = [0; 5];
        for _ in 0..90 {
            let chosen = rule.choose(&ids, &mut random).expect("drawn");
            assert_eq!(chosen.counts, Some(vec![2, 1]));
            let units = numbers(&chosen.units.expect("units"));
            assert_eq!(units[5..], [-1, 0, -1, -1, -1]);
            let mut own: Vec<i64> = units[..5].iter().copied().filter(|&unit| unit >= 0).collect();
            own.sort_unstable();
            assert_eq!(own, [0, 1]);
            (0..5).filter(|&at| units[at] >= 0).for_each(|at| seen[at] += 1);
        }
        assert_eq!((seen[0], seen[4]), (0, 0));
        assert!(seen[1..4].iter().all(|&count| count > 40), "{seen:?}");
    }
}
