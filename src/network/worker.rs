//! The thread of one device: what is there never leaves it.

use super::networks::{About, Networks, Question};
use super::values::Values;
use super::{Device, NetworkError, Source, guarded};
use crate::evaluation::{Settings, Variables};
use crate::priority;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A question, and the parts of its answer that nobody has begun with: whoever has time takes the next one.
#[derive(Debug)]
pub(super) struct Work {
    question: Question,
    parts: Mutex<VecDeque<Range<usize>>>,
}

impl Work {
    /// Rows in parts of so many.
    pub(super) fn new(question: Question, rows: usize, part: usize) -> Self {
        let part = part.max(1);
        let parts = (0..rows).step_by(part).map(|start| start..(start + part).min(rows));
        Self { question, parts: Mutex::new(parts.collect()) }
    }

    /// Whether there are parts that nobody has begun with.
    pub(super) fn is_left(&self) -> bool {
        !self.parts().is_empty()
    }

    fn next(&self) -> Option<Range<usize>> {
        self.parts().pop_front()
    }

    fn give_back(&self, part: Range<usize>) {
        self.parts().push_front(part);
    }

    fn parts(&self) -> MutexGuard<'_, VecDeque<Range<usize>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a part.
#[derive(Debug)]
pub(super) enum Event {
    /// What its rows gave.
    Done(Range<usize>, Values),
    /// It was given back, and this worker takes no other.
    Failed(NetworkError),
}

/// What the thread is asked. The other end of an answer that nobody waits for any more is gone.
enum Command {
    Choose([Source; 2], Sender<Result<Option<Variables>, NetworkError>>),
    Load(Source, Sender<Result<blake3::Hash, NetworkError>>),
    Prepare(Question, Sender<Result<(), NetworkError>>),
    /// Ends by dropping the sender.
    Take(Arc<Work>, Sender<(usize, Event)>),
    Release(Sender<()>),
}

/// A handle on the thread.
pub(super) struct Worker {
    number: usize,
    commands: Sender<Command>,
    about: About,
    counters: Counters,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What a thread counts, for whoever looks on.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    /// Rows that have gone through both programs.
    pub(super) rows: [Arc<AtomicU64>; 2],
    /// Bytes of a GPU that were held for the last checkpoint.
    pub(super) held: Arc<AtomicU64>,
}

/// A thread that loads.
pub(super) struct Starting {
    number: usize,
    commands: Sender<Command>,
    started: Receiver<Result<(About, Counters), NetworkError>>,
    thread: std::thread::JoinHandle<()>,
}

impl Starting {
    /// Begins with the device of this number.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn new(settings: Settings, number: usize) -> Result<Self, NetworkError> {
        let (commands, received) = bounded(1);
        let (ready, started) = bounded(1);
        let work = move || {
            priority::stand_back(settings.priority);
            match guarded(|| Networks::load(settings, number)) {
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
                Ok(networks) => {
                    let counters = Counters { rows: networks.rows(), held: networks.held() };
                    let _ = ready.send(Ok((networks.about(), counters)));
                    serve(networks, number, &received);
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("networks {number}")).spawn(work);
        let thread = thread.map_err(|error| NetworkError::Device(format!("no thread: {error}")))?;
        Ok(Self { number, commands, started, thread })
    }

    /// Waits until everything is loaded and tried.
    ///
    /// # Errors
    /// A device, program or probe that cannot be used.
    pub(super) fn finish(self) -> Result<Worker, NetworkError> {
        let Self { number, commands, started, thread } = self;
        match started.recv().unwrap_or(Err(NetworkError::Died)) {
            Ok((about, counters)) => {
                Ok(Worker { number, commands, about, counters, thread: Some(thread) })
            }
            Err(error) => {
                // Nothing of libtorch is at work any more when the process ends.
                let _ = thread.join();
                Err(error)
            }
        }
    }
}

impl Worker {
    /// Its place among the devices that were asked for.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn choose(&self, pair: &[Source; 2]) -> Result<Option<Variables>, NetworkError> {
        self.ask(|reply| Command::Choose(pair.clone(), reply))
    }

    /// Reads a checkpoint; the hash of its weights.
    pub(super) fn load(&self, source: &Source) -> Result<blake3::Hash, NetworkError> {
        self.ask(|reply| Command::Load(source.clone(), reply))
    }

    /// Prepares the masked inputs of a checkpoint; what comes of it is there when all have done so.
    pub(super) fn prepare(&self, question: &Question) -> Receiver<Result<(), NetworkError>> {
        let (reply, answer) = bounded(1);
        let _ = self.commands.send(Command::Prepare(question.clone(), reply));
        answer
    }

    /// Takes parts until none is left; tells of each, with its number, and drops `events` at the end. Not where the
    /// thread is gone.
    pub(super) fn take(&self, work: Arc<Work>, events: Sender<(usize, Event)>) -> bool {
        self.commands.send(Command::Take(work, events)).is_ok()
    }

    /// Lets it end by itself: a device that has failed may not answer.
    pub(super) fn abandon(mut self) {
        drop(self.thread.take());
    }

    /// Waits until it has let go of the device's memory.
    pub(super) fn release(&self) {
        let (reply, done) = bounded(1);
        let _ = self.commands.send(Command::Release(reply));
        let _ = done.recv();
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(Sender<Result<T, NetworkError>>) -> Command,
    ) -> Result<T, NetworkError> {
        let (reply, answer) = bounded(1);
        // A thread that is gone drops the question, and the answer's other end with it.
        let _ = self.commands.send(command(reply));
        answer.recv().unwrap_or(Err(NetworkError::Died))
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

fn serve(mut networks: Networks, number: usize, commands: &Receiver<Command>) {
    let device = networks.about().device;
    for command in commands {
        match command {
            Command::Choose(pair, reply) => {
                let chosen = guarded(|| networks.choose(&pair)).map_err(|error| error.on(device));
                networks.release();
                let _ = reply.send(chosen);
            }
            Command::Load(source, reply) => {
                let loaded = guarded(|| networks.load_weights(&source));
                // On the host, wherever the device is.
                let _ = reply.send(loaded.map_err(|error| error.on(Device::CPU)));
            }
            Command::Prepare(question, reply) => {
                let prepared = guarded(|| networks.prepare(&question));
                let _ = reply.send(prepared.map_err(|error| error.on(device)));
            }
            Command::Take(work, events) => {
                while let Some(part) = work.next() {
                    let values = guarded(|| networks.values(&work.question, part.clone()));
                    let is_failed = values.is_err();
                    let event = match values {
                        Ok(values) => Event::Done(part, values),
                        Err(error) => {
                            work.give_back(part);
                            Event::Failed(error.on(device))
                        }
                    };
                    if events.send((number, event)).is_err() || is_failed {
                        break;
                    }
                }
            }
            Command::Release(done) => {
                networks.release();
                let _ = done.send(());
            }
        }
    }
}
