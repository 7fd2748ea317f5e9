//! Metrics of what the rules remember and say.

use super::register::{New, show};
use crate::policy::{Action, Best, Policy, PolicyState};
use prometheus::{GaugeVec, IntCounterVec};

const NOTICES: [&str; 3] = ["mark_best", "notify", "alert"];

/// They, registered.
#[derive(Clone)]
pub struct RuleMetrics {
    best: GaugeVec,
    best_stderr: GaugeVec,
    best_step: GaugeVec,
    checks_left: GaugeVec,
    alert: GaugeVec,
    notices_total: IntCounterVec,
}

impl RuleMetrics {
    pub(super) fn new(new: &New<'_>) -> prometheus::Result<Self> {
        let metrics = Self {
            best: new.gauges(
                "monitor_best",
                "Best value of a monitor since the warm-up, smoothed as the rule that follows it says",
                &["monitor"],
            )?,
            best_stderr: new.gauges(
                "monitor_best_stderr",
                "Standard error of the monitor at its best value",
                &["monitor"],
            )?,
            best_step: new.gauges(
                "monitor_best_step",
                "Training step of the best value of the monitor",
                &["monitor"],
            )?,
            checks_left: new.gauges(
                "patience_remaining_checks",
                "Pairs without a better value until the patience of the rule is used up",
                &["rule"],
            )?,
            alert: new.gauges(
                "rule_alert",
                "1 while the condition of a rule with an alert holds",
                &["rule", "severity"],
            )?,
            notices_total: new.counters(
                "notices_total",
                "What rules had to say beside decisions",
                &["action"],
            )?,
        };
        for action in NOTICES {
            metrics.notices_total.with_label_values(&[action]);
        }
        Ok(metrics)
    }

    /// Shows where the rules stand: the best values that they know, their patience, and which alerts hold.
    pub fn show(&self, policy: &Policy, state: &PolicyState) {
        let bests = policy.bests(state);
        let of = |what: fn(&Best) -> f64| -> Vec<([&str; 1], f64)> {
            bests.iter().map(|(monitor, best)| ([monitor.name()], what(best))).collect()
        };
        show(&self.best, &of(|best| best.value));
        show(&self.best_stderr, &of(|best| best.standard_error));
        show(&self.best_step, &of(|best| best.at.step as f64));
        let left = policy.checks_left(state);
        let left: Vec<_> = left.into_iter().map(|(rule, left)| ([rule], f64::from(left))).collect();
        show(&self.checks_left, &left);
        let alerts = policy.rules.iter().filter_map(|rule| {
            let Action::Alert { severity, .. } = rule.then else { return None };
            let holds = state.rules.get(&rule.id).is_some_and(|memory| memory.holds);
            Some(([rule.id.as_str(), severity.name()], f64::from(u8::from(holds))))
        });
        show(&self.alert, &alerts.collect::<Vec<_>>());
    }

    /// Counts a notice.
    pub fn count_notice(&self, action: &str) {
        self.notices_total.with_label_values(&[action]).inc();
    }
}
