//! Monitors over steps: one large, all small.

use super::super::choice::Choice;
use super::View;
use crate::convergence::Monitor;
use maud::{Markup, html};

impl View {
    pub(super) fn monitors_section(&self) -> Markup {
        html! {
            section #monitors aria-labelledby="monitors-heading" {
                h2 #monitors-heading { "Monitors" }
                (self.monitor_choice())
                (self.monitor())
                (self.panels())
            }
        }
    }

    /// Those that some pair has can be chosen.
    pub(super) fn monitor_choice(&self) -> Markup {
        let shown = self.shown_monitor();
        let report = &self.snapshot.report;
        html! {
            form.choose #monitor-form method="get" action="/#monitors" {
                (self.hidden_choices(&["monitor"]))
                label for="monitor-choice" { "Monitor" }
                select #monitor-choice name="monitor" autocomplete="off" {
                    @for &monitor in Monitor::ALL {
                        option value=(monitor.name()) selected[monitor == shown]
                            disabled[!report.pairs.is_empty() && !report.has(monitor)] {
                            (monitor.name())
                        }
                    }
                }
                button type="submit" { "Show" }
            }
        }
    }

    /// The large chart.
    pub(super) fn monitor(&self) -> Markup {
        let monitor = self.shown_monitor();
        html! {
            div #monitor-figure data-monitor=(monitor.name()) {
                (self.snapshot.report.monitor(monitor))
            }
        }
    }

    /// The small charts; their headings show them large.
    pub(super) fn panels(&self) -> Markup {
        let link = |monitor| Choice { monitor: Some(monitor), ..self.choice }.address("monitors");
        html! {
            div #panels { @if !self.snapshot.report.pairs.is_empty() {
                (self.snapshot.report.panels(self.shown_monitor(), Some(&link)))
            } }
        }
    }
}
