//! `convergd values`: value tables ahead of a run.

use super::logs;
use crate::backfill::{Backfill, Done, Outcome, Wanted};
use crate::checkpoint::LeftOut;
use crate::config::Config;
use convergd_core::cli::progress::Progress;
use convergd_core::cli::run::LogFormat;
use convergd_core::cli::values::Arguments;
use convergd_core::cli::{Exit, ending, say};
use serde_json::json;
use std::io::IsTerminal;

/// What became of all of them.
#[derive(Default)]
struct Counted {
    evaluated: usize,
    found: usize,
    rows: u64,
    /// Path and reason.
    refused: Vec<(String, String)>,
}

impl Counted {
    fn done(&self) -> usize {
        self.evaluated + self.found + self.refused.len()
    }

    fn take(&mut self, done: Done, of: usize) {
        let Done { role, step, path, outcome } = done;
        let file = path.display();
        match outcome {
            Outcome::Evaluated(rows) => {
                self.evaluated += 1;
                self.rows += rows;
                tracing::info!(network = %role, step, rows, done = self.done(), of, "evaluated");
            }
            Outcome::Found => {
                self.found += 1;
                tracing::info!(network = %role, step, done = self.done(), of, "was there");
            }
            Outcome::Refused(reason) => {
                tracing::warn!(network = %role, step, %file, "no table: {reason}");
                self.refused.push((file.to_string(), reason));
            }
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    // Where no terminal is, its log lines tell how far it has come.
    let progress = match std::io::stderr().is_terminal() {
        true => Progress::bar("tables"),
        false => Progress::nothing(),
    };
    logs::start(LogFormat::Text, progress.clone());
    // A table is whole or not there.
    let shown = progress.clone();
    ending::end_on(ending::caught(&[])?, move || shown.end());
    #[cfg(feature = "failpoints")]
    let _armed = crate::failpoint::arm();
    let config = Config::load(&arguments.config.config)?;
    let (shard, shards) = arguments.shard;
    let wanted = Wanted { steps: arguments.steps.clone(), shard, shards };
    let backfill = Backfill::plan(&config, &wanted)?;
    let mut counted = Counted::default();
    for LeftOut { path, reason, .. } in backfill.left_out() {
        tracing::warn!(file = %path.display(), "left out: {reason}");
        counted.refused.push((path.display().to_string(), reason.clone()));
    }
    let of = backfill.count() + counted.refused.len();
    let made = backfill.run(|done| {
        counted.take(done, of);
        progress.show(counted.done() as f64, of as f64, String::new());
    });
    progress.end();
    made?;
    let directory = config.values();
    let Counted { evaluated, found, rows, refused } = &counted;
    match arguments.json {
        true => {
            let refused = refused.iter().map(|(path, why)| json!({"path": path, "reason": why}));
            let refused: Vec<_> = refused.collect();
            let value = json!({
                "shard": shard, "shards": shards, "evaluated": evaluated, "found": found, "rows": rows,
                "refused": refused, "directory": directory,
            });
            say(serde_json::to_string_pretty(&value)?);
        }
        false => {
            let directory = directory.display();
            let refused_count = refused.len();
            say(format!(
                "{evaluated} tables made, {found} were there, {refused_count} checkpoints refused; under {directory}"
            ));
        }
    }
    // As of a run: one bad checkpoint of many is no failure, and a shard does not know of how many.
    let is_failure = shards == 1 && evaluated + found == 0 && !refused.is_empty();
    Ok(if is_failure { Exit::Data } else { Exit::Done })
}
