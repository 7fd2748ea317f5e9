//! What webhooks are told. It stands in the history before it is sent, and until it is delivered or given up.

use super::{Daemon, Result};
use crate::clock::now;
use crate::history::{DeliveryRow, HistoryError, NotificationRow};
use crate::notify::{Event, Message, Report, Sender, Topic, Webhook, key};
use crate::policy::{Decision, Notice};
use crate::role::Role;
use crate::signal::Document;
use crossbeam_channel::{Receiver, bounded};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long the end of a run waits for what is still to be told.
const LONGEST_FAREWELL: Duration = Duration::from_secs(20);
/// Reports that wait to be written down.
const REPORTS: usize = 64;
const POLL: Duration = Duration::from_millis(50);

/// The threads of the webhooks.
pub(super) struct Notices {
    webhooks: Vec<Webhook>,
    senders: Vec<(Webhook, Sender)>,
    reports: Receiver<Report>,
    /// Webhook and key of what is queued.
    queued: HashSet<(String, String)>,
    /// Whether something may wait in the history.
    has_more: bool,
}

impl Notices {
    /// Starts them. One that cannot be started is said and left out: it is no reason to end a run.
    pub(super) fn start(webhooks: &[Webhook]) -> Self {
        let (reporter, reports) = bounded(REPORTS);
        let start = |webhook: &Webhook| match Sender::start(webhook, reporter.clone()) {
            Ok(sender) => Some((webhook.clone(), sender)),
            Err(error) => {
                tracing::error!("{error}; it is told nothing");
                None
            }
        };
        let senders = webhooks.iter().filter_map(start).collect();
        Self {
            webhooks: webhooks.to_vec(),
            senders,
            reports,
            queued: HashSet::new(),
            has_more: true,
        }
    }

    /// Whom it tells, also those that could not be started.
    pub(super) fn webhooks(&self) -> &[Webhook] {
        &self.webhooks
    }

    /// Whether there is anybody to tell.
    fn is_any(&self) -> bool {
        !self.senders.is_empty()
    }

    /// Whether a webhook can be told.
    pub(super) fn is_told(&self, name: &str) -> bool {
        self.sender(name).is_some()
    }

    fn sender(&self, name: &str) -> Option<&Sender> {
        self.senders.iter().find(|(webhook, _)| webhook.name == name).map(|(_, sender)| sender)
    }
}

impl Daemon<'_> {
    /// Tells of a decision; of one that is known already nothing happens.
    pub(super) fn tell_decision(&mut self, decision: &Decision, document: &Document) -> Result<()> {
        if !self.notices.is_any() {
            return Ok(());
        }
        let Decision { action, step, rule, reason, .. } = decision;
        let words = match action.as_str() {
            "phase" => format!("phase `{}` (λ = {})", decision.phase, decision.lambda),
            action => action.to_owned(),
        };
        let best =
            decision.best_step.map(|best| format!(" Best step: {best}.")).unwrap_or_default();
        let text = format!("{words} at step {step} by rule `{rule}`: {reason}.{best}");
        let generation = document.generation.to_string();
        let event = self.event(Topic::Decision, &[&decision.id, &generation], text)?;
        self.tell(Topic::Decision, &event.about(decision, document))
    }

    /// Tells that a decision has not been acknowledged; one webhook as a rung of the ladder, or all who want to know.
    pub(super) fn tell_unacknowledged(
        &mut self,
        silent: &[Role],
        rung: Option<(&str, Duration)>,
    ) -> Result<()> {
        if !self.notices.is_any() {
            return Ok(());
        }
        let Some(DeliveryRow { decision, document, .. }) = self.history.last_decision()? else {
            return Ok(());
        };
        let silent: Vec<String> = silent.iter().map(|role| role.name().to_owned()).collect();
        let text = format!(
            "{} at step {} has not been acknowledged by: {}",
            decision.action,
            decision.step,
            silent.join(", ")
        );
        let generation = document.generation.to_string();
        let which = match rung {
            Some((_, after)) => format!("after {}s", after.as_secs_f64()),
            None => "unacknowledged".to_owned(),
        };
        let topic = Topic::Unacknowledged;
        let event = self.event(topic, &[&decision.id, &generation, &which], text)?;
        let event = Event { silent, ..event.about(&decision, &document) };
        match rung {
            Some((webhook, _)) => self.tell_one(webhook, &event),
            None => self.tell(topic, &event),
        }
    }

    /// Tells what a rule has to say; of what is known already nothing happens. A marked best is nobody's news.
    pub(super) fn tell_rule(&mut self, notice: &Notice) -> Result<()> {
        if !self.notices.is_any() || notice.action == "mark_best" {
            return Ok(());
        }
        let Notice { id, rule, action, message, severity, step, reason, .. } = notice;
        let severity = severity.map(|severity| format!(" ({})", severity.name()));
        let message = message.as_ref().map(|message| format!("{message}: "));
        let (severity, message) = (severity.unwrap_or_default(), message.unwrap_or_default());
        let text = format!("{action}{severity} at step {step} by rule `{rule}`: {message}{reason}");
        let event = self.event(Topic::Notice, &["notice", id], text)?;
        self.tell(Topic::Notice, &event)
    }

    /// Tells something else. The same words at the same step are told once.
    pub(super) fn tell_notice(&mut self, text: String) -> Result<()> {
        if !self.notices.is_any() {
            return Ok(());
        }
        let step = self.newest[0].unwrap_or(0).to_string();
        let event = self.event(Topic::Notice, &["notice", &step, &text], text.clone())?;
        self.tell(Topic::Notice, &event)
    }

    fn event(&mut self, topic: Topic, parts: &[&str], text: String) -> Result<Event> {
        let run = self.run_id()?;
        let parts: Vec<&str> = std::iter::once(run.as_str()).chain(parts.iter().copied()).collect();
        Ok(Event::new(topic, key(&parts), &self.config.name, text, now()))
    }

    /// What tells this run from others that a webhook is told of.
    fn run_id(&mut self) -> Result<String> {
        if let Some(id) = self.history.fact("run id")? {
            return Ok(id);
        }
        let seed = format!("{} {} {}", now(), std::process::id(), self.config.state.display());
        let id: String = blake3::hash(seed.as_bytes()).to_hex().chars().take(12).collect();
        self.keep(|history| history.keep_fact("run id", &id))?;
        Ok(id)
    }

    fn tell(&mut self, topic: Topic, event: &Event) -> Result<()> {
        let wants = |webhook: &&Webhook| webhook.on.contains(&topic);
        let all = self.notices.senders.iter().map(|(webhook, _)| webhook);
        let names: Vec<String> = all.filter(wants).map(|webhook| webhook.name.clone()).collect();
        names.iter().try_for_each(|name| self.tell_one(name, event))
    }

    fn tell_one(&mut self, webhook: &str, event: &Event) -> Result<()> {
        let body = serde_json::to_string(event).map_err(HistoryError::Value)?;
        if self.keep(|history| history.add_notification(webhook, &event.id, &body, now()))? {
            self.notices.has_more = true;
        }
        Ok(())
    }

    /// Writes down what came of earlier messages, and queues what waits as far as there is room.
    pub(super) fn tend_notices(&mut self) -> Result<()> {
        while let Ok(report) = self.notices.reports.try_recv() {
            self.note_report(report)?;
        }
        if !std::mem::take(&mut self.notices.has_more) {
            return Ok(());
        }
        for NotificationRow { webhook, id, body, .. } in self.history.open_notifications()? {
            let place = (webhook, id);
            if self.notices.queued.contains(&place) {
                continue;
            }
            let Some(sender) = self.notices.sender(&place.0) else { continue };
            // What was stored by a later version may be no event of this one.
            let Ok(event) = serde_json::from_str(&body) else { continue };
            match sender.offer(Message { id: place.1.clone(), event }) {
                true => {
                    self.notices.queued.insert(place);
                }
                false => self.notices.has_more = true,
            }
        }
        Ok(())
    }

    fn note_report(&mut self, report: Report) -> Result<()> {
        let Report { webhook, id, attempts, error } = report;
        let failures = if error.is_some() { attempts } else { attempts.saturating_sub(1) };
        self.metrics.count_webhook(error.is_none(), failures);
        if error.is_none() {
            tracing::info!(webhook, attempts, "told");
        }
        let error = error.as_deref();
        self.keep(|history| history.end_notification(&webhook, &id, attempts, error, now()))?;
        self.notices.queued.remove(&(webhook, id));
        Ok(())
    }

    /// At the end of a run: waits a while until everything is told. What is not is told by the next start.
    pub(super) fn say_farewell(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            self.tend_notices()?;
            let is_done = self.notices.queued.is_empty() && !self.notices.has_more;
            if is_done || started.elapsed() >= LONGEST_FAREWELL {
                return Ok(());
            }
            if let Ok(report) = self.notices.reports.recv_timeout(POLL) {
                self.note_report(report)?;
            }
            self.is_interrupted |= self.interrupts.try_recv().is_ok();
            if self.is_interrupted {
                return Ok(());
            }
        }
    }
}
