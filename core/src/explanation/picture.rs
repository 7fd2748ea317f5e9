//! An explanation as one SVG that stands alone: the sample with its numbered variables, the interactions with a bar
//! for each network, and the fidelity curves.
//!
//! Colours are written out, so that programs without CSS variables draw it too. What they tell, hatching, dashes and
//! words tell as well.

mod fidelity;
mod pixels;
mod rows;
mod sentence;

use super::{Explanation, Image, Input};
use crate::telemetry::chart::px;
use maud::{Markup, PreEscaped, html};

/// Width of the viewBox.
const WIDTH: f64 = 960.0;
/// Space at its left and right.
const MARGIN: f64 = 20.0;
/// Height of a line of text.
const LINE: f64 = 18.0;
/// Longest side of an image.
const IMAGE: f64 = 240.0;
/// Longest title in characters.
const TITLE: usize = 92;
/// Of a picture that stands alone, and of a page that has one.
pub(crate) const STYLE: &str = include_str!("picture.css");

/// A part of the picture, and its height.
struct Part {
    drawn: Markup,
    height: f64,
}

impl Explanation {
    /// The picture with the `top` strongest interactions, an XML document.
    pub fn picture(&self, top: usize) -> String {
        self.drawn(top, html! { style { (PreEscaped(STYLE)) } })
    }

    /// The picture without its [`STYLE`], for a page that has it.
    pub(crate) fn drawing(&self, top: usize) -> String {
        self.drawn(top, html! {})
    }

    fn drawn(&self, top: usize, style: Markup) -> String {
        let mut parts = Vec::new();
        if let Input::Sentence(tokens) = &self.input {
            parts.push(sentence::draw(tokens));
        }
        parts.push(self.glance());
        parts.push(self.rows(top));
        parts.push(self.fidelity_curves());
        let mut y = 40.0;
        let mut placed = Vec::new();
        for part in parts {
            placed.push((y, part.drawn));
            y += part.height + 16.0;
        }
        let svg = html! {
            svg.explanation xmlns="http://www.w3.org/2000/svg"
                viewBox=(format!("0 0 {WIDTH} {}", px(y))) width=(WIDTH) height=(px(y)) role="img"
                aria-labelledby="explanation-title explanation-desc" {
                title id="explanation-title" { (self.title()) }
                desc id="explanation-desc" { (self.spoken(top)) }
                (style)
                (rows::hatching())
                rect.ground width=(WIDTH) height=(px(y)) {}
                text.head x=(MARGIN) y="30" { (super::cut(&self.title(), TITLE)) }
                @for (y, part) in placed {
                    g transform=(format!("translate(0 {})", px(y))) { (part) }
                }
            }
        };
        svg.into_string()
    }

    /// The picture in words.
    fn spoken(&self, top: usize) -> String {
        let one = |interaction: &super::Interaction| {
            let [target, baseline] = interaction.effects.map(super::signed);
            let (kind, members) = (interaction.kind_name(), self.members(interaction));
            let verdict = interaction.verdict();
            format!(" {kind} of {members}: target {target}, baseline {baseline}, {verdict}.")
        };
        let count = top.min(self.model.interactions.len());
        let all: String = self.model.interactions[..count].iter().map(one).collect();
        format!("{} salient interactions.{all}", self.model.interactions.len())
    }

    /// The image, and the numbers beside it.
    fn glance(&self) -> Part {
        let image = match &self.input {
            Input::Image(image) => self.image(image),
            _ => None,
        };
        let left = if image.is_some() { MARGIN + IMAGE + 30.0 } else { MARGIN };
        let rows: Vec<_> = self.numbers().into_iter().chain(self.certificates()).collect();
        let y = |row: usize| px(14.0 + LINE * row as f64);
        let (first, second) = (left + 300.0, left + 420.0);
        let height =
            (LINE * (rows.len() + 1) as f64).max(if image.is_some() { IMAGE } else { 0.0 });
        let drawn = html! {
            @if let Some(image) = image { (image) }
            text.target.strong x=(px(first)) y=(y(0)) text-anchor="end" { "target" }
            text.baseline.strong x=(px(second)) y=(y(0)) text-anchor="end" { "baseline" }
            @for (row, (name, [target, baseline])) in rows.iter().enumerate() {
                text.quiet x=(px(left)) y=(y(row + 1)) { (name) }
                text x=(px(first)) y=(y(row + 1)) text-anchor="end" { (target) }
                text x=(px(second)) y=(y(row + 1)) text-anchor="end" { (baseline) }
            }
        };
        Part { drawn, height }
    }

    fn image(&self, image: &Image) -> Option<Markup> {
        let data = pixels::data_url(image)?;
        let [width, height] = image.size.map(|side| side as f64);
        let scale = IMAGE / width.max(height);
        let (width, height) = (width * scale, height * scale);
        let patches = self.variables.iter().filter_map(|variable| match variable.meaning {
            super::Meaning::Patch { row, column } => Some((variable.number, row, column)),
            _ => None,
        });
        Some(html! {
            image.pixels x=(MARGIN) y="0" width=(px(width)) height=(px(height)) href=(data)
                preserveAspectRatio="none" {}
            rect.frame x=(MARGIN) y="0" width=(px(width)) height=(px(height)) {}
            @if let Some(grid) = image.grid.filter(|&grid| grid > 0) {
                @let (across, down) = (width / grid as f64, height / grid as f64);
                @for (number, row, column) in patches {
                    @let (x, y) = (MARGIN + across * (column - 1) as f64, down * (row - 1) as f64);
                    rect.patch x=(px(x + 0.8)) y=(px(y + 0.8)) width=(px(across - 1.6))
                        height=(px(down - 1.6)) {}
                    rect.badge x=(px(x + 1.0)) y=(px(y + 1.0)) width="18" height="15" rx="2" {}
                    text x=(px(x + 10.0)) y=(px(y + 12.5)) text-anchor="middle" { (number) }
                }
            }
        })
    }
}
