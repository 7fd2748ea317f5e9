//! Samples of the probe with their strongest interactions, and one of them explained.

use super::super::choice::Choice;
use super::{Found, IN_LIST, IN_PICTURE, LISTED, Listed, View};
use crate::explanation::{Explanation, Input, Interaction};
use crate::telemetry::chart::step_text;
use maud::{Markup, PreEscaped, html};
use std::sync::Arc;

/// Words of a sentence in the list.
const WORDS: usize = 24;

impl View {
    /// The step whose samples are shown.
    pub(super) fn step(&self) -> Option<u64> {
        let report = &self.snapshot.report;
        let last = || report.pairs.last().map(|pair| pair.step);
        let best = report.best_step().filter(|&step| report.pair(step).is_some());
        self.choice.step.or(best).or_else(last)
    }

    pub(super) fn samples_section(
        &self,
        list: Option<&Found<Listed>>,
        explained: Option<&Found<Arc<Explanation>>>,
    ) -> Markup {
        html! {
            section #samples aria-labelledby="samples-heading" {
                h2 #samples-heading { "Samples" }
                p.note {
                    "The strongest interactions of each sample of the probe in both networks. They are extracted when they \
                     are asked for, from the cached values of the pair."
                }
                (self.samples_choice())
                (self.list(list))
                (self.explanation(explained))
            }
        }
    }

    /// The step, once there is one.
    pub(super) fn samples_choice(&self) -> Markup {
        html! {
            div #samples-form {
                @if let Some(step) = self.step() {
                    form.choose method="get" action="/#samples" {
                        (self.hidden_choices(&["step", "samples", "sample"]))
                        input type="hidden" name="samples" value="0";
                        label for="step-choice" { "Step" }
                        input #step-choice type="number" name="step" value=(step) min="0" step="1" required autocomplete="off";
                        button.always type="submit" { "Show its samples" }
                    }
                }
            }
        }
    }

    pub(super) fn list(&self, list: Option<&Found<Listed>>) -> Markup {
        html! {
            div #sample-list aria-live="off" data-step=[self.step()] {
                @match list {
                    None if self.step().is_none() => p.unlisted { "No pair has been evaluated yet." },
                    None => {
                        p.unlisted {
                            a href=(Choice { samples: Some(0), ..self.choice }.address("samples")) { "Show samples" }
                        }
                    }
                    Some(Err(refusal)) => p.refusal { (refusal.message) "." },
                    Some(Ok(listed)) => (self.listed(listed)),
                }
            }
        }
    }

    fn listed(&self, listed: &Listed) -> Markup {
        let at = |from| {
            let choice = Choice { samples: Some(from), step: Some(listed.step), ..self.choice };
            choice.address("samples")
        };
        let last = listed.from + listed.explanations.len();
        html! {
            p.note {
                "Step " (step_text(listed.step)) ", samples " (listed.from) " to " (last.saturating_sub(1))
                " of 0 to " (listed.samples.saturating_sub(1)) ", " (listed.variables) " variables."
            }
            ol.samples { @for explanation in &listed.explanations { (self.item(explanation)) } }
            p.pages {
                @if listed.from > 0 {
                    a #samples-before href=(at(listed.from.saturating_sub(LISTED))) rel="prev" { "← before" }
                }
                @if let Some(next) = listed.next() {
                    a #samples-after href=(at(next)) rel="next" { "after →" }
                }
            }
        }
    }

    fn item(&self, explanation: &Explanation) -> Markup {
        let Explanation { step, sample, class, model, .. } = explanation;
        let choice = Choice { step: Some(*step), sample: Some(*sample), ..self.choice };
        let is_chosen = self.choice.sample == Some(*sample);
        let (all, convergent) = (model.interactions.len(), model.convergent());
        html! {
            li.chosen[is_chosen] {
                (picture(explanation))
                div {
                    h3 { a id={ "sample-" (sample) } href=(choice.address("sample")) data-sample=(sample)
                        aria-current=[is_chosen.then_some("true")] { "Sample " (sample) } span.of { " class " (class) } }
                    p.note { (convergent) " of " (all) " salient interactions converge" }
                    ul.strongest {
                        @for interaction in model.interactions.iter().take(IN_LIST) {
                            (strongest(explanation, interaction))
                        }
                    }
                }
            }
        }
    }

    pub(super) fn explanation(&self, explained: Option<&Found<Arc<Explanation>>>) -> Markup {
        html! {
            div #sample {
                @match explained {
                    None => {}
                    Some(Err(refusal)) => p.refusal { (refusal.message) "." },
                    Some(Ok(explanation)) => {
                        @let Explanation { step, sample, .. } = &**explanation;
                        h3 #sample-heading tabindex="-1" { "Sample " (sample) " at step " (step_text(*step)) }
                        @for note in &explanation.notes { p.note { "Note: " (note) "." } }
                        div #sample-picture.scroll role="region" aria-label="The picture of the sample" tabindex="0" {
                            (PreEscaped(explanation.drawing(IN_PICTURE)))
                        }
                        p { a href={ "/explanation/" (step) "/" (sample) } { "All its interactions and numbers" }
                            ", " a href={ "/api/v1/samples/" (step) "/" (sample) } { "as JSON" } }
                    }
                }
            }
        }
    }
}

/// What the sample looks like, small.
fn picture(explanation: &Explanation) -> Markup {
    html! {
        @match &explanation.input {
            Input::Image(image) => @if let Some(data) = image.thumbnail() {
                img.thumbnail src=(data) alt={ "Sample " (explanation.sample) } width="72" height="72";
            },
            Input::Sentence(tokens) => p.sentence {
                @for token in tokens.iter().take(WORDS) {
                    @if token.variable.is_some() { b { (token.text) } } @else { (token.text) } " "
                }
                @if tokens.len() > WORDS { "…" }
            },
            Input::Other => {}
        }
    }
}

fn strongest(explanation: &Explanation, interaction: &Interaction) -> Markup {
    let [target, baseline] = interaction.effects.map(crate::explanation::signed);
    html! {
        li {
            span.kind { (interaction.kind_name()) } " "
            span.members { (explanation.members(interaction)) } " "
            span.effects {
                span.target { (target) } " / " span.baseline { (baseline) }
            } " "
            @if interaction.agreement.convergent {
                strong { (interaction.verdict()) }
            } @else {
                span.note { (interaction.verdict()) }
            }
        }
    }
}
