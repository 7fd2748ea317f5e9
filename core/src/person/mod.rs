//! A person's decision: made by the run itself, or where none is at work by the command.

pub mod requests;

use crate::account;
use crate::best::best_of;
use crate::config::Config;
use crate::control::Control;
use crate::failpoint;
use crate::history::{
    DeliveryRow, History, HistoryError, InterventionRecord, InterventionRow, Outcome, StateLock,
};
use crate::outbox::{Outbox, run_id};
use crate::policy::{Intervention, Policy, PolicyState, Refused, intervene};
use crate::role::Role;
use crate::run_clock::RunClock;
use crate::signal::{Document, at_step};
use std::path::Path;

type Result<T> = std::result::Result<T, HistoryError>;

/// What a person's decision is made from.
pub struct Scene<'a> {
    /// As it is now.
    pub config: &'a Config,
    /// What has been.
    pub history: &'a History,
    /// The rules as they are now.
    pub policy: &'a Policy,
    /// What they remember.
    pub state: PolicyState,
    /// The newest generation before it.
    pub generation: u64,
    /// Newest step seen of each network.
    pub newest: [Option<u64>; 2],
    /// The time, by the clock of the run.
    pub time: f64,
}

/// A decision that is to be stored.
pub struct Decided {
    /// What the person has done.
    pub row: InterventionRow,
    /// What trainers are told.
    pub delivery: DeliveryRow,
}

impl Scene<'_> {
    /// Decides; nothing is stored yet.
    pub fn decide(
        self,
        intervention: Intervention,
    ) -> Result<std::result::Result<Decided, Refused>> {
        let after = self.history.last_pair()?.map(|pair| pair.step);
        let rows = self.history.interventions()?;
        let is_person =
            |row: &&InterventionRow| !matches!(row.intervention, Intervention::Policy { .. });
        let persons = rows.iter().filter(is_person).count() as u64;
        let (step, time) = (after.unwrap_or(0), self.time);
        let decided = intervene(self.policy, self.state, &intervention, persons + 1, step, time);
        let (policy, decision) = match decided {
            Ok(decided) => decided,
            Err(refused) => return Ok(Err(refused)),
        };
        let best = match decision.best_step {
            Some(step) => self.history.pair(step)?,
            None => None,
        };
        let best = best_of(self.config, self.history, best, &[])?;
        let between_pairs = self.history.last_distance()?.unwrap_or(0);
        let at_step = at_step(self.newest, step, between_pairs, self.config.fixed.is_some());
        let document = Document::of(&decision, self.generation + 1, at_step, best);
        let delivery = DeliveryRow { decision, document, delivered: None };
        let number = next_number(self.history)?;
        let row = InterventionRow { number, after, time, intervention, policy };
        Ok(Ok(Decided { row, delivery }))
    }
}

/// The number of the next intervention.
pub fn next_number(history: &History) -> Result<u64> {
    Ok(history.last_intervention()?.map_or(1, |row| row.number + 1))
}

/// Makes a person's decision where no run is at work. The lock is held meanwhile. What a run has decided by the same
/// request before it was killed is not decided again, only delivered.
///
/// # Errors
/// A state that is held or cannot be used; within, what would change nothing.
pub fn decide_alone(
    config: &Config,
    intervention: Intervention,
    request: Option<&str>,
    _lock: &StateLock,
) -> Result<std::result::Result<DeliveryRow, Refused>> {
    let mut history = History::open(&config.state)?;
    let clock = RunClock::of(&history)?;
    let control = Control::new(config.control.clone());
    let is_dry = history.is_dry()?;
    // A run at work there with another state has its own trainers.
    let _control_lock = match is_dry {
        true => None,
        false => StateLock::take_control(&config.control.directory)?,
    };
    let done = request.map(|request| history.decision_of(request)).transpose()?.flatten();
    if let Some(row) = done {
        return Ok(Ok(deliver_alone(&history, &control, &clock, is_dry, row)?));
    }
    let decided = history.last_decision()?.map_or(0, |row| row.document.generation);
    let told = if is_dry { 0 } else { control.next_generation().saturating_sub(1) };
    let is_foreign = control.current().is_some_and(|document| document.decision_id.is_some());
    if told > decided && (decided > 0 || is_foreign) {
        let path = config.control.directory.clone();
        return Err(HistoryError::ControlAhead { path, seen: told, own: decided });
    }
    let last = history.last_pair()?;
    // That of the file runs from the next start on.
    let rules = account::rules(config, &history)?;
    let newest = Role::BOTH.map(|role| newest_step(&history, role));
    let [target, baseline] = newest;
    let scene = Scene {
        config,
        history: &history,
        policy: &rules,
        state: history.policy_state(last.as_ref(), &config.policy)?,
        generation: decided.max(told),
        newest: [target?, baseline?],
        time: clock.now(),
    };
    let Decided { row, delivery } = match scene.decide(intervention)? {
        Ok(decided) => decided,
        Err(refused) => return Ok(Err(refused)),
    };
    let told = match is_dry || config.notify.is_empty() {
        true => Vec::new(),
        false => {
            let outbox =
                Outbox::new(run_id(&history, &config.state)?, &config.name, &config.notify);
            outbox.pair(Some(&delivery), &[], row.time)?
        }
    };
    history.record_intervention(InterventionRecord {
        row: &row,
        decision: Some(&delivery),
        request,
        notifications: &told,
    })?;
    failpoint::reach("intervention-recorded");
    Ok(Ok(deliver_alone(&history, &control, &clock, is_dry, delivery)?))
}

/// Writes the control file where that has not been done.
fn deliver_alone(
    history: &History,
    control: &Control,
    clock: &RunClock,
    is_dry: bool,
    row: DeliveryRow,
) -> Result<DeliveryRow> {
    // What another decision has followed is no more told: generations do not go back.
    let newest = history.last_decision()?.map(|last| last.document.generation);
    if is_dry || row.delivered.is_some() || newest != Some(row.document.generation) {
        return Ok(row);
    }
    if row.document.action == "continue" {
        control.forget_ends();
    }
    let time = clock.now();
    match control.deliver(&row.document) {
        Ok(()) => {
            failpoint::reach("control-written");
            history.record_delivery(row.document.generation, time)?;
            failpoint::reach("delivery-recorded");
            Ok(DeliveryRow { delivered: Some(time), ..row })
        }
        // It is in the history, and the next start writes the file.
        Err(error) => {
            tracing::error!("{error}; the decision is kept, and the next start tries again");
            Ok(row)
        }
    }
}

fn newest_step(history: &History, role: Role) -> Result<Option<u64>> {
    let mut newest = None;
    for outcome in [Outcome::Waiting, Outcome::Evaluated, Outcome::Skipped] {
        newest = newest.max(history.last_step(role, outcome)?);
    }
    Ok(newest)
}

/// Whether there is a history that a decision can be written into.
///
/// # Errors
/// None yet, or one that cannot be read.
pub fn expect_history(state: &Path) -> std::result::Result<(), HistoryError> {
    History::open_for_reading(state).map(|_| ())
}
