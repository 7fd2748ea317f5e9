//! `convergd doctor`: what works here, and what to do about the rest.

use clap::Args;
use std::path::PathBuf;

/// What is looked at.
#[derive(Args)]
pub struct Arguments {
    /// Configuration file whose paths and checkpoints are looked at too
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
