//! The state of a running or finished run, from its history.

use super::{Told, rules};
use crate::config::Config;
use crate::evaluation::cache::{self, Usage};
use crate::history::{
    CheckpointRow, DeliveryRow, Failure, History, HistoryError, Holder, Outcome, PairRow, StateLock,
};
use crate::policy::{Action, Notice, Policy, PolicyState, Rule};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Where a run stands.
pub struct Status {
    /// Name of the run.
    pub run: String,
    /// The state directory.
    pub state: PathBuf,
    /// Who is at work; nothing where the file system does not say.
    pub holder: Option<Holder>,
    /// Whether it decides and tells nobody.
    pub is_dry: bool,
    /// Number of pairs.
    pub pairs: u64,
    /// The last pair.
    pub last: Option<PairRow>,
    /// The pair that the last decision names as best; without one, the best so far by the rule that decides.
    pub best: Option<PairRow>,
    /// The rules as they run; that of the file runs from the next start or reload on.
    pub rules: Policy,
    /// What they remember.
    pub policy: PolicyState,
    /// Checkpoints that wait for their partner or their evaluation.
    pub waiting: u64,
    /// Checkpoints that were passed over.
    pub skipped: SetAside,
    /// Checkpoints that are damaged or not of their network.
    pub quarantined: SetAside,
    /// How the training ended.
    pub ended: Option<String>,
    /// What the run could not begin or go on with, unless it went on since.
    pub failure: Option<Failure>,
    /// What the value cache holds.
    pub cached: Usage,
    /// The most bytes that it may hold.
    pub cache_size: u64,
    /// In the order in which they were taken.
    pub decisions: Vec<DeliveryRow>,
    /// The newest of what rules had to say, by step.
    pub notices: Vec<Notice>,
    /// What became of the last decision.
    pub told: Told,
}

/// Checkpoints that were set aside in one way.
pub struct SetAside {
    /// All of them.
    pub count: u64,
    /// The newest, by step.
    pub newest: Vec<CheckpointRow>,
}

impl SetAside {
    fn of(history: &History, outcome: Outcome, most: usize) -> Result<Self, HistoryError> {
        let count = history.count_checkpoints(outcome)?;
        Ok(Self { count, newest: history.checkpoints_that(outcome, most)? })
    }
}

impl Status {
    /// Reads it; of checkpoints that were set aside and of notices the newest `most`.
    ///
    /// # Errors
    /// A history that cannot be read.
    pub fn of(config: &Config, history: &History, most: usize) -> Result<Self, HistoryError> {
        let last = history.last_pair()?;
        let rules = rules(config, history)?;
        let policy = history.policy_state(last.as_ref(), &rules)?;
        let decisions = history.decisions()?;
        let decided = decisions.last().and_then(|row| row.document.best.as_ref());
        let decided = decided.map(|best| best.step);
        let known = || rules.bests(&policy).get(&rules.primary()).map(|best| best.at.step);
        let best = match decided.or_else(known) {
            Some(step) => history.pair(step)?,
            None => None,
        };
        Ok(Self {
            run: config.name.clone(),
            state: config.state.clone(),
            holder: StateLock::holder(&config.state),
            is_dry: history.is_dry()?,
            pairs: history.count_pairs()?,
            best,
            rules,
            policy,
            waiting: history.count_checkpoints(Outcome::Waiting)?,
            skipped: SetAside::of(history, Outcome::Skipped, most)?,
            quarantined: SetAside::of(history, Outcome::Quarantined, most)?,
            ended: history.fact("ended")?,
            failure: history.failure()?,
            cached: cache::usage(&config.values()).unwrap_or_default(),
            cache_size: config.cache_size,
            notices: history.last_notices(most)?,
            told: Told::of(history, decisions.last())?,
            decisions,
            last,
        })
    }

    /// Whether phase and λ are known: a person may have set them before the first pair.
    pub fn is_known(&self) -> bool {
        self.last.is_some() || !self.decisions.is_empty()
    }

    /// Whether a process is at work; nothing where the file system does not say.
    pub fn is_at_work(&self) -> Option<bool> {
        self.holder.as_ref().map(|holder| *holder != Holder::Nobody)
    }

    /// Ids of the rules whose alert holds.
    pub fn alerts(&self) -> Vec<&str> {
        let holds = |rule: &&Rule| {
            let memory = self.policy.rules.get(&rule.id);
            matches!(rule.then, Action::Alert { .. }) && memory.is_some_and(|memory| memory.holds)
        };
        self.rules.rules.iter().filter(holds).map(|rule| rule.id.as_str()).collect()
    }

    /// Where each rule stands, and why; none once the run is stopped.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, &str)> {
        let reasons = self.policy.reasons(&self.rules);
        reasons.filter(|_| !self.policy.stopped)
    }

    /// Where the rules stood, and why, that did not stop the run when it was stopped; none before.
    pub fn reasons_at_stop(&self) -> impl Iterator<Item = (&str, &str)> {
        let stop = self.decisions.last().map_or("", |row| row.decision.rule.as_str());
        let reasons = self.policy.reasons(&self.rules);
        reasons.filter(move |(rule, _)| self.policy.stopped && *rule != stop)
    }

    /// For programs: one object.
    pub fn json(&self) -> Value {
        let Self { policy, last, best, decisions, skipped, quarantined, told, .. } = self;
        let last = last.as_ref();
        json!({
            "run": self.run,
            "state": self.state,
            "at_work": self.is_at_work(),
            "stopped": policy.stopped,
            "phase": self.is_known().then_some(&policy.phase),
            "lambda": self.is_known().then_some(policy.lambda),
            "pairs": self.pairs,
            "step": last.map(|pair| pair.step),
            "monitors": last.map(|pair| &pair.monitors),
            "best": best.as_ref().map(|pair| json!({"step": pair.step, "monitors": pair.monitors})),
            "certified": last.map(|pair| pair.certified),
            "extractions": last.map(|pair| pair.samples),
            "gap_max": last.map(|pair| pair.gap_max),
            "noise_floor": last.and_then(|pair| pair.noise_floor),
            "ended": self.ended,
            "failed": self.failure,
            "value_cache": {
                "tables": self.cached.tables, "bytes": self.cached.bytes, "size": self.cache_size,
            },
            "waiting": self.waiting,
            "skipped": skipped.count,
            "quarantined": quarantined.count,
            "set_aside": quarantined.newest.iter().chain(&skipped.newest).map(|row| json!({
                "network": row.role, "step": row.step, "path": row.path,
                "outcome": row.outcome.name(), "reason": row.reason,
            })).collect::<Vec<_>>(),
            "decisions": decisions.iter().map(|row| &row.decision).collect::<Vec<_>>(),
            "notices": self.notices,
            "alerts": self.alerts(),
            "rules": policy.rules.iter().map(|(id, rule)| json!({
                "rule": id, "holds": rule.holds, "warm": rule.warm, "reason": rule.reason,
            })).collect::<Vec<_>>(),
            "delivered": decisions.last().and_then(|row| row.delivered),
            "acknowledged": told.acknowledged(),
            "escalations": told.escalations(),
            "untold": told.untold(),
        })
    }
}
