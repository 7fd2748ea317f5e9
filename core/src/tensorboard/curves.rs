//! What a pair and a decision become in TensorBoard.
//!
//! A tag is a chart, a run a colour in it. So what both networks have goes under one tag into the run of each:
//! `probe_loss_target` is `probe_loss` of the run `target`, beside the mean of both in the run `pair`.

use super::event::{Event, Value};
use crate::convergence::{Monitor, Strength};
use crate::history::{DeliveryRow, PairRow};
use crate::policy::Notice;
use crate::role::Role;

/// The tag of decisions.
pub(super) const DECISIONS: &str = "decisions";
const NOTICES: &str = "notices";

/// Whose curves a run of TensorBoard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of one network.
    Network(Role),
    /// What the two have together, decisions and notices.
    Pair,
}

impl Whose {
    pub(super) const ALL: [Self; 3] =
        [Self::Network(Role::Target), Self::Network(Role::Baseline), Self::Pair];

    /// The name of the run and of its directory.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Network(role) => role.name(),
            Self::Pair => "pair",
        }
    }

    /// The tag of a monitor, where it is of this run.
    fn tag(self, monitor: Monitor) -> Option<&'static str> {
        let own = Role::BOTH.into_iter().find_map(|role| {
            let tag = monitor.name().strip_suffix(role.name())?.strip_suffix('_')?;
            Some((Self::Network(role), tag))
        });
        let (whose, tag) = own.unwrap_or((Self::Pair, monitor.name()));
        (whose == self).then_some(tag)
    }

    /// The event of a pair.
    pub(super) fn pair(self, pair: &PairRow, notices: &[Notice]) -> Event {
        let mut values = Vec::new();
        for (&monitor, estimate) in &pair.monitors {
            if let Some(tag) = self.tag(monitor) {
                values.push(Value::number(tag, estimate.value));
                values.push(Value::number(format!("stderr/{tag}"), estimate.standard_error));
            }
        }
        match self {
            Self::Network(role) => values.extend(strengths(&pair.strengths[role.index()])),
            Self::Pair => {
                let share = pair.certified as f64 / pair.samples.max(1) as f64;
                values.push(Value::number("extraction/certified_share", share));
                values.push(Value::number("extraction/gap_max", pair.gap_max));
                values.push(Value::number("policy/lambda", pair.policy.lambda));
                values.extend(notices.iter().map(notice));
            }
        }
        Event::of(pair.step, pair.time, values)
    }
}

/// Mean strength by order in log-odds: all salient effects, and those that converge.
fn strengths(orders: &[Strength]) -> impl Iterator<Item = Value> {
    // Order 0 is the empty set, which has no effect.
    orders.iter().enumerate().skip(1).flat_map(|(order, strength)| {
        let Strength { positive, negative, convergent_positive, convergent_negative } = *strength;
        [
            ("all_positive", positive),
            ("all_negative", negative),
            ("convergent_positive", convergent_positive),
            ("convergent_negative", convergent_negative),
        ]
        .map(|(kind, value)| Value::number(format!("strength/order_{order}/{kind}"), value))
    })
}

fn notice(notice: &Notice) -> Value {
    Value::text(NOTICES, format!("**{}**\n\n{}", notice.headline(), notice.reason))
}

/// The event of a decision.
pub(super) fn decision(row: &DeliveryRow) -> Event {
    let decision = &row.decision;
    let best = decision.best_step.map(|step| format!("\n\nbest step: {step}"));
    let text = format!(
        "**{}**\n\n{}{}\n\nphase: {}, λ = {}",
        decision.headline(),
        decision.reason,
        best.unwrap_or_default(),
        decision.phase,
        decision.lambda
    );
    Event::of(decision.step, decision.time, vec![Value::text(DECISIONS, text)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_monitor_is_in_one_run_and_both_networks_share_a_tag() {
        for &monitor in Monitor::ALL {
            let runs = Whose::ALL.into_iter().filter(|run| run.tag(monitor).is_some());
            assert_eq!(runs.count(), 1, "{monitor}");
        }
        let loss = [Monitor::ProbeLossTarget, Monitor::ProbeLossBaseline, Monitor::ProbeLoss];
        for (run, monitor) in Whose::ALL.into_iter().zip(loss) {
            assert_eq!(run.tag(monitor), Some("probe_loss"));
        }
        assert_eq!(Whose::Pair.tag(Monitor::ConvergenceScore), Some("convergence_score"));
    }
}
