//! Strength by order at one pair, which a slider chooses (the paper's Fig. 2).

use super::View;
use crate::telemetry::chart::step_text;
use crate::telemetry::strength_chart::key;
use maud::{Markup, html};

impl View {
    pub(super) fn strength_section(&self) -> Markup {
        let count = self.snapshot.report.pairs.len();
        let place = self.snapshot.pair_at(self.choice.pair);
        html! {
            section #strength aria-labelledby="strength-heading" {
                h2 #strength-heading { "Strength by order" }
                p.note {
                    "Mean strength of the interactions of each order, in units of v (log-odds): all salient ones \
                     against those that converge. The scale is that of all steps. As the networks overfit, strength \
                     that does not converge grows, most at high orders, positive and negative alike."
                }
                (key())
                form.choose method="get" action="/#strength" {
                    (self.hidden_choices(&["pair"]))
                    label for="pair-choice" { "Pair" }
                    input #pair-choice type="range" name="pair" min="0" max=(count.saturating_sub(1))
                        value=(place.map_or(0, |(place, _)| place)) disabled[count < 2] autocomplete="off"
                        aria-valuetext=(place.map_or("none".to_owned(), |(_, pair)| format!("step {}", step_text(pair.step))));
                    output #pair-shown for="pair-choice" {
                        @if let Some((_, pair)) = place { "step " (step_text(pair.step)) }
                    }
                    button type="submit" { "Show" }
                }
                (self.strength())
            }
        }
    }

    /// The charts of both networks.
    pub(super) fn strength(&self) -> Markup {
        let report = &self.snapshot.report;
        let count = report.pairs.len();
        html! {
            @match self.snapshot.pair_at(self.choice.pair) {
                None => div #strength-figure data-count="0" { p { "No pair has been evaluated yet." } },
                Some((place, pair)) => {
                    div #strength-figure data-count=(count) data-place=(place)
                        data-step={ "step " (step_text(pair.step)) } {
                        @if pair.strengths.iter().all(Vec::is_empty) {
                            p { "Outputs of the pair of step " (step_text(pair.step)) " are not finite." }
                        } @else {
                            (report.strength_at(pair))
                        }
                    }
                }
            }
        }
    }
}
