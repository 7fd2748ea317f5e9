//! `policy:` as it stands in a file.

use super::{Duration, Share};
use crate::config::schema::{GoalName, MonitorName};
use crate::convergence::{Goal, Monitor};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `policy:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What a pair without a rule's monitor means.
    pub missing: Option<Missing>,
    /// Training steps of an epoch, for all that is given in epochs.
    #[schemars(range(min = 1))]
    pub steps_per_epoch: Option<u64>,
    /// The phases of the training by name, where switches are to be limited or several rules lead to one.
    pub phases: Option<BTreeMap<String, Option<PhaseOfTraining>>>,
    /// The phase of `phases` in which a run starts; `plain`, λ = 0, without it.
    pub start: Option<String>,
    /// In order of precedence.
    #[schemars(required, with = "Vec<Rule>", length(min = 1))]
    pub rules: Option<Vec<Option<Rule>>>,
}

/// `policy.missing:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The pair is passed over.
    Skip,
    /// It is worse than any value.
    CountAsBad,
    /// The run ends with an error.
    Error,
}

/// `policy.phases.<name>:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseOfTraining {
    /// Weight λ of the interaction loss.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lambda: Option<f64>,
    /// Training steps over which λ rises.
    pub ramp: Option<u64>,
    /// Phases that may follow it; any without it.
    pub to: Option<Vec<String>>,
}

/// One rule.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Unique.
    #[schemars(required, length(min = 1))]
    pub id: Option<String>,
    /// When it fires.
    #[schemars(required)]
    pub when: Option<Condition>,
    /// What then happens.
    #[schemars(required)]
    pub then: Option<Action>,
    /// What must be over first.
    pub warmup: Option<Warmup>,
    /// How long it rests after it has fired.
    pub cooldown: Option<Patience>,
    /// The only phase in which it holds.
    pub phase: Option<String>,
}

/// `when:`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// A monitor has passed its best value.
    Peaked(Peaked),
    /// A monitor gets no better any more.
    Plateaued(Plateaued),
    /// A monitor lies behind its best value.
    Declined(Declined),
    /// A monitor lies below a threshold.
    Below(Threshold),
    /// A monitor lies above a threshold.
    Above(Threshold),
    /// A monitor is worse than any that a training comes back from.
    Diverged(Diverged),
    /// A budget is used up.
    Reached(Reached),
    /// Outputs are not finite.
    NotFinite(#[schemars(with = "Option<Empty>")] Empty),
    /// All of them hold.
    All(#[schemars(with = "Vec<Condition>", length(min = 1))] Vec<Option<Condition>>),
    /// One of them holds.
    Any(#[schemars(with = "Vec<Condition>", length(min = 1))] Vec<Option<Condition>>),
    /// It does not hold.
    Not(Box<Condition>),
    /// At least `k` of them hold.
    KOf(KOf),
}

/// A map without fields.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "write `{}`")]
pub struct Empty {}

/// `when.k_of:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KOf {
    /// How many of them must hold.
    #[schemars(required, range(min = 1))]
    pub k: Option<usize>,
    /// They.
    #[schemars(required, with = "Vec<Condition>", length(min = 1))]
    pub of: Option<Vec<Option<Condition>>>,
}

/// `when.peaked:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Peaked {
    /// The monitor.
    #[schemars(with = "Option<MonitorName>", required)]
    pub metric: Option<Monitor>,
    /// `max` or `min`; what is better for the monitor without it.
    #[schemars(with = "Option<GoalName>")]
    pub goal: Option<Goal>,
    /// How noise is smoothed.
    pub smooth: Option<Smooth>,
    /// How long a better value is waited for.
    pub patience: Option<Patience>,
    /// How far behind the best the value must lie.
    pub min_drop: Option<Margin>,
    /// How often at most, over a whole run, a curve that is flat but for the noise of the probe may be stopped.
    pub significance: Option<Share>,
}

/// `when.plateaued:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plateaued {
    /// The monitor.
    #[schemars(with = "Option<MonitorName>", required)]
    pub metric: Option<Monitor>,
    /// `max` or `min`; what is better for the monitor without it.
    #[schemars(with = "Option<GoalName>")]
    pub goal: Option<Goal>,
    /// How noise is smoothed.
    pub smooth: Option<Smooth>,
    /// How long a better value is waited for.
    pub patience: Option<Patience>,
    /// What a value must be better by to count as better.
    pub min_gain: Option<Margin>,
}

/// `when.declined:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Declined {
    /// The monitor.
    #[schemars(with = "Option<MonitorName>", required)]
    pub metric: Option<Monitor>,
    /// `max` or `min`; what is better for the monitor without it.
    #[schemars(with = "Option<GoalName>")]
    pub goal: Option<Goal>,
    /// How noise is smoothed.
    pub smooth: Option<Smooth>,
    /// How far behind the best the value must lie.
    #[schemars(required)]
    pub drop: Option<Margin>,
    /// How near to the best it must come again for the condition to end.
    pub leave: Option<Margin>,
    /// Checks in a row.
    #[schemars(range(min = 1))]
    pub confirm: Option<u32>,
}

/// `when.below:` and `when.above:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Threshold {
    /// The monitor.
    #[schemars(with = "Option<MonitorName>", required)]
    pub metric: Option<Monitor>,
    /// How noise is smoothed.
    pub smooth: Option<Smooth>,
    /// The value that must be crossed.
    #[schemars(required)]
    pub threshold: Option<f64>,
    /// The value that must be crossed back for the condition to end.
    pub leave: Option<f64>,
    /// Checks in a row.
    #[schemars(range(min = 1))]
    pub confirm: Option<u32>,
}

/// `when.diverged:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Diverged {
    /// The monitor.
    #[schemars(with = "Option<MonitorName>", required)]
    pub metric: Option<Monitor>,
    /// `max` or `min`; what is better for the monitor without it.
    #[schemars(with = "Option<GoalName>")]
    pub goal: Option<Goal>,
    /// How noise is smoothed.
    pub smooth: Option<Smooth>,
    /// The value that it must not be worse than.
    #[schemars(required)]
    pub worse_than: Option<f64>,
    /// The value at which the condition ends, which is no worse; `worse_than` without it.
    pub leave: Option<f64>,
    /// Checks in a row.
    #[schemars(range(min = 1))]
    pub confirm: Option<u32>,
}

/// `smooth:`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", expecting = "write `{ema: 30%}` or `{median: 3}`")]
pub enum Smooth {
    /// Share of the new value in an exponential moving average.
    Ema(Share),
    /// Values of which the median is taken.
    Median(#[schemars(range(min = 1, max = 1000))] usize),
}

/// `patience:` and `cooldown:`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(
    rename_all = "snake_case",
    expecting = "write `{checks: 3}`, `{steps: 500}`, `{epochs: 2}` or `{duration: 10m}`"
)]
pub enum Patience {
    /// Checks.
    Checks(#[schemars(range(min = 1))] u32),
    /// Training steps.
    Steps(#[schemars(range(min = 1))] u64),
    /// Epochs, of `policy.steps_per_epoch` steps each.
    Epochs(#[schemars(extend("exclusiveMinimum" = 0))] f64),
    /// Time.
    Duration(Duration),
}

/// `min_drop:`, `min_gain:`, `drop:` and `leave:`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(
    rename_all = "snake_case",
    expecting = "write `{absolute: 0.01}`, `{relative: 1%}` or `{standard_errors: 1}`"
)]
pub enum Margin {
    /// In units of the monitor.
    Absolute(#[schemars(range(min = 0.0))] f64),
    /// As a share of the best value.
    Relative(Share),
    /// In standard errors of the difference.
    StandardErrors(#[schemars(range(min = 0.0))] f64),
}

/// `when.reached:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reached {
    /// The step of the pair.
    pub step: Option<u64>,
    /// The epoch of the pair.
    pub epoch: Option<f64>,
    /// The number of pairs evaluated.
    pub checks: Option<u64>,
    /// The time since the first pair.
    pub duration: Option<Duration>,
}

/// `warmup:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Warmup {
    /// Pairs that are passed over.
    pub checks: Option<u64>,
    /// First step that is looked at.
    pub step: Option<u64>,
    /// First epoch that is looked at.
    pub epoch: Option<f64>,
    /// Output scale that both networks must have reached.
    #[schemars(range(min = 0.0))]
    pub min_output_scale: Option<f64>,
}

/// `then:`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// End the run.
    Stop(#[schemars(with = "Option<Empty>")] Empty),
    /// Switch the training to another phase.
    Phase(Phase),
    /// Take the best pair that the rule knows, or the current one, for the best of the phase.
    MarkBest(#[schemars(with = "Option<Empty>")] Empty),
    /// Tell people.
    Notify(Notify),
    /// Raise an alert for as long as the condition holds.
    Alert(Alert),
}

/// `then.notify:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// What to tell them beside the reason.
    pub message: Option<String>,
}

/// `then.alert:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Alert {
    /// How urgent it is; `warning` without it.
    pub severity: Option<Severity>,
    /// What to say beside the reason.
    pub message: Option<String>,
}

/// `then.alert.severity:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look at it in working hours.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

/// `then.phase:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Phase {
    /// Name of the phase.
    #[schemars(required, length(min = 1))]
    pub to: Option<String>,
    /// Weight λ of the interaction loss; that of `policy.phases` without it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lambda: Option<f64>,
    /// Training steps over which λ rises; those of `policy.phases` without it.
    pub ramp: Option<u64>,
    /// Output scale above which the rule does not fire.
    #[schemars(range(min = 0.0))]
    pub max_output_scale: Option<f64>,
}
