//! What the rules wait for, what was decided and what was said.

use super::palette::Palette;
use super::watch::Seen;
use ratatui::text::{Line, Span};

/// Each rule: the patience that is left to it, and why its condition holds or not.
pub(super) fn rules(seen: &Seen, look: Palette) -> Vec<Line<'_>> {
    let left = seen.state.rules.checks_left(&seen.state.policy);
    let rules = seen.state.reasons().map(|(rule, reason)| {
        let mut parts = vec![Span::styled(rule, look.title()), Span::raw("  ")];
        if let Some(left) = left.get(rule) {
            let checks = if *left == 1 { "check" } else { "checks" };
            parts.push(Span::styled(format!("{left} {checks} left  "), look.best()));
        }
        parts.push(Span::raw(reason));
        Line::from(parts)
    });
    rules.collect()
}

/// Decisions and notices, the newest first.
pub(super) fn events(seen: &Seen, look: Palette) -> Vec<Line<'_>> {
    let count = seen.state.decisions.len();
    let decisions = seen.state.decisions.iter().enumerate().map(|(at, row)| {
        let decision = &row.decision;
        let mut parts = vec![Span::styled(decision.headline(), look.decision()), Span::raw("  ")];
        let delivery = delivery(seen, at + 1 == count);
        parts.extend(delivery.map(|text| Span::styled(text, look.quiet())));
        parts.push(Span::raw(decision.reason.as_str()));
        (decision.time, parts)
    });
    let notices = seen.state.notices.iter().rev().map(|notice| {
        let parts = vec![
            Span::styled(notice.headline(), look.warning()),
            Span::raw("  "),
            Span::raw(notice.reason.as_str()),
        ];
        (notice.time, parts)
    });
    let mut all: Vec<_> = decisions.chain(notices).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.into_iter().map(|(_, parts)| Line::from(parts)).collect()
}

/// What the trainers know of the last decision.
fn delivery(seen: &Seen, is_last: bool) -> Option<String> {
    let row = seen.state.decisions.last().filter(|_| is_last)?;
    Some(match (seen.state.is_dry, row.delivered, seen.answered.join(" and ")) {
        (true, ..) => "(a dry run, nobody is told)  ".to_owned(),
        (_, None, _) => "(not delivered)  ".to_owned(),
        (.., answered) if answered.is_empty() => "(not acknowledged yet)  ".to_owned(),
        (.., answered) => format!("(acknowledged by {answered})  "),
    })
}
