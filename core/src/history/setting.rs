//! Settings that a run was begun with, as a person wrote them.

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

/// `Some(ImagePatches { grid: 5 })`, as it is stored, as `image_patches {grid: 5}`.
pub(super) fn readable(stored: &str) -> String {
    let inner = stored.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')'));
    let text = match (stored, inner) {
        ("None", _) => return "not given".to_owned(),
        (_, Some(inner)) => inner.trim_matches('"'),
        (_, None) => stored,
    };
    let (name, fields) = text.split_once(' ').unwrap_or((text, ""));
    let is_variant = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric());
    if !is_variant || !(fields.is_empty() || fields.starts_with('{')) {
        return text.to_owned();
    }
    let mut snake = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    let fields = fields.replace("{ ", " {").replace(" }", "}");
    snake + &fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{Baseline, VariableRule};

    #[test]
    fn a_stored_setting_reads_as_it_is_written() {
        let patches = VariableRule::ImagePatches { grid: 5, margin: 0, select: 10 };
        let stored = format!("{:?}", Some(patches));
        assert_eq!(readable(&stored), "image_patches {grid: 5, margin: 0, select: 10}");
        let tokens = VariableRule::Tokens { select: 8, exclude_ids: vec![0, 101] };
        let stored = format!("{:?}", Some(tokens));
        assert_eq!(readable(&stored), "tokens {select: 8, exclude_ids: [0, 101]}");
        assert_eq!(readable(&format!("{:?}", None::<VariableRule>)), "not given");
        assert_eq!(readable(&format!("{:?}", Baseline::Zero)), "zero");
        assert_eq!(readable(&format!("{:?}", Some("ema"))), "ema");
    }

    #[test]
    fn what_is_no_setting_of_a_type_stays() {
        for text in ["0.01", "fp32", "/data/Runs/A b", "Runs/A (b)", "halpern 3", ""] {
            assert_eq!(readable(text), text);
        }
    }
}
