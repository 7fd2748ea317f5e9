//! What a reader of the page has chosen: the query of its address.

use crate::convergence::Monitor;
use serde::{Deserialize, Serialize};

/// Nothing chosen is the page as it opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Choice {
    /// The monitor that is shown large; without it that of the rule that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) monitor: Option<Monitor>,
    /// The place of the pair whose strengths are shown, from 0; without it the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pair: Option<usize>,
    /// The step whose samples are shown; without it that of the best pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<u64>,
    /// The first sample that is listed; without it none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) samples: Option<usize>,
    /// The sample that is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sample: Option<usize>,
}

impl Choice {
    /// Names and values, those that are chosen.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let Ok(serde_json::Value::Object(chosen)) = serde_json::to_value(self) else {
            return Vec::new();
        };
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        chosen.into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    /// The address of the page with this choice, at one of its parts.
    pub(super) fn address(&self, part: &str) -> String {
        let pairs = self.pairs();
        let pairs: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("/?{}#{part}", pairs.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_what_is_chosen_and_nothing_else() {
        assert_eq!(Choice::default().address("state"), "/?#state");
        let monitor = Some(Monitor::ProbeLoss);
        let choice = Choice { monitor, sample: Some(3), ..Choice::default() };
        assert_eq!(choice.address("sample"), "/?monitor=probe_loss&sample=3#sample");
    }
}
