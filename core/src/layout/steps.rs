//! Where the step of a checkpoint stands: in its name, or inside it.
//!
//! What the configuration says comes first. Without it each layout has its order:
//!
//! | layout | first | then |
//! |---|---|---|
//! | `safetensors`, `torchscript` | last whole number in the name | |
//! | `torch` | last whole number in the name | `step`, `global_step`, `iteration`, `epoch` at the top of the dict |
//! | `lightning` | `global_step`, else `epoch`, in the file | last whole number in the name |
//! | `hf` | `checkpoint-N` | `global_step` in `trainer_state.json` |
//!
//! Digits behind a letter are the end of a whole number only where the letters say so (`step100`, `ckpt7`): a
//! `bf16` or `seed42` would be the step of every checkpoint.
//!
//! Lightning's names count epochs as a rule, and its `last.ckpt` has no number: there the file counts.

use super::Layout;

/// Words that a number may follow; each is a setting.
const WORDS: [&str; 3] = ["step", "epoch", "iter"];
/// Words that digits may be glued to, at the end of others too: `globalstep100`.
const GLUED: [&str; 7] = ["step", "steps", "epoch", "iter", "iteration", "ckpt", "checkpoint"];
/// The same, but only alone: `model30` and not `supermodel2`, `ep3` and not `deep3`.
const GLUED_ALONE: [&str; 5] = ["model", "net", "weights", "ep", "it"];
/// What may stand between such a word and its number.
const SEPARATORS: [char; 5] = ['=', '-', '_', '.', ':'];
/// Settings that are no pattern.
const SETTINGS: [&str; 6] = ["name", "inside", "step", "epoch", "iter", "checkpoint-N"];
/// Where the number stands in a pattern.
const PLACE: &str = "{step}";

/// Where steps are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steps {
    /// As the layout has it.
    Default,
    /// The last whole number in the name.
    Name,
    /// Inside the checkpoint.
    Inside,
    /// The number after this word in the name.
    After(&'static str),
    /// `checkpoint-N`.
    Checkpoint,
    /// A whole name: what stands before the number and after it.
    Pattern(String, String),
}

/// What a name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// No checkpoint.
    Nothing,
    /// A checkpoint of this step.
    Step(u64),
    /// The checkpoint itself knows its step; if not, it is this.
    Inside(Option<u64>),
}

impl std::str::FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((before, after)) = text.split_once(PLACE) {
            return match after.contains(PLACE) || text.contains('/') {
                true => {
                    Err(format!("must be a name with one `{PLACE}`, such as `model_{PLACE}.pt`"))
                }
                false => Ok(Self::Pattern(before.to_owned(), after.to_owned())),
            };
        }
        match text {
            "name" => Ok(Self::Name),
            "inside" => Ok(Self::Inside),
            "checkpoint-N" => Ok(Self::Checkpoint),
            _ => match WORDS.into_iter().find(|word| *word == text) {
                Some(word) => Ok(Self::After(word)),
                None => Err(unknown(text)),
            },
        }
    }
}

fn unknown(text: &str) -> String {
    let near = SETTINGS
        .map(|setting| (strsim::damerau_levenshtein(text, setting), setting))
        .into_iter()
        .filter(|(distance, setting)| *distance <= 1 + setting.len() / 3)
        .min();
    let hint = near.map(|(_, setting)| format!("; did you mean `{setting}`?"));
    format!(
        "is none of {}, and no pattern such as `model_{PLACE}.pt`{}",
        SETTINGS.map(|setting| format!("`{setting}`")).join(", "),
        hint.unwrap_or_default()
    )
}

impl Steps {
    /// What the name of a file or directory tells.
    pub fn in_name(&self, layout: Layout, name: &str) -> Named {
        if let Self::Pattern(before, after) = self {
            let number =
                name.strip_prefix(before.as_str()).and_then(|n| n.strip_suffix(after.as_str()));
            return number.and_then(whole).map_or(Named::Nothing, Named::Step);
        }
        let Some(stem) = layout.stem(name) else { return Named::Nothing };
        let found = match self {
            Self::After(word) => number_after(stem, word),
            Self::Checkpoint => checkpoint(stem),
            Self::Default if layout == Layout::Hf => checkpoint(stem),
            _ => last_number(stem),
        };
        match (self, found) {
            (Self::Inside, _) => Named::Inside(None),
            (Self::Default, found) if layout == Layout::Lightning => Named::Inside(found),
            (_, Some(step)) => Named::Step(step),
            (Self::Default, None) if layout.tells_its_step() => Named::Inside(None),
            (_, None) => Named::Nothing,
        }
    }
}

fn whole(text: &str) -> Option<u64> {
    let is_whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_whole)
}

fn checkpoint(stem: &str) -> Option<u64> {
    whole(stem.strip_prefix("checkpoint-")?)
}

/// The number after the last of these words that has one.
fn number_after(stem: &str, word: &str) -> Option<u64> {
    let stem = stem.to_ascii_lowercase();
    let behind = |(at, _): (usize, &str)| {
        let rest = stem[at + word.len()..].trim_start_matches(SEPARATORS);
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        whole(&rest[..digits])
    };
    stem.rmatch_indices(word).find_map(behind)
}

/// The last whole number of a name that is not part of another word, as in `bf16`, `seed42` or `v2`.
fn last_number(stem: &str) -> Option<u64> {
    let stem = stem.to_ascii_lowercase();
    let words = stem.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
    // Of `epoch7` the digits at the end; not the parts of `0.35`.
    let digits = |word: &str| {
        let start = word.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (before, digits) = word.split_at(start);
        let counts = before.is_empty()
            || GLUED_ALONE.contains(&before)
            || GLUED.iter().any(|word| before.ends_with(word));
        digits.parse().ok().filter(|_| counts)
    };
    words.rev().find_map(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(setting: &str, layout: Layout, name: &str) -> Named {
        let steps = if setting.is_empty() { Ok(Steps::Default) } else { setting.parse() };
        steps.expect("a setting").in_name(layout, name)
    }

    #[test]
    fn without_a_setting_safetensors_have_the_last_whole_number() {
        for (name, step) in [
            ("step-00000012.safetensors", 12),
            ("resnet18-epoch=7.safetensors", 7),
            ("run2-ckpt-40-final.safetensors", 40),
            ("epoch=7-val_loss=0.35.safetensors", 7),
            ("model_step100.safetensors", 100),
            ("step-12-bf16.safetensors", 12),
            ("step-12-ema2.safetensors", 12),
            ("resnet18-ckpt40_seed42.safetensors", 40),
            ("Iteration7_fp16.safetensors", 7),
            ("vit_b16_epoch07.safetensors", 7),
            ("GlobalStep9.safetensors", 9),
            ("model30.safetensors", 30),
            ("loss0.35.step8.safetensors", 8),
            ("12.safetensors", 12),
        ] {
            assert_eq!(named("", Layout::Safetensors, name), Named::Step(step), "{name}");
        }
        for name in [
            "model-v2.safetensors",
            "resnet18.safetensors",
            "best-bf16.safetensors",
            "seed42.safetensors",
            "step-12.pt",
            "last.safetensors",
            "step-12.safetensors.tmp",
            "step-99999999999999999999.safetensors",
        ] {
            assert_eq!(named("", Layout::Safetensors, name), Named::Nothing, "{name}");
        }
    }

    #[test]
    fn each_layout_has_its_own_order() {
        use Layout::{Hf, Lightning, Torch, Torchscript};
        for (layout, name, wanted) in [
            (Torch, "model_3.pt", Named::Step(3)),
            (Torch, "last.pth", Named::Inside(None)),
            (Torch, "model_3.safetensors", Named::Nothing),
            (Lightning, "epoch=3-step=400.ckpt", Named::Inside(Some(400))),
            (Lightning, "last.ckpt", Named::Inside(None)),
            (Lightning, "model_3.pt", Named::Nothing),
            (Hf, "checkpoint-500", Named::Step(500)),
            (Hf, "final", Named::Inside(None)),
            (Torchscript, "net-9.pt", Named::Step(9)),
            (Torchscript, "net.pt", Named::Nothing),
        ] {
            assert_eq!(named("", layout, name), wanted, "{layout:?} {name}");
        }
    }

    #[test]
    fn a_setting_decides_alone() {
        use Layout::{Hf, Lightning, Torch};
        for (setting, layout, name, wanted) in [
            ("step", Lightning, "epoch=3-step=400-v1.ckpt", Named::Step(400)),
            ("epoch", Lightning, "epoch=3-step=400.ckpt", Named::Step(3)),
            ("iter", Torch, "iter_0012000.pth", Named::Step(12000)),
            ("iter", Torch, "epoch_7.pth", Named::Nothing),
            ("epoch", Torch, "Epoch7_loss0.25.pth", Named::Step(7)),
            ("inside", Torch, "model_3.pt", Named::Inside(None)),
            ("checkpoint-N", Torch, "checkpoint-7.pt", Named::Step(7)),
            ("checkpoint-N", Hf, "checkpoint-7-old", Named::Nothing),
            ("model_{step}.pt", Torch, "model_12.pt", Named::Step(12)),
            ("model_{step}.pt", Torch, "model_12b.pt", Named::Nothing),
            ("model_{step}.pt", Torch, "model_.pt", Named::Nothing),
            ("model_{step}.pt", Torch, "model_+5.pt", Named::Nothing),
            ("{step}.weights", Torch, "12.weights", Named::Step(12)),
            ("global_step{step}", Hf, "global_step12", Named::Step(12)),
        ] {
            assert_eq!(named(setting, layout, name), wanted, "{setting} {name}");
        }
    }

    #[test]
    fn a_setting_that_is_none_is_refused_with_the_nearest() {
        let refused = |text: &str| text.parse::<Steps>().expect_err("refused");
        assert!(refused("insde").ends_with("did you mean `inside`?"), "{}", refused("insde"));
        assert!(refused("checkpoint").contains("did you mean `checkpoint-N`?"));
        assert!(refused("model.pt").contains("`model_{step}.pt`"));
        assert!(refused("{step}/{step}.pt").contains("one `{step}`"));
    }
}
