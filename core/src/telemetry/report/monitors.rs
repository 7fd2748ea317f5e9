//! The charts of monitors: one large, and all others small.

use super::super::chart::{Line, LineChart, Mark, MarkKind, Point, Style, step_text};
use super::words::{capitalised, direction, meaning};
use super::{PairRow, Report};
use crate::convergence::{Estimate, Monitor};
use maud::{Markup, html};
use std::sync::Arc;

/// viewBox of the main chart on wide screens and on phones, and of the small charts.
const WIDE: (f64, f64) = (1000.0, 360.0);
const NARROW: (f64, f64) = (360.0, 300.0);
const SMALL: (f64, f64) = (360.0, 210.0);

/// A small chart: its heading and its lines.
type Panel = (&'static str, &'static [(Monitor, &'static str, Style)]);

const PANELS: &[Panel] = &[
    ("Convergence score", &[(Monitor::ConvergenceScore, "", Style::Joint)]),
    (
        "Convergent ratio",
        &[
            (Monitor::ConvergentRatio, "all", Style::Joint),
            (Monitor::ConvergentRatioLow, "order ≤ 2", Style::Target),
        ],
    ),
    (
        "Probe loss",
        &[
            (Monitor::ProbeLoss, "mean", Style::Joint),
            (Monitor::ProbeLossTarget, "target", Style::Target),
            (Monitor::ProbeLossBaseline, "baseline", Style::Baseline),
        ],
    ),
    (
        "Probe accuracy",
        &[
            (Monitor::ProbeAccuracy, "mean", Style::Joint),
            (Monitor::ProbeAccuracyTarget, "target", Style::Target),
            (Monitor::ProbeAccuracyBaseline, "baseline", Style::Baseline),
        ],
    ),
    (
        "Agreement of the effects",
        &[
            (Monitor::InteractionCosine, "cosine", Style::Joint),
            (Monitor::InteractionJaccard, "Jaccard", Style::Target),
        ],
    ),
    ("High-order share", &[(Monitor::HighOrderShare, "", Style::Joint)]),
    ("Offsetting share", &[(Monitor::OffsettingShare, "", Style::Joint)]),
    (
        "Strength in units of output",
        &[
            (Monitor::ConvergentStrength, "convergent", Style::Joint),
            (Monitor::NonconvergentStrength, "other", Style::Baseline),
        ],
    ),
    (
        "Output scale",
        &[
            (Monitor::OutputScaleTarget, "target", Style::Target),
            (Monitor::OutputScaleBaseline, "baseline", Style::Baseline),
        ],
    ),
    ("Disagreement", &[(Monitor::Disagreement, "", Style::Joint)]),
];

/// How to read a chart.
const BAND: &str =
    "Shaded: ± 1 standard error. Vertical lines: full at the best step, dashed at decisions.";

impl Report {
    pub(crate) fn has(&self, monitor: Monitor) -> bool {
        self.pairs.iter().any(|pair| pair.monitors.contains_key(&monitor))
    }

    fn points(&self, monitor: Monitor) -> Vec<Point> {
        let point = |pair: &Arc<PairRow>| {
            let Estimate { value, standard_error } = *pair.monitors.get(&monitor)?;
            let finite = value.is_finite() && standard_error.is_finite();
            finite.then_some(Point { step: pair.step, value, standard_error })
        };
        self.pairs.iter().filter_map(point).collect()
    }

    /// The best step (of several) and the decisions; `long` labels name the step.
    fn marks(&self, long: bool) -> Vec<Mark> {
        let mark = |kind, name: &str, step| {
            let label = if long { format!("{name} {}", step_text(step)) } else { name.to_owned() };
            Mark { step, label, kind }
        };
        let best = self.best_step().filter(|_| self.pairs.len() > 1);
        let best = best.map(|step| mark(MarkKind::Best, "best", step));
        let decisions = self.decisions.iter();
        let decisions = decisions.map(|row| mark(MarkKind::Decision, &row.action, row.step));
        best.into_iter().chain(decisions).collect()
    }

    pub(super) fn primary_section(&self) -> Markup {
        html! {
            section {
                h2 { code { (self.primary.name()) } }
                (self.monitor(self.primary))
            }
        }
    }

    /// A monitor: what it is, and its chart.
    pub(crate) fn monitor(&self, monitor: Monitor) -> Markup {
        let line = Line { label: "", style: Style::Joint, points: self.points(monitor) };
        let (lines, marks) = ([line], self.marks(true));
        let title = format!("{monitor} over training steps");
        let chart = |id: &str, size| {
            LineChart { id, title: &title, lines: &lines, marks: &marks, size }.svg()
        };
        html! {
            p.note { (capitalised(meaning(monitor))) (direction(monitor)) ". Over training steps. " (BAND) }
            @if lines[0].points.is_empty() {
                p { "No pair has this monitor yet." }
            } @else {
                div.wide { (chart("primary-wide", WIDE)) }
                div.narrow { (chart("primary-narrow", NARROW)) }
            }
        }
    }

    pub(super) fn monitors_section(&self) -> Markup {
        html! {
            @if !self.pairs.is_empty() {
                section {
                    h2 { "Other monitors" }
                    p.note { "Over training steps. " (BAND) }
                    (self.panels(self.primary, None))
                }
            }
        }
    }

    /// Small charts of all monitors but one that is shown large; `link` says where a heading leads.
    pub(crate) fn panels(&self, but: Monitor, link: Option<&dyn Fn(Monitor) -> String>) -> Markup {
        let marks = self.marks(false);
        let panels = PANELS.iter().enumerate().filter(|(_, (_, lines))| {
            let is_shown = lines.len() == 1 && lines[0].0 == but;
            !is_shown && lines.iter().any(|line| self.has(line.0))
        });
        html! {
            div.grid {
                @for (index, panel) in panels { (self.panel(index, panel, &marks, link)) }
            }
        }
    }

    fn panel(
        &self,
        index: usize,
        (heading, lines): &Panel,
        marks: &[Mark],
        link: Option<&dyn Fn(Monitor) -> String>,
    ) -> Markup {
        let present = lines.iter().filter(|line| self.has(line.0));
        let monitors: Vec<Monitor> = present.clone().map(|line| line.0).collect();
        let line = |&(monitor, label, style)| Line { label, style, points: self.points(monitor) };
        let lines: Vec<Line> = present.map(line).collect();
        let (id, title) = (format!("panel-{index}"), format!("{heading} over training steps"));
        let chart = LineChart { id: &id, title: &title, lines: &lines, marks, size: SMALL };
        html! {
            div.figure {
                h3 { @match (link, monitors.first()) {
                    (Some(link), Some(&first)) => a href=(link(first)) { (heading) },
                    _ => (heading),
                } }
                @if let Some(&first) = monitors.first() {
                    p.note { code { (first.name()) } ": " (meaning(first)) (direction(first)) }
                }
                (chart.svg())
            }
        }
    }
}
