//! Values against PyTorch: what convergd computes from a program, a checkpoint and a probe is what
//! the trainer's own network gives for the same masked inputs.
//!
//! `fixtures/make_parity.py` trains the networks and computes the expected values.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod common;

use convergd::evaluation::Assignment;
use convergd::evaluation::{
    Baseline, DeviceChoice, MEMORY_SHARE, Precision, Priority, ProbeValues, Settings, ValueCache,
    VariableRule,
};
use convergd::layout::{Layout, Limits, Reading};
use convergd::network::{Evaluator, Source};
use convergd::role::Role;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::path::PathBuf;

/// Largest difference of a value or a logit, in log-odds.
const TOLERANCE: f64 = 1e-4;
const VARIABLES: usize = 10;
const GRID: usize = 4;
/// No divisor of the 1,024 masked inputs.
const BATCH: usize = 100;
/// A statistic whose loss is easily overlooked.
const STATISTIC: &str = "low.1.running_mean";

fn reading() -> Reading {
    Reading { layout: Layout::Safetensors, weights: None, limits: Limits::default() }
}

struct Fixture {
    directory: tempfile::TempDir,
    expected: Vec<u8>,
    /// Where the networks run.
    device: DeviceChoice,
}

impl Fixture {
    /// Runs the script; nothing where the virtual environment is not there.
    fn make() -> Option<Self> {
        if !common::has_python() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        common::succeed(common::script("make_parity.py").arg(directory.path()));
        let expected = std::fs::read(directory.path().join("expected.safetensors")).unwrap();
        Some(Self { directory, expected, device: DeviceChoice::Cpu })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn evaluator(&self, probe: &str, rule: Option<VariableRule>, baseline: Baseline) -> Evaluator {
        self.evaluator_in(Precision::Float32, probe, rule, baseline)
    }

    fn evaluator_in(
        &self,
        precision: Precision,
        probe: &str,
        rule: Option<VariableRule>,
        baseline: Baseline,
    ) -> Evaluator {
        let settings = Settings {
            programs: [self.path("program.ts"), self.path("program.ts")],
            reading: [reading(), reading()],
            probe: self.path(probe),
            samples: None,
            variables: rule,
            baseline,
            devices: vec![self.device],
            precision,
            threads: 1,
            batch: Some(BATCH),
            memory: MEMORY_SHARE,
            priority: Priority::default(),
        };
        let cache = self.path(&format!("cache-{:?}", self.device));
        Evaluator::start(settings, ValueCache::new(cache, 1 << 30)).unwrap()
    }

    fn checkpoint(&self, role: Role) -> Source {
        let directory = self.path(role.name());
        let entry = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap();
        Source { role, file: entry.path(), name: entry.path() }
    }

    fn pair(&self) -> [Source; 2] {
        Role::BOTH.map(|role| self.checkpoint(role))
    }

    fn rows(&self, name: &str) -> Vec<Vec<f64>> {
        let file = SafeTensors::deserialize(&self.expected).unwrap();
        let view = file.tensor(name).unwrap();
        let (numbers, _) = view.data().as_chunks::<8>();
        let numbers: Vec<f64> = match view.dtype() {
            safetensors::Dtype::I64 => {
                numbers.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
            }
            _ => numbers.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        };
        numbers.chunks_exact(view.shape()[1]).map(<[f64]>::to_vec).collect()
    }

    /// The checkpoint of the target with 1 added to a running mean.
    fn corrupted(&self) -> Source {
        let bytes = std::fs::read(self.checkpoint(Role::Target).file).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (means, _) = file.tensor(STATISTIC).unwrap().data().as_chunks::<4>();
        let moved: Vec<u8> =
            means.iter().flat_map(|b| (f32::from_le_bytes(*b) + 1.0).to_le_bytes()).collect();
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let data = if name == STATISTIC { &moved } else { view.data() };
            let copy = TensorView::new(view.dtype(), view.shape().to_vec(), data).unwrap();
            (name, copy)
        });
        let path = self.path("corrupted.safetensors");
        std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        Source { role: Role::Target, file: path.clone(), name: path }
    }
}

/// The largest difference of two tables of the same shape; infinite where one is no number.
fn largest_difference(found: &[Vec<f64>], wanted: &[Vec<f64>]) -> f64 {
    let shape = |rows: &[Vec<f64>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(shape(found), shape(wanted));
    let pairs = found.iter().flatten().zip(wanted.iter().flatten());
    let differences = pairs.map(|(a, b)| (a - b).abs());
    differences.map(|d| if d.is_nan() { f64::INFINITY } else { d }).fold(0.0, f64::max)
}

fn assert_parity(what: &str, found: &[Vec<f64>], wanted: &[Vec<f64>]) {
    let error = largest_difference(found, wanted);
    let numbers: usize = wanted.iter().map(Vec::len).sum();
    eprintln!("{what}: {numbers} numbers, largest error {error:.1e}");
    assert!(error <= TOLERANCE, "{what}: off by {error}");
}

fn evaluate(evaluator: &Evaluator, source: Source, pair: [Source; 2]) -> ProbeValues {
    let variables = evaluator.choose(pair).wait().unwrap().unwrap();
    assert_eq!(variables.count, VARIABLES);
    let values = evaluator.evaluate(source, &variables).wait().unwrap().values;
    assert!(values.values.iter().all(|table| table.len() == 1 << VARIABLES));
    values
}

#[test]
fn values_are_those_of_pytorch() {
    let Some(mut fixture) = Fixture::make() else { return };
    for device in common::devices() {
        eprintln!("on {device:?}");
        fixture.device = device;
        explicit_variables_with_both_baselines(&fixture);
        patches_are_chosen_as_in_python(&fixture);
        a_corrupted_statistic_is_seen(&fixture);
        the_cache_answers_alike_without_a_forward(&fixture);
        match device {
            DeviceChoice::Cpu => bfloat16_is_that_of_pytorch(&fixture),
            _ => lower_precisions_are_near_float32(&fixture),
        }
    }
}

fn explicit_variables_with_both_baselines(fixture: &Fixture) {
    for (baseline, name) in [(Baseline::Zero, "zero"), (Baseline::Mean, "mean")] {
        let evaluator = fixture.evaluator("probe.safetensors", None, baseline);
        for role in Role::BOTH {
            let found = evaluate(&evaluator, fixture.checkpoint(role), fixture.pair());
            let wanted = fixture.rows(&format!("values_{role}_{name}"));
            assert_parity(&format!("{role}, baseline {name}"), &found.values, &wanted);
            let wanted = fixture.rows(&format!("logits_{role}"));
            assert_parity(&format!("{role}, unmasked logits"), &found.logits, &wanted);
        }
    }
    let gap = largest_difference(
        &fixture.rows("values_target_zero"),
        &fixture.rows("values_target_mean"),
    );
    assert!(gap > 0.1, "the two baselines hardly differ ({gap}): the fixture shows nothing");
}

fn patches_are_chosen_as_in_python(fixture: &Fixture) {
    let rule = VariableRule::ImagePatches { grid: GRID, margin: 0, select: VARIABLES };
    let evaluator = fixture.evaluator("probe-rule.safetensors", Some(rule), Baseline::Zero);
    let variables = evaluator.choose(fixture.pair()).wait().unwrap().unwrap();
    let Assignment::Patches { grid, chosen } = &variables.assignment else {
        panic!("no patches: {variables:?}")
    };
    let chosen: Vec<Vec<f64>> =
        chosen.iter().map(|row| row.iter().map(|&patch| patch as f64).collect()).collect();
    assert_eq!((*grid, chosen), (GRID, fixture.rows("chosen")));
    let found = evaluate(&evaluator, fixture.checkpoint(Role::Target), fixture.pair());
    assert_parity("target, patches by rule", &found.values, &fixture.rows("values_rule"));
}

/// The comparison can fail: buffers count as much as parameters do.
fn a_corrupted_statistic_is_seen(fixture: &Fixture) {
    let evaluator = fixture.evaluator("probe.safetensors", None, Baseline::Zero);
    let found = evaluate(&evaluator, fixture.corrupted(), fixture.pair());
    let change = largest_difference(&found.values, &fixture.rows("values_target_zero"));
    eprintln!("`{STATISTIC}` + 1 changes values by {change:.2}");
    assert!(change > 1e-2, "a wrong `{STATISTIC}` changes values by {change} only");
}

fn the_cache_answers_alike_without_a_forward(fixture: &Fixture) {
    let evaluator = fixture.evaluator("probe.safetensors", None, Baseline::Mean);
    let variables = evaluator.choose(fixture.pair()).wait().unwrap().unwrap();
    let again = evaluator.evaluate(fixture.checkpoint(Role::Baseline), &variables).wait().unwrap();
    assert_eq!(again.rows, 0, "these values were computed above");
    assert_parity("from the cache", &again.values.values, &fixture.rows("values_baseline_mean"));
}

/// Rounding of a GPU is its own, so it is only bounded; what it is compared with is float32.
fn lower_precisions_are_near_float32(fixture: &Fixture) {
    let float32 = fixture.rows("values_target_zero");
    let mut errors = Vec::new();
    for precision in [Precision::Tf32, Precision::Bf16] {
        let evaluator = fixture.evaluator_in(precision, "probe.safetensors", None, Baseline::Zero);
        let found = evaluate(&evaluator, fixture.checkpoint(Role::Target), fixture.pair());
        errors.push(mean_difference(&found.values, &float32));
        eprintln!("{}: {:.1e} from float32 on average", precision.name(), errors[errors.len() - 1]);
        assert_parity("float32 beside it", &found.reference, &float32);
    }
    // 10 and 7 bits of a number's fraction.
    assert!(1e-6 < errors[0] && errors[0] < 0.01, "TF32: {}", errors[0]);
    assert!(errors[0] < errors[1] && errors[1] < 0.1, "bfloat16: {}", errors[1]);
}

fn mean_difference(tables: &[Vec<f64>], others: &[Vec<f64>]) -> f64 {
    let pairs = tables.iter().flatten().zip(others.iter().flatten());
    let sum: f64 = pairs.map(|(a, b)| (a - b).abs()).sum();
    sum / tables.iter().map(Vec::len).sum::<usize>() as f64
}

/// Where rounding is this coarse, kernels for one row and for a hundred differ by a unit of it now and then:
/// so on average.
fn bfloat16_is_that_of_pytorch(fixture: &Fixture) {
    let evaluator =
        fixture.evaluator_in(Precision::Bf16, "probe.safetensors", None, Baseline::Zero);
    let found = evaluate(&evaluator, fixture.checkpoint(Role::Target), fixture.pair());
    let float32 = fixture.rows("values_target_zero");
    let apart = mean_difference(&found.values, &fixture.rows("values_target_bf16"));
    let rounding = mean_difference(&found.values, &float32);
    eprintln!("bfloat16: {apart:.1e} from PyTorch's, {rounding:.1e} from float32 on average");
    assert!(apart < 0.1 * rounding, "{apart} from PyTorch's, {rounding} from float32");
    // What it is compared with is float32, and was not spoilt by what came before it.
    assert_parity("float32 beside bfloat16", &found.reference, &float32);
    let variables = evaluator.choose(fixture.pair()).wait().unwrap().unwrap();
    let again = evaluator.evaluate(fixture.checkpoint(Role::Target), &variables).wait().unwrap();
    assert_eq!((again.rows, again.values), (0, found), "the cache keeps both");
}
