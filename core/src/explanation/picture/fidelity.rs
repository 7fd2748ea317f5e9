//! The fidelity curves: the error of the model by the number of interactions that are kept.

use super::{LINE, MARGIN, Part, WIDTH};
use crate::explanation::{Explanation, NETWORKS};
use crate::interaction::Fidelity;
use crate::telemetry::chart::{Axis, extent, px, text_width};
use maud::{Markup, html};

/// Height of a panel, of what stands above and below its plot, and the space between two panels.
const HEIGHT: f64 = 210.0;
const ABOVE: f64 = 30.0;
const BELOW: f64 = 40.0;
const BETWEEN: f64 = 40.0;
/// Space for the labels of the values.
const LABELS: f64 = 46.0;

type Error = fn(&Fidelity) -> f64;

impl Explanation {
    pub(super) fn fidelity_curves(&self) -> Part {
        let states = 1usize << self.variables.len();
        let heading = format!(
            "Fidelity: error over all {states} masked states with only the strongest interactions kept, in log-odds"
        );
        let width = (WIDTH - 2.0 * MARGIN - BETWEEN) / 2.0;
        let panels: [(&str, Error); 2] = [
            ("root mean square", |entry| entry.root_mean_square),
            ("largest", |entry| entry.largest),
        ];
        let drawn = html! {
            text.strong x=(MARGIN) y="16" { (heading) }
            @for (panel, (name, error)) in panels.into_iter().enumerate() {
                @let x = MARGIN + (width + BETWEEN) * panel as f64;
                g transform=(format!("translate({} {})", px(x), px(LINE + 6.0))) {
                    (self.panel(name, error, width))
                }
            }
        };
        Part { drawn, height: LINE + 6.0 + HEIGHT }
    }

    fn panel(&self, name: &str, error: Error, width: f64) -> Markup {
        let networks = self.model.networks.each_ref().map(|network| &network.fidelity);
        let entries = || networks.iter().flat_map(|entries| entries.iter());
        let values = Axis::new(extent(entries().map(error).chain([0.0])), HEIGHT - BELOW, ABOVE);
        let most = entries().map(|entry| entry.kept).max().unwrap_or(0);
        let kept = Axis::new((0.0, place(most).max(1.0)), LABELS, width - 14.0);
        let x = |entry: &Fidelity| kept.at(place(entry.kept));
        let points = |entries: &[Fidelity]| {
            let points = entries.iter().filter(|entry| error(entry).is_finite());
            let points =
                points.map(|entry| format!("{},{}", px(x(entry)), px(values.at(error(entry)))));
            points.collect::<Vec<_>>().join(" ")
        };
        let ticks = values.ticks(4);
        html! {
            text.small x="0" y="14" { (name) }
            @for (network, name) in NETWORKS.into_iter().enumerate() {
                @let start = width - 180.0 + 90.0 * network as f64;
                line class=(format!("curve {name}")) x1=(px(start)) x2=(px(start + 26.0)) y1="10" y2="10" {}
                text class=(format!("small {name}")) x=(px(start + 31.0)) y="14" { (name) }
            }
            @for &tick in &ticks.values {
                @let y = values.at(tick);
                line.rule x1=(LABELS) x2=(px(width - 14.0)) y1=(px(y)) y2=(px(y)) {}
                text.tick x=(LABELS - 6.0) y=(px(y + 4.0)) text-anchor="end" { (ticks.label(tick)) }
            }
            line.axis x1=(LABELS) x2=(px(width - 14.0)) y1=(px(HEIGHT - BELOW)) y2=(px(HEIGHT - BELOW)) {}
            @for (x, count) in self.counts(kept) {
                line.axis x1=(px(x)) x2=(px(x)) y1=(px(HEIGHT - BELOW)) y2=(px(HEIGHT - BELOW + 4.0)) {}
                text.tick x=(px(x)) y=(px(HEIGHT - BELOW + 17.0)) text-anchor="middle" { (count) }
            }
            text.tick x=(px(0.5 * (LABELS + width))) y=(px(HEIGHT - 6.0)) text-anchor="middle" {
                "interactions kept"
            }
            @for (entries, name) in networks.into_iter().zip(NETWORKS) {
                polyline class=(format!("curve {name}")) points=(points(entries)) {}
                @for entry in entries.iter().filter(|entry| error(entry).is_finite()) {
                    circle class=(name) cx=(px(x(entry))) cy=(px(values.at(error(entry)))) r="2.5" {}
                }
            }
        }
    }

    /// Places and numbers under the axis: the last first, then those that have room beside the others.
    fn counts(&self, axis: Axis) -> Vec<(f64, usize)> {
        let mut placed: Vec<(f64, usize)> = Vec::new();
        for (count, _) in self.model.fidelity().into_iter().rev() {
            let (x, width) = (axis.at(place(count)), text_width(&count.to_string()));
            if placed.last().is_none_or(|(last, _)| x + width + 4.0 < *last) {
                placed.push((x, count));
            }
        }
        placed
    }
}

/// Where a number of interactions stands: the first ones tell most.
fn place(kept: usize) -> f64 {
    (kept as f64).ln_1p()
}
