//! Which positions of the features form which variable; chosen once a run.

use crate::evaluation::{Assignment, VariableRule, Variables};
use crate::role::Role;
use tch::{Kind, Tensor};

/// The part of a feature tensor [1, …] that is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Positions down and across; across alone for sequences and columns.
    pub height: i64,
    /// See `height`.
    pub width: i64,
    /// Dimensions of the features without the batch.
    kind: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// [C, H, W]: a position is a pixel.
    Image,
    /// [L, D]: a position is a token.
    Sequence,
    /// [D]: a position is a column.
    Columns,
}

impl Layout {
    /// The layout of the features of one sample.
    pub fn of(features: &Tensor) -> Result<Self, String> {
        match features.size()[..] {
            [1, _, height, width] => Ok(Self { height, width, kind: Shape::Image }),
            [1, length, _] => Ok(Self { height: 1, width: length, kind: Shape::Sequence }),
            [1, columns] => Ok(Self { height: 1, width: columns, kind: Shape::Columns }),
            ref other => Err(format!(
                "gives features of shape {other:?} for one sample; convergd masks [1, C, H, W], \
                 [1, L, D] and [1, D]"
            )),
        }
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        (self.height * self.width) as usize
    }

    /// A mask [B, positions] in the shape that multiplies features [B, …].
    pub fn shape_mask(&self, mask: &Tensor) -> Tensor {
        let batch = mask.size()[0];
        match self.kind {
            Shape::Image => mask.view([batch, 1, self.height, self.width]),
            Shape::Sequence => mask.view([batch, self.width, 1]),
            Shape::Columns => mask.view([batch, self.width]),
        }
    }

    /// Mean of features [1, …] over the positions where `weight` [positions] is not 0.
    pub fn mean(&self, features: &Tensor, weight: &Tensor) -> Tensor {
        let weight = self.shape_mask(&weight.unsqueeze(0));
        let over: &[i64] = match self.kind {
            Shape::Image => &[2, 3],
            Shape::Sequence | Shape::Columns => &[1],
        };
        let sum = (features * &weight).sum_dim_intlist(over, true, Kind::Float);
        sum / weight.sum(Kind::Float).clamp_min(1.0)
    }

    /// The patch of each position.
    fn patches(&self, grid: usize) -> impl Iterator<Item = usize> {
        patches(self.height, self.width, grid as i64).into_iter().map(|patch| patch as usize)
    }
}

/// The patch of each position of a map, row by row. If a side is no multiple of the grid, patches differ in size by one
/// position.
pub fn patches(height: i64, width: i64, grid: i64) -> Vec<i64> {
    let patch = |y: i64, x: i64| (y * grid / height) * grid + x * grid / width;
    (0..height).flat_map(|y| (0..width).map(move |x| patch(y, x))).collect()
}

/// The variable of each position of one sample, −1 where always present.
pub fn of_sample(
    variables: &Variables,
    sample: usize,
    layout: &Layout,
) -> Result<Vec<i64>, String> {
    let positions = layout.positions();
    match &variables.assignment {
        Assignment::Columns => {
            Ok((0..positions).map(|position| (position % variables.count) as i64).collect())
        }
        Assignment::Positions(all) if all[sample].len() == positions => Ok(all[sample].clone()),
        Assignment::Positions(all) => Err(format!(
            "has `variables` for {} positions, but the features have {positions}; give the variable \
             of each, -1 where it always stays",
            all[sample].len()
        )),
        Assignment::Patches { grid, chosen } => {
            let variable = |patch: usize| chosen[sample].iter().position(|&c| c == patch);
            let of = |patch: usize| variable(patch).map_or(-1, |variable| variable as i64);
            Ok(layout.patches(*grid).map(of).collect())
        }
    }
}

/// The assignment that a probe file gives: n is one more than its largest variable.
pub fn from_probe(variables: &[Vec<i64>]) -> Result<(usize, Assignment), String> {
    let largest = variables.iter().flatten().copied().max().unwrap_or(-1);
    let count = (largest + 1) as usize;
    if !(2..=16).contains(&count) {
        return Err(format!("has `variables` that name {count} variables; 2 to 16 are supported"));
    }
    for (sample, row) in variables.iter().enumerate() {
        if let Some(value) = row.iter().find(|&&value| value < -1) {
            return Err(format!(
                "has `variables` with {value} at sample {sample}; −1 is the least"
            ));
        }
        if let Some(absent) = (0..=largest).find(|variable| !row.contains(variable)) {
            return Err(format!("has no position of variable {absent} at sample {sample}"));
        }
    }
    Ok((count, Assignment::Positions(variables.to_vec())))
}

/// Draws the variables of [`VariableRule::Tokens`] from token ids and whether each is there,
/// [P][L]: of the allowed positions the `select` with the smallest BLAKE3 hash of the sample's
/// tokens that are there, its allowed position's rank and id. So a sample has the same
/// variables in every run, wherever it stands in the probe and however it is padded. Variables are
/// numbered from left to right.
///
/// # Errors
/// The first sample that has too few.
pub fn draw_tokens(
    samples: &[Vec<(i64, bool)>],
    select: usize,
    exclude_ids: &[i64],
) -> Result<Assignment, String> {
    let draw = |(sample, row): (usize, &Vec<(i64, bool)>)| {
        let mut hasher = blake3::Hasher::new();
        for (id, _) in row.iter().filter(|(_, is_there)| *is_there) {
            hasher.update(&id.to_le_bytes());
        }
        let allowed =
            |&(_, &(id, is_there)): &(usize, &(i64, bool))| is_there && !exclude_ids.contains(&id);
        let mut positions: Vec<(blake3::Hash, usize)> = row
            .iter()
            .enumerate()
            .filter(allowed)
            .enumerate()
            .map(|(rank, (position, (id, _)))| {
                let mut hasher = hasher.clone();
                hasher.update(&(rank as u64).to_le_bytes()).update(&id.to_le_bytes());
                (hasher.finalize(), position)
            })
            .collect();
        if positions.len() < select {
            return Err(format!(
                "has at sample {sample} only {} tokens that are there and not in `exclude_ids`, but \
                 {select} are to be variables; `select` fewer, exclude fewer, or leave the sample out",
                positions.len()
            ));
        }
        positions.sort_unstable_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        let mut chosen: Vec<usize> = positions[..select].iter().map(|&(_, at)| at).collect();
        chosen.sort_unstable();
        let mut variables = vec![-1; row.len()];
        for (variable, position) in chosen.into_iter().enumerate() {
            variables[position] = variable as i64;
        }
        Ok(variables)
    };
    samples.iter().enumerate().map(draw).collect::<Result<_, _>>().map(Assignment::Positions)
}

/// Applies a rule to the features of all samples, one [1, …] tensor a sample and network.
///
/// # Errors
/// Features that the rule does not fit, and whose they are; [`VariableRule::Tokens`] needs no features.
pub fn choose(
    rule: &VariableRule,
    features: [&[Tensor]; 2],
) -> Result<(usize, Assignment), (Role, String)> {
    let (grid, margin, select) = match *rule {
        VariableRule::Tokens { .. } => {
            return Err((Role::Target, "BUG: tokens are drawn from ids".to_owned()));
        }
        VariableRule::Columns { groups } => {
            for (role, network) in Role::BOTH.into_iter().zip(features) {
                let positions = network.first().map_or(Ok(groups), |features| {
                    Layout::of(features).map(|layout| layout.positions())
                });
                let positions = positions.map_err(|message| (role, message))?;
                if positions < groups {
                    let message = format!(
                        "gives features with {positions} positions, which are too few for {groups} \
                         variables; take fewer `groups`"
                    );
                    return Err((role, message));
                }
            }
            return Ok((groups, Assignment::Columns));
        }
        VariableRule::ImagePatches { grid, margin, select } => (grid, margin, select),
    };
    let inner = |patch: usize| {
        let allowed = margin..grid.saturating_sub(margin);
        allowed.contains(&(patch / grid)) && allowed.contains(&(patch % grid))
    };
    let samples = features[0].len();
    let mut chosen = Vec::with_capacity(samples);
    for sample in 0..samples {
        let mut norms = vec![0.0; grid * grid];
        for (role, network) in Role::BOTH.into_iter().zip(features) {
            add_patch_norms(&mut norms, &network[sample], grid)
                .map_err(|message| (role, message))?;
        }
        let mut patches: Vec<usize> = (0..grid * grid).filter(|&patch| inner(patch)).collect();
        patches.sort_by(|&a, &b| norms[b].total_cmp(&norms[a]).then(a.cmp(&b)));
        patches.truncate(select);
        patches.sort_unstable();
        chosen.push(patches);
    }
    Ok((select, Assignment::Patches { grid, chosen }))
}

fn add_patch_norms(norms: &mut [f64], features: &Tensor, grid: usize) -> Result<(), String> {
    let layout = Layout::of(features)?;
    if layout.kind != Shape::Image {
        let shape = features.size();
        return Err(format!(
            "gives features of shape {shape:?}, but `image_patches` needs [1, C, H, W]; use `columns`"
        ));
    }
    if layout.height < grid as i64 || layout.width < grid as i64 {
        return Err(format!(
            "gives a feature map of {} × {}, which has no {grid} × {grid} patches; take a smaller \
             `grid`",
            layout.height, layout.width
        ));
    }
    let strength =
        features.abs().sum_dim_intlist(&[0i64, 1][..], false, Kind::Double).flatten(0, -1);
    let strength = Vec::<f64>::try_from(&strength).map_err(|error| error.to_string())?;
    for (patch, strength) in layout.patches(grid).zip(strength) {
        norms[patch] += strength;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_patches_of_both_networks_are_chosen_inside_the_margin() {
        // A 4 × 4 map with one channel; patch p of a 4 × 4 grid is pixel p.
        let map = |strong: &[i64]| {
            let map = Tensor::zeros([16], (Kind::Float, tch::Device::Cpu));
            for &pixel in strong {
                let _ = map.narrow(0, pixel, 1).fill_(-2.0);
            }
            vec![map.view([1, 1, 4, 4])]
        };
        let (a, b) = (map(&[0, 5, 6]), map(&[0, 10, 5]));
        let rule = |margin| VariableRule::ImagePatches { grid: 4, margin, select: 2 };
        let chosen = |margin| choose(&rule(margin), [&a, &b]).map(|(_, assignment)| assignment);
        let patches = |chosen| Ok(Assignment::Patches { grid: 4, chosen: vec![chosen] });
        assert_eq!(chosen(0), patches(vec![0, 5]));
        // Without the border 5 is strong in both, 6 and 10 in one each: the tie goes to the lower.
        assert_eq!(chosen(1), patches(vec![5, 6]));
    }

    #[test]
    fn positions_of_a_patch_share_its_variable() {
        let layout = Layout::of(&Tensor::zeros([1, 3, 4, 4], (Kind::Float, tch::Device::Cpu)));
        let variables = Variables {
            count: 2,
            classes: vec![0],
            assignment: Assignment::Patches { grid: 2, chosen: vec![vec![1, 2]] },
        };
        let positions = of_sample(&variables, 0, &layout.expect("an image"));
        let wanted = [-1, -1, 0, 0, -1, -1, 0, 0, 1, 1, -1, -1, 1, 1, -1, -1];
        assert_eq!(positions.as_deref(), Ok(&wanted[..]));
    }

    #[test]
    fn tokens_are_drawn_alike_however_a_sample_is_padded() {
        let ids = [101, 7, 8, 9, 7, 30, 31, 102];
        let row = |left: usize, right: usize| -> Vec<(i64, bool)> {
            let padding = |count| std::iter::repeat_n((0, false), count);
            padding(left).chain(ids.map(|id| (id, true))).chain(padding(right)).collect()
        };
        let draw = |rows: &[Vec<(i64, bool)>], select| draw_tokens(rows, select, &[101, 102, 9]);
        let Ok(Assignment::Positions(drawn)) = draw(&[row(0, 2), row(2, 0), row(0, 2)], 3) else {
            panic!("not drawn")
        };
        assert_eq!(drawn[0], drawn[2]);
        assert_eq!(drawn[0][..8], drawn[1][2..]);
        let variables: Vec<i64> = drawn[0].iter().copied().filter(|&v| v >= 0).collect();
        assert_eq!(variables, [0, 1, 2], "from left to right");
        for excluded in [0, 3, 7, 8, 9] {
            assert_eq!(drawn[0][excluded], -1, "position {excluded}");
        }
        // All five allowed tokens, and not one more.
        assert!(draw(&[row(1, 1)], 5).is_ok());
        let message = draw(&[row(0, 0), row(1, 1)], 6).expect_err("too few");
        assert!(message.contains("at sample 0 only 5 tokens"), "{message}");
    }

    #[test]
    fn drawn_tokens_are_spread_over_the_sample() {
        // 2,000 samples of 20 tokens: each position is drawn about half the time.
        let rows: Vec<Vec<(i64, bool)>> =
            (0..2_000).map(|sample| (0..20).map(|at| (sample * 31 + at, true)).collect()).collect();
        let Ok(Assignment::Positions(drawn)) = draw_tokens(&rows, 10, &[]) else {
            panic!("not drawn")
        };
        for position in 0..20 {
            let count = drawn.iter().filter(|row| row[position] >= 0).count();
            // Six standard deviations of a fair draw are 134.
            assert!(count.abs_diff(1_000) < 134, "position {position}: {count}");
        }
    }

    #[test]
    fn variables_of_a_probe_are_checked() {
        assert!(from_probe(&[vec![0, 1, -1], vec![1, 0, 0]]).is_ok());
        for (bad, word) in [
            (vec![vec![0, 0]], "1 variables"),
            (vec![vec![0, 1], vec![1, 1]], "variable 0 at sample 1"),
            (vec![vec![0, 1, -2]], "-2 at sample 0"),
        ] {
            let message = from_probe(&bad).expect_err("refused");
            assert!(message.contains(word), "{message}");
        }
    }
}
