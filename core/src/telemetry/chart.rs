//! Line charts over training steps, made as SVG without any script.
//!
//! A chart has lines with a band of ±1 standard error and vertical marks. It names its lines at
//! their right end and tells them apart by dash as well as by colour. Colours are CSS classes of
//! the page. Lengths are units of the viewBox, about one CSS pixel.

use maud::{Markup, html};

/// Estimated width of a character at the font size of the charts.
const CHARACTER: f64 = 6.4;
/// Height of a row of labels.
const ROW: f64 = 14.0;
/// Rows of labels over the plot; further marks stay without label.
const LABEL_ROWS: usize = 3;
/// Values beyond this are drawn at it: their differences stay finite.
const LARGEST: f64 = 1e150;

/// A value at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Training step.
    pub(super) step: u64,
    /// In the unit of the monitor.
    pub(super) value: f64,
    /// Half the height of the band, in the unit of the monitor.
    pub(super) standard_error: f64,
}

/// Which network a line belongs to; decides colour and dash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Both networks: a full line.
    Joint,
    /// A dashed line.
    Target,
    /// A dotted line.
    Baseline,
}

impl Style {
    fn class(self) -> &'static str {
        match self {
            Self::Joint => "joint",
            Self::Target => "target",
            Self::Baseline => "baseline",
        }
    }
}

/// One curve.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Text at the right end; empty where the chart has one line only.
    pub(super) label: &'static str,
    /// Colour and dash.
    pub(super) style: Style,
    /// Ascending by step.
    pub(super) points: Vec<Point>,
}

/// What a vertical line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkKind {
    /// The best pair: a full line, and a diamond on the first curve.
    Best,
    /// A decision: a dashed line.
    Decision,
}

impl MarkKind {
    fn class(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Decision => "decision",
        }
    }
}

/// A vertical line with a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Training step.
    pub(super) step: u64,
    /// Text above the plot.
    pub(super) label: String,
    /// Colour and dash.
    pub(super) kind: MarkKind,
}

/// A chart and its place in the page.
pub(super) struct LineChart<'a> {
    /// Unique in the page.
    pub(super) id: &'a str,
    /// What is drawn, for readers of the text alone.
    pub(super) title: &'a str,
    /// At least one.
    pub(super) lines: &'a [Line],
    /// In any order.
    pub(super) marks: &'a [Mark],
    /// Width and height of the viewBox.
    pub(super) size: (f64, f64),
}

/// A linear scale from data to the viewBox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Maps `extent` to `from` … `to`. The extent must not be empty: see [`extent`].
    pub(crate) fn new(extent: (f64, f64), from: f64, to: f64) -> Self {
        Self { low: extent.0, high: extent.1, from, to }
    }

    /// Coordinate of a value.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values within the extent, about `count` of them.
    pub(crate) fn ticks(&self, count: usize) -> Ticks {
        ticks(self.low, self.high, count, 0.0)
    }
}

/// Least and largest value, widened where they (nearly) agree so that high > low always holds.
pub(crate) fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values = values.filter(|value| value.is_finite());
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        let value = value.clamp(-LARGEST, LARGEST);
        (low.min(value), high.max(value))
    });
    let size = low.abs().max(high.abs());
    if low > high || size < 1.0 / LARGEST {
        return (0.0, 1.0);
    }
    let middle = 0.5 * (low + high);
    match high - low < 1e-9 * size {
        true => (middle - 0.1 * size, middle + 0.1 * size),
        false => (low, high),
    }
}

/// Round values of an axis, and the distance between them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ticks {
    /// Ascending.
    pub(crate) values: Vec<f64>,
    unit: f64,
}

/// Multiples of 1, 2 or 5 times a power of ten (at least `least`) in low … high.
fn ticks(low: f64, high: f64, count: usize, least: f64) -> Ticks {
    let rough = ((high - low) / count.max(1) as f64).max(least);
    let power = 10_f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0];
    let factor = factors.into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0);
    let unit = factor * power;
    let slack = 1e-9;
    let (first, last) = ((low / unit - slack).ceil() as i64, (high / unit + slack).floor() as i64);
    Ticks { values: (first..=last).map(|multiple| multiple as f64 * unit).collect(), unit }
}

impl Ticks {
    /// Text of a tick: as many decimals as the distance needs.
    pub(crate) fn label(&self, value: f64) -> String {
        let largest = self.values.iter().fold(0.0_f64, |largest, tick| largest.max(tick.abs()));
        let magnitude = |value: f64| (value.log10() + 1e-9).floor() as i32;
        if value == 0.0 {
            return "0".to_owned();
        }
        let text = if largest >= 1e5 || self.unit < 1e-4 {
            let digits = (magnitude(value.abs()) - magnitude(self.unit)).clamp(0, 6) as usize;
            format!("{value:.digits$e}")
        } else {
            let digits = (-magnitude(self.unit)).max(0) as usize;
            format!("{value:.digits$}")
        };
        text.replace('-', "−")
    }
}

/// A value with about four digits, for reading.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        size => format!(
            "{value:.digits$}",
            digits = (3 - size.log10().floor() as i32).clamp(0, 4) as usize
        ),
    };
    text.replace('-', "−")
}

/// A step with commas between thousands.
pub(crate) fn step_text(step: u64) -> String {
    let digits = step.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(|group| String::from_utf8_lossy(group)).collect();
    groups.join(",")
}

fn step_tick(step: f64) -> String {
    match step {
        step if step < 1e6 => step_text(step as u64),
        step if step < 1e9 => format!("{}M", (step / 1e4).round() / 100.0),
        step => format!("{step:e}"),
    }
}

/// Width of a text as it is drawn in a chart.
pub(crate) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

impl LineChart<'_> {
    /// The chart as an `svg` element.
    pub(super) fn svg(&self) -> Markup {
        let frame = Frame::new(self);
        let (title, description) = (format!("{}-title", self.id), format!("{}-desc", self.id));
        let (width, height) = self.size;
        html! {
            svg viewBox=(format!("0 0 {width} {height}")) role="img"
                aria-labelledby=(format!("{title} {description}")) {
                title id=(title) { (self.title) }
                desc id=(description) { (self.description()) }
                (frame.grid(self.size))
                @for line in self.lines { (frame.band(line)) }
                (frame.marks(self.marks))
                @for line in self.lines { (frame.line(line)) }
                (frame.best(self))
                (frame.names(self.lines))
            }
        }
    }

    fn description(&self) -> String {
        let line = |line: &Line| {
            let name = if line.label.is_empty() { "The value" } else { line.label };
            match (line.points.first(), line.points.last()) {
                (Some(first), Some(last)) => format!(
                    "{name}: {} at step {}, {} at step {}. ",
                    number(first.value),
                    step_text(first.step),
                    number(last.value),
                    step_text(last.step)
                ),
                _ => format!("{name}: no values. "),
            }
        };
        let lines: String = self.lines.iter().map(line).collect();
        let marks =
            self.marks.iter().map(|mark| format!("{} (step {})", mark.label, step_text(mark.step)));
        let marks: Vec<_> = marks.take(20).collect();
        format!(
            "{lines}Marks: {}.",
            if marks.is_empty() { "none".into() } else { marks.join(", ") }
        )
    }
}

/// The plot within the margins.
struct Frame {
    steps: Axis,
    values: Axis,
}

impl Frame {
    fn new(chart: &LineChart<'_>) -> Self {
        let points = || chart.lines.iter().flat_map(|line| &line.points);
        let steps =
            points().map(|point| point.step).chain(chart.marks.iter().map(|mark| mark.step));
        let ends = points().flat_map(|point| {
            [point.value - point.standard_error, point.value + point.standard_error]
        });
        let (low, high) = extent(ends);
        let pad = 0.05 * (high - low);
        let values = (low - pad, high + pad);
        let round = ticks(values.0, values.1, 4, 0.0);
        let labels = round.values.iter().map(|&tick| text_width(&round.label(tick)));
        let names = chart.lines.iter().map(|line| text_width(line.label));
        let (width, height) = chart.size;
        let left = 8.0 + labels.fold(0.0, f64::max);
        let right = width - 12.0 - names.fold(0.0, f64::max);
        let steps = Axis::new(step_extent(steps), left, right);
        let labels = label_places(&in_order(chart.marks), steps);
        let rows = labels.into_iter().flatten().map(|(_, row)| row + 1).max().unwrap_or(0);
        let top = 8.0 + ROW * rows as f64;
        Self { steps, values: Axis::new(values, height - 22.0, top) }
    }

    fn grid(&self, size: (f64, f64)) -> Markup {
        let (steps, values) = (self.steps, self.values);
        let count = ((steps.to - steps.from) / 70.0).clamp(2.0, 8.0) as usize;
        let round = ticks(steps.low, steps.high, count, 1.0);
        let rows = values.ticks(4);
        html! {
            @for &tick in &rows.values {
                line.grid x1=(px(steps.from)) x2=(px(steps.to)) y1=(px(values.at(tick)))
                    y2=(px(values.at(tick))) {}
                text x=(px(steps.from - 5.0)) y=(px(values.at(tick) + 4.0)) text-anchor="end" {
                    (rows.label(tick))
                }
            }
            line.axis x1=(px(steps.from)) x2=(px(steps.to)) y1=(px(values.from))
                y2=(px(values.from)) {}
            @for &tick in &round.values {
                @let (x, label) = (steps.at(tick), step_tick(tick));
                @let half = 0.5 * text_width(&label);
                line.axis x1=(px(x)) x2=(px(x)) y1=(px(values.from)) y2=(px(values.from + 4.0)) {}
                text x=(px(x.clamp(half, size.0 - half))) y=(px(values.from + 17.0))
                    text-anchor="middle" { (label) }
            }
        }
    }

    fn band(&self, line: &Line) -> Markup {
        let points = self.thinned(line);
        let edge = |sign: f64| {
            let value = move |point: &Point| point.value + sign * point.standard_error;
            points.iter().map(move |point| (self.steps.at(point.step as f64), value(point)))
        };
        let corners: Vec<_> = edge(1.0).chain(edge(-1.0).rev()).collect();
        let [first, .., last] = points.as_slice() else { return self.whisker(points.first()) };
        let width = self.steps.at(last.step as f64) - self.steps.at(first.step as f64);
        let corners = corners.into_iter().map(|(x, value)| (x, self.values.at(value)));
        html! {
            @if width > 0.0 {
                polygon class=(format!("band {}", line.style.class())) points=(path(corners)) {}
            }
        }
    }

    /// ±1 standard error of a lone point.
    fn whisker(&self, point: Option<&Point>) -> Markup {
        html! {
            @if let Some(point) = point {
                @let x = px(self.steps.at(point.step as f64));
                line.axis x1=(x) x2=(x) y1=(px(self.values.at(point.value - point.standard_error)))
                    y2=(px(self.values.at(point.value + point.standard_error))) {}
            }
        }
    }

    fn line(&self, line: &Line) -> Markup {
        let at = |point: &Point| (self.steps.at(point.step as f64), self.values.at(point.value));
        let points = self.thinned(line);
        let class = line.style.class();
        html! {
            @if points.len() > 1 {
                polyline class=(format!("line {class}")) points=(path(points.iter().map(at))) {}
            } @else if let Some(point) = points.first() {
                @let (x, y) = at(point);
                circle class=(format!("dot {class}")) cx=(px(x)) cy=(px(y)) r="3" {}
            }
        }
    }

    /// At most one point for two units of width: the extremes of each bucket stay.
    fn thinned(&self, line: &Line) -> Vec<Point> {
        let buckets = ((self.steps.to - self.steps.from) / 4.0).max(1.0) as usize;
        let length = line.points.len().div_ceil(buckets);
        if length < 3 {
            return line.points.clone();
        }
        let extremes = line.points.chunks(length).flat_map(|bucket| {
            let by_value = |a: &&Point, b: &&Point| a.value.total_cmp(&b.value);
            let (low, high) = (bucket.iter().min_by(by_value), bucket.iter().max_by(by_value));
            let mut kept: Vec<Point> = low.into_iter().chain(high).copied().collect();
            kept.sort_by_key(|point| point.step);
            kept
        });
        let ends = line.points.first().into_iter().chain(line.points.last()).copied();
        let mut points: Vec<Point> = extremes.chain(ends).collect();
        points.sort_by_key(|point| point.step);
        points.dedup_by_key(|point| point.step);
        points
    }

    /// Lines first, so that no line runs through the label of another.
    fn marks(&self, marks: &[Mark]) -> Markup {
        let marks = in_order(marks);
        let labels = label_places(&marks, self.steps);
        let base = |row: usize| self.values.to - 5.0 - ROW * row as f64;
        html! {
            @for (mark, label) in marks.iter().zip(&labels) {
                @let x = px(self.steps.at(mark.step as f64));
                @let top = label.map_or(self.values.to, |(_, row)| base(row) + 3.0);
                line class=(format!("mark {}", mark.kind.class())) x1=(x) x2=(x) y1=(px(top))
                    y2=(px(self.values.from)) {}
            }
            @for (mark, label) in marks.iter().zip(&labels) {
                @if let Some((middle, row)) = *label {
                    text class=(mark.kind.class()) x=(px(middle)) y=(px(base(row)))
                        text-anchor="middle" { (mark.label) }
                }
            }
        }
    }

    /// A diamond where the first curve is at its best step.
    fn best(&self, chart: &LineChart<'_>) -> Markup {
        let best = chart.marks.iter().find(|mark| mark.kind == MarkKind::Best);
        let points = chart.lines.first().map_or(&[][..], |line| &line.points);
        let point = best.and_then(|best| points.iter().find(|point| point.step == best.step));
        html! {
            @if let Some(point) = point {
                @let (x, y) = (self.steps.at(point.step as f64), self.values.at(point.value));
                @let corners = [(x - 5.0, y), (x, y - 5.0), (x + 5.0, y), (x, y + 5.0)];
                polygon.diamond points=(path(corners.into_iter())) {}
            }
        }
    }

    /// Names of the lines at their right ends, moved apart, with a stroke to the end.
    fn names(&self, lines: &[Line]) -> Markup {
        let end = |line: &Line| Some(self.values.at(line.points.last()?.value));
        let mut ends: Vec<_> = lines.iter().filter_map(|line| Some((end(line)?, line))).collect();
        ends.retain(|(_, line)| !line.label.is_empty());
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let places = spread(ends.iter().map(|(y, _)| *y).collect(), self.values.from);
        html! {
            @for ((end, line), y) in ends.iter().zip(places) {
                @let last = line.points.last().map_or(self.steps.high, |point| point.step as f64);
                @let x = self.steps.at(last);
                @let class = line.style.class();
                line class=(format!("leader {class}")) x1=(px(x + 1.0)) x2=(px(self.steps.to + 6.0))
                    y1=(px(*end)) y2=(px(y)) {}
                text class=(class) x=(px(self.steps.to + 8.0)) y=(px(y + 4.0)) { (line.label) }
            }
        }
    }
}

/// Ascending by step, each mark once.
fn in_order(marks: &[Mark]) -> Vec<&Mark> {
    let mut marks: Vec<&Mark> = marks.iter().collect();
    marks.sort_by(|a, b| (a.step, &a.label).cmp(&(b.step, &b.label)));
    marks.dedup();
    marks
}

/// Middle and row (0 is the lowest) of each label: the lowest row in which it meets no other.
fn label_places(marks: &[&Mark], steps: Axis) -> Vec<Option<(f64, usize)>> {
    let mut ends = [f64::NEG_INFINITY; LABEL_ROWS];
    let place = |mark: &&Mark| {
        let half = 0.5 * text_width(&mark.label);
        let rightmost = (steps.to + 8.0 - half).max(half);
        let middle = steps.at(mark.step as f64).clamp(half, rightmost);
        let row = ends.iter().position(|&end| end + CHARACTER < middle - half)?;
        *ends.get_mut(row)? = middle + half;
        Some((middle, row))
    };
    marks.iter().map(place).collect()
}

fn step_extent(steps: impl Iterator<Item = u64> + Clone) -> (f64, f64) {
    let low = steps.clone().min().unwrap_or(0) as f64;
    let high = steps.max().unwrap_or(0) as f64;
    let least = (1e-9 * high).max(0.5);
    if high - low >= least { (low, high) } else { (low - least, high + least) }
}

/// Ascending positions moved down, then up from `bottom`, until a row lies between neighbours.
fn spread(mut places: Vec<f64>, bottom: f64) -> Vec<f64> {
    for i in 1..places.len() {
        places[i] = places[i].max(places[i - 1] + ROW - 1.0);
    }
    let mut limit = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - (ROW - 1.0);
    }
    places
}

/// A coordinate with one decimal: enough for any screen.
pub(crate) fn px(coordinate: f64) -> String {
    let text = format!("{coordinate:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.map(|(x, y)| format!("{},{}", px(x), px(y))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64], marks: &[Mark]) -> String {
        let point = |(i, &value): (usize, &f64)| Point {
            step: 100 * i as u64,
            value,
            standard_error: 0.05 * value.abs(),
        };
        let points = values.iter().enumerate().map(point).collect();
        let lines = [Line { label: "target", style: Style::Target, points }];
        let chart = LineChart { id: "x", title: "x", lines: &lines, marks, size: (360.0, 200.0) };
        chart.svg().into_string()
    }

    fn mark(step: u64, label: &str) -> Mark {
        Mark { step, label: label.to_owned(), kind: MarkKind::Decision }
    }

    #[test]
    fn ticks_are_round_and_within() {
        let of = |low, high| {
            let ticks = ticks(low, high, 4, 0.0);
            ticks.values.iter().map(|&tick| ticks.label(tick)).collect::<Vec<_>>()
        };
        assert_eq!(of(0.0, 1.0), ["0", "0.5", "1.0"]);
        assert_eq!(of(0.11, 0.74), ["0.2", "0.4", "0.6"]);
        assert_eq!(of(-2.3, -0.2), ["−2", "−1"]);
        assert_eq!(of(0.612, 0.618), ["0.612", "0.614", "0.616", "0.618"]);
        assert_eq!(of(0.0, 3e6), ["0", "1e6", "2e6", "3e6"]);
        assert_eq!(of(1e-9, 5e-9), ["1e−9", "2e−9", "3e−9", "4e−9", "5e−9"]);
    }

    #[test]
    fn steps_are_whole_numbers_with_commas() {
        assert_eq!(step_text(1_234_567), "1,234,567");
        assert_eq!(step_text(0), "0");
        assert_eq!(ticks(6.5, 7.5, 4, 1.0).values, [7.0]);
        assert_eq!(step_tick(2.5e6), "2.5M");
    }

    #[test]
    fn every_finite_series_gives_finite_coordinates() {
        let series: [&[f64]; 9] = [
            &[],
            &[0.4],
            &[0.0, 0.0, 0.0],
            &[0.7, 0.7],
            &[1e6, 3e6, 2e6],
            &[1e-12, 2e-12],
            &[f64::MAX, f64::MIN, 0.0],
            &[f64::MIN_POSITIVE, 0.0],
            &[1e16, 1e16 + 2.0],
        ];
        for values in series {
            let svg = chart(values, &[]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{values:?}: {svg}");
        }
        let svg = chart(&[1.0, 2.0], &[mark(u64::MAX, "stop")]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_lone_point_is_a_dot() {
        assert!(chart(&[0.4], &[]).contains("<circle"));
        assert!(!chart(&[0.4, 0.5], &[]).contains("<circle"));
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut values: Vec<f64> = (0..5000).map(|i| f64::from(i % 7)).collect();
        values[2503] = 90.0;
        let svg = chart(&values, &[]);
        assert!(svg.len() < 20_000, "{} bytes", svg.len());
        let points = values.iter().enumerate().map(|(i, &value)| Point {
            step: i as u64,
            value,
            standard_error: 0.0,
        });
        let line = Line { label: "", style: Style::Joint, points: points.collect() };
        let frame = Frame {
            steps: Axis::new((0.0, 5000.0), 0.0, 300.0),
            values: Axis::new((0.0, 90.0), 100.0, 0.0),
        };
        let thinned = frame.thinned(&line);
        assert!(thinned.len() <= 152);
        assert!(thinned.iter().any(|point| point.value == 90.0));
        assert_eq!(thinned.last().map(|point| point.step), Some(4999));
    }

    #[test]
    fn labels_of_near_marks_take_different_rows() {
        let marks =
            [mark(500, "best 500"), mark(510, "stop 510"), mark(520, "phase"), mark(521, "x")];
        let steps = Axis::new((0.0, 1000.0), 40.0, 300.0);
        let places = label_places(&in_order(&marks), steps);
        let rows: Vec<_> = places.iter().map(|place| place.map(|(_, row)| row)).collect();
        assert_eq!(rows, [Some(0), Some(1), Some(2), None]);
    }

    #[test]
    fn names_at_the_ends_do_not_overlap() {
        let places = spread(vec![98.0, 99.0, 100.0], 100.0);
        assert_eq!(places, [74.0, 87.0, 100.0]);
    }
}
