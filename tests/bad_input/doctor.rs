//! `doctor` looks at the checkpoints that are there, and says what `run --once` would say.

use crate::bench::{Bench, assert_says};

fn doctor(bench: &Bench, code: i32, parts: &[&str]) {
    let finished = bench.command(&["doctor", "-c", "run.yaml"]);
    finished.expect(code, &[]);
    assert_says(&finished.out, parts);
}

/// A state dict in place of the target's checkpoint.
const CONVERT: &str = "\
import pathlib, torch
from safetensors.torch import load_file
file = pathlib.Path('target/step-00000001.safetensors')
torch.save(load_file(file), 'target/step-1.pt')
file.unlink()";

#[test]
fn complete_checkpoints_are_counted_and_damaged_ones_named() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    let complete = |count: &str| format!("target checkpoints: {count} in `");
    doctor(&bench, 0, &[&complete("2 of 2"), "are complete, of `layout: safetensors`"]);
    bench.put("checkpoints/truncated.safetensors", "target/step-00000002.safetensors");
    let damaged = ["warn  target checkpoints: `", "step-00000002.safetensors` is ", "truncated"];
    doctor(&bench, 0, &damaged);
    doctor(&bench, 0, &[&complete("1 of 2"), "baseline checkpoints: 2 of 2"]);
    bench.put("checkpoints/text.safetensors", "target/step-00000001.safetensors");
    let none = [&complete("0 of 2")[..], "BAD   target checkpoints: `", "is no safetensors file"];
    doctor(&bench, 65, &none);
}

#[test]
fn more_threads_than_cores_are_told() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    assert!(!bench.command(&["doctor", "-c", "run.yaml"]).out.contains("`compute.threads`"));
    bench.configure(&[("{device: cpu}", "{device: cpu, threads: 1024}")]);
    doctor(&bench, 0, &["warn  configuration: `compute.threads` is 1024, and there are "]);
}

#[test]
fn another_layout_is_said_in_the_words_of_run() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.python(CONVERT, &[]);
    let once = bench.once();
    once.expect(65, &["holds no checkpoint of `layout: safetensors`, but `step-1.pt`, which is a"]);
    let said = once.err.split("target network: ").nth(1).unwrap().trim();
    doctor(&bench, 65, &[&format!("BAD   target checkpoints: {said}")]);
}

/// A training that saves `torch.save`, and one file that was left there.
#[test]
fn what_the_layout_leaves_out_is_said_beside_what_it_reads() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    let left_out = "; left out is `step-2.pt`, a file of `torch.save`";
    let without = bench.command(&["doctor", "-c", "run.yaml"]);
    assert!(!without.out.contains("left out"), "{}", without.out);
    bench.python(&CONVERT.replace("-1", "-2").replace("01", "02"), &[]);
    doctor(&bench, 0, &["target checkpoints: 2 of 2", left_out, "`layout: torch`"]);
    // A run says nothing of it: trainers leave the state of their optimizer there, too.
    let once = bench.once();
    once.expect(0, &[]);
    assert!(!once.err.contains("step-2.pt"), "{}", once.err);
}

#[test]
fn check_says_that_it_does_not_look_at_files() {
    let Some(bench) = Bench::empty() else { return };
    let finished = bench.command(&["check", "-c", "run.yaml"]);
    finished.expect(0, &[]);
    assert_says(&finished.out, &["run.yaml is valid", "`convergd doctor -c run.yaml` does"]);
}

#[test]
fn what_does_not_fit_together_is_found_before_the_run() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    doctor(&bench, 0, &["programs and 6 probe samples fit each other on cpu"]);
    doctor(&bench, 0, &["the newest checkpoints load and give outputs"]);
    bench.put("checkpoints/misshapen.safetensors", "target/step-00000002.safetensors");
    let misshapen =
        ["BAD   networks: checkpoint `", "step-00000002.safetensors` has `last.weight`"];
    doctor(&bench, 65, &misshapen);
    bench.put("checkpoints/nan.safetensors", "target/step-00000002.safetensors");
    doctor(&bench, 0, &["warn  networks: the outputs of the newest checkpoints are not finite"]);
    bench.configure(&[("{device: cpu}", "{device: cpu, precision: tf32}")]);
    doctor(&bench, 69, &["BAD   networks: `compute.precision: tf32` is of NVIDIA GPUs"]);
    bench.configure(&[]);
    bench.put("programs/narrow.ts", "program.ts");
    doctor(&bench, 65, &["BAD   networks: program `", "fails on a probe sample of shape [1, 8]"]);
}
