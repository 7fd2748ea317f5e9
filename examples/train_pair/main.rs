//! Trains a pair of networks in Rust that convergd watches, without Python.
//!
//! ```console
//! $ python examples/train_pair/export.py --digits data --run run     # once: program.ts, and the digits as IDX files
//! $ cargo run --release --example train_pair -- probe --run run --data data
//! $ convergd run -c run.yaml &
//! $ cargo run --release --example train_pair -- train --run run --data data --network target --seed 11 &
//! $ cargo run --release --example train_pair -- train --run run --data data --network baseline --seed 22
//! ```
//!
//! or one process with `--network both --loss interaction`. docs/loss.md says what needs Python and what does not.
#![allow(clippy::print_stdout)]

pub(crate) mod data;
pub(crate) mod job;
pub(crate) mod networks;
pub(crate) mod trainer;

use anyhow::Result;
use clap::Parser;
use convergd::saving::save_tensors;
use job::{Arguments, Command};

fn main() -> Result<()> {
    execute(Arguments::parse().command)
}

/// Does what is asked for.
pub(crate) fn execute(command: Command) -> Result<()> {
    match command {
        Command::Probe { run, data, samples } => {
            let probe = data::load(&data)?.test.some(0, samples);
            let path = run.join("probe.safetensors");
            let tensors = [("inputs", &probe.inputs), ("labels", &probe.labels)];
            save_tensors(tensors, None, &path)?;
            println!("wrote {}, {} samples", path.display(), probe.len());
        }
        Command::Train(job) => println!("{}", trainer::train(&job)?),
    }
    Ok(())
}
