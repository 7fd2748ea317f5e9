//! Events of the file system: what is subscribed to, and what becomes a wake-up.
//!
//! Subscribed to are the directory and the one above it (which tells that it was removed, or replaced by
//! another), or the nearest existing one while it is not there; and checkpoint directories that are not
//! complete, since files that appear in them are no event of the directory. Not everything below the
//! directory: that would take a watch for every checkpoint and log directory, and still miss what is made
//! faster than it can be subscribed to.

use super::directory::nearest_existing;
use super::filesystem::{self, Choice, Mode};
use super::scans::Cause;
use crossbeam_channel::{Sender, bounded};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How often a directory that appears while it is subscribed to is tried again at once.
const TRIES: usize = 8;

/// A directory, and which one it was: another may take its place.
type Place = (PathBuf, u64, u64);

/// The subscription to a directory.
pub(super) struct Notifier {
    directory: PathBuf,
    wanted: Option<Mode>,
    wake: Sender<Cause>,
    watcher: Option<RecommendedWatcher>,
    watched: Vec<Place>,
    choice: Option<Choice>,
}

impl Notifier {
    pub(super) fn new(directory: PathBuf, wanted: Option<Mode>, wake: Sender<Cause>) -> Self {
        Self { directory, wanted, wake, watcher: None, watched: Vec::new(), choice: None }
    }

    /// Subscribes to what is there now; `incomplete` are checkpoint directories. Gives the choice of the mode.
    pub(super) fn follow(&mut self, incomplete: &[PathBuf]) -> Choice {
        for _ in 0..TRIES {
            let places = self.places(incomplete);
            if self.watcher.is_some() && places == self.watched {
                break;
            }
            self.choice = Some(self.subscribe(&places));
            self.watched = places;
            if self.watcher.is_none() {
                break;
            }
        }
        // Subscribed to while it changed for the eighth time: the timer looks again.
        self.choice.clone().unwrap_or_else(|| filesystem::choose(&self.directory, self.wanted))
    }

    fn places(&self, incomplete: &[PathBuf]) -> Vec<Place> {
        let nearest = nearest_existing(&self.directory);
        let above = nearest.filter(|there| *there == self.directory).and_then(Path::parent);
        let paths = nearest.into_iter().chain(above).map(Path::to_owned);
        let place = |path: PathBuf| {
            let metadata = std::fs::metadata(&path).ok()?;
            Some((path, metadata.dev(), metadata.ino()))
        };
        paths.chain(incomplete.iter().cloned()).filter_map(place).collect()
    }

    fn subscribe(&mut self, places: &[Place]) -> Choice {
        self.watcher = None;
        let nearest = places.first().map_or(Path::new("/"), |(path, ..)| path);
        let choice = filesystem::choose(nearest, self.wanted);
        if self.wanted == Some(Mode::Poll) {
            return choice;
        }
        match self.watch(places) {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                choice
            }
            Err(error) => {
                let reason =
                    format!("no events can be had: {error}; the limits are in `sysctl fs.inotify`");
                Choice { mode: Mode::Poll, reason, ..choice }
            }
        }
    }

    fn watch(&self, places: &[Place]) -> notify::Result<RecommendedWatcher> {
        let (wake, directory) = (self.wake.clone(), self.directory.clone());
        let handler = move |event: notify::Result<notify::Event>| {
            if let Some(cause) = cause(&event, &directory) {
                // A wake-up that does not fit means that one is waiting already.
                let _ = wake.try_send(cause);
            }
        };
        let mut watcher = notify::recommended_watcher(handler)?;
        for (index, (path, ..)) in places.iter().enumerate() {
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Err(error) if index == 0 || is_limit(&error) => return Err(error),
                // Gone meanwhile, or not ours to watch: the timer sees to it.
                Ok(()) | Err(_) => {}
            }
        }
        Ok(watcher)
    }
}

/// How a directory would be watched, found out by trying.
pub fn choose(directory: &Path, wanted: Option<Mode>) -> Choice {
    let (wake, _woken) = bounded(1);
    Notifier::new(directory.to_owned(), wanted, wake).follow(&[])
}

/// Whether the system has no more watches to give.
fn is_limit(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => true,
        notify::ErrorKind::Io(error) => error.kind() != std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// What an event is a wake-up for, if for anything: not for what only reads, as a scan itself does, and
/// not for what happens beside the directory.
fn cause(event: &notify::Result<notify::Event>, directory: &Path) -> Option<Cause> {
    let Ok(event) = event else { return Some(Cause::Error) };
    if event.need_rescan() {
        return Some(Cause::Overflow);
    }
    let only_reads = match event.kind {
        EventKind::Access(AccessKind::Close(mode)) => mode != AccessMode::Write,
        EventKind::Access(_) => true,
        _ => false,
    };
    let is_near = |path: &PathBuf| path.starts_with(directory) || directory.starts_with(path);
    let is_here = event.paths.is_empty() || event.paths.iter().any(is_near);
    (!only_reads && is_here).then_some(Cause::Event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, Flag};
    use notify::{Event, Result};

    #[test]
    fn wake_ups_are_changes_near_the_directory_errors_and_overflows() {
        let near = |event: Result<Event>| cause(&event, Path::new("/a/b/c"));
        let made =
            |path: &str| Ok(Event::new(EventKind::Create(CreateKind::Any)).add_path(path.into()));
        let closed = |mode| Ok(Event::new(EventKind::Access(AccessKind::Close(mode))));
        assert_eq!(near(made("/a/b/c/d")), Some(Cause::Event));
        assert_eq!(near(made("/a/b")), Some(Cause::Event), "it may have appeared");
        assert_eq!(near(made("/a/b/other")), None);
        assert_eq!(near(closed(AccessMode::Read)), None);
        assert_eq!(near(closed(AccessMode::Write)), Some(Cause::Event));
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(near(Ok(overflow)), Some(Cause::Overflow));
        assert_eq!(near(Err(notify::Error::generic("broken"))), Some(Cause::Error));
    }
}
