//! Probes and programs that cannot be used: refused at the start, before anything is evaluated.

use crate::bench::{Bench, assert_says};

#[track_caller]
fn assert_refused(bench: &Bench, file: &str, parts: &[&str]) {
    let finished = bench.command(&["run", "-c", "run.yaml"]);
    assert_eq!(finished.code, Some(65), "{file}: {}", finished.err);
    let message = finished.err.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert_says(message, &[file]);
    assert_says(message, parts);
    assert!(!message.contains("Traceback"), "{message}");
    assert!(bench.pairs().is_empty());
    assert!(!bench.path("control").exists(), "trainers are told nothing");
}

#[test]
fn a_bad_probe_is_refused_with_its_tensor_and_value() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    for (name, parts) in [
        ("labels_short", &["`labels` of shape [5]", "needs int64 [6]"][..]),
        ("labels_float", &["`labels`", "type Float", "needs int64 [6]"]),
        ("labels_negative", &["label -1 at sample 4", "0 or more"]),
        ("labels_too_large", &["label 3 at sample 4", "has 3 classes", "count from 0"]),
        ("inputs_absent", &["no tensor `inputs`", "images", "`convergd.make_probe`"]),
        ("inputs_one_dimension", &["`inputs` of shape [6]", "[samples, …]"]),
        ("inputs_empty", &["`inputs` of shape [0, 8]", "at least 1 sample"]),
        ("inputs_nan", &["`inputs` with NaN at [4, 5]", "must be finite"]),
        ("variables_narrow", &["`variables` for 7 positions", "features have 8", "-1 where"]),
        ("variables_short", &["`variables` of shape [5, 8]", "needs int64 [6, positions]"]),
        ("variables_gap", &["no position of variable 2 at sample 0"]),
        ("variables_many", &["`variables` that name 22 variables", "2 to 16"]),
        ("text", &["is no safetensors file", "`convergd.make_probe`"]),
    ] {
        bench.put(&format!("probes/{name}.safetensors"), "probe.safetensors");
        assert_refused(&bench, "probe.safetensors`", parts);
    }
}

#[test]
fn a_baseline_that_does_not_fit_is_refused() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("{columns: {groups: 4}}", "{columns: {groups: 4}}\n  baseline: file")]);
    let parts = ["has no tensor `baseline`", "`probe.baseline` is `file`", "or take `zero`"];
    assert_refused(&bench, "probe.safetensors`", &parts);
    bench.put("probes/baseline_misshapen.safetensors", "probe.safetensors");
    let parts = ["`baseline` of shape [5]", "features of shape [1, 8]"];
    assert_refused(&bench, "probe.safetensors`", &parts);
}

#[test]
fn rules_for_variables_that_do_not_fit_the_features_are_refused() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("{columns: {groups: 4}}", "{columns: {groups: 9}}")]);
    assert_refused(&bench, "program.ts`", &["8 positions", "9 variables", "fewer `groups`"]);
    bench.configure(&[("{columns: {groups: 4}}", "{image_patches: {grid: 4, select: 4}}")]);
    assert_refused(&bench, "program.ts`", &["of shape [1, 8]", "[1, C, H, W]", "use `columns`"]);
}

#[test]
fn a_bad_program_is_refused_with_what_to_try() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    for (name, parts) in [
        ("no_methods", &["neither the methods `features` and `head` nor `forward`"][..]),
        ("only_features", &["has the method `features` but no `head`"]),
        ("two_inputs", &["a probe sample of shape [1, 8]", "missing value for argument 'y'"]),
        ("two_outputs", &["a probe sample of shape [1, 8]", "did not return a tensor"]),
        ("narrow", &["a probe sample of shape [1, 8]", "cannot be multiplied (1x8 and 5x8)"]),
        ("text", &["is no complete TorchScript file", "not a ZIP archive"]),
        ("truncated", &["is no complete TorchScript file"]),
        ("state_dict", &["is no complete TorchScript file", "constants.pkl"]),
    ] {
        bench.put(&format!("programs/{name}.ts"), "program.ts");
        let parts = [parts, &["write it with `convergd.export_program`"]].concat();
        assert_refused(&bench, "program.ts`", &parts);
    }
    // One error, whichever device has it first.
    bench.configure(&[("{device: cpu}", "{devices: [cpu, cpu, cpu]}")]);
    bench.put("programs/truncated.ts", "program.ts");
    assert_refused(&bench, "program.ts`", &["is no complete TorchScript file"]);
    bench.put("programs/one_logit.ts", "program.ts");
    assert_refused(&bench, "program.ts`", &["logits of shape [1, 1]", "2 classes or more"]);
    bench.put("program.ts", "program.ts");
    bench.put("probes/inputs_integer.safetensors", "probe.safetensors");
    assert_refused(&bench, "program.ts`", &["sample of shape [1, 8] and type Int64", "dtype"]);
    std::fs::remove_file(bench.path("program.ts")).unwrap();
    assert_refused(&bench, "program.ts`", &["No such file", "`convergd.export_program`"]);
}
