//! `control:` as it stands in a file.

use super::Duration;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// `control:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Directory of `control.json` and the acknowledgements.
    #[schemars(required)]
    pub directory: Option<PathBuf>,
    /// How long a stop waits to be acknowledged by both trainers.
    pub acknowledge: Option<Duration>,
    /// What is done while a trainer has not acknowledged, by ascending time.
    #[schemars(with = "Option<Vec<Rung>>")]
    pub escalate: Option<Vec<Option<Rung>>>,
    /// Whether the ladder may run programs.
    pub exec: Option<bool>,
}

/// `control.escalate[…]:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rung {
    /// Time since the control file was written.
    #[schemars(required)]
    pub after: Option<Duration>,
    /// What is done then.
    #[schemars(required)]
    pub r#do: Option<Measure>,
}

/// `do:`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// A signal to the trainers that have not acknowledged.
    Signal(SignalMeasure),
    /// A webhook is told.
    Webhook(WebhookMeasure),
    /// A program.
    Exec(ExecMeasure),
}

/// `do.signal:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SignalMeasure {
    /// Its name.
    #[schemars(required)]
    pub name: Option<Signal>,
    /// Whether it goes to the process group of each trainer.
    pub group: Option<bool>,
}

/// `do.signal.name:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Signal {
    /// A hint; only to a process that handles it.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// A hint; only to a process that handles it.
    #[serde(rename = "SIGUSR2")]
    Usr2,
    /// Hang up.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// Interrupt.
    #[serde(rename = "SIGINT")]
    Int,
    /// The end, which can be handled.
    #[serde(rename = "SIGTERM")]
    Term,
    /// The end.
    #[serde(rename = "SIGKILL")]
    Kill,
}

/// `do.webhook:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookMeasure {
    /// Its name under `notify`.
    #[schemars(required)]
    pub name: Option<String>,
}

/// `do.exec:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExecMeasure {
    /// Program and arguments; no shell.
    #[schemars(required, length(min = 1))]
    pub command: Option<Vec<String>>,
    /// How long it may take.
    pub timeout: Option<Duration>,
}
