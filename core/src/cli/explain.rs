//! `convergd explain`: one sample of a stored pair as the AND-OR logical model of both networks.

use super::{BadData, ConfigArgument, Exit, Misuse, say, write_output};
use crate::config::Config;
use crate::evaluation::{ProbeValues, Variables, cache};
use crate::explanation::{Begun, ExplainError, Explanation, Input, Model, Variable, read_input};
use crate::extractor::CpuExtractor;
use crate::history::{History, PairRow};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Steps that an error names.
const STEPS_NAMED: usize = 6;
/// Steps that are looked at for them.
const STEPS_SEEN: usize = 500;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Step of the pair; without it the best one of the last decision, else the last pair
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// Number of the probe sample, from 0
    #[arg(long, value_name = "K", default_value_t = 0)]
    sample: usize,
    /// Interactions that are shown, the strongest first; JSON and the table of the page have all
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    top: usize,
    /// text: for a terminal; json: everything; svg: one picture; html: the picture and its numbers
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where it is written; without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
    Svg,
    Html,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = arguments.config.load()?;
    let explanation = explain(&config, arguments.step, arguments.sample)?;
    let text = match arguments.format {
        Format::Text => explanation.text(arguments.top),
        Format::Json => serde_json::to_string_pretty(&explanation.json())? + "\n",
        Format::Svg => explanation.picture(arguments.top) + "\n",
        Format::Html => explanation.page(arguments.top),
    };
    match &arguments.output {
        Some(output) => write_output(output, &text)?,
        None => say(text.trim_end()),
    }
    Ok(Exit::Done)
}

fn explain(config: &Config, step: Option<u64>, sample: usize) -> anyhow::Result<Explanation> {
    let history = History::open_for_reading(&config.state)?;
    let pair = find_pair(config, &history, step)?;
    let variables = history.fact("variables")?.ok_or_else(|| {
        BadData(format!("`{}` does not say which variables the run has", config.state.display()))
    })?;
    let variables: Variables = serde_json::from_str(&variables)?;
    let values = tables(config, &history, &pair)?;
    let samples = values[0].values.len();
    if sample >= samples {
        let last = samples.saturating_sub(1);
        let message = format!("there is no sample {sample}: the run has samples 0 to {last}");
        return Err(Misuse(message).into());
    }
    let facts: BTreeMap<String, String> = history.facts()?.into_iter().collect();
    let Begun { settings, mut notes } = Begun::of(&facts, config).map_err(BadData)?;
    let extractor = CpuExtractor::new(variables.count, settings.solver, config.network.threads)?;
    let model = Model::of([&values[0], &values[1]], sample, &settings, &extractor)
        .map_err(|error| refuse(pair.step, error))?;
    let probe = &config.network.probe;
    let digest = facts.get("probe file").map(String::as_str);
    let (named, input) = match read_input(probe, digest, samples, sample, &variables) {
        Ok(read) => read,
        Err(unreadable) => {
            notes.push(unreadable.to_string());
            (Variable::all(&variables, sample, None), Input::Other)
        }
    };
    Ok(Explanation {
        run: config.name.clone(),
        step: pair.step,
        sample,
        samples,
        class: variables.classes.get(sample).copied().unwrap_or(-1),
        checkpoints: pair.paths,
        settings,
        variables: named,
        input,
        model,
        notes,
    })
}

/// The pair of a step; without one the best of the last decision, else the last.
fn find_pair(config: &Config, history: &History, step: Option<u64>) -> anyhow::Result<PairRow> {
    let Some(step) = step else {
        let decision = history.last_decision()?;
        if let Some(best) = decision.and_then(|row| row.decision.best_step)
            && let Some(pair) = history.pair(best)?
        {
            return Ok(pair);
        }
        return history.last_pair()?.ok_or_else(|| {
            BadData(format!("`{}` holds no pair yet", config.state.display())).into()
        });
    };
    if let Some(pair) = history.pair(step)? {
        return Ok(pair);
    }
    let state = config.state.display();
    let nearest = nearest(&history.steps()?, step);
    Err(match nearest.as_slice() {
        [] => BadData(format!("`{state}` holds no pair yet")).into(),
        [only] => {
            Misuse(format!("there is no pair of step {step}; the only one is of step {only}"))
                .into()
        }
        steps => {
            Misuse(format!("there is no pair of step {step}; the nearest are {}", list(steps)))
                .into()
        }
    })
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
fn tables(config: &Config, history: &History, pair: &PairRow) -> anyhow::Result<[ProbeValues; 2]> {
    let step = pair.step;
    if !pair.finite {
        return Err(BadData(format!(
            "the pair of step {step} has outputs that are not finite, so there are no interactions; try the \
             `--step` of another pair"
        ))
        .into());
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
    let others = with_tables(config, history, step)?;
    let others = match others.as_slice() {
        [] => "no pair near it has its tables either".to_owned(),
        steps => format!("try `--step` with one that has them ({})", list(steps)),
    };
    Err(BadData(format!(
        "the value tables of step {step} {why} (`{}`); {others}, or evaluate the checkpoints again with `run --once` \
         and a new `state`. A larger `cache: {{size: …}}` keeps more of them",
        directory.display()
    ))
    .into())
}

/// The nearest steps whose tables are there.
fn with_tables(config: &Config, history: &History, step: u64) -> anyhow::Result<Vec<u64>> {
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

fn refuse(step: u64, error: ExplainError) -> anyhow::Error {
    match error {
        ExplainError::Extract(error) => error.into(),
        error => BadData(format!("step {step}: {error}; try the `--step` of another pair")).into(),
    }
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
