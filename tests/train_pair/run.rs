//! Short trainings, alone with a control file and attached to the real program.

use crate::common::process::{Running, convergd, eventually};
use crate::common::{self};
use crate::example::job::{Arguments, Command as Subcommand, Job};
use crate::example::{networks, trainer};
use crate::samples::write_images;
use clap::Parser;
use convergd::control::{Control, Settings};
use convergd::evaluation::DeviceChoice;
use convergd::role::Role;
use convergd::signal::Document;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the training process of a test finds its arguments.
const ARGUMENTS: &str = "CONVERGD_TEST_TRAIN_PAIR";

struct Run {
    root: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        write_images(&root.path().join("data"), 60, 100);
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn arguments(&self, rest: &[&str]) -> Vec<String> {
        let [run, data] =
            [self.root.path(), &self.path("data")].map(|path| path.display().to_string());
        let own = ["train_pair", "train", "--run", &run, "--data", &data];
        own.iter().chain(&["--rate", "0.003"]).chain(rest).map(|&word| word.to_owned()).collect()
    }

    fn job(&self, rest: &[&str]) -> Job {
        match Arguments::try_parse_from(self.arguments(rest)).unwrap().command {
            Subcommand::Train(job) => job,
            Subcommand::Probe { .. } => panic!("not a training"),
        }
    }

    /// A process of this test program that only trains.
    fn start(&self, rest: &[&str]) -> Running {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "run::a_training_process", "--ignored", "--nocapture"]);
        command.env(ARGUMENTS, self.arguments(rest).join("\n")).env("OMP_WAIT_POLICY", "PASSIVE");
        Running::start(&mut command, self.root.path())
    }

    fn control(&self) -> Control {
        Control::new(Settings::new(self.path("control"), Duration::from_secs(1)))
    }

    fn log(&self, role: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.path(role).join("log.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn lambdas(&self, role: &str) -> Vec<f64> {
        self.log(role).iter().map(|line| line["lambda"].as_f64().unwrap()).collect()
    }

    fn checkpoints(&self, role: &str) -> usize {
        let entries = std::fs::read_dir(self.path(role)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".safetensors")).count()
    }
}

/// No test: what [`Run::start`] starts.
#[test]
#[ignore = "a process of the other tests"]
fn a_training_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let Subcommand::Train(job) = Arguments::parse_from(arguments.lines()).command else { return };
    eprintln!("{}", trainer::train(&job).unwrap());
}

/// λ goes over the ramp to what the control file says, and a stop stops; both are acknowledged by both networks.
#[test]
fn lambda_follows_the_control_file_and_a_stop_stops() {
    for loss in ["interaction", "penalty", "outputs", "features"] {
        let run = Run::new();
        let control = run.control();
        let phase = Document {
            action: "phase".to_owned(),
            phase: "regularized".to_owned(),
            lambda: 0.4,
            ramp: 2,
            at_step: 2,
            ..Document::start(1)
        };
        control.deliver(&phase).unwrap();
        let training = run.start(&[
            "--network",
            "both",
            "--seed",
            "11",
            "--loss",
            loss,
            "--epochs",
            "100000",
            "--batch",
            "25",
            "--min-epoch-seconds",
            "0.02",
        ]);
        let acknowledged = |role| control.acknowledgement(role).map(|own| own.generation);
        eventually("λ is where it goes", || {
            run.path("baseline/log.jsonl").exists() && run.lambdas("baseline").last() == Some(&0.4)
        });
        assert_eq!(Role::BOTH.map(acknowledged), [Some(1); 2]);
        assert!(!control.is_done(Role::Target));
        let stop = Document {
            action: "stop".to_owned(),
            reason: "enough".to_owned(),
            ..Document::start(2)
        };
        control.deliver(&stop).unwrap();
        training.finish().expect(0, &["told to stop: enough"]);
        assert_eq!(Role::BOTH.map(acknowledged), [Some(2); 2]);
        assert!(Role::BOTH.iter().all(|role| control.is_done(*role)));
        let last = control.acknowledgement(Role::Target).unwrap().step;
        for role in ["target", "baseline"] {
            let lambdas = run.lambdas(role);
            let rises =
                [0.0, 0.0, 0.2, 0.4].iter().zip(&lambdas).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(rises, "{loss}: {lambdas:?}");
            assert!(lambdas[4..].iter().all(|&lambda| lambda == 0.4));
            assert_eq!((lambdas.len() as u64, run.checkpoints(role) as u64), (last, last));
        }
    }
}

#[test]
fn a_training_learns_and_ends_by_itself() {
    let run = Run::new();
    let said = trainer::train(&run.job(&["--network", "target", "--seed", "3", "--epochs", "12"]));
    assert_eq!(said.unwrap(), "ended after epoch 12: all 12 epochs done");
    let log = run.log("target");
    assert_eq!(log.len(), 12);
    assert!(log[11]["test_accuracy"].as_f64().unwrap() > 0.9, "{:?}", log[11]);
    assert!(run.control().is_done(Role::Target));
    assert!(!run.path("baseline").exists());
}

#[test]
fn a_pair_learns_on_a_gpu_with_each_loss() {
    if !common::devices().contains(&DeviceChoice::Cuda(0)) {
        return;
    }
    for loss in ["interaction", "penalty", "outputs", "features"] {
        let run = Run::new();
        let phase = Document {
            action: "phase".to_owned(),
            phase: "regularized".to_owned(),
            lambda: 0.4,
            ..Document::start(1)
        };
        run.control().deliver(&phase).unwrap();
        let arguments = ["--network", "both", "--seed", "3", "--epochs", "20", "--loss", loss];
        trainer::train(&run.job(&[&arguments[..], &["--device", "cuda"]].concat())).unwrap();
        for role in ["target", "baseline"] {
            let last = run.log(role).pop().unwrap();
            assert_eq!(last["lambda"], 0.4);
            assert!(last["test_accuracy"].as_f64().unwrap() > 0.9, "{loss}: {last}");
        }
    }
}

#[test]
fn what_cannot_be_trained_is_said() {
    let run = Run::new();
    let fails = |rest: &[&str], part: &str| {
        let error = format!("{:#}", trainer::train(&run.job(rest)).expect_err("refused"));
        assert!(error.contains(part), "`{part}` is not in: {error}");
    };
    let alone = ["--network", "target", "--seed", "1"];
    let with = |rest: &[&'static str]| [&alone[..], rest].concat();
    fails(&with(&["--loss", "interaction"]), "give `--network both`");
    fails(&with(&["--batch", "1"]), "`--batch` at least 2");
    fails(&with(&["--probe-samples", "100"]), "no test image is left");
    fails(&with(&["--architecture", "vgg11"]), "images of 8 pixels a side are too small");
    fails(&with(&["--architecture", "bert-tiny"]), "not samples of shape [1, 8, 8]");
    assert!(!run.path("target").exists(), "nothing was trained");
}

/// Two trainers in Rust and the program: it reads their checkpoints, switches their phase and stops them.
#[test]
fn the_program_switches_and_stops_two_trainers() {
    if !common::has_python() {
        return;
    }
    let run = Run::new();
    let mut export = common::python();
    export.arg(common::root().join("examples/train_pair/export.py")).arg("--run");
    common::succeed(export.arg(run.root.path()));
    let probe = Arguments::parse_from([
        "train_pair",
        "probe",
        "--samples",
        "8",
        "--run",
        path(run.root.path()),
        "--data",
        path(&run.path("data")),
    ]);
    crate::example::execute(probe.command).unwrap();
    let text = "\
state: state
program: program.ts
probe:
  file: probe.safetensors
  variables: {image_patches: {grid: 4, margin: 0, select: 6}}
networks:
  target: {checkpoints: target}
  baseline: {checkpoints: baseline}
compute: {device: cpu, threads: 1}
policy:
  rules:
    - {id: switch, phase: plain, when: {reached: {step: 2}}, then: {phase: {to: regularized, lambda: 0.6, ramp: 2}}}
    - {id: end, phase: regularized, when: {reached: {step: 12}}, then: {stop: {}}}
    - {id: budget, when: {reached: {step: 1000}}, then: {stop: {}}}
control: {directory: control, acknowledge: 60s}
end: {idle: 2m}
";
    std::fs::write(run.path("run.yaml"), text).unwrap();
    let mut command = convergd(&["run", "-c", "run.yaml"]);
    let sidecar = Running::start(command.current_dir(run.root.path()), run.root.path());
    let trainings = [("target", "11"), ("baseline", "22")].map(|(network, seed)| {
        run.start(&[
            "--network",
            network,
            "--seed",
            seed,
            "--epochs",
            "100000",
            "--min-epoch-seconds",
            "0.3",
        ])
    });
    for training in trainings {
        training.finish().expect(0, &["told to stop: "]);
    }
    sidecar.finish().expect(10, &[]);
    for role in ["target", "baseline"] {
        let lambdas = run.lambdas(role);
        assert_eq!(lambdas[..2], [0.0, 0.0]);
        let first = lambdas.iter().position(|&lambda| lambda > 0.0).expect("it was switched");
        assert_eq!(lambdas[first..first + 2], [0.3, 0.6], "{role}");
    }
    let mut status = convergd(&["status", "-c", "run.yaml", "--json"]);
    let status = common::succeed(status.current_dir(run.root.path()));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert!(status["pairs"].as_u64().unwrap() >= 12, "{status}");
    // One of them may come a step further before it reads of the stop.
    for of in status["set_aside"].as_array().unwrap() {
        assert_eq!(of["reason"], "the run was stopped before it", "{status}");
    }
    let decisions = status["decisions"].as_array().unwrap();
    let rules: Vec<_> =
        decisions.iter().map(|decision| decision["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["switch", "end"]);
    let accuracy = status["monitors"]["probe_accuracy"]["value"].as_f64().unwrap();
    assert!(accuracy > 0.5, "the program sees the network that was trained: {accuracy}");
    assert!(networks::Architecture::Small.encoder().is_none());
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
