//! Decisions, notices, pairs, what was set aside, and the settings of the run.

use super::View;
use crate::telemetry::chart::step_text;
use crate::telemetry::report::{decision_table, definitions};
use maud::{Markup, html};

/// Decisions that are listed, the newest.
const DECISIONS: usize = 50;
/// Pairs that are listed, the newest.
const PAIRS: usize = 20;

impl View {
    pub(super) fn decisions_section(&self) -> Markup {
        html! {
            section #decisions {
                h2 #decisions-heading { "Decisions" }
                (self.decisions())
            }
        }
    }

    /// The newest first.
    pub(super) fn decisions(&self) -> Markup {
        let report = &self.snapshot.report;
        let decisions: Vec<_> = report.decisions.iter().rev().take(DECISIONS).cloned().collect();
        let notices: Vec<_> = report.notices.iter().rev().cloned().collect();
        html! {
            div #decision-list {
                @if decisions.is_empty() {
                    p { "None yet." }
                } @else {
                    (decision_table("decisions-heading", &decisions))
                }
                @if !notices.is_empty() {
                    h3 #notices-heading { "Notices" }
                    p.note { "What rules had to say without a decision: the newest " (notices.len()) "." }
                    (decision_table("notices-heading", &notices))
                }
            }
        }
    }

    pub(super) fn pairs_section(&self) -> Markup {
        html! {
            section #pairs.pairs {
                h2 #pairs-heading { "Pairs" }
                (self.pairs())
                (self.set_aside())
            }
        }
    }

    /// The newest first.
    pub(super) fn pairs(&self) -> Markup {
        let report = &self.snapshot.report;
        let count = report.pairs.len();
        html! {
            div #pair-list { @if count > 0 {
                p.note {
                    @if count > PAIRS { "The newest " (PAIRS) " of " (step_text(count as u64)) ". " }
                    "Value ± standard error. Certified: extractions whose gap to the proven bound is small enough, of all."
                }
                (report.pair_table("pairs-heading", report.pairs.iter().rev().take(PAIRS)))
            } @else { p { "None yet." } } }
        }
    }

    pub(super) fn set_aside(&self) -> Markup {
        let status = &self.snapshot.status;
        let (skipped, quarantined) = (status.skipped.count, status.quarantined.count);
        html! {
            div #set-aside { @if skipped + quarantined > 0 {
                details #set-aside-details {
                    summary {
                        (step_text(skipped)) " checkpoints skipped, " (step_text(quarantined)) " quarantined"
                    }
                    (definitions(&self.snapshot.report.skipped))
                }
            } }
        }
    }

    pub(super) fn facts_section(&self) -> Markup {
        html! {
            section #facts aria-labelledby="facts-heading" {
                h2 #facts-heading { "Facts" }
                details { summary { "Settings that the run was begun with" }
                    (definitions(&self.snapshot.report.facts))
                }
            }
        }
    }
}
