//! What a daemon takes from trainings on the same machine: its threads that work for long stand back, the others do not.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    dead_code,
    missing_docs,
    unused_imports
)]

#[path = "bad_input/bench.rs"]
mod bench;
mod common;

use bench::{Bench, Running, eventually};
use std::collections::BTreeMap;
use std::process::Command;

/// A thread: its niceness, and what `ionice` says of it where that is installed.
type Thread = (i64, Option<String>);

/// Threads by name. The one that decides is the first of the process, whose name others have too.
fn threads(daemon: &Running) -> BTreeMap<String, Thread> {
    let mut found = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
        let task = task.unwrap().path();
        // A thread may end meanwhile.
        let Ok(stat) = std::fs::read_to_string(task.join("stat")) else { continue };
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(") ").unwrap();
        let nice = rest.split(' ').nth(16).unwrap().parse().unwrap();
        let id = task.file_name().unwrap().to_str().unwrap();
        let name = if id == daemon.pid().to_string() { DECIDES } else { name };
        let io = Command::new("ionice").arg("-p").arg(id).output().ok();
        let io = io.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned());
        found.entry(name.to_owned()).or_insert((nice, io));
    }
    found
}

/// Threads of a daemon that has evaluated two pairs.
fn at_work(compute: &str) -> Option<BTreeMap<String, Thread>> {
    let bench = Bench::with_steps(&[1, 2])?;
    let telemetry = "telemetry: {listen: '127.0.0.1:0'}";
    bench.configure(&[("compute: {device: cpu}", &format!("compute: {compute}\n{telemetry}"))]);
    let daemon = bench.start(&["run", "-c", "run.yaml"]);
    eventually("two pairs", || bench.pairs().len() == 2);
    let threads = threads(&daemon);
    daemon.terminate();
    daemon.finish().expect(0, &[]);
    Some(threads)
}

/// Of this process, which its children have too.
fn own_niceness() -> i64 {
    rustix::process::getpriority_process(None).unwrap().into()
}

const WORKERS: [&str; 6] =
    ["networks 0", "networks 1", "evaluation", "solver 0", "watch target", "watch baseline"];
const DECIDES: &str = "the first";

#[test]
fn threads_that_work_for_long_stand_back_and_those_that_decide_do_not() {
    let Some(threads) = at_work("{devices: [cpu, cpu]}") else { return };
    let own = own_niceness();
    for name in WORKERS {
        let (nice, io) = threads.get(name).unwrap_or_else(|| panic!("{name}: {threads:#?}"));
        assert_eq!(*nice, own.max(10), "{name}: {threads:#?}");
        if let Some(io) = io {
            assert_eq!(io, "best-effort: prio 7", "{name}: {threads:#?}");
        }
    }
    assert_eq!(threads[DECIDES].0, own, "{threads:#?}");
    assert_eq!(threads["http"].0, own, "{threads:#?}");
}

#[test]
fn they_stand_where_they_are_told_to() {
    let own = own_niceness();
    let Some(threads) = at_work("{device: cpu, nice: 0, io: normal}") else { return };
    // A thread never comes forward.
    assert!(threads.values().all(|(nice, _)| [own, own.max(0)].contains(nice)), "{threads:#?}");
    let Some(threads) = at_work("{device: cpu, nice: 19, io: idle}") else { return };
    let (nice, io) = &threads["networks 0"];
    assert_eq!(*nice, 19);
    assert!(io.as_ref().is_none_or(|io| io == "idle"), "{threads:#?}");
}
