//! What webhooks are to be told, as rows that are stored in one transaction with what they tell of.
//!
//! Pure, but for the name of the run: who is told what, in which words, and under which key.

use crate::clock::now;
use crate::history::{DeliveryRow, History, HistoryError, NotificationRow};
use crate::notify::{Event, Topic, Webhook, key};
use crate::policy::{Decision, Notice};
use crate::role::Role;
use crate::signal::Document;
use std::path::Path;
use std::time::Duration;

type Result<T> = std::result::Result<T, HistoryError>;

/// Whom a run tells.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// What tells this run from others that a webhook is told of.
    id: String,
    /// The name of the run.
    name: String,
    webhooks: Vec<Webhook>,
}

impl Outbox {
    /// That of a run that is known to webhooks as `id`.
    pub fn new(id: String, name: &str, webhooks: &[Webhook]) -> Self {
        Self { id, name: name.to_owned(), webhooks: webhooks.to_vec() }
    }

    /// A decision; of one that is known already nothing comes, since it has the same key.
    ///
    /// # Errors
    /// serde_json's, here and below.
    pub fn decision(
        &self,
        decision: &Decision,
        document: &Document,
        time: f64,
    ) -> Result<Vec<NotificationRow>> {
        let Decision { action, step, rule, reason, .. } = decision;
        let words = match action.as_str() {
            "phase" => format!("phase `{}` (λ = {})", decision.phase, decision.lambda),
            action => action.to_owned(),
        };
        let best =
            decision.best_step.map(|best| format!(" Best step: {best}.")).unwrap_or_default();
        let text = format!("{words} at step {step} by rule `{rule}`: {reason}.{best}");
        let generation = document.generation.to_string();
        let event = self.event(Topic::Decision, &[&decision.id, &generation], text, time);
        self.rows(Topic::Decision, &event.about(decision, document))
    }

    /// A pair: what was decided at it, and what rules had to say.
    ///
    /// # Errors
    /// As above.
    pub fn pair(
        &self,
        delivery: Option<&DeliveryRow>,
        notices: &[Notice],
        time: f64,
    ) -> Result<Vec<NotificationRow>> {
        let mut rows = Vec::new();
        for notice in notices {
            rows.append(&mut self.rule(notice, time)?);
        }
        if let Some(DeliveryRow { decision, document, .. }) = delivery {
            rows.append(&mut self.decision(decision, document, time)?);
        }
        Ok(rows)
    }

    /// What a rule has to say. A marked best is nobody's news.
    fn rule(&self, notice: &Notice, time: f64) -> Result<Vec<NotificationRow>> {
        let Notice { id, rule, action, message, severity, step, reason, .. } = notice;
        if action == "mark_best" {
            return Ok(Vec::new());
        }
        let severity = severity.map(|severity| format!(" ({})", severity.name()));
        let message = message.as_ref().map(|message| format!("{message}: "));
        let (severity, message) = (severity.unwrap_or_default(), message.unwrap_or_default());
        let text = format!("{action}{severity} at step {step} by rule `{rule}`: {message}{reason}");
        let event = self.event(Topic::Notice, &["notice", id], text, time);
        self.rows(Topic::Notice, &event)
    }

    /// A decision that has not been acknowledged; one webhook as a rung of the ladder, or all who want to know.
    ///
    /// # Errors
    /// As above.
    pub fn unacknowledged(
        &self,
        last: &DeliveryRow,
        silent: &[Role],
        rung: Option<(&str, Duration)>,
        time: f64,
    ) -> Result<Vec<NotificationRow>> {
        let DeliveryRow { decision, document, .. } = last;
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
        let event = self.event(topic, &[&decision.id, &generation, &which], text, time);
        let event = Event { silent, ..event.about(decision, document) };
        match rung {
            Some((webhook, _)) => Ok(vec![row(webhook, &event)?]),
            None => self.rows(topic, &event),
        }
    }

    /// The end of the training after so many pairs and interventions. Where nothing has come since, it is the same
    /// end, which is told once however often a run finds it.
    ///
    /// # Errors
    /// As above.
    pub fn end(&self, after: [u64; 2], why: &str, time: f64) -> Result<Vec<NotificationRow>> {
        let text = format!("training has ended: {why}");
        let [pairs, interventions] = after.map(|count| count.to_string());
        let event = self.event(Topic::Notice, &["end", &pairs, &interventions], text, time);
        self.rows(Topic::Notice, &event)
    }

    /// Something that may happen again, in the same words and at the same step; its number tells it from others.
    ///
    /// # Errors
    /// As above.
    pub fn notice(&self, number: u64, text: String, time: f64) -> Result<Vec<NotificationRow>> {
        let event = self.event(Topic::Notice, &["notice", &number.to_string()], text, time);
        self.rows(Topic::Notice, &event)
    }

    fn event(&self, topic: Topic, parts: &[&str], text: String, time: f64) -> Event {
        let parts: Vec<&str> =
            std::iter::once(self.id.as_str()).chain(parts.iter().copied()).collect();
        Event::new(topic, key(&parts), &self.name, text, time)
    }

    /// A row for each webhook that wants to know.
    fn rows(&self, topic: Topic, event: &Event) -> Result<Vec<NotificationRow>> {
        let wanting = self.webhooks.iter().filter(|webhook| webhook.on.contains(&topic));
        wanting.map(|webhook| row(&webhook.name, event)).collect()
    }
}

fn row(webhook: &str, event: &Event) -> Result<NotificationRow> {
    Ok(NotificationRow {
        webhook: webhook.to_owned(),
        id: event.id.clone(),
        body: serde_json::to_string(event)?,
        generation: event.control.as_ref().map(|document| document.generation),
        time: event.time,
        ended: None,
        delivered: None,
        attempts: 0,
        error: None,
    })
}

/// What tells a run from others that a webhook is told of; kept where it is not known yet.
///
/// # Errors
/// SQLite's.
pub fn run_id(history: &History, state: &Path) -> Result<String> {
    if let Some(id) = history.fact("run id")? {
        return Ok(id);
    }
    let seed = format!("{} {} {}", now(), std::process::id(), state.display());
    let id: String = blake3::hash(seed.as_bytes()).to_hex().chars().take(12).collect();
    history.keep_fact("run id", &id)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::{Endpoint, Format};

    fn outbox() -> Outbox {
        let webhook = |name: &str, on: &[Topic]| Webhook {
            name: name.to_owned(),
            endpoint: Endpoint::Variable("URL".to_owned()),
            format: Format::Json,
            secret_env: None,
            timeout: Duration::from_secs(1),
            retries: 0,
            on: on.to_vec(),
        };
        let webhooks = [webhook("ops", &[Topic::Notice]), webhook("chat", &[Topic::Decision])];
        Outbox::new("ab12".to_owned(), "run", &webhooks)
    }

    #[test]
    fn the_same_words_twice_are_two_events_and_the_same_end_is_one() {
        let ids = |rows: Vec<NotificationRow>| -> Vec<(String, String)> {
            rows.into_iter().map(|row| (row.webhook, row.id)).collect()
        };
        let notice =
            |number| ids(outbox().notice(number, "refused".to_owned(), 1.0).expect("made"));
        assert_eq!(notice(1), [("ops".to_owned(), "ab12/notice/1".to_owned())]);
        assert_ne!(notice(1), notice(2));
        let end = |pairs, interventions| {
            ids(outbox().end([pairs, interventions], "idle", 1.0).expect("made"))
        };
        assert_eq!(end(3, 0), end(3, 0));
        assert_ne!(end(3, 0), end(4, 0));
        // After a stop and a `resume` that brought nothing.
        assert_ne!(end(3, 0), end(3, 2));
    }
}
