//! The thread that owns the device: programs, probe and every tensor live there.

use super::values::Forwards;
use super::{
    Device, NetworkError, Probe, Program, device, masked, precision, values, variables, weights,
};
use crate::evaluation::cache::Found;
use crate::evaluation::{
    Assignment, Cached, ProbeValues, Settings, ValueCache, VariableRule, Variables,
};
use crate::role::Role;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tch::Tensor;

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
}

/// A checkpoint file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Whose weights it holds.
    pub role: Role,
    /// Where it is read.
    pub file: PathBuf,
    /// What messages call it: where the trainer wrote it.
    pub name: PathBuf,
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

/// A handle on the thread.
pub struct Worker {
    commands: Sender<Command>,
    device: Device,
    samples: usize,
    labels: Option<Vec<i64>>,
    facts: Vec<(&'static str, String)>,
    /// Of both networks.
    rows: [Arc<AtomicU64>; 2],
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread, which loads and tries everything before this returns.
    ///
    /// # Errors
    /// A device, program or probe that cannot be used.
    pub fn start(settings: Settings, cache: ValueCache) -> Result<Self, NetworkError> {
        let (commands, received) = bounded(1);
        let (ready, started) = bounded(1);
        let thread = std::thread::spawn(move || match Networks::load(settings, cache) {
            Err(error) => {
                let _ = ready.send(Err(error));
            }
            Ok(networks) => {
                let probe = &networks.probe;
                let (samples, labels) = (probe.samples(), probe.labels.clone());
                let rows = networks.programs.each_ref().map(Program::rows);
                let _ = ready.send(Ok((networks.device, samples, labels, networks.facts(), rows)));
                networks.serve(&received);
            }
        });
        let started = started.recv().unwrap_or(Err(NetworkError::Died));
        let (device, samples, labels, facts, rows) = started?;
        Ok(Self { commands, device, samples, labels, facts, rows, thread: Some(thread) })
    }

    /// The device in use.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Number of probe samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Masked inputs that have gone through the networks, also those of a question that is not answered yet.
    pub fn rows(&self) -> u64 {
        self.rows.iter().map(|rows| rows.load(Ordering::Relaxed)).sum()
    }

    /// What must not change within a run: name and value.
    pub fn facts(&self) -> &[(&'static str, String)] {
        &self.facts
    }

    /// Labels of the probe, where it has them.
    pub fn labels(&self) -> Option<&[i64]> {
        self.labels.as_deref()
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

impl Drop for Worker {
    fn drop(&mut self) {
        (self.commands, _) = bounded(0);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Everything that the thread owns.
struct Networks {
    settings: Settings,
    device: Device,
    programs: [Program; 2],
    probe: Probe,
    cache: RefCell<ValueCache>,
    /// Whether it has been said that values cannot be cached.
    was_uncached: Cell<bool>,
    /// Of which networks it has been said that checkpoints hold more than the program.
    was_unused: [Cell<bool>; 2],
}

impl Networks {
    fn load(settings: Settings, cache: ValueCache) -> Result<Self, NetworkError> {
        device::prepare(settings.threads);
        let device = device::find(settings.device)?;
        precision::check(settings.precision, device)?;
        precision::use_float32(device.0)?;
        let probe = Probe::read(&settings.probe, settings.samples)?;
        let load = |role: Role| Program::load(&settings.programs[role.index()], device, &probe);
        let programs = [load(Role::Target)?, load(Role::Baseline)?];
        let needs_rule = probe.variables.is_none() && settings.variables.is_none();
        if needs_rule {
            return Err(NetworkError::Probe {
                path: settings.probe.clone(),
                message: "has no tensor `variables`, and the configuration has no rule; add \
                          `probe.variables`, such as `{image_patches: {grid: 5, margin: 1}}`"
                    .to_owned(),
            });
        }
        let (cache, was_uncached) = (RefCell::new(cache), Cell::default());
        let was_unused = Default::default();
        let networks = Self { settings, device, programs, probe, cache, was_uncached, was_unused };
        let [target, baseline] = &networks.programs;
        let first = |program| values::sample(program, &networks.probe, 0, networks.device.0);
        let first = [first(target)?, first(baseline)?];
        networks.check_classes(&first)?;
        networks.check_variables(&first)?;
        Ok(networks)
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let Settings { variables, baseline, precision, .. } = &self.settings;
        let [target, baseline_program] = &self.programs;
        let key = |index: usize| format!("{:?}", self.settings.reading[index].weights);
        vec![
            ("probe file", self.probe.digest.to_hex().to_string()),
            ("target program", target.digest().to_hex().to_string()),
            ("baseline program", baseline_program.digest().to_hex().to_string()),
            ("target weights", key(0)),
            ("baseline weights", key(1)),
            ("variable rule", format!("{variables:?}")),
            ("masking baseline", format!("{baseline:?}")),
            ("precision", precision.name().to_owned()),
        ]
    }

    /// `first` is the first probe sample, as each network sees it.
    fn check_classes(&self, first: &[values::Sample; 2]) -> Result<(), NetworkError> {
        let mut count = None;
        for ((role, program), sample) in Role::BOTH.into_iter().zip(&self.programs).zip(first) {
            let classes = program.head(&sample.features, &sample.further)?.size()[1];
            if *count.get_or_insert(classes) != classes {
                return Err(NetworkError::Program {
                    path: self.settings.programs[role.index()].clone(),
                    message: format!(
                        "has {classes} classes, but the target's has {}; a pair learns one task",
                        count.unwrap_or_default()
                    ),
                });
            }
            let labels = self.probe.labels.as_deref().unwrap_or_default();
            if let Some(at) = labels.iter().position(|&label| label >= classes) {
                return Err(NetworkError::Probe {
                    path: self.settings.probe.clone(),
                    message: format!(
                        "has label {} at sample {at}, but the {role} network has {classes} classes; \
                         labels count from 0",
                        labels[at]
                    ),
                });
            }
        }
        Ok(())
    }

    /// What does not fit is said before the first checkpoint, not at it.
    fn check_variables(&self, first: &[values::Sample; 2]) -> Result<(), NetworkError> {
        for (role, sample) in Role::BOTH.into_iter().zip(first) {
            variables::Layout::of(&sample.features).map_err(|message| NetworkError::Program {
                path: self.settings.programs[role.index()].clone(),
                message,
            })?;
        }
        let [target, baseline] = first.each_ref().map(|s| std::slice::from_ref(&s.features));
        let (count, assignment) = self.assign([target, baseline])?;
        let chosen = Variables { count, classes: Vec::new(), assignment };
        for sample in first {
            masked::check(&sample.features, &self.probe, &chosen, self.settings.baseline)
                .map_err(|message| self.refuse_probe(message))?;
        }
        Ok(())
    }

    /// Which positions form which variable, by the probe or by the rule.
    fn assign(&self, features: [&[Tensor]; 2]) -> Result<(usize, Assignment), NetworkError> {
        match (&self.probe.variables, &self.settings.variables) {
            (Some(given), _) => {
                variables::from_probe(given).map_err(|message| self.refuse_probe(message))
            }
            (None, Some(VariableRule::Tokens { select, exclude_ids })) => self
                .probe
                .tokens()
                .and_then(|tokens| variables::draw_tokens(&tokens, *select, exclude_ids))
                .map(|assignment| (*select, assignment))
                .map_err(|message| self.refuse_probe(message)),
            (None, Some(rule)) => {
                variables::choose(rule, features).map_err(|(role, message)| NetworkError::Program {
                    path: self.settings.programs[role.index()].clone(),
                    message,
                })
            }
            (None, None) => Err(self.refuse_probe("BUG: no variables and no rule".to_owned())),
        }
    }

    fn refuse_probe(&self, message: String) -> NetworkError {
        NetworkError::Probe { path: self.settings.probe.clone(), message }
    }

    fn serve(self, commands: &Receiver<Command>) {
        for command in commands {
            // An answer that nobody waits for any more is dropped with its question.
            match command {
                Command::Choose(pair, reply) => {
                    let _ = reply.send(guarded(|| self.choose(&pair)));
                }
                Command::Evaluate(source, variables, reply) => {
                    let _ = reply.send(guarded(|| self.evaluate(&source, &variables)));
                }
            }
        }
    }

    fn choose(&self, pair: &[Source; 2]) -> Result<Option<Variables>, NetworkError> {
        let mut features = Vec::new();
        let mut predicted = Vec::new();
        for source in pair {
            let role = source.role;
            let program = &self.programs[role.index()];
            self.load_weights(source)?;
            let own = values::samples(program, &self.probe, self.device.0)?;
            for sample in &own {
                let logits = program.head(&sample.features, &sample.further)?;
                if !is_finite(&sample.features) || !is_finite(&logits) {
                    return Ok(None);
                }
                if role == Role::Target && self.probe.labels.is_none() {
                    predicted.push(logits.argmax(1, false).int64_value(&[0]));
                }
            }
            features.push(own.into_iter().map(|sample| sample.features).collect::<Vec<_>>());
        }
        let (count, assignment) = self.assign([&features[0], &features[1]])?;
        let classes = self.probe.labels.clone().unwrap_or(predicted);
        Ok(Some(Variables { count, classes, assignment }))
    }

    /// Copies a checkpoint into its program; the hash of what was copied.
    fn load_weights(&self, source: &Source) -> Result<blake3::Hash, NetworkError> {
        let Source { role, file, name } = source;
        let index = role.index();
        let reading = &self.settings.reading[index];
        let loaded = weights::load(&self.programs[index], reading, file, name)?;
        if !loaded.unused.is_empty() && !self.was_unused[index].replace(true) {
            let names = weights::shortened(&loaded.unused);
            let file = name.display();
            tracing::warn!(network = %role, %file, "holds tensors that the program does not use: {names}");
        }
        Ok(loaded.digest)
    }

    fn evaluate(&self, source: &Source, variables: &Variables) -> Result<Evaluated, NetworkError> {
        let program = &self.programs[source.role.index()];
        let digest = self.load_weights(source)?;
        let key = self.key(program, digest, variables);
        let mut cache = self.cache.borrow_mut();
        let lookup = match cache.find(&key, &source.file) {
            Found::Hit(values) => {
                let bytes = cache.bytes();
                let cached = Cached { lookup: "hit", is_kept: true, evicted: 0, bytes };
                return Ok(Evaluated { values, rows: 0, key: key.to_hex().to_string(), cached });
            }
            Found::Missed => "miss",
            Found::Damaged => {
                tracing::warn!(%key, "the cached value table is damaged; it is computed again");
                "damaged"
            }
        };
        let Settings { baseline, batch, precision, .. } = self.settings;
        let forwards = Forwards { batch, device: self.device.0, precision };
        let values = values::evaluate(program, &self.probe, variables, baseline, forwards)?;
        let kept = cache.keep(&key, &source.file, &values);
        self.say_uncached(kept.as_ref().err());
        let (is_kept, evicted) = (kept.is_ok(), kept.unwrap_or(0));
        let cached = Cached { lookup, is_kept, evicted, bytes: cache.bytes() };
        let tables = values.values.iter().chain(&values.reference);
        let rows = tables.map(|table| table.len() as u64).sum();
        Ok(Evaluated { values, rows, key: key.to_hex().to_string(), cached })
    }

    /// The cache saves work; without it the run goes on. Said once, and when it works again.
    fn say_uncached(&self, error: Option<&std::io::Error>) {
        let was_uncached = self.was_uncached.replace(error.is_some());
        match error {
            Some(error) if !was_uncached => {
                tracing::warn!(%error, "value tables cannot be cached; the run goes on without");
            }
            None if was_uncached => tracing::info!("value tables are cached again"),
            _ => {}
        }
    }

    /// What the values depend on: precision, program, weights, probe, variables, baseline.
    fn key(&self, program: &Program, weights: blake3::Hash, variables: &Variables) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let device = if self.device.0.is_cuda() { "cuda" } else { "cpu" };
        let precision = self.settings.precision.name();
        hasher.update(format!("convergd values 4 {precision} {device} ").as_bytes());
        hasher.update(program.digest().as_bytes()).update(weights.as_bytes());
        hasher.update(self.probe.digest.as_bytes());
        let text = format!("{variables:?} {:?}", self.settings.baseline);
        hasher.update(text.as_bytes());
        hasher.finalize()
    }
}

fn is_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) != 0
}

/// tch panics where libtorch refuses something that was not foreseen; the thread lives on.
fn guarded<T>(work: impl FnOnce() -> Result<T, NetworkError>) -> Result<T, NetworkError> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        Err(NetworkError::Torch {
            context: "BUG: libtorch refused something unforeseen".to_owned(),
            message: text.lines().next().unwrap_or_default().to_owned(),
        })
    })
}
