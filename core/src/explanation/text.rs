//! An explanation for a terminal of 100 columns.

use super::{Explanation, Row, cut, shown, signed};
use crate::telemetry::chart::number;
use std::fmt::Write;

/// Columns of the terminal.
const WIDTH: usize = 100;
/// Columns before the variables of an interaction.
const BEFORE: usize = 48;

impl Explanation {
    /// The text, with the `top` strongest interactions.
    pub fn text(&self, top: usize) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text, top);
        text
    }

    fn write(&self, text: &mut String, top: usize) -> std::fmt::Result {
        writeln!(text, "{}", cut(&self.title(), WIDTH))?;
        writeln!(text, "v is the log-odds of the class; ∅ masks all variables, N none")?;
        for note in &self.notes {
            wrapped(text, "note: ", note)?;
        }
        writeln!(text, "\n{:<26}{:>14}{:>14}", "", "target", "baseline")?;
        for (name, [target, baseline]) in self.numbers().into_iter().chain(self.certificates()) {
            writeln!(text, "{name:<26}{target:>14}{baseline:>14}")?;
        }
        writeln!(text, "\nvariables")?;
        for variable in &self.variables {
            let description = cut(&variable.description(), WIDTH - 6);
            writeln!(text, "{:>4}  {description}", variable.number)?;
        }
        self.write_interactions(text, top)?;
        self.write_fidelity(text)
    }

    fn write_interactions(&self, text: &mut String, top: usize) -> std::fmt::Result {
        let all = &self.model.interactions;
        let count = top.min(all.len());
        let convergent = self.model.convergent();
        writeln!(
            text,
            "\nsalient interactions: {}; {convergent} convergent",
            shown(count, all.len())
        )?;
        if count == 0 {
            return Ok(());
        }
        writeln!(text, "  kind      target     baseline    which           variables")?;
        for interaction in &all[..count] {
            let [target, baseline] = [0, 1].map(|network| {
                let star = if interaction.agreement.salient[network] { "*" } else { " " };
                signed(interaction.effects[network]) + star
            });
            let (kind, verdict) = (interaction.kind_name(), interaction.verdict());
            let members = cut(&self.members(interaction), WIDTH - BEFORE);
            writeln!(text, "  {kind:<3}{target:>13}{baseline:>13}   {verdict:<16}{members}")?;
        }
        writeln!(text, "  * salient; convergent: salient in both networks with the same sign")
    }

    fn write_fidelity(&self, text: &mut String) -> std::fmt::Result {
        let states = 1usize << self.variables.len();
        writeln!(
            text,
            "\nerror over all {states} masked states, with only the strongest interactions kept"
        )?;
        let headings = [["target", "baseline"], ["target", "baseline"]];
        let row = |name: &str, [a, b]: [Row; 2]| {
            let cells = [a.1, b.1].concat();
            format!("  {name:>6}{:>14}{:>14}{:>14}{:>14}", cells[0], cells[1], cells[2], cells[3])
        };
        let heading = headings.map(|names| ("", names.map(str::to_owned)));
        writeln!(text, "        {:>28}{:>28}", "root mean square", "largest")?;
        writeln!(text, "{}", row("kept", heading))?;
        for (kept, errors) in self.model.fidelity() {
            let cell = |error: Option<f64>| error.map_or_else(|| "–".to_owned(), number);
            let mean = errors.map(|error| cell(error.map(|error| error.root_mean_square)));
            let largest = errors.map(|error| cell(error.map(|error| error.largest)));
            writeln!(text, "{}", row(&kept.to_string(), [("", mean), ("", largest)]))?;
        }
        Ok(())
    }
}

/// A text broken at its spaces, under its first word.
fn wrapped(text: &mut String, first: &str, rest: &str) -> std::fmt::Result {
    let mut line = first.to_owned();
    for word in rest.split(' ') {
        let is_begun = !line.ends_with(' ');
        if is_begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(text, "{line}")?;
            line = " ".repeat(first.len());
        } else if is_begun {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(text, "{line}")
}
