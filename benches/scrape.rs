//! `/metrics` while a pair is evaluated: how long a scrape takes.
//!
//! `cargo bench --bench scrape -- --fixtures DIR`
//!
//! A run of small networks whose last pair takes some ten seconds of one core for its masked inputs. Until then two pairs were
//! evaluated, so all series are there. Scrapes follow each other 20 ms apart, each over a connection of its own, for as long as
//! that pair takes; then as many with nothing to do. The files come from `tests/fixtures/make_bad_input.py DIR`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
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
    - {id: peak, when: {peaked: {metric: convergence_score, patience: {checks: 9}}}, then: {stop: {}}}
    - {id: budget, when: {reached: {step: 100000000}}, then: {stop: {}}}
control: {directory: control}
telemetry: {listen: '127.0.0.1:0'}
";
const BETWEEN: Duration = Duration::from_millis(20);
/// Far more than anything takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let place = arguments.iter().position(|argument| argument == "--fixtures");
    let fixtures = place.map_or("target/bench/bad_input", |place| &arguments[place + 1]);
    let (root, fixtures) = (PathBuf::from("target/bench/scrape"), PathBuf::from(fixtures));
    let _ = std::fs::remove_dir_all(&root);
    for directory in ["target", "baseline"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    copy(&fixtures.join("slow/program.ts"), &root.join("program.ts"));
    copy(&fixtures.join("probe.safetensors"), &root.join("probe.safetensors"));
    std::fs::write(root.join("run.yaml"), CONFIG).unwrap();
    // Of the slow fixtures the first step of the target is the one that takes its time.
    [(2, 2), (3, 3)].iter().for_each(|&(from, to)| save(&fixtures, &root, from, to));
    let run = Run::start(&root);
    let pairs = "convergd_pairs_total";
    run.wait_for(pairs, 2.0);
    save(&fixtures, &root, 1, 4);
    run.wait_for("convergd_evaluation_lag_steps{network=\"target\"}", 1.0);
    let mut busy = Vec::new();
    let mut body = String::new();
    let started = Instant::now();
    while value(&body, pairs) != Some(3.0) {
        assert!(started.elapsed() < PATIENCE, "the slow pair is never over");
        let (took, answer) = run.scrape();
        // The last one may have come after the pair.
        busy.extend((value(&answer, pairs) == Some(2.0)).then_some(took));
        body = answer;
        std::thread::sleep(BETWEEN);
    }
    println!("{} bytes, {} lines", body.len(), body.lines().count());
    tell("while a pair is evaluated", &mut busy);
    let mut idle: Vec<Duration> = busy
        .iter()
        .map(|_| {
            std::thread::sleep(BETWEEN);
            run.scrape().0
        })
        .collect();
    tell("without anything to do", &mut idle);
}

fn tell(what: &str, times: &mut [Duration]) {
    times.sort();
    assert!(times.len() > 50, "only {} scrapes {what}", times.len());
    let at = |share: f64| 1e3 * times[(share * (times.len() - 1) as f64) as usize].as_secs_f64();
    println!(
        "{what:<28}{} scrapes: median {:.2} ms, 99 % within {:.2} ms, all within {:.2} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn copy(from: &Path, to: &Path) {
    let made = "python tests/fixtures/make_bad_input.py DIR; --fixtures DIR";
    let partial = to.with_extension("tmp");
    assert!(std::fs::copy(from, &partial).is_ok(), "there is no {}: {made}", from.display());
    std::fs::rename(partial, to).unwrap();
}

/// Both networks save a step, which was another one when it was made.
fn save(fixtures: &Path, root: &Path, from: u64, to: u64) {
    for network in ["target", "baseline"] {
        let name = |step: u64| format!("{network}/step-{step:08}.safetensors");
        copy(&fixtures.join("slow").join(name(from)), &root.join(name(to)));
    }
}

fn value(metrics: &str, series: &str) -> Option<f64> {
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// A daemon at work; it ends with this value.
struct Run {
    child: Child,
    address: SocketAddr,
}

impl Run {
    fn start(root: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convergd"));
        command.args(["run", "-c", "run.yaml"]).current_dir(root).stdin(Stdio::null());
        command.env("OMP_WAIT_POLICY", "PASSIVE").env_remove("RUST_LOG").stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().contains("serving /metrics"));
        let line = line.unwrap().unwrap();
        let told = line.split_once("address=").unwrap().1;
        let address = told.split_whitespace().next().unwrap().parse().unwrap();
        // Its log goes nowhere, and must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// One scrape, from the connection to the last byte.
    fn scrape(&self) -> (Duration, String) {
        let started = Instant::now();
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (started.elapsed(), answer)
    }

    fn wait_for(&self, series: &str, wanted: f64) {
        let started = Instant::now();
        while value(&self.scrape().1, series) != Some(wanted) {
            assert!(started.elapsed() < PATIENCE, "{series} is never {wanted}");
            std::thread::sleep(BETWEEN);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
