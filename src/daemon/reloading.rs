//! Another policy, other webhooks, another ladder, while the run is at work; and which policies ran.

use super::{Daemon, Result};
use crate::clock::now;
use crate::config::{Config, RELOADABLE};
use crate::history::{InterventionRecord, InterventionRow};
use crate::person::next_number;
use crate::person::requests::Reply;
use crate::policy::{Intervention, Policy, adopt};
use std::path::Path;

impl Daemon<'_> {
    /// Reads the configuration anew. What is mistaken, or changes what must not change, changes nothing.
    pub(super) fn reload(&mut self) -> Result<Reply> {
        let new = match self.read_anew() {
            Ok(new) => new,
            Err(why) => {
                self.metrics.control.show_reload(false, now());
                tracing::error!(
                    "the configuration is not reloaded, and the run goes on as it was: {why}"
                );
                self.tell_notice(
                    "a changed configuration was refused; the log says why".to_owned(),
                )?;
                return Ok(Reply::refused(why));
            }
        };
        self.take_policy(&new.policy, new.written.policy())?;
        self.ladder = new.control.escalate;
        self.take_webhooks(&new.notify)?;
        self.metrics.control.show_reload(true, now());
        tracing::info!(file = %self.config.source.display(), "the configuration is reloaded");
        Ok(Reply::default())
    }

    fn read_anew(&self) -> std::result::Result<Config, String> {
        let new =
            Config::load_to_run(&self.config.source).map_err(|problems| problems.to_string())?;
        let differences = self.config.written.fixed_differences(&new.written);
        if differences.is_empty() {
            return Ok(new);
        }
        let allowed = RELOADABLE.map(|part| format!("`{part}`")).join(", ");
        let differences = differences.join("`, `");
        Err(format!(
            "only {allowed} can change while a run is at work, but `{differences}` differ; end the run and start it anew"
        ))
    }

    /// Stores which policy runs, where it is not the one that ran before; `self.rules` is that one or the new one.
    pub(super) fn take_policy(&mut self, new: &Policy, text: &str) -> Result<()> {
        let ran = self.history.last_policy()?;
        if ran.as_deref() != Some(text) {
            // One of another version that cannot be read is taken for the new one: memories are kept by id.
            let before =
                ran.and_then(|text| Config::parse_policy(Path::new("history"), &text).ok());
            let policy = adopt(before.as_ref().unwrap_or(new), new, self.policy.clone());
            let after = self.history.last_pair()?.map(|pair| pair.step);
            let (number, time) = (next_number(&self.history)?, self.clock.now());
            let intervention = Intervention::Policy { text: text.to_owned() };
            let row = InterventionRow { number, after, time, intervention, policy };
            let record =
                InterventionRecord { row: &row, decision: None, request: None, notifications: &[] };
            self.keep(|history| history.record_intervention(record))?;
            self.policy = row.policy;
        }
        self.rules = new.clone();
        self.metrics.rules.show(&self.rules, &self.policy);
        Ok(())
    }
}
