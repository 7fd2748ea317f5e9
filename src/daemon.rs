//! The running sidecar: threads, the event loop, and the end.
//!
//! Threads: a watcher for each directory, the network (which owns the programs), the solver's pool, the
//! HTTP server, and this loop. Checkpoints arrive over one bounded channel and are written into the history as
//! they come, also while a pair is evaluated. What waits is bounded, by [`Pairs`].

mod arrivals;
mod best;
mod delivery;
mod ending;
mod escalation;
mod evaluation;
mod figures;
mod grace;
mod intervention;
mod keeping;
mod notices;
mod peers;
mod progress;
mod reloading;
mod settings;
mod tensorboard;
mod watchers;

pub(crate) use self::evaluation::MOST_TRIES;
pub(crate) use self::keeping::RETRY;
use self::keeping::until_there_is_room;
use self::peers::Peers;
use self::progress::Course;
pub(crate) use self::settings::{find_fixed, has_begun};
use self::settings::{has_left, keep_settings, last_steps, say_begun};
use self::watchers::Watchers;
use crate::checkpoint::directory::why_unlisted;
use crate::checkpoint::{self, Checkpoint, Event, Pairs};
use crate::clock::now;
use crate::config::Config;
use crate::control::{Control, Ladder, Sighting};
use crate::evaluation::{ValueCache, Variables};
use crate::extractor::Extractor;
use crate::failpoint;
use crate::history::{
    CheckpointRow, DeliveryRow, History, HistoryError, Outcome, PairRow, StateLock,
};
use crate::network::{Evaluated, Evaluator, NetworkError, device};
use crate::page::{News, Site};
use crate::person::requests::Desk;
use crate::policy::{Decision, LEAST_SAMPLES, MissingMonitor, Policy, PolicyState};
use crate::role::Role;
use crate::run_clock::RunClock;
use crate::signal::Document;
use crate::telemetry::{Metrics, http};
use convergd_core::cli::progress::Progress;
use crossbeam_channel::Receiver;
use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How often answers and ends are looked for.
const TICK: Duration = Duration::from_millis(100);
/// How long the last scan is awaited: longer than a checkpoint may take to settle.
const LONGEST_DRAIN: Duration = Duration::from_secs(180);

/// How soon a watcher looks again, where room has been made for what it could not keep.
const NEXT_LOOK: Duration = Duration::from_secs(10);

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Evaluate what is there and end.
    pub once: bool,
    /// Decide and record, and tell nobody.
    pub dry_run: bool,
}

impl Options {
    /// Whether a stop ends the run at once.
    fn awaits_nobody(self) -> bool {
        self.once || self.dry_run
    }
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
    /// The end was asked for while the disk of the state took no more.
    #[error(transparent)]
    NoRoom(HistoryError),
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
    /// With `--once`, a directory with nothing but checkpoints of another layout.
    #[error("{role} network: {reason}")]
    OtherLayout {
        /// Whose directory.
        role: Role,
        /// What was found, and what to write.
        reason: String,
    },
    /// There was no checkpoint at all.
    #[error(
        "no checkpoint is there: `{directory}` holds none that counts; `convergd doctor -c` looks at it"
    )]
    NothingCame {
        /// The target's directory.
        directory: String,
    },
    /// Checkpoints of which none could be evaluated.
    #[error(
        "no pair could be evaluated: {quarantined} quarantined and {skipped} skipped checkpoints, such as \
         `{path}`, which {reason}; `convergd status` tells of all"
    )]
    NothingEvaluated {
        /// Those that are damaged or do not fit.
        quarantined: usize,
        /// Those without a partner.
        skipped: usize,
        /// One of them.
        path: String,
        /// What became of it.
        reason: String,
    },
    /// A monitor that a rule follows and a pair lacks, with `policy.missing: error`.
    #[error(
        "rule `{}` follows `{}`, which the pair of step {} lacks, and `policy.missing` is `error`: outputs are not \
         finite, or the probe has no labels; the pair is stored, and the next start goes on after it",
        .0.rule, .0.monitor, .0.step
    )]
    Missing(MissingMonitor),
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
    /// The system does not give what is needed.
    #[error("{0}; other processes, or a limit of this one, leave too little")]
    System(String),
}

impl DaemonError {
    /// Whether the disk of the state takes no more, or is not there for the moment.
    fn is_of_disk(&self) -> bool {
        match self {
            Self::NoRoom(_) => true,
            Self::History(error) => error.is_of_disk(),
            _ => false,
        }
    }
}

type Result<T> = std::result::Result<T, DaemonError>;

/// Runs until training ends, a rule stops it, or a signal arrives on `interrupts`. One on `reloads` has the configuration
/// read anew. `progress` shows how far a run with `once` has come.
///
/// # Errors
/// Whatever makes it impossible to go on; the history is whole all the same.
pub fn run(
    config: &Config,
    options: Options,
    interrupts: &Receiver<()>,
    reloads: &Receiver<()>,
    progress: &Progress,
) -> Result<End> {
    let mut server = None;
    let course = Course::of(progress);
    let end = match follow(config, options, [interrupts, reloads], course, &mut server) {
        // Before anything was begun: the next start goes on.
        Err(DaemonError::NoRoom(_)) => Ok(End::Interrupted),
        end => end,
    };
    grace::linger(server, config.grace, interrupts);
    end
}

/// The run itself; `left` takes the server of one that is over.
fn follow(
    config: &Config,
    options: Options,
    signals: [&Receiver<()>; 2],
    course: Course,
    left: &mut Option<http::Server>,
) -> Result<End> {
    let (state, interrupts) = (&config.state, signals[0]);
    let _lock = until_there_is_room(state, interrupts, || StateLock::take(state), || ())?;
    let history = until_there_is_room(state, interrupts, || History::open(state), || ())?;
    let end = attend(config, options, history, signals, course, left);
    end.inspect_err(|error| ending::leave_word(state, error))
}

/// Nothing comes to a directory any more that is not there, and trainers of another run may follow the control file.
fn refuse_unlisted(config: &Config) -> Result<()> {
    for watched in &config.watch {
        if let Err(error) = std::fs::read_dir(&watched.directory) {
            let reason = why_unlisted(&watched.directory, &error);
            return Err(DaemonError::NothingThere { role: watched.role, reason });
        }
    }
    Ok(())
}

/// The run, from its history on.
fn attend(
    config: &Config,
    options: Options,
    history: History,
    signals: [&Receiver<()>; 2],
    course: Course,
    left: &mut Option<http::Server>,
) -> Result<End> {
    let mut daemon = Daemon::start(config, options, history, signals, course)?;
    let forgotten = daemon.keep(|history| history.forget_failure());
    if daemon.is_interrupted {
        return Ok(End::Interrupted);
    }
    forgotten?;
    // An earlier life may have ended between its last pair and this.
    daemon.release_former_bests();
    let earlier_stop = daemon.standing_stop()?;
    let is_settled = earlier_stop.is_some() && daemon.is_settled()?;
    // Otherwise a kill came in between. Where nobody is waited for nothing is evaluated after a stop.
    let is_closed = daemon.history.closed()? == Some(daemon.generation);
    let is_over = earlier_stop.is_some() && (options.awaits_nobody() || is_closed);
    if let Some(decision) = earlier_stop.as_ref().filter(|_| is_over) {
        if has_left(&daemon.history, &config.state)? {
            let end = End::Stopped(Box::new(decision.clone()));
            let released = daemon.recover_pins().and_then(|()| daemon.release(Some(&end), true));
            if daemon.is_interrupted {
                return Ok(daemon.interrupted());
            }
            released?;
        }
        let why = match is_closed {
            true => "nothing is left to do",
            false => "with `--once` or `--dry-run` nothing is evaluated after a stop",
        };
        tracing::warn!(
            decision = decision.id,
            "this run was stopped before, and {why}; a new run needs a new `state` and new checkpoint directories"
        );
        daemon.say_farewell()?;
        *left = daemon.leave();
        return Ok(End::Stopped(Box::new(decision.clone())));
    }
    let goes_on = match is_settled {
        true => Ok(()),
        false => daemon.keep(|history| history.forget_end()),
    };
    let recovered = goes_on.and_then(|()| daemon.recover_pins());
    if daemon.is_interrupted {
        return Ok(daemon.interrupted());
    }
    recovered?;
    failpoint::reach("pins-recovered");
    let watchers = Watchers::start(config, &daemon.history, &mut daemon.pairs)?;
    let stage = match earlier_stop {
        Some(decision) if is_settled => {
            tracing::info!(
                decision = decision.id,
                "this run was stopped before; what its trainings saved before they stopped is evaluated"
            );
            Stage::drain(End::Stopped(Box::new(decision)), config)
        }
        Some(decision) => daemon.await_answers(decision),
        None if options.once => Stage::drain(End::Done, config),
        None => Stage::Following,
    };
    let end = daemon.serve(&watchers, stage);
    // Who answers later is heard by the next start, which then evaluates what he has saved.
    let was_settled = daemon.is_settled().unwrap_or(false);
    // What could not be stored lies among the pins, where the next start finds it.
    let end = if daemon.is_interrupted { Ok(End::Interrupted) } else { end };
    let programs = daemon.cut_programs();
    let rest = daemon.take_rest(&watchers);
    if !daemon.is_interrupted {
        rest.and(programs)?;
    }
    drop(watchers);
    let (end, is_settled) = match end {
        Ok(End::Interrupted) => {
            let (end, is_settled) = daemon.interrupted_when_settled();
            (Ok(end), is_settled)
        }
        end => (end, was_settled),
    };
    let released = daemon.release(end.as_ref().ok(), is_settled);
    let closed = released.and_then(|()| daemon.close(end.as_ref().ok(), is_settled));
    if !daemon.is_interrupted {
        closed?;
    }
    if end.as_ref().is_ok_and(|end| *end == End::Done) {
        daemon.forget_begun()?;
        daemon.refuse_nothing()?;
    }
    match &end {
        Ok(_) if daemon.is_interrupted => {}
        Ok(_) => daemon.say_farewell()?,
        // What is wrong with the history cannot be stored in it.
        Err(DaemonError::History(_) | DaemonError::NoRoom(_)) => {}
        Err(error) => {
            daemon.tell_notice(format!("the run has ended with an error: {error}"))?;
            daemon.say_farewell()?;
        }
    }
    // What could not be written before.
    daemon.write_events();
    if matches!(end, Ok(End::Done | End::Stopped(_))) {
        *left = daemon.leave();
    }
    end
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
    /// What is not watched needs no listing.
    fn drain(end: End, config: &Config) -> Self {
        let listed = [false, config.fixed.is_some()];
        Self::Draining { listed, since: Instant::now(), end }
    }

    /// Whether the last scan is still awaited: for as long as it is not quiet, and a while longer, since what never settles
    /// is not waited for.
    fn awaits_listing(&self, is_quiet: bool) -> bool {
        match self {
            Self::Draining { listed, since, .. } => {
                *listed != [true; 2] && !(is_quiet && since.elapsed() >= LONGEST_DRAIN)
            }
            _ => false,
        }
    }
}

struct Daemon<'a> {
    config: &'a Config,
    options: Options,
    history: History,
    evaluator: Evaluator,
    control: Control,
    /// Nobody else delivers there; nothing in a dry run, or where the file system has no locks.
    _control_lock: Option<StateLock>,
    /// As it is now; a reload may change it.
    ladder: Ladder,
    /// The last decision on its way up the ladder.
    climb: Option<escalation::Climb>,
    /// Programs of the ladder at work.
    programs: Vec<escalation::Running>,
    notices: notices::Notices,
    events: tensorboard::Events,
    course: Course,
    /// What was seen in pid files.
    sightings: [Option<Sighting>; 2],
    metrics: Metrics,
    /// For who looks at the page.
    news: News,
    server: Option<http::Server>,
    pairs: Pairs,
    variables: Option<Variables>,
    /// Made when the number of variables is known.
    extractor: Option<Extractor>,
    /// Whether a device was too full for it.
    extracts_on_cpu: bool,
    /// What the rules remember.
    policy: PolicyState,
    clock: RunClock,
    /// The rules as they are now; a reload may change them.
    rules: Policy,
    /// Decisions of persons that the loop has not taken up yet.
    manual: Vec<Decision>,
    /// Where commands ask for something.
    desk: Desk,
    generation: u64,
    /// Whether the last delivery failed: said once, not at every try.
    delivery_fails: bool,
    /// Newest step seen of each network.
    newest: [Option<u64>; 2],
    last_arrival: Option<Instant>,
    /// Nothing to compare where the baseline is fixed.
    peers: Option<Peers>,
    /// Reported and in the history, not taken yet.
    noted: VecDeque<Event>,
    interrupts: Receiver<()>,
    /// Asks for the configuration to be read anew.
    reloads: Receiver<()>,
    /// Whether the end was asked for while something else was waited for.
    is_interrupted: bool,
    /// Since when no trainer's process runs any more.
    gone_since: Option<Instant>,
    /// Of the fixed baseline, once evaluated.
    fixed_values: Option<Evaluated>,
    /// Whether it has been said that the precision is too low for the salience.
    was_noisy: bool,
    /// Whether it has been said that the networks are one.
    was_same: bool,
}

impl<'a> Daemon<'a> {
    fn start(
        config: &'a Config,
        options: Options,
        history: History,
        [interrupts, reloads]: [&Receiver<()>; 2],
        course: Course,
    ) -> Result<Self> {
        let cache = ValueCache::new(config.values(), config.cache_size);
        // With a mistake in `devices` no run begins; one that has begun goes on with what is left of them.
        let evaluator = match has_begun(&history, &config.state)? {
            true => Evaluator::start_again(config.network.clone(), cache)?,
            false => Evaluator::start(config.network.clone(), cache)?,
        };
        let fixed = find_fixed(config)?;
        // After what can be refused: a start that fails leaves nothing behind but its error.
        let keep = || keep_settings(config, options, &evaluator, &history, fixed.as_ref());
        until_there_is_room(&config.state, interrupts, keep, || ())?;
        failpoint::reach("settings-kept");
        let variables = history.fact("variables")?;
        let variables = variables.map(|text| serde_json::from_str(&text)).transpose();
        let variables: Option<Variables> = variables.map_err(HistoryError::Value)?;
        say_begun(&config.state, &evaluator, variables.as_ref());
        let control = &config.control.directory;
        let control_lock = match options.dry_run {
            true => None,
            false => StateLock::take_control(control)?,
        };
        let device = device::names(&evaluator.devices());
        let internal = |error: &dyn std::fmt::Display| DaemonError::Internal(error.to_string());
        let metrics = Metrics::new(&device).map_err(|error| internal(&error))?;
        let news = News::default();
        news.stand(|standing| standing.device = device.clone());
        let serve = |address| {
            let site = Site::of(config.clone(), news.clone());
            http::Server::start(address, metrics.clone(), |bound| site.served(bound))
                .map_err(|source| DaemonError::Listen { address, source })
        };
        let server = config.listen.filter(|_| !options.once).map(serve).transpose()?;
        if let Some(server) = &server {
            tracing::info!(address = %server.address(), "serving /metrics and /");
        }
        let last = history.last_pair()?;
        let decided = history.last_decision()?;
        let policy = history.policy_state(last.as_ref(), &config.policy)?;
        let crate::evaluation::Settings { threads, priority, memory, .. } = &config.network;
        let [batch_target, batch_baseline] = evaluator.batches();
        tracing::info!(
            run = config.name, %device, threads, memory, nice = crate::priority::niceness(priority.nice), io = priority.io.name(),
            batch_target, batch_baseline, samples = evaluator.samples(), state = %config.state.display(),
            pairs = history.count_pairs()?, "started"
        );
        if config.policy.needs_samples() && evaluator.samples() < LEAST_SAMPLES {
            tracing::warn!(
                samples = evaluator.samples(),
                "`significance` needs {LEAST_SAMPLES} samples of the probe at least, better 30: such a rule never fires here"
            );
        }
        let pairing = match options.once {
            true => config.pairing.without_bound(),
            false => config.pairing,
        };
        let mut daemon = Self {
            config,
            options,
            evaluator,
            control: Control::new(config.control.clone()),
            _control_lock: control_lock,
            ladder: config.control.escalate.clone(),
            climb: None,
            programs: Vec::new(),
            notices: notices::Notices::default(),
            events: tensorboard::Events::default(),
            course,
            sightings: [None, None],
            metrics,
            news,
            server,
            pairs: Pairs::new(pairing, last_steps(&history, last.as_ref())?, fixed),
            variables,
            extractor: None,
            extracts_on_cpu: false,
            policy,
            clock: RunClock::of(&history)?,
            rules: config.policy.clone(),
            manual: Vec::new(),
            desk: Desk::of(&config.state),
            generation: decided.as_ref().map_or(0, |row| row.document.generation),
            delivery_fails: false,
            newest: [last.as_ref().map(|pair| pair.step); 2],
            last_arrival: last.as_ref().map(|_| Instant::now()),
            peers: config.fixed.is_none().then(|| Peers::new(config.stale, Instant::now())),
            noted: VecDeque::new(),
            interrupts: interrupts.clone(),
            reloads: reloads.clone(),
            is_interrupted: false,
            gone_since: None,
            fixed_values: None,
            was_noisy: false,
            was_same: false,
            history,
        };
        daemon.take_webhooks(&config.notify)?;
        daemon.take_policy(&config.policy, config.written.policy())?;
        daemon.metrics.show_devices(config.network.devices.len());
        daemon.show_devices();
        daemon.metrics.control.show_reload(true, now());
        if options.once {
            refuse_unlisted(config)?;
        }
        daemon.show_start(last.as_ref(), decided.as_ref())?;
        Ok(daemon)
    }

    /// Shows what an earlier life left, and delivers what it could not: to trainers first, then to people.
    fn show_start(&mut self, last: Option<&PairRow>, decision: Option<&DeliveryRow>) -> Result<()> {
        self.desk.sweep();
        self.metrics.show_phase(&self.policy.phase, self.policy.lambda);
        if let Some(pair) = last {
            self.show_pair(pair);
        }
        match decision {
            _ if self.options.dry_run => {}
            None => {
                let next = self.control.next_generation();
                let found = self.control.current();
                if let Some(decision) = found.as_ref().and_then(|f| f.decision_id.as_ref()) {
                    let directory = self.config.control.directory.display();
                    tracing::warn!(
                        %directory, decision, "the control directory has a decision of another run, which ends here: its \
                         trainers are told what this one decides, and that run cannot go on there"
                    );
                }
                let begins = |generation| Document {
                    phase: self.policy.phase.clone(),
                    lambda: self.policy.lambda,
                    ..Document::start(generation)
                };
                let is_last = |f: &Document| f.generation.checked_add(1) == Some(next);
                let found = found.filter(|f| is_last(f) && *f == begins(f.generation));
                let fresh = || begins(next);
                let document = found.unwrap_or_else(fresh);
                self.generation = document.generation;
                self.write_control(&document);
                failpoint::reach("control-begun");
            }
            // Undelivered, or lost since: a trainer that starts again must find it.
            Some(row) => {
                self.refuse_newer(row.document.generation)?;
                if row.decision.action == "continue" && row.delivered.is_none() {
                    // A crash may have come before these were taken away.
                    self.control.forget_ends();
                }
                let is_there = self.control.current().as_ref() == Some(&row.document);
                if row.delivered.is_none() || !is_there {
                    self.deliver(&row.document)?;
                }
            }
        }
        self.write_events();
        self.tell_last_decision()?;
        self.take_up_requests()?;
        if let Some(server) = &self.server {
            server.set_ready();
        }
        Ok(())
    }

    /// Trainers take nothing that is not newer than what they have seen.
    fn refuse_newer(&self, own: u64) -> Result<()> {
        let seen = self.control.next_generation().saturating_sub(1);
        if seen <= own {
            return Ok(());
        }
        let path = self.config.control.directory.clone();
        Err(HistoryError::ControlAhead { path, seen, own }.into())
    }

    /// Takes up the checkpoints that an earlier life had pinned and not evaluated, also those that it did not
    /// come to write down, and removes what else lies there.
    fn recover_pins(&mut self) -> Result<()> {
        let pins = self.config.state.join("pins");
        let mut kept = HashSet::new();
        for row in self.history.checkpoints_that(Outcome::Waiting, usize::MAX)? {
            let CheckpointRow { role, identity, step, path, .. } = row;
            let pin = checkpoint::pin::path(&pins, role, step, &identity);
            if checkpoint::pin::is_intact(&pin, &identity).is_ok_and(|is_it| is_it) {
                kept.insert(pin.clone());
                self.arrive(Checkpoint { role, step, path: path.into(), pin, identity })?;
            } else {
                self.keep(|history| history.forget_checkpoint(role, &identity))?;
            }
        }
        let refuse =
            |source| DaemonError::History(HistoryError::Directory { path: pins.clone(), source });
        // Of what has a row the row tells, whatever it is.
        let (mut known, mut taken) = (HashSet::<PathBuf>::new(), HashSet::<(Role, u64)>::new());
        for settings in &self.config.watch {
            let role = settings.role;
            for step in checkpoint::pin::steps(&pins, role).map_err(refuse)? {
                for row in self.history.checkpoints_at(role, step)? {
                    known.insert(checkpoint::pin::path(&pins, role, step, &row.identity));
                    taken.extend((row.outcome == Outcome::Waiting).then_some((role, step)));
                }
            }
            let orphans = checkpoint::pin::orphans(&pins, settings, |pin| known.contains(pin));
            let last = self.pairs.last().map(|last| last[settings.role.index()]);
            for checkpoint in orphans.map_err(refuse)? {
                let place = (checkpoint.role, checkpoint.step);
                // Dealt with, and only not let go of.
                if last >= Some(checkpoint.step) || !taken.insert(place) {
                    continue;
                }
                kept.insert(checkpoint.pin.clone());
                let row = arrivals::checkpoint_row(&checkpoint, Outcome::Waiting);
                self.keep(|history| history.record_checkpoint(&row, now()))?;
                self.arrive(checkpoint)?;
            }
        }
        self.pairs.note_recovered();
        checkpoint::pin::sweep(&pins, &kept).map_err(refuse)
    }

    fn standing_stop(&self) -> Result<Option<Decision>> {
        if !self.policy.stopped {
            return Ok(None);
        }
        Ok(self.history.last_decision()?.map(|row| row.decision))
    }

    fn serve(&mut self, watchers: &Watchers, mut stage: Stage) -> Result<End> {
        let mut evaluated = None::<Instant>;
        loop {
            self.is_interrupted |= self.interrupts.try_recv().is_ok();
            if self.is_interrupted {
                return Ok(End::Interrupted);
            }
            // Asked before what they have reported is taken, so that nothing comes in between.
            let are_at_work = watchers.are_at_work();
            self.take_events(watchers, &mut stage)?;
            self.tend()?;
            let is_ready = self.knows_all(&stage, !are_at_work) && self.pairs.is_ready();
            let decided = if is_ready { self.evaluate_next(watchers)? } else { None };
            if is_ready {
                evaluated = Some(Instant::now());
            }
            let is_quiet = !are_at_work && evaluated.is_none_or(|last| last.elapsed() >= NEXT_LOOK);
            // A person's come before the pair that was evaluated meanwhile.
            for decision in std::mem::take(&mut self.manual).into_iter().chain(decided) {
                if self.options.once && decision.action == "continue" {
                    // What has been listed was said in another stage.
                    watchers.rescan();
                }
                // Nobody is told, so there is nobody to wait for.
                if decision.action == "stop" && self.options.awaits_nobody() {
                    return Ok(End::Stopped(Box::new(decision)));
                }
                stage = self.stage_after(stage, decision);
            }
            if let Some(end) = self.ended(&stage, is_quiet)? {
                return Ok(end);
            }
            match &stage {
                Stage::Following => {
                    let Some(why) = self.training_ended() else { continue };
                    tracing::info!("training has ended: {why}");
                    self.record_end(&why)?;
                    watchers.rescan();
                    stage = Stage::drain(End::Done, self.config);
                }
                // The last checkpoints of the stopped trainings complete the record.
                // One that is asked to end evaluates no more.
                Stage::Stopping(decision, _)
                    if self.interrupts.is_empty() && self.is_answered()? =>
                {
                    tracing::info!(
                        "the trainings have answered or ended; what they saved before is evaluated"
                    );
                    watchers.rescan();
                    stage = Stage::drain(End::Stopped(decision.clone()), self.config);
                }
                _ => {}
            }
        }
    }

    /// A stop is told, and its answers are waited for.
    fn await_answers(&self, decision: Decision) -> Stage {
        let patience = self.longest_wait();
        tracing::info!(
            "waiting for the trainings to answer, up to {patience:?} (`control.acknowledge`, or what the ladder takes)"
        );
        Stage::Stopping(Box::new(decision), Instant::now())
    }

    /// Where the loop stands after a decision.
    fn stage_after(&self, stage: Stage, decision: Decision) -> Stage {
        match (decision.action.as_str(), stage) {
            // Nobody trains any more who could answer.
            ("stop", Stage::Draining { listed, since, .. }) => {
                Stage::Draining { listed, since, end: End::Stopped(Box::new(decision)) }
            }
            ("stop", _) => self.await_answers(decision),
            ("continue", _) if self.options.once => Stage::drain(End::Done, self.config),
            ("continue", _) => Stage::Following,
            (_, stage) => stage,
        }
    }

    /// Whether pairs may be evaluated: with `--once` when all that is there has been listed, so that they are those of
    /// `values`, in the order of their steps, whichever checkpoint was kept first.
    fn knows_all(&self, stage: &Stage, is_quiet: bool) -> bool {
        !(self.options.once && stage.awaits_listing(is_quiet))
    }

    /// Whether the run is over in this stage, and how.
    fn ended(&mut self, stage: &Stage, is_quiet: bool) -> Result<Option<End>> {
        match stage {
            Stage::Draining { .. } if stage.awaits_listing(is_quiet) => Ok(None),
            Stage::Draining { end, .. } => {
                self.pairs.end();
                let is_over =
                    !self.pairs.is_ready() && self.noted.is_empty() && self.programs.is_empty();
                Ok(is_over.then(|| end.clone()))
            }
            Stage::Stopping(decision, since) => {
                // What has not been delivered cannot be acknowledged; it is tried again.
                let is_over = self.has_waited(*since) && self.is_delivered()?;
                if is_over && !self.is_answered()? {
                    let missing = self.name_silent()?;
                    tracing::warn!(
                        "the stop was not acknowledged in time by: {missing}; see whether they train on, and end them, or have \
                         `control.escalate` do so"
                    );
                    return Ok(Some(End::Stopped(decision.clone())));
                }
                Ok(None)
            }
            Stage::Following => Ok(None),
        }
    }
}
