//! A decision on its way to the trainers, and their answers.

use super::figures::tell_with_monitors;
use super::{Daemon, Result};
use crate::best::best_of;
use crate::checkpoint::Checkpoint;
use crate::convergence::Monitor;
use crate::failpoint;
use crate::history::{DeliveryRow, PairRow};
use crate::policy::Decision;
use crate::role::Role;
use crate::signal::{Document, at_step};

impl Daemon<'_> {
    /// The control document of a decision.
    pub(super) fn document(
        &self,
        decision: &Decision,
        current: &PairRow,
        pair: &[Checkpoint; 2],
    ) -> Result<DeliveryRow> {
        let best = match decision.best_step {
            Some(step) if step == current.step => Some(current.clone()),
            Some(step) => self.history.pair(step)?,
            None => None,
        };
        let best = best_of(self.config, &self.history, best, pair)?;
        let step = current.step;
        let between_pairs = self.history.last_pair()?.map_or(step, |last| step - last.step);
        let at_step = at_step(self.newest, step, between_pairs, self.config.fixed.is_some());
        let document = Document::of(decision, self.generation + 1, at_step, best);
        Ok(DeliveryRow { decision: decision.clone(), document, delivered: None })
    }

    pub(super) fn announce(&mut self, decision: &Decision, document: &Document) -> Result<()> {
        self.metrics.count_decision(&decision.action);
        self.metrics.show_phase(&decision.phase, decision.lambda);
        self.news.decision(document.generation);
        // It is stored with the last pair, or after it.
        let last = self.history.last_pair()?.map(|pair| pair.monitors).unwrap_or_default();
        tell_with_monitors!(
            &last,
            {
                generation = document.generation,
                id = decision.id,
                rule = decision.rule,
                action = decision.action,
                step = decision.step,
                best_step = decision.best_step,
                phase = decision.phase,
                lambda = decision.lambda,
                ramp = decision.ramp,
                dry_run = self.options.dry_run,
                reason = decision.reason,
            }
            "decided: {}",
            decision.reason
        );
        if self.options.dry_run {
            return Ok(());
        }
        self.deliver(document)
    }

    pub(super) fn deliver(&mut self, document: &Document) -> Result<()> {
        match self.control.deliver(document) {
            Ok(()) => {
                self.metrics.count_delivery(true);
                self.delivery_fails = false;
                failpoint::reach("control-written");
                let time = self.clock.now();
                self.keep(|history| history.record_delivery(document.generation, time))?;
                failpoint::reach("delivery-recorded");
            }
            // It stays undelivered in the history, and the next tick or start tries again.
            Err(error) => {
                if !std::mem::replace(&mut self.delivery_fails, true) {
                    self.metrics.count_delivery(false);
                    tracing::error!("{error}; the decision is kept and tried again");
                }
            }
        }
        Ok(())
    }

    pub(super) fn write_control(&self, document: &Document) {
        if let Err(error) = self.control.deliver(document) {
            self.metrics.count_delivery(false);
            tracing::error!("{error}");
        }
    }

    /// What is done at every tick, also while a pair is evaluated.
    pub(super) fn tend(&mut self) -> Result<()> {
        self.record_acknowledgements()?;
        self.take_requests()?;
        self.escalate()?;
        self.show_progress();
        self.tend_notices()
    }

    pub(super) fn record_acknowledgements(&mut self) -> Result<()> {
        if self.generation == 0 || self.options.dry_run {
            return Ok(());
        }
        let last = self.history.last_decision()?;
        if let Some(row) = last.as_ref().filter(|row| row.delivered.is_none()) {
            self.deliver(&row.document)?;
        }
        for role in self.config.trainings() {
            let Some(ack) = self.control.acknowledgement(role) else { continue };
            let seen = self.clock.now();
            if ack.generation == self.generation
                && self.keep(|history| history.record_acknowledgement(role, &ack, seen))?
            {
                self.note_acknowledgement(role, ack.step)?;
                failpoint::reach("acknowledged");
            }
        }
        if let Some(DeliveryRow { decision, .. }) = &last {
            let silent = self.unanswered()?;
            self.metrics.control.show_unacknowledged(Some(&decision.action), &silent);
        }
        Ok(())
    }

    fn note_acknowledgement(&self, role: Role, step: u64) -> Result<()> {
        let latencies = self.history.latencies(self.generation)?;
        let own = latencies.into_iter().find(|(network, _)| network == role.name());
        let seconds = own.map(|(_, seconds)| seconds);
        if let Some(seconds) = seconds {
            self.metrics.control.observe_ack(role, seconds);
        }
        let seconds = seconds.map(|seconds| (100.0 * seconds).round() / 100.0);
        tracing::info!(network = %role, step, generation = self.generation, seconds, "acknowledged");
        Ok(())
    }

    /// Whether both trainers have answered the last decision or have ended.
    pub(super) fn is_answered(&self) -> Result<bool> {
        Ok(self.unanswered()?.is_empty())
    }

    /// The trainers that have neither answered nor ended.
    pub(super) fn unanswered(&self) -> Result<Vec<Role>> {
        let answers = self.history.acknowledgements(self.generation)?;
        let is_silent = |role: &Role| {
            answers.iter().all(|(network, ..)| network != role.name())
                && !self.control.is_done(*role)
                && !self.has_been_ended(*role)
        };
        Ok(self.config.trainings().filter(is_silent).collect())
    }

    /// Their names, for people.
    pub(super) fn name_silent(&self) -> Result<String> {
        let name = |role: Role| match self.is_gone(role) {
            Some(true) => format!("{role} (its process has ended)"),
            _ => role.to_string(),
        };
        Ok(self.unanswered()?.into_iter().map(name).collect::<Vec<_>>().join(", "))
    }

    pub(super) fn is_delivered(&self) -> Result<bool> {
        let last = self.history.last_decision()?;
        Ok(last.is_none_or(|row| row.delivered.is_some()))
    }

    /// Whether an earlier stop has nothing left to wait for.
    pub(super) fn is_settled(&self) -> Result<bool> {
        Ok(self.options.awaits_nobody() || (self.is_delivered()? && self.is_answered()?))
    }
}
