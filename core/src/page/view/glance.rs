//! The state of the run at a glance.

use super::View;
use crate::convergence::Monitor;
use crate::history::Holder;
use crate::role::Role;
use crate::telemetry::chart::step_text;
use crate::telemetry::report::{estimate_text, prose};
use maud::{Markup, html};

/// What a run is doing, with the class of its badge.
enum Doing {
    Stopped,
    Ended,
    Away,
    Working,
    Unknown,
}

impl Doing {
    fn class(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Ended => "ended",
            Self::Away => "away",
            Self::Working | Self::Unknown => "working",
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Stopped => "Stopped early",
            Self::Ended => "Training has ended",
            Self::Away => "Not at work",
            Self::Working => "At work",
            Self::Unknown => "Running",
        }
    }
}

impl View {
    fn doing(&self) -> Doing {
        let status = &self.snapshot.status;
        match (status.policy.stopped, &status.ended, &status.holder) {
            (true, ..) => Doing::Stopped,
            (_, Some(_), _) => Doing::Ended,
            (.., Some(Holder::Nobody)) => Doing::Away,
            (.., Some(_)) => Doing::Working,
            (.., None) => Doing::Unknown,
        }
    }

    /// The answer in one sentence.
    fn headline(&self) -> String {
        let report = &self.snapshot.report;
        let best = report.best_step().map(step_text);
        let last = report.pairs.last().map(|pair| step_text(pair.step));
        match (self.doing(), best, last) {
            (Doing::Stopped, Some(best), _) => format!("Stopped: step\u{a0}{best} is the best"),
            (Doing::Stopped, None, _) => "Stopped".to_owned(),
            (Doing::Ended, Some(best), _) => format!("Over: step\u{a0}{best} is the best"),
            (Doing::Ended, None, _) => "Over, without a best step".to_owned(),
            (_, _, None) => "Waiting for the first pair".to_owned(),
            (_, None, Some(last)) => format!("Step {last} is evaluated, none is the best yet"),
            (_, Some(best), Some(last)) if best == last => {
                format!("Still getting better: step\u{a0}{best} is the best")
            }
            (_, Some(best), _) => format!("No better pair since step\u{a0}{best}"),
        }
    }

    pub(super) fn glance(&self) -> Markup {
        let doing = self.doing();
        let standing = &self.snapshot.bulletin.standing;
        let headline = self.headline();
        html! {
            section #state aria-labelledby="headline" data-headline={ (doing.name()) ". " (headline) }
                data-over=[standing.is_over.then_some("")] {
                div.lead {
                    p class={ "state " (doing.class()) } { (doing.name()) }
                    h1 #headline { (headline) }
                    p.summary { (self.snapshot.report.summary()) }
                    (self.answers())
                    (self.rules())
                    (self.alerts())
                }
                dl.tiles {
                    (self.patience())
                    (self.phase())
                    (self.last())
                    (self.lag())
                    (tile("Device", html! { (or_dash(&standing.device)) }, self.extraction()))
                }
                div.numbers { (self.snapshot.report.key_numbers()) }
            }
        }
    }

    /// Whether the trainers know of the last decision.
    fn answers(&self) -> Markup {
        let status = &self.snapshot.status;
        let told = &status.told;
        html! {
            @match status.decisions.last() {
                _ if status.is_dry => p.note { "A dry run: it decides, and nobody is told." },
                None => {}
                Some(decision) if decision.delivered.is_none() => p.note { "Not delivered yet." },
                Some(_) if told.acknowledged.is_empty() => p.note { "No trainer has acknowledged it yet." },
                Some(_) => p.note {
                    "Acknowledged by "
                    @for (place, (network, step, _)) in told.acknowledged.iter().enumerate() {
                        @if place > 0 { ", " }
                        (network) " at step " (step_text(*step))
                    }
                    "."
                }
            }
        }
    }

    /// The patience of each rule that counts it, or which rule there is.
    fn patience(&self) -> Markup {
        let status = &self.snapshot.status;
        let patience = status.rules.patience(&status.policy);
        let least = patience.iter().min_by_key(|(_, patience)| patience.left);
        let (value, note) = match least {
            _ if status.policy.stopped => (html! { "–" }, html! { "stopped" }),
            None => (html! { "–" }, html! { "no rule counts yet" }),
            Some((rule, patience)) => {
                let (left, of) = (patience.left.min(patience.of), patience.of);
                let value = html! {
                    (left) span.of { " of " (of) " checks" }
                    @if of <= MOST_BOXES { span.boxes aria-hidden="true" { @for place in 0..of {
                        span.left[place < left] {}
                    } } }
                };
                (value, html! { code { (rule) } })
            }
        };
        tile("Patience left", value, note)
    }

    fn phase(&self) -> Markup {
        let status = &self.snapshot.status;
        let phase = &status.policy.phase;
        tile("Phase", html! { (phase) }, html! { "λ = " (status.policy.lambda) })
    }

    fn last(&self) -> Markup {
        let report = &self.snapshot.report;
        let count = self.snapshot.status.pairs;
        match report.pairs.last() {
            None => tile("Last pair", html! { "–" }, html! { "none yet" }),
            Some(last) => {
                let value = last.monitors.get(&report.primary).map(estimate_text);
                let noun = if count == 1 { "pair" } else { "pairs" };
                let note = html! {
                    @if let Some(value) = value { (value) ", " }
                    (step_text(count)) " " (noun)
                };
                tile("Last pair", html! { "step " (step_text(last.step)) }, note)
            }
        }
    }

    /// How far each network's newest checkpoint is ahead of the last pair.
    fn lag(&self) -> Markup {
        let standing = &self.snapshot.bulletin.standing;
        let last = self.snapshot.report.pairs.last().map_or(0, |pair| pair.step);
        let newest = if standing.is_over { [None; 2] } else { standing.newest };
        let behind = newest.map(|newest| Some(newest?.saturating_sub(last)));
        let worst = behind.iter().flatten().max();
        let value = match worst {
            None => html! { "–" },
            Some(0) => html! { "none" },
            Some(1) => html! { "1 step" },
            Some(steps) => html! { (step_text(*steps)) " steps" },
        };
        let note = html! {
            @for (role, behind) in Role::BOTH.into_iter().zip(behind) {
                @if let Some(behind) = behind { span.item { (role) " " (step_text(behind)) } " " }
            }
            @match (standing.evaluating, standing.waiting) {
                _ if standing.is_over => "the run is over",
                (Some(step), _) => span.item { "evaluating " (step_text(step)) },
                (None, waiting @ 1..) => span.item { (waiting) " waiting" },
                _ => {}
            }
        };
        tile("Evaluation lag", value, note)
    }

    fn extraction(&self) -> Markup {
        let last = self.snapshot.report.pairs.last();
        html! { @if let Some(last) = last { (last.certified) " of " (last.samples) " certified" } }
    }

    /// What each rule waits for.
    fn rules(&self) -> Markup {
        let rules: Vec<_> = self.snapshot.status.reasons().collect();
        html! {
            @if !rules.is_empty() {
                ul.rules aria-label="What the rules wait for" {
                    @for (id, reason) in rules { li { code { (id) } ": " (prose(reason)) } }
                }
            }
        }
    }

    fn alerts(&self) -> Markup {
        let alerts = self.snapshot.status.alerts();
        html! { @if !alerts.is_empty() { p.alerts { strong { "Alerts: " } (alerts.join(", ")) } } }
    }

    /// The monitor that is shown large.
    pub(super) fn shown_monitor(&self) -> Monitor {
        self.choice.monitor.unwrap_or(self.snapshot.report.primary)
    }
}

/// More checks than this are a number alone.
const MOST_BOXES: u32 = 12;

fn tile(name: &str, value: Markup, note: Markup) -> Markup {
    html! { div { dt { (name) } dd.value { (value) } dd.note { (note) } } }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { text.to_uppercase() }
}
