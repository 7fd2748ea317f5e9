//! The computation: two value tables → effects with certificates → what both networks share.

use crate::config::Interactions as Settings;
use crate::convergence::{Agreement, NetworkProbe, Pair};
use crate::evaluation::ProbeValues;
use crate::extractor::{Extract, ExtractError};
use crate::interaction::subset::members;
use crate::interaction::{Fidelity, Interactions, Kind};
use crate::sparsify::certificate::{Certificate, ROUNDING};
use crate::sparsify::{Problem, ProblemError, Solution, Status};
use thiserror::Error;

/// Why a sample cannot be explained.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// A table is no value table; with what is wrong.
    #[error("the {network} network's values of sample {sample}: {source}")]
    Table {
        /// `target` or `baseline`.
        network: &'static str,
        /// The sample.
        sample: usize,
        /// What is wrong.
        source: ProblemError,
    },
    /// The tables are not of the same samples and variables.
    #[error("the value tables of the two networks are not of the same samples and variables")]
    Mismatch,
    /// The extraction gave up.
    #[error(transparent)]
    Extract(#[from] ExtractError),
}

/// What two networks have to do with one sample. Pairs of numbers are (target, baseline); all effects, values and
/// errors are in units of v, which is log-odds.
#[derive(Clone, Debug)]
pub struct Model {
    /// What each network does alone.
    pub networks: [NetworkModel; 2],
    /// The interactions that are salient in a network or in both, by falling |effect|, the larger of both networks.
    pub interactions: Vec<Interaction>,
}

/// One network's logical model of the sample.
#[derive(Clone, Debug)]
pub struct NetworkModel {
    /// v(∅) and v(N): without and with all variables.
    pub values: [f64; 2],
    /// Σ of all effects: what the model says of v(N) − v(∅).
    pub sum: f64,
    /// τ = salience · E_x|v(N) − v(∅)| over all samples: an effect that is larger is salient.
    pub threshold: f64,
    /// ζ = noise · |v(N) − v(∅)| of this sample: no error of the model with all its effects is larger.
    pub noise: f64,
    /// Effects that are not zero.
    pub count: usize,
    /// Those that are salient.
    pub salient: usize,
    /// The error over all 2^n masked states, by the number of strongest effects that are kept: 0, 1, 2, 5, 10, … all.
    pub fidelity: Vec<Fidelity>,
    /// How it is known that no sparser model is as faithful.
    pub certificate: Certificate,
    /// What the certificate proves.
    pub status: Status,
    /// Iterations of the solver.
    pub iterations: usize,
}

/// One AND or OR interaction in both networks.
#[derive(Clone, Debug, PartialEq)]
pub struct Interaction {
    /// What triggers it.
    pub kind: Kind,
    /// The bitmask of T.
    pub subset: usize,
    /// The variables in T from 0, ascending.
    pub variables: Vec<usize>,
    /// The effect in each network; 0 where a network does not have it.
    pub effects: [f64; 2],
    /// In which it is salient, and whether it is convergent (paper Eq. 5).
    pub agreement: Agreement,
}

impl Model {
    /// Extracts the effects of some samples in both networks, `values` being those of all samples, with the settings
    /// of the run.
    ///
    /// # Errors
    /// Tables that are not finite or do not belong together; an extraction that gives up.
    pub fn of(
        values: [&ProbeValues; 2],
        samples: &[usize],
        settings: &Settings,
        extractor: &dyn Extract,
    ) -> Result<Vec<Self>, ExplainError> {
        let [target, baseline] = values;
        if target.values.len() != baseline.values.len() {
            return Err(ExplainError::Mismatch);
        }
        let mut problems = Vec::new();
        for &sample in samples {
            for (network, values) in [("target", target), ("baseline", baseline)] {
                let table = values.values.get(sample).ok_or(ExplainError::Mismatch)?;
                let problem = Problem::new(table, settings.noise);
                let refuse = |source| ExplainError::Table { network, sample, source };
                problems.push(problem.map_err(refuse)?);
            }
        }
        let mut solutions = Vec::new();
        for problems in problems.chunks(extractor.tables_a_call().max(1)) {
            solutions.extend(extractor.solve(problems)?);
        }
        let outputs = values
            .map(|network| NetworkProbe { outputs: network.outputs(), ..NetworkProbe::default() });
        let pair = Pair { target: &outputs[0], baseline: &outputs[1], salience: settings.salience };
        let thresholds = pair.thresholds();
        let pairs = problems.as_chunks::<2>().0.iter().zip(solutions.as_chunks::<2>().0);
        let model =
            |(&sample, (problems, solutions)): (&usize, (&[Problem; 2], &[Solution; 2]))| {
                let network = |i: usize| {
                    let table = &values[i].values[sample];
                    NetworkModel::of(table, problems[i].zeta, &solutions[i], thresholds[i])
                };
                let effects = solutions.each_ref().map(|solution| &solution.effects);
                Self {
                    networks: [network(0), network(1)],
                    interactions: salient(effects, thresholds),
                }
            };
        Ok(samples.iter().zip(pairs).map(model).collect())
    }

    /// The errors of both networks by the number of effects kept, ascending; of a network nothing where it does
    /// not have so many, or where that number is another network's last.
    pub fn fidelity(&self) -> Vec<(usize, [Option<Fidelity>; 2])> {
        let [target, baseline] = self.networks.each_ref().map(|network| &network.fidelity);
        let mut kept: Vec<usize> = target.iter().chain(baseline).map(|entry| entry.kept).collect();
        kept.sort_unstable();
        kept.dedup();
        let find = |entries: &[Fidelity], kept| entries.iter().find(|e| e.kept == kept).copied();
        kept.into_iter().map(|kept| (kept, [target, baseline].map(|e| find(e, kept)))).collect()
    }

    /// How many interactions are convergent.
    pub fn convergent(&self) -> usize {
        self.interactions.iter().filter(|interaction| interaction.agreement.convergent).count()
    }
}

impl NetworkModel {
    fn of(values: &[f64], noise: f64, solution: &Solution, threshold: f64) -> Self {
        let effects = &solution.effects;
        let of_all = || effects.and.iter().chain(&effects.or);
        let count = of_all().filter(|effect| **effect != 0.0).count();
        let ends = [values.first(), values.last()].map(|v| v.copied().unwrap_or(f64::NAN));
        Self {
            values: ends,
            sum: of_all().sum(),
            threshold,
            noise,
            count,
            salient: of_all().filter(|effect| effect.abs() > threshold).count(),
            fidelity: effects.fidelity(values, &kept(count)),
            certificate: solution.certificate,
            status: solution.status,
            iterations: solution.iterations,
        }
    }

    /// v(N) − v(∅).
    pub fn output(&self) -> f64 {
        self.values[1] - self.values[0]
    }

    /// The largest error of any masked state with all effects kept.
    pub fn largest_error(&self) -> f64 {
        self.fidelity.last().map_or(f64::NAN, |all| all.largest)
    }

    /// Whether that is at most ζ, up to the rounding that a certificate forgives.
    pub fn is_faithful(&self) -> bool {
        // With nothing kept the largest error is the largest |v(S) − v(∅)|.
        let scale = self.fidelity.first().map_or(0.0, |none| none.largest);
        self.largest_error() <= self.noise + ROUNDING * scale
    }

    /// The certificate in a word.
    pub fn proof(&self) -> &'static str {
        match self.status {
            Status::Exact => "exact",
            Status::Certified => "certified",
            Status::GapNotReached => "gap not reached",
        }
    }
}

impl Interaction {
    /// Which network has it, in words.
    pub fn verdict(&self) -> &'static str {
        match (self.agreement.convergent, self.agreement.salient) {
            (true, _) => "convergent",
            (false, [true, true]) => "opposite signs",
            (false, [true, false]) => "target only",
            (false, [false, true]) => "baseline only",
            (false, [false, false]) => "not salient",
        }
    }

    /// What triggers it, as it is written: AND or OR.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::And => "AND",
            Kind::Or => "OR",
        }
    }

    fn strength(&self) -> f64 {
        self.effects[0].abs().max(self.effects[1].abs())
    }
}

/// 0, 1, 2, 5, 10, 20, … and all.
fn kept(count: usize) -> Vec<usize> {
    let decades = (0..).map_while(|power| 10usize.checked_pow(power));
    let round = decades.flat_map(|decade| [1, 2, 5].map(|factor| decade.saturating_mul(factor)));
    let mut kept = vec![0];
    kept.extend(round.take_while(|&round| round < count));
    if count > 0 {
        kept.push(count);
    }
    kept
}

/// Those that are salient in a network, by falling strength; equal ones in the order AND, OR, then by T.
fn salient(effects: [&Interactions; 2], thresholds: [f64; 2]) -> Vec<Interaction> {
    let mut found = Vec::new();
    for kind in [Kind::And, Kind::Or] {
        let [target, baseline] = effects.map(|network| network.of(kind));
        for (subset, (&target, &baseline)) in target.iter().zip(baseline).enumerate().skip(1) {
            let effects = [target, baseline];
            let agreement = Agreement::of(effects, thresholds);
            if agreement.salient != [false; 2] {
                let variables = members(subset).collect();
                found.push(Interaction { kind, subset, variables, effects, agreement });
            }
        }
    }
    found.sort_by(|a, b| b.strength().total_cmp(&a.strength()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_kept_are_round_and_end_with_all() {
        assert_eq!(kept(0), [0]);
        assert_eq!(kept(1), [0, 1]);
        assert_eq!(kept(5), [0, 1, 2, 5]);
        assert_eq!(kept(73), [0, 1, 2, 5, 10, 20, 50, 73]);
    }
}
