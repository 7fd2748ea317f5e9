//! The curve of one monitor over training steps.

use super::number::number;
use super::palette::Palette;
use super::watch::Seen;
use crate::convergence::{Goal, Monitor};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Paragraph};

/// Dots of a curve in a column of the terminal.
const DOTS_A_COLUMN: usize = 2;
/// What the best pair is marked with.
const BEST: char = '◆';

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, seen: &Seen, of: Monitor, look: Palette) {
    let values = seen.pairs.iter().filter_map(|(step, monitors)| {
        let value = monitors.get(&of)?.value;
        value.is_finite().then_some((*step as f64, value))
    });
    let values: Vec<(f64, f64)> = values.collect();
    let block = Block::new().borders(Borders::TOP).title(title(seen, of, look));
    let (Some(first), Some(last)) = (values.first(), values.last()) else {
        let text = match seen.pairs.is_empty() {
            true => "No pair has been evaluated yet.",
            false => {
                "No pair has this monitor: outputs are not finite, or the probe has no labels."
            }
        };
        frame.render_widget(Paragraph::new(text).block(block), area);
        return;
    };
    let steps = wide(first.0, last.0);
    let [low, high] = [f64::min, f64::max].map(|choose: fn(f64, f64) -> f64| {
        values.iter().map(|(_, value)| *value).fold(first.1, choose)
    });
    let range = wide(low, high);
    let curve = thinned(&values, usize::from(area.width) * DOTS_A_COLUMN);
    let best = seen.bests.get(&of).map(|(step, best)| [(*step as f64, best.value)]);
    let decisions: Vec<[(f64, f64); 2]> = seen
        .state
        .decisions
        .iter()
        .map(|row| row.decision.step as f64)
        .filter(|step| (steps[0]..=steps[1]).contains(step))
        .map(|step| [(step, range[0]), (step, range[1])])
        .collect();
    let line =
        |data| Dataset::default().graph_type(GraphType::Line).marker(Marker::Braille).data(data);
    let mut sets: Vec<Dataset<'_>> =
        decisions.iter().map(|mark| line(mark).style(look.decision())).collect();
    sets.push(line(&curve).style(look.curve()));
    if let Some(best) = &best {
        let mark = Dataset::default().marker(Marker::Custom(BEST)).style(look.best());
        sets.push(mark.graph_type(GraphType::Scatter).data(best));
    }
    let labels = |ends: [f64; 2]| ends.map(|end| Span::styled(number(end), look.quiet()));
    let step_labels = [first.0, last.0].map(|step| Span::styled(format!("{step}"), look.quiet()));
    let chart = Chart::new(sets)
        .block(block)
        .x_axis(Axis::default().bounds(steps).labels(step_labels).style(look.quiet()))
        .y_axis(Axis::default().bounds(range).labels(labels([low, high])).style(look.quiet()));
    frame.render_widget(chart, area);
}

/// Which monitor it is, which way is better, and its best.
fn title(seen: &Seen, of: Monitor, look: Palette) -> Line<'static> {
    let better = match of {
        Monitor::OutputScaleTarget | Monitor::OutputScaleBaseline => "",
        _ if of.goal() == Goal::Max => "  ↑ better",
        _ => "  ↓ better",
    };
    let mut parts =
        vec![Span::styled(format!(" {of}"), look.title()), Span::styled(better, look.quiet())];
    if let Some((step, best)) = seen.bests.get(&of) {
        let text = format!("  {BEST} best {} at step {step}", number(best.value));
        parts.push(Span::styled(text, look.best()));
    }
    parts.push(Span::raw(" "));
    Line::from(parts)
}

/// An interval that is not empty.
fn wide(low: f64, high: f64) -> [f64; 2] {
    match low < high {
        true => [low, high],
        false => [low - 0.5, high + 0.5],
    }
}

/// At most about so many points: of the values that share a place the least and the greatest.
fn thinned(values: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if values.len() <= 2 * most.max(1) {
        return values.to_vec();
    }
    let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
    let ends = values.chunks(values.len().div_ceil(most.max(1))).flat_map(|chunk| {
        let least = chunk.iter().min_by(by_value);
        let greatest = chunk.iter().max_by(by_value);
        let mut ends: Vec<(f64, f64)> = least.into_iter().chain(greatest).copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends
    });
    ends.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_extremes_and_its_order() {
        let value = |step: usize| if step == 4321 { 9.0 } else { (step as f64 / 500.0).sin() };
        let values: Vec<(f64, f64)> = (0..10_000).map(|step| (step as f64, value(step))).collect();
        let thin = thinned(&values, 100);
        assert!(thin.len() <= 200, "{}", thin.len());
        assert!(thin.contains(&(4321.0, 9.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 <= b.0));
        assert_eq!(thinned(&values[..150], 100), values[..150]);
        assert_eq!(thinned(&values, 0).len(), 2);
    }
}
