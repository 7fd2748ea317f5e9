//! The checkpoints of `make_layouts.py`, and networks that load them.

use crate::common;
use convergd::evaluation::{
    Baseline, DeviceChoice, MEMORY_SHARE, Precision, Priority, ProbeValues, Settings, ValueCache,
    VariableRule, Variables,
};
use convergd::layout::{Flaw, Layout, Limits, Reading, Weights};
use convergd::network::{Evaluator, NetworkError, Source};
use convergd::role::Role;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where the files lie, and the file that a hostile one would make.
pub(crate) struct Fixture {
    pub(crate) root: PathBuf,
    pub(crate) mark: PathBuf,
    expected: Vec<u8>,
}

/// Made once; nothing where there is no Python for it.
pub(crate) fn fixture() -> Option<&'static Fixture> {
    static MADE: OnceLock<Option<Fixture>> = OnceLock::new();
    MADE.get_or_init(make).as_ref()
}

fn make() -> Option<Fixture> {
    if !common::has_python() {
        return None;
    }
    let root = common::own_directory("layouts");
    // Without spaces: it stands in a command of the shell.
    let mark = root.join("mark");
    common::succeed(common::script("make_layouts.py").arg(&root).env("EVIL_MARK", &mark));
    let expected = std::fs::read(root.join("expected.safetensors")).unwrap();
    Some(Fixture { root, mark, expected })
}

pub(crate) fn reading(layout: Layout, weights: Option<&str>) -> Reading {
    Reading { layout, weights: weights.map(str::to_owned), limits: Limits::default() }
}

/// Opens a checkpoint and reads all of it, as far as it can be read.
pub(crate) fn read_all(layout: Layout, path: &Path) -> Result<Weights, Flaw> {
    let weights = layout.open(path, &Limits::default())?;
    for tensor in &weights.tensors {
        tensor.read()?;
    }
    Ok(weights)
}

impl Fixture {
    pub(crate) fn good(&self, name: &str) -> PathBuf {
        self.root.join("good").join(name)
    }

    pub(crate) fn bad(&self, name: &str) -> PathBuf {
        self.root.join("bad").join(name)
    }

    /// Both networks of the pair have this program, read in this way.
    pub(crate) fn evaluator(&self, program: &str, reading: Reading) -> Networks {
        // A cache would answer for a network that cannot be loaded.
        let cache = tempfile::tempdir().unwrap();
        let is_bert = program == "bert.ts";
        let probe = if is_bert { "bert_probe.safetensors" } else { "probe.safetensors" };
        let settings = Settings {
            programs: [self.root.join(program), self.root.join(program)],
            reading: [reading.clone(), reading],
            probe: self.root.join(probe),
            samples: None,
            variables: is_bert.then_some(VariableRule::Columns { groups: 4 }),
            baseline: Baseline::Zero,
            devices: vec![DeviceChoice::Cpu],
            precision: Precision::Float32,
            threads: 1,
            batch: Some(16),
            memory: MEMORY_SHARE,
            priority: Priority::default(),
        };
        let evaluator =
            Evaluator::start(settings, ValueCache::new(cache.path().to_owned(), 1 << 30)).unwrap();
        Networks { evaluator, _cache: cache }
    }

    pub(crate) fn rows(&self, name: &str) -> Vec<Vec<f64>> {
        let file = SafeTensors::deserialize(&self.expected).unwrap();
        let view = file.tensor(name).unwrap();
        let (numbers, _) = view.data().as_chunks::<8>();
        let numbers: Vec<f64> = numbers.iter().map(|b| f64::from_le_bytes(*b)).collect();
        numbers.chunks_exact(view.shape()[1]).map(<[f64]>::to_vec).collect()
    }
}

/// A started evaluator.
pub(crate) struct Networks {
    evaluator: Evaluator,
    _cache: tempfile::TempDir,
}

impl Networks {
    pub(crate) fn evaluate(&self, path: &Path) -> Result<ProbeValues, NetworkError> {
        let source = |role| Source { role, file: path.to_owned(), name: path.to_owned() };
        let variables: Variables = self.evaluator.choose(Role::BOTH.map(source)).wait()?.unwrap();
        Ok(self.evaluator.evaluate(source(Role::Target), &variables).wait()?.values)
    }
}

/// The largest difference of two tables of the same shape; infinite where one is no number.
pub(crate) fn difference(found: &[Vec<f64>], wanted: &[Vec<f64>]) -> f64 {
    let shape = |rows: &[Vec<f64>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(shape(found), shape(wanted));
    let pairs = found.iter().flatten().zip(wanted.iter().flatten());
    let differences = pairs.map(|(a, b)| (a - b).abs());
    differences.map(|d| if d.is_nan() { f64::INFINITY } else { d }).fold(0.0, f64::max)
}
