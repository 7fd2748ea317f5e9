//! Samples of a pair in a history, explained from its cached value tables.

use super::{Begun, ExplainError, Explanation, Input, Model, ProbeFile, Variable};
use crate::config::Config;
use crate::evaluation::{ProbeValues, Variables, cache};
use crate::extractor::{CpuExtractor, ExtractError};
use crate::history::{History, HistoryError, PairRow};
use std::collections::BTreeMap;
use std::path::PathBuf;
use thiserror::Error;

/// Steps that an error names.
const STEPS_NAMED: usize = 6;
/// Steps that are looked at for them.
const STEPS_SEEN: usize = 500;

/// Why a sample of a history cannot be explained.
#[derive(Debug, Error)]
pub enum StoredError {
    /// Nothing was evaluated yet.
    #[error("`{state}` holds no pair yet")]
    NoPair {
        /// The state directory.
        state: PathBuf,
    },
    /// No pair has the step.
    #[error("there is no pair of step {step}; {others}")]
    NoStep {
        /// The step.
        step: u64,
        /// Which there are.
        others: String,
    },
    /// No such sample.
    #[error("there is no sample {sample}: the run has samples 0 to {last}")]
    NoSample {
        /// Its number.
        sample: usize,
        /// The last one's.
        last: usize,
    },
    /// A pair without interactions.
    #[error(
        "the pair of step {step} has outputs that are not finite, so there are no interactions; try the \
         `--step` of another pair"
    )]
    NotFinite {
        /// Its step.
        step: u64,
    },
    /// The value tables are gone.
    #[error(
        "the value tables of step {step} {why} (`{directory}`); {others}, or evaluate the checkpoints again with \
         `run --once` and a new `state`. A larger `cache: {{size: …}}` keeps more of them"
    )]
    NoTables {
        /// The step.
        step: u64,
        /// Since when.
        why: &'static str,
        /// The value cache.
        directory: PathBuf,
        /// Steps that have theirs.
        others: String,
    },
    /// A history that says too little of its run.
    #[error("{0}")]
    Begun(String),
    /// Tables that are none.
    #[error("step {step}: {source}; try the `--step` of another pair")]
    Model {
        /// The step.
        step: u64,
        /// What is wrong with them.
        source: ExplainError,
    },
    /// The extraction gave up.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The history cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl From<serde_json::Error> for StoredError {
    fn from(error: serde_json::Error) -> Self {
        Self::History(error.into())
    }
}

/// A pair whose value tables are there.
pub struct StoredPair<'a> {
    config: &'a Config,
    row: PairRow,
    values: [ProbeValues; 2],
    variables: Variables,
    begun: Begun,
    /// Digest of the run's probe file.
    probe: Option<String>,
}

impl<'a> StoredPair<'a> {
    /// That of a step; without one the best of the last decision, else the last.
    ///
    /// # Errors
    /// A pair or tables that are not there.
    pub fn open(
        config: &'a Config,
        history: &History,
        step: Option<u64>,
    ) -> Result<Self, StoredError> {
        let row = find_pair(config, history, step)?;
        let variables = history.fact("variables")?.ok_or_else(|| {
            let state = config.state.display();
            StoredError::Begun(format!("`{state}` does not say which variables the run has"))
        })?;
        let facts: BTreeMap<String, String> = history.facts()?.into_iter().collect();
        Ok(Self {
            variables: serde_json::from_str(&variables)?,
            values: tables(config, history, &row)?,
            begun: Begun::of(&facts, config).map_err(StoredError::Begun)?,
            probe: facts.get("probe file").cloned(),
            config,
            row,
        })
    }

    /// Its step.
    pub fn step(&self) -> u64 {
        self.row.step
    }

    /// Number of samples P.
    pub fn samples(&self) -> usize {
        self.values[0].values.len()
    }

    /// Number of variables n.
    pub fn variables(&self) -> usize {
        self.variables.count
    }

    /// Explains one sample, counted from 0, on `threads` of the CPU.
    ///
    /// # Errors
    /// As [`StoredPair::explain`].
    pub fn explain_one(&self, sample: usize, threads: usize) -> Result<Explanation, StoredError> {
        let mut explained = self.explain(&[sample], threads)?;
        let nothing = || StoredError::Begun("BUG: an extraction without an answer".to_owned());
        explained.pop().ok_or_else(nothing)
    }

    /// Explains some samples, counted from 0, on `threads` of the CPU.
    ///
    /// # Errors
    /// A sample that is not there; an extraction that gives up.
    pub fn explain(
        &self,
        samples: &[usize],
        threads: usize,
    ) -> Result<Vec<Explanation>, StoredError> {
        let count = self.samples();
        if let Some(&sample) = samples.iter().find(|&&sample| sample >= count) {
            return Err(StoredError::NoSample { sample, last: count.saturating_sub(1) });
        }
        let Begun { settings, notes } = &self.begun;
        let extractor = CpuExtractor::new(self.variables.count, settings.solver, threads)?;
        let values = self.values.each_ref();
        let models =
            Model::of(values, samples, settings, &extractor).map_err(|error| match error {
                ExplainError::Extract(error) => StoredError::Extract(error),
                source => StoredError::Model { step: self.row.step, source },
            })?;
        let probe = ProbeFile::open(&self.config.network.probe, self.probe.as_deref(), count);
        let explain = |(&sample, model): (&usize, Model)| {
            let mut notes = notes.clone();
            let (variables, input) = match &probe {
                Ok(probe) => probe.sample(sample, &self.variables),
                Err(unreadable) => {
                    notes.push(unreadable.to_string());
                    (Variable::all(&self.variables, sample, None), Input::Other)
                }
            };
            Explanation {
                run: self.config.name.clone(),
                step: self.row.step,
                sample,
                samples: count,
                class: self.variables.classes.get(sample).copied().unwrap_or(-1),
                checkpoints: self.row.paths.clone(),
                settings: *settings,
                variables,
                input,
                model,
                notes,
            }
        };
        Ok(samples.iter().zip(models).map(explain).collect())
    }
}

/// The pair of a step; without one the best of the last decision, else the last.
fn find_pair(
    config: &Config,
    history: &History,
    step: Option<u64>,
) -> Result<PairRow, StoredError> {
    let no_pair = || StoredError::NoPair { state: config.state.clone() };
    let Some(step) = step else {
        let decision = history.last_decision()?;
        if let Some(best) = decision.and_then(|row| row.decision.best_step)
            && let Some(pair) = history.pair(best)?
        {
            return Ok(pair);
        }
        return history.last_pair()?.ok_or_else(no_pair);
    };
    if let Some(pair) = history.pair(step)? {
        return Ok(pair);
    }
    let others = match nearest(&history.steps()?, step).as_slice() {
        [] => return Err(no_pair()),
        [only] => format!("the only one is of step {only}"),
        steps => format!("the nearest are {}", list(steps)),
    };
    Err(StoredError::NoStep { step, others })
}

/// Some of the ascending steps that are nearest to one, ascending.
fn nearest(steps: &[u64], step: u64) -> Vec<u64> {
    let mut nearest = steps.to_vec();
    nearest.sort_by_key(|other| other.abs_diff(step));
    nearest.truncate(STEPS_NAMED);
    nearest.sort_unstable();
    nearest
}

fn list(steps: &[u64]) -> String {
    steps.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// The value tables of a pair, all samples of both networks.
fn tables(
    config: &Config,
    history: &History,
    pair: &PairRow,
) -> Result<[ProbeValues; 2], StoredError> {
    let step = pair.step;
    if !pair.finite {
        return Err(StoredError::NotFinite { step });
    }
    let directory = config.values();
    let evidence = history.evidence(step)?.unwrap_or_default();
    let read = |network: usize| cache::read(&directory, evidence.values[network].as_ref()?);
    if let (Some(target), Some(baseline)) = (read(0), read(1)) {
        return Ok([target, baseline]);
    }
    let why = match evidence.values {
        [Some(_), Some(_)] => "are not in the value cache any more, or damaged there",
        _ => {
            "were not kept: the value cache could not be written, or an earlier version stored the pair"
        }
    };
    let others = match with_tables(config, history, step)?.as_slice() {
        [] => "no pair near it has its tables either".to_owned(),
        steps => format!("try `--step` with one that has them ({})", list(steps)),
    };
    Err(StoredError::NoTables { step, why, directory, others })
}

/// The nearest steps whose tables are there.
fn with_tables(config: &Config, history: &History, step: u64) -> Result<Vec<u64>, HistoryError> {
    let mut found = Vec::new();
    let mut steps = history.steps()?;
    steps.sort_by_key(|other| other.abs_diff(step));
    for other in steps.into_iter().take(STEPS_SEEN) {
        let evidence = history.evidence(other)?.unwrap_or_default();
        let is_there = |key: &Option<String>| {
            key.as_ref().is_some_and(|key| cache::is_there(&config.values(), key))
        };
        if evidence.values.iter().all(is_there) && other != step {
            found.push(other);
        }
        if found.len() == STEPS_NAMED {
            break;
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_steps_stand_in_order() {
        let steps: Vec<u64> = (1..=20).map(|i| i * 10).collect();
        assert_eq!(nearest(&steps, 64), [40, 50, 60, 70, 80, 90]);
        assert_eq!(nearest(&steps, 0), [10, 20, 30, 40, 50, 60]);
        assert_eq!(nearest(&[5], 9), [5]);
    }
}
