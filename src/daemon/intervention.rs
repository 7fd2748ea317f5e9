//! Requests to the run: decisions of a person, and another configuration.

use super::{Daemon, Result};
use crate::clock::now;
use crate::history::DeliveryRow;
use crate::person::requests::{Reply, Request, Wish};
use crate::person::{Decided, Scene};
use crate::policy::Intervention;
use std::time::Instant;

impl Daemon<'_> {
    /// Does what commands and SIGHUP ask for, also while a pair is evaluated: it takes effect before that pair.
    pub(super) fn take_requests(&mut self) -> Result<()> {
        if self.reloads.try_recv().is_ok() {
            self.reload()?;
        }
        for (id, Request { wish, .. }) in self.desk.take(now()) {
            let reply = match wish {
                Wish::Decide(intervention) => self.intervene(intervention)?,
                Wish::Reload => self.reload()?,
            };
            self.desk.answer(&id, &reply);
        }
        Ok(())
    }

    /// Training goes on: what told of its end counts no more, and idleness counts from now.
    fn go_on(&mut self) -> Result<()> {
        if !self.options.dry_run {
            self.control.forget_ends();
        }
        self.pairs.go_on();
        self.last_arrival = self.last_arrival.map(|_| Instant::now());
        self.gone_since = None;
        self.keep(|history| history.record_end(None))
    }

    fn intervene(&mut self, intervention: Intervention) -> Result<Reply> {
        let scene = Scene {
            config: self.config,
            history: &self.history,
            policy: &self.rules,
            state: self.policy.clone(),
            generation: self.generation,
            newest: self.newest,
        };
        let Decided { row, delivery } = match scene.decide(intervention)? {
            Ok(decided) => decided,
            Err(refused) => return Ok(Reply::refused(refused)),
        };
        self.keep(|history| history.record_intervention(&row, Some(&delivery)))?;
        self.policy = row.policy;
        self.metrics.show_alerts(&self.rules, &self.policy);
        let DeliveryRow { decision, document, .. } = delivery;
        self.generation = document.generation;
        if decision.action == "continue" {
            self.go_on()?;
        }
        self.announce(&decision, &document)?;
        let (delivered, generation) = (self.is_delivered()?, Some(document.generation));
        self.manual.push(decision.clone());
        Ok(Reply { refused: None, decision: Some(decision), generation, delivered })
    }
}
