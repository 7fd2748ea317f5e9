//! One thread a directory: waits, is woken up by events, looks, reports.
//!
//! Events are only wake-ups: a scan on start, on every event, on a timer, on an overflow and on an error is the
//! truth. Where events are not to be trusted or cannot be had, the timer is short. What a look says is
//! [`Directory`]'s matter; here is only when to look.

use super::Settings;
use super::directory::Directory;
use super::event::{Event, Moment};
use super::filesystem::Choice;
use super::notifier::Notifier;
use super::scans::{Cause, Scans};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Events of one burst are taken together.
const COALESCE: Duration = Duration::from_millis(20);
/// Wake-ups that wait: one is enough, the rest is dropped.
const WAKE_UPS: usize = 1;

/// A watching thread.
pub struct Watcher {
    directory: Directory,
    scans: Arc<Scans>,
}

impl Watcher {
    /// Prepares to watch; `known` are identities that need not be reported again.
    pub fn new(
        settings: Settings,
        pins: PathBuf,
        known: HashSet<String>,
        scans: Arc<Scans>,
    ) -> Self {
        Self { directory: Directory::new(settings, pins, known), scans }
    }

    /// How many checkpoints are there now that are not known, and are kept by link: those take no room while they are
    /// there.
    pub fn count_there(&self) -> usize {
        self.directory.count_there(SystemTime::now())
    }

    /// Watches until `requests` is closed; each request asks for another scan and an
    /// answer: `Listed`, or `Waiting`.
    /// A full `events` channel blocks: what is pinned is not lost.
    pub fn run(mut self, events: &Sender<Event>, requests: &Receiver<()>) {
        let Settings { role, directory, watching, .. } = self.directory.settings().clone();
        let (wake, woken) = bounded(WAKE_UPS);
        let mut notifier = Notifier::new(directory, watching.mode, wake);
        let mut said: Option<Choice> = None;
        let mut cause = Cause::Start;
        loop {
            // First subscribe, then look: what appears in between gives an event.
            let choice = notifier.follow(&self.directory.incomplete());
            self.directory.set_settle(choice.settle);
            let Choice { mode, reason, .. } = choice.clone();
            let news =
                (said.as_ref() != Some(&choice)).then_some(Event::Mode { role, mode, reason });
            let at_work = self.scans.begin(cause);
            for event in news.into_iter().chain(self.directory.look(Moment::now())) {
                // The other end closes its side of the channel when it ends.
                if events.send(event).is_err() {
                    return;
                }
            }
            drop(at_work);
            said = Some(choice);
            cause = select! {
                recv(requests) -> request => match request {
                    Ok(()) => {
                        self.directory.ask_again();
                        Cause::Request
                    }
                    Err(_) => return,
                },
                recv(woken) -> cause => {
                    std::thread::sleep(COALESCE);
                    cause.unwrap_or(Cause::Timer)
                }
                default(self.directory.pause(mode)) => Cause::Timer,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::checkpoint::directory::SETTLE;
    use crate::checkpoint::tests::settings;
    use crate::layout::Layout;
    use crate::role::Role;
    use std::path::Path;

    /// Far more than anything takes.
    const PATIENCE: Duration = Duration::from_secs(20);

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
            let watcher = Watcher::new(settings, pins.to_owned(), HashSet::new(), Arc::default());
            let thread = std::thread::spawn(move || watcher.run(&events_in, &stopped));
            Self { events, stop: Some(stop), thread: Some(thread) }
        }

        fn next(&self) -> Event {
            loop {
                let event = self.events.recv_timeout(PATIENCE);
                match event.expect("an event within 20 s") {
                    Event::Mode { .. } => {}
                    event => return event,
                }
            }
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
        let Event::Ready { checkpoint, delay } = running.next() else { panic!("no checkpoint") };
        assert!((SETTLE..PATIENCE).contains(&delay), "{delay:?}");
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
        let second = running.next();
        assert!(matches!(second, Event::Ready { checkpoint: Checkpoint { step: 2, .. }, .. }));
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
        let Event::Ready { checkpoint, .. } = running.next() else { panic!("not ready") };
        assert_eq!(std::fs::read(checkpoint.pin).expect("pinned"), bytes);
    }
}
