//! Strength of the interactions by order, as in the paper's Fig. 2.
//!
//! Per order k, a bar upwards for positive effects and one downwards for negative ones: all salient
//! effects I^(k) hatched with an outline, the convergent ones J^(k) filled in front of them.

use super::chart::{Axis, extent, number, px, text_width};
use crate::convergence::Strength;
use maud::{Markup, html};

/// Id of the hatching, which the page holds once: see [`hatching`].
const HATCH: &str = "hatch";
/// Width and height of the viewBox.
const SIZE: (f64, f64) = (360.0, 210.0);

/// Bars of one network at one step.
pub(super) struct StrengthChart<'a> {
    /// Unique in the page.
    pub(super) id: &'a str,
    /// What is drawn, for readers of the text alone.
    pub(super) title: &'a str,
    /// By order 0..=n, in units of v; order 0 is always empty and not drawn.
    pub(super) strengths: &'a [Strength],
    /// Least and largest signed strength of the axis, in units of v: the same in charts that are to
    /// be compared. See [`range`].
    pub(super) range: (f64, f64),
}

/// Signed range that holds the bars of all given strengths, and 0.
pub(super) fn range<'a>(strengths: impl Iterator<Item = &'a Strength>) -> (f64, f64) {
    let ends = strengths.flat_map(|strength| [strength.positive, -strength.negative]);
    let (low, high) = extent(ends.chain([0.0]));
    (low * 1.05, high * 1.05)
}

/// The pattern of the hatched bars, to be put once into the page.
pub(crate) fn hatching() -> Markup {
    html! {
        svg.defs width="0" height="0" aria-hidden="true" focusable="false" {
            defs {
                pattern id=(HATCH) width="5" height="5" patternUnits="userSpaceOnUse"
                    patternTransform="rotate(45)" {
                    line.hatch x1="0" y1="0" x2="0" y2="5" {}
                }
            }
        }
    }
}

/// What hatched and filled bars mean.
pub(crate) fn key() -> Markup {
    let swatch = |bar: Markup| {
        html! { svg.swatch viewBox="0 0 16 12" width="16" height="12" aria-hidden="true" { (bar) } }
    };
    html! {
        p.key {
            span { (swatch(all((1.0, 1.0, 14.0, 10.0)))) " all salient effects" }
            span {
                (swatch(convergent((1.0, 1.0, 14.0, 10.0))))
                " convergent: salient in both networks, same sign"
            }
            span { "up: positive effects, down: negative" }
        }
    }
}

type Rectangle = (f64, f64, f64, f64);

fn all((x, y, width, height): Rectangle) -> Markup {
    html! {
        rect.all x=(px(x)) y=(px(y)) width=(px(width)) height=(px(height))
            fill=(format!("url(#{HATCH})")) {}
    }
}

fn convergent((x, y, width, height): Rectangle) -> Markup {
    html! { rect.convergent x=(px(x)) y=(px(y)) width=(px(width)) height=(px(height)) {} }
}

impl StrengthChart<'_> {
    /// The chart as an `svg` element.
    pub(super) fn svg(&self) -> Markup {
        let (title, description) = (format!("{}-title", self.id), format!("{}-desc", self.id));
        html! {
            svg viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1)) role="img"
                aria-labelledby=(format!("{title} {description}")) {
                title id=(title) { (self.title) }
                desc id=(description) { (self.description()) }
                (self.bars())
            }
        }
    }

    fn description(&self) -> String {
        let order = |(order, strength): (usize, &Strength)| {
            let (all, convergent) = (strength.all(), strength.convergent());
            format!("Order {order}: {} of {} convergent. ", number(convergent), number(all))
        };
        self.strengths.iter().enumerate().skip(1).map(order).collect()
    }

    fn bars(&self) -> Markup {
        let values = Axis::new(self.range, SIZE.1 - 34.0, 8.0);
        let ticks = values.ticks(4);
        let labels = ticks.values.iter().map(|&tick| text_width(&ticks.label(tick)));
        let left = 8.0 + labels.fold(0.0, f64::max);
        let right = SIZE.0 - 4.0;
        let slot = (right - left) / self.strengths.len().saturating_sub(1).max(1) as f64;
        let (zero, middle) = (values.at(0.0), 0.5 * (left + right));
        html! {
            @for &tick in &ticks.values {
                @let y = px(values.at(tick));
                line.grid x1=(px(left)) x2=(px(right)) y1=(y) y2=(y) {}
                text x=(px(left - 5.0)) y=(px(values.at(tick) + 4.0)) text-anchor="end" {
                    (ticks.label(tick))
                }
            }
            @for (order, strength) in self.strengths.iter().enumerate().skip(1) {
                @let start = left + slot * (order - 1) as f64;
                (order_bars(strength, values, start, slot))
                text x=(px(start + 0.5 * slot)) y=(px(SIZE.1 - 19.0)) text-anchor="middle" {
                    (order)
                }
            }
            line.axis x1=(px(left)) x2=(px(right)) y1=(px(zero)) y2=(px(zero)) {}
            text x=(px(middle)) y=(px(SIZE.1 - 4.0)) text-anchor="middle" { "order k" }
        }
    }
}

/// The bars of one order, in the slot that begins at `start`.
fn order_bars(strength: &Strength, values: Axis, start: f64, slot: f64) -> Markup {
    let width = (0.7 * slot).min(36.0);
    let x = start + 0.5 * (slot - width);
    let bar = |value: f64| {
        let (zero, end) = (values.at(0.0), values.at(value));
        (x, zero.min(end), width, (zero - end).abs())
    };
    let drawn = |bar: &Rectangle| bar.3 >= 0.05;
    let whole = [strength.positive, -strength.negative].map(bar);
    let agreed = [strength.convergent_positive, -strength.convergent_negative].map(bar);
    html! {
        @for bar in whole.into_iter().filter(drawn) { (all(bar)) }
        @for bar in agreed.into_iter().filter(drawn) { (convergent(bar)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strength(scale: f64) -> Strength {
        Strength {
            positive: 2.0 * scale,
            negative: scale,
            convergent_positive: scale,
            convergent_negative: 0.5 * scale,
        }
    }

    fn svg(strengths: &[Strength]) -> String {
        let range = range(strengths.iter());
        StrengthChart { id: "x", title: "x", strengths, range }.svg().into_string()
    }

    #[test]
    fn each_order_has_four_bars_and_order_zero_none() {
        let svg = svg(&[Strength::default(), strength(1.0), strength(0.5)]);
        assert_eq!(svg.matches("<rect").count(), 8);
        assert!(svg.contains("Order 1: 1.500 of 3.000 convergent."), "{svg}");
    }

    #[test]
    fn every_scale_gives_finite_coordinates() {
        let none: &[Strength] = &[];
        let cases = [0.0, 1e-300, 1e-9, 1e6, 1e300].map(|scale| vec![strength(scale); 17]);
        for strengths in cases.iter().map(Vec::as_slice).chain([none]) {
            let svg = svg(strengths);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
