//! Two trainings and the program attached to them.

use crate::common::process::{Running, convergd};
use crate::common::{self, process};
use rusqlite::{Connection, OpenFlags};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Largest difference of a value, in log-odds.
const TOLERANCE: f64 = 1e-4;
/// Seconds after which a complete checkpoint has been pinned on a busy machine; an idle one needs less
/// than one.
pub(crate) const SEEN_AFTER: f64 = 5.0;
/// What a training may take, most of it to load its library, on a machine with much else to do.
const TRAINING: Duration = Duration::from_secs(400);
const NETWORKS: [&str; 2] = ["target", "baseline"];

/// Whether the trainers wait until their checkpoint is known.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    Seen,
    Free,
}

/// What a trainer says of a checkpoint that it wrote; times in seconds.
#[derive(Debug, Deserialize)]
pub(crate) struct Written {
    pub(crate) step: u64,
    pub(crate) written: f64,
    pub(crate) removed: Option<f64>,
    #[serde(skip)]
    network: &'static str,
}

impl Written {
    /// How long it was there.
    pub(crate) fn lifetime(&self) -> f64 {
        self.removed.map_or(f64::INFINITY, |removed| removed - self.written)
    }
}

/// The directory of a run.
pub(crate) struct TrainingPair {
    root: tempfile::TempDir,
    trainer: String,
    _alone: MutexGuard<'static, ()>,
}

/// One pair at a time: it is three processes already.
static ALONE: Mutex<()> = Mutex::new(());

impl TrainingPair {
    /// Program, probe and configuration; nothing where there is no Python for it.
    pub(crate) fn prepare(order: &str, trainer: &str) -> Option<Self> {
        if !common::has_python() {
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let root = tempfile::tempdir().unwrap();
        common::succeed(common::script("train.py").args(["prepare", "--run"]).arg(root.path()));
        let text = format!(
            "state: state
program: program.ts
probe: {{file: probe.safetensors}}
networks:
  target: {{checkpoints: target, layout: {trainer}}}
  baseline: {{checkpoints: baseline, layout: {trainer}}}
pairing: {{order: {order}}}
compute: {{device: cpu, threads: 1}}
policy:
  rules:
    - {{id: budget, when: {{reached: {{step: 1000000}}}}, then: {{stop: {{}}}}}}
control: {{directory: control}}
end: {{idle: 10m}}
"
        );
        std::fs::write(root.path().join("run.yaml"), text).unwrap();
        Some(Self { root, trainer: trainer.to_owned(), _alone: alone })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The program, which waits for checkpoints.
    pub(crate) fn follow(&self) -> Running {
        let mut command = convergd(&["run", "-c", "run.yaml"]);
        let mut running = Running::start(command.current_dir(self.root.path()), self.root.path());
        for network in NETWORKS {
            running.says(&format!("{network}` is not there yet"));
        }
        running
    }

    /// Attaches, trains both to their end, and waits until the program has ended by itself.
    pub(crate) fn train(&self, pace: Pace, options: &[&str]) {
        let running = self.follow();
        let pace = match pace {
            Pace::Seen => "seen",
            Pace::Free => "free",
        };
        let trainings: Vec<Running> = NETWORKS
            .into_iter()
            .zip(["11", "22"])
            .map(|(network, seed)| {
                let mut command = common::script("train.py");
                command.args([&self.trainer, "--network", network, "--seed", seed]);
                command.args(["--pace", pace]).args(options).arg("--run").arg(self.root.path());
                Running::start(&mut command, self.root.path())
            })
            .collect();
        for training in trainings {
            training.finish_within(TRAINING).expect(0, &[]);
        }
        let finished = running.finish();
        finished.expect(0, &["done"]);
        // Seen where a test fails.
        let is_trouble = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        finished.err.lines().filter(is_trouble).for_each(|line| eprintln!("{line}"));
    }

    /// What (target, baseline) wrote, in that order.
    pub(crate) fn written(&self) -> [Vec<Written>; 2] {
        NETWORKS.map(|network| {
            let text = std::fs::read(self.path(&format!("{network}.json"))).unwrap();
            let mut own: Vec<Written> = serde_json::from_slice(&text).unwrap();
            own.iter_mut().for_each(|checkpoint| checkpoint.network = network);
            own
        })
    }

    /// The first column of a query as text, and the second as a number.
    pub(crate) fn rows(&self, query: &str) -> Vec<(String, u64)> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Ok(history) = Connection::open_with_flags(self.path("state/history.sqlite"), flags)
        else {
            return Vec::new();
        };
        history.busy_timeout(Duration::from_secs(5)).unwrap();
        let Ok(mut statement) = history.prepare(query) else { return Vec::new() };
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// Steps of the evaluated pairs.
    pub(crate) fn evaluated(&self) -> Vec<u64> {
        let rows = self.rows("SELECT '', step FROM pair ORDER BY step");
        rows.into_iter().map(|(_, step)| step).collect()
    }

    /// How checkpoints ended, and how many of them.
    pub(crate) fn outcomes(&self) -> Vec<(String, usize)> {
        let rows = self.rows("SELECT outcome, count(*) FROM checkpoint GROUP BY outcome");
        rows.into_iter().map(|(outcome, count)| (outcome, count as usize)).collect()
    }

    /// Whether the history has a checkpoint.
    pub(crate) fn is_known(&self, checkpoint: &Written) -> bool {
        let Written { network, step, .. } = checkpoint;
        let query = format!(
            "SELECT '', step FROM checkpoint WHERE network = '{network}' AND step = {step}"
        );
        !self.rows(&query).is_empty()
    }

    /// Lifetimes of the checkpoints that the history has.
    pub(crate) fn known(&self) -> Vec<f64> {
        let written = self.written();
        let known = written.iter().flatten().filter(|checkpoint| self.is_known(checkpoint));
        known.map(Written::lifetime).collect()
    }

    /// The value tables of these steps are PyTorch's, and there are no others.
    pub(crate) fn assert_values_are_those_of_pytorch(&self, steps: &[u64]) {
        let mut found = self.value_tables();
        assert_eq!(found.len(), 2 * steps.len(), "{steps:?}");
        let mut worst = 0f64;
        for network in NETWORKS {
            let file = std::fs::read(self.path(&format!("{network}.safetensors"))).unwrap();
            let expected = SafeTensors::deserialize(&file).unwrap();
            for step in steps {
                let wanted = numbers(&expected, &format!("values_{step}"));
                let distances = found.iter().map(|table| difference(table, &wanted));
                let nearest = distances.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
                let (at, distance) = nearest.unwrap();
                assert!(distance <= TOLERANCE, "{network} {step} is off by {distance}");
                worst = worst.max(distance);
                found.swap_remove(at);
            }
        }
        eprintln!("{}: values of {} pairs differ by {worst:.1e}", self.trainer, steps.len());
    }

    fn value_tables(&self) -> Vec<Vec<f64>> {
        let entries = std::fs::read_dir(self.path("state/values")).unwrap();
        let read = |path: &Path| {
            let bytes = std::fs::read(path).unwrap();
            numbers(&SafeTensors::deserialize(&bytes).unwrap(), "values")
        };
        entries.map(|entry| read(&entry.unwrap().path())).collect()
    }

    /// Nothing waits any more.
    pub(crate) fn assert_no_pins(&self) {
        let left = std::fs::read_dir(self.path("state/pins")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "pins are left");
    }

    /// Both trainers say that they are at their end.
    pub(crate) fn end_training(&self) {
        for network in NETWORKS {
            std::fs::write(self.path("control").join(format!("done-{network}")), "{}").unwrap();
        }
    }

    /// Waits until pairs are evaluated.
    pub(crate) fn wait_for_pairs(&self, steps: &[u64]) {
        process::eventually("the pairs are evaluated", || self.evaluated() == steps);
    }
}

fn numbers(file: &SafeTensors, name: &str) -> Vec<f64> {
    let view = file.tensor(name).unwrap();
    let (numbers, _) = view.data().as_chunks::<8>();
    numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}

/// The largest difference; infinite where shapes differ or one is no number.
fn difference(found: &[f64], wanted: &[f64]) -> f64 {
    if found.len() != wanted.len() {
        return f64::INFINITY;
    }
    let differences = found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
    differences.map(|d| if d.is_nan() { f64::INFINITY } else { d }).fold(0.0, f64::max)
}
