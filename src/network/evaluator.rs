//! Evaluates checkpoints on all devices, or finds their values in the cache.
//!
//! The rows of a checkpoint, its masked inputs, are cut at the ends of batches, so that every batch holds the same
//! rows whichever device takes it: several devices give what one gives, to the last bit. A device takes the next part
//! when it has done one. One that fails is given up, and the others take what it has left, for as long as there is
//! another.

use super::networks::{About, Question};
use super::values::Values;
use super::worker::{Counters, Event, Starting, Work, Worker};
use super::{Device, NetworkError, Source};
use crate::evaluation::cache::{Found, NotKept};
use crate::evaluation::precision::REFERENCE_SAMPLES;
use crate::evaluation::{Cached, Precision, ProbeValues, Settings, ValueCache, Variables};
use crate::priority;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Parts for each device: the last ones end at about the same time.
const PARTS_OF_A_DEVICE: usize = 8;

/// The values of one checkpoint.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// What the network gave.
    pub values: ProbeValues,
    /// Masked inputs that went through the network; 0 when the cache had the answer.
    pub rows: u64,
    /// The name of the values in the cache: what they depend on.
    pub key: String,
    /// What became of it in the cache.
    pub cached: Cached,
    /// Why its values are not there.
    pub unkept: Option<NotKept>,
}

/// What the thread is asked; every question has its one answer.
enum Command {
    Choose([Source; 2], Sender<Result<Option<Variables>, NetworkError>>),
    Evaluate(Source, Variables, Sender<Result<Evaluated, NetworkError>>),
}

/// What the thread will say.
pub struct Answer<T>(Receiver<Result<T, NetworkError>>);

impl<T> Answer<T> {
    /// Where it arrives, for whoever waits for other things too; the sender is gone where the thread is.
    pub fn receiver(&self) -> &Receiver<Result<T, NetworkError>> {
        &self.0
    }

    /// Waits for it.
    ///
    /// # Errors
    /// Those of the question, and a thread that is gone.
    pub fn wait(self) -> Result<T, NetworkError> {
        self.0.recv().unwrap_or(Err(NetworkError::Died))
    }
}

/// A handle on the thread that asks the devices.
pub struct Evaluator {
    commands: Sender<Command>,
    about: About,
    devices: Arc<Mutex<Vec<Device>>>,
    /// Device by device, as they were asked for.
    counters: Vec<Counters>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Evaluator {
    /// Loads and tries everything on all devices before it returns.
    ///
    /// # Errors
    /// A device, program or probe that cannot be used.
    pub fn start(settings: Settings, cache: ValueCache) -> Result<Self, NetworkError> {
        Self::begin(settings, cache, true)
    }

    /// The same with the devices that can be used, if there is one, for a run that goes on: a device that was lost is no
    /// reason to leave trainings alone.
    ///
    /// # Errors
    /// Devices, a program or a probe of which none can be used.
    pub fn start_again(settings: Settings, cache: ValueCache) -> Result<Self, NetworkError> {
        Self::begin(settings, cache, false)
    }

    fn begin(settings: Settings, cache: ValueCache, wants_all: bool) -> Result<Self, NetworkError> {
        let starting = |number| Starting::new(settings.clone(), number);
        let starting: Result<Vec<_>, _> = (0..settings.devices.len()).map(starting).collect();
        // All of them, before the first that cannot be used is told.
        let finished: Vec<_> = starting?.into_iter().map(Starting::finish).collect();
        let is_one_there = finished.iter().any(Result::is_ok);
        let mut workers = Vec::new();
        for (worker, device) in finished.into_iter().zip(&settings.devices) {
            match worker {
                Ok(worker) => workers.push(worker),
                // It is not for the program or the probe, which the others have too.
                Err(error) if is_one_there && !wants_all && error.is_of_device() => {
                    tracing::error!(
                        %device, "a device cannot be used and is left out until the next start, the others take its samples: {error}"
                    )
                }
                Err(error) => return Err(error),
            }
        }
        let Some(first) = workers.first() else {
            return Err(NetworkError::Device("no device is asked for".to_owned()));
        };
        let about = first.about().clone();
        let counters = workers.iter().map(Worker::counters).cloned().collect();
        let devices = workers.iter().map(|worker| worker.about().device).collect();
        let devices = Arc::new(Mutex::new(devices));
        let (commands, received) = bounded(1);
        let evaluation = Evaluation {
            settings,
            about: about.clone(),
            workers,
            cache,
            was_uncached: false,
            begins: false,
            devices: devices.clone(),
        };
        let thread = std::thread::Builder::new().name("evaluation".to_owned());
        let thread = thread.spawn(move || {
            // It reads and writes value tables.
            priority::stand_back(evaluation.settings.priority);
            evaluation.serve(&received);
        });
        let thread = thread.map_err(|error| NetworkError::Device(format!("no thread: {error}")))?;
        Ok(Self { commands, about, devices, counters, thread: Some(thread) })
    }

    /// The devices in use, in the order in which they were asked for; those that failed are not among them.
    pub fn devices(&self) -> Vec<Device> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first device in use: where extraction is done too.
    pub fn device(&self) -> Device {
        self.devices().first().copied().unwrap_or(self.about.device)
    }

    /// Masked inputs at a time where there is enough memory, (target, baseline).
    pub fn batches(&self) -> [usize; 2] {
        self.about.batches
    }

    /// Number of probe samples.
    pub fn samples(&self) -> usize {
        self.about.samples
    }

    /// Masked inputs that have gone through the networks, also those of a question that is not answered yet.
    pub fn rows(&self) -> u64 {
        self.rows_by_device().into_iter().sum()
    }

    /// The same device by device, as they were asked for, also of those that have failed.
    pub fn rows_by_device(&self) -> Vec<u64> {
        let sum =
            |all: &[Arc<AtomicU64>; 2]| all.iter().map(|rows| rows.load(Ordering::Relaxed)).sum();
        self.counters.iter().map(|counters| sum(&counters.rows)).collect()
    }

    /// Bytes of all GPUs that were held for the last checkpoint, and given back; nothing on a CPU, whose memory is
    /// that of the process.
    pub fn held(&self) -> Option<u64> {
        let held = self.counters.iter().map(|counters| counters.held.load(Ordering::Relaxed));
        (!self.about.device.is_cpu()).then(|| held.sum())
    }

    /// What must not change within a run: name and value.
    pub fn facts(&self) -> &[(&'static str, String)] {
        &self.about.facts
    }

    /// Labels of the probe, where it has them.
    pub fn labels(&self) -> Option<&[i64]> {
        self.about.labels.as_deref()
    }

    /// Chooses the variables from the first pair of checkpoints; nothing where its outputs are not finite, so
    /// that the next pair must do.
    ///
    /// The answer's errors: a checkpoint that cannot be loaded, a rule that does not fit the features.
    pub fn choose(&self, pair: [Source; 2]) -> Answer<Option<Variables>> {
        self.ask(|reply| Command::Choose(pair, reply))
    }

    /// Evaluates one checkpoint, or finds its values in the cache.
    ///
    /// The answer's errors: a checkpoint that cannot be loaded; the run can go on without it.
    pub fn evaluate(&self, source: Source, variables: &Variables) -> Answer<Evaluated> {
        self.ask(|reply| Command::Evaluate(source, variables.clone(), reply))
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(Sender<Result<T, NetworkError>>) -> Command,
    ) -> Answer<T> {
        let (reply, answer) = bounded(1);
        // A thread that is gone drops the question, and the answer's other end with it.
        let _ = self.commands.send(command(reply));
        Answer(answer)
    }
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        (self.commands, _) = bounded(0);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread owns.
struct Evaluation {
    settings: Settings,
    /// What all devices have in common.
    about: About,
    /// Those in use.
    workers: Vec<Worker>,
    cache: ValueCache,
    /// Whether it has been said that values cannot be cached.
    was_uncached: bool,
    /// Whether variables were chosen and no checkpoint was looked for in the cache since: the run begins.
    begins: bool,
    /// Their devices, for whoever asks.
    devices: Arc<Mutex<Vec<Device>>>,
}

impl Evaluation {
    fn serve(mut self, commands: &Receiver<Command>) {
        for command in commands {
            // An answer that nobody waits for any more is dropped with its question.
            match command {
                Command::Choose(pair, reply) => {
                    self.begins = true;
                    let _ = reply.send(self.by_one(|worker| worker.choose(&pair)));
                }
                Command::Evaluate(source, variables, reply) => {
                    let evaluated = self.evaluate(source, variables);
                    self.workers.iter().for_each(Worker::release);
                    let _ = reply.send(evaluated);
                }
            }
        }
    }

    /// Asks the first device, and the next one where that cannot answer.
    fn by_one<T>(
        &mut self,
        question: impl Fn(&Worker) -> Result<T, NetworkError>,
    ) -> Result<T, NetworkError> {
        let mut failed = Vec::new();
        let mut answer = Err(NetworkError::Died);
        for worker in &self.workers {
            answer = question(worker);
            match &answer {
                Err(error) if error.is_failure() || error.lacks_memory() => {
                    failed.push((worker.number(), error.to_string(), error.is_failure()));
                }
                _ => break,
            }
        }
        // All of them: then it is no matter of a device.
        if failed.len() < self.workers.len() {
            for (number, error, _) in failed.into_iter().filter(|(_, _, is_failure)| *is_failure) {
                self.give_up(number, &error);
            }
        }
        answer
    }

    fn evaluate(
        &mut self,
        source: Source,
        variables: Variables,
    ) -> Result<Evaluated, NetworkError> {
        // Nothing of it is done by the device.
        let digest = self.by_one(|worker| worker.load(&source))?;
        let key = self.key(&source, digest, &variables);
        let name = key.to_hex().to_string();
        let lookup = match self.cache.find(&key, &source.file) {
            Found::Hit(values) => {
                let bytes = self.cache.bytes();
                self.begins = false;
                let cached = Cached { lookup: "hit", is_kept: true, evicted: 0, bytes };
                return Ok(Evaluated { values, rows: 0, key: name, cached, unkept: None });
            }
            Found::Missed => {
                self.say_missed();
                "miss"
            }
            Found::Damaged => {
                tracing::warn!(%key, "the cached value table is damaged; it is computed again");
                "damaged"
            }
        };
        let precision = self.settings.precision;
        let file = source.file.clone();
        let question = Question { source, digest, variables, precision };
        let values = self.values(question)?;
        let kept = self.cache.keep(&key, &file, &values);
        self.say_uncached(kept.as_ref().err());
        let (evicted, unkept) = match kept {
            Ok(evicted) => (evicted, None),
            Err(error) => (0, Some(error)),
        };
        let is_kept = unkept.is_none();
        let cached = Cached { lookup, is_kept, evicted, bytes: self.cache.bytes() };
        let tables = values.values.iter().chain(&values.reference);
        let rows = tables.map(|table| table.len() as u64).sum();
        Ok(Evaluated { values, rows, key: name, cached, unkept })
    }

    /// All masked inputs of a checkpoint, and in float32 too those of the first samples where the precision is lower.
    fn values(&mut self, question: Question) -> Result<ProbeValues, NetworkError> {
        let samples = self.about.samples;
        let subsets = 1usize << question.variables.count;
        let tables = |values: &[f64]| values.chunks_exact(subsets).map(<[f64]>::to_vec).collect();
        let reference = Question { precision: Precision::Float32, ..question.clone() };
        let is_lower = question.precision != Precision::Float32;
        let mut able = self.prepare(&question)?;
        let Values { values, unmasked } = self.rows(question, samples * subsets, &mut able)?;
        let mut all =
            ProbeValues { values: tables(&values), logits: unmasked, reference: Vec::new() };
        if is_lower {
            let first = samples.min(REFERENCE_SAMPLES);
            all.reference = tables(&self.rows(reference, first * subsets, &mut able)?.values);
        }
        Ok(all)
    }

    /// Has all devices prepare a checkpoint; the numbers of those that have.
    fn prepare(&mut self, question: &Question) -> Result<Vec<usize>, NetworkError> {
        let asked = self.workers.iter().map(|worker| (worker.number(), worker.prepare(question)));
        let asked: Vec<_> = asked.collect();
        let (mut able, mut failed) = (Vec::new(), Vec::new());
        for (number, answer) in asked {
            match answer.recv().unwrap_or(Err(NetworkError::Died)) {
                Ok(()) => able.push(number),
                Err(error) => failed.push((number, error)),
            }
        }
        self.go_on_without(failed, &able)?;
        Ok(able)
    }

    /// The first rows of a checkpoint, each on whichever device has time, of those that are able.
    fn rows(
        &mut self,
        question: Question,
        rows: usize,
        able: &mut Vec<usize>,
    ) -> Result<Values, NetworkError> {
        let batch = self.about.batches[question.source.role.index()].max(1);
        let part = match able.len() {
            0 | 1 => rows,
            devices => rows.div_ceil(devices * PARTS_OF_A_DEVICE).next_multiple_of(batch),
        };
        let work = Arc::new(Work::new(question, rows, part));
        let mut done = BTreeMap::new();
        while work.is_left() {
            let failed = self.take(&work, &mut done, able);
            if failed.is_empty() && work.is_left() {
                return Err(NetworkError::Died);
            }
            able.retain(|number| failed.iter().all(|(other, _)| other != number));
            self.go_on_without(failed, able)?;
        }
        let mut all = Values::default();
        for (_, Values { values, unmasked }) in done {
            all.values.extend(values);
            all.unmasked.extend(unmasked);
        }
        // Each part is either there or left.
        match all.values.len() == rows {
            true => Ok(all),
            false => Err(NetworkError::Died),
        }
    }

    /// Has all that are able take parts until none is left or they cannot go on; the numbers of those, and why.
    fn take(
        &self,
        work: &Arc<Work>,
        done: &mut BTreeMap<usize, Values>,
        able: &[usize],
    ) -> Vec<(usize, NetworkError)> {
        let (events, received) = unbounded();
        let mut failed = Vec::new();
        for worker in self.workers.iter().filter(|worker| able.contains(&worker.number())) {
            if !worker.take(work.clone(), events.clone()) {
                failed.push((worker.number(), NetworkError::Died));
            }
        }
        drop(events);
        for (number, event) in received {
            match event {
                Event::Done(part, values) => {
                    done.insert(part.start, values);
                }
                Event::Failed(error) => failed.push((number, error)),
            }
        }
        failed
    }

    /// What to do about devices that cannot go on with a checkpoint while those in `able` can: one that has failed is
    /// given up, one that lacks memory is left out until the next checkpoint.
    ///
    /// # Errors
    /// What is no matter of a device, or of all of them.
    fn go_on_without(
        &mut self,
        failed: Vec<(usize, NetworkError)>,
        able: &[usize],
    ) -> Result<(), NetworkError> {
        let is_of_device = |error: &NetworkError| error.is_failure() || error.lacks_memory();
        let mut of_devices = Vec::new();
        for (number, error) in failed {
            if !is_of_device(&error) || able.is_empty() {
                return Err(error);
            }
            of_devices.push((number, error));
        }
        for (number, error) in of_devices {
            if error.is_failure() {
                self.give_up(number, &error.to_string());
            } else {
                tracing::warn!("the other devices take its samples of this checkpoint: {error}");
            }
        }
        Ok(())
    }

    /// Goes on without a device.
    fn give_up(&mut self, number: usize, error: &str) {
        let Some(place) = self.workers.iter().position(|worker| worker.number() == number) else {
            return;
        };
        let worker = self.workers.remove(place);
        let device = worker.about().device;
        worker.counters().held.store(0, Ordering::Relaxed);
        worker.abandon();
        tracing::error!(
            %device, devices_left = self.workers.len(),
            "a device is given up until the next start, and the others take its samples: {error}"
        );
        let left = self.workers.iter().map(|worker| worker.about().device).collect();
        *self.devices.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }

    /// Said of the first checkpoint of a run, where tables are there and none is its own.
    fn say_missed(&mut self) {
        let is_told = self.cache.bytes() > 0 && !self.cache.is_filled_only();
        if std::mem::replace(&mut self.begins, false) && is_told {
            let kind = if self.about.device.is_cpu() { "a CPU" } else { "a GPU" };
            tracing::info!(
                "the value tables that are there are not of this checkpoint on {kind} in {}: those of another kind of device, \
                 precision, probe, program or choice of variables are others",
                self.settings.precision.name()
            );
        }
    }

    /// The cache saves work; without it the run goes on. Said once, and when it works again.
    fn say_uncached(&mut self, error: Option<&NotKept>) {
        let was_uncached = std::mem::replace(&mut self.was_uncached, error.is_some());
        match error {
            // Whoever fills it ends there, and says so.
            Some(NotKept::Full { .. }) => {}
            Some(error) if !was_uncached => {
                tracing::warn!(%error, "value tables cannot be cached; the run goes on without");
            }
            None if was_uncached => tracing::info!("value tables are cached again"),
            _ => {}
        }
    }

    /// What the values depend on: precision, program, weights, probe, variables, baseline, and the kind of the devices.
    fn key(&self, source: &Source, weights: blake3::Hash, variables: &Variables) -> blake3::Hash {
        let about = &self.about;
        let mut hasher = blake3::Hasher::new();
        let device = if about.device.is_cpu() { "cpu" } else { "cuda" };
        let precision = self.settings.precision.name();
        hasher.update(format!("convergd values 4 {precision} {device} ").as_bytes());
        hasher.update(about.programs[source.role.index()].as_bytes()).update(weights.as_bytes());
        hasher.update(about.probe.as_bytes());
        let text = format!("{variables:?} {:?}", self.settings.baseline);
        hasher.update(text.as_bytes());
        hasher.finalize()
    }
}
