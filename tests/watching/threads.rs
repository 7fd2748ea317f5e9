//! The real watching thread: what wakes it up. The timer is far away in all of these.

use crate::world::settings;
use convergd::checkpoint::{Cause, Checkpoint, Event, Marker, Mode, Scans, Settings, Watcher};
use convergd::layout::Layout;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Less than the timer, which would see everything.
const PATIENCE: Duration = Duration::from_secs(60);
const TIMER: Duration = Duration::from_secs(3600);

struct Running {
    events: Receiver<Event>,
    scans: Arc<Scans>,
    stop: Option<Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(mut settings: Settings, pins: &Path) -> Self {
        if settings.watching.mode != Some(Mode::Poll) {
            // Wherever the tests run.
            settings.watching.mode = Some(Mode::Events);
            settings.watching.rescan = TIMER;
        }
        let (sender, events) = bounded(64);
        let (stop, stopped) = bounded(1);
        let scans = Arc::new(Scans::default());
        let watcher = Watcher::new(settings, pins.to_owned(), HashSet::new(), scans.clone());
        let thread = std::thread::spawn(move || watcher.run(&sender, &stopped));
        Self { events, scans, stop: Some(stop), thread: Some(thread) }
    }

    fn next(&self) -> Event {
        loop {
            match self.events.recv_timeout(PATIENCE).expect("an event in time") {
                Event::Mode { .. } => {}
                event => return event,
            }
        }
    }

    #[track_caller]
    fn ready(&self) -> Checkpoint {
        match self.next() {
            Event::Ready { checkpoint, .. } => checkpoint,
            event => panic!("not ready: {event:?}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take();
        let thread = self.thread.take().unwrap();
        thread.join().unwrap();
    }
}

fn save(directory: &Path, step: u64) {
    let partial = directory.join("partial.tmp");
    std::fs::write(&partial, complete()).unwrap();
    std::fs::rename(&partial, directory.join(format!("step-{step}.safetensors"))).unwrap();
}

fn complete() -> Vec<u8> {
    [&2u64.to_le_bytes()[..], b"{}"].concat()
}

#[test]
fn a_directory_whose_parents_are_missing_too_is_seen_when_it_appears() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("a/b/c/checkpoints");
    let running =
        Running::start(settings(Layout::Safetensors, &directory), &home.path().join("pins"));
    assert!(matches!(running.next(), Event::Waiting { .. }));
    std::fs::create_dir_all(&directory).unwrap();
    save(&directory, 1);
    loop {
        match running.next() {
            Event::Ready { checkpoint, .. } => break assert_eq!(checkpoint.step, 1),
            Event::Listed { .. } => {}
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn a_root_that_is_removed_or_replaced_is_watched_again() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("checkpoints");
    std::fs::create_dir(&directory).unwrap();
    save(&directory, 1);
    let running =
        Running::start(settings(Layout::Safetensors, &directory), &home.path().join("pins"));
    assert_eq!(running.ready().step, 1);
    assert!(matches!(running.next(), Event::Listed { .. }));
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(matches!(running.next(), Event::Waiting { .. }));
    std::fs::create_dir(&directory).unwrap();
    save(&directory, 2);
    assert_eq!(running.ready().step, 2);
    // Another directory takes the place at once; what is written to it later is seen too.
    let other = home.path().join("other");
    std::fs::create_dir(&other).unwrap();
    save(&other, 3);
    std::fs::rename(&directory, home.path().join("away")).unwrap();
    std::fs::rename(&other, &directory).unwrap();
    loop {
        match running.next() {
            Event::Ready { checkpoint, .. } => break assert_eq!(checkpoint.step, 3),
            // If it looked in between.
            Event::Waiting { .. } => {}
            event => panic!("{event:?}"),
        }
    }
    save(&directory, 4);
    assert_eq!(running.ready().step, 4);
}

#[test]
fn a_directory_that_is_completed_after_its_quarantine_is_seen_at_once() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("checkpoints");
    let checkpoint = directory.join("checkpoint-1");
    std::fs::create_dir_all(&checkpoint).unwrap();
    let running = Running::start(settings(Layout::Hf, &directory), &home.path().join("pins"));
    assert!(matches!(running.next(), Event::Quarantined { step: 1, .. }));
    assert!(matches!(running.next(), Event::Listed { .. }));
    std::fs::write(checkpoint.join("model.safetensors"), complete()).unwrap();
    assert_eq!(running.ready().step, 1);
}

#[test]
fn a_checkpoint_waits_for_its_marker_without_being_quarantined() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("checkpoints");
    std::fs::create_dir(&directory).unwrap();
    save(&directory, 1);
    let mut settings = settings(Layout::Safetensors, &directory);
    settings.marker = Some(Marker::new("{stem}.ok").unwrap());
    let running = Running::start(settings, &home.path().join("pins"));
    assert!(matches!(running.next(), Event::Listed { .. }), "it does not hold up the end");
    std::fs::write(directory.join("step-1.ok"), "").unwrap();
    assert_eq!(running.ready().step, 1);
}

#[test]
fn without_events_the_timer_sees_everything() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("checkpoints");
    let mut settings = settings(Layout::Safetensors, &directory);
    settings.watching.mode = Some(Mode::Poll);
    settings.watching.poll = Duration::from_millis(50);
    let running = Running::start(settings, &home.path().join("pins"));
    assert!(matches!(running.next(), Event::Waiting { .. }));
    std::fs::create_dir(&directory).unwrap();
    assert!(matches!(running.next(), Event::Listed { .. }));
    save(&directory, 1);
    assert_eq!(running.ready().step, 1);
    for (cause, scans) in running.scans.take() {
        let is_expected = matches!(cause, Cause::Start | Cause::Timer);
        assert_eq!(scans > 0, is_expected, "{cause:?}: {scans}");
    }
}
