//! The random sets S1, S2 and S3 of Eq. 9, and what else is drawn at a step.

use super::masking::{self, Baseline};
use super::network::{self, Network, Plain};
use super::values::{interaction, log_odds};
use super::variables::{Chosen, Variables};
use super::{LossError, Ramp};
use fastrand::Rng;
use tch::{Kind, Tensor};

/// S1 and S2 have 1 to this many variables, so that S3 has room.
const LARGEST_SET: usize = 3;
/// S1∪S2∪S3, S1∪S3, S2∪S3, S3.
pub(super) const COPIES: usize = 4;

/// How a loss of interactions is taken.
#[derive(Clone, Debug)]
pub struct Settings {
    /// λ at the beginning, 0 to 1.
    pub lambda: f64,
    /// Steps over which λ changes where [`set_lambda`](super::Ramped::set_lambda) does not say; 0 means at once.
    pub ramp: u64,
    /// What the variables of a sample are.
    pub variables: Variables,
    /// What replaces an absent variable.
    pub baseline: Baseline,
    /// Share of the batch, drawn anew at each step, on which interactions are taken; more than 0, at most 1.
    pub fraction: f64,
    /// Seed of all that is random here; None draws one.
    pub seed: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lambda: 0.0,
            ramp: 0,
            variables: Variables::default(),
            baseline: Baseline::Zero,
            fraction: 1.0,
            seed: None,
        }
    }
}

/// On what the interactions of a step are taken; the same for both networks of a pair.
#[derive(Debug)]
pub struct Sets {
    /// The samples, indices into the batch, int64 [B′]; None is all of them.
    pub rows: Option<Tensor>,
    /// The variable of each patch or token, −1 where it always stays, int64 [B′, U]. None where the rule says: for
    /// columns, and for patches, which are then chosen when the loss is evaluated.
    pub units: Option<Tensor>,
    /// S1∪S2∪S3, S1∪S3, S2∪S3 and S3 of each sample as which variables are present, bool [4, B′, n].
    pub present: Tensor,
}

impl Sets {
    /// Given sets for all samples of a batch, bool [4, B, n], where variables follow by rule. Tokens, which are drawn,
    /// need `units` too.
    pub fn given(present: Tensor) -> Self {
        Self { rows: None, units: None, present }
    }

    /// They must fit a number of samples and of variables.
    fn check(&self, samples: i64, variables: usize) -> Result<(), LossError> {
        let wanted = [COPIES as i64, samples, variables as i64];
        if self.present.kind() == Kind::Bool && self.present.size() == wanted {
            return Ok(());
        }
        Err(LossError::Shape(format!(
            "`present` must be bool {wanted:?}, four sets of {samples} samples with {variables} variables, got {:?} {:?}",
            self.present.kind(),
            self.present.size(),
        )))
    }
}

/// λ, the random draws, and 𝓘 of one network: what the losses of interactions share.
#[derive(Debug)]
pub(super) struct Interactions {
    pub(super) ramp: Ramp,
    variables: Variables,
    baseline: Baseline,
    fraction: f64,
    random: Rng,
}

impl Interactions {
    pub(super) fn new(settings: Settings) -> Result<Self, LossError> {
        let Settings { lambda, ramp, variables, baseline, fraction, seed } = settings;
        variables.check()?;
        if !(fraction > 0.0 && fraction <= 1.0) {
            let message = format!("`fraction` must be more than 0 and at most 1, got {fraction}");
            return Err(LossError::Setting(message));
        }
        let random = seed.map_or_else(Rng::new, Rng::with_seed);
        Ok(Self { ramp: Ramp::new(lambda, ramp)?, variables, baseline, fraction, random })
    }

    /// Draws samples, variables and sets for a batch of what variables are chosen by: [B, …].
    pub(super) fn draw(&mut self, by: &Tensor) -> Result<Sets, LossError> {
        let samples = network::rows(by)?;
        let rows = self.draw_rows(samples)?;
        let some = select(by, rows.as_ref())?;
        let Chosen { counts, units } = self.variables.choose(&some, &mut self.random)?;
        let count = self.variables.count();
        let counts = counts.unwrap_or_else(|| vec![count; some.size()[0] as usize]);
        let present = draw_sets(&counts, count, &mut self.random)?;
        Ok(Sets { rows, units, present })
    }

    fn draw_rows(&mut self, samples: i64) -> Result<Option<Tensor>, LossError> {
        if self.fraction >= 1.0 {
            return Ok(None);
        }
        let count = ((self.fraction * samples as f64).round() as usize).max(1);
        let mut order: Vec<i64> = (0..samples).collect();
        self.random.shuffle(&mut order);
        order.truncate(count);
        order.sort_unstable();
        Ok(Some(Tensor::f_from_slice(&order)?))
    }

    /// 𝓘 of one network (Eq. 10), [B′], where its plain pass is given; `by` is what patches are chosen by, [B, …].
    pub(super) fn of_network(
        &self,
        network: &dyn Network,
        plain: &Plain,
        labels: &Tensor,
        by: &Tensor,
        sets: &Sets,
    ) -> Result<Tensor, LossError> {
        let rows = sets.rows.as_ref();
        let hidden = select(&plain.features, rows)?;
        sets.check(hidden.size()[0], self.variables.count())?;
        let units = match &sets.units {
            Some(units) => Some(units.shallow_clone()),
            None => self.variables.by_rule(&select(by, rows)?)?,
        };
        let positions = self.variables.of_positions(units.as_ref(), &hidden)?;
        let copies = masking::masked(&hidden, &positions, &sets.present, self.baseline)?;
        let outputs = network::masked(network, &copies)?;
        let labels = select(labels, rows)?.f_expand([COPIES as i64, -1], false)?;
        interaction(&log_odds(&outputs, &labels)?)
    }

    /// Whether patches are chosen by a feature map [B, C, H, W] rather than tokens by their ids.
    pub(super) fn is_of_patches(&self) -> bool {
        matches!(self.variables, Variables::ImagePatches { .. })
    }
}

/// Some samples of [B, …]; None is all.
fn select(tensor: &Tensor, rows: Option<&Tensor>) -> Result<Tensor, LossError> {
    let Some(rows) = rows else { return Ok(tensor.shallow_clone()) };
    Ok(tensor.f_index_select(0, &rows.f_to_device(tensor.device())?)?)
}

/// Random S1, S2, S3 for each sample, as which of n variables are present: bool [4, B, n].
///
/// S1, S2 and S3 are disjoint, S1 and S2 not empty. The sizes of S1 and S2 are uniform from 1 to [`LARGEST_SET`] or
/// half of the sample's variables, and each other variable is in S3 with a probability that is itself uniform, so
/// that all sizes of the context occur. `counts` says how many of the variables each sample has, the first ones; one with
/// less than two has no S2, so that its 𝓘 is zero.
fn draw_sets(counts: &[usize], variables: usize, random: &mut Rng) -> Result<Tensor, LossError> {
    let samples = counts.len();
    let mut present = vec![false; COPIES * samples * variables];
    let mut order: Vec<usize> = Vec::with_capacity(variables);
    for (sample, &count) in counts.iter().enumerate() {
        let largest = (count / 2).clamp(1, LARGEST_SET);
        let [first, second] = [(); 2].map(|()| random.usize(1..=largest));
        order.clear();
        order.extend(0..count);
        random.shuffle(&mut order);
        let density = random.f64();
        for (rank, &variable) in order.iter().enumerate() {
            let of_copies = if rank < first {
                [true, true, false, false]
            } else if rank < first + second {
                [true, false, true, false]
            } else {
                [random.f64() < density; COPIES]
            };
            for (copy, is_present) in of_copies.into_iter().enumerate() {
                present[(copy * samples + sample) * variables + variable] = is_present;
            }
        }
    }
    let shape = [COPIES, samples, variables].map(|size| size as i64);
    Ok(Tensor::f_from_slice(&present)?.f_view(shape)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(counts: &[usize], variables: usize) -> Vec<bool> {
        let sets = draw_sets(counts, variables, &mut Rng::with_seed(0)).expect("drawn");
        Vec::try_from(sets.flatten(0, -1)).expect("numbers")
    }

    /// Which of (S1, S2, S3) has each variable of each sample.
    fn members(counts: &[usize], variables: usize) -> Vec<Vec<[bool; 3]>> {
        let present = draw(counts, variables);
        let at = |copy: usize, sample: usize, variable: usize| {
            present[(copy * counts.len() + sample) * variables + variable]
        };
        let member = |sample: usize, variable: usize| {
            let [both, first, second, context] =
                [0, 1, 2, 3].map(|copy| at(copy, sample, variable));
            assert_eq!(both, first || second);
            assert_eq!(context, first && second);
            [first && !context, second && !context, context]
        };
        let of_sample = |sample| (0..variables).map(|variable| member(sample, variable)).collect();
        (0..counts.len()).map(of_sample).collect()
    }

    fn sizes(sample: &[[bool; 3]]) -> [usize; 3] {
        [0, 1, 2].map(|set| sample.iter().filter(|member| member[set]).count())
    }

    #[test]
    fn sets_are_disjoint_and_all_sizes_occur() {
        let drawn = members(&[8; 2000], 8);
        let mut seen = [[0; 9]; 3];
        for sample in &drawn {
            assert!(sample.iter().all(|member| member.iter().filter(|&&m| m).count() <= 1));
            for (set, size) in sizes(sample).into_iter().enumerate() {
                seen[set][size] += 1;
            }
        }
        for set in [0, 1] {
            assert!(seen[set][1..=3].iter().all(|&count| count > 500), "{seen:?}");
            assert_eq!(seen[set].iter().sum::<usize>(), seen[set][1..=3].iter().sum::<usize>());
        }
        assert!(seen[2][..=6].iter().all(|&count| count > 10), "{seen:?}");
        let meets = |set: usize, variable: usize| drawn.iter().filter(|s| s[variable][set]).count();
        assert!((0..8).all(|v| meets(0, v) > 350 && meets(1, v) > 350 && meets(2, v) > 350));
    }

    #[test]
    fn samples_with_few_variables_have_sets_among_those_and_none_below_two() {
        let counts: Vec<usize> = [0, 1, 2, 3, 6].repeat(200);
        for (sample, count) in members(&counts, 6).iter().zip(&counts) {
            assert!(sample[*count..].iter().all(|member| *member == [false; 3]));
            let [first, second, _] = sizes(sample);
            assert_eq!((first >= 1, second >= 1), (*count >= 1, *count >= 2), "{count}");
        }
    }

    #[test]
    fn a_fraction_takes_other_samples_at_each_step_and_all_in_the_end() {
        let variables = Variables::Columns { groups: 2 };
        let settings = Settings { fraction: 0.25, seed: Some(0), variables, ..Settings::default() };
        let mut interactions = Interactions::new(settings).expect("settings");
        let inputs = Tensor::zeros([16, 2], (Kind::Float, tch::Device::Cpu));
        let mut seen = [0; 16];
        for _ in 0..60 {
            let sets = interactions.draw(&inputs).expect("drawn");
            let rows = sets.rows.expect("a share");
            let rows = Vec::<i64>::try_from(&rows).expect("numbers");
            assert_eq!((rows.len(), sets.present.size()), (4, vec![4, 4, 2]));
            assert!(rows.is_sorted());
            rows.into_iter().for_each(|row| seen[row as usize] += 1);
        }
        assert!(seen.iter().all(|&count| count > 3), "{seen:?}");
    }
}
