//! An explanation as one self-contained HTML page: the picture, and the numbers as tables.
//!
//! It has no script and asks no other host for anything.

use super::{Explanation, Interaction, Row, signed};
use crate::telemetry::chart::number;
use crate::telemetry::report::head;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Beside the style of the report: on narrow screens the picture scrolls, and on paper it fits the first page.
const STYLE: &str = ".scroll>svg.explanation{min-width:44rem;max-width:60rem}\
@media print{.scroll>svg.explanation{min-width:0;max-height:19cm}}";

impl Explanation {
    /// The page, a whole HTML document; the picture has the `top` strongest interactions, the table all.
    pub fn page(&self, top: usize) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                (head(&self.title(), STYLE))
                body {
                    header {
                        p.state { "Explanation of one sample" }
                        h1 { (self.title()) }
                        p.summary { (self.summary()) }
                        @for note in &self.notes { p { strong { "Note: " } (note) "." } }
                    }
                    main {
                        div.scroll role="region" aria-label="The picture" tabindex="0" {
                            (PreEscaped(self.picture(top)))
                        }
                        (self.interactions_section())
                        (self.variables_section())
                        (section("numbers", "Numbers", NUMBERS, &self.numbers()))
                        (section("certificates", "Certificates", CERTIFICATES, &self.certificates()))
                        (self.fidelity_section())
                        (self.origin_section())
                    }
                    footer { "Made by convergd " (env!("CARGO_PKG_VERSION")) }
                }
            }
        };
        page.into_string()
    }

    fn summary(&self) -> String {
        let (all, convergent) = (self.model.interactions.len(), self.model.convergent());
        let [target, baseline] = self.model.networks.each_ref().map(|network| network.salient);
        format!(
            "{all} interactions are salient, {target} in the target and {baseline} in the baseline; \
             {convergent} are convergent: salient in both networks with the same sign."
        )
    }

    fn interactions_section(&self) -> Markup {
        html! {
            section {
                h2 id="interactions" { "Interactions" }
                p.note { "All that are salient in a network, by the larger |effect|, in log-odds. \
                    An AND interaction acts when all its variables are present, an OR interaction when any \
                    is. ∗ salient." }
                div.scroll.tall role="region" aria-labelledby="interactions" tabindex="0" { table {
                    thead { tr {
                        @for name in ["Kind", "Variables", "Target", "Baseline", "Which"] {
                            th scope="col" { (name) }
                        }
                    } }
                    tbody { @for interaction in &self.model.interactions {
                        (self.interaction_row(interaction))
                    } }
                } }
            }
        }
    }

    fn interaction_row(&self, interaction: &Interaction) -> Markup {
        html! {
            tr {
                th scope="row" { (interaction.kind_name()) }
                td { (self.members(interaction)) }
                @for network in 0..2 {
                    td.number {
                        (signed(interaction.effects[network]))
                        @if interaction.agreement.salient[network] { "∗" }
                    }
                }
                td { (interaction.verdict()) }
            }
        }
    }

    fn variables_section(&self) -> Markup {
        html! {
            section {
                h2 { "Variables" }
                dl { @for variable in &self.variables {
                    div { dt { (variable.number) } dd { (variable.description()) } }
                } }
            }
        }
    }

    fn fidelity_section(&self) -> Markup {
        let cell = |error: Option<f64>| error.map_or_else(|| "–".to_owned(), number);
        html! {
            section {
                h2 id="fidelity" { "Fidelity" }
                p.note { "Error of v over all " (1usize << self.variables.len()) " masked states with only the \
                    strongest interactions kept, in log-odds." }
                div.scroll role="region" aria-labelledby="fidelity" tabindex="0" { table {
                    thead {
                        tr {
                            th scope="col" rowspan="2" { "Kept" }
                            th scope="colgroup" colspan="2" { "Root mean square" }
                            th scope="colgroup" colspan="2" { "Largest" }
                        }
                        tr { @for _ in 0..2 {
                            th scope="col" { "target" }
                            th scope="col" { "baseline" }
                        } }
                    }
                    tbody { @for (kept, errors) in self.model.fidelity() { tr {
                        th scope="row" { (kept) }
                        @for error in errors {
                            td.number { (cell(error.map(|error| error.root_mean_square))) }
                        }
                        @for error in errors {
                            td.number { (cell(error.map(|error| error.largest))) }
                        }
                    } } }
                } }
            }
        }
    }

    fn origin_section(&self) -> Markup {
        let [target, baseline] = &self.checkpoints;
        let solver = &self.settings.solver;
        let rows = [
            ("target", target.clone()),
            ("baseline", baseline.clone()),
            ("noise", self.settings.noise.to_string()),
            ("salience", self.settings.salience.to_string()),
            ("gap", solver.gap.to_string()),
            ("solver iterations", solver.iterations.to_string()),
            ("largest basis", solver.largest_basis.to_string()),
        ];
        html! {
            section {
                h2 { "Checkpoints and settings" }
                dl { @for (term, text) in rows { div { dt { (term) } dd { (text) } } } }
            }
        }
    }
}

const NUMBERS: &str = "In log-odds. τ: an effect that is larger is salient. ζ: how far the model with all its \
effects may be from v.";
const CERTIFICATES: &str = "The model with the least cost lies between the proven bound and the cost that was \
found; exact: both are the same up to rounding. Computed from the answer alone.";

fn section(id: &str, heading: &str, note: &str, rows: &[Row]) -> Markup {
    html! {
        section {
            h2 id=(id) { (heading) }
            p.note { (note) }
            div.scroll role="region" aria-labelledby=(id) tabindex="0" { table {
                thead { tr {
                    th scope="col" { span.hidden { "What" } }
                    th scope="col" { "Target" }
                    th scope="col" { "Baseline" }
                } }
                tbody { @for (name, values) in rows { tr {
                    th scope="row" { (name) }
                    @for value in values { td.number { (value) } }
                } } }
            } }
        }
    }
}
