//! The settings that a run was begun with, from the facts of its history.

use crate::config::{Config, Interactions as Settings};
use crate::sparsify::{SOLVER_NAME, SOLVER_VERSION};
use std::collections::BTreeMap;

/// How the numbers of a run were made.
#[derive(Clone, Debug, PartialEq)]
pub struct Begun {
    /// The settings that were recorded; where one was not, that of the YAML.
    pub settings: Settings,
    /// One sentence for each setting of the YAML that is another now.
    pub notes: Vec<String>,
}

impl Begun {
    /// Reads the facts of a history: name and value.
    ///
    /// # Errors
    /// A fact that is no number.
    pub fn of(facts: &BTreeMap<String, String>, config: &Config) -> Result<Self, String> {
        let mut settings = config.interactions;
        let solver = &mut settings.solver;
        for (name, number) in [
            ("noise", &mut settings.noise),
            ("salience", &mut settings.salience),
            ("gap", &mut solver.gap),
        ] {
            if let Some(text) = facts.get(name) {
                *number = text.parse().map_err(|_| no_number(name, text))?;
            }
        }
        for (name, number) in [
            ("solver iterations", &mut solver.iterations),
            ("largest basis", &mut solver.largest_basis),
        ] {
            if let Some(text) = facts.get(name) {
                *number = text.parse().map_err(|_| no_number(name, text))?;
            }
        }
        Ok(Self { settings, notes: differences(facts, config) })
    }
}

fn no_number(name: &str, text: &str) -> String {
    format!("the history's `{name}` is `{text}`, which is no number")
}

fn differences(facts: &BTreeMap<String, String>, config: &Config) -> Vec<String> {
    let Settings { noise, salience, solver } = config.interactions;
    let network = &config.network;
    let now = [
        ("noise", noise.to_string()),
        ("salience", salience.to_string()),
        ("gap", solver.gap.to_string()),
        ("solver iterations", solver.iterations.to_string()),
        ("largest basis", solver.largest_basis.to_string()),
        ("variable rule", format!("{:?}", network.variables)),
        ("masking baseline", format!("{:?}", network.baseline)),
        ("precision", network.precision.name().to_owned()),
    ];
    let differs = |(name, now): (&str, String)| {
        let begun = facts.get(name).filter(|begun| **begun != now)?;
        Some(format!(
            "the YAML file says `{name}` {now}, but the run was begun with {begun}, which holds here"
        ))
    };
    let mut notes: Vec<String> = now.into_iter().filter_map(differs).collect();
    let solver = format!("{SOLVER_NAME} {SOLVER_VERSION}");
    if let Some(begun) = facts.get("solver").filter(|begun| **begun != solver) {
        notes.push(format!(
            "the run's solver was `{begun}`; this convergd's is `{solver}`, so effects may differ from the run's"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(noise: &str) -> Config {
        let text = format!(
            "state: s\nprogram: p.ts\nprobe: {{file: p.safetensors, variables: {{columns: {{groups: 4}}}}}}\n\
             networks: {{target: {{checkpoints: t}}, baseline: {{checkpoints: b}}}}\n\
             interactions: {{noise: {noise}}}\ncontrol: {{directory: c}}\n\
             policy: {{rules: [{{id: b, when: {{reached: {{step: 9}}}}, then: {{stop: {{}}}}}}]}}\n"
        );
        Config::parse(Path::new("run.yaml"), &text).unwrap()
    }

    fn facts(noise: &str) -> BTreeMap<String, String> {
        let facts = [("noise", noise), ("solver iterations", "50"), ("largest basis", "7")];
        facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn what_the_run_was_begun_with_holds_and_a_difference_is_told() {
        let begun = Begun::of(&facts("0.25"), &config("0.01")).unwrap();
        let Settings { noise, salience, solver } = begun.settings;
        assert_eq!((noise, salience), (0.25, 0.02), "salience was not recorded");
        assert_eq!((solver.iterations, solver.largest_basis), (50, 7));
        assert!(begun.notes[0].contains("says `noise` 0.01, but the run was begun with 0.25"));
        assert_eq!(begun.notes.len(), 3);
    }

    #[test]
    fn where_all_is_the_same_nothing_is_told() {
        let config = config("0.01");
        let mut facts = facts("0.01");
        facts.insert("solver iterations".into(), config.interactions.solver.iterations.to_string());
        facts.insert("largest basis".into(), config.interactions.solver.largest_basis.to_string());
        facts.insert("variable rule".into(), format!("{:?}", config.network.variables));
        assert_eq!(Begun::of(&facts, &config).unwrap().notes, Vec::<String>::new());
    }

    #[test]
    fn a_fact_that_is_no_number_is_an_error() {
        let error = Begun::of(&facts("much"), &config("0.01")).unwrap_err();
        assert!(error.contains("`noise` is `much`"), "{error}");
    }
}
