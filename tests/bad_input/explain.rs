//! `convergd explain`: a sample of a stored pair in every format, and what cannot be explained.

use crate::bench::{Bench, assert_says};
use serde_json::Value;

fn explain(bench: &Bench, arguments: &[&str]) -> crate::bench::Finished {
    bench.command(&[&["explain", "-c", "run.yaml"], arguments].concat())
}

#[track_caller]
fn explained(bench: &Bench, arguments: &[&str]) -> Value {
    let finished = explain(bench, &[arguments, &["--format", "json"]].concat());
    finished.expect(0, &[]);
    serde_json::from_str(&finished.out).unwrap()
}

#[test]
fn a_sample_is_explained_in_every_format() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    bench.once().expect(0, &[]);
    let value = explained(&bench, &["--sample", "4"]);
    // No rule has decided, so it is the last pair.
    assert_eq!(
        (&value["step"], &value["samples"], &value["class"]),
        (&3.into(), &6.into(), &1.into())
    );
    assert_eq!(value["notes"], Value::Array(Vec::new()));
    assert_eq!(value["variables"][1]["name"], "columns 1, 5, 9, …");
    for network in ["target", "baseline"] {
        let network = &value["networks"][network];
        assert_eq!(network["faithful"], true, "{network}");
        assert_eq!(network["certificate"]["status"], "exact");
        let output = network["full"].as_f64().unwrap() - network["empty"].as_f64().unwrap();
        assert!((network["noise"].as_f64().unwrap() - 0.01 * output.abs()).abs() < 1e-9);
    }
    let interactions = value["interactions"].as_array().unwrap();
    assert!(!interactions.is_empty());
    let text = explain(&bench, &["--sample", "4", "--top", "1"]);
    text.expect(0, &[]);
    assert_says(&text.out, &["step 3, sample 4 (of 0 to 5), class 1", "columns 1, 5, 9, …"]);
    assert_says(&text.out, &[&format!("the 1 strongest of {}", interactions.len())]);
    assert_says(&text.out, &[interactions[0]["verdict"].as_str().unwrap()]);
    assert!(text.out.lines().all(|line| line.chars().count() <= 100), "{}", text.out);
    for (format, file, first) in
        [("svg", "x.svg", "<svg"), ("html", "new/x.html", "<!DOCTYPE html>")]
    {
        let finished = explain(&bench, &["--format", format, "-o", file]);
        finished.expect(0, &[]);
        assert_says(&finished.out, &[file]);
        let written = std::fs::read_to_string(bench.path(file)).unwrap();
        assert!(written.starts_with(first) && written.contains("</svg>"), "{written}");
        assert!(!written.contains("https:") && !written.contains("<script"));
    }
    assert_eq!(explained(&bench, &["--step", "1"])["step"], 1);
}

#[test]
fn without_a_step_it_is_the_best_of_the_last_decision() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    let rules = "{id: budget, when: {reached: {step: 100}}, then: {stop: {}}}";
    let mark = "{id: mark, when: {reached: {step: 2}}, then: {mark_best: {}}}";
    let end = "{id: end, when: {reached: {step: 3}}, then: {stop: {}}}";
    bench.configure(&[(rules, &format!("{mark}\n    - {end}"))]);
    bench.once().expect(10, &[]);
    assert_eq!(bench.status()["decisions"][0]["best_step"], 2);
    assert_eq!(explained(&bench, &[])["step"], 2);
}

#[test]
fn what_is_not_there_is_told_with_what_there_is() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    explain(&bench, &[]).expect(65, &["holds no history yet"]);
    bench.once().expect(0, &[]);
    explain(&bench, &["--step", "7"])
        .expect(64, &["there is no pair of step 7", "the nearest are 1, 2, 3"]);
    explain(&bench, &["--sample", "6"]).expect(64, &["there is no sample 6", "samples 0 to 5"]);
    explain(&bench, &["--format", "svg", "-o", "target"])
        .expect(65, &["target` cannot be written"]);
    // The tables of the second pair are gone.
    let keys = bench.rows("SELECT target_values, baseline_values FROM evidence WHERE step = 2");
    std::fs::remove_file(bench.path(&format!("state/values/{}.safetensors", keys[0][1]))).unwrap();
    explain(&bench, &["--step", "2"]).expect(
        65,
        &[
            "tables of step 2 are not in the value cache any more",
            "that has them (1, 3)",
            "cache: {size",
        ],
    );
    std::fs::remove_dir_all(bench.path("state/values")).unwrap();
    explain(&bench, &[]).expect(65, &["tables of step 3", "no pair near it has its tables either"]);
}

#[test]
fn a_pair_that_is_not_finite_is_not_explained() {
    let Some(bench) = Bench::with_steps(&[1, 3]) else { return };
    bench.put("checkpoints/nan.safetensors", "target/step-00000002.safetensors");
    bench.add_step("baseline", 2);
    bench.once();
    explain(&bench, &["--step", "2"])
        .expect(65, &["step 2 has outputs that are not finite", "`--step` of another pair"]);
    explain(&bench, &["--step", "1"]).expect(0, &[]);
}

#[test]
fn another_probe_file_and_other_settings_are_noted() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    bench.once().expect(0, &[]);
    let before = explained(&bench, &[]);
    bench.configure(&[("noise: 0.01", "noise: 0.3")]);
    bench.put("probes/unlabelled.safetensors", "probe.safetensors");
    let after = explained(&bench, &[]);
    assert_eq!(after["networks"], before["networks"], "the run's own settings hold");
    let notes = after["notes"].to_string();
    assert_says(&notes, &["says `noise` 0.3, but the run was begun with 0.01"]);
    assert_says(&notes, &["is not the one that the run was begun with"]);
    std::fs::remove_file(bench.path("probe.safetensors")).unwrap();
    let text = explain(&bench, &[]);
    text.expect(0, &[]);
    let said = text.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_says(
        &said,
        &["note: the probe file", "cannot be read", "so neither pixels nor words are shown"],
    );
}

/// Writes a probe of token ids with words; what the run's own reader makes of the metadata is nothing.
const WITH_WORDS: &str = "\
import numpy as np
from safetensors.numpy import load_file
from convergd import make_probe
probe = load_file('probe.safetensors')
inputs = probe['inputs'].reshape(6, 4, 2)
words = [['ice', 'melted', 'due', 'to']] * 6
make_probe('words.safetensors', inputs, probe['labels'], words=words)
from safetensors import safe_open
from safetensors.numpy import save_file
with safe_open('words.safetensors', 'np') as file:
    assert 'melted' in file.metadata()['words']
    save_file(probe, 'probe.safetensors', metadata=file.metadata())";

#[test]
fn a_run_reads_a_probe_with_words() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    bench.once().expect(0, &[]);
    let pairs = bench.pairs();
    bench.python(WITH_WORDS, &[]);
    std::fs::remove_dir_all(bench.path("state")).unwrap();
    std::fs::remove_dir_all(bench.path("control")).unwrap();
    bench.once().expect(0, &[]);
    assert_eq!(bench.pairs(), pairs);
    assert_eq!(explained(&bench, &[])["notes"], Value::Array(Vec::new()));
}
