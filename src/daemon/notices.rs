//! What webhooks are told. It stands in the history from the transaction of what it tells of, until it is delivered or
//! given up.
//!
//! A sender tries each event a few times (`retries`). What fails all of them for a reason that may pass is tried again
//! after [`FIRST_REST`], then after twice that and so on, [`LONGEST_REST`] at most, at the end of the run, and at each
//! start. It is given up when it fails and is older than [`LONGEST_AGE`].

use super::{Daemon, Result};
use crate::failpoint;
use crate::history::NotificationRow;
use crate::notify::{Message, Report, Sender, Webhook};
use crate::outbox::{Outbox, run_id};
use crate::role::Role;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long the end of a run waits for what is still to be told.
const LONGEST_FAREWELL: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(3600);
const LONGEST_AGE: Duration = Duration::from_secs(24 * 3600);

/// The threads of the webhooks.
#[derive(Default)]
pub(super) struct Notices {
    webhooks: Vec<Webhook>,
    told: Vec<Told>,
    /// Nothing where nobody is told.
    outbox: Option<Outbox>,
    /// Whether something may wait in the history.
    has_more: bool,
}

/// A webhook that can be told.
struct Told {
    webhook: Webhook,
    sender: Sender,
    /// What is on its way to it, by key.
    places: HashMap<String, Place>,
}

/// Where something is on its way.
#[derive(Clone, Copy)]
struct Place {
    /// When it happened, by the clock of the run.
    time: f64,
    /// How often it has failed with all retries.
    failures: u32,
    /// When it is tried again; nothing while the sender has it.
    rests: Option<Instant>,
}

impl Notices {
    /// Whom it tells, also those that could not be started.
    pub(super) fn webhooks(&self) -> &[Webhook] {
        &self.webhooks
    }

    /// What makes events of what happens; nothing where nobody is told.
    pub(super) fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_ref()
    }

    /// Whether a webhook can be told.
    pub(super) fn is_told(&self, name: &str) -> bool {
        self.told.iter().any(|told| told.webhook.name == name)
    }

    /// Something has been stored that is to be told.
    pub(super) fn wake(&mut self) {
        self.has_more = true;
    }

    /// Tells these webhooks from now on. The threads of those that are sent to as before stay, with what they have. One
    /// that cannot be started is said and left out: it is no reason to end a run.
    fn change(&mut self, webhooks: &[Webhook], outbox: Option<Outbox>) {
        let mut before = std::mem::take(&mut self.told);
        for webhook in webhooks {
            let is_it =
                |told: &Told| told.webhook.name == webhook.name && told.webhook.is_sent_as(webhook);
            if let Some(at) = before.iter().position(is_it) {
                self.told.push(Told { webhook: webhook.clone(), ..before.swap_remove(at) });
                continue;
            }
            match Sender::start(webhook) {
                Ok(sender) => {
                    let (webhook, places) = (webhook.clone(), HashMap::new());
                    self.told.push(Told { webhook, sender, places });
                }
                Err(error) => tracing::error!("{error}; the next start tries again"),
            }
        }
        self.webhooks = webhooks.to_vec();
        self.outbox = outbox;
        self.has_more = true;
    }

    /// Whether the history may hold something that can be offered now.
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let mut places = self.told.iter().flat_map(|told| told.places.values());
        let is_rested = places.any(|place| place.rests.is_some_and(|until| until <= now));
        std::mem::take(&mut self.has_more) || is_rested
    }

    /// What rests is tried now.
    fn end_rests(&mut self) {
        self.told.iter_mut().for_each(Told::end_rests);
    }

    /// Whether nothing is with a sender or waits for one.
    fn is_idle(&self) -> bool {
        let mut places = self.told.iter().flat_map(|told| told.places.values());
        !self.has_more && places.all(|place| place.rests.is_some())
    }
}

impl Told {
    /// What rests is tried now.
    fn end_rests(&mut self) {
        let now = Instant::now();
        for place in self.places.values_mut() {
            place.rests = place.rests.map(|_| now);
        }
    }

    /// Offers what is not on its way yet; whether there was room for all of it. What cannot be read is put into
    /// `unreadable`.
    fn offer(&mut self, rows: Vec<NotificationRow>, unreadable: &mut Vec<String>) -> bool {
        let now = Instant::now();
        for NotificationRow { id, body, time, .. } in rows {
            let place = self.places.get(&id).copied();
            if place.is_some_and(|place| place.rests.is_none_or(|until| until > now)) {
                continue;
            }
            // What was stored by another version may be no event of this one.
            let Ok(event) = serde_json::from_str(&body) else {
                unreadable.push(id);
                continue;
            };
            if !self.sender.offer(Message { id: id.clone(), event }) {
                return false;
            }
            let failures = place.map_or(0, |place| place.failures);
            self.places.insert(id, Place { time, failures, rests: None });
        }
        true
    }
}

/// How long something rests that has failed so often.
fn rest(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_REST * (1 << doublings)).min(LONGEST_REST)
}

impl Daemon<'_> {
    /// Tells these webhooks from now on, or nobody in a dry run.
    pub(super) fn take_webhooks(&mut self, webhooks: &[Webhook]) -> Result<()> {
        let webhooks = if self.options.dry_run { &[] } else { webhooks };
        let outbox = match webhooks.is_empty() {
            true => None,
            false => {
                let state = &self.config.state;
                let id = self.keep(|history| run_id(history, state))?;
                Some(Outbox::new(id, &self.config.name, webhooks))
            }
        };
        if !self.options.dry_run {
            let known: Vec<&str> = webhooks.iter().map(|webhook| webhook.name.as_str()).collect();
            let now = self.clock.now();
            let since = now - LONGEST_AGE.as_secs_f64();
            self.keep(|history| history.give_up_unknown(&known, since, now))?;
        }
        // What a sender has told before it ends is not to be told again.
        self.take_reports()?;
        self.notices.change(webhooks, outbox);
        Ok(())
    }

    /// Tells the last decision to who has not heard of it: a webhook that is new.
    pub(super) fn tell_last_decision(&mut self) -> Result<()> {
        let Some(last) = self.history.last_decision()? else { return Ok(()) };
        let Some(outbox) = self.notices.outbox() else { return Ok(()) };
        let rows = outbox.decision(&last.decision, &last.document, self.clock.now())?;
        self.tell(&rows)
    }

    /// What tells that the last decision has not been acknowledged; one webhook as a rung of the ladder, or all who
    /// want to know.
    pub(super) fn unacknowledged(
        &self,
        silent: &[Role],
        rung: Option<(&str, Duration)>,
    ) -> Result<Vec<NotificationRow>> {
        let Some(last) = self.history.last_decision()? else { return Ok(Vec::new()) };
        let Some(outbox) = self.notices.outbox() else { return Ok(Vec::new()) };
        Ok(outbox.unacknowledged(&last, silent, rung, self.clock.now())?)
    }

    /// Tells something else. It has a number, so that the same words are told again when it happens again.
    pub(super) fn tell_notice(&mut self, text: String) -> Result<()> {
        let number = self.history.next_notice()?;
        let Some(outbox) = self.notices.outbox() else { return Ok(()) };
        let rows = outbox.notice(number, text, self.clock.now())?;
        self.keep(|history| history.add_numbered(number, &rows))?;
        failpoint::reach("notification-added");
        self.notices.wake();
        Ok(())
    }

    /// Of what is known already nothing happens.
    pub(super) fn tell(&mut self, rows: &[NotificationRow]) -> Result<()> {
        if self.keep(|history| history.add_notifications(rows))? {
            failpoint::reach("notification-added");
            self.notices.wake();
        }
        Ok(())
    }

    /// Writes down what came of earlier messages, and queues what waits as far as there is room.
    pub(super) fn tend_notices(&mut self) -> Result<()> {
        self.take_reports()?;
        if !self.notices.is_due() {
            return Ok(());
        }
        let Self { notices, history, .. } = self;
        let mut all_unreadable = Vec::new();
        for told in &mut notices.told {
            let rows = history.open_notifications(&told.webhook.name, told.places.len())?;
            let mut unreadable = Vec::new();
            notices.has_more |= !told.offer(rows, &mut unreadable);
            let name = &told.webhook.name;
            all_unreadable.extend(unreadable.into_iter().map(|id| (name.clone(), id)));
        }
        for (webhook, id) in all_unreadable {
            let error = "another version of convergd has stored it, which this one cannot read";
            tracing::warn!(webhook, id, "given up: {error}");
            self.metrics.count_given_up();
            let now = self.clock.now();
            self.keep(|history| history.end_notification(&webhook, &id, 0, Some(error), now))?;
        }
        Ok(())
    }

    fn take_reports(&mut self) -> Result<()> {
        for at in 0..self.notices.told.len() {
            while let Some(report) = self.notices.told[at].sender.report() {
                self.note_report(at, report)?;
            }
        }
        Ok(())
    }

    fn note_report(&mut self, at: usize, report: Report) -> Result<()> {
        let Report { id, attempts, failure } = report;
        let now = self.clock.now();
        let Told { webhook, places, .. } = &self.notices.told[at];
        let (webhook, place) = (webhook.name.clone(), places.get(&id).copied());
        let failed = if failure.is_some() { attempts } else { attempts.saturating_sub(1) };
        self.metrics.count_webhook(failure.is_none(), failed);
        let is_old = place.is_none_or(|place| now - place.time >= LONGEST_AGE.as_secs_f64());
        let next = match &failure {
            Some(failure) if failure.is_passing && !is_old => {
                let error = failure.message.as_str();
                self.keep(|history| history.note_attempts(&webhook, &id, attempts, error))?;
                place
            }
            failure => {
                let error = failure.as_ref().map(|failure| failure.message.as_str());
                match error {
                    None => {
                        tracing::info!(webhook, attempts, "told");
                        // It answers again, so what rests need not.
                        self.notices.told[at].end_rests();
                    }
                    Some(error) => {
                        tracing::warn!(webhook, id, "given up: {error}");
                        self.metrics.count_given_up();
                    }
                }
                self.keep(|history| history.end_notification(&webhook, &id, attempts, error, now))?;
                failpoint::reach("notification-ended");
                None
            }
        };
        let places = &mut self.notices.told[at].places;
        match next {
            Some(Place { time, failures, .. }) => {
                let failures = failures + 1;
                let rests = Some(Instant::now() + rest(failures));
                places.insert(id, Place { time, failures, rests });
            }
            None => {
                places.remove(&id);
            }
        }
        Ok(())
    }

    /// At the end of a run: waits a while until everything is told. What is not is told by the next start.
    pub(super) fn say_farewell(&mut self) -> Result<()> {
        let started = Instant::now();
        self.notices.end_rests();
        loop {
            self.tend_notices()?;
            let is_over = self.notices.is_idle() || started.elapsed() >= LONGEST_FAREWELL;
            if is_over || self.is_interrupted {
                return Ok(());
            }
            self.is_interrupted = self.interrupts.recv_timeout(POLL).is_ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_an_hour_and_a_day_holds_a_few_dozen() {
        let seconds = |failures| rest(failures).as_secs();
        assert_eq!([1, 2, 3, 9, 10, u32::MAX].map(seconds), [10, 20, 40, 2560, 3600, 3600]);
        let of_a_day = (1..).scan(0, |sum, failures| {
            *sum += seconds(failures);
            Some(*sum)
        });
        let of_a_day = of_a_day.take_while(|sum| *sum <= LONGEST_AGE.as_secs()).count();
        assert!((20..50).contains(&of_a_day), "{of_a_day}");
    }
}
