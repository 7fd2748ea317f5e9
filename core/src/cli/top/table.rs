//! All monitors, now and at their best.

use super::number::estimate;
use super::palette::Palette;
use super::watch::Seen;
use crate::convergence::Monitor;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::Text;
use ratatui::widgets::{Block, Borders, Row, Table, TableState};

/// The width of all columns.
pub(super) const WIDTH: u16 = 60;
/// Lines above the first monitor.
pub(super) const HEAD: u16 = 2;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, seen: &Seen, chosen: Monitor, look: Palette) {
    let last = seen.pairs.last();
    let rows = Monitor::ALL.iter().map(|&monitor| {
        let now = last.and_then(|(_, monitors)| monitors.get(&monitor));
        let now = now.map_or_else(|| "–".to_owned(), |now| estimate(*now));
        let best = seen.bests.get(&monitor);
        let value = best.map_or_else(|| "–".to_owned(), |(_, best)| estimate(*best));
        let step = best.map_or_else(String::new, |(step, _)| step.to_string());
        let right = |text: String| Text::from(text).right_aligned();
        let row = Row::new([Text::from(monitor.name()), right(now), right(value), right(step)]);
        if monitor == chosen { row.style(look.chosen()) } else { row }
    });
    let right = |text: &'static str| Text::from(text).right_aligned();
    let head = Row::new([Text::from("monitor"), right("now"), right("best"), right("at step")]);
    // Names of 23 characters, values of 13 with their errors, and a blank between columns.
    let widths = [23, 13, 13, 8].map(Constraint::Length);
    let flexible = [widths[0], Constraint::Fill(2), Constraint::Fill(2), Constraint::Fill(1)];
    let widths = if area.width > WIDTH { flexible } else { widths };
    let table = Table::new(rows, widths)
        .header(head.style(look.quiet()))
        .block(Block::new().borders(Borders::TOP).title(" monitors "));
    // The chosen one stays in sight.
    let place = Monitor::ALL.iter().position(|&monitor| monitor == chosen);
    let mut state = TableState::new().with_selected(place);
    frame.render_stateful_widget(table, area, &mut state);
}
