//! When training has ended, and what is left to say then.

use super::settings::{has_begun, say_begun};
use super::{Daemon, DaemonError, End, Result};
use crate::clock::now;
use crate::failpoint;
use crate::history::{Failure, History, Outcome};
use crate::policy::Decision;
use crate::role::Role;
use std::path::Path;
use std::time::Instant;

/// Why what waits at the end of a stopped run is let go of.
pub(super) const STOPPED_BEFORE: &str = "the run was stopped before it";

/// Leaves the error that a run has ended with where `status` finds it.
pub(super) fn leave_word(state: &Path, error: &DaemonError) {
    if error.is_of_disk() {
        return;
    }
    let failure = Failure { time: now(), error: error.to_string() };
    let stored = History::open(state).and_then(|history| history.record_failure(&failure));
    match stored {
        Ok(()) => failpoint::reach("failure-recorded"),
        Err(error) => tracing::debug!(%error, "the history does not tell of the error"),
    }
}

impl Daemon<'_> {
    /// Why training has ended, if it has: the trainers say so, their processes are gone, the last step is reached,
    /// or nothing has come for long.
    pub(super) fn training_ended(&mut self) -> Option<String> {
        let seen = |role: Role| self.newest[role.index()].is_some();
        if self.config.trainings().all(|role| seen(role) && self.control.is_done(role)) {
            let names: Vec<_> =
                self.config.trainings().map(|role| format!("`done-{role}`")).collect();
            return Some(format!("{} in the control directory", names.join(" and ")));
        }
        let processes = self.config.end.processes;
        let all_gone = self.config.trainings().all(|r| seen(r) && self.is_gone(r) == Some(true));
        // A training that goes on in another process acknowledges anew.
        let since = all_gone.then(|| self.gone_since.unwrap_or_else(Instant::now));
        self.gone_since = since;
        if since.is_some_and(|since| since.elapsed() >= processes) {
            return Some(format!("its processes have been gone for `end.processes` {processes:?}"));
        }
        if let Some(last) = self.config.end.max_step {
            // With a tolerance the last checkpoints of the two may lie apart.
            let last_seen = last.saturating_sub(self.config.pairing.tolerance);
            let newest: Vec<Option<u64>> =
                self.config.trainings().map(|role| self.newest[role.index()]).collect();
            let is_over = newest.iter().any(|newest| *newest >= Some(last))
                && newest.iter().all(|newest| *newest >= Some(last_seen));
            if is_over {
                return Some(format!("all trainings have reached `end.max_step` {last}"));
            }
        }
        let idle = self.config.end.idle;
        let is_idle = self.last_arrival.is_some_and(|then| then.elapsed() >= idle)
            && !self.pairs.is_ready()
            && self.noted.is_empty();
        // Nobody has said how long it may take to the next one.
        let goes_on = || self.config.trainings().any(|role| self.is_gone(role) == Some(false));
        (is_idle && (self.config.end.is_idle_chosen || !goes_on()))
            .then(|| format!("no new checkpoint for `end.idle` {idle:?}"))
    }

    /// Stores that training has ended, and tells of it.
    pub(super) fn record_end(&mut self, why: &str) -> Result<()> {
        let interventions = self.history.last_intervention()?.map_or(0, |row| row.number);
        let after = [self.history.count_pairs()?, interventions];
        let outbox = self.notices.outbox();
        let rows = outbox.map(|outbox| outbox.end(after, why, self.clock.now())).transpose()?;
        let rows = rows.unwrap_or_default();
        self.keep(|history| history.record_end(why, &rows))?;
        failpoint::reach("end-recorded");
        self.notices.wake();
        Ok(())
    }

    /// A run that has evaluated nothing is no success.
    pub(super) fn refuse_nothing(&self) -> Result<()> {
        if self.history.count_pairs()? > 0 {
            return Ok(());
        }
        let rows = self.history.checkpoints()?;
        let of = |outcome| rows.iter().filter(move |row| row.outcome == outcome);
        let (quarantined, skipped) = (Outcome::Quarantined, Outcome::Skipped);
        let Some(row) = of(quarantined).chain(of(skipped)).next() else {
            let directory = self.config.watch.first().map(|watched| watched.directory.display());
            let directory = directory.map(|directory| directory.to_string()).unwrap_or_default();
            return Err(DaemonError::NothingCame { directory });
        };
        Err(DaemonError::NothingEvaluated {
            quarantined: of(quarantined).count(),
            skipped: of(skipped).count(),
            path: row.path.clone(),
            reason: match row.outcome {
                Outcome::Skipped => {
                    format!("was skipped: {}", row.reason.as_deref().unwrap_or_default())
                }
                _ => row.reason.clone().unwrap_or_default(),
            },
        })
    }

    /// How a run ends that is asked to. A stop stands that has been delivered, whoever has answered by then.
    pub(super) fn interrupted(&mut self) -> End {
        self.interrupted_when_settled().0
    }

    /// The same, and whether all had answered then.
    pub(super) fn interrupted_when_settled(&mut self) -> (End, bool) {
        // They may have come after the signal. What cannot be stored now is taken by the next start.
        let _ = self.record_acknowledgements();
        // Where it cannot be known, the next start sees to it.
        let is_settled = self.is_settled().unwrap_or(false);
        // Where the disk is away, the next start tells.
        if let Ok(Some(decision)) = self.told_stop(is_settled) {
            return (End::Stopped(Box::new(decision)), is_settled);
        }
        tracing::info!("ended; the next start goes on here");
        (End::Interrupted, is_settled)
    }

    /// The stop that stands, if it is where the trainings find it.
    fn told_stop(&self, is_settled: bool) -> Result<Option<Decision>> {
        let Some(decision) = self.standing_stop()? else { return Ok(None) };
        if is_settled {
            return Ok(Some(decision));
        }
        if !self.is_delivered()? {
            tracing::warn!(decision = decision.id, "the stop is not delivered yet");
            return Ok(None);
        }
        let silent = self.name_silent()?;
        tracing::warn!(
            decision = decision.id,
            "ended; the stop stands in the control directory, and has not been acknowledged by: {silent}, for which the next start waits"
        );
        Ok(Some(decision))
    }

    /// Without a pair, and with nothing that waits, the next start chooses variables anew.
    pub(super) fn forget_begun(&mut self) -> Result<()> {
        if !has_begun(&self.history, &self.config.state)? {
            self.variables = None;
            say_begun(&self.config.state, &self.evaluator, None);
        }
        Ok(())
    }

    /// Stores that the next start of a stopped run has nothing to do, if all had answered when it ended.
    pub(super) fn close(&mut self, end: Option<&End>, is_settled: bool) -> Result<()> {
        let is_stopped = matches!(end, Some(End::Stopped(_)));
        if self.options.awaits_nobody() || !is_stopped || !is_settled {
            return Ok(());
        }
        failpoint::reach("stop-released");
        let generation = self.generation;
        self.keep(|history| history.record_closed(generation))
    }

    /// Lets go of what still waits at the end. After an interruption it waits for the next start, also of a stopped
    /// run that is not settled.
    pub(super) fn release(&mut self, end: Option<&End>, is_settled: bool) -> Result<()> {
        let goes_on = match end {
            None | Some(End::Interrupted) => true,
            Some(End::Stopped(_)) => self.is_interrupted && !is_settled,
            Some(End::Done) => false,
        };
        if goes_on {
            return Ok(());
        }
        let is_stopped = matches!(end, Some(End::Stopped(_)));
        let waiting = self.pairs.drain();
        if is_stopped && !waiting.is_empty() {
            let checkpoints = waiting.len();
            tracing::info!(checkpoints, "let go of: {STOPPED_BEFORE}");
        }
        for (checkpoint, reason) in waiting {
            self.skip(checkpoint, if is_stopped { STOPPED_BEFORE } else { reason })?;
        }
        Ok(())
    }
}
