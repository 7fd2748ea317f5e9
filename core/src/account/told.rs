//! A decision on its way to the trainers: answers, how long they took, rungs of the ladder.

use crate::control::Sighting;
use crate::history::{DeliveryRow, EscalationRow, History, HistoryError, NotificationRow};
use crate::role::Role;
use serde_json::{Value, json};

/// Answers and rungs of one decision.
pub struct Told {
    /// Network, step, time by the trainer's clock.
    pub acknowledged: Vec<(String, u64, f64)>,
    /// Network, seconds from the delivery.
    pub latencies: Vec<(String, f64)>,
    /// Rungs of the ladder that were begun.
    pub escalations: Vec<EscalationRow>,
    /// What webhooks were to be told and were not, of the whole run.
    pub untold: Vec<NotificationRow>,
    /// What was seen in pid files, (target, baseline).
    pub seen: [Option<Sighting>; 2],
}

impl Told {
    /// Of a decision, or of none.
    ///
    /// # Errors
    /// The history's.
    pub fn of(history: &History, decision: Option<&DeliveryRow>) -> Result<Self, HistoryError> {
        let untold = history.untold()?;
        let [target, baseline] = Role::BOTH.map(|role| history.sighting(role));
        let seen = [target?, baseline?].map(Sighting::of);
        let Some(row) = decision else {
            let (acknowledged, latencies, escalations) = Default::default();
            return Ok(Self { acknowledged, latencies, escalations, untold, seen });
        };
        let generation = row.document.generation;
        Ok(Self {
            acknowledged: history.acknowledgements(generation)?,
            latencies: history.latencies(generation)?,
            escalations: history.escalations(generation)?,
            untold,
            seen,
        })
    }

    /// Seconds from the delivery to a network's answer.
    pub fn latency(&self, network: &str) -> Option<f64> {
        self.latencies.iter().find(|(of, _)| of == network).map(|(_, seconds)| *seconds)
    }

    /// The answers: `network`, `step`, `time`, `latency`.
    pub fn acknowledged(&self) -> Vec<Value> {
        let answers = self.acknowledged.iter().map(|(network, step, time)| {
            let latency = self.latency(network);
            json!({"network": network, "step": step, "time": time, "latency": latency})
        });
        answers.collect()
    }

    /// The rungs: `after`, `kind`, `measure`, `time`, `result`, `detail`.
    pub fn escalations(&self) -> Vec<Value> {
        let rungs = self.escalations.iter().map(|row| {
            json!({
                "after": row.after.as_secs_f64(), "kind": row.kind, "measure": row.measure,
                "time": row.time, "result": row.result, "detail": row.detail,
            })
        });
        rungs.collect()
    }

    /// What webhooks were not told: `webhook`, `id`, `ended`, `attempts`, `error`.
    pub fn untold(&self) -> Vec<Value> {
        let rows = self.untold.iter().map(|row| {
            let NotificationRow { webhook, id, ended, attempts, error, .. } = row;
            json!({
                "webhook": webhook, "id": id, "ended": ended, "attempts": attempts, "error": error,
            })
        });
        rows.collect()
    }
}
