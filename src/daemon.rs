//! The running sidecar: threads, the event loop, and the end.
//!
//! Threads: a watcher for each directory, the network (which owns the device), the solver's pool, the
//! HTTP server, and this loop. Checkpoints arrive over one bounded channel; a full one holds the
//! watchers up. What waits for its partner is bounded too, by [`Pairs`].

use crate::checkpoint::{self, Checkpoint, Event, Next, Pairs, Watcher};
use crate::config::Config;
use crate::control::Control;
use crate::convergence::Monitor;
use crate::history::{
    CheckpointRow, DeliveryRow, History, HistoryError, Outcome, PairRow, StateLock,
};
use crate::network::{NetworkError, Source, Variables, Worker};
use crate::pipeline::{self, Analysis};
use crate::policy::{Decision, PolicyState};
use crate::role::Role;
use crate::signal::{Best, Document};
use crate::sparsify::{SOLVER_NAME, SOLVER_VERSION, Solver};
use crate::telemetry::{Metrics, http};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// How often answers and ends are looked for.
const TICK: Duration = Duration::from_millis(100);
/// How long the last scan is awaited.
const LONGEST_DRAIN: Duration = Duration::from_secs(60);
/// Checkpoints that wait in the channel before the watchers are held up.
const EVENTS: usize = 64;

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Evaluate what is there and end.
    pub once: bool,
    /// Decide and record, and tell nobody.
    pub dry_run: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Training ended, or everything there was evaluated.
    Done,
    /// A rule stopped the training.
    Stopped(Box<Decision>),
    /// A signal asked for the end; the next start goes on.
    Interrupted,
}

/// Why a run cannot go on.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The state.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A network, program, probe or device.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// With `--once`, a directory that is not there.
    #[error("{role} network: {reason}; `--once` evaluates what is there, `run` without it waits")]
    NothingThere {
        /// Whose directory.
        role: Role,
        /// Why.
        reason: String,
    },
    /// The HTTP server.
    #[error("`telemetry.listen` {address}: {source}; choose another port or leave it out")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Something of this process.
    #[error("BUG: {0}")]
    Internal(String),
}

type Result<T> = std::result::Result<T, DaemonError>;

/// Runs until training ends, a rule stops it, or a signal arrives on `interrupts`.
///
/// # Errors
/// Whatever makes it impossible to go on; the history is whole all the same.
pub fn run(
    config: &Config,
    options: Options,
    interrupts: &Receiver<()>,
    page: http::Page,
) -> Result<End> {
    let _lock = StateLock::take(&config.state)?;
    let history = History::open(&config.state)?;
    let mut daemon = Daemon::start(config, options, history, page)?;
    let earlier_stop = daemon.earlier_stop()?;
    if let Some(decision) = &earlier_stop
        && daemon.is_settled()?
    {
        tracing::info!(
            decision = decision.id,
            "this run was stopped before; nothing is left to do"
        );
        return Ok(End::Stopped(Box::new(decision.clone())));
    }
    daemon.recover_pins()?;
    let watchers = Watchers::start(config, &daemon.history, daemon.pairs.last())?;
    let end = daemon.serve(&watchers, interrupts, earlier_stop);
    daemon.take_rest(&watchers)?;
    drop(watchers);
    daemon.release(end.as_ref().ok())?;
    end
}

/// The watching threads; they end with this value.
struct Watchers {
    events: Option<Receiver<Event>>,
    requests: Vec<Sender<()>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Watchers {
    /// Checkpoints that are dealt with are not reported again. What was skipped for want of a partner
    /// after the last pair may still find one.
    fn start(config: &Config, history: &History, last: Option<u64>) -> Result<Self> {
        let (sender, events) = bounded(EVENTS);
        let mut watchers = Self { events: Some(events), requests: Vec::new(), threads: Vec::new() };
        let mut dealt_with = history.checkpoints(None)?;
        dealt_with.retain(|row| row.outcome != Outcome::Skipped || last >= Some(row.step));
        for settings in &config.watch {
            let own = dealt_with.iter().filter(|row| row.role == settings.role);
            let known: HashSet<String> = own.map(|row| row.identity.clone()).collect();
            let watcher = Watcher::new(settings.clone(), config.state.join("pins"), known);
            let (request, requests) = bounded(1);
            let sender = sender.clone();
            watchers.requests.push(request);
            watchers.threads.push(std::thread::spawn(move || watcher.run(&sender, &requests)));
        }
        Ok(watchers)
    }

    fn next(&self, patience: Duration) -> std::result::Result<Event, RecvTimeoutError> {
        match &self.events {
            Some(events) => events.recv_timeout(patience),
            None => Err(RecvTimeoutError::Disconnected),
        }
    }

    /// Asks for one more scan of both directories.
    fn rescan(&self) {
        for request in &self.requests {
            // A request that does not fit means that one is waiting already.
            let _ = request.try_send(());
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        // Closing both channels frees a watcher wherever it waits.
        self.requests.clear();
        self.events.take();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Where the loop stands.
enum Stage {
    /// Training goes on.
    Following,
    /// Training has ended: the last scan is awaited, then the end is this.
    Draining {
        /// Which directories, (target, baseline), have been listed since.
        listed: [bool; 2],
        /// Since when: a file that never settles does not hold the end up for ever.
        since: Instant,
        /// What the run ends with.
        end: End,
    },
    /// A rule has stopped the training: answers are awaited.
    Stopping(Box<Decision>, Instant),
}

impl Stage {
    fn drain(end: End) -> Self {
        Self::Draining { listed: [false; 2], since: Instant::now(), end }
    }
}

struct Daemon<'a> {
    config: &'a Config,
    options: Options,
    history: History,
    worker: Worker,
    control: Control,
    metrics: Metrics,
    server: Option<http::Server>,
    pairs: Pairs,
    variables: Option<Variables>,
    solver: Option<Solver>,
    pool: rayon::ThreadPool,
    policy: PolicyState,
    generation: u64,
    /// Whether the last delivery failed: said once, not at every try.
    delivery_fails: bool,
    /// Newest step seen of each network.
    newest: [Option<u64>; 2],
    last_arrival: Option<Instant>,
}

impl<'a> Daemon<'a> {
    fn start(
        config: &'a Config,
        options: Options,
        history: History,
        page: http::Page,
    ) -> Result<Self> {
        let worker = Worker::start(config.network.clone(), config.state.join("values"))?;
        // After what can be refused: a start that fails leaves nothing behind.
        keep_settings(config, options, &worker, &history)?;
        let device = worker.device().to_string();
        let internal = |error: &dyn std::fmt::Display| DaemonError::Internal(error.to_string());
        let metrics = Metrics::new(&device).map_err(|error| internal(&error))?;
        let serve = |address| {
            http::Server::start(address, metrics.clone(), page.clone())
                .map_err(|source| DaemonError::Listen { address, source })
        };
        let server = config.listen.filter(|_| !options.once).map(serve).transpose()?;
        if let Some(server) = &server {
            tracing::info!(address = %server.address(), "serving /metrics and /");
        }
        let variables = history.fact("variables")?;
        let variables = variables.map(|text| serde_json::from_str(&text)).transpose();
        let variables = variables.map_err(HistoryError::Value)?;
        let last = history.last_pair()?;
        let decisions = history.decisions()?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(config.network.threads).build();
        let policy = last.as_ref().map(|pair| pair.policy.clone()).unwrap_or_default();
        tracing::info!(
            run = config.name, %device, samples = worker.samples(), state = %config.state.display(),
            pairs = history.count_pairs()?, "started"
        );
        let mut daemon = Self {
            config,
            options,
            worker,
            control: Control::new(config.control.clone()),
            metrics,
            server,
            pairs: Pairs::new(config.pairing, last.as_ref().map(|pair| pair.step)),
            variables,
            solver: None,
            pool: pool.map_err(|error| internal(&error))?,
            policy,
            generation: decisions.last().map_or(0, |row| row.document.generation),
            delivery_fails: false,
            newest: [last.as_ref().map(|pair| pair.step); 2],
            last_arrival: last.as_ref().map(|_| Instant::now()),
            history,
        };
        daemon.show_start(last.as_ref(), decisions.last())?;
        Ok(daemon)
    }

    /// Shows what an earlier life left, and delivers what it could not.
    fn show_start(&mut self, last: Option<&PairRow>, decision: Option<&DeliveryRow>) -> Result<()> {
        self.metrics.show_phase(&self.policy.phase, self.policy.lambda);
        if let Some(pair) = last {
            self.show_pair(pair);
        }
        match decision {
            _ if self.options.dry_run => {}
            None => {
                let found = self.control.current().filter(|found| found.decision_id.is_none());
                let fresh = || Document::start(self.control.next_generation());
                let document = found.unwrap_or_else(fresh);
                self.generation = document.generation;
                self.write_control(&document);
            }
            // Undelivered, or lost since: a trainer that starts again must find it.
            Some(row) if self.control.current().as_ref() != Some(&row.document) => {
                self.deliver(&row.document.clone())?;
            }
            Some(_) => {}
        }
        if let Some(server) = &self.server {
            server.set_ready();
        }
        Ok(())
    }

    /// Takes up the checkpoints that an earlier life had pinned and not evaluated, and removes what else
    /// lies there.
    fn recover_pins(&mut self) -> Result<()> {
        let pins = self.config.state.join("pins");
        let mut kept = Vec::new();
        for row in self.history.checkpoints(Some(Outcome::Waiting))? {
            let CheckpointRow { role, identity, step, path, .. } = row;
            let pin = checkpoint::pin::path(&pins, role, step, &identity);
            if checkpoint::pin::is_intact(&pin, &identity) {
                kept.push(pin.clone());
                self.arrive(Checkpoint { role, step, path: path.into(), pin, identity })?;
            } else {
                self.history.forget_checkpoint(role, &identity)?;
            }
        }
        checkpoint::pin::sweep(&pins, &kept)
            .map_err(|source| DaemonError::History(HistoryError::Directory { path: pins, source }))
    }

    fn earlier_stop(&self) -> Result<Option<Decision>> {
        let last = self.history.decisions()?.pop().map(|row| row.decision);
        Ok(last.filter(|_| self.policy.stopped))
    }

    fn serve(
        &mut self,
        watchers: &Watchers,
        interrupts: &Receiver<()>,
        earlier_stop: Option<Decision>,
    ) -> Result<End> {
        let mut stage = match earlier_stop {
            Some(decision) => Stage::Stopping(Box::new(decision), Instant::now()),
            None if self.options.once => Stage::drain(End::Done),
            None => Stage::Following,
        };
        loop {
            if interrupts.try_recv().is_ok() {
                tracing::info!("asked to end; the next start goes on here");
                return Ok(End::Interrupted);
            }
            self.take_events(watchers, &mut stage)?;
            self.record_acknowledgements()?;
            let stopped = self.evaluate_next()?.filter(|decision| decision.action == "stop");
            if let Some(decision) = stopped.map(Box::new) {
                // Nobody is told, so there is nobody to wait for.
                if self.options.once || self.options.dry_run {
                    return Ok(End::Stopped(decision));
                }
                stage = Stage::Stopping(decision, Instant::now());
            }
            if let Some(end) = self.ended(&stage)? {
                return Ok(end);
            }
            match &stage {
                Stage::Following if self.training_ended() => {
                    watchers.rescan();
                    stage = Stage::drain(End::Done);
                }
                // The last checkpoints of the stopped trainings complete the record.
                Stage::Stopping(decision, _) if self.is_answered()? => {
                    watchers.rescan();
                    stage = Stage::drain(End::Stopped(decision.clone()));
                }
                _ => {}
            }
        }
    }

    /// Whether the run is over in this stage, and how.
    fn ended(&self, stage: &Stage) -> Result<Option<End>> {
        match stage {
            Stage::Draining { listed, since, end } => {
                let is_last = *listed == [true; 2] || since.elapsed() >= LONGEST_DRAIN;
                Ok((is_last && !self.pairs.is_ready()).then(|| end.clone()))
            }
            Stage::Stopping(decision, since) => {
                // What has not been delivered cannot be acknowledged; it is tried again.
                let is_over = since.elapsed() >= self.control.patience() && self.is_delivered()?;
                if is_over && !self.is_answered()? {
                    tracing::warn!("the stop was not acknowledged by both trainers in time");
                    return Ok(Some(End::Stopped(decision.clone())));
                }
                Ok(None)
            }
            Stage::Following => Ok(None),
        }
    }

    /// Waits a tick for the first event, takes what else is there.
    fn take_events(&mut self, watchers: &Watchers, stage: &mut Stage) -> Result<()> {
        let mut patience = if self.pairs.is_ready() { Duration::ZERO } else { TICK };
        loop {
            match watchers.next(patience) {
                Ok(event) => self.take(event, stage)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(DaemonError::Internal("both watchers ended".to_owned()));
                }
            }
            patience = Duration::ZERO;
        }
    }

    fn take(&mut self, event: Event, stage: &mut Stage) -> Result<()> {
        match event {
            Event::Waiting { role, reason } if self.options.once => {
                return Err(DaemonError::NothingThere { role, reason });
            }
            Event::Waiting { role, reason } => match stage {
                // Training has ended, and its directory is gone: nothing more is to come.
                Stage::Draining { listed, .. } => listed[role.index()] = true,
                _ => tracing::warn!(network = %role, "waiting: {reason}"),
            },
            Event::Listed { role } => {
                if let Stage::Draining { listed, .. } = stage {
                    listed[role.index()] = true;
                }
            }
            Event::Ready(checkpoint) => {
                self.last_arrival = Some(Instant::now());
                let row = checkpoint_row(&checkpoint, Outcome::Waiting);
                self.history.record_checkpoint(&row, now())?;
                self.arrive(checkpoint)?;
            }
            Event::Quarantined { role, step, path, identity, reason } => {
                self.last_arrival = Some(Instant::now());
                let path = path.display().to_string();
                let reason = Some(reason);
                let outcome = Outcome::Quarantined;
                self.record(&CheckpointRow { role, identity, step, path, outcome, reason })?;
            }
        }
        self.show_queue();
        Ok(())
    }

    fn arrive(&mut self, checkpoint: Checkpoint) -> Result<()> {
        let Checkpoint { role, step, .. } = checkpoint;
        let newest = &mut self.newest[role.index()];
        *newest = Some(newest.map_or(step, |newest| newest.max(step)));
        self.metrics.show_checkpoint(role, now());
        tracing::debug!(network = %role, step, "checkpoint ready");
        for (obsolete, reason) in self.pairs.add(checkpoint) {
            self.skip(obsolete, reason)?;
        }
        Ok(())
    }

    fn show_queue(&self) {
        let waiting: usize = self.pairs.waiting().iter().sum();
        self.metrics.queue_length.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let last = self.pairs.last().unwrap_or(0);
        for role in Role::BOTH {
            let newest = self.newest[role.index()].unwrap_or(last);
            self.metrics.show_lag(role, newest.saturating_sub(last));
        }
    }

    fn skip(&mut self, checkpoint: Checkpoint, reason: &str) -> Result<()> {
        self.set_aside(checkpoint, Outcome::Skipped, reason)
    }

    fn set_aside(&mut self, checkpoint: Checkpoint, outcome: Outcome, reason: &str) -> Result<()> {
        let mut row = checkpoint_row(&checkpoint, outcome);
        row.reason = Some(reason.to_owned());
        self.record(&row)?;
        unpin(&checkpoint);
        Ok(())
    }

    fn record(&mut self, row: &CheckpointRow) -> Result<()> {
        let CheckpointRow { role, step, outcome, reason, .. } = row;
        let reason = reason.as_deref().unwrap_or_default();
        match outcome {
            Outcome::Quarantined => {
                tracing::warn!(network = %role, step, path = row.path, "quarantined: {reason}");
            }
            _ => tracing::info!(network = %role, step, "{}: {reason}", outcome.name()),
        }
        self.metrics.count_checkpoint(*role, *outcome);
        self.history.record_checkpoint(row, now())?;
        Ok(())
    }

    /// Evaluates the next complete pair, if there is one.
    fn evaluate_next(&mut self) -> Result<Option<Decision>> {
        let last = self.pairs.last();
        let Some(Next { pair, skipped }) = self.pairs.take_next() else { return Ok(None) };
        for (checkpoint, reason) in skipped {
            self.skip(checkpoint, reason)?;
        }
        let decision = self.evaluate(&pair);
        if let Err(DaemonError::Network(error)) = &decision
            && error.is_of_checkpoint()
        {
            self.quarantine_pair(pair, error, last)?;
            return Ok(None);
        }
        let decision = decision?;
        pair.iter().for_each(unpin);
        self.show_queue();
        Ok(decision)
    }

    /// One bad checkpoint makes a pair impossible: it is quarantined, and its partner waits for the step
    /// to be saved again.
    fn quarantine_pair(
        &mut self,
        pair: [Checkpoint; 2],
        error: &NetworkError,
        last: Option<u64>,
    ) -> Result<()> {
        self.metrics.count_error("values");
        let bad = match error {
            NetworkError::Checkpoint { path, .. } => path.clone(),
            _ => PathBuf::new(),
        };
        let mut good = None;
        for checkpoint in pair {
            match checkpoint.path == bad {
                true => self.set_aside(checkpoint, Outcome::Quarantined, &error.to_string())?,
                false => good = Some(checkpoint),
            }
        }
        self.pairs.take_back(last, good);
        Ok(())
    }

    fn evaluate(&mut self, pair: &[Checkpoint; 2]) -> Result<Option<Decision>> {
        let started = Instant::now();
        let variables = self.variables(pair)?;
        let mut values = Vec::with_capacity(2);
        for checkpoint in pair {
            refuse_rewritten(checkpoint)?;
            let evaluated = self.worker.evaluate(source(checkpoint), &variables)?;
            // A writer may have rewritten the file in place while it was read.
            refuse_rewritten(checkpoint)?;
            self.metrics.count_rows(checkpoint.role, evaluated.rows);
            values.push(evaluated.values);
        }
        let valued = Instant::now();
        let settings = self.config.interactions;
        let has_labels = self.worker.labels().is_some();
        let solver =
            self.solver.get_or_insert_with(|| Solver::new(variables.count, settings.solver));
        let analysis = self.pool.install(|| {
            pipeline::analyse([&values[0], &values[1]], &variables, has_labels, &settings, solver)
        });
        let extracted = Instant::now();
        let delivery = self.commit(pair, &analysis)?;
        for (stage, from, to) in [
            ("values", started, valued),
            ("extraction", valued, extracted),
            ("commit", extracted, Instant::now()),
        ] {
            self.metrics.observe_stage(stage, to.duration_since(from).as_secs_f64());
        }
        self.log_pair(pair[0].step, &analysis, started.elapsed());
        if let Some(DeliveryRow { decision, document, .. }) = &delivery {
            self.announce(decision, document)?;
        }
        Ok(delivery.map(|row| row.decision))
    }

    fn variables(&mut self, pair: &[Checkpoint; 2]) -> Result<Variables> {
        if let Some(variables) = &self.variables {
            return Ok(variables.clone());
        }
        let chosen = self.worker.choose([source(&pair[0]), source(&pair[1])])?;
        let text = serde_json::to_string(&chosen).map_err(HistoryError::Value)?;
        self.history.keep_fact("variables", &text)?;
        tracing::info!(variables = chosen.count, step = pair[0].step, "variables are chosen");
        Ok(self.variables.insert(chosen).clone())
    }

    /// The policy, then one transaction. Signals go out after it.
    fn commit(
        &mut self,
        pair: &[Checkpoint; 2],
        analysis: &Analysis,
    ) -> Result<Option<DeliveryRow>> {
        let (step, time) = (pair[0].step, now());
        let (policy, decision) =
            pipeline::decide(&self.config.policy, self.policy.clone(), step, analysis, time);
        let (monitors, strengths) = match &analysis.convergence {
            Some(convergence) => (convergence.monitors.clone(), convergence.strengths.clone()),
            None => Default::default(),
        };
        let row = PairRow {
            step,
            time,
            paths: [0, 1].map(|i| pair[i].path.display().to_string()),
            finite: analysis.convergence.is_some(),
            samples: analysis.samples,
            certified: analysis.certified,
            gap_max: analysis.gap_max,
            monitors,
            strengths,
            policy: policy.clone(),
        };
        let delivery = match &decision {
            Some(decision) => Some(self.document(decision, &row)?),
            None => None,
        };
        let checkpoints = [0, 1].map(|i| {
            let mut row = checkpoint_row(&pair[i], Outcome::Evaluated);
            row.reason = analysis.trouble.clone();
            row
        });
        self.history.record_pair(&row, &checkpoints, delivery.as_ref())?;
        self.policy = policy;
        self.show_pair(&row);
        self.metrics.pairs_total.inc();
        for role in Role::BOTH {
            self.metrics.count_checkpoint(role, Outcome::Evaluated);
        }
        if let Some(row) = &delivery {
            self.generation = row.document.generation;
        }
        Ok(delivery)
    }

    /// The control document of a decision. A stop holds from the pair's step, so at once; a phase from
    /// the step after the newest that is known, so that both trainings switch at one step if they can.
    fn document(&self, decision: &Decision, current: &PairRow) -> Result<DeliveryRow> {
        let best = match decision.best_step {
            Some(step) if step == current.step => Some(current.clone()),
            Some(step) => self.history.pair(step)?,
            None => None,
        };
        // Nobody restores weights whose outputs are not finite, or that are gone.
        let best = best.filter(|pair| pair.finite).map(|pair| {
            let [target, baseline] =
                pair.paths.map(|path| Some(path).filter(|path| Path::new(path).exists()));
            Best { step: pair.step, target, baseline }
        });
        let newest = self.newest.iter().flatten().max().copied().unwrap_or(current.step);
        let at_step = if decision.action == "stop" { current.step } else { newest + 1 };
        let document = Document::of(decision, self.generation + 1, at_step, best);
        Ok(DeliveryRow { decision: decision.clone(), document, delivered: None })
    }

    fn announce(&mut self, decision: &Decision, document: &Document) -> Result<()> {
        self.metrics.count_decision(&decision.action);
        self.metrics.show_phase(&decision.phase, decision.lambda);
        tracing::info!(
            rule = decision.rule,
            action = decision.action,
            step = decision.step,
            best_step = decision.best_step,
            phase = decision.phase,
            lambda = decision.lambda,
            dry_run = self.options.dry_run,
            "decided: {}",
            decision.reason
        );
        if self.options.dry_run { Ok(()) } else { self.deliver(document) }
    }

    fn deliver(&mut self, document: &Document) -> Result<()> {
        match self.control.deliver(document) {
            Ok(()) => {
                self.metrics.count_delivery(true);
                self.delivery_fails = false;
                self.history.record_delivery(document.generation, now())?;
            }
            // It stays undelivered in the history, and the next tick or start tries again.
            Err(error) => {
                if !std::mem::replace(&mut self.delivery_fails, true) {
                    self.metrics.count_delivery(false);
                    tracing::error!("{error}; the decision is kept and tried again");
                }
            }
        }
        Ok(())
    }

    fn write_control(&self, document: &Document) {
        if let Err(error) = self.control.deliver(document) {
            self.metrics.count_delivery(false);
            tracing::error!("{error}");
        }
    }

    fn record_acknowledgements(&mut self) -> Result<()> {
        if self.generation == 0 || self.options.dry_run {
            return Ok(());
        }
        let last = self.history.decisions()?.pop();
        if let Some(row) = last.filter(|row| row.delivered.is_none()) {
            self.deliver(&row.document)?;
        }
        for role in Role::BOTH {
            let Some(ack) = self.control.acknowledgement(role) else { continue };
            if ack.generation == self.generation
                && self.history.record_acknowledgement(role, &ack)?
            {
                tracing::info!(network = %role, step = ack.step, "acknowledged");
            }
        }
        Ok(())
    }

    /// Whether both trainers have answered the last decision or have ended.
    fn is_answered(&self) -> Result<bool> {
        let answers = self.history.acknowledgements(self.generation)?;
        Ok(Role::BOTH.into_iter().all(|role| {
            answers.iter().any(|(network, ..)| network == role.name()) || self.control.is_done(role)
        }))
    }

    fn is_delivered(&self) -> Result<bool> {
        let last = self.history.decisions()?.pop();
        Ok(last.is_none_or(|row| row.delivered.is_some()))
    }

    /// Whether an earlier stop has nothing left to wait for.
    fn is_settled(&self) -> Result<bool> {
        let alone = self.options.once || self.options.dry_run;
        Ok(alone || (self.is_delivered()? && self.is_answered()?))
    }

    /// Both trainers say so, the last step is reached, or nothing has come for long.
    fn training_ended(&self) -> bool {
        let seen = |role: Role| self.newest[role.index()].is_some();
        let done = Role::BOTH.into_iter().all(|role| seen(role) && self.control.is_done(role));
        let last_step = self.config.end.max_step;
        let reached =
            last_step.is_some_and(|last| self.pairs.last().is_some_and(|step| step >= last));
        let idle = self.last_arrival.is_some_and(|then| then.elapsed() >= self.config.end.idle);
        done || reached || (idle && !self.pairs.is_ready())
    }

    fn show_pair(&self, row: &PairRow) {
        self.metrics.pair_step.set(i64::try_from(row.step).unwrap_or(i64::MAX));
        if row.finite {
            self.metrics.solver_gap_max.set(row.gap_max);
            self.metrics.evaluation_last_success.set(row.time);
        }
        self.metrics.show_monitors(&row.monitors);
        self.metrics.show_strengths(&row.strengths);
    }

    fn log_pair(&self, step: u64, analysis: &Analysis, took: Duration) {
        let Analysis { convergence, samples, certified, gap_max, trouble } = analysis;
        let value = |monitor| {
            convergence
                .as_ref()
                .and_then(|c| c.monitors.get(&monitor))
                .map(|estimate| estimate.value)
        };
        if let Some(trouble) = trouble {
            tracing::warn!(step, "no convergence: {trouble}");
        }
        let shown = |monitor| value(monitor).map_or("-".to_owned(), |value| format!("{value:.4}"));
        tracing::info!(
            step,
            score = %shown(Monitor::ConvergenceScore),
            ratio = %shown(Monitor::ConvergentRatio),
            probe_loss = %shown(Monitor::ProbeLoss),
            certified = %format_args!("{certified}/{samples}"),
            gap_max = %format_args!("{gap_max:.1e}"),
            seconds = %format_args!("{:.2}", took.as_secs_f64()),
            "pair"
        );
    }

    /// Takes what the watchers have pinned and not said yet, so that no pin is forgotten.
    fn take_rest(&mut self, watchers: &Watchers) -> Result<()> {
        let mut stage = Stage::drain(End::Interrupted);
        while let Ok(event) = watchers.next(Duration::ZERO) {
            if !matches!(event, Event::Waiting { .. }) {
                self.take(event, &mut stage)?;
            }
        }
        Ok(())
    }

    /// Lets go of what still waits at the end. After an interruption it waits for the next start.
    fn release(&mut self, end: Option<&End>) -> Result<()> {
        let reason = match end {
            Some(End::Done) => "its partner never came",
            Some(End::Stopped(_)) => "the run was stopped before it",
            Some(End::Interrupted) | None => return Ok(()),
        };
        for checkpoint in self.pairs.drain() {
            self.skip(checkpoint, reason)?;
        }
        Ok(())
    }
}

/// What must not change within a run, because the numbers before and after could not be compared.
fn keep_settings(
    config: &Config,
    options: Options,
    worker: &Worker,
    history: &History,
) -> Result<()> {
    let settings = config.interactions;
    history.keep_fact("solver", &format!("{SOLVER_NAME} {SOLVER_VERSION}"))?;
    history.keep_fact("solver iterations", &settings.solver.iterations.to_string())?;
    history.keep_fact("gap", &settings.solver.gap.to_string())?;
    history.keep_fact("noise", &settings.noise.to_string())?;
    history.keep_fact("salience", &settings.salience.to_string())?;
    let mode = if options.dry_run { "dry run" } else { "controlling" };
    history.keep_fact("mode", mode)?;
    for (name, value) in worker.facts() {
        history.keep_fact(name, value)?;
    }
    Ok(())
}

fn source(checkpoint: &Checkpoint) -> Source {
    let Checkpoint { role, pin, path, .. } = checkpoint.clone();
    Source { role, file: pin, name: path }
}

fn refuse_rewritten(checkpoint: &Checkpoint) -> Result<()> {
    match checkpoint::pin::is_intact(&checkpoint.pin, &checkpoint.identity) {
        true => Ok(()),
        false => Err(DaemonError::Network(NetworkError::Checkpoint {
            path: checkpoint.path.clone(),
            message: "was rewritten in place before it was evaluated; write checkpoints under \
                      another name and rename them"
                .to_owned(),
        })),
    }
}

fn checkpoint_row(checkpoint: &Checkpoint, outcome: Outcome) -> CheckpointRow {
    CheckpointRow {
        role: checkpoint.role,
        identity: checkpoint.identity.clone(),
        step: checkpoint.step,
        path: checkpoint.path.display().to_string(),
        outcome,
        reason: None,
    }
}

fn unpin(checkpoint: &Checkpoint) {
    if let Err(error) = checkpoint::pin::remove(&checkpoint.pin) {
        tracing::warn!(pin = %checkpoint.pin.display(), %error, "a pin cannot be removed");
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A page that says why there is none.
pub fn no_page() -> http::Page {
    Arc::new(|| Err("no page here".to_owned()))
}
