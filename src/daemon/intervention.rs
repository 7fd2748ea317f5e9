//! Requests to the run: decisions of a person, and another configuration.

use super::{Daemon, Result};
use crate::clock::now;
use crate::failpoint;
use crate::history::{DeliveryRow, InterventionRecord};
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
        while let Some((id, Request { wish, .. })) = self.desk.take(now()) {
            failpoint::reach("request-taken");
            let reply = match wish {
                Wish::Decide(intervention) => self.intervene(intervention, &id)?,
                Wish::Reload => self.reload()?,
            };
            self.desk.answer(&id, &reply);
            failpoint::reach("request-answered");
        }
        Ok(())
    }

    /// Requests that an earlier life had taken and not answered: what it has done is in the history, the others are
    /// there again.
    pub(super) fn take_up_requests(&mut self) -> Result<()> {
        for id in self.desk.unanswered() {
            match self.history.decision_of(&id)? {
                Some(row) => self.desk.answer(&id, &Reply::decided(row)),
                None => self.desk.put_back(&id),
            }
        }
        Ok(())
    }

    /// Training goes on: what told of its end counts no more, and idleness counts from now.
    fn go_on(&mut self) {
        if !self.options.dry_run {
            self.control.forget_ends();
        }
        self.pairs.go_on();
        self.last_arrival = self.last_arrival.map(|_| Instant::now());
        self.gone_since = None;
    }

    fn intervene(&mut self, intervention: Intervention, request: &str) -> Result<Reply> {
        let time = self.clock.now();
        let scene = Scene {
            config: self.config,
            history: &self.history,
            policy: &self.rules,
            state: self.policy.clone(),
            generation: self.generation,
            newest: self.newest,
            time,
        };
        let Decided { row, delivery } = match scene.decide(intervention)? {
            Ok(decided) => decided,
            Err(refused) => return Ok(Reply::refused(refused)),
        };
        let outbox = self.notices.outbox();
        let told = outbox.map(|outbox| outbox.pair(Some(&delivery), &[], time)).transpose()?;
        let record = InterventionRecord {
            row: &row,
            decision: Some(&delivery),
            request: Some(request),
            notifications: &told.unwrap_or_default(),
        };
        self.keep(|history| history.record_intervention(record))?;
        failpoint::reach("intervention-recorded");
        self.notices.wake();
        self.policy = row.policy;
        self.metrics.rules.show(&self.rules, &self.policy);
        let DeliveryRow { decision, document, .. } = delivery;
        self.generation = document.generation;
        if decision.action == "continue" {
            self.go_on();
        }
        self.announce(&decision, &document)?;
        self.write_events();
        let (delivered, generation) = (self.is_delivered()?, Some(document.generation));
        self.manual.push(decision.clone());
        Ok(Reply { refused: None, decision: Some(decision), generation, delivered })
    }
}
