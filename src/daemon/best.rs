//! The checkpoints of the best pairs are kept under `best/` in the state directory: a trainer that keeps only
//! its last ones has removed them by the time that a decision names them, or has written others there.

use super::{Daemon, Result};
use crate::checkpoint::{Checkpoint, pin, scan};
use crate::config::Config;
use crate::history::History;
use crate::role::Role;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

impl Daemon<'_> {
    /// Keeps a pair beside its pins, before it is stored: after that they go.
    pub(super) fn keep_as_best(&self, pair: &[Checkpoint; 2]) {
        let step = pair[0].step;
        for checkpoint in pair.iter().filter(|checkpoint| self.pairs.fixed() != Some(checkpoint)) {
            let kept = kept(self.config, checkpoint.role, step, &checkpoint.path);
            if let Err(error) = pin::keep_also(&checkpoint.pin, &kept) {
                tracing::warn!(kept = %kept.display(), %error, "the best checkpoint so far cannot be kept");
            }
        }
    }

    /// Lets go of what no rule calls the best any more, and no decision has named.
    pub(super) fn release_former_bests(&self) {
        let mut steps: BTreeSet<u64> = self.policy.best_steps();
        // What cannot be read now is let go of after another pair.
        let Ok(decided) = self.history.last_decision() else { return };
        steps.extend(decided.and_then(|row| row.decision.best_step));
        let Ok(entries) = std::fs::read_dir(best_directory(self.config)) else { return };
        for entry in entries.flatten() {
            let step = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if step.is_some_and(|step| steps.contains(&step)) {
                continue;
            }
            if let Err(error) = pin::remove(&entry.path()) {
                tracing::warn!(kept = %entry.path().display(), %error, "cannot be removed");
            }
        }
    }
}

/// Where the checkpoint of a pair is now: where its trainer wrote it, if that is still the one, or where it
/// is kept. `current` is the pair that is not stored yet, if there is one.
pub(super) fn where_is(
    config: &Config,
    history: &History,
    role: Role,
    step: u64,
    path: &str,
    current: &[Checkpoint],
) -> Result<Option<String>> {
    let path = Path::new(path);
    if config.fixed.is_some() && role == Role::Baseline {
        return Ok(path.exists().then(|| path.display().to_string()));
    }
    let Some(identity) = identity(history, role, step, path, current)? else { return Ok(None) };
    let layout = config.network.reading[role.index()].layout;
    let is_it = |step_inside| {
        let found = scan::identity(layout, path, step_inside);
        found.is_ok_and(|found| found.as_ref() == Some(&identity))
    };
    if is_it(false) || is_it(true) {
        return Ok(Some(path.display().to_string()));
    }
    let kept = kept(config, role, step, path);
    let is_kept = kept.exists() && pin::is_intact(&kept, &identity);
    Ok(is_kept.then(|| kept.display().to_string()))
}

/// Where a checkpoint is kept: under its own name, which tells readers what it is.
fn kept(config: &Config, role: Role, step: u64, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or(path.as_os_str());
    best_directory(config).join(step.to_string()).join(role.name()).join(name)
}

fn best_directory(config: &Config) -> PathBuf {
    config.state.join("best")
}

/// The identity of the checkpoint of a network that was evaluated in the pair of a step.
fn identity(
    history: &History,
    role: Role,
    step: u64,
    path: &Path,
    current: &[Checkpoint],
) -> Result<Option<String>> {
    if current.first().is_some_and(|first| first.step == step) {
        let own = current.iter().find(|own| own.role == role);
        return Ok(own.map(|own| own.identity.clone()));
    }
    // With a tolerance the baseline's step is another, so of several at one path the nearest.
    Ok(history.evaluated(role, &path.display().to_string(), step)?)
}
