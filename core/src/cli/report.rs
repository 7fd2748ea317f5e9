//! `convergd report`: the page of a run, from its history.

use super::{ConfigArgument, Exit, write_output};
use crate::account::report;
use crate::history::History;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Where the page is written
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = arguments.config.load()?;
    let history = History::open_for_reading(&config.state)?;
    let pairs = report::pairs(&history)?;
    let report = report::report(&config, &history, pairs, usize::MAX)?;
    write_output(&arguments.output, &report.render())?;
    Ok(Exit::Done)
}
