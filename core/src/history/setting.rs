//! Settings that a run was begun with, as a person wrote them.

use super::HistoryError;
use std::path::Path;

/// Refuses a value other than the one that the run of this history was begun with, if there is one.
///
/// # Errors
/// A different value.
pub(super) fn compare(
    path: &Path,
    what: &str,
    found: Option<&str>,
    wanted: &str,
) -> Result<(), HistoryError> {
    match found.filter(|found| *found != wanted) {
        None => Ok(()),
        Some(found) => Err(HistoryError::Mixed {
            path: path.to_owned(),
            what: what.to_owned(),
            found: found.to_owned(),
            wanted: wanted.to_owned(),
        }),
    }
}

/// Where the setting stands, in parentheses; nothing for what nobody writes.
pub(super) fn place(fact: &str) -> String {
    let place = match fact {
        "noise" => "`interactions.noise`",
        "salience" => "`interactions.salience`",
        "gap" => "`interactions.gap`",
        "largest basis" => "`interactions.largest_basis`",
        "target checkpoints" => "`networks.target.checkpoints`",
        "baseline checkpoints" => "`networks.baseline.checkpoints`",
        "baseline checkpoint" => "`networks.baseline.fixed`",
        "target weights" => "`networks.target.weights`",
        "baseline weights" => "`networks.baseline.weights`",
        "target program" | "baseline program" => "the content of the `program`",
        "probe file" => "the content of `probe.file`",
        "variable rule" => "`probe.variables`",
        "masking baseline" => "`probe.baseline`",
        "precision" => "`compute.precision`",
        "mode" => "`--dry-run`",
        "solver" => "the version of convergd",
        _ => return String::new(),
    };
    format!(" ({place})")
}

/// As a person wrote it: `Some(ImagePatches { grid: 5 })`, which is stored of a rule, is `image_patches {grid: 5}`.
pub fn readable(fact: &str, stored: &str) -> String {
    let is_debug = matches!(
        fact,
        "variable rule" | "masking baseline" | "target weights" | "baseline weights"
    );
    if !is_debug {
        return stored.to_owned();
    }
    let inner = stored.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')'));
    let text = match (stored, inner) {
        ("None", _) => return "not given".to_owned(),
        // A name of the user's own.
        (_, Some(inner)) if inner.starts_with('"') => return inner.to_owned(),
        (_, inner) => inner.unwrap_or(stored),
    };
    let (name, fields) = text.split_once(' ').unwrap_or((text, ""));
    let mut snake = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake + &fields.replace("{ ", " {").replace(" }", "}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{Baseline, VariableRule};

    #[test]
    fn a_stored_setting_reads_as_it_is_written() {
        let rule = |rule: Option<VariableRule>| readable("variable rule", &format!("{rule:?}"));
        let patches = VariableRule::ImagePatches { grid: 5, margin: 0, select: 10 };
        assert_eq!(rule(Some(patches)), "image_patches {grid: 5, margin: 0, select: 10}");
        let tokens = VariableRule::Tokens { select: 8, exclude_ids: vec![0, 101] };
        assert_eq!(rule(Some(tokens)), "tokens {select: 8, exclude_ids: [0, 101]}");
        assert_eq!(rule(None), "not given");
        assert_eq!(readable("masking baseline", &format!("{:?}", Baseline::Zero)), "zero");
        let key = |key: &str| readable("target weights", &format!("{:?}", Some(key)));
        assert_eq!([key("EMA"), key("Model A")], ["\"EMA\"", "\"Model A\""]);
    }

    #[test]
    fn what_is_stored_as_it_was_written_stays() {
        for text in ["0.01", "fp32", "/data/Runs/A b", "Runs", "None", "Some(A)", ""] {
            assert_eq!(readable("target checkpoints", text), text);
        }
    }
}
