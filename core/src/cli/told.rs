//! What `status` says of a decision on its way to the trainers: answers, how long they took, rungs of the ladder.

use super::say;
use crate::history::{DeliveryRow, EscalationRow, History, NotificationRow};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Answers and rungs of one decision.
pub(super) struct Told {
    /// Network, step, time by the trainer's clock.
    acknowledged: Vec<(String, u64, f64)>,
    /// Network, seconds from the delivery.
    latencies: Vec<(String, f64)>,
    escalations: Vec<EscalationRow>,
    /// What webhooks were to be told and were not, of the whole run.
    untold: Vec<NotificationRow>,
}

impl Told {
    /// Of a decision, or of none.
    pub(super) fn of(history: &History, decision: Option<&DeliveryRow>) -> anyhow::Result<Self> {
        let untold = history.untold()?;
        let Some(row) = decision else {
            let (acknowledged, latencies, escalations) = Default::default();
            return Ok(Self { acknowledged, latencies, escalations, untold });
        };
        let generation = row.document.generation;
        Ok(Self {
            acknowledged: history.acknowledgements(generation)?,
            latencies: history.latencies(generation)?,
            escalations: history.escalations(generation)?,
            untold,
        })
    }

    fn latency(&self, network: &str) -> Option<f64> {
        self.latencies.iter().find(|(of, _)| of == network).map(|(_, seconds)| *seconds)
    }

    pub(super) fn acknowledged(&self) -> Vec<Value> {
        let answers = self.acknowledged.iter().map(|(network, step, time)| {
            let latency = self.latency(network);
            json!({"network": network, "step": step, "time": time, "latency": latency})
        });
        answers.collect()
    }

    pub(super) fn escalations(&self) -> Vec<Value> {
        let rungs = self.escalations.iter().map(|row| {
            json!({
                "after": row.after.as_secs_f64(), "kind": row.kind, "measure": row.measure,
                "time": row.time, "result": row.result, "detail": row.detail,
            })
        });
        rungs.collect()
    }

    pub(super) fn untold(&self) -> Vec<Value> {
        let rows = self.untold.iter().map(|row| {
            let NotificationRow { webhook, id, ended, attempts, error, .. } = row;
            json!({
                "webhook": webhook, "id": id, "ended": ended, "attempts": attempts, "error": error,
            })
        });
        rows.collect()
    }

    pub(super) fn describe(&self) {
        for row in &self.escalations {
            let EscalationRow { after, measure, result, detail, .. } = row;
            let result = result.as_deref().unwrap_or("begun, and no more is known");
            let detail = detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            say(format!("            escalated after {after:?}: {measure}: {result}{detail}"));
        }
        for (network, step, _) in &self.acknowledged {
            let latency = self.latency(network);
            let latency =
                latency.map(|s| format!(", {s:.1} s after it was told")).unwrap_or_default();
            say(format!("            acknowledged by {network} at step {step}{latency}"));
        }
        let webhooks: BTreeSet<&str> = self.untold.iter().map(|row| row.webhook.as_str()).collect();
        for webhook in webhooks {
            let of = |is_over: bool| {
                let own = self.untold.iter().filter(|row| row.webhook == webhook);
                own.filter(|row| row.ended.is_some() == is_over).collect::<Vec<_>>()
            };
            describe_untold(webhook, "was not told", &of(true));
            describe_untold(webhook, "is still to be told", &of(false));
        }
    }
}

/// One line, however many they are: the last error is that of all as a rule.
fn describe_untold(webhook: &str, what: &str, rows: &[&NotificationRow]) {
    let Some(last) = rows.iter().rev().find(|row| row.error.is_some()).or(rows.last()) else {
        return;
    };
    let count = match rows.len() {
        1 => "something".to_owned(),
        count => format!("{count} things"),
    };
    let attempts: u32 = rows.iter().map(|row| row.attempts).sum();
    let why = last.error.as_ref().map(|error| format!(" ({attempts} attempts): {error}"));
    say(format!("webhook     `{webhook}` {what} {count}{}", why.unwrap_or_default()));
}
