//! The screen: where everything stands, and what keys change.

use super::palette::Palette;
use super::watch::{Seen, Watch};
use super::{chart, events, table};
use crate::cli::duration::readable;
use crate::convergence::Monitor;
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Wrap};

/// From this width on the table stands beside the chart.
const WIDE: u16 = 2 * table::WIDTH;
/// From this height on sections have titles and long lines are wrapped.
const HIGH: u16 = 26;
/// Rows of a chart that tells enough: what is beyond is for the table.
const LEAST_CHART: u16 = 14;
const KEYS: &str = " q quit  ←→ monitor  ? help";
const HELP: [&str; 9] = [
    "← → ↑ ↓  Tab    another monitor",
    "Home  End       the first, the last",
    "?               this help",
    "q  Esc  Ctrl-C  end",
    "",
    "◆ is the best pair of the monitor,",
    "a vertical line is a decision,",
    "↑ and ↓ in the title say what is better.",
    "The run goes on without this view.",
];

/// What the user has chosen to see.
pub(super) struct Screen {
    chosen: usize,
    is_helping: bool,
    look: Palette,
    /// Why the run could not be read just now.
    pub(super) trouble: Option<String>,
}

impl Screen {
    pub(super) fn new(chosen: Monitor, look: Palette) -> Self {
        let chosen = Monitor::ALL.iter().position(|&monitor| monitor == chosen).unwrap_or(0);
        Self { chosen, is_helping: false, look, trouble: None }
    }

    /// Closes the help; whether it was open.
    pub(super) fn close_help(&mut self) -> bool {
        std::mem::take(&mut self.is_helping)
    }

    pub(super) fn press(&mut self, key: KeyCode) {
        let (count, chosen) = (Monitor::ALL.len(), self.chosen);
        match key {
            KeyCode::Char('?') => self.is_helping = !self.is_helping,
            KeyCode::Right | KeyCode::Down | KeyCode::Tab => self.chosen = (chosen + 1) % count,
            KeyCode::Left | KeyCode::Up | KeyCode::BackTab => {
                self.chosen = (chosen + count - 1) % count;
            }
            KeyCode::Home => self.chosen = 0,
            KeyCode::End => self.chosen = count - 1,
            _ => {}
        }
    }

    /// `now`: seconds since 1970.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, watch: &Watch, now: f64) {
        let area = frame.area();
        let head = self.head(watch, now, area.width);
        let rows =
            [Constraint::Length(head.len() as u16), Constraint::Fill(1), Constraint::Length(1)];
        let [above, middle, below] = Layout::vertical(rows).areas(area);
        frame.render_widget(Paragraph::new(head), above);
        match &watch.seen {
            Some(seen) => self.draw_run(frame, middle, seen),
            None => {
                let text = format!(
                    "There is no history in {} yet.\nIt is waited for: `convergd run` makes it.",
                    watch.state()
                );
                frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), middle);
            }
        }
        let keys = match &self.trouble {
            Some(trouble) => Span::styled(format!(" {trouble}"), self.look.warning()),
            None => Span::styled(KEYS, self.look.quiet()),
        };
        frame.render_widget(keys, below);
        if self.is_helping {
            self.draw_help(frame, area);
        }
    }

    /// The run in a few words, on as many lines as they need.
    fn head(&self, watch: &Watch, now: f64, width: u16) -> Vec<Line<'static>> {
        let mut parts = vec![Span::styled(watch.name().to_owned(), self.look.title())];
        if let Some(seen) = &watch.seen {
            parts.extend(self.facts(seen, now));
        }
        flow(parts, usize::from(width))
    }

    fn facts(&self, seen: &Seen, now: f64) -> Vec<Span<'static>> {
        let (state, look) = (&seen.state, self.look);
        let mut facts = Vec::new();
        let mut add = |text: String, style| facts.push(Span::styled(text, style));
        let plain = ratatui::style::Style::new();
        add(seen.at_work(), plain);
        if state.is_dry {
            add("dry run".to_owned(), plain);
        }
        match (&state.ended, state.policy.stopped) {
            (_, true) => add("stopped early".to_owned(), look.decision()),
            (Some(ended), _) => add(format!("ended: {ended}"), plain),
            _ => {}
        }
        if let Some(failure) = &state.failure {
            add(format!("the last start failed: {}", failure.error), look.warning());
        }
        if state.is_known() {
            add(format!("phase {}, λ = {}", state.policy.phase, state.policy.lambda), plain);
        }
        match &state.last {
            None => add("no pair yet".to_owned(), plain),
            Some(last) => {
                let ago = readable(now - last.time);
                add(format!("step {}, {ago} ago", last.step), look.title());
                let pairs = if state.pairs == 1 { "pair" } else { "pairs" };
                add(format!("{} {pairs}", state.pairs), plain);
                let is_good = last.finite && last.certified == last.samples;
                let style = if is_good { plain } else { look.warning() };
                match last.finite {
                    true => add(format!("{} of {} certified", last.certified, last.samples), style),
                    false => add("outputs are not finite".to_owned(), style),
                }
            }
        }
        let lag = seen.lag().filter(|_| state.waiting > 0);
        let lag = lag.map_or_else(String::new, |lag| format!(", {lag} steps behind"));
        add(format!("{} waiting{lag}", state.waiting), plain);
        let aside = [(state.skipped.count, "skipped"), (state.quarantined.count, "quarantined")];
        for (count, name) in aside.into_iter().filter(|(count, _)| *count > 0) {
            let style = if name == "quarantined" { look.warning() } else { plain };
            add(format!("{count} {name}"), style);
        }
        let alerts = state.alerts();
        if !alerts.is_empty() {
            add(format!("alert: {}", alerts.join(", ")), look.warning());
        }
        facts.retain(|fact| !fact.content.is_empty());
        facts
    }

    fn draw_run(&self, frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
        let (rules, events) = (events::rules(seen, self.look), events::events(seen, self.look));
        let is_high = area.height >= HIGH;
        // Of what is left to the chart and the table, texts take a third at most.
        let most = (area.height / if is_high { 6 } else { 5 }).max(1);
        let room = |lines: &[Line<'_>]| match lines {
            [] => 0,
            _ if is_high => 1 + section(lines, area.width).min(most),
            lines => (lines.len() as u16).min(most),
        };
        let rows = [
            Constraint::Fill(1),
            Constraint::Length(room(&rules)),
            Constraint::Length(room(&events)),
        ];
        let [middle, of_rules, of_events] = Layout::vertical(rows).areas(area);
        self.draw_monitors(frame, middle, seen);
        for (lines, title, place) in
            [(rules, " rules ", of_rules), (events, " decisions and notices ", of_events)]
        {
            let text = Paragraph::new(lines);
            match is_high {
                true => {
                    let block = Block::new().borders(Borders::TOP).title(title);
                    frame.render_widget(text.wrap(Wrap { trim: true }).block(block), place);
                }
                false => frame.render_widget(text, place),
            }
        }
    }

    fn draw_monitors(&self, frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
        let chosen = Monitor::ALL[self.chosen];
        let all = Monitor::ALL.len() as u16 + table::HEAD;
        let [of_chart, of_table] = match area.width >= WIDE {
            true => Layout::horizontal([Constraint::Fill(1), Constraint::Length(table::WIDTH + 8)])
                .spacing(1)
                .areas(area),
            false => {
                let rows = (area.height * 2 / 5).max(area.height.saturating_sub(LEAST_CHART));
                let rows = rows.clamp(table::HEAD + 1, all);
                Layout::vertical([Constraint::Fill(1), Constraint::Length(rows)]).areas(area)
            }
        };
        chart::draw(frame, of_chart, seen, chosen, self.look);
        table::draw(frame, of_table, seen, chosen, self.look);
    }

    fn draw_help(&self, frame: &mut Frame<'_>, area: Rect) {
        let (width, height) = (44.min(area.width), (HELP.len() as u16 + 2).min(area.height));
        let middle = area.centered(Constraint::Length(width), Constraint::Length(height));
        let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(*line)).collect();
        frame.render_widget(Clear, middle);
        let block = Block::bordered().title(" keys ").title_style(self.look.title());
        frame.render_widget(Paragraph::new(lines).block(block), middle);
    }
}

/// Lines that a section needs with its long lines wrapped.
fn section(lines: &[Line<'_>], width: u16) -> u16 {
    let lines = lines.iter().map(|line| line.width().div_ceil(usize::from(width.max(1))));
    u16::try_from(lines.sum::<usize>()).unwrap_or(u16::MAX)
}

/// Parts beside each other, with a dot between, on lines of a width.
fn flow(parts: Vec<Span<'static>>, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default()];
    for part in parts {
        let Some(line) = lines.last_mut() else { break };
        let between = if line.spans.is_empty() { " " } else { " · " };
        if line.spans.is_empty() || line.width() + between.chars().count() + part.width() <= width {
            line.push_span(between);
            line.push_span(part);
        } else {
            lines.push(Line::from(vec![Span::raw(" "), part]));
        }
    }
    lines
}
