//! Metrics of what trainers are told and how they answer.

use super::register::New;
use crate::role::Role;
use prometheus::{Gauge, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

/// Seconds; from a trainer that polls at every step to one that polls once an epoch.
const DELAY_BUCKETS: [f64; 10] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0];
const CHANNELS: [&str; 3] = ["signal", "webhook", "exec"];
const OUTCOMES: [&str; 3] = ["success", "failure", "skipped"];
/// Of decisions.
pub(super) const ACTIONS: [&str; 3] = ["stop", "phase", "continue"];

/// They, registered.
#[derive(Clone)]
pub struct ControlMetrics {
    escalations_total: IntCounterVec,
    unacknowledged: IntGaugeVec,
    ack_delay: HistogramVec,
    reload_success: IntGauge,
    reload_timestamp: Gauge,
}

impl ControlMetrics {
    pub(super) fn new(new: &New<'_>) -> prometheus::Result<Self> {
        let metrics = Self {
            escalations_total: new.counters(
                "escalations_total",
                "Rungs of the ladder that were climbed, by what was done and what came of it",
                &["channel", "outcome"],
            )?,
            unacknowledged: new.whole_gauges(
                "decisions_unacknowledged",
                "1 for a network that has neither acknowledged the last decision nor ended",
                &["network", "action"],
            )?,
            ack_delay: new.histograms(
                "decision_ack_delay_seconds",
                "Time from the delivery of a decision to its acknowledgement",
                &["network"],
                &DELAY_BUCKETS,
            )?,
            reload_success: new.whole_gauge(
                "config_last_reload_successful",
                "Whether the configuration was good when it was read last",
            )?,
            reload_timestamp: new.gauge(
                "config_last_reload_timestamp_seconds",
                "When the configuration that runs was read",
            )?,
        };
        for (channel, outcome) in CHANNELS.iter().flat_map(|c| OUTCOMES.map(|o| (c, o))) {
            metrics.escalations_total.with_label_values(&[channel, outcome]);
        }
        metrics.show_unacknowledged(None, &[]);
        for role in Role::BOTH {
            metrics.ack_delay.with_label_values(&[role.name()]);
        }
        Ok(metrics)
    }

    /// Shows whether the configuration could be read, and since when it runs.
    pub fn show_reload(&self, succeeded: bool, now: f64) {
        self.reload_success.set(i64::from(succeeded));
        if succeeded {
            self.reload_timestamp.set(now);
        }
    }

    /// Shows who has neither acknowledged the last decision, which is of this action, nor ended.
    pub fn show_unacknowledged(&self, action: Option<&str>, silent: &[Role]) {
        for (role, of) in Role::BOTH.iter().flat_map(|role| ACTIONS.map(|action| (role, action))) {
            let is_so = action == Some(of) && silent.contains(role);
            self.unacknowledged.with_label_values(&[role.name(), of]).set(i64::from(is_so));
        }
    }

    /// Counts a rung.
    pub fn count_escalation(&self, channel: &str, outcome: &str) {
        self.escalations_total.with_label_values(&[channel, outcome]).inc();
    }

    /// Records how long an acknowledgement took, in seconds.
    pub fn observe_ack(&self, role: Role, seconds: f64) {
        self.ack_delay.with_label_values(&[role.name()]).observe(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use crate::role::Role;

    #[test]
    fn answers_and_rungs_are_counted_from_zero() {
        let metrics = Metrics::new("cpu").expect("registered");
        let says = |line: &str| {
            let text = metrics.encode().expect("encoded");
            assert!(text.lines().any(|said| said == line), "{line}\n{text}");
        };
        says("convergd_escalations_total{channel=\"signal\",outcome=\"success\"} 0");
        says("convergd_decision_ack_delay_seconds_count{network=\"target\"} 0");
        let silent = "convergd_decisions_unacknowledged{action=\"stop\",network=\"baseline\"}";
        says(&format!("{silent} 0"));
        metrics.control.show_unacknowledged(Some("stop"), &[Role::Baseline]);
        says(&format!("{silent} 1"));
        says("convergd_decisions_unacknowledged{action=\"stop\",network=\"target\"} 0");
        metrics.control.show_unacknowledged(Some("phase"), &[]);
        says(&format!("{silent} 0"));
        metrics.control.count_escalation("signal", "success");
        metrics.control.observe_ack(Role::Target, 2.5);
        metrics.count_webhook(false, 4);
        says("convergd_escalations_total{channel=\"signal\",outcome=\"success\"} 1");
        says("convergd_decision_ack_delay_seconds_sum{network=\"target\"} 2.5");
        says("convergd_decision_ack_delay_seconds_bucket{network=\"target\",le=\"1\"} 0");
        says("convergd_decision_ack_delay_seconds_bucket{network=\"target\",le=\"3\"} 1");
        says("convergd_control_deliveries_total{channel=\"webhook\",outcome=\"failure\"} 4");
        says("convergd_control_deliveries_total{channel=\"webhook\",outcome=\"success\"} 0");
    }
}
