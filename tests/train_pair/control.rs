//! The control file as a trainer in Rust sees it.

use convergd::control::{Client, Control, Settings};
use convergd::role::Role;
use convergd::signal::Document;
use std::path::PathBuf;
use std::time::Duration;

/// A control directory, the sidecar's view of it and the target's.
struct World {
    _root: tempfile::TempDir,
    directory: PathBuf,
    sidecar: Control,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("control");
        let sidecar = Control::new(Settings::new(directory.clone(), Duration::from_secs(1)));
        Self { _root: root, directory, sidecar }
    }

    fn client(&self) -> Client {
        Client::new(&self.directory, Role::Target, 0)
    }

    fn deliver(&self, generation: u64, action: &str, lambda: f64, at_step: u64) {
        let action = action.to_owned();
        let document = Document { action, lambda, at_step, ramp: 3, ..Document::start(generation) };
        self.sidecar.deliver(&document).unwrap();
    }

    fn write(&self, text: &str) {
        std::fs::create_dir_all(&self.directory).unwrap();
        // A new inode, as a replacement has.
        let partial = self.directory.join("partial");
        std::fs::write(&partial, text).unwrap();
        std::fs::rename(partial, self.directory.join("control.json")).unwrap();
    }

    fn acknowledged(&self) -> Option<(u64, u64)> {
        let found = self.sidecar.acknowledgement(Role::Target)?;
        Some((found.generation, found.step))
    }
}

#[test]
fn a_decision_holds_from_its_step_on_and_is_acknowledged_then() {
    let world = World::new();
    let mut client = world.client();
    assert_eq!(client.poll(1), &Document::start(0));
    assert_eq!(world.acknowledged(), None, "nothing was decided, nothing is acknowledged");
    world.deliver(4, "phase", 0.8, 5);
    assert_eq!(client.poll(4).generation, 0, "not yet");
    let decision = client.poll(5);
    assert_eq!((decision.generation, decision.lambda, decision.ramp), (4, 0.8, 3));
    assert!(!decision.is_stop());
    assert_eq!(world.acknowledged(), Some((4, 5)));
    let process = world.sidecar.process(Role::Target).expect("it tells its process");
    assert_eq!((process.pid, process.is_gone()), (std::process::id(), Some(false)));
    client.poll(9);
    assert_eq!(world.acknowledged(), Some((4, 5)), "once");
    world.deliver(5, "stop", 0.0, 0);
    assert!(client.poll(10).is_stop());
    assert_eq!(world.acknowledged(), Some((5, 10)));
}

#[test]
fn what_is_no_newer_decision_changes_nothing() {
    let world = World::new();
    let mut client = world.client();
    let valid = r#"{"schema":1,"generation":3,"action":"phase","phase":"regularized","lambda":1}"#;
    world.write(valid);
    assert_eq!((client.poll(1).generation, client.poll(1).lambda), (3, 1.0));
    assert_eq!((client.poll(1).ramp, client.poll(1).at_step), (0, 0), "both may be left out");
    let newer = valid.replace(":3,", ":4,");
    let spoilt = [
        valid.replace(":3,", ":2,"),
        valid.replace("\"lambda\":1", "\"lambda\":0.5"),
        newer.replace("\"schema\":1", "\"schema\":2"),
        newer.replace("phase\",\"phase", "leap\",\"phase"),
        newer.replace("\"lambda\":1", "\"lambda\":1.5"),
        newer.replace("\"lambda\":1", "\"lambda\":\"1\""),
        newer.replace("\"generation\":4,", ""),
        newer.replace(":4,", ":-4,"),
        newer[..newer.len() - 1].to_owned(),
        String::new(),
        " ".repeat(2 << 20) + &newer,
    ];
    for text in spoilt {
        world.write(&text);
        assert_eq!((client.poll(2).generation, client.poll(2).lambda), (3, 1.0), "{text:.80}");
    }
    world.write(&newer);
    assert_eq!(client.poll(3).generation, 4);
    std::fs::remove_file(world.directory.join("control.json")).unwrap();
    assert_eq!(client.poll(4).generation, 4, "what holds goes on to hold");
}

#[test]
fn a_newer_decision_replaces_one_that_waits() {
    let world = World::new();
    let mut client = world.client();
    world.deliver(1, "stop", 0.0, 7);
    assert!(!client.poll(6).is_stop());
    world.deliver(2, "continue", 0.0, 8);
    assert!(!client.poll(7).is_stop());
    assert_eq!(client.poll(8).generation, 2);
    assert_eq!(world.acknowledged(), Some((2, 8)));
}

#[test]
fn only_rank_0_answers_and_removes_an_old_end() {
    let world = World::new();
    world.client().done(12);
    assert!(world.sidecar.is_done(Role::Target) && !world.sidecar.is_done(Role::Baseline));
    let mut other = Client::new(&world.directory, Role::Target, 1);
    assert!(world.sidecar.is_done(Role::Target));
    world.deliver(1, "stop", 0.0, 0);
    assert!(other.poll(1).is_stop());
    assert_eq!(world.acknowledged(), None);
    let _rank_0 = world.client();
    assert!(!world.sidecar.is_done(Role::Target));
}

#[test]
fn training_goes_on_where_nothing_can_be_read_or_written() {
    let world = World::new();
    world.deliver(1, "phase", 0.5, 0);
    let ack = world.directory.join("ack-target.json");
    std::fs::create_dir_all(&ack).unwrap();
    let mut client = world.client();
    assert_eq!((client.poll(1).lambda, world.acknowledged()), (0.5, None));
    std::fs::remove_dir(&ack).unwrap();
    client.poll(2);
    assert_eq!(world.acknowledged(), Some((1, 2)), "it is tried again");
    let mut nowhere = Client::new(&PathBuf::from("/dev/null/control"), Role::Baseline, 0);
    assert_eq!(nowhere.poll(1), &Document::start(0));
    nowhere.done(1);
}
