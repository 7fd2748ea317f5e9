//! A run as it stands, read from its history: what `status` and `top` show.

use crate::config::Config;
use crate::history::{DeliveryRow, Failure, History, Holder, Outcome, PairRow, StateLock};
use crate::policy::{Action, Policy, PolicyState, Rule};
use std::path::Path;

/// The state of a run.
pub(super) struct RunState {
    /// Whether a process is at work on it, where that can be known.
    pub(super) holder: Option<Holder>,
    /// Whether it decides and tells nobody.
    pub(super) is_dry: bool,
    /// How the training ended.
    pub(super) ended: Option<String>,
    /// Why the last start failed.
    pub(super) failure: Option<Failure>,
    /// Number of pairs.
    pub(super) pairs: u64,
    /// The last of them.
    pub(super) last: Option<PairRow>,
    /// The rules that ran last; those of the file run from the next start or reload on.
    pub(super) rules: Policy,
    /// What they remember.
    pub(super) policy: PolicyState,
    /// All decisions, the newest last.
    pub(super) decisions: Vec<DeliveryRow>,
    /// Checkpoints that wait for their partner or their evaluation.
    pub(super) waiting: u64,
    /// Checkpoints that were passed over.
    pub(super) skipped: u64,
    /// Checkpoints that are damaged or do not fit.
    pub(super) quarantined: u64,
}

impl RunState {
    pub(super) fn read(config: &Config, history: &History) -> anyhow::Result<Self> {
        let last = history.last_pair()?;
        let policy = history.policy_state(last.as_ref(), &config.policy)?;
        let ran = history.last_policy()?;
        let ran = ran.and_then(|text| Config::parse_policy(Path::new("history"), &text).ok());
        Ok(Self {
            holder: StateLock::holder(&config.state),
            is_dry: history.is_dry()?,
            ended: history.fact("ended")?,
            failure: history.failure()?,
            pairs: history.count_pairs()?,
            last,
            rules: ran.unwrap_or_else(|| config.policy.clone()),
            policy,
            decisions: history.decisions()?,
            waiting: history.count_checkpoints(Outcome::Waiting)?,
            skipped: history.count_checkpoints(Outcome::Skipped)?,
            quarantined: history.count_checkpoints(Outcome::Quarantined)?,
        })
    }

    /// Whether phase and λ say anything: a person may have set them before the first pair.
    pub(super) fn is_known(&self) -> bool {
        self.last.is_some() || !self.decisions.is_empty()
    }

    /// Ids of the rules whose alert holds.
    pub(super) fn alerts(&self) -> Vec<&str> {
        let holds = |rule: &&Rule| {
            let memory = self.policy.rules.get(&rule.id);
            matches!(rule.then, Action::Alert { .. }) && memory.is_some_and(|memory| memory.holds)
        };
        self.rules.rules.iter().filter(holds).map(|rule| rule.id.as_str()).collect()
    }

    /// What each rule waits for, and why; none once the run is stopped.
    pub(super) fn reasons(&self) -> impl Iterator<Item = (&str, &str)> {
        let reasons = self.policy.reasons(&self.rules);
        reasons.filter(|_| !self.policy.stopped)
    }
}
