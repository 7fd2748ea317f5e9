//! `convergd run`: the daemon.

use super::ConfigArgument;
use clap::Args;

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
}
