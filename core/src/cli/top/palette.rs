//! Colours, which nothing is told by alone.

use ratatui::style::{Color, Modifier, Style};

/// How things look.
#[derive(Clone, Copy)]
pub(super) struct Palette {
    has_colours: bool,
}

impl Palette {
    /// Without colours where `NO_COLOR` is set and not empty (no-color.org).
    pub(super) fn of_environment() -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { has_colours: !is_plain }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn curve(self) -> Style {
        self.coloured(Color::Cyan)
    }

    pub(super) fn best(self) -> Style {
        self.coloured(Color::Green).add_modifier(Modifier::BOLD)
    }

    pub(super) fn decision(self) -> Style {
        self.coloured(Color::Magenta)
    }

    pub(super) fn warning(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Labels beside what they name.
    pub(super) fn quiet(self) -> Style {
        self.coloured(Color::DarkGray)
    }
}

#[cfg(test)]
impl Palette {
    pub(super) fn with_colours(has_colours: bool) -> Self {
        Self { has_colours }
    }
}
