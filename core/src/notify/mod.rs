//! Webhooks: people who are told over HTTP.
//!
//! Each webhook has a thread of its own with a bounded queue, so nobody waits for a slow one. What is to be told stands in
//! the history before it is queued; delivery is at least once, and the key of an event makes it idempotent for who
//! receives it. Addresses may be secrets: of a URL nothing but its origin is ever shown.

mod address;
mod event;
mod sender;

pub use address::{Address, BadAddress};
pub use event::{Event, key};
pub use sender::{Failure, Message, Report, Sender};

use std::time::Duration;

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its name in logs, metrics and the history.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// What is sent.
    pub format: Format,
    /// The environment variable that holds the bearer token.
    pub secret_env: Option<String>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u32,
    /// What it is told of.
    pub on: Vec<Topic>,
}

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// At an address.
    Url(Address),
    /// At the address in this environment variable.
    Variable(String),
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The event as a JSON object.
    Json,
    /// Its text, as Slack's incoming webhooks take it.
    Slack,
}

/// What webhooks are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A decision.
    Decision,
    /// A decision that a trainer has not acknowledged in time.
    Unacknowledged,
    /// What else a person wants to know.
    Notice,
}

impl Topic {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Unacknowledged => "unacknowledged",
            Self::Notice => "notice",
        }
    }
}

impl Webhook {
    /// Whether both are sent to in the same way, whatever they are told of.
    pub fn is_sent_as(&self, other: &Self) -> bool {
        Self { on: other.on.clone(), ..self.clone() } == *other
    }

    /// The environment variables that it needs.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let address = match &self.endpoint {
            Endpoint::Url(_) => None,
            Endpoint::Variable(name) => Some(name.as_str()),
        };
        address.into_iter().chain(self.secret_env.as_deref())
    }
}
