//! Where the checkpoints of the best pairs are: where their trainer wrote them, or kept under `best/` in the state
//! directory.

use crate::checkpoint::{Checkpoint, pin, scan};
use crate::config::Config;
use crate::history::{History, HistoryError, PairRow};
use crate::role::Role;
use crate::signal::Best;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, HistoryError>;

/// The best pair for trainers. Nobody restores weights whose outputs are not finite, or that are gone.
pub fn best_of(
    config: &Config,
    history: &History,
    best: Option<PairRow>,
    current: &[Checkpoint],
) -> Result<Option<Best>> {
    let Some(PairRow { step, paths: [target, baseline], .. }) = best.filter(|pair| pair.finite)
    else {
        return Ok(None);
    };
    let place = |role, path: &str| where_is(config, history, role, step, path, current);
    let (target, baseline) = (place(Role::Target, &target)?, place(Role::Baseline, &baseline)?);
    Ok(Some(Best { step, target, baseline }))
}

/// Where the checkpoint of a pair is now: where its trainer wrote it, if that is still the one, or where it
/// is kept. `current` is the pair that is not stored yet, if there is one.
fn where_is(
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
    let is_kept = kept.exists() && pin::is_intact(&kept, &identity).is_ok_and(|is_it| is_it);
    Ok(is_kept.then(|| kept.display().to_string()))
}

/// Where a checkpoint is kept: under its own name, which tells readers what it is.
pub fn kept(config: &Config, role: Role, step: u64, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or(path.as_os_str());
    directory(config).join(step.to_string()).join(role.name()).join(name)
}

/// Where they are kept.
pub fn directory(config: &Config) -> PathBuf {
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
    history.evaluated(role, &path.display().to_string(), step)
}
