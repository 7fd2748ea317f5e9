//! `convergd export`: the history of a run for other programs.

use super::{BadData, ConfigArgument, Exit, Misuse, say, write_output};
use crate::account;
use crate::config::Config;
use crate::convergence::Monitor;
use crate::history::{History, PairRow};
use crate::tensorboard::{EventError, EventFiles};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// csv: a row for each pair; json: pairs with strengths, decisions with answers, notices, interventions, checkpoints;
    /// tensorboard: event files in a directory, which a second time gets what is new
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// Where it is written: a file, or the directory of event files; without it, to standard output
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Csv,
    Json,
    Tensorboard,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = arguments.config.load()?;
    let history = History::open_for_reading(&config.state)?;
    let text = match arguments.format {
        Format::Csv => csv(&history.pairs()?)?,
        Format::Json => serde_json::to_string_pretty(&all(&config, &history)?)? + "\n",
        Format::Tensorboard => {
            write_events(&history, arguments.output.as_deref())?;
            return Ok(Exit::Done);
        }
    };
    match &arguments.output {
        Some(output) => write_output(output, &text)?,
        None => say(text.trim_end()),
    }
    Ok(Exit::Done)
}

/// Writes event files, and says where.
fn write_events(history: &History, output: Option<&Path>) -> anyhow::Result<()> {
    let output = output.ok_or_else(|| {
        Misuse("event files need a directory: give one, such as `-o events`".to_owned())
    })?;
    let directory = std::path::absolute(output)?;
    let written = EventFiles::open(&directory, history).and_then(|mut files| files.append(history));
    written.map_err(|error| match error {
        EventError::History(error) => anyhow::Error::from(error),
        error => BadData(error.to_string()).into(),
    })?;
    say(directory.display().to_string());
    Ok(())
}

/// One row a pair: step, time in seconds since 1970, files, extraction, then each monitor with its standard
/// error. A monitor that is not defined is empty.
fn csv(pairs: &[PairRow]) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fixed =
        ["step", "time", "target", "baseline", "finite", "extractions", "certified", "gap_max"];
    let mut header: Vec<String> = fixed.map(str::to_owned).to_vec();
    header.extend(
        ["phase", "lambda", "noise_floor_target", "noise_floor_baseline"].map(str::to_owned),
    );
    for monitor in Monitor::ALL {
        header.extend([monitor.name().to_owned(), format!("{}_stderr", monitor.name())]);
    }
    writer.write_record(&header)?;
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for pair in pairs {
        let mut row = vec![
            pair.step.to_string(),
            pair.time.to_string(),
            pair.paths[0].clone(),
            pair.paths[1].clone(),
            pair.finite.to_string(),
            pair.samples.to_string(),
            pair.certified.to_string(),
            pair.gap_max.to_string(),
            pair.policy.phase.clone(),
            pair.policy.lambda.to_string(),
        ];
        row.extend([0, 1].map(|network| number(pair.noise_floor.map(|floor| floor[network]))));
        for monitor in Monitor::ALL {
            let estimate = pair.monitors.get(monitor);
            row.push(number(estimate.map(|estimate| estimate.value)));
            row.push(number(estimate.map(|estimate| estimate.standard_error)));
        }
        writer.write_record(&row)?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// What a run has been, but the memory of its rules and what each sample adds.
fn all(config: &Config, history: &History) -> anyhow::Result<Value> {
    let pairs = history.pairs()?;
    let decisions = history.decisions()?;
    let decisions = decisions.iter().map(|row| account::decision(history, row));
    let checkpoints = history.checkpoints()?.into_iter().map(|row| {
        json!({
            "network": row.role, "step": row.step, "path": row.path,
            "outcome": row.outcome.name(), "reason": row.reason,
        })
    });
    let interventions = history.interventions()?.into_iter().map(|row| {
        json!({
            "number": row.number, "after": row.after, "time": row.time,
            "intervention": row.intervention,
        })
    });
    let notifications = history.notifications()?.into_iter().map(|row| {
        json!({
            "webhook": row.webhook, "id": row.id, "ended": row.ended,
            "delivered": row.delivered, "attempts": row.attempts, "error": row.error,
        })
    });
    Ok(json!({
        "run": config.name,
        "facts": account::facts(history)?,
        "pairs": pairs.iter().map(account::pair).collect::<Vec<_>>(),
        "decisions": decisions.collect::<Result<Vec<_>, _>>()?,
        "notices": history.notices()?,
        "interventions": interventions.collect::<Vec<_>>(),
        "notifications": notifications.collect::<Vec<_>>(),
        "checkpoints": checkpoints.collect::<Vec<_>>(),
    }))
}
