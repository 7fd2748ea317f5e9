//! The monitors (DESIGN section 1): what is exported, stored and used in policies.

use super::totals::{Strength, Totals};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Weight β of ln(convergent_ratio) in `convergence_score`.
const SCORE_WEIGHT: f64 = 0.25;
/// Least ratio that enters the logarithm of `convergence_score`: a ratio of 0 is a bad score, not
/// an infinite one.
const SCORE_FLOOR: f64 = 1e-3;
/// Orders up to this one count as low.
const LOW_ORDER: usize = 2;
/// Orders from this one count as high.
const HIGH_ORDER: usize = 5;

/// Whether more or less of a monitor is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// More is better.
    Max,
    /// Less is better.
    Min,
}

macro_rules! monitors {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $goal:ident;)*) => {
        /// A number that is followed over the pairs of a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Monitor {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Monitor {
            /// Every monitor, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in policies, metrics and the history.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Which direction is better.
            pub fn goal(self) -> Goal {
                match self { $(Self::$variant => Goal::$goal,)* }
            }
        }
    };
}

monitors! {
    /// (J_a/s_a + J_b/s_b) / (I_a/s_a + I_b/s_b): symmetric in the networks, in [0, 1].
    ConvergentRatio, "convergent_ratio", Max;
    /// J/I of the target alone, as the paper plots.
    ConvergentRatioTarget, "convergent_ratio_target", Max;
    /// `convergent_ratio` over orders up to 2.
    ConvergentRatioLow, "convergent_ratio_low", Max;
    /// J/s, mean of the networks.
    ConvergentStrength, "convergent_strength", Max;
    /// (I − J)/s, mean of the networks.
    NonconvergentStrength, "nonconvergent_strength", Min;
    /// Cosine of the two effect vectors over all samples, in [−1, 1].
    InteractionCosine, "interaction_cosine", Max;
    /// Signed weighted Jaccard index Σmin/Σmax of the effects in units of s, in [0, 1].
    InteractionJaccard, "interaction_jaccard", Max;
    /// Share of the strength at order 5 and above, mean of the networks, in [0, 1].
    HighOrderShare, "high_order_share", Min;
    /// 2·min(pos, neg)/(pos + neg), mean of the networks, in [0, 1].
    OffsettingShare, "offsetting_share", Min;
    /// s = E|v(N) − v(∅)| of the target, in log-odds.
    OutputScaleTarget, "output_scale_target", Max;
    /// s of the baseline.
    OutputScaleBaseline, "output_scale_baseline", Max;
    /// Cross-entropy of the unmasked probe in nats, mean of the networks.
    ProbeLoss, "probe_loss", Min;
    /// Cross-entropy of the target.
    ProbeLossTarget, "probe_loss_target", Min;
    /// Cross-entropy of the baseline.
    ProbeLossBaseline, "probe_loss_baseline", Min;
    /// Accuracy on the unmasked probe, mean of the networks, in [0, 1].
    ProbeAccuracy, "probe_accuracy", Max;
    /// Accuracy of the target.
    ProbeAccuracyTarget, "probe_accuracy_target", Max;
    /// Accuracy of the baseline.
    ProbeAccuracyBaseline, "probe_accuracy_baseline", Max;
    /// −probe_loss + 0.25·ln(convergent_ratio): the best monitor for stopping.
    ConvergenceScore, "convergence_score", Max;
    /// Mean Jensen–Shannon divergence of the predictions on the unmasked probe, in nats.
    Disagreement, "disagreement", Min;
}

impl Monitor {
    /// Those that a short account of a pair shows.
    pub const CHIEF: [Self; 4] =
        [Self::ConvergenceScore, Self::ConvergentRatio, Self::ProbeLoss, Self::ProbeAccuracy];
}

impl std::fmt::Display for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A value with its standard error from the bootstrap over probe samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value on the whole probe.
    pub value: f64,
    /// Standard error; 0 with a single sample.
    pub standard_error: f64,
}

/// The monitors that are defined for a pair; a finite value each.
pub type Monitors = BTreeMap<Monitor, Estimate>;

/// All monitors of some totals, in the order of [`Monitor::ALL`]; NaN where one is undefined.
pub(super) fn values(totals: &Totals) -> Vec<f64> {
    Monitor::ALL.iter().map(|&monitor| value(monitor, totals).unwrap_or(f64::NAN)).collect()
}

pub(super) fn estimates(totals: &Totals, standard_errors: &[f64]) -> Monitors {
    let all = Monitor::ALL.iter().zip(standard_errors);
    let defined = all.filter_map(|(&monitor, &error)| {
        let value = value(monitor, totals).filter(|value| value.is_finite())?;
        let standard_error = if error.is_finite() { error } else { 0.0 };
        Some((monitor, Estimate { value, standard_error }))
    });
    defined.collect()
}

pub(super) fn value(monitor: Monitor, totals: &Totals) -> Option<f64> {
    let loss = |i: usize| totals.loss.map(|loss| loss[i] / totals.samples);
    let accuracy = |i: usize| totals.correct.map(|correct| correct[i] / totals.samples);
    match monitor {
        Monitor::ConvergentRatio => symmetric_ratio(totals, |_| true),
        Monitor::ConvergentRatioTarget => {
            let (all, convergent) = strength(&totals.strength[0], |_| true);
            quotient(convergent, all)
        }
        Monitor::ConvergentRatioLow => symmetric_ratio(totals, |order| order <= LOW_ORDER),
        Monitor::ConvergentStrength => in_units_of_output(totals, |_, convergent| convergent),
        Monitor::NonconvergentStrength => {
            in_units_of_output(totals, |all, convergent| all - convergent)
        }
        Monitor::InteractionCosine => {
            quotient(totals.product, (totals.squares[0] * totals.squares[1]).sqrt())
        }
        Monitor::InteractionJaccard => quotient(totals.overlap, totals.union),
        Monitor::HighOrderShare => mean_of_networks(totals, |network| {
            let (high, _) = strength(network, |order| order >= HIGH_ORDER);
            quotient(high, strength(network, |_| true).0)
        }),
        Monitor::OffsettingShare => mean_of_networks(totals, |network| {
            let positive: f64 = network.iter().map(|s| s.positive).sum();
            let negative: f64 = network.iter().map(|s| s.negative).sum();
            quotient(2.0 * positive.min(negative), positive + negative)
        }),
        Monitor::OutputScaleTarget => quotient(totals.output[0], totals.samples),
        Monitor::OutputScaleBaseline => quotient(totals.output[1], totals.samples),
        Monitor::ProbeLoss => Some(0.5 * (loss(0)? + loss(1)?)),
        Monitor::ProbeLossTarget => loss(0),
        Monitor::ProbeLossBaseline => loss(1),
        Monitor::ProbeAccuracy => Some(0.5 * (accuracy(0)? + accuracy(1)?)),
        Monitor::ProbeAccuracyTarget => accuracy(0),
        Monitor::ProbeAccuracyBaseline => accuracy(1),
        Monitor::ConvergenceScore => {
            let ratio = value(Monitor::ConvergentRatio, totals)?.max(SCORE_FLOOR);
            Some(-value(Monitor::ProbeLoss, totals)? + SCORE_WEIGHT * ratio.ln())
        }
        Monitor::Disagreement => quotient(totals.divergence, totals.samples),
    }
}

/// (I, J) summed over the orders that `of` accepts.
fn strength(network: &[Strength], of: impl Fn(usize) -> bool) -> (f64, f64) {
    let orders = network.iter().enumerate().filter(|(order, _)| of(*order));
    orders.fold((0.0, 0.0), |(i, j), (_, s)| (i + s.all(), j + s.convergent()))
}

fn symmetric_ratio(totals: &Totals, of: impl Fn(usize) -> bool) -> Option<f64> {
    let (mut all, mut convergent) = (0.0, 0.0);
    for (network, output) in totals.strength.iter().zip(totals.output) {
        let (i, j) = strength(network, &of);
        all += quotient(i, output)?;
        convergent += quotient(j, output)?;
    }
    quotient(convergent, all)
}

fn in_units_of_output(totals: &Totals, of: impl Fn(f64, f64) -> f64) -> Option<f64> {
    let network = |i: usize| {
        let (all, convergent) = strength(&totals.strength[i], |_| true);
        quotient(of(all, convergent), totals.output[i])
    };
    Some(0.5 * (network(0)? + network(1)?))
}

fn mean_of_networks(totals: &Totals, of: impl Fn(&[Strength]) -> Option<f64>) -> Option<f64> {
    Some(0.5 * (of(&totals.strength[0])? + of(&totals.strength[1])?))
}

/// a/b, or nothing where b is no positive number.
fn quotient(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}
