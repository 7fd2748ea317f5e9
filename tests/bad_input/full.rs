//! Disks that are full: the state's, the cache's, the control file's. Each is told of by a metric, and the run goes
//! on when there is room again.

use crate::bench::{Bench, Running, eventually};
use crate::common::disk::SmallDisk;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;

const STOP: (&str, &str) = ("step: 100", "step: 2");
const LISTEN: (&str, &str) = ("compute:", "telemetry: {listen: '127.0.0.1:0'}\ncompute:");

/// A sample of what a run shows, by the start of its line.
fn metric(running: &Running, name: &str) -> Option<f64> {
    let said = running.err();
    let address = said.split("address=").nth(1)?.split_whitespace().next()?.to_owned();
    let mut stream = TcpStream::connect(address).ok()?;
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn add(bench: &Bench, step: u64) {
    bench.add_step("target", step);
    bench.add_step("baseline", step);
}

fn acknowledge(bench: &Bench) {
    let control = std::fs::read_to_string(bench.path("control/control.json")).unwrap();
    let control: serde_json::Value = serde_json::from_str(&control).unwrap();
    for network in ["target", "baseline"] {
        let answer = json!({"schema": 1, "generation": control["generation"], "step": 3});
        let file = bench.path("control").join(format!("ack-{network}.json"));
        std::fs::write(file, answer.to_string()).unwrap();
    }
}

#[test]
fn a_full_state_is_shown_and_a_start_waits_for_it_too() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let Some(disk) = SmallDisk::mount(bench.path("disk"), "2m") else { return };
    bench.configure(&[("state: state", "state: disk/state"), LISTEN, STOP]);
    let count = |of: &str| bench.rows_of("disk/state", &format!("SELECT * FROM {of}")).len();
    let errors = "convergd_errors_total{stage=\"history\"}";
    let mut running = bench.follow();
    eventually("the first pair is evaluated", || count("pair") == 1);
    assert_eq!(metric(&running, errors), Some(0.0));
    let filler = disk.fill();
    add(&bench, 2);
    // Where even the pin has no room, it is the watcher that waits.
    let what = "the disk is noticed";
    eventually(what, || {
        running.err().contains("the run waits") || running.err().contains("space left")
    });
    assert!(running.is_alive());
    assert_eq!(count("pair"), 1);
    // SIGKILL.
    drop(running);
    let mut running = bench.follow();
    eventually("the disk is noticed again", || {
        running.err().contains("space left") || running.err().contains("is full")
    });
    assert!(running.is_alive(), "{}", running.err());
    assert_eq!((count("pair"), count("decision")), (1, 0));
    std::fs::remove_file(filler).unwrap();
    eventually("the decision is delivered", || count("decision WHERE delivered > 0") == 1);
    acknowledge(&bench);
    running.finish().expect(10, &["early-stopped"]);
    assert_eq!((count("pair"), count("decision")), (2, 1));
}

#[test]
fn a_full_cache_costs_time_only() {
    let (Some(bench), Some(good)) = (Bench::with_steps(&[1]), Bench::with_steps(&[1, 2, 3])) else {
        return;
    };
    good.once().expect(0, &[]);
    std::fs::create_dir(bench.path("state")).unwrap();
    let Some(disk) = SmallDisk::mount(bench.path("state/values"), "64k") else { return };
    let filler = disk.fill();
    bench.configure(&[LISTEN]);
    let mut running = bench.follow();
    eventually("the first pair is evaluated", || bench.pairs().len() == 1);
    assert_eq!(metric(&running, "convergd_errors_total{stage=\"cache\"}"), Some(2.0));
    add(&bench, 2);
    eventually("the second pair is evaluated", || bench.pairs().len() == 2);
    std::fs::remove_file(filler).unwrap();
    add(&bench, 3);
    running.says("value tables are cached again");
    eventually("the third pair is evaluated", || bench.pairs().len() == 3);
    assert_eq!(metric(&running, "convergd_errors_total{stage=\"cache\"}"), Some(4.0));
    assert!(metric(&running, "convergd_value_cache_bytes") > Some(0.0));
    bench.end_training();
    let finished = running.finish();
    finished.expect(0, &["value tables cannot be cached; the run goes on without"]);
    assert_eq!(finished.err.matches("cannot be cached").count(), 1, "{}", finished.err);
    assert_eq!(bench.pairs(), good.pairs());
    assert_eq!(bench.status()["value_cache"]["tables"], 2);
}

#[test]
fn a_full_disk_of_event_files_costs_nothing_and_they_are_filled_in_later() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let Some(disk) = SmallDisk::mount(bench.path("events"), "64k") else { return };
    let filler = disk.fill();
    let events = "telemetry: {listen: '127.0.0.1:0', tensorboard: events}\ncompute:";
    bench.configure(&[("compute:", events)]);
    let files = || {
        let runs = ["target", "baseline", "pair"].map(|run| bench.path("events").join(run));
        runs.iter().map(|run| std::fs::read_dir(run).map_or(0, Iterator::count)).sum::<usize>()
    };
    let mut running = bench.follow();
    running.says("event files cannot be written");
    let errors = "convergd_errors_total{stage=\"tensorboard\"}";
    eventually("it is counted", || metric(&running, errors) >= Some(1.0));
    eventually("the first pair is evaluated", || bench.pairs().len() == 1);
    assert_eq!(files(), 0);
    std::fs::remove_file(filler).unwrap();
    add(&bench, 2);
    running.says("event files are written again");
    assert_eq!(files(), 3);
    add(&bench, 3);
    eventually("the third pair is evaluated", || bench.pairs().len() == 3);
    bench.end_training();
    let finished = running.finish();
    finished.expect(0, &["No space left", "the run goes on without"]);
    assert_eq!(finished.err.matches("event files cannot be").count(), 1, "{}", finished.err);
    let export = ["export", "-c", "run.yaml", "--format", "tensorboard", "-o", "exported"];
    bench.command(&export).expect(0, &[]);
    for run in ["target", "baseline", "pair"] {
        let of = |directory: &str| std::fs::read_dir(bench.path(directory).join(run)).unwrap();
        let length = |directory| of(directory).map(|f| f.unwrap().metadata().unwrap().len()).sum();
        let [grown, exported]: [u64; 2] = ["events", "exported"].map(length);
        assert_eq!(grown, exported, "{run}");
    }
}

#[test]
fn a_full_control_directory_keeps_the_decision_until_there_is_room() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let Some(disk) = SmallDisk::mount(bench.path("control"), "64k") else { return };
    let filler = disk.fill();
    bench.configure(&[LISTEN, STOP]);
    let mut running = bench.follow();
    eventually("the first pair is evaluated", || bench.pairs().len() == 1);
    add(&bench, 2);
    running.says("the decision is kept and tried again");
    let failures = "convergd_control_deliveries_total{channel=\"file\",outcome=\"failure\"}";
    assert!(metric(&running, failures) >= Some(1.0));
    assert!(!bench.path("control/control.json").exists());
    std::fs::remove_file(filler).unwrap();
    let delivered = "SELECT * FROM decision WHERE delivered > 0";
    eventually("the decision is delivered", || bench.rows(delivered).len() == 1);
    acknowledge(&bench);
    running.finish().expect(10, &["early-stopped"]);
    // What could not be written leaves nothing behind.
    let names = std::fs::read_dir(bench.path("control")).unwrap().flatten();
    let left: Vec<_> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains(".tmp")), "{left:?}");
}

#[test]
fn a_start_waits_for_a_full_disk_whatever_an_earlier_one_has_left() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let Some(disk) = SmallDisk::mount(bench.path("disk"), "2m") else { return };
    bench.configure(&[("state: state", "state: disk/state")]);
    let pairs = || bench.rows_of("disk/state", "SELECT * FROM pair").len();
    let waits = |filler: std::path::PathBuf, wanted: usize| {
        // One that is asked to end while it waits has nothing to say against it.
        let mut running = bench.follow();
        running.says("the run waits until the state can be written again");
        running.terminate();
        running.finish().expect(0, &[]);
        let mut running = bench.follow();
        running.says("the run waits until the state can be written again");
        assert!(running.is_alive());
        std::fs::remove_file(filler).unwrap();
        eventually("the pair is evaluated", || pairs() == wanted);
        running.terminate();
        let finished = running.finish();
        finished.expect(0, &["is full or fails", "the state can be written again"]);
    };
    waits(disk.fill(), 1);
    add(&bench, 2);
    let filler = disk.fill();
    // It ended well, so there are no files beside the history, and none can be made.
    let status = bench.status();
    assert_eq!((&status["pairs"], &status["step"]), (&json!(1), &json!(1)), "{status}");
    waits(filler, 2);
}
