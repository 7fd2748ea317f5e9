//! `convergd check`: every mistake of a configuration file.

use super::{ConfigArgument, Exit, say};
use clap::Args;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = arguments.config.load()?;
    let rules: Vec<&str> = config.policy.rules.iter().map(|rule| rule.id.as_str()).collect();
    say(format!(
        "{} is valid: run `{}`, rules {}",
        config.source.display(),
        config.name,
        rules.join(", ")
    ));
    Ok(Exit::Done)
}
