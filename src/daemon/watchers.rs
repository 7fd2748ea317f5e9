//! The watching threads and the channel to them.

use super::{DaemonError, Result};
use crate::checkpoint::{Cause, Event, Pairs, Scans, Watcher};
use crate::config::Config;
use crate::history::History;
use crate::priority;
use crossbeam_channel::{Receiver, Sender, bounded, never};
use std::sync::Arc;

/// Checkpoints that wait in the channel before the watchers are held up.
const EVENTS: usize = 64;

/// The watching threads; they end with this value.
pub(super) struct Watchers {
    events: Option<Receiver<Event>>,
    requests: Vec<Sender<()>>,
    scans: Arc<Scans>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Watchers {
    /// Checkpoints that are dealt with are not reported again. What was skipped for want of a partner
    /// after the last pair may still find one, and what was quarantined may do with other settings. `pairs` is told how many
    /// are there.
    pub(super) fn start(config: &Config, history: &History, pairs: &mut Pairs) -> Result<Self> {
        let (sender, events) = bounded(EVENTS);
        let mut watchers = Self {
            events: Some(events),
            requests: Vec::new(),
            scans: Arc::default(),
            threads: Vec::new(),
        };
        for settings in &config.watch {
            let last = pairs.last().map(|last| last[settings.role.index()]);
            let known = history.identities(settings.role, last)?.into_iter().collect();
            let (pins, scans) = (config.state.join("pins"), watchers.scans.clone());
            let watcher = Watcher::new(settings.clone(), pins, known, scans);
            // One more listing, which nobody needs who takes all.
            if pairs.are_bounded() {
                pairs.note_there(settings.role, watcher.count_there());
            }
            let (request, requests) = bounded(1);
            let sender = sender.clone();
            watchers.requests.push(request);
            let priority = config.network.priority;
            let run = move || {
                priority::stand_back(priority);
                watcher.run(&sender, &requests);
            };
            let thread = std::thread::Builder::new().name(format!("watch {}", settings.role));
            let thread = thread.spawn(run);
            let failed = |error| DaemonError::System(format!("no thread can be started: {error}"));
            watchers.threads.push(thread.map_err(failed)?);
        }
        Ok(watchers)
    }

    /// Where the watchers report; nobody sends any more where both have ended.
    pub(super) fn events(&self) -> Receiver<Event> {
        self.events.clone().unwrap_or_else(never)
    }

    /// Scans since the last call, by cause.
    pub(super) fn scans(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        self.scans.take()
    }

    /// Whether one of them is at work, and may have more to report.
    pub(super) fn are_at_work(&self) -> bool {
        self.scans.is_under_way()
    }

    /// Asks for one more scan of both directories.
    pub(super) fn rescan(&self) {
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
