//! What the engine remembers between observations, and what it decides.

use super::flat::FlatSeries;
use super::rule::{FIRST_PHASE, Policy, Severity, Start};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The memory of the engine, stored with every pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyState {
    /// The phase that the training is in.
    pub phase: String,
    /// Weight λ of the interaction loss in it.
    pub lambda: f64,
    /// Observations since the start of the run.
    pub checks: u64,
    /// Whether a rule has stopped the run.
    pub stopped: bool,
    /// Time of the first observation, in seconds since 1970.
    #[serde(default)]
    pub started: Option<f64>,
    /// The step that a rule has marked as the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marked: Option<u64>,
    /// Memory of each rule, by id.
    pub rules: BTreeMap<String, RuleState>,
    /// When each rule fired last.
    #[serde(default)]
    pub fired: BTreeMap<String, Moment>,
}

impl PolicyState {
    /// That of a run before its first pair.
    pub fn begin(policy: &Policy) -> Self {
        let Start { phase, lambda } = policy.start.clone();
        Self { phase, lambda, ..Self::default() }
    }

    /// Steps that some condition knows as its best, or a rule has marked.
    pub fn best_steps(&self) -> BTreeSet<u64> {
        let conditions = self.rules.values().flat_map(|rule| rule.conditions.values());
        let known = conditions.flat_map(|condition| [condition.best, condition.former]);
        known.flatten().map(|best| best.at.step).chain(self.marked).collect()
    }

    /// Where each rule stands since the last observation, in the order of the policy: its id, and why its
    /// condition holds or not.
    pub fn reasons<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = (&'a str, &'a str)> {
        let known = policy.rules.iter().filter_map(|rule| self.rules.get_key_value(&rule.id));
        let told = known.map(|(id, memory)| (id.as_str(), memory.reason.as_str()));
        told.filter(|(_, reason)| !reason.is_empty())
    }

    /// Has every rule begin anew, but for the best that it names.
    pub(super) fn begin_anew(&mut self) {
        for rule in self.rules.values_mut() {
            let mut conditions = std::mem::take(&mut rule.conditions);
            for condition in conditions.values_mut() {
                let former = condition.overall();
                *condition = ConditionState { former, ..ConditionState::default() };
            }
            conditions.retain(|_, condition| condition.former.is_some());
            *rule = RuleState { conditions, ..RuleState::default() };
        }
    }
}

impl Default for PolicyState {
    fn default() -> Self {
        Self {
            phase: FIRST_PHASE.to_owned(),
            lambda: 0.0,
            checks: 0,
            stopped: false,
            started: None,
            marked: None,
            rules: BTreeMap::new(),
            fired: BTreeMap::new(),
        }
    }
}

/// A place in the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Observations since the start of the run.
    pub checks: u64,
    /// Step of the pair.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
}

/// The memory of one rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredRuleState")]
pub struct RuleState {
    /// Observations that it has been passed, before and after the warm-up.
    pub seen: u64,
    /// Whether the warm-up is over.
    pub warm: bool,
    /// Whether its condition holds.
    pub holds: bool,
    /// Whether it has fired since it holds.
    pub told: bool,
    /// Whether its condition holds at the last observation or not, and why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Memory of each condition, by its path in the rule: empty for the rule's own, `all[1]`, `not.any[0]`.
    pub conditions: BTreeMap<String, ConditionState>,
}

/// The memory of one condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConditionState {
    /// Best value of its monitor, smoothed.
    pub best: Option<Best>,
    /// The best before the run was resumed, while nothing since is as good. It decides nothing and is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Best>,
    /// Checks since the best value.
    pub since_best: u32,
    /// Whether it has seen a value.
    #[serde(default)]
    pub seen: bool,
    /// What smoothing needs of the past: the average, or the last values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<f64>,
    /// Checks in a row on which its threshold was crossed.
    #[serde(default)]
    pub crossed: u32,
    /// Whether it holds.
    #[serde(default)]
    pub holds: bool,
    /// What chance does, where the condition asks for significance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<FlatSeries>,
}

impl ConditionState {
    /// The best of the phase, whether the run was resumed since or not.
    pub(super) fn overall(&self) -> Option<Best> {
        self.former.or(self.best)
    }
}

/// The best value of a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Smoothed.
    pub value: f64,
    /// Of the raw value.
    pub standard_error: f64,
    /// When it was seen.
    pub at: Moment,
}

/// What is read: memories of before there were several conditions a rule too.
#[derive(Deserialize)]
struct StoredRuleState {
    seen: u64,
    warm: bool,
    #[serde(default)]
    holds: bool,
    #[serde(default)]
    told: bool,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    conditions: BTreeMap<String, ConditionState>,
    #[serde(default)]
    best: Option<(f64, u64)>,
    #[serde(default)]
    since_best: u32,
}

impl From<StoredRuleState> for RuleState {
    fn from(stored: StoredRuleState) -> Self {
        let StoredRuleState { seen, warm, holds, told, reason, mut conditions, best, since_best } =
            stored;
        if let Some((value, step)) = best {
            let at = Moment { checks: seen - u64::from(since_best).min(seen), step, time: 0.0 };
            let best = Some(Best { value, standard_error: 0.0, at });
            let state = ConditionState { best, since_best, ..ConditionState::default() };
            conditions.entry(String::new()).or_insert(state);
        }
        Self { seen, warm, holds, told, reason, conditions }
    }
}

/// What a rule had to say that changes nothing in the training: `mark_best`, `notify`, `alert`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Unique within a run: `<rule>@<step>`.
    pub id: String,
    /// Id of the rule.
    pub rule: String,
    /// `mark_best`, `notify` or `alert`.
    pub action: String,
    /// What the policy file gives to be said.
    pub message: Option<String>,
    /// Of an alert.
    pub severity: Option<Severity>,
    /// The step of the pair that led to it.
    pub step: u64,
    /// The step of the best pair, where the rule knows one.
    pub best_step: Option<u64>,
    /// The values and thresholds that led to it, in one sentence.
    pub reason: String,
    /// When, in seconds since 1970.
    pub time: f64,
}

impl Notice {
    /// What was said, where and by whom, in one line.
    pub fn headline(&self) -> String {
        let message = self.message.iter().map(|message| format!(": {message}"));
        headline(&self.action, self.step, &self.rule) + &message.collect::<String>()
    }
}

impl Decision {
    /// What was decided, where and by whom, in one line.
    pub fn headline(&self) -> String {
        headline(&self.action, self.step, &self.rule)
    }
}

fn headline(action: &str, step: u64, rule: &str) -> String {
    format!("{action} at step {step} by rule `{rule}`")
}

/// What a rule decided, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Unique within a run: `<rule>@<step>`.
    pub id: String,
    /// Id of the rule.
    pub rule: String,
    /// `stop` or `phase`.
    pub action: String,
    /// Phase of the training from now on.
    pub phase: String,
    /// Weight λ of the interaction loss from now on.
    pub lambda: f64,
    /// Training steps over which λ rises.
    pub ramp: u64,
    /// The step of the pair that led to it.
    pub step: u64,
    /// The step of the best pair, where the rule knows one.
    pub best_step: Option<u64>,
    /// The values and thresholds that led to it, in one sentence.
    pub reason: String,
    /// Time of the decision, in seconds since 1970.
    pub time: f64,
}
