//! `convergd check`: every mistake of a configuration file.

use super::{Exit, say};
use crate::config::{self, Config};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", required_unless_present = "schema")]
    config: Option<PathBuf>,
    /// Print the JSON Schema of configuration files
    #[arg(long)]
    schema: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    if arguments.schema {
        say(config::schema()?.trim_end());
    }
    let Some(file) = &arguments.config else { return Ok(Exit::Done) };
    let config = Config::load_to_run(file)?;
    let rules: Vec<&str> = config.policy.rules.iter().map(|rule| rule.id.as_str()).collect();
    say(format!(
        "{file} is valid: run `{}`, rules {}. Files that it names are not looked at here; \
         `convergd doctor -c {file}` does",
        config.name,
        rules.join(", "),
        file = config.source.display(),
    ));
    Ok(Exit::Done)
}
