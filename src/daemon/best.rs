//! The checkpoints of the best pairs are kept under `best/` in the state directory: a trainer that keeps only
//! its last ones has removed them by the time that a decision names them, or has written others there.

use super::Daemon;
use crate::best;
use crate::checkpoint::{Checkpoint, pin};
use std::collections::BTreeSet;

impl Daemon<'_> {
    /// Keeps a pair beside its pins, before it is stored: after that they go.
    pub(super) fn keep_as_best(&self, pair: &[Checkpoint; 2]) {
        let step = pair[0].step;
        for checkpoint in pair.iter().filter(|checkpoint| self.pairs.fixed() != Some(checkpoint)) {
            let kept = best::kept(self.config, checkpoint.role, step, &checkpoint.path);
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
        let Ok(entries) = std::fs::read_dir(best::directory(self.config)) else { return };
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
