//! Sums over probe samples from which every monitor is computed. They are linear in the samples,
//! so that a bootstrap resample is a sum as well.

use crate::interaction::subset::{order, variables_of};
use crate::interaction::{Interactions, Kind};
use serde::{Deserialize, Serialize};

/// What one network gives for the probe, by sample.
#[derive(Clone, Debug, Default)]
pub struct NetworkProbe {
    /// The AND-OR effects of each sample.
    pub interactions: Vec<Interactions>,
    /// v(N) − v(∅) of each sample.
    pub outputs: Vec<f64>,
    /// Cross-entropy of each unmasked sample in nats; empty without labels.
    pub losses: Vec<f64>,
    /// Whether each unmasked sample is classified rightly; empty without labels.
    pub correct: Vec<bool>,
    /// Predicted class probabilities of each unmasked sample.
    pub probabilities: Vec<Vec<f64>>,
}

impl NetworkProbe {
    /// s = E_x|v(N) − v(∅)|, the output scale of the network.
    pub fn output_scale(&self) -> f64 {
        let sum: f64 = self.outputs.iter().map(|output| output.abs()).sum();
        sum / self.outputs.len().max(1) as f64
    }
}

/// Two networks at one step.
pub struct Pair<'a> {
    /// The network under training that the user cares for.
    pub target: &'a NetworkProbe,
    /// The network that it is compared with.
    pub baseline: &'a NetworkProbe,
    /// τ as a share of the output scale of each network (0.02 in the paper).
    pub salience: f64,
}

/// Strength of the effects of one order: sums of |effect| by sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Strength {
    /// I_pos, all salient positive effects.
    pub positive: f64,
    /// |I_neg|, all salient negative effects.
    pub negative: f64,
    /// J_pos, the convergent positive ones.
    pub convergent_positive: f64,
    /// |J_neg|, the convergent negative ones.
    pub convergent_negative: f64,
}

impl Strength {
    /// I: all salient effects.
    pub fn all(&self) -> f64 {
        self.positive + self.negative
    }

    /// J: all convergent effects.
    pub fn convergent(&self) -> f64 {
        self.convergent_positive + self.convergent_negative
    }

    fn add(&mut self, effect: f64, convergent: bool) {
        let (all, agreed) = match effect > 0.0 {
            true => (&mut self.positive, &mut self.convergent_positive),
            false => (&mut self.negative, &mut self.convergent_negative),
        };
        *all += effect.abs();
        if convergent {
            *agreed += effect.abs();
        }
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            positive: self.positive + other.positive,
            negative: self.negative + other.negative,
            convergent_positive: self.convergent_positive + other.convergent_positive,
            convergent_negative: self.convergent_negative + other.convergent_negative,
        }
    }

    pub(super) fn scaled(&self, factor: f64) -> Self {
        Self {
            positive: self.positive * factor,
            negative: self.negative * factor,
            convergent_positive: self.convergent_positive * factor,
            convergent_negative: self.convergent_negative * factor,
        }
    }
}

/// Whether one effect counts in each network, and in both (paper Eq. 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// |effect| > τ, (target, baseline).
    pub salient: [bool; 2],
    /// G_T: salient in both networks with the same sign.
    pub convergent: bool,
}

impl Agreement {
    /// Of the effects of (target, baseline) on one T, and τ of both, all in units of v.
    pub fn of(effects: [f64; 2], thresholds: [f64; 2]) -> Self {
        let salient = [0, 1].map(|i| effects[i].abs() > thresholds[i]);
        let convergent = salient == [true; 2] && effects[0] * effects[1] > 0.0;
        Self { salient, convergent }
    }
}

/// Sums over samples. Arrays are (target, baseline).
#[derive(Clone, Debug, PartialEq)]
pub struct Totals {
    /// Number of samples.
    pub samples: f64,
    /// Σ|v(N) − v(∅)|.
    pub output: [f64; 2],
    /// Strength by order 0..=n.
    pub strength: [Vec<Strength>; 2],
    /// Σ a·b over all effects a of the target and b of the baseline.
    pub product: f64,
    /// Σ a² and Σ b².
    pub squares: [f64; 2],
    /// Σ min and Σ max of same-signed parts of a/s_a and b/s_b.
    pub overlap: f64,
    /// See `overlap`.
    pub union: f64,
    /// Σ cross-entropy, where there are labels.
    pub loss: Option<[f64; 2]>,
    /// Number of rightly classified samples, where there are labels.
    pub correct: Option<[f64; 2]>,
    /// Σ Jensen–Shannon divergence of the predictions, in nats.
    pub divergence: f64,
}

impl Totals {
    /// The sum over no samples.
    pub fn zero(orders: usize) -> Self {
        Self {
            samples: 0.0,
            output: [0.0; 2],
            strength: [vec![Strength::default(); orders], vec![Strength::default(); orders]],
            product: 0.0,
            squares: [0.0; 2],
            overlap: 0.0,
            union: 0.0,
            loss: Some([0.0; 2]),
            correct: Some([0.0; 2]),
            divergence: 0.0,
        }
    }

    /// The sum over the samples of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let both = |a: [f64; 2], b: [f64; 2]| [a[0] + b[0], a[1] + b[1]];
        let strengths = |a: &[Strength], b: &[Strength]| {
            a.iter().zip(b).map(|(a, b)| a.plus(b)).collect::<Vec<_>>()
        };
        Self {
            samples: self.samples + other.samples,
            output: both(self.output, other.output),
            strength: [0, 1].map(|i| strengths(&self.strength[i], &other.strength[i])),
            product: self.product + other.product,
            squares: both(self.squares, other.squares),
            overlap: self.overlap + other.overlap,
            union: self.union + other.union,
            loss: self.loss.zip(other.loss).map(|(a, b)| both(a, b)),
            correct: self.correct.zip(other.correct).map(|(a, b)| both(a, b)),
            divergence: self.divergence + other.divergence,
        }
    }
}

impl Pair<'_> {
    /// Number of orders 0..=n.
    pub fn orders(&self) -> usize {
        let length = self.target.interactions.first().map_or(0, |sample| sample.and.len());
        variables_of(length).map_or(0, |n| n + 1)
    }

    /// τ of both networks, in units of v.
    pub fn thresholds(&self) -> [f64; 2] {
        [self.target, self.baseline].map(|network| self.salience * network.output_scale())
    }

    /// The totals of every sample alone. Thresholds and scales are those of the whole probe.
    pub fn per_sample(&self) -> Vec<Totals> {
        let thresholds = self.thresholds();
        let scales = [self.target, self.baseline].map(|n| n.output_scale().max(f64::MIN_POSITIVE));
        let samples = self.target.interactions.len().min(self.baseline.interactions.len());
        (0..samples).map(|sample| self.sample(sample, thresholds, scales)).collect()
    }

    fn sample(&self, sample: usize, thresholds: [f64; 2], scales: [f64; 2]) -> Totals {
        let networks = [self.target, self.baseline];
        let mut totals = Totals::zero(self.orders());
        totals.samples = 1.0;
        totals.output = networks.map(|network| network.outputs[sample].abs());
        for kind in [Kind::And, Kind::Or] {
            let [a, b] = networks.map(|network| network.interactions[sample].of(kind));
            for (subset, (&a, &b)) in a.iter().zip(b).enumerate().skip(1) {
                totals.add_effect(order(subset), [a, b], thresholds);
                totals.add_overlap(a / scales[0], b / scales[1]);
            }
        }
        let labelled = networks.iter().all(|network| !network.losses.is_empty());
        totals.loss = labelled.then(|| networks.map(|network| network.losses[sample]));
        totals.correct =
            labelled.then(|| networks.map(|network| f64::from(u8::from(network.correct[sample]))));
        let [p, q] = networks.map(|network| network.probabilities[sample].as_slice());
        totals.divergence = jensen_shannon(p, q);
        totals
    }
}

impl Totals {
    /// One effect of both networks: G_T of Eq. 5 and its terms of Eq. 6 and 7.
    fn add_effect(&mut self, order: usize, effects: [f64; 2], thresholds: [f64; 2]) {
        let Agreement { salient, convergent } = Agreement::of(effects, thresholds);
        for network in 0..2 {
            if salient[network] {
                self.strength[network][order].add(effects[network], convergent);
            }
            self.squares[network] += effects[network] * effects[network];
        }
        self.product += effects[0] * effects[1];
    }

    fn add_overlap(&mut self, a: f64, b: f64) {
        let same_sign = (a > 0.0) == (b > 0.0);
        if same_sign {
            self.overlap += a.abs().min(b.abs());
            self.union += a.abs().max(b.abs());
        } else {
            self.union += a.abs() + b.abs();
        }
    }
}

/// Jensen–Shannon divergence of two distributions in nats, in [0, ln 2].
fn jensen_shannon(p: &[f64], q: &[f64]) -> f64 {
    let term = |p: f64, m: f64| if p > 0.0 { p * (p / m).ln() } else { 0.0 };
    let terms = p.iter().zip(q).map(|(&p, &q)| {
        let middle = 0.5 * (p + q);
        0.5 * (term(p, middle) + term(q, middle))
    });
    terms.sum()
}
