//! Forward throughput: masked inputs a second of an evaluation, against a bare loop over `head` on
//! batches that were made beforehand.
//!
//! `cargo bench --bench forward -- [--networks target/bench/networks] [--only NAME] [--batch 256]
//! [--threads 1] [--device cpu] [--precision fp32] [--rounds 7]`
//!
//! The networks come from `benches/make_networks.py`; `benches/forward.py` runs this beside the same
//! loop in PyTorch. The two are timed in turn, on the same rows; printed are the median speeds and
//! the median of the ratios of neighbours.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use convergd::evaluation::{Baseline, Precision, Variables};
use convergd::network::sample::samples;
use convergd::network::{
    Batch, Device, MaskedInputs, Probe, Program, device, precision, variables,
};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::Tensor;

fn main() {
    // As in the daemon: the networks have a thread of their own, which is not the first.
    std::thread::spawn(run).join().unwrap();
}

fn run() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let value = |name: &str, default: &str| -> String {
        let place = arguments.iter().position(|argument| argument == name);
        place.map_or(default, |place| &arguments[place + 1]).to_owned()
    };
    let number = |name: &str, default: &str| -> usize { value(name, default).parse().unwrap() };
    device::prepare(number("--threads", "1"));
    let device = device::find(value("--device", "cpu").parse().unwrap()).unwrap();
    let precision: Precision = value("--precision", "fp32").parse().unwrap();
    precision::check(precision, device).unwrap();
    let (batch, rounds) = (number("--batch", "256"), number("--rounds", "7"));
    let root = PathBuf::from(value("--networks", "target/bench/networks"));
    let only = value("--only", "");
    let mut names: Vec<String> = std::fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("{}: {error}; run benches/make_networks.py", root.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| only.is_empty() || *name == only)
        .collect();
    names.sort();
    println!(
        "{:<10}{:>8}{:>8}{:>16}{:>16}{:>8}",
        "network", "rows", "batch", "evaluate rows/s", "bare rows/s", "ratio"
    );
    for name in names {
        let network = Network::load(&root.join(&name), device, precision);
        let (rows, evaluate, bare, ratio) = network.measure(batch, rounds);
        println!("{name:<10}{rows:>8}{batch:>8}{evaluate:>16.0}{bare:>16.0}{ratio:>8.3}");
    }
}

struct Network {
    program: Program,
    probe: Probe,
    variables: Variables,
    baseline: Baseline,
    device: Device,
    precision: Precision,
}

impl Network {
    fn load(directory: &Path, device: Device, precision: Precision) -> Self {
        let probe = Probe::read(&directory.join("probe.safetensors"), None).unwrap();
        let program = Program::load(&directory.join("program.ts"), device, &probe).unwrap();
        let (count, assignment) = variables::from_probe(probe.variables.as_ref().unwrap()).unwrap();
        let classes = probe.labels.clone().unwrap();
        precision::use_float32(device.torch()).unwrap();
        let variables = Variables { count, classes, assignment };
        // The defaults of images and of text.
        let is_text = !program.further().is_empty();
        let baseline = if is_text { Baseline::Mean } else { Baseline::Zero };
        Self { program, probe, variables, baseline, device, precision }
    }

    /// Rows, medians of rows a second of `evaluate` and of the bare loop, median of their ratio.
    fn measure(&self, batch: usize, rounds: usize) -> (usize, f64, f64, f64) {
        let rows = self.probe.samples() << self.variables.count;
        let batches = self.batches(rows, batch);
        // What TorchScript compiles, and the first pages.
        self.evaluate(batch);
        self.bare(&batches);
        let (mut evaluate, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let own = || timed(|| self.evaluate(batch));
            let other = || timed(|| self.bare(&batches));
            // In turn the first.
            let (first, second) = match round % 2 {
                0 => (own(), other()),
                _ => {
                    let second = other();
                    (own(), second)
                }
            };
            evaluate.push(rows as f64 / first);
            bare.push(rows as f64 / second);
            ratios.push(second / first);
        }
        (rows, median(evaluate), median(bare), median(ratios))
    }

    fn evaluate(&self, batch: usize) {
        let Self { program, probe, variables, baseline, device, precision } = self;
        let inputs =
            MaskedInputs::new(program, probe, variables, *baseline, device.torch()).unwrap();
        let mut batch = Batch::given(batch, *device);
        let through = || inputs.through(program, 0..inputs.rows(), &mut batch);
        let all = precision::within(*precision, device.torch(), through).unwrap();
        assert_eq!(all.values.len(), inputs.rows());
    }

    /// Batches of as many rows as `evaluate` sends, of unmasked samples, on the device.
    fn batches(&self, rows: usize, batch: usize) -> Vec<(Tensor, Vec<Tensor>)> {
        let samples = samples(&self.program, &self.probe, self.device.torch()).unwrap();
        let sizes = (0..rows).step_by(batch).map(|start| batch.min(rows - start) as i64);
        let copies = |tensor: &Tensor, size: i64| {
            let mut repeats = vec![1; tensor.dim()];
            repeats[0] = size;
            tensor.repeat(repeats)
        };
        sizes
            .zip(samples.iter().cycle())
            .map(|(size, sample)| {
                let further = sample.further.iter().map(|own| copies(own, size)).collect();
                (copies(&sample.features, size), further)
            })
            .collect()
    }

    fn bare(&self, batches: &[(Tensor, Vec<Tensor>)]) {
        let through = || {
            let mut last = None;
            for (features, further) in batches {
                last = Some(self.program.head(features, further)?);
            }
            Ok(last)
        };
        let last = precision::within(self.precision, self.device.torch(), through).unwrap();
        // The device has finished when this number is here.
        let number = last.unwrap().get(0).get(0).double_value(&[]);
        assert!(number.is_finite());
    }
}

fn timed(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
