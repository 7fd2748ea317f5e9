//! A history with many pairs: how long a start, `status` and a tick take with it.
//!
//! `cargo bench --bench history -- --fixtures DIR [--pairs 10000] [--rounds 9] [--out target/bench/history]`
//!
//! The history is written through the library, one transaction a pair, as a run of 10 variables leaves it: all
//! monitors, strengths of all orders, the memory of a policy, what 80 samples add to the monitors (32 kB, which
//! nothing here may read); a tenth as many skipped checkpoints; a value table of half a megabyte (without content)
//! for each checkpoint. The program and the probe come from `tests/fixtures/make_bad_input.py DIR`.
//!
//! `start` is the time of `convergd run` until its first look at a checkpoint directory; beside it stands that
//! of a history without any pair. `--version` is a process that does nothing. `tick` is CPU time while nothing happens.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use convergd::convergence::{Estimate, Monitor, Samples, Strength, Totals};
use convergd::history::{
    CheckpointRow, DeliveryRow, Evidence, History, Outcome, PairRecord, PairRow,
};
use convergd::policy::{Best, ConditionState, Decision, Moment, PolicyState, RuleState};
use convergd::role::Role;
use convergd::signal::Document;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = "\
state: state
program: program.ts
probe:
  file: probe.safetensors
  variables: {columns: {groups: 4}}
networks:
  target: {checkpoints: target}
  baseline: {checkpoints: baseline}
compute: {device: cpu}
policy:
  rules:
    - {id: budget, when: {reached: {step: 100000000}}, then: {stop: {}}}
control: {directory: control, acknowledge: 60s}
";
/// Variables of the run that the rows imitate.
const ORDERS: usize = 10;
/// Bytes of a value table of 60 samples with 10 variables.
const TABLE: u64 = 60 * 1024 * 8;
/// Samples of its probe.
const SAMPLES: usize = 80;
/// The first look at a directory says this.
const LOOKS: &str = "watched by events";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let value = |name: &str, default: &str| -> String {
        let place = arguments.iter().position(|argument| argument == name);
        place.map_or(default, |place| &arguments[place + 1]).to_owned()
    };
    let number = |name: &str, default: &str| -> u64 { value(name, default).parse().unwrap() };
    let (pairs, rounds) = (number("--pairs", "10000"), number("--rounds", "9"));
    let out = PathBuf::from(value("--out", "target/bench/history"));
    let fixtures = PathBuf::from(value("--fixtures", "target/bench/bad_input"));
    for count in [0, pairs] {
        let run = Run::make(&out.join(count.to_string()), &fixtures, count);
        println!("{count} pairs, {:.0} MB of history", run.size() as f64 / 1e6);
        println!("  {:<32}{:>8.1} ms", "start", run.median(rounds, || run.start().0));
        let run_file = ["-c", "run.yaml"];
        for arguments in [&["--version"][..], &["status"], &["status", "--json"], &["report"]] {
            let is_alone = arguments == ["--version"];
            let all = [arguments, if is_alone { &[] } else { &run_file }].concat();
            let time = run.median(rounds, || {
                let started = Instant::now();
                let output = run.command(&all).stdout(Stdio::null()).status().unwrap();
                assert!(output.success());
                started.elapsed()
            });
            println!("  {:<32}{time:>8.1} ms", arguments.join(" "));
        }
        let (_, mut child) = run.start();
        let before = cpu(&child);
        std::thread::sleep(Duration::from_secs(5));
        let used = (cpu(&child) - before) / 5.0;
        stop(&mut child);
        println!("  {:<32}{used:>8.2} ms a second", "ticks without news");
    }
}

/// A run's directory.
struct Run(PathBuf);

impl Run {
    fn make(root: &Path, fixtures: &Path, pairs: u64) -> Self {
        let _ = std::fs::remove_dir_all(root);
        for directory in ["state/values", "target", "baseline", "control"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["program.ts", "probe.safetensors"] {
            let made = "python tests/fixtures/make_bad_input.py DIR; --fixtures DIR";
            let copied = std::fs::copy(fixtures.join(file), root.join(file));
            assert!(copied.is_ok(), "there is no {file} in {}: {made}", fixtures.display());
        }
        std::fs::write(root.join("run.yaml"), CONFIG).unwrap();
        let mut history = History::open(&root.join("state")).unwrap();
        for number in 1..=pairs {
            let step = 100 * number;
            let decision = (number == pairs / 2).then(|| decision(step));
            let checkpoints = Role::BOTH.map(|role| checkpoint(root, role, step));
            let record = PairRecord {
                notifications: &[],
                pair: &pair(root, step),
                evidence: &evidence(),
                checkpoints: &checkpoints,
                decision: decision.as_ref(),
                notices: &[],
            };
            history.record_pair(&record).unwrap();
            if number.is_multiple_of(10) {
                let mut row = checkpoint(root, Role::Target, step + 50);
                row.outcome = Outcome::Skipped;
                row.reason = Some("no partner came before a later pair was evaluated".to_owned());
                history.record_checkpoint(&row, number as f64).unwrap();
            }
        }
        drop(history);
        for number in 0..2 * pairs {
            let path = root.join(format!("state/values/{number:064x}.safetensors"));
            std::fs::File::create(path).unwrap().set_len(TABLE).unwrap();
        }
        Self(root.to_owned())
    }

    fn size(&self) -> u64 {
        std::fs::metadata(self.0.join("state/history.sqlite")).unwrap().len()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convergd"));
        command.args(arguments).current_dir(&self.0).stdin(Stdio::null());
        command.env("OMP_WAIT_POLICY", "PASSIVE");
        command
    }

    /// Starts a run and waits until it looks for checkpoints.
    fn start(&self) -> (Duration, Started) {
        let started = Instant::now();
        let mut command = self.command(&["run", "-c", "run.yaml"]);
        command.env("RUST_LOG", "debug").stderr(Stdio::piped());
        let mut child = Started(command.spawn().unwrap());
        let lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        for line in lines {
            said.push(line.unwrap());
            if said.last().unwrap().contains(LOOKS) {
                return (started.elapsed(), child);
            }
        }
        panic!("it ended before its first look:\n{}", said.join("\n"));
    }

    /// In milliseconds.
    fn median(&self, rounds: u64, mut work: impl FnMut() -> Duration) -> f64 {
        // The first brings the files into memory.
        work();
        let mut times: Vec<f64> = (0..rounds).map(|_| 1e3 * work().as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }
}

/// A program at work; it ends with this value.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn checkpoint(root: &Path, role: Role, step: u64) -> CheckpointRow {
    CheckpointRow {
        role,
        identity: format!("66306:{step}:4096000:1764105011.{step:09}:{:032x}", step * 7919),
        step,
        path: root.join(format!("{role}/step-{step:08}.safetensors")).display().to_string(),
        outcome: Outcome::Evaluated,
        reason: None,
    }
}

fn pair(root: &Path, step: u64) -> PairRow {
    let number = |salt: u64| (((step + salt) * 2_654_435_761) % 1_000_003) as f64 / 1_000_003.0;
    let estimate = |salt| Estimate { value: number(salt), standard_error: number(salt + 1) / 9.0 };
    let monitors = Monitor::ALL.iter().enumerate();
    let strength = |salt: u64| Strength {
        positive: number(salt),
        negative: number(salt + 1),
        convergent_positive: number(salt + 2),
        convergent_negative: number(salt + 3),
    };
    PairRow {
        step,
        time: 1.764e9 + step as f64,
        paths: Role::BOTH.map(|role| checkpoint(root, role, step).path),
        finite: true,
        samples: 160,
        certified: 160,
        gap_max: 1e-9 * number(5),
        noise_floor: None,
        monitors: monitors.map(|(salt, &monitor)| (monitor, estimate(salt as u64))).collect(),
        strengths: [0, 1000].map(|network| {
            (0..=ORDERS as u64).map(|order| strength(network + 10 * order)).collect()
        }),
        policy: policy(step, number(3)),
    }
}

/// The memory of three rules, two of which follow a monitor.
fn policy(step: u64, value: f64) -> PolicyState {
    let at = Moment { checks: step / 100, step, time: 1.764e9 };
    let condition = ConditionState {
        best: Some(Best { value, standard_error: value / 7.0, at }),
        since_best: 2,
        past: vec![value; 5],
        ..ConditionState::default()
    };
    let conditions = ["all[0]", "all[1]"].map(|path| (path.to_owned(), condition.clone()));
    let rule = RuleState {
        seen: step / 100,
        warm: true,
        conditions: conditions.into(),
        ..RuleState::default()
    };
    let rules =
        ["convergence-peaked", "loss-peaked", "budget"].map(|id| (id.to_owned(), rule.clone()));
    PolicyState {
        checks: step / 100,
        started: Some(1.764e9),
        rules: rules.into(),
        ..PolicyState::default()
    }
}

fn decision(step: u64) -> DeliveryRow {
    let decision = Decision {
        id: format!("regularise@{step}"),
        rule: "regularise".to_owned(),
        action: "phase".to_owned(),
        phase: "regularized".to_owned(),
        lambda: 0.8,
        ramp: 100,
        step,
        best_step: Some(step),
        reason: "`convergent_ratio` peaked".to_owned(),
        time: 1.764e9,
    };
    let document = Document::of(&decision, 1, step + 1, None);
    DeliveryRow { decision, document, delivered: None }
}

/// What the samples of a pair add to its monitors, which nothing here may read.
fn evidence() -> Evidence {
    let totals = vec![Totals::zero(ORDERS + 1); SAMPLES];
    Evidence { samples: Some(Samples::of(&totals)), values: [None, None] }
}

/// CPU time of a process in milliseconds.
fn cpu(started: &Started) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", started.0.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    1e3 * ticks / rustix::param::clock_ticks_per_second() as f64
}

fn stop(started: &mut Started) {
    started.0.kill().unwrap();
    started.0.wait().unwrap();
}
