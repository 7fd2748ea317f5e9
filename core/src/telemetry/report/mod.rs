//! The report: one self-contained HTML page about a run.
//!
//! It has no script and asks no other host for anything, so it can be mailed, printed and archived.
//! What it tells, from the top: what was decided and why, the monitor that decided, the other
//! monitors, the strength of the interactions by order, and the numbers behind them.

mod monitors;
mod strength;
mod tables;
mod words;

pub(crate) use tables::decision_table;
pub(crate) use words::{capitalised, estimate_text, prose};

use self::tables::cell;
use super::chart::step_text;
use super::strength_chart::hatching;
use crate::convergence::{Goal, Monitor, Monitors, Strength};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::sync::Arc;

/// Everything the report shows.
#[derive(Clone, Debug)]
pub struct Report {
    /// Name of the run.
    pub title: String,
    /// For example "stopped early", "running" or "training ended".
    pub state: String,
    /// Where the history lies.
    pub state_directory: String,
    /// When the report was made, a time in UTC as text.
    pub generated: String,
    /// Label and value: variables, probe samples, salience, noise, solver, versions.
    pub facts: Vec<(String, String)>,
    /// Monitor of the rule that decides; shown first and largest.
    pub primary: Monitor,
    /// The best step that the rules know by it: not one of before their warm-up.
    pub best: Option<u64>,
    /// Ascending by step.
    pub pairs: Vec<Arc<PairRow>>,
    /// In the order in which they were taken.
    pub decisions: Vec<DecisionRow>,
    /// What rules had to say beside, in the order of the steps.
    pub notices: Vec<DecisionRow>,
    /// Checkpoint and the reason why it was not evaluated.
    pub skipped: Vec<(String, String)>,
}

/// One evaluated pair of checkpoints.
#[derive(Clone, Debug)]
pub struct PairRow {
    /// Training step.
    pub step: u64,
    /// The monitors that are defined for the pair.
    pub monitors: Monitors,
    /// Mean strengths by order 0..=n of (target, baseline), in units of v.
    pub strengths: [Vec<Strength>; 2],
    /// Number of extractions (of both networks).
    pub samples: usize,
    /// How many of them are certified to the wanted gap.
    pub certified: usize,
    /// Largest relative gap between objective and lower bound.
    pub gap_max: f64,
}

/// One decision of the policy or of a person.
#[derive(Clone, Debug)]
pub struct DecisionRow {
    /// Training step of the pair that led to it.
    pub step: u64,
    /// "stop", "phase" and so on.
    pub action: String,
    /// Id of the rule.
    pub rule: String,
    /// The values and thresholds that led to it, in words.
    pub reason: String,
    /// The best step known to the rule.
    pub best_step: Option<u64>,
    /// When it was taken, a time in UTC as text.
    pub time: String,
}

/// The head of a page without scripts and other hosts; `more` is put behind the style.
pub(crate) fn head(title: &str, more: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy"
                content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            link rel="icon" href="data:,";
            title { (title) }
            style { (PreEscaped(STYLE)) (PreEscaped(more)) }
        }
    }
}

impl Report {
    /// The page, a whole HTML document.
    pub fn render(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                (head(&format!("{} – convergd", self.title), ""))
                body {
                    (hatching())
                    (self.glance())
                    main {
                        (self.primary_section())
                        (self.monitors_section())
                        (self.strength_section())
                        (self.decisions_section())
                        (self.pairs_section())
                        (self.skipped_section())
                        (self.facts_section())
                    }
                    footer {
                        "Made by convergd, " (self.generated) ", from "
                        code { (self.state_directory) }
                    }
                }
            }
        };
        page.into_string()
    }

    /// The last stop, unless it was taken back.
    pub(crate) fn stop(&self) -> Option<&DecisionRow> {
        let mut decisions = self.decisions.iter().rev();
        let last =
            decisions.find(|decision| matches!(decision.action.as_str(), "stop" | "continue"));
        last.filter(|decision| decision.action == "stop")
    }

    /// The step that the last stop names as best; without one, the best by the primary monitor: that of the rules,
    /// else the best measured.
    pub(crate) fn best_step(&self) -> Option<u64> {
        let of_stop = self.stop().and_then(|stop| stop.best_step);
        of_stop.or(self.best).or_else(|| self.best_measured())
    }

    fn best_measured(&self) -> Option<u64> {
        let sign = if self.primary.goal() == Goal::Max { 1.0 } else { -1.0 };
        let values = self
            .pairs
            .iter()
            .filter_map(|pair| Some((pair.step, sign * pair.monitors.get(&self.primary)?.value)));
        let better = |best: (u64, f64), now: (u64, f64)| if now.1 > best.1 { now } else { best };
        values.reduce(better).map(|(step, _)| step)
    }

    pub(crate) fn pair(&self, step: u64) -> Option<&PairRow> {
        let place = self.pairs.binary_search_by_key(&step, |pair| pair.step).ok()?;
        self.pairs.get(place).map(Arc::as_ref)
    }

    fn glance(&self) -> Markup {
        html! {
            header {
                p.state { (capitalised(&self.state)) }
                h1 { (self.title) }
                p.summary { (self.summary()) }
                (self.key_numbers())
            }
        }
    }

    /// What was decided and why, and which pair is the best.
    pub(crate) fn summary(&self) -> Markup {
        let stop = self.stop();
        let best = self.best_step();
        html! {
            @match stop.or(self.decisions.last()) {
                Some(decision) => {
                    strong { (capitalised(&decision.action)) }
                    " was decided at step " (step_text(decision.step))
                    " by rule " code { (decision.rule) } ": "
                    (prose(decision.reason.trim_end_matches('.'))) ". "
                }
                None => { "Nothing has been decided. " }
            }
            @match best {
                Some(best) if stop.is_some() => {
                    "The best step is " strong { (step_text(best)) } "."
                }
                Some(best) => {
                    "The best step so far is " strong { (step_text(best)) } " by "
                    code { (self.primary.name()) } "."
                }
                None if self.pairs.is_empty() => { "No pair has been evaluated yet." }
                None => { "No pair has " code { (self.primary.name()) } " yet." }
            }
        }
    }

    pub(crate) fn key_numbers(&self) -> Markup {
        let best_step = self.best_step();
        let best = best_step.and_then(|step| self.pair(step));
        let last = self.pairs.last().map(Arc::as_ref);
        let wanted = [Monitor::ProbeLoss, Monitor::ProbeAccuracy, Monitor::ConvergentRatio];
        let others = wanted.into_iter().filter(|&monitor| monitor != self.primary);
        let rows = std::iter::once(self.primary).chain(others);
        let rows: Vec<_> = rows.filter(|&monitor| self.has(monitor)).collect();
        html! {
            @if !rows.is_empty() {
                table.glance {
                    thead { tr {
                        th scope="col" { span.hidden { "Monitor" } }
                        (step_heading("best", best_step))
                        (step_heading("last", last.map(|pair| pair.step)))
                    } }
                    tbody { @for monitor in rows { tr {
                        th scope="row" { (monitor.name()) }
                        (cell(best, monitor))
                        (cell(last, monitor))
                    } } }
                }
            }
            @if !self.pairs.is_empty() && !self.has(Monitor::ProbeLoss) {
                p.note { "The probe has no labels, so there is neither loss nor accuracy." }
            }
        }
    }

    fn skipped_section(&self) -> Markup {
        html! {
            @if !self.skipped.is_empty() {
                section {
                    h2 { "Skipped checkpoints" }
                    (definitions(&self.skipped))
                }
            }
        }
    }

    fn facts_section(&self) -> Markup {
        html! {
            @if !self.facts.is_empty() {
                section {
                    h2 { "Facts" }
                    (definitions(&self.facts))
                }
            }
        }
    }
}

fn step_heading(name: &str, step: Option<u64>) -> Markup {
    html! { th scope="col" { (name) @if let Some(step) = step { br; "step " (step_text(step)) } } }
}

pub(crate) fn definitions(rows: &[(String, String)]) -> Markup {
    html! { dl { @for (term, text) in rows { div { dt { (term) } dd { (text) } } } } }
}

/// Colours first: every text has a contrast of at least 4.5 to its ground.
pub(crate) const STYLE: &str = include_str!("report.css");

#[cfg(test)]
mod tests;
