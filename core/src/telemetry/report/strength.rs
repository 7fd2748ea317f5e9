//! The strength of interactions by order, as the paper's Fig. 2.

use super::super::chart::step_text;
use super::super::strength_chart::{StrengthChart, key, range};
use super::{PairRow, Report};
use crate::convergence::Strength;
use maud::{Markup, html};
use std::sync::Arc;

const NETWORKS: [&str; 2] = ["Target", "Baseline"];

impl Report {
    /// The first, the best and the last pair, each once.
    fn shown_pairs(&self) -> Vec<(&'static str, &PairRow)> {
        let best = self.best_step().and_then(|step| self.pair(step));
        let [first, last] =
            [self.pairs.first(), self.pairs.last()].map(|pair| pair.map(Arc::as_ref));
        let named = [("First", first), ("Best", best), ("Last", last)];
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

    pub(super) fn strength_section(&self) -> Markup {
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
                    @for (network, name) in NETWORKS.into_iter().enumerate() {
                        h3 { (name) }
                        div.grid.three { (compared(&shown, network, name)) }
                    }
                }
            }
        }
    }

    /// Both networks at one pair, on the scale of all pairs, so that bars of different steps compare.
    pub(crate) fn strength_at(&self, pair: &PairRow) -> Markup {
        html! {
            div.grid.two { @for (network, name) in NETWORKS.into_iter().enumerate() {
                @let of_all = self.pairs.iter().flat_map(|pair| &pair.strengths[network]);
                @let title = format!("{name}, step {}", step_text(pair.step));
                @let (id, strengths) = (format!("strength-{network}"), &pair.strengths[network]);
                div.figure {
                    h3 { (name) }
                    (StrengthChart { id: &id, title: &title, strengths, range: range(of_all) }.svg())
                }
            } }
        }
    }
}

fn compared(shown: &[(&str, &PairRow)], network: usize, name: &str) -> Markup {
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
