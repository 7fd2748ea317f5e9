//! What the watchers report: checkpoints that wait, and those that are set aside with a reason.

use super::ending::STOPPED_BEFORE;
use super::watchers::Watchers;
use super::{Daemon, DaemonError, End, Result, Stage, TICK};
use crate::checkpoint::{self, Checkpoint, Event, Mode};
use crate::clock::now;
use crate::failpoint;
use crate::history::{CheckpointRow, Outcome};
use crate::role::Role;
use crossbeam_channel::{Receiver, RecvTimeoutError, never, select};
use std::time::{Duration, Instant};

impl Daemon<'_> {
    /// Waits a tick for the first event, takes what else is there.
    pub(super) fn take_events(&mut self, watchers: &Watchers, stage: &mut Stage) -> Result<()> {
        watchers.scans().for_each(|(cause, scans)| self.metrics.count_scans(cause, scans));
        let is_busy =
            (self.knows_all(stage, false) && self.pairs.is_ready()) || !self.noted.is_empty();
        let mut patience = if is_busy { Duration::ZERO } else { TICK };
        loop {
            match watchers.events().recv_timeout(patience) {
                Ok(event) => self.note(event)?,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(DaemonError::Internal("both watchers ended".to_owned()));
                }
            }
            patience = Duration::ZERO;
        }
        while let Some(event) = self.noted.pop_front() {
            self.take(event, stage)?;
        }
        Ok(())
    }

    /// Waits for an answer, and meanwhile notes what the watchers report: a checkpoint that is pinned is in
    /// the history at once, however long an evaluation takes. It takes effect after that.
    pub(super) fn wait_for<T>(
        &mut self,
        watchers: &Watchers,
        answer: &Receiver<T>,
    ) -> Result<Option<T>> {
        let mut events = watchers.events();
        loop {
            select! {
                recv(answer) -> answer => return Ok(answer.ok()),
                recv(events) -> event => match event {
                    Ok(event) => self.note(event)?,
                    Err(_) => events = never(),
                },
                default(TICK) => self.tend()?,
            }
        }
    }

    /// Writes down that a checkpoint waits, and keeps the event.
    pub(super) fn note(&mut self, event: Event) -> Result<()> {
        if matches!(event, Event::Ready { .. } | Event::Quarantined { .. }) {
            self.last_arrival = Some(Instant::now());
        }
        if let Event::Ready { checkpoint, delay } = &event {
            self.metrics.observe_ready(*delay);
            failpoint::reach("pinned");
            let row = checkpoint_row(checkpoint, Outcome::Waiting);
            self.keep(|history| history.record_checkpoint(&row, now()))?;
            failpoint::reach("arrival-recorded");
        }
        self.noted.push_back(event);
        Ok(())
    }

    fn take(&mut self, event: Event, stage: &mut Stage) -> Result<()> {
        match event {
            Event::Waiting { role, reason } if self.options.once => {
                return Err(DaemonError::NothingThere { role, reason });
            }
            Event::Waiting { role, reason } => match stage {
                // Training has ended, and its directory is gone: nothing more is to come.
                Stage::Draining { listed, .. } => listed[role.index()] = true,
                _ => tracing::warn!(network = %role, "waiting: {reason}"),
            },
            Event::Foreign { role, reason } if self.options.once => {
                return Err(DaemonError::OtherLayout { role, reason });
            }
            Event::Foreign { role, reason } => tracing::warn!(network = %role, "{reason}"),
            Event::Mode { role, mode, reason } => {
                self.metrics.show_mode(role, mode);
                match mode {
                    Mode::Events => tracing::debug!(network = %role, "watched by events: {reason}"),
                    Mode::Poll => tracing::info!(network = %role, "polled: {reason}"),
                }
            }
            Event::Listed { role } => {
                if let Stage::Draining { listed, .. } = stage {
                    listed[role.index()] = true;
                }
            }
            Event::Ready { checkpoint, .. } => {
                self.arrive(checkpoint)?;
            }
            Event::Quarantined { role, step, path, identity, reason } => {
                self.pairs.note_quarantined(role, step);
                self.show(role, step);
                let path = path.display().to_string();
                let reason = Some(reason);
                let outcome = Outcome::Quarantined;
                self.record(&CheckpointRow { role, identity, step, path, outcome, reason })?;
            }
        }
        self.show_queue();
        Ok(())
    }

    pub(super) fn arrive(&mut self, checkpoint: Checkpoint) -> Result<()> {
        let Checkpoint { role, step, .. } = checkpoint;
        self.show(role, step);
        self.metrics.show_checkpoint(role, now());
        tracing::debug!(network = %role, step, "checkpoint ready");
        let changes = self.peers.as_mut().map(|peers| peers.arrived(role, Instant::now()));
        for (silent, is_stale) in changes.into_iter().flatten() {
            self.metrics.show_stale(silent, is_stale);
            if is_stale {
                let stale = self.config.stale;
                self.tell_notice(format!(
                    "{silent}: no checkpoint for {stale:?}, while the other network goes on"
                ))?;
            }
            match is_stale {
                true => tracing::warn!(
                    network = %silent, newest = self.newest[silent.index()],
                    "no checkpoint for `pairing.stale` {:?}, while the other network goes on",
                    self.config.stale
                ),
                false => tracing::info!(network = %silent, step, "goes on"),
            }
        }
        for (obsolete, reason) in self.pairs.add(checkpoint) {
            self.skip(obsolete, reason)?;
        }
        Ok(())
    }

    /// A training has come so far, whatever its checkpoint is worth.
    fn show(&mut self, role: Role, step: u64) {
        let newest = &mut self.newest[role.index()];
        *newest = (*newest).max(Some(step));
    }

    /// Takes what has been noted and what the watchers have pinned and not said yet, so that no pin is
    /// forgotten.
    pub(super) fn take_rest(&mut self, watchers: &Watchers) -> Result<()> {
        let mut stage = Stage::drain(End::Interrupted, self.config);
        while let Ok(event) = watchers.events().try_recv() {
            self.note(event)?;
        }
        while let Some(event) = self.noted.pop_front() {
            if !matches!(event, Event::Waiting { .. } | Event::Foreign { .. }) {
                self.take(event, &mut stage)?;
            }
        }
        Ok(())
    }

    pub(super) fn show_queue(&self) {
        let waiting: usize = self.pairs.waiting().iter().sum();
        self.metrics.queue_length.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        for role in self.config.trainings() {
            let last = self.pairs.last().map_or(0, |last| last[role.index()]);
            let newest = self.newest[role.index()].unwrap_or(last);
            self.metrics.show_lag(role, newest.saturating_sub(last));
        }
        self.news.stand(|standing| {
            standing.waiting = waiting;
            for role in self.config.trainings() {
                standing.newest[role.index()] = self.newest[role.index()];
            }
        });
    }

    pub(super) fn skip(&mut self, checkpoint: Checkpoint, reason: &str) -> Result<()> {
        self.set_aside(checkpoint, Outcome::Skipped, reason)
    }

    pub(super) fn set_aside(
        &mut self,
        checkpoint: Checkpoint,
        outcome: Outcome,
        reason: &str,
    ) -> Result<()> {
        let mut row = checkpoint_row(&checkpoint, outcome);
        row.reason = Some(reason.to_owned());
        self.record(&row)?;
        failpoint::reach("skip-recorded");
        self.unpin(&checkpoint);
        Ok(())
    }

    /// Lets go of a pin. A fixed checkpoint has none: it is read where it stands.
    pub(super) fn unpin(&self, checkpoint: &Checkpoint) {
        if self.pairs.fixed() == Some(checkpoint) {
            return;
        }
        if let Err(error) = checkpoint::pin::remove(&checkpoint.pin) {
            tracing::warn!(pin = %checkpoint.pin.display(), %error, "a pin cannot be removed");
        }
    }

    pub(super) fn record(&mut self, row: &CheckpointRow) -> Result<()> {
        let CheckpointRow { role, step, outcome, reason, .. } = row;
        let reason = reason.as_deref().unwrap_or_default();
        match outcome {
            Outcome::Quarantined => {
                tracing::warn!(network = %role, step, path = row.path, "quarantined: {reason}");
            }
            // Said of all of them at once.
            _ if reason == STOPPED_BEFORE => tracing::debug!(network = %role, step, "{reason}"),
            _ => tracing::info!(network = %role, step, "{}: {reason}", outcome.name()),
        }
        self.metrics.count_checkpoint(*role, *outcome);
        self.keep(|history| history.record_checkpoint(row, now()))
    }
}

pub(super) fn checkpoint_row(checkpoint: &Checkpoint, outcome: Outcome) -> CheckpointRow {
    CheckpointRow {
        role: checkpoint.role,
        identity: checkpoint.identity.clone(),
        step: checkpoint.step,
        path: checkpoint.path.display().to_string(),
        outcome,
        reason: None,
    }
}
