//! The tables: decisions, notices, pairs.

use super::super::chart::{number, step_text};
use super::words::{estimate_text, prose};
use super::{DecisionRow, PairRow, Report};
use crate::convergence::Monitor;
use maud::{Markup, html};
use std::sync::Arc;

/// Columns of the table of pairs, after the step and the primary monitor.
const COLUMNS: &[Monitor] = &[
    Monitor::ConvergenceScore,
    Monitor::ConvergentRatio,
    Monitor::ProbeLoss,
    Monitor::ProbeAccuracy,
    Monitor::InteractionCosine,
    Monitor::HighOrderShare,
    Monitor::OffsettingShare,
    Monitor::Disagreement,
];

const DECISION_COLUMNS: [&str; 6] = ["Step", "Action", "Rule", "Best step", "Reason", "Time (UTC)"];

pub(crate) fn decision_table(heading: &str, rows: &[DecisionRow]) -> Markup {
    html! {
        div.scroll id={ (heading) "-scroll" } role="region" aria-labelledby=(heading) tabindex="0" { table {
            thead { tr {
                @for name in DECISION_COLUMNS {
                    th scope="col" { (name) }
                }
            } }
            tbody { @for row in rows { tr {
                th scope="row" { (step_text(row.step)) }
                td { (row.action) }
                td { code { (row.rule) } }
                td.number { (row.best_step.map_or_else(|| "–".to_owned(), step_text)) }
                td.reason { (prose(&row.reason)) }
                td.time { (row.time) }
            } } }
        } }
    }
}

impl Report {
    pub(super) fn decisions_section(&self) -> Markup {
        html! {
            section {
                h2 id="decisions" { "Decisions" }
                @if self.decisions.is_empty() {
                    p { "None." }
                } @else {
                    (decision_table("decisions", &self.decisions))
                }
                @if !self.notices.is_empty() {
                    h3 id="notices" { "Notices" }
                    (decision_table("notices", &self.notices))
                }
            }
        }
    }

    pub(super) fn pairs_section(&self) -> Markup {
        html! {
            @if !self.pairs.is_empty() {
                section.pairs {
                    h2 id="pairs" { "All pairs" }
                    p.note { "Value ± standard error. Certified: extractions whose gap to the \
                        proven bound is small enough, of all." }
                    (self.pair_table("pairs", self.pairs.iter()))
                }
            }
        }
    }

    /// Some pairs; the element with the id `heading` names the table.
    pub(crate) fn pair_table<'a>(
        &self,
        heading: &str,
        pairs: impl Iterator<Item = &'a Arc<PairRow>>,
    ) -> Markup {
        let others = COLUMNS.iter().copied().filter(|&monitor| monitor != self.primary);
        let columns = std::iter::once(self.primary).chain(others);
        let columns: Vec<_> = columns.filter(|&monitor| self.has(monitor)).collect();
        html! {
            div.scroll.tall id={ (heading) "-scroll" } role="region" aria-labelledby=(heading) tabindex="0" { table {
                thead { tr {
                    th scope="col" { "Step" }
                    @for monitor in &columns { th scope="col" { (monitor.name()) } }
                    th scope="col" { "certified" }
                    th scope="col" { "worst gap" }
                } }
                tbody { @for pair in pairs { (self.pair_row(pair, &columns)) } }
            } }
        }
    }

    fn pair_row(&self, pair: &PairRow, columns: &[Monitor]) -> Markup {
        let best = (self.best_step() == Some(pair.step)).then_some("best");
        let actions = self.decisions.iter().filter(|row| row.step == pair.step);
        let names: Vec<&str> =
            best.into_iter().chain(actions.map(|row| row.action.as_str())).collect();
        html! {
            tr.marked[!names.is_empty()] {
                th scope="row" {
                    (step_text(pair.step))
                    @if !names.is_empty() { br; span.tag { (names.join(", ")) } }
                }
                @for &monitor in columns { (cell(Some(pair), monitor)) }
                td.number {
                    @let count = format!("{}/{}", pair.certified, pair.samples);
                    @if pair.certified < pair.samples { strong { (count) } } @else { (count) }
                }
                td.number { (number(pair.gap_max)) }
            }
        }
    }
}

pub(super) fn cell(pair: Option<&PairRow>, monitor: Monitor) -> Markup {
    let estimate = pair.and_then(|pair| pair.monitors.get(&monitor));
    html! { td.number { (estimate.map_or_else(|| "–".to_owned(), estimate_text)) } }
}
