//! One thread a directory: waits for it, wakes up on events, scans, checks, pins, reports.
//!
//! Events are only wake-ups: a scan on start, on every event, and on a timer is the truth. Where
//! events are refused, the timer alone remains, shorter. (Network file systems take the watch and give no
//! events; there the long timer is what remains.)

use super::scan::{Candidate, Listing, scan};
use super::{Checkpoint, Settings, pin};
use crate::layout::{Flaw, Found, recognise};
use crate::role::Role;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Scan without any event, where events can be had.
const RESCAN: Duration = Duration::from_secs(30);
/// Scan where there are no events, or while something is not settled.
const POLL: Duration = Duration::from_millis(250);
/// Events of one burst are taken together.
const COALESCE: Duration = Duration::from_millis(20);
/// A file that is incomplete and has not changed for so long is quarantined.
const PATIENCE: Duration = Duration::from_secs(5);
/// Things of another layout that are looked at before a directory is called empty.
const MOST_LOOKED_AT: usize = 100;
/// Wake-ups that wait: one is enough, the rest is dropped.
const WAKE_UPS: usize = 1;

/// What a watcher reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The directory is not there yet (reported once), or cannot be listed.
    Waiting {
        /// Whose directory.
        role: Role,
        /// Why.
        reason: String,
    },
    /// The directory holds no checkpoint of its layout, but something of another (reported once).
    Foreign {
        /// Whose directory.
        role: Role,
        /// What was found, and what to write in the configuration.
        reason: String,
    },
    /// A checkpoint is ready and pinned.
    Ready(Checkpoint),
    /// A file stays incomplete or damaged; it is left alone until it changes.
    Quarantined {
        /// Whose file.
        role: Role,
        /// Its step; 0 where neither its name nor the file tells one.
        step: u64,
        /// Where it stands.
        path: PathBuf,
        /// Its identity.
        identity: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory has been listed once, and everything that was ready has been reported.
    Listed {
        /// Whose directory.
        role: Role,
    },
}

/// State of one watching thread.
pub struct Watcher {
    settings: Settings,
    pins: PathBuf,
    known: HashSet<String>,
    unsettled: HashMap<String, Instant>,
    was_waiting: bool,
    was_unpinnable: bool,
    was_foreign: bool,
    was_listed: bool,
}

impl Watcher {
    /// Prepares to watch; `known` are identities that need not be reported again.
    pub fn new(settings: Settings, pins: PathBuf, known: HashSet<String>) -> Self {
        Self {
            settings,
            pins,
            known,
            unsettled: HashMap::new(),
            was_waiting: false,
            was_unpinnable: false,
            was_foreign: false,
            was_listed: false,
        }
    }

    /// Watches until `requests` is closed; each request asks for another scan and an
    /// answer: `Listed`, or `Waiting`.
    /// A full `events` channel blocks: what is pinned is not lost.
    pub fn run(mut self, events: &Sender<Event>, requests: &Receiver<()>) {
        let (wake, woken) = bounded(WAKE_UPS);
        let mut notifier = None;
        loop {
            // First subscribe, then look: what appears in between gives an event.
            if notifier.is_none() {
                notifier = self.subscribe(&wake);
            }
            let found = self.look();
            for event in found {
                // The other end closes its side of the channel when it ends.
                if events.send(event).is_err() {
                    return;
                }
            }
            let pause = match notifier.is_none() || !self.unsettled.is_empty() {
                true => POLL,
                false => RESCAN,
            };
            select! {
                recv(requests) -> request => match request {
                    Ok(()) => (self.was_listed, self.was_waiting) = (false, false),
                    Err(_) => return,
                },
                recv(woken) -> _ => std::thread::sleep(COALESCE),
                default(pause) => {}
            }
            // A directory that was removed and made again gives no more events.
            if !self.settings.directory.is_dir() {
                notifier = None;
            }
        }
    }

    fn subscribe(&self, wake: &Sender<()>) -> Option<RecommendedWatcher> {
        let wake = wake.clone();
        let handler = move |_: notify::Result<notify::Event>| {
            // A wake-up that does not fit means that one is waiting already.
            let _ = wake.try_send(());
        };
        let watch = |mut notifier: RecommendedWatcher| {
            notifier.watch(&self.settings.directory, RecursiveMode::NonRecursive)?;
            Ok(notifier)
        };
        let watching = notify::recommended_watcher(handler).and_then(watch);
        if let Err(error) = &watching
            && self.settings.directory.is_dir()
        {
            let directory = self.settings.directory.display();
            tracing::debug!(%directory, %error, "no events can be had; polling");
        }
        watching.ok()
    }

    /// One scan: everything new that can be said.
    fn look(&mut self) -> Vec<Event> {
        let role = self.settings.role;
        let Listing { candidates, others } = match scan(&self.settings) {
            Ok(listing) => listing,
            Err(error) => return self.wait(&error).into_iter().collect(),
        };
        self.was_waiting = false;
        let foreign = candidates.is_empty().then(|| self.look_at_others(&others)).flatten();
        let present: HashSet<_> = candidates.iter().map(|c| c.identity.clone()).collect();
        self.unsettled.retain(|identity, _| present.contains(identity));
        let mut events: Vec<Event> =
            candidates.into_iter().filter_map(|candidate| self.consider(candidate)).collect();
        // Some tell their step only when they are read.
        events.sort_by_key(|event| match event {
            Event::Ready(checkpoint) => checkpoint.step,
            _ => 0,
        });
        events.extend(foreign);
        if !self.was_listed && self.unsettled.is_empty() {
            self.was_listed = true;
            events.push(Event::Listed { role });
        }
        events
    }

    fn wait(&mut self, error: &std::io::Error) -> Option<Event> {
        if std::mem::replace(&mut self.was_waiting, true) {
            return None;
        }
        let directory = self.settings.directory.display();
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => format!("`{directory}` is not there yet"),
            _ => format!("`{directory}` cannot be listed: {error}"),
        };
        Some(Event::Waiting { role: self.settings.role, reason })
    }

    /// Somebody chose another layout than their trainer has, as it seems.
    fn look_at_others(&mut self, others: &[PathBuf]) -> Option<Event> {
        if self.was_foreign {
            return None;
        }
        let find = |path: &PathBuf| recognise(path).map(|found| (path.clone(), found));
        let (path, found) = others.iter().take(MOST_LOOKED_AT).find_map(find)?;
        self.was_foreign = true;
        let Settings { role, directory, layout, .. } = &self.settings;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let what = match found == Found::Layout(*layout) {
            true => "whose name has no step; say with `steps` where it stands".to_owned(),
            false => format!("which is {found}"),
        };
        let reason = format!(
            "`{}` holds no checkpoint of `layout: {}`, but `{name}`, {what}",
            directory.display(),
            layout.name()
        );
        Some(Event::Foreign { role: *role, reason })
    }

    fn consider(&mut self, candidate: Candidate) -> Option<Event> {
        if self.known.contains(&candidate.identity) {
            return None;
        }
        let now = Instant::now();
        let first_seen = *self.unsettled.entry(candidate.identity.clone()).or_insert(now);
        // The identity holds size and time of change, so seeing it twice means that it is stable.
        if first_seen == now {
            return None;
        }
        match self.examine(&candidate) {
            Ok(Some(step)) => self.pin(candidate, step),
            // A trainer may still be writing, the state that tells the step last of all.
            Err(_) | Ok(None) if now.duration_since(first_seen) < PATIENCE => None,
            Err(flaw) => Some(self.quarantine(candidate, flaw.to_string())),
            Ok(None) => {
                let reason =
                    "has no step in its name, and none inside; say with `steps` where it stands";
                Some(self.quarantine(candidate, reason.to_owned()))
            }
        }
    }

    /// The step of a complete checkpoint.
    fn examine(&self, candidate: &Candidate) -> Result<Option<u64>, Flaw> {
        let Settings { layout, limits, .. } = &self.settings;
        layout.check(&candidate.path, limits)?;
        let inside = match candidate.knows_itself {
            true => layout.step_inside(&candidate.path, limits)?,
            false => None,
        };
        Ok(inside.or(candidate.step))
    }

    fn pin(&mut self, candidate: Candidate, step: u64) -> Option<Event> {
        let Settings { role, layout, .. } = self.settings;
        match pin::pin(&self.pins, role, layout, step, &candidate) {
            Ok(Some(pin)) => {
                self.was_unpinnable = false;
                self.settle(&candidate.identity);
                let Candidate { path, identity, .. } = candidate;
                Some(Event::Ready(Checkpoint { role, step, path, pin, identity }))
            }
            Ok(None) => None,
            // Not the checkpoint's fault (a full disk, say): it is tried again, and said once.
            Err(error) => {
                if !std::mem::replace(&mut self.was_unpinnable, true) {
                    let (file, pins) = (candidate.path.display(), self.pins.display());
                    tracing::error!(%file, %error, "cannot be pinned under `{pins}`; trying again");
                }
                None
            }
        }
    }

    fn quarantine(&mut self, candidate: Candidate, reason: String) -> Event {
        self.settle(&candidate.identity);
        let Candidate { step, path, identity, .. } = candidate;
        let step = step.unwrap_or_default();
        Event::Quarantined { role: self.settings.role, step, path, identity, reason }
    }

    fn settle(&mut self, identity: &str) {
        self.unsettled.remove(identity);
        self.known.insert(identity.to_owned());
    }
}

/// Whether a directory, or the nearest existing one above it, can be read: for `doctor`.
pub fn nearest_existing(directory: &Path) -> Option<&Path> {
    directory.ancestors().find(|ancestor| ancestor.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::settings;
    use crate::layout::Layout;

    fn complete() -> Vec<u8> {
        let mut bytes = 2u64.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        bytes
    }

    struct Running {
        events: Receiver<Event>,
        stop: Option<Sender<()>>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Running {
        fn start(directory: &Path, pins: &Path) -> Self {
            let (events_in, events) = bounded(64);
            let (stop, stopped) = bounded(0);
            let settings = settings(Layout::Safetensors, directory);
            let watcher = Watcher::new(settings, pins.to_owned(), HashSet::new());
            let thread = std::thread::spawn(move || watcher.run(&events_in, &stopped));
            Self { events, stop: Some(stop), thread: Some(thread) }
        }

        fn next(&self) -> Event {
            self.events.recv_timeout(Duration::from_secs(20)).expect("an event within 20 s")
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.stop.take();
            if let Some(thread) = self.thread.take() {
                thread.join().expect("the watcher ends");
            }
        }
    }

    #[test]
    fn waits_for_its_directory_then_reports_what_appears_in_it() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = root.path().join("later");
        let running = Running::start(&directory, &root.path().join("pins"));
        assert!(matches!(running.next(), Event::Waiting { .. }));
        std::fs::create_dir(&directory).expect("made");
        assert_eq!(running.next(), Event::Listed { role: Role::Target });
        let written = directory.join("step-3.safetensors.tmp");
        std::fs::write(&written, complete()).expect("written");
        std::fs::rename(&written, directory.join("step-3.safetensors")).expect("renamed");
        let Event::Ready(checkpoint) = running.next() else { panic!("no checkpoint") };
        assert_eq!(checkpoint.step, 3);
        assert_eq!(std::fs::read(checkpoint.pin).expect("pinned"), complete());
    }

    #[test]
    fn a_truncated_file_is_quarantined_and_does_not_hold_up_the_next() {
        let root = tempfile::tempdir().expect("a directory");
        let truncated = root.path().join("step-1.safetensors");
        std::fs::write(&truncated, &complete()[..9]).expect("written");
        std::fs::write(root.path().join("step-2.safetensors"), complete()).expect("written");
        let running = Running::start(root.path(), &root.path().join("pins"));
        assert!(matches!(running.next(), Event::Ready(Checkpoint { step: 2, .. })));
        let Event::Quarantined { step, reason, .. } = running.next() else { panic!("no reason") };
        assert_eq!(step, 1);
        assert!(reason.contains("truncated"), "{reason}");
    }

    #[test]
    fn a_file_written_slowly_in_place_is_reported_once_and_whole() {
        let root = tempfile::tempdir().expect("a directory");
        let running = Running::start(root.path(), &root.path().join("pins"));
        assert_eq!(running.next(), Event::Listed { role: Role::Target });
        let file = root.path().join("step-1.safetensors");
        let bytes = complete();
        for length in 1..=bytes.len() {
            std::fs::write(&file, &bytes[..length]).expect("written");
            std::thread::sleep(Duration::from_millis(60));
        }
        let Event::Ready(checkpoint) = running.next() else { panic!("not ready") };
        assert_eq!(std::fs::read(checkpoint.pin).expect("pinned"), bytes);
    }
}
