//! What `status` says of a decision on its way to the trainers.

use super::say;
use crate::account::Told;
use crate::config::Config;
use crate::control::Control;
use crate::history::{DeliveryRow, EscalationRow, NotificationRow};
use crate::role::Role;
use std::collections::BTreeSet;

pub(super) fn describe(told: &Told) {
    for row in &told.escalations {
        let EscalationRow { after, measure, result, detail, .. } = row;
        let result = result.as_deref().unwrap_or("begun, and no more is known");
        let detail = detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        say(format!("            escalated after {after:?}: {measure}: {result}{detail}"));
    }
    for (network, step, _) in &told.acknowledged {
        let latency = told.latency(network);
        let latency = latency.map(|s| format!(", {s:.1} s after it was told")).unwrap_or_default();
        say(format!("            acknowledged by {network} at step {step}{latency}"));
    }
    let webhooks: BTreeSet<&str> = told.untold.iter().map(|row| row.webhook.as_str()).collect();
    for webhook in webhooks {
        let of = |is_over: bool| {
            let own = told.untold.iter().filter(|row| row.webhook == webhook);
            own.filter(|row| row.ended.is_some() == is_over).collect::<Vec<_>>()
        };
        describe_untold(webhook, "was not told", &of(true));
        describe_untold(webhook, "is still to be told", &of(false));
    }
}

/// Who has not answered the decision, the last one, nor told that he is at his end.
pub(super) fn describe_silent(told: &Told, row: &DeliveryRow, config: &Config) {
    if row.delivered.is_none() {
        return;
    }
    let control = Control::new(config.control.clone());
    let is_silent = |role: &Role| {
        let has_answered = told.acknowledged.iter().any(|(network, ..)| network == role.name());
        !has_answered && !control.is_done(*role)
    };
    let is_gone = |role: &Role| control.process(*role)?.is_gone();
    let silent = config.trainings().filter(is_silent);
    let (gone, silent): (Vec<_>, Vec<_>) = silent.partition(|role| is_gone(role) == Some(true));
    for role in gone {
        say(format!("            not acknowledged by {role}, whose process has ended"));
    }
    if silent.is_empty() {
        return;
    }
    // A client answers the first thing that it reads.
    let is_polled = silent.iter().any(|role| control.acknowledgement(*role).is_some());
    let hint = match row.decision.action.as_str() {
        _ if !is_polled => ": nobody has read the control directory there",
        "stop" => "; see whether they train on (`control.escalate` does more than to tell them)",
        _ => "",
    };
    let names: Vec<_> = silent.into_iter().map(Role::name).collect();
    say(format!("            not acknowledged by {}{hint}", names.join(", ")));
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
