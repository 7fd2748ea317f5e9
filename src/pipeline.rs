//! One pair, from value tables to a decision: the middle of the way, without threads or files.

use crate::config::Interactions as Settings;
use crate::convergence::{self, Convergence, NetworkProbe, Pair};
use crate::extractor::Extractor;
use crate::network::{ProbeValues, Variables};
use crate::policy::{self, Decision, Observation, Policy, PolicyState};
use crate::sparsify::{Problem, ProblemError, Solution, Status};
use crate::tensor_solver::TensorError;

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
    extractor: &Extractor,
) -> Result<Analysis, TensorError> {
    let samples = values.iter().map(|network| network.values.len()).sum();
    let problems = match values.map(|network| problems(network, settings.noise)) {
        [Ok(target), Ok(baseline)] => [target, baseline],
        [Err(trouble), _] => return Ok(Analysis::failed(samples, format!("target: {trouble}"))),
        [_, Err(trouble)] => return Ok(Analysis::failed(samples, format!("baseline: {trouble}"))),
    };
    let mut target = extractor.solve(&problems.concat())?;
    let baseline = target.split_off(problems[0].len());
    let all = || target.iter().chain(&baseline);
    let certified = all().filter(|solution| solution.status.is_certified()).count();
    let exact = all().filter(|solution| solution.status == Status::Exact).count();
    let gap_max = all().map(|solution| solution.certificate.gap()).fold(0.0, f64::max);
    let probes = [(target, values[0]), (baseline, values[1])]
        .map(|(solutions, values)| summarise(solutions, values, variables, has_labels));
    let pair = Pair { target: &probes[0], baseline: &probes[1], salience: settings.salience };
    let convergence = Some(convergence::compare(&pair));
    Ok(Analysis { convergence, trouble: None, samples, certified, exact, gap_max })
}

/// A pair's analysis → the policy's next state and its decision.
pub fn decide(
    policy: &Policy,
    state: PolicyState,
    step: u64,
    analysis: &Analysis,
    now: f64,
) -> (PolicyState, Option<Decision>) {
    let observation = Observation {
        step,
        monitors: analysis.convergence.as_ref().map(|c| c.monitors.clone()).unwrap_or_default(),
        finite: analysis.convergence.is_some(),
    };
    policy::decide(policy, state, &observation, now)
}

impl Analysis {
    fn failed(samples: usize, trouble: String) -> Self {
        let trouble = Some(trouble);
        Self { convergence: None, trouble, samples, certified: 0, exact: 0, gap_max: 0.0 }
    }
}

fn problems(values: &ProbeValues, noise: f64) -> Result<Vec<Problem>, String> {
    let problem = |(sample, table): (usize, &Vec<f64>)| {
        Problem::new(table, noise)
            .map_err(|error: ProblemError| format!("sample {sample}: {error}"))
    };
    values.values.iter().enumerate().map(problem).collect()
}

fn summarise(
    solutions: Vec<Solution>,
    values: &ProbeValues,
    variables: &Variables,
    has_labels: bool,
) -> NetworkProbe {
    let output = |table: &Vec<f64>| table[table.len() - 1] - table[0];
    let probabilities: Vec<Vec<f64>> = values.logits.iter().map(|logits| softmax(logits)).collect();
    let mut probe = NetworkProbe {
        interactions: solutions.into_iter().map(|solution| solution.effects).collect(),
        outputs: values.values.iter().map(output).collect(),
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
