//! The report: one self-contained HTML page about a run.
//!
//! It has no script and asks no other host for anything, so it can be mailed, printed and archived.
//! What it tells, from the top: what was decided and why, the monitor that decided, the other
//! monitors, the strength of the interactions by order, and the numbers behind them.

use super::chart::{Line, LineChart, Mark, MarkKind, Point, Style, number, step_text};
use super::strength_chart::{StrengthChart, hatching, key, range};
use crate::convergence::{Estimate, Goal, Monitor, Monitors, Strength};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// viewBox of the main chart on wide screens and on phones, and of the small charts.
const WIDE: (f64, f64) = (1000.0, 360.0);
const NARROW: (f64, f64) = (360.0, 300.0);
const SMALL: (f64, f64) = (360.0, 210.0);

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
    /// Ascending by step.
    pub pairs: Vec<PairRow>,
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

fn decision_table(heading: &str, rows: &[DecisionRow]) -> Markup {
    html! {
        div.scroll role="region" aria-labelledby=(heading) tabindex="0" { table {
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
                td.reason { (row.reason) }
                td.time { (row.time) }
            } } }
        } }
    }
}

/// What a monitor tells, in a few words with its unit.
fn meaning(monitor: Monitor) -> &'static str {
    match monitor {
        Monitor::ConvergentRatio => {
            "share of the interaction strength on which both networks agree"
        }
        Monitor::ConvergentRatioTarget => "the same share for the target network alone",
        Monitor::ConvergentRatioLow => "the same share over orders up to 2",
        Monitor::ConvergentStrength => {
            "strength on which both networks agree, in units of the output"
        }
        Monitor::NonconvergentStrength => {
            "strength that one network has alone, in units of the output"
        }
        Monitor::InteractionCosine => "cosine between the effects of the two networks",
        Monitor::InteractionJaccard => "overlap of the signed effects, 0 to 1",
        Monitor::HighOrderShare => "share of the strength at order 5 and above",
        Monitor::OffsettingShare => "share of the strength in which positive and negative cancel",
        Monitor::OutputScaleTarget => "mean |v(N) − v(∅)| of the target, in log-odds",
        Monitor::OutputScaleBaseline => "mean |v(N) − v(∅)| of the baseline, in log-odds",
        Monitor::ProbeLoss => "cross-entropy on the probe in nats, mean of the networks",
        Monitor::ProbeLossTarget => "cross-entropy of the target on the probe, in nats",
        Monitor::ProbeLossBaseline => "cross-entropy of the baseline on the probe, in nats",
        Monitor::ProbeAccuracy => "accuracy on the probe, mean of the networks",
        Monitor::ProbeAccuracyTarget => "accuracy of the target on the probe",
        Monitor::ProbeAccuracyBaseline => "accuracy of the baseline on the probe",
        Monitor::ConvergenceScore => "−probe_loss + 0.25 · ln(convergent_ratio)",
        Monitor::Disagreement => "Jensen–Shannon divergence of the predictions, in nats",
    }
}

/// Which direction is better; nothing for a scale, which is neither good nor bad.
fn direction(monitor: Monitor) -> &'static str {
    match (monitor, monitor.goal()) {
        (Monitor::OutputScaleTarget | Monitor::OutputScaleBaseline, _) => "",
        (_, Goal::Max) => "; higher is better",
        (_, Goal::Min) => "; lower is better",
    }
}

/// Value and standard error, with the digits that the error allows. A line may break before the ±.
fn estimate_text(estimate: &Estimate) -> String {
    let Estimate { value, standard_error: error } = *estimate;
    if error <= 0.0 {
        return number(value);
    }
    let size = value.abs().max(error);
    if !(1e-3..1e6).contains(&size) {
        return format!("{} ±\u{a0}{}", number(value), number(error));
    }
    let digits = (1 - error.log10().floor() as i32).clamp(0, 5) as usize;
    format!("{value:.digits$} ±\u{a0}{error:.digits$}").replace('-', "−")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
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
    fn stop(&self) -> Option<&DecisionRow> {
        let mut decisions = self.decisions.iter().rev();
        let last =
            decisions.find(|decision| matches!(decision.action.as_str(), "stop" | "continue"));
        last.filter(|decision| decision.action == "stop")
    }

    /// The step that the last stop names as best; without one, the best by the primary monitor.
    fn best_step(&self) -> Option<u64> {
        self.stop().and_then(|stop| stop.best_step).or_else(|| self.best_measured())
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

    fn pair(&self, step: u64) -> Option<&PairRow> {
        self.pairs.iter().find(|pair| pair.step == step)
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
    fn summary(&self) -> Markup {
        let stop = self.stop();
        let best = self.best_step();
        html! {
            @match stop.or(self.decisions.last()) {
                Some(decision) => {
                    strong { (capitalised(&decision.action)) }
                    " was decided at step " (step_text(decision.step))
                    " by rule " code { (decision.rule) } ": "
                    (decision.reason.trim_end_matches('.')) ". "
                }
                None => { "Nothing has been decided. " }
            }
            @match best {
                Some(best) if stop.is_some() => {
                    "The best step is " strong { (step_text(best)) } "."
                }
                Some(best) => {
                    "The best step measured is " strong { (step_text(best)) } " by "
                    code { (self.primary.name()) } "."
                }
                None if self.pairs.is_empty() => { "No pair has been evaluated yet." }
                None => { "No pair has " code { (self.primary.name()) } " yet." }
            }
        }
    }

    fn key_numbers(&self) -> Markup {
        let best_step = self.best_step();
        let best = best_step.and_then(|step| self.pair(step));
        let last = self.pairs.last();
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

    fn has(&self, monitor: Monitor) -> bool {
        self.pairs.iter().any(|pair| pair.monitors.contains_key(&monitor))
    }

    fn points(&self, monitor: Monitor) -> Vec<Point> {
        let point = |pair: &PairRow| {
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

    fn primary_section(&self) -> Markup {
        let line = Line { label: "", style: Style::Joint, points: self.points(self.primary) };
        let (lines, marks) = ([line], self.marks(true));
        let title = format!("{} over training steps", self.primary);
        let chart = |id: &str, size| {
            LineChart { id, title: &title, lines: &lines, marks: &marks, size }.svg()
        };
        html! {
            section {
                h2 { code { (self.primary.name()) } }
                p.note {
                    (capitalised(meaning(self.primary))) (direction(self.primary))
                    ". Over training steps. " (BAND)
                }
                @if lines[0].points.is_empty() {
                    p { "No pair has this monitor yet." }
                } @else {
                    div.wide { (chart("primary-wide", WIDE)) }
                    div.narrow { (chart("primary-narrow", NARROW)) }
                }
            }
        }
    }

    fn monitors_section(&self) -> Markup {
        let marks = self.marks(false);
        let panels = PANELS.iter().enumerate().filter(|(_, (_, lines))| {
            let primary_alone = lines.len() == 1 && lines[0].0 == self.primary;
            !primary_alone && lines.iter().any(|line| self.has(line.0))
        });
        html! {
            @if !self.pairs.is_empty() {
                section {
                    h2 { "Other monitors" }
                    p.note { "Over training steps. " (BAND) }
                    div.grid {
                        @for (index, panel) in panels { (self.panel(index, panel, &marks)) }
                    }
                }
            }
        }
    }

    fn panel(&self, index: usize, (heading, lines): &Panel, marks: &[Mark]) -> Markup {
        let present = lines.iter().filter(|line| self.has(line.0));
        let monitors: Vec<Monitor> = present.clone().map(|line| line.0).collect();
        let line = |&(monitor, label, style)| Line { label, style, points: self.points(monitor) };
        let lines: Vec<Line> = present.map(line).collect();
        let (id, title) = (format!("panel-{index}"), format!("{heading} over training steps"));
        let chart = LineChart { id: &id, title: &title, lines: &lines, marks, size: SMALL };
        html! {
            div.figure {
                h3 { (heading) }
                @if let Some(&first) = monitors.first() {
                    p.note { code { (first.name()) } ": " (meaning(first)) (direction(first)) }
                }
                (chart.svg())
            }
        }
    }

    /// The first, the best and the last pair, each once.
    fn shown_pairs(&self) -> Vec<(&'static str, &PairRow)> {
        let best = self.best_step().and_then(|step| self.pair(step));
        let named = [("First", self.pairs.first()), ("Best", best), ("Last", self.pairs.last())];
        let mut shown: Vec<(&str, &PairRow)> = Vec::new();
        for (name, pair) in named {
            match pair {
                Some(pair) if shown.iter().any(|(_, other)| other.step == pair.step) => {}
                Some(pair) => shown.push((name, pair)),
                None => {}
            }
        }
        shown
    }

    fn strength_section(&self) -> Markup {
        let shown = self.shown_pairs();
        let all = || shown.iter().flat_map(|(_, pair)| pair.strengths.iter().flatten());
        html! {
            @if all().next().is_some() {
                section {
                    h2 { "Strength by order" }
                    p.note { "Mean strength of the interactions of each order, in units of v \
                        (log-odds). \
                        All charts of a network share one scale." }
                    (key())
                    @for (network, name) in ["Target", "Baseline"].into_iter().enumerate() {
                        h3 { (name) }
                        div.grid.three { (network_strengths(&shown, network, name)) }
                    }
                }
            }
        }
    }

    fn decisions_section(&self) -> Markup {
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

    fn pairs_section(&self) -> Markup {
        let others = COLUMNS.iter().copied().filter(|&monitor| monitor != self.primary);
        let columns = std::iter::once(self.primary).chain(others);
        let columns: Vec<_> = columns.filter(|&monitor| self.has(monitor)).collect();
        html! {
            @if !self.pairs.is_empty() {
                section.pairs {
                    h2 id="pairs" { "All pairs" }
                    p.note { "Value ± standard error. Certified: extractions whose gap to the \
                        proven bound is small enough, of all." }
                    div.scroll.tall role="region" aria-labelledby="pairs" tabindex="0" { table {
                        thead { tr {
                            th scope="col" { "Step" }
                            @for monitor in &columns { th scope="col" { (monitor.name()) } }
                            th scope="col" { "certified" }
                            th scope="col" { "worst gap" }
                        } }
                        tbody { @for pair in &self.pairs { (self.pair_row(pair, &columns)) } }
                    } }
                }
            }
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

/// How to read a chart.
const BAND: &str =
    "Shaded: ± 1 standard error. Vertical lines: full at the best step, dashed at decisions.";

fn step_heading(name: &str, step: Option<u64>) -> Markup {
    html! { th scope="col" { (name) @if let Some(step) = step { br; "step " (step_text(step)) } } }
}

fn cell(pair: Option<&PairRow>, monitor: Monitor) -> Markup {
    let estimate = pair.and_then(|pair| pair.monitors.get(&monitor));
    html! { td.number { (estimate.map_or_else(|| "–".to_owned(), estimate_text)) } }
}

fn network_strengths(shown: &[(&str, &PairRow)], network: usize, name: &str) -> Markup {
    let of = |pair: &PairRow| pair.strengths.get(network).cloned().unwrap_or_default();
    let all: Vec<Strength> = shown.iter().flat_map(|(_, pair)| of(pair)).collect();
    let range = range(all.iter());
    html! {
        @for (when, pair) in shown {
            @let step = step_text(pair.step);
            @let title = format!("{name}, {} pair, step {step}", when.to_lowercase());
            @let id = format!("strength-{network}-{}", pair.step);
            @let strengths = of(pair);
            div.figure {
                h4 { (when) ": step " (step) }
                (StrengthChart { id: &id, title: &title, strengths: &strengths, range }.svg())
            }
        }
    }
}

fn definitions(rows: &[(String, String)]) -> Markup {
    html! { dl { @for (term, text) in rows { div { dt { (term) } dd { (text) } } } } }
}

/// Colours first: every text has a contrast of at least 4.5 to its ground.
const STYLE: &str = include_str!("report.css");

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
