//! One pair, from value tables to a decision: the middle of the way, without threads or files.

use crate::config::Interactions as Settings;
use crate::convergence::{self, Convergence, NetworkProbe, Pair};
use crate::evaluation::{ProbeValues, Variables};
use crate::extractor::{Extract, ExtractError};
use crate::policy::{self, Observation, Outcome, Policy, PolicyState};
use crate::sparsify::{Problem, Solution, Status};

/// What the tables of a pair tell.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// Monitors and strengths; nothing where a table is not finite.
    pub convergence: Option<Convergence>,
    /// Why there is no convergence.
    pub trouble: Option<String>,
    /// Extractions, both networks together.
    pub samples: usize,
    /// Those whose gap is proven.
    pub certified: usize,
    /// Those that are optimal up to rounding.
    pub exact: usize,
    /// The largest gap.
    pub gap_max: f64,
    /// The largest difference from float32 of an effect in units of the output scale, (target, baseline);
    /// nothing where the values are float32 themselves. A salience below it is not supported: an effect
    /// that float32 does not see could be salient.
    pub noise_floor: Option<[f64; 2]>,
}

/// Value tables → interactions with certificates → convergence.
///
/// Both networks go through the same solver with the same schedule.
///
/// # Errors
/// A device that gives up.
pub fn analyse(
    values: [&ProbeValues; 2],
    variables: &Variables,
    has_labels: bool,
    settings: &Settings,
    extractor: &dyn Extract,
) -> Result<Analysis, ExtractError> {
    let samples = values.iter().map(|network| network.values.len()).sum();
    // Of each network the values, and those of the first samples in float32.
    let tables = [&values[0].values, &values[1].values, &values[0].reference, &values[1].reference];
    let mut problems = Vec::new();
    let mut ends = Vec::new();
    for (network, tables) in ["target", "baseline"].iter().cycle().zip(tables) {
        for (sample, table) in tables.iter().enumerate() {
            match Problem::new(table, settings.noise) {
                Ok(problem) => problems.push(problem),
                Err(trouble) => {
                    let trouble = format!("{network}: sample {sample}: {trouble}");
                    return Ok(Analysis::failed(samples, trouble));
                }
            }
        }
        ends.push(problems.len());
    }
    let mut target = extractor.solve(&problems)?;
    let mut baseline = target.split_off(ends[0]);
    let mut target_reference = baseline.split_off(ends[1] - ends[0]);
    let baseline_reference = target_reference.split_off(ends[2] - ends[1]);
    let all = || target.iter().chain(&baseline);
    let certified = all().filter(|solution| solution.status.is_certified()).count();
    let exact = all().filter(|solution| solution.status == Status::Exact).count();
    let gap_max = all().map(|solution| solution.certificate.gap()).fold(0.0, f64::max);
    let probes = [(target, values[0]), (baseline, values[1])]
        .map(|(solutions, values)| summarise(solutions, values, variables, has_labels));
    let references = [target_reference, baseline_reference];
    let noise_floor = (!references[0].is_empty() || !references[1].is_empty())
        .then(|| [0, 1].map(|network| noise_floor(&probes[network], &references[network])));
    let pair = Pair { target: &probes[0], baseline: &probes[1], salience: settings.salience };
    let convergence = Some(convergence::compare(&pair));
    Ok(Analysis { convergence, trouble: None, samples, certified, exact, gap_max, noise_floor })
}

/// A pair's analysis → the policy's next state, and what the rules decide and say.
pub fn decide(
    policy: &Policy,
    state: PolicyState,
    step: u64,
    analysis: &Analysis,
    now: f64,
) -> Outcome {
    let convergence = analysis.convergence.as_ref();
    let samples = convergence.filter(|_| policy.needs_samples()).map(|c| c.samples.clone());
    let observation = Observation {
        step,
        monitors: convergence.map(|c| c.monitors.clone()).unwrap_or_default(),
        finite: convergence.is_some(),
        samples,
    };
    policy::decide(policy, state, &observation, now)
}

impl Analysis {
    /// Nothing, with the reason.
    pub fn failed(samples: usize, trouble: String) -> Self {
        let trouble = Some(trouble);
        Self {
            convergence: None,
            trouble,
            samples,
            certified: 0,
            exact: 0,
            gap_max: 0.0,
            noise_floor: None,
        }
    }
}

/// max |effect − effect in float32| / s over the samples that have both.
fn noise_floor(probe: &NetworkProbe, reference: &[Solution]) -> f64 {
    let largest = |own: &[f64], reference: &[f64]| {
        own.iter().zip(reference).map(|(own, other)| (own - other).abs()).fold(0.0, f64::max)
    };
    let pairs = probe.interactions.iter().zip(reference);
    let largest = pairs
        .map(|(own, Solution { effects, .. })| {
            largest(&own.and, &effects.and).max(largest(&own.or, &effects.or))
        })
        .fold(0.0, f64::max);
    // Outputs may all be rounded away: a number all the same, which is stored and read back.
    (largest / probe.output_scale().max(f64::MIN_POSITIVE)).min(f64::MAX)
}

fn summarise(
    solutions: Vec<Solution>,
    values: &ProbeValues,
    variables: &Variables,
    has_labels: bool,
) -> NetworkProbe {
    let probabilities: Vec<Vec<f64>> = values.logits.iter().map(|logits| softmax(logits)).collect();
    let mut probe = NetworkProbe {
        interactions: solutions.into_iter().map(|solution| solution.effects).collect(),
        outputs: values.outputs(),
        ..NetworkProbe::default()
    };
    if has_labels {
        for (logits, &class) in values.logits.iter().zip(&variables.classes) {
            let class = class as usize;
            probe.losses.push(log_sum_exp(logits) - logits[class]);
            probe.correct.push(logits.iter().all(|&logit| logit <= logits[class]));
        }
    }
    probe.probabilities = probabilities;
    probe
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let normaliser = log_sum_exp(logits);
    logits.iter().map(|logit| (logit - normaliser).exp()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparsify::Settings as SolverSettings;
    use crate::sparsify::Solver;

    #[test]
    fn a_noise_floor_is_a_number_also_where_all_outputs_are_rounded_away() {
        let problem = Problem::new(&[0.0, 1.0, 0.5, 2.0], 0.01).expect("a good table");
        let reference = Solver::new(2, SolverSettings::default()).solve(&[problem]);
        let none = crate::interaction::Interactions { and: vec![0.0; 4], or: vec![0.0; 4] };
        let of = |effects, output| {
            let (interactions, outputs) = (vec![effects], vec![output]);
            noise_floor(
                &NetworkProbe { interactions, outputs, ..NetworkProbe::default() },
                &reference,
            )
        };
        let rounded_away = of(none.clone(), 0.0);
        assert!(rounded_away.is_finite() && rounded_away > 1e300);
        assert_eq!(of(reference[0].effects.clone(), 0.0), 0.0);
        let largest = reference[0].effects.and.iter().chain(&reference[0].effects.or);
        let largest = largest.fold(0.0, |largest: f64, effect| largest.max(effect.abs()));
        assert_eq!(of(none, 2.0), largest / 2.0);
    }
}
