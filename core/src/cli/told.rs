//! What `status` says of a decision on its way to the trainers.

use super::say;
use crate::account::Told;
use crate::config::Config;
use crate::control::{Control, look_at_pid_file};
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
    let has_answered =
        |role: &Role| told.acknowledged.iter().any(|(network, ..)| network == role.name());
    let silent = config.trainings().filter(|role| !has_answered(role));
    let (done, silent): (Vec<_>, Vec<_>) = silent.partition(|role| control.is_done(*role));
    for role in done {
        say(format!(
            "            {role} is at its end (`done-{role}`), and needs to acknowledge nothing"
        ));
    }
    let is_gone = |role: &Role| {
        let before = told.seen[role.index()].as_ref();
        // It may have been started again since the run looked.
        let file = config.control.pid_files[role.index()].as_ref();
        let now = file.and_then(|file| look_at_pid_file(file, before));
        let known = control.known_process(*role, now.as_ref().or(before));
        known.and_then(|process| process.is_gone()) == Some(true)
    };
    let (gone, silent): (Vec<_>, Vec<_>) = silent.into_iter().partition(is_gone);
    for role in gone {
        say(format!("            not acknowledged by {role}, whose process has ended"));
    }
    if silent.is_empty() {
        return;
    }
    // The clients answer the first thing that they read.
    let never = match silent.iter().any(|role| control.acknowledgement(*role).is_some()) {
        true => "",
        false => ", of whom no answer was ever in the control directory",
    };
    let hint = match row.decision.action.as_str() {
        "stop" => "; see whether they train on (`control.escalate` does more than to tell them)",
        _ => "",
    };
    let names: Vec<_> = silent.into_iter().map(Role::name).collect();
    say(format!("            not acknowledged by {}{never}{hint}", names.join(", ")));
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
