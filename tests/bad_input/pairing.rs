//! Which checkpoints become pairs, and what is said of those that do not.

use crate::bench::{Bench, assert_says, eventually};

const FIXED: (&str, &str) =
    ("baseline: {checkpoints: baseline}", "baseline: {fixed: baseline/step-00000001.safetensors}");

#[test]
fn a_fixed_baseline_is_evaluated_with_every_checkpoint_and_left_where_it_is() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    bench.once().expect(0, &[]);
    let both_trained = bench.pairs();
    std::fs::remove_dir_all(bench.path("state")).unwrap();
    let file = bench.path("baseline/step-00000001.safetensors");
    let before = std::fs::read(&file).unwrap();
    let impatient = ("compute:", "pairing: {stale: 1ms}\ncompute:");
    bench.configure(&[FIXED, impatient]);
    let running = bench.follow();
    eventually("both pairs are evaluated", || bench.pairs().len() == 2);
    assert_eq!(bench.pairs()[0], both_trained[0], "the same two networks");
    assert_ne!(bench.pairs()[1], both_trained[1], "another than the one of step 2");
    // Only the target is trained, so only the target ends.
    std::fs::write(bench.path("control/done-target"), "{}").unwrap();
    let finished = running.finish();
    finished.expect(0, &["training has ended: `done-target` in the control directory"]);
    assert!(!finished.err.contains("pairing.stale"), "{}", finished.err);
    let paths = bench.rows("SELECT DISTINCT baseline FROM pair");
    assert_eq!(paths, [[file.display().to_string()]]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    bench.assert_no_pins();
    let ended = bench.status()["ended"].clone();
    assert_eq!(ended, "`done-target` in the control directory");
    // It is part of the run, like the directories.
    bench.put("baseline/step-00000002.safetensors", "baseline/step-00000001.safetensors");
    bench.once().expect(64, &["was begun with baseline checkpoint", "give a new `state`"]);
}

#[test]
fn a_fixed_baseline_that_cannot_be_used_is_refused_at_once() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[FIXED]);
    let file = bench.path("baseline/step-00000001.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    bench.once().expect(65, &[file.to_str().unwrap(), "truncated", "networks.baseline.fixed"]);
    std::fs::remove_file(&file).unwrap();
    bench.once().expect(65, &[file.to_str().unwrap(), "No such file", "networks.baseline.fixed"]);
    bench.python("import torch; torch.save({'a': torch.ones(2)}, 'saved.pt')", &[]);
    bench.configure(&[(FIXED.0, "baseline: {fixed: saved.pt}")]);
    bench
        .once()
        .expect(65, &["saved.pt` is no checkpoint of `layout: safetensors`", "`layout: torch`"]);
    bench.configure(&[(
        "target: {checkpoints: target}",
        "target: {fixed: target/step-1.safetensors}",
    )]);
    bench.once().expect(64, &["networks.target.fixed", "for the baseline alone"]);
    let both = ("{checkpoints: baseline}", "{checkpoints: baseline, fixed: other.safetensors}");
    bench.configure(&[both]);
    bench.once().expect(64, &["networks.baseline.fixed", "instead of a training"]);
}

#[test]
fn once_without_any_pair_says_why_and_status_tells_each_reason() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let bad = bench.path("baseline/step-00000001.safetensors");
    let bytes = std::fs::read(&bad).unwrap();
    std::fs::write(&bad, &bytes[..100]).unwrap();
    let parts = ["no pair could be evaluated: 1 quarantined and 1 skipped checkpoints"];
    bench.once().expect(65, &parts).expect(65, &[bad.to_str().unwrap(), "convergd status"]);
    let (_, reason) = bench.checkpoint("target", 1);
    assert_eq!(reason, "its partner was quarantined");
    let status = bench.status();
    let aside = status["set_aside"].as_array().unwrap();
    let outcomes: Vec<_> = aside.iter().map(|row| (&row["network"], &row["outcome"])).collect();
    assert_eq!(
        format!("{outcomes:?}"),
        r#"[(String("baseline"), String("quarantined")), (String("target"), String("skipped"))]"#
    );
    let shown = bench.command(&["status", "-c", "run.yaml"]);
    assert_says(&shown.out, &["target 1 skipped: ", "its partner was quarantined", "truncated"]);
}

#[test]
fn partners_within_the_tolerance_are_evaluated_at_the_targets_step() {
    let Some(bench) = Bench::empty() else { return };
    for (network, steps) in [("target", [10, 20]), ("baseline", [11, 19])] {
        for (fixture, step) in [1, 2].into_iter().zip(steps) {
            let from = format!("{network}/step-{fixture:08}.safetensors");
            bench.put(&from, &format!("{network}/step-{step}.safetensors"));
        }
    }
    bench.configure(&[("compute:", "pairing: {tolerance: 2}\ncompute:")]);
    bench.once().expect(0, &[]);
    let steps: Vec<_> = bench.pairs().into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(steps, ["10", "20"]);
    // Both are dealt with: nothing is left to do, and nothing is said to be late.
    bench.once().expect(0, &[]);
    assert_eq!(bench.rows("SELECT DISTINCT outcome FROM checkpoint"), [["evaluated"]]);
}

#[test]
fn every_n_evaluates_the_first_the_multiples_and_the_last() {
    let Some(bench) = Bench::empty() else { return };
    for network in ["target", "baseline"] {
        for step in 1..=5 {
            let from = format!("{network}/step-{:08}.safetensors", 1 + step % 2);
            bench.put(&from, &format!("{network}/step-{step}.safetensors"));
        }
    }
    bench.configure(&[("compute:", "pairing: {order: {every_n: 3}}\ncompute:")]);
    bench.once().expect(0, &[]);
    let steps: Vec<_> = bench.pairs().into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(steps, ["1", "3", "5"]);
    let (outcome, reason) = bench.checkpoint("target", 4);
    assert_eq!((outcome.as_str(), reason.as_str()), ("skipped", "`order: every_n` passes it over"));
    bench.assert_no_pins();
}
