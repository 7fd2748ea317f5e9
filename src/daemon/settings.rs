//! What a run is of: settings that must not change, the fixed baseline, where an earlier life ended.

use super::{Options, Result};
use crate::checkpoint::{Checkpoint, fixed, pin};
use crate::config::Config;
use crate::evaluation::Variables;
use crate::history::{Begun, History, HistoryError, Outcome, PairRow};
use crate::network::{Evaluator, NetworkError};
use crate::role::Role;
use crate::sparsify::{SOLVER_NAME, SOLVER_VERSION};
use std::path::Path;

/// The fixed baseline; without a good one there is no run.
pub(crate) fn find_fixed(config: &Config) -> std::result::Result<Option<Checkpoint>, NetworkError> {
    let Some(path) = &config.fixed else { return Ok(None) };
    let reading = &config.network.reading[Role::Baseline.index()];
    let found = fixed::find(path, reading.layout, &reading.limits);
    let refuse = |flaw: crate::layout::Flaw| NetworkError::Checkpoint {
        path: path.clone(),
        message: format!("{flaw} (`networks.baseline.fixed`)"),
        is_passing: false,
    };
    found.map_err(refuse).map(Some)
}

/// Steps of the last pair, (target, baseline): with a tolerance they differ.
pub(super) fn last_steps(history: &History, last: Option<&PairRow>) -> Result<Option<[u64; 2]>> {
    let Some(last) = last else { return Ok(None) };
    let baseline = history.last_step(Role::Baseline, Outcome::Evaluated)?;
    Ok(Some([last.step, baseline.unwrap_or(last.step)]))
}

/// Whether a run has something that its settings must fit.
pub(crate) fn has_begun(
    history: &History,
    state: &Path,
) -> std::result::Result<bool, HistoryError> {
    // Without a pair there are no numbers to compare yet; but what waits is of the directories as they were.
    let waits = has_left(history, state)?;
    // And what was decided by a person was decided in this mode.
    let is_decided = history.last_decision()?.is_some();
    Ok(history.count_pairs()? > 0 || waits || is_decided)
}

/// Whether checkpoints wait that an earlier life has kept.
pub(super) fn has_left(history: &History, state: &Path) -> std::result::Result<bool, HistoryError> {
    Ok(history.count_checkpoints(Outcome::Waiting)? > 0 || pin::is_any(&state.join("pins")))
}

/// Tells whoever makes value tables elsewhere what the run has begun with.
pub(super) fn say_begun(state: &Path, evaluator: &Evaluator, variables: Option<&Variables>) {
    if let Err(error) = Begun::new(evaluator.facts(), variables).write(state) {
        let file = Begun::path(state);
        tracing::warn!(file = %file.display(), "not written, so that `values` may choose other variables: {error}");
    }
}

/// What must not change within a run, because the numbers before and after could not be compared.
pub(super) fn keep_settings(
    config: &Config,
    options: Options,
    evaluator: &Evaluator,
    history: &History,
    fixed: Option<&Checkpoint>,
) -> std::result::Result<(), HistoryError> {
    let settings = config.interactions;
    if !has_begun(history, &config.state)? {
        history.forget_facts()?;
    }
    history.keep_fact("solver", &format!("{SOLVER_NAME} {SOLVER_VERSION}"))?;
    history.keep_fact("solver iterations", &settings.solver.iterations.to_string())?;
    history.keep_fact("largest basis", &settings.solver.largest_basis.to_string())?;
    history.keep_fact("gap", &settings.solver.gap.to_string())?;
    history.keep_fact("noise", &settings.noise.to_string())?;
    history.keep_fact("salience", &settings.salience.to_string())?;
    for watched in &config.watch {
        let directory = watched.directory.display().to_string();
        history.keep_fact(&format!("{} checkpoints", watched.role), &directory)?;
    }
    if let Some(fixed) = fixed {
        let what = format!("{} ({})", fixed.path.display(), fixed::content(fixed));
        history.keep_fact("baseline checkpoint", &what)?;
    }
    let mode = if options.dry_run { "dry run" } else { "controlling" };
    history.keep_fact("mode", mode)?;
    for (name, value) in evaluator.facts() {
        history.keep_fact(name, value)?;
    }
    Ok(())
}
