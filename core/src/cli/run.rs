//! `convergd run`: the daemon.

use super::ConfigArgument;
use clap::{Args, ValueEnum};

/// How to run.
#[derive(Args)]
pub struct Arguments {
    /// The file.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// Evaluate the checkpoints that are there, and end
    #[arg(long)]
    pub once: bool,
    /// Decide and record, and tell nobody
    #[arg(long)]
    pub dry_run: bool,
    /// End with 0 where a rule has stopped the trainings, too, instead of 10: for a scheduler that
    /// takes all else for a failure
    #[arg(long)]
    pub exit_zero: bool,
    /// How log lines are written; `RUST_LOG` says which
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, with all figures as its fields.
    Json,
}
