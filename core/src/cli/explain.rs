//! `convergd explain`: one sample of a stored pair as the AND-OR logical model of both networks.

use super::{BadData, ConfigArgument, Exit, Misuse, say, write_output};
use crate::config::Config;
use crate::explanation::{Explanation, StoredError, StoredPair};
use crate::history::History;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

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
    let pair = StoredPair::open(config, &history, step).map_err(refuse)?;
    pair.explain_one(sample, config.network.threads).map_err(refuse)
}

/// With the code that a command ends with.
fn refuse(error: StoredError) -> anyhow::Error {
    match error {
        StoredError::Extract(error) => error.into(),
        StoredError::History(error) => error.into(),
        StoredError::NoStep { .. } | StoredError::NoSample { .. } => {
            Misuse(error.to_string()).into()
        }
        error => BadData(error.to_string()).into(),
    }
}
