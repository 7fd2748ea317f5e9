//! Families of networks against PyTorch: encoders and causal language models at their token embeddings,
//! tables at the input, a pair of two architectures. Each also as a run of the binary.
//!
//! `fixtures/make_families.py` makes the networks and computes the expected values.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod common;

use convergd::convergence::Monitor;
use convergd::evaluation::Assignment;
use convergd::evaluation::{
    Baseline, DeviceChoice, MEMORY_SHARE, Precision, Priority, ProbeValues, Settings, ValueCache,
    VariableRule, Variables,
};
use convergd::history::History;
use convergd::layout::{Layout, Limits, Reading};
use convergd::network::{Evaluator, NetworkError, Source};
use convergd::role::Role;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Largest difference of a value or a logit, in log-odds.
const TOLERANCE: f64 = 1e-4;
const VARIABLES: usize = 6;
const SAMPLES: usize = 4;
/// No divisor of the 64 masked inputs of a sample, and more than them: batches hold two samples.
const BATCH: usize = 100;
/// Begin and end of a sample of text.
const SPECIAL: [i64; 2] = [1, 2];

/// The directory of the fixtures, made once; nothing where there is no Python for it.
fn fixtures() -> Option<&'static Path> {
    static MADE: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join(".venv/bin/python");
        if !python.exists() {
            eprintln!("skipped: there is no {}; `make setup` makes it", python.display());
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let output = Command::new(python)
            .arg(root.join("tests/fixtures/make_families.py"))
            .arg(directory.path())
            .env("PYTHONPATH", root.join("python"))
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "make_families.py failed: {message}");
        Some(directory)
    });
    made.as_ref().map(tempfile::TempDir::path)
}

/// A family and how convergd is told of it.
#[derive(Clone)]
struct Family {
    directory: PathBuf,
    layout: Layout,
    rule: VariableRule,
    baseline: Baseline,
    /// `probe.variables`, `probe.baseline` in the YAML.
    yaml: &'static str,
}

impl Family {
    fn text(name: &str) -> Option<Self> {
        Some(Self {
            directory: fixtures()?.join(name),
            layout: Layout::Hf,
            rule: VariableRule::Tokens { select: VARIABLES, exclude_ids: SPECIAL.to_vec() },
            baseline: Baseline::Mean,
            yaml: "{tokens: {select: 6, exclude_ids: [1, 2]}}\n  baseline: mean",
        })
    }

    fn table() -> Option<Self> {
        Some(Self {
            directory: fixtures()?.join("mlp"),
            layout: Layout::Safetensors,
            rule: VariableRule::Columns { groups: VARIABLES },
            baseline: Baseline::Mean,
            yaml: "{columns: {groups: 6}}\n  baseline: mean",
        })
    }

    fn images() -> Option<Self> {
        Some(Self {
            directory: fixtures()?.join("images"),
            layout: Layout::Safetensors,
            rule: VariableRule::ImagePatches { grid: 4, margin: 0, select: VARIABLES },
            baseline: Baseline::Zero,
            yaml: "{image_patches: {grid: 4, select: 6}}\n  baseline: zero",
        })
    }

    fn start(&self, probe: &str, device: DeviceChoice) -> Result<Evaluator, NetworkError> {
        let cache = self.directory.join(format!("cache-{device:?}"));
        self.start_with(probe, &cache, |settings| settings.devices = vec![device])
    }

    /// On the CPU, in batches of so many, unless `change` says otherwise.
    fn start_with(
        &self,
        probe: &str,
        cache: &Path,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Evaluator, NetworkError> {
        let reading = || Reading { layout: self.layout, weights: None, limits: Limits::default() };
        let program = |role: Role| self.directory.join(format!("program-{role}.ts"));
        let mut settings = Settings {
            programs: Role::BOTH.map(program),
            reading: [reading(), reading()],
            probe: self.directory.join(probe),
            samples: None,
            variables: Some(self.rule.clone()),
            baseline: self.baseline,
            devices: vec![DeviceChoice::Cpu],
            precision: Precision::Float32,
            threads: 1,
            batch: Some(BATCH),
            memory: MEMORY_SHARE,
            priority: Priority::default(),
        };
        change(&mut settings);
        Evaluator::start(settings, ValueCache::new(cache.to_owned(), 1 << 30))
    }

    /// The checkpoints of one step, 0 or 1.
    fn pair(&self, step: usize) -> [Source; 2] {
        Role::BOTH.map(|role| {
            let entries = std::fs::read_dir(self.directory.join(role.name())).unwrap();
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            Source { role, file: paths[step].clone(), name: paths[step].clone() }
        })
    }

    fn expected(&self, name: &str) -> Vec<Vec<f64>> {
        let bytes = std::fs::read(self.directory.join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor(name).unwrap();
        let (numbers, _) = view.data().as_chunks::<8>();
        let of = |bytes: &[u8; 8]| match view.dtype() {
            safetensors::Dtype::I64 => i64::from_le_bytes(*bytes) as f64,
            _ => f64::from_le_bytes(*bytes),
        };
        let numbers: Vec<f64> = numbers.iter().map(of).collect();
        numbers.chunks_exact(view.shape()[1]).map(<[f64]>::to_vec).collect()
    }

    /// All 2^n values of every sample and the logits of both networks are PyTorch's.
    fn assert_parity(&self, evaluator: &Evaluator, variables: &Variables, device: DeviceChoice) {
        for (role, source) in Role::BOTH.into_iter().zip(self.pair(1)) {
            let found = evaluator.evaluate(source, variables).wait().unwrap().values;
            for (what, found) in [("values", &found.values), ("logits", &found.logits)] {
                let wanted = self.expected(&format!("{what}_{role}"));
                let error = largest_difference(found, &wanted);
                let name = self.directory.file_name().unwrap().display();
                let numbers: usize = wanted.iter().map(Vec::len).sum();
                eprintln!(
                    "{name}, {role}, {device:?}: {numbers} {what}, largest error {error:.1e}"
                );
                assert!(error <= TOLERANCE, "{name}, {role}, {device:?}, {what}: off by {error}");
                let spread =
                    wanted[0].iter().fold(0.0f64, |most, v| most.max((v - wanted[0][0]).abs()));
                assert!(
                    spread > 0.1,
                    "{name}: {what} hardly differ ({spread}), which shows nothing"
                );
            }
        }
    }

    /// `run --once` on both steps; the history that it leaves.
    fn run(&self, device: DeviceChoice) -> History {
        let directory = tempfile::tempdir().unwrap();
        let here = self.directory.display();
        let network = |role: &str| {
            format!(
                "{{checkpoints: {here}/{role}, layout: {}, program: {here}/program-{role}.ts}}",
                if self.layout == Layout::Hf { "hf" } else { "safetensors" }
            )
        };
        let text = format!(
            "state: state
probe:
  file: {here}/probe-rule.safetensors
  variables: {}
networks:
  target: {}
  baseline: {}
compute: {{device: {}}}
policy:
  rules:
    - {{id: budget, when: {{reached: {{step: 100}}}}, then: {{stop: {{}}}}}}
control: {{directory: control}}
",
            self.yaml,
            network("target"),
            network("baseline"),
            if device == DeviceChoice::Cpu { "cpu" } else { "cuda" },
        );
        let config = directory.path().join("run.yaml");
        std::fs::write(&config, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_convergd"))
            .args(["run", "--once", "-c"])
            .arg(&config)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{log}");
        History::open_for_reading(&directory.path().join("state")).unwrap()
    }

    /// Both steps are evaluated and certified, and the probe loss of the last is PyTorch's.
    fn assert_run(&self, device: DeviceChoice) {
        let pairs = self.run(device).pairs().unwrap();
        let steps: Vec<u64> = pairs.iter().map(|pair| pair.step).collect();
        assert_eq!(steps, [10, 20]);
        for pair in &pairs {
            assert_eq!((pair.samples, pair.certified), (2 * SAMPLES, 2 * SAMPLES));
        }
        let monitors = &pairs[1].monitors;
        let loss =
            monitors.iter().find(|(monitor, _)| **monitor == Monitor::ProbeLoss).unwrap().1.value;
        let wanted = Role::BOTH.map(|role| self.loss(role)).iter().sum::<f64>() / 2.0;
        assert!((loss - wanted).abs() < TOLERANCE, "probe loss {loss}, PyTorch's {wanted}");
    }

    /// Mean cross entropy of PyTorch's logits with the labels of the probe.
    fn loss(&self, role: Role) -> f64 {
        let bytes = std::fs::read(self.directory.join("probe-rule.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor("labels").unwrap();
        let labels = view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as usize);
        let logits = self.expected(&format!("logits_{role}"));
        let losses = logits.iter().zip(labels).map(|(row, label)| {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            largest + row.iter().map(|z| (z - largest).exp()).sum::<f64>().ln() - row[label]
        });
        losses.sum::<f64>() / logits.len() as f64
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

#[track_caller]
fn assert_values(family: Option<Family>) {
    let Some(family) = family else { return };
    for device in common::devices() {
        let evaluator = family.start("probe.safetensors", device).unwrap();
        let variables = evaluator.choose(family.pair(0)).wait().unwrap().unwrap();
        assert_eq!(variables.count, VARIABLES);
        family.assert_parity(&evaluator, &variables, device);
    }
}

#[test]
fn values_of_an_encoder_are_those_of_pytorch() {
    assert_values(Family::text("bert"));
}

#[test]
fn values_of_causal_language_models_are_those_of_pytorch() {
    assert_values(Family::text("llama"));
    assert_values(Family::text("qwen2"));
}

#[test]
fn values_of_a_table_masked_at_the_input_are_those_of_pytorch() {
    assert_values(Family::table());
}

#[test]
fn two_architectures_are_masked_at_the_same_patches() {
    let Some(family) = Family::images() else { return };
    for device in common::devices() {
        let evaluator = family.start("probe-rule.safetensors", device).unwrap();
        let variables = evaluator.choose(family.pair(0)).wait().unwrap().unwrap();
        let Assignment::Patches { chosen, .. } = &variables.assignment else {
            panic!("{variables:?}")
        };
        let chosen: Vec<Vec<f64>> =
            chosen.iter().map(|row| row.iter().map(|&patch| patch as f64).collect()).collect();
        assert_eq!(chosen, family.expected("chosen"));
        family.assert_parity(&evaluator, &variables, device);
    }
}

/// The values of both networks at both steps on some devices, with a cache of their own; and what rows went through each
/// device for them.
fn values_on(
    family: &Family,
    devices: &[DeviceChoice],
    change: &dyn Fn(&mut Settings),
) -> (Vec<ProbeValues>, Vec<u64>) {
    let cache = tempfile::tempdir().unwrap();
    let evaluator = family.start_with("probe-rule.safetensors", cache.path(), |settings| {
        settings.devices = devices.to_vec();
        change(settings);
    });
    let evaluator = evaluator.unwrap();
    assert_eq!(evaluator.devices().len(), devices.len());
    let variables = evaluator.choose(family.pair(0)).wait().unwrap().unwrap();
    let before = evaluator.rows_by_device();
    let evaluate = |source| {
        let evaluated = evaluator.evaluate(source, &variables).wait().unwrap();
        assert!(evaluated.rows > 0 && evaluated.cached.is_kept);
        evaluated.values
    };
    let values: Vec<_> = family.pair(1).into_iter().chain(family.pair(0)).map(evaluate).collect();
    assert_eq!(evaluator.devices().len(), devices.len(), "none was given up");
    let after = evaluator.rows_by_device();
    (values, after.iter().zip(before).map(|(after, before)| after - before).collect())
}

#[test]
fn several_devices_give_what_one_gives_to_the_last_bit() {
    let text = ["bert", "llama"].map(Family::text);
    let gpus = [DeviceChoice::Cuda(0), DeviceChoice::Cuda(1)];
    let mut shares = vec![0; 3];
    for family in text.into_iter().chain([Family::table(), Family::images()]).flatten() {
        // Ends of batches fall on those of samples, or not; by default as many as suit.
        for batch in [Some(BATCH), Some(7), Some(64), None] {
            let change = |settings: &mut Settings| settings.batch = batch;
            let (one, rows) = values_on(&family, &[DeviceChoice::Cpu], &change);
            assert_eq!((one[0].values.len(), one[0].logits.len()), (SAMPLES, SAMPLES));
            assert_ne!(one[0], one[2], "of two checkpoints");
            for count in [2, 3] {
                let (several, by_device) =
                    values_on(&family, &vec![DeviceChoice::Cpu; count], &change);
                assert_eq!(several, one, "{:?}, batch {batch:?}", family.directory);
                assert_eq!(by_device.iter().sum::<u64>(), rows[0], "each row once");
                shares.iter_mut().zip(by_device).for_each(|(share, rows)| *share += rows);
            }
            if convergd::network::device::cuda_devices() > 1 {
                let (one, _) = values_on(&family, &gpus[..1], &change);
                assert_eq!(values_on(&family, &gpus, &change).0, one, "on two GPUs");
            }
        }
        let change = |settings: &mut Settings| settings.precision = Precision::Bf16;
        let (one, _) = values_on(&family, &[DeviceChoice::Cpu], &change);
        assert!(!one[0].reference.is_empty() && one[0].reference[0] != one[0].values[0]);
        assert_eq!(values_on(&family, &[DeviceChoice::Cpu; 2], &change).0, one, "in bfloat16");
        if common::devices().len() > 1 {
            // TF32 belongs to the process.
            let change = |settings: &mut Settings| settings.precision = Precision::Tf32;
            let gpus =
                if convergd::network::device::cuda_devices() > 1 { &gpus } else { &gpus[..1] };
            let (one, _) = values_on(&family, &gpus[..1], &change);
            assert_eq!(values_on(&family, gpus, &change).0, one, "in TF32");
        }
    }
    if fixtures().is_some() {
        eprintln!("rows by device: {shares:?}");
        assert!(shares.iter().all(|rows| *rows > 0), "{shares:?}");
    }
}

#[test]
fn little_memory_changes_the_batches_and_nothing_else() {
    for family in [Family::text("bert"), Family::images()].into_iter().flatten() {
        let (usual, _) =
            values_on(&family, &[DeviceChoice::Cpu], &|settings| settings.batch = None);
        let (little, _) = values_on(&family, &[DeviceChoice::Cpu], &|settings| {
            settings.batch = None;
            // Not enough for one row, which is tried all the same.
            settings.memory = 1e-12;
        });
        for (little, usual) in little.iter().zip(&usual) {
            let apart = largest_difference(&little.values, &usual.values);
            // Kernels for one row round otherwise.
            assert!(apart < TOLERANCE, "{apart}");
        }
    }
}

#[test]
fn a_run_follows_each_family() {
    let text = ["bert", "llama", "qwen2"].map(Family::text);
    for family in text.into_iter().chain([Family::table(), Family::images()]).flatten() {
        for device in common::devices() {
            family.assert_run(device);
        }
    }
}

#[test]
fn a_sample_with_too_few_tokens_is_named() {
    let Some(mut family) = Family::text("bert") else { return };
    // The third sample has 9 tokens, two of them special.
    family.rule = VariableRule::Tokens { select: 8, exclude_ids: SPECIAL.to_vec() };
    let Err(error) = family.start("probe-rule.safetensors", DeviceChoice::Cpu) else {
        panic!("not refused")
    };
    let text = error.to_string();
    assert!(text.contains("at sample 2 only 7 tokens"), "{text}");
    assert!(text.contains("leave the sample out"), "{text}");
}

#[test]
fn a_probe_without_an_input_of_the_program_is_refused() {
    let (Some(text), Some(mut table)) = (Family::text("llama"), Family::table()) else { return };
    // The programs of the language model with the probe of the table.
    let probe = table.directory.join("probe.safetensors").display().to_string();
    table.directory = text.directory;
    let Err(error) = table.start(&probe, DeviceChoice::Cpu) else { panic!("not refused") };
    let text = error.to_string();
    assert!(
        text.contains("no tensor `attention_mask`") && text.contains("`convergd.make_probe`"),
        "{text}"
    );
}
