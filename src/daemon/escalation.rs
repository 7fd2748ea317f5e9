//! Climbing the ladder: what is done while a trainer has not acknowledged, each rung once.
//!
//! Times count from the delivery of the control file, on the clock of the system that never jumps, and across a restart
//! on that of the run (`run_clock.rs`), which never goes back. After a restart the next rung is due as it would have
//! been, at the earliest now, and those behind it keep their distances: a sidecar that was away for an hour does not do
//! all at once.

use super::{Daemon, Result};
use crate::control::{Measure, Process, Ran, Rung, Sighting, Signal, Task, look_at_pid_file};
use crate::failpoint;
use crate::history::{DeliveryRow, EscalationRow};
use crate::role::Role;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::time::{Duration, Instant};

/// How long the last rung has to take effect.
const SETTLE: Duration = Duration::from_secs(5);

/// The way up of one decision.
pub(super) struct Climb {
    /// Of the decision.
    pub(super) generation: u64,
    action: String,
    /// When its control file was written, or what stands for that after a restart.
    since: Instant,
    /// The time of the last rung that was begun.
    done: Option<Duration>,
    /// Whether a rung was done that may end a trainer.
    may_have_ended: bool,
    /// Whether it has been told that nobody answers in time.
    is_told: bool,
}

/// A program of the ladder at work.
pub(super) struct Running {
    row: EscalationRow,
    answer: Receiver<Ran>,
    /// Ends it when it is dropped.
    life: Sender<()>,
}

impl Daemon<'_> {
    /// Does the next rung if it is due and somebody has not acknowledged.
    pub(super) fn escalate(&mut self) -> Result<()> {
        self.look_at_pid_files()?;
        self.end_programs()?;
        if self.options.once || self.options.dry_run || !self.begin_climb()? {
            return Ok(());
        }
        self.tell_if_late()?;
        let Some(climb) = &self.climb else { return Ok(()) };
        let Some(rung) = self.ladder.next(&climb.action, climb.done).cloned() else {
            return Ok(());
        };
        if climb.since.elapsed() < rung.after {
            return Ok(());
        }
        let silent = self.unanswered()?;
        if silent.is_empty() { Ok(()) } else { self.climb_to(&rung, &silent) }
    }

    /// Tells once that a decision has not been acknowledged within `control.acknowledge`.
    fn tell_if_late(&mut self) -> Result<()> {
        let patience = self.control.patience();
        let Some(climb) = &mut self.climb else { return Ok(()) };
        let is_late =
            matches!(climb.action.as_str(), "stop" | "phase") && climb.since.elapsed() >= patience;
        if !is_late || std::mem::replace(&mut climb.is_told, true) {
            return Ok(());
        }
        let silent = self.unanswered()?;
        if silent.is_empty() {
            return Ok(());
        }
        let rows = self.unacknowledged(&silent, None)?;
        self.tell(&rows)
    }

    /// Whether the last decision is on its way up; takes it up where it is not known yet.
    fn begin_climb(&mut self) -> Result<bool> {
        if self.climb.as_ref().is_some_and(|climb| climb.generation == self.generation) {
            return Ok(true);
        }
        self.climb = None;
        let Some(DeliveryRow { decision, document, delivered: Some(delivered) }) =
            self.history.last_decision()?
        else {
            return Ok(false);
        };
        let rows = self.history.escalations(document.generation)?;
        // A signal goes to one process and nobody else, so one that may not have been sent is sent again.
        let is_done = |row: &&EscalationRow| row.kind != "signal" || row.result.is_some();
        let done = rows.iter().rfind(is_done).map(|row| row.after);
        let elapsed = self.clock.now() - delivered;
        let elapsed = Duration::try_from_secs_f64(elapsed).unwrap_or_default();
        let next = self.ladder.next(&decision.action, done).map(|rung| rung.after);
        let elapsed = elapsed.min(next.unwrap_or(elapsed));
        let since = Instant::now().checked_sub(elapsed).unwrap_or_else(Instant::now);
        let names = [Signal::Usr1, Signal::Usr2].map(Signal::name);
        let is_nudge = |row: &EscalationRow| names.iter().any(|name| row.measure.starts_with(name));
        let may_have_ended =
            rows.iter().any(|row| row.kind == "exec" || (row.kind == "signal" && !is_nudge(row)));
        self.climb = Some(Climb {
            generation: document.generation,
            action: decision.action,
            since,
            done,
            may_have_ended,
            is_told: false,
        });
        Ok(true)
    }

    fn climb_to(&mut self, rung: &Rung, silent: &[Role]) -> Result<()> {
        let Some(climb) = &mut self.climb else { return Ok(()) };
        climb.done = Some(rung.after);
        climb.may_have_ended |= rung.measure.may_end();
        let mut row = EscalationRow {
            generation: climb.generation,
            after: rung.after,
            kind: rung.measure.kind().to_owned(),
            measure: rung.measure.to_string(),
            time: self.clock.now(),
            result: None,
            detail: None,
        };
        let told = match &rung.measure {
            Measure::Webhook { name } => self.unacknowledged(silent, Some((name, rung.after)))?,
            _ => Vec::new(),
        };
        if let Measure::Webhook { name } = &rung.measure {
            let (result, detail) = match self.notices.is_told(name) {
                true => ("success", "queued"),
                false => ("failure", "it could not be started; the next start tries again"),
            };
            (row.result, row.detail) = (Some(result.to_owned()), Some(detail.to_owned()));
        }
        self.keep(|history| history.begin_escalation(&row, &told))?;
        self.notices.wake();
        failpoint::reach("rung-begun");
        match &rung.measure {
            Measure::Signal { signal, group } => {
                let (result, detail) = self.signal(silent, *signal, *group);
                (row.result, row.detail) = (Some(result.to_owned()), Some(detail));
                self.end_rung(&row)
            }
            // What came of it is told by the webhook's own row.
            Measure::Webhook { .. } => self.end_rung(&row),
            Measure::Exec { command, timeout } => {
                let task = self.task(command, *timeout, silent)?;
                let (done, answer) = bounded(1);
                let (life, end) = bounded(0);
                std::thread::spawn(move || {
                    // Nobody waits any more where the run has ended.
                    let _ = done.send(task.run(&end));
                });
                self.programs.push(Running { row, answer, life });
                Ok(())
            }
        }
    }

    /// Sends a signal to the trainers that are silent; what came of it.
    fn signal(&self, silent: &[Role], signal: Signal, group: bool) -> (&'static str, String) {
        let mut details = Vec::new();
        let (mut has_reached, mut has_failed) = (false, false);
        let answered = self.config.trainings().filter(|role| !silent.contains(role));
        let spared: Vec<Process> = answered.filter_map(|role| self.process(role)).collect();
        for &role in silent {
            let detail = match self.process(role) {
                None => "not sent: no process is known; its client tells it, or `networks.<name>.pid_file`"
                    .to_owned(),
                Some(process) => match process.send(signal, group, &spared) {
                    Ok(reached) => {
                        has_reached = true;
                        reached.to_string()
                    }
                    Err(not_sent) => {
                        has_failed |= not_sent.is_failure();
                        not_sent.to_string()
                    }
                },
            };
            details.push(format!("{role}: {detail}"));
        }
        let result = match (has_failed, has_reached) {
            (true, _) => "failure",
            (false, true) => "success",
            (false, false) => "skipped",
        };
        (result, details.join("; "))
    }

    /// A program with what it needs to know.
    fn task(&self, command: &[String], timeout: Duration, silent: &[Role]) -> Result<Task> {
        let row = self.history.last_decision()?;
        let decision = row.map(|row| row.decision);
        let told = |what: fn(&crate::policy::Decision) -> String| {
            decision.as_ref().map(what).unwrap_or_default()
        };
        let silent: Vec<&str> = silent.iter().map(|role| role.name()).collect();
        let set = vec![
            ("CONVERGD_RUN", self.config.name.clone()),
            ("CONVERGD_ACTION", told(|decision| decision.action.clone())),
            ("CONVERGD_DECISION", told(|decision| decision.id.clone())),
            ("CONVERGD_STEP", told(|decision| decision.step.to_string())),
            ("CONVERGD_REASON", told(|decision| decision.reason.clone())),
            ("CONVERGD_GENERATION", self.generation.to_string()),
            ("CONVERGD_SILENT", silent.join(",")),
        ];
        let hidden = self.notices.webhooks().iter().flat_map(|webhook| webhook.variables());
        let hidden = hidden.map(str::to_owned).collect();
        let directory = self.config.source.parent().filter(|parent| parent.is_dir());
        let directory = directory.unwrap_or(std::path::Path::new(".")).to_owned();
        Ok(Task { command: command.to_vec(), directory, set, hidden, timeout })
    }

    /// Takes what programs have come to.
    fn end_programs(&mut self) -> Result<()> {
        let mut still = Vec::new();
        for running in std::mem::take(&mut self.programs) {
            match running.answer.try_recv() {
                Ok(ran) => self.end_program(running.row, &ran)?,
                Err(_) => still.push(running),
            }
        }
        self.programs.append(&mut still);
        Ok(())
    }

    fn end_program(&mut self, mut row: EscalationRow, ran: &Ran) -> Result<()> {
        let result = if matches!(ran, Ran::Well) { "success" } else { "failure" };
        (row.result, row.detail) = (Some(result.to_owned()), Some(ran.to_string()));
        self.end_rung(&row)
    }

    /// Ends what programs are still at work, before a run leaves that waits for nothing.
    pub(super) fn cut_programs(&mut self) -> Result<()> {
        for Running { row, answer, life } in std::mem::take(&mut self.programs) {
            drop(life);
            if let Ok(ran) = answer.recv_timeout(SETTLE) {
                self.end_program(row, &ran)?;
            }
        }
        Ok(())
    }

    fn end_rung(&mut self, row: &EscalationRow) -> Result<()> {
        let result = row.result.as_deref().unwrap_or_default();
        self.metrics.control.count_escalation(&row.kind, result);
        tracing::warn!(
            after = ?row.after, result,
            "not acknowledged, so {}: {}",
            row.measure,
            row.detail.as_deref().unwrap_or_default()
        );
        self.keep(|history| history.end_escalation(row))?;
        failpoint::reach("rung-ended");
        Ok(())
    }

    /// Whether nothing more is to come of waiting for an answer to a stop.
    pub(super) fn has_waited(&self, since: Instant) -> bool {
        let is_at_top = |climb: &Climb| {
            let end = self.ladder.end(&climb.action);
            let is_done = self.ladder.next(&climb.action, climb.done).is_none();
            is_done && climb.is_told && end.is_none_or(|end| climb.since.elapsed() >= end + SETTLE)
        };
        // One that is just delivered has not begun to climb.
        let climb = self.climb.as_ref().filter(|climb| climb.generation == self.generation);
        since.elapsed() >= self.control.patience()
            && self.programs.is_empty()
            && climb.is_some_and(is_at_top)
    }

    /// How long a stop is waited for: at least until the last rung.
    pub(super) fn longest_wait(&self) -> Duration {
        let ladder = self.ladder.end("stop").map_or(Duration::ZERO, |end| end + SETTLE);
        self.control.patience().max(ladder)
    }

    /// Whether the trainer has ended by what the ladder did to it.
    pub(super) fn has_been_ended(&self, role: Role) -> bool {
        let climbs = self.climb.as_ref().filter(|climb| climb.generation == self.generation);
        climbs.is_some_and(|climb| climb.may_have_ended) && self.is_gone(role) == Some(true)
    }

    /// The process of a trainer: as its client tells, else as it was first seen in its pid file.
    pub(super) fn process(&self, role: Role) -> Option<Process> {
        self.control.known_process(role, self.sightings[role.index()].as_ref())
    }

    /// Whether the process of a trainer has ended, as far as it is known and can be told here.
    pub(super) fn is_gone(&self, role: Role) -> Option<bool> {
        self.process(role)?.is_gone()
    }

    fn look_at_pid_files(&mut self) -> Result<()> {
        for role in Role::BOTH {
            let Some(file) = &self.config.control.pid_files[role.index()] else { continue };
            let before = &mut self.sightings[role.index()];
            if before.is_none() && file.exists() {
                *before = Sighting::of(self.history.sighting(role)?);
            }
            let Some(seen) = look_at_pid_file(file, before.as_ref()) else { continue };
            if before.as_ref() != Some(&seen) {
                tracing::info!(network = %role, pid = seen.process.pid, file = %file.display(), "process found");
                *before = Some(seen.clone());
                self.keep_sighting(role, &seen)?;
            }
        }
        Ok(())
    }

    fn keep_sighting(&mut self, role: Role, seen: &Sighting) -> Result<()> {
        let text = serde_json::to_string(seen).map_err(crate::history::HistoryError::Value)?;
        self.keep(|history| history.keep_sighting(role, &text))
    }
}
