//! `notify:` as it stands in a file.

use super::Duration;
use schemars::JsonSchema;
use serde::Deserialize;

/// `notify[…]:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Unique.
    #[schemars(required, length(min = 1))]
    pub name: Option<String>,
    /// Where it is.
    pub url: Option<String>,
    /// The environment variable that says where it is, where that is a secret.
    pub url_env: Option<String>,
    /// What is sent.
    pub format: Option<Format>,
    /// The environment variable that holds the bearer token.
    pub secret_env: Option<String>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// Attempts after the first.
    #[schemars(range(max = 10))]
    pub retries: Option<usize>,
    /// What it is told of; all where it is absent.
    #[schemars(with = "Option<Vec<Topic>>")]
    pub on: Option<Vec<Option<Topic>>>,
}

/// `notify[…].format:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The event as a JSON object.
    Json,
    /// As Slack's incoming webhooks take it.
    Slack,
}

/// `notify[…].on:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Decisions.
    Decision,
    /// Decisions that a trainer has not acknowledged within `control.acknowledge`.
    Unacknowledged,
    /// What else a person wants to know.
    Notice,
}
