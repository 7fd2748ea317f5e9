//! A checkpoint directory as a state machine: each look at it, at a given time, says what is new.
//!
//! No thread, no timer, no clock: [`super::watch`] decides when to look. What is guaranteed, whenever and
//! however often that is:
//!
//! - A checkpoint is reported once for every time that it was saved, and its pin holds one whole save: its
//!   identity was the same at two looks at least [`Directory::set_settle`] apart, its structure is
//!   complete, and the pin had that identity after that.
//! - One that was complete at one look is reported even if its name is gone at the next, where the state
//!   directory can hold hard links to it. What lived between two looks only is not seen.
//! - Only a save in place can destroy what was seen: the link shares its fate. A writer that pauses in the
//!   midst of a save in place, longer than the settling time and with a complete structure around the
//!   torn data, is not told from one that is done; the pin is checked again before and after it is read.
//! - A directory may be whole and yet of two saves, where a step is saved again file by file. So one whose
//!   files were written over a span of time must stand unchanged for as long (two minutes at most), and is
//!   not followed where it is held when it goes before that, but said to be lost. Only a writer that pauses
//!   longer between two files than lies between the two saves is not seen through; a marker is for that.
//! - What cannot be pinned (a full disk) is tried again at every look.

use super::census::NO_STEP;
use super::event::{Event, Moment};
use super::fingerprint::{self, Fingerprints};
use super::scan::{Candidate, Listing, scan};
use super::{Checkpoint, Mode, Settings, Watching, foreign, pin};
use crate::layout::Flaw;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A file that is incomplete and has not changed for so long is quarantined.
const PATIENCE: Duration = Duration::from_secs(5);
/// Unchanged for so long is stable, on a disk of this machine.
pub const SETTLE: Duration = Duration::from_millis(100);
/// Look again while something is not settled.
const POLL: Duration = Duration::from_millis(250);
/// A directory whose files were written over a longer time than this is whole after it.
const LONGEST_SPAN: Duration = Duration::from_secs(120);
/// Files so old are finished, whatever the clocks of the machines say.
const OLD: Duration = Duration::from_secs(600);
/// Checkpoint directories that are watched themselves, because they are not complete.
const MOST_NESTED: usize = 64;

/// A candidate that is not known to be ready or damaged yet.
#[derive(Debug)]
struct Unsettled {
    candidate: Candidate,
    since: Instant,
    held: Option<PathBuf>,
    /// Whether the last look still found it in the directory.
    is_there: bool,
}

/// What is known of one directory.
pub struct Directory {
    settings: Settings,
    pins: PathBuf,
    settle: Duration,
    fingerprints: Fingerprints,
    known: HashSet<String>,
    /// By identity.
    unsettled: BTreeMap<String, Unsettled>,
    /// Damaged, by identity: they may still be completed.
    damaged: HashMap<String, PathBuf>,
    was_waiting: bool,
    was_unpinnable: bool,
    /// Bytes of one that found no room in this look: there is none for others as large.
    no_room_for: Option<u64>,
    was_foreign: bool,
    was_listed: bool,
}

impl Directory {
    /// Nothing is known but that `known` are identities that need not be reported again.
    pub fn new(settings: Settings, pins: PathBuf, known: HashSet<String>) -> Self {
        Self {
            settings,
            pins,
            settle: SETTLE,
            fingerprints: Fingerprints::default(),
            known,
            unsettled: BTreeMap::new(),
            damaged: HashMap::new(),
            was_waiting: false,
            was_unpinnable: false,
            no_room_for: None,
            was_foreign: false,
            was_listed: false,
        }
    }

    /// What is watched, and how.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How long a checkpoint must be unchanged: longer than attributes may be out of date.
    pub fn set_settle(&mut self, settle: Duration) {
        self.settle = settle;
    }

    /// Whether another look soon may bring something without any event. What only lacks its marker does
    /// not count: the marker is an event.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled.values().any(|unsettled| unsettled.candidate.is_marked)
    }

    /// How long to wait for an event before the next look.
    pub fn pause(&self, mode: Mode) -> Duration {
        let Watching { poll, rescan, .. } = self.settings.watching;
        let regular = if mode == Mode::Poll { poll } else { rescan };
        match self.is_unsettled() {
            true => regular.min(POLL.max(self.settle)),
            false => regular,
        }
    }

    /// Checkpoint directories that are filled in place and not complete: a change in them is no event of
    /// the directory above.
    pub fn incomplete(&self) -> Vec<PathBuf> {
        if !self.settings.layout.is_directory() {
            return Vec::new();
        }
        let unsettled = self.unsettled.values().filter(|unsettled| unsettled.is_there);
        let unsettled = unsettled.map(|unsettled| &unsettled.candidate.path);
        let mut paths: Vec<_> = unsettled.chain(self.damaged.values()).cloned().collect();
        paths.sort();
        paths.dedup();
        paths.split_off(paths.len().saturating_sub(MOST_NESTED))
    }

    /// How many there are that are not known and can be linked to; none where it cannot be listed.
    pub fn count_there(&self, now: SystemTime) -> usize {
        let device = |path: &Path| path.metadata().ok().map(|metadata| metadata.dev());
        let state = self.pins.ancestors().find_map(device);
        if state != device(&self.settings.directory) {
            return 0;
        }
        let listing = scan(&self.settings, &mut Fingerprints::default(), now);
        let candidates = listing.map(|listing| listing.candidates).unwrap_or_default();
        candidates.iter().filter(|candidate| !self.known.contains(&candidate.identity)).count()
    }

    /// Asks for `Listed`, or `Waiting`, once more.
    pub fn ask_again(&mut self) {
        (self.was_listed, self.was_waiting) = (false, false);
    }

    /// Looks at the directory: everything new that can be said.
    pub fn look(&mut self, now: Moment) -> Vec<Event> {
        let listing = scan(&self.settings, &mut self.fingerprints, now.wall);
        let (listing, error) = match listing {
            Ok(listing) => (listing, None),
            Err(error) => (Listing::default(), Some(error)),
        };
        let Listing { candidates, others } = listing;
        let foreign = candidates.is_empty().then(|| self.look_at_others(&others)).flatten();
        let lost = self.meet(candidates, now);
        // By step, so that both networks keep the same where there is no room for all.
        let step = |(identity, unsettled): (&String, &Unsettled)| {
            (unsettled.candidate.step.unwrap_or(u64::MAX), identity.clone())
        };
        let mut identities: Vec<(u64, String)> = self.unsettled.iter().map(step).collect();
        identities.sort_unstable();
        self.no_room_for = None;
        let mut events: Vec<Event> =
            identities.iter().filter_map(|(_, identity)| self.conclude(identity, now)).collect();
        // Some tell their step only when they are read.
        events.sort_by_key(|event| match event {
            Event::Ready { checkpoint, .. } => (checkpoint.step, checkpoint.path.clone()),
            Event::Quarantined { path, .. } => (0, path.clone()),
            _ => (0, PathBuf::new()),
        });
        events.extend(lost);
        events.extend(foreign);
        match error {
            Some(error) if !self.is_unsettled() => events.extend(self.wait(&error)),
            Some(_) => {}
            None => {
                self.was_waiting = false;
                if !self.was_listed && !self.is_unsettled() {
                    self.was_listed = true;
                    events.push(Event::Listed { role: self.settings.role });
                }
            }
        }
        events
    }

    fn wait(&mut self, error: &std::io::Error) -> Option<Event> {
        if std::mem::replace(&mut self.was_waiting, true) {
            return None;
        }
        let reason = why_unlisted(&self.settings.directory, error);
        Some(Event::Waiting { role: self.settings.role, reason })
    }

    /// Somebody chose another layout than their trainer has, as it seems.
    fn look_at_others(&mut self, others: &[PathBuf]) -> Option<Event> {
        if self.was_foreign {
            return None;
        }
        let reason = foreign(&self.settings, others)?;
        self.was_foreign = true;
        Some(Event::Foreign { role: self.settings.role, reason })
    }

    /// For how long a candidate must be unchanged.
    fn settling(&self, candidate: &Candidate, now: SystemTime) -> Duration {
        let Some(written) = candidate.written.filter(|_| self.settings.marker.is_none()) else {
            return self.settle;
        };
        let is_old = now.duration_since(written.last).is_ok_and(|age| age >= OLD);
        if is_old { self.settle } else { self.settle.max(written.span().min(LONGEST_SPAN)) }
    }

    /// Takes in what is there now, and what is no longer.
    fn meet(&mut self, candidates: Vec<Candidate>, now: Moment) -> Vec<Event> {
        self.unsettled.values_mut().for_each(|unsettled| unsettled.is_there = false);
        if !self.damaged.is_empty() {
            let there: HashSet<&String> = candidates.iter().map(|c| &c.identity).collect();
            self.damaged.retain(|identity, _| there.contains(identity));
        }
        let is_directory = self.settings.layout.is_directory();
        let place = |candidate: &Candidate| match is_directory {
            true => candidate.path.display().to_string(),
            false => fingerprint::file(&candidate.identity),
        };
        let places: HashSet<String> = match self.unsettled.is_empty() {
            true => HashSet::new(),
            false => candidates.iter().map(place).collect(),
        };
        for candidate in candidates {
            if self.known.contains(&candidate.identity) {
                continue;
            }
            match self.unsettled.get_mut(&candidate.identity) {
                Some(unsettled) => {
                    let is_marked = unsettled.candidate.is_marked || candidate.is_marked;
                    unsettled.candidate = Candidate { is_marked, ..candidate };
                    unsettled.is_there = true;
                }
                None => self.meet_new(candidate, now.monotonic),
            }
        }
        let gone = self.unsettled.iter().filter(|(_, unsettled)| !unsettled.is_there);
        let gone: Vec<String> = gone.map(|(identity, _)| identity.clone()).collect();
        let mut lost = Vec::new();
        for identity in gone {
            let is_of_one_save = self.unsettled.get(&identity).is_some_and(|unsettled| {
                self.settling(&unsettled.candidate, now.wall) == self.settle
            });
            if !is_of_one_save {
                let unsettled = self.unsettled.get(&identity);
                let whole = unsettled.filter(|own| !places.contains(&place(&own.candidate)));
                lost.extend(whole.and_then(|unsettled| self.lose(unsettled)));
                self.forget(&identity);
                continue;
            }
            self.follow_held(&identity, now.monotonic, |candidate, held| {
                // In a later state: the file itself, or the directory that the held files stand in.
                places.contains(&place(candidate))
                    && (!is_directory || pin::is_superseded(held, &candidate.path))
            });
        }
        lost
    }

    /// What is said of a complete directory that went before it was known to be of one save.
    fn lose(&self, unsettled: &Unsettled) -> Option<Event> {
        let Settings { role, layout, limits, .. } = &self.settings;
        let Unsettled { candidate, held, .. } = unsettled;
        layout.check(held.as_ref()?, limits).ok()?;
        let span = candidate.written?.span().min(LONGEST_SPAN).as_secs();
        let Candidate { step, path, identity, .. } = candidate.clone();
        let reason = format!(
            "was removed before it had stood unchanged for the {span} s over which its files were written; \
             keep more checkpoints, or say with `ready: {{marker: …}}` when one is complete"
        );
        Some(Event::Quarantined {
            role: *role,
            step: step.unwrap_or_default(),
            path,
            identity,
            reason,
        })
    }

    fn meet_new(&mut self, candidate: Candidate, now: Instant) {
        let Settings { role, layout, .. } = self.settings;
        let held = pin::hold(&self.pins, role, layout, &candidate).unwrap_or_default();
        let identity = candidate.identity.clone();
        self.unsettled.insert(identity, Unsettled { candidate, since: now, held, is_there: true });
    }

    /// What is no longer in the directory lives on where it is held, if it was declared complete.
    fn follow_held(
        &mut self,
        identity: &str,
        now: Instant,
        is_superseded: impl Fn(&Candidate, &Path) -> bool,
    ) {
        let Some(mut unsettled) = self.unsettled.remove(identity) else { return };
        let Some(held) = unsettled.held.clone() else { return };
        let layout = self.settings.layout;
        let found = super::scan::identity(layout, &held, unsettled.candidate.knows_itself);
        let found = found.ok().flatten();
        let is_over = !unsettled.candidate.is_marked || is_superseded(&unsettled.candidate, &held);
        match found {
            Some(found) if !is_over && found == identity => {
                self.unsettled.insert(found, unsettled);
            }
            // Written to after it was seen, then removed: it must settle again.
            Some(found) if !is_over && !layout.is_directory() && !self.known.contains(&found) => {
                unsettled.candidate.identity = found.clone();
                unsettled.since = now;
                self.unsettled.insert(found, unsettled);
            }
            _ => release(&held),
        }
    }

    /// What can be said of a candidate by now.
    fn conclude(&mut self, identity: &str, now: Moment) -> Option<Event> {
        let unsettled = self.unsettled.get(identity)?;
        let age = now.monotonic.saturating_duration_since(unsettled.since);
        if !unsettled.candidate.is_marked || unsettled.since == now.monotonic || age < self.settle {
            return None;
        }
        let is_late = age >= PATIENCE;
        match self.examine(unsettled) {
            Ok(Some(_)) if age < self.settling(&unsettled.candidate, now.wall) => None,
            // The next look tries again.
            Ok(Some(_)) if !self.may_fit(&unsettled.candidate.path) => None,
            Ok(Some(step)) => self.pin(identity, step, age),
            // A trainer may still be writing, the state that tells the step last of all.
            Err(_) | Ok(None) if !is_late => None,
            // Removed before it was complete.
            Err(_) | Ok(None) if !unsettled.is_there => {
                self.forget(identity);
                None
            }
            Err(flaw) => self.quarantine(identity, flaw.to_string()),
            Ok(None) => self.quarantine(identity, NO_STEP.to_owned()),
        }
    }

    /// Whether it is smaller than what found no room in this look.
    fn may_fit(&self, path: &Path) -> bool {
        self.no_room_for.is_none_or(|bytes| bytes_of(path) < bytes)
    }

    /// The step of a complete checkpoint.
    fn examine(&self, unsettled: &Unsettled) -> Result<Option<u64>, Flaw> {
        let Settings { layout, limits, .. } = &self.settings;
        let Unsettled { candidate, held, is_there, .. } = unsettled;
        let path = held.as_ref().unwrap_or(&candidate.path);
        if let Err(flaw) = layout.check(path, limits) {
            // What is held of a directory is only what is read of it: the reason may be what is not. What has been
            // completed since is another state of it, which the next look finds.
            if *is_there {
                layout.check(&candidate.path, limits)?;
            }
            return Err(flaw);
        }
        let inside = match candidate.knows_itself {
            true => layout.step_inside(path, limits)?,
            false => None,
        };
        Ok(inside.or(candidate.step))
    }

    fn pin(&mut self, identity: &str, step: u64, age: Duration) -> Option<Event> {
        let Settings { role, layout, .. } = self.settings;
        let Unsettled { candidate, held, .. } = self.unsettled.get(identity)?;
        let pinned = match held {
            Some(held) => pin::settle(&self.pins, role, layout, step, candidate, held),
            None => pin::pin(&self.pins, role, layout, step, candidate),
        };
        match pinned {
            Ok(Some(pin)) => {
                self.was_unpinnable = false;
                let Unsettled { candidate, .. } = self.unsettled.remove(identity)?;
                let Candidate { path, identity, .. } = candidate;
                self.known.insert(identity.clone());
                let checkpoint = Checkpoint { role, step, path, pin, identity };
                Some(Event::Ready { checkpoint, delay: age })
            }
            // It has changed: the next look finds what is there then.
            Ok(None) => None,
            // Not the checkpoint's fault (a full disk, say): it is tried again, and said once.
            Err(error) => {
                if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                    self.no_room_for = Some(bytes_of(&candidate.path));
                }
                let file = candidate.path.display();
                if !std::mem::replace(&mut self.was_unpinnable, true) {
                    let pins = self.pins.display();
                    tracing::error!(%file, %error, "cannot be pinned under `{pins}`; trying again");
                }
                None
            }
        }
    }

    fn quarantine(&mut self, identity: &str, reason: String) -> Option<Event> {
        let Candidate { step, path, identity, .. } = self.forget(identity)?;
        self.known.insert(identity.clone());
        self.damaged.insert(identity.clone(), path.clone());
        let step = step.unwrap_or_default();
        Some(Event::Quarantined { role: self.settings.role, step, path, identity, reason })
    }

    fn forget(&mut self, identity: &str) -> Option<Candidate> {
        let Unsettled { candidate, held, .. } = self.unsettled.remove(identity)?;
        if let Some(held) = held {
            release(&held);
        }
        Some(candidate)
    }
}

/// What never became ready is held no longer.
impl Drop for Directory {
    fn drop(&mut self) {
        self.unsettled
            .values()
            .filter_map(|unsettled| unsettled.held.as_ref())
            .for_each(|held| release(held));
    }
}

/// Bytes of a file, or of the files in a directory; 0 of what is not there.
fn bytes_of(path: &Path) -> u64 {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
        }
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

/// What is left over is swept at the next start.
fn release(held: &Path) {
    if let Err(error) = pin::remove(held) {
        tracing::warn!(pin = %held.display(), %error, "a link cannot be removed");
    }
}

/// Why nothing can be said of what is in a directory.
pub fn why_unlisted(directory: &Path, error: &std::io::Error) -> String {
    let directory = directory.display();
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("`{directory}` is not there yet"),
        _ => format!("`{directory}` cannot be listed: {error}"),
    }
}

/// A directory, or the nearest existing one above it.
pub fn nearest_existing(directory: &Path) -> Option<&Path> {
    directory.ancestors().find(|ancestor| ancestor.is_dir())
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;
    use crate::layout::Layout;
    use safetensors::tensor::{Dtype, TensorView};

    /// A directory of Hugging Face's trainer, looked at second by second.
    struct World {
        home: tempfile::TempDir,
        directory: Directory,
        start: Instant,
        seconds: u64,
    }

    impl World {
        fn new() -> Self {
            let home = tempfile::tempdir().expect("a directory");
            let run = home.path().join("run");
            std::fs::create_dir(&run).expect("made");
            let pins = home.path().join("pins");
            let directory = Directory::new(settings(Layout::Hf, &run), pins, HashSet::new());
            Self { home, directory, start: Instant::now(), seconds: 0 }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.home.path().join("run").join(name)
        }

        fn weights(&self, name: &str, tensor: &str) {
            let data = [0; 4];
            let view = TensorView::new(Dtype::F32, vec![1], &data).expect("a tensor");
            let bytes = safetensors::serialize([(tensor, view)], None).expect("written");
            // As the library does it: whole, by a rename.
            let path = self.path(name);
            std::fs::write(path.with_extension("new"), bytes).expect("written");
            std::fs::rename(path.with_extension("new"), path).expect("renamed");
        }

        /// The pins of the steps that become ready at a look a second later; something happens in the midst of
        /// it, when the directory has been listed.
        fn look(&mut self, meanwhile: impl FnOnce(&Self)) -> Vec<(u64, PathBuf)> {
            self.seconds += 1;
            let monotonic = self.start + Duration::from_secs(self.seconds);
            let now = Moment { monotonic, wall: SystemTime::now() };
            let Directory { settings, fingerprints, .. } = &mut self.directory;
            let listing = scan(settings, fingerprints, now.wall).expect("listed");
            self.directory.meet(listing.candidates, now);
            meanwhile(self);
            let identities: Vec<String> = self.directory.unsettled.keys().cloned().collect();
            let events = identities.iter().filter_map(|own| self.directory.conclude(own, now));
            let ready = events.filter_map(|event| match event {
                Event::Ready { checkpoint, .. } => Some((checkpoint.step, checkpoint.pin)),
                _ => None,
            });
            ready.collect()
        }
    }

    #[test]
    fn a_new_directory_is_not_the_one_that_was_just_emptied() {
        let mut world = World::new();
        let (old, new) = (world.path("checkpoint-10"), world.path("checkpoint-20"));
        std::fs::create_dir(&old).expect("made");
        // In the midst of its removal.
        assert!(world.look(|_| ()).is_empty());
        std::fs::remove_dir(&old).expect("removed");
        assert!(world.look(|_| ()).is_empty());
        std::fs::create_dir(&new).expect("made");
        let weights = |world: &World| world.weights("checkpoint-20/model.safetensors", "w");
        assert_eq!(world.look(weights), [], "what is held is empty");
        assert!(world.look(|_| ()).is_empty(), "it must settle");
        let ready = world.look(|_| ());
        let [(20, pin)] = &ready[..] else { panic!("{ready:?}") };
        assert!(pin.join("model.safetensors").is_file());
    }

    #[test]
    fn what_is_completed_while_it_is_looked_at_is_pinned_whole() {
        let mut world = World::new();
        std::fs::create_dir(world.path("checkpoint-7")).expect("made");
        let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
        let index_path = world.path("checkpoint-7/model.safetensors.index.json");
        std::fs::write(index_path, index).expect("written");
        world.weights("checkpoint-7/model-1.safetensors", "a");
        assert!(world.look(|_| ()).is_empty());
        let second = |world: &World| world.weights("checkpoint-7/model-2.safetensors", "b");
        assert_eq!(world.look(second), [], "the second shard is not held");
        let mut ready = Vec::new();
        for _ in 0..5 {
            ready.extend(world.look(|_| ()));
        }
        let [(7, pin)] = &ready[..] else { panic!("{ready:?}") };
        assert!(pin.join("model-2.safetensors").is_file());
    }
}
