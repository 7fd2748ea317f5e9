//! The pairs of a history computed again from the cached value tables, with other settings and without a network.

use super::say;
use crate::cli::progress::Progress;
use crate::cli::ran::Pair;
use crate::cli::{BadData, Misuse};
use crate::config::{Config, Interactions};
use crate::convergence::{Monitor, Monitors};
use crate::evaluation::{ProbeValues, Variables, cache};
use crate::extractor::CpuExtractor;
use crate::history::{Evidence, History, PairRow};
use crate::pipeline;
use crate::policy::Observation;
use serde_json::{Value, json};

/// What is computed again.
#[derive(clap::Args)]
pub(super) struct FromValues {
    /// Extract the interactions again, from the cached value tables
    #[arg(long)]
    from_values: bool,
    /// Noise ζ instead of the configured one, as a share of the output
    #[arg(long, value_name = "SHARE", requires = "from_values")]
    noise: Option<f64>,
    /// Salience τ instead of the configured one, as a share of the output
    #[arg(long, value_name = "SHARE", requires = "from_values")]
    salience: Option<f64>,
}

/// Pairs that were computed again.
pub(super) struct Recomputed {
    /// In place of those of the history.
    pub(super) observations: Vec<Pair>,
    settings: Interactions,
    /// Extractions whose gap is proven, and all of them.
    certified: usize,
    samples: usize,
    /// Steps of pairs without their tables.
    left_out: Vec<u64>,
}

impl FromValues {
    /// The pairs again, where that is asked for; those without tables are taken out of `pairs`, and the others
    /// get their new monitors.
    pub(super) fn over(
        &self,
        config: &Config,
        history: &History,
        pairs: &mut Vec<PairRow>,
    ) -> anyhow::Result<Option<Recomputed>> {
        if !self.from_values {
            return Ok(None);
        }
        let mut settings = config.interactions;
        settings.noise = share("--noise", self.noise, settings.noise)?;
        settings.salience = share("--salience", self.salience, settings.salience)?;
        let variables = history.fact("variables")?;
        let Some(variables) = variables.filter(|_| !pairs.is_empty()) else {
            return Err(BadData(format!("`{}` holds no pair yet", config.state.display())).into());
        };
        let variables: Variables = serde_json::from_str(&variables)?;
        let threads = config.network.threads;
        let extractor = CpuExtractor::new(variables.count, settings.solver, threads)?;
        let mut recomputed = Recomputed {
            observations: Vec::new(),
            settings,
            certified: 0,
            samples: 0,
            left_out: Vec::new(),
        };
        let mut kept = Vec::new();
        let (progress, total) = (Progress::of_terminal("pairs"), pairs.len() as f64);
        for (number, mut pair) in std::mem::take(pairs).into_iter().enumerate() {
            progress.show(number as f64, total, format!("step {}", pair.step));
            if !pair.finite {
                // There is nothing to extract from it, and rules saw that.
                let (step, monitors) = (pair.step, pair.monitors.clone());
                let observation = Observation { step, monitors, finite: false, samples: None };
                recomputed.observations.push((observation, pair.time));
                kept.push(pair);
                continue;
            }
            let evidence = history.evidence(pair.step)?;
            let Some([target, baseline]) = evidence.and_then(|evidence| tables(config, &evidence))
            else {
                recomputed.left_out.push(pair.step);
                // It counts as a check all the same.
                let (step, monitors) = (pair.step, Monitors::new());
                let observation = Observation { step, monitors, finite: true, samples: None };
                recomputed.observations.push((observation, pair.time));
                continue;
            };
            // A probe without labels has no loss.
            let has_labels = pair.monitors.contains_key(&Monitor::ProbeLoss);
            let values = [&target, &baseline];
            let analysis =
                pipeline::analyse(values, &variables, has_labels, &settings, &extractor)?;
            recomputed.certified += analysis.certified;
            recomputed.samples += analysis.samples;
            let finite = analysis.convergence.is_some();
            let (monitors, samples) = match analysis.convergence {
                Some(convergence) => (convergence.monitors, Some(convergence.samples)),
                None => Default::default(),
            };
            pair.monitors = monitors.clone();
            let observation = Observation { step: pair.step, monitors, finite, samples };
            recomputed.observations.push((observation, pair.time));
            kept.push(pair);
        }
        progress.end();
        *pairs = kept;
        Ok(Some(recomputed))
    }
}

fn share(name: &str, given: Option<f64>, configured: f64) -> anyhow::Result<f64> {
    match given {
        None => Ok(configured),
        Some(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Some(share) => {
            Err(Misuse(format!("`{name}` is {share}, but must lie between 0 and 1")).into())
        }
    }
}

fn tables(config: &Config, evidence: &Evidence) -> Option<[ProbeValues; 2]> {
    let directory = config.values();
    let read = |network: usize| cache::read(&directory, evidence.values[network].as_ref()?);
    Some([read(0)?, read(1)?])
}

impl Recomputed {
    pub(super) fn json(&self) -> Value {
        let Self { settings, certified, samples, left_out, .. } = self;
        json!({
            "noise": settings.noise, "salience": settings.salience, "certified": certified,
            "extractions": samples, "left_out": left_out,
        })
    }

    pub(super) fn describe(&self) {
        let Self { settings, certified, samples, left_out, .. } = self;
        say(format!(
            "recomputed  with noise {} and salience {}: {certified} of {samples} extractions certified",
            settings.noise, settings.salience
        ));
        if !left_out.is_empty() {
            let steps: Vec<String> = left_out.iter().map(u64::to_string).collect();
            say(format!(
                "            without the monitors of these steps, whose value tables are not in the cache any more: {}",
                steps.join(", ")
            ));
        }
    }
}
