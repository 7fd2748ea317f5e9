//! The best checkpoints are there when a decision names them, whatever their trainer has done since.

use crate::bench::{Bench, eventually};
use std::path::Path;

/// Of the fixtures the first pair has the largest ratio.
const PEAKED: &str = "rules:
    - id: peak
      when: {peaked: {metric: convergent_ratio, patience: {checks: 2}}}
      then: {stop: {}}";

fn following() -> Option<(Bench, crate::bench::Running)> {
    let bench = Bench::empty()?;
    bench.configure(&[("rules:", PEAKED), ("acknowledge: 60s", "acknowledge: 100ms")]);
    let running = bench.follow();
    Some((bench, running))
}

fn add_pair(bench: &Bench, step: u64) {
    bench.add_step("target", step);
    bench.add_step("baseline", step);
    eventually("the pair is evaluated", || bench.pairs().len() == step as usize);
}

/// What the control file names as the best of a network, and whether it is the checkpoint of the first step.
#[track_caller]
fn assert_best(bench: &Bench, network: &str, path: &Path) {
    let text = std::fs::read_to_string(bench.path("control/control.json")).unwrap();
    let control: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(control["best"]["step"], 1, "{control}");
    assert_eq!(control["best"][network], path.display().to_string(), "{control}");
    let name = format!("{network}/step-00000001.safetensors");
    assert_eq!(std::fs::read(path).unwrap(), bench.fixture(&name));
}

#[test]
fn the_best_is_kept_where_its_trainer_keeps_only_the_last() {
    let Some((bench, running)) = following() else { return };
    for step in 1..=3 {
        add_pair(&bench, step);
        std::fs::remove_file(bench.path(&format!("target/step-{step:08}.safetensors"))).unwrap();
    }
    running.finish().expect(10, &["decided: `convergent_ratio` peaked"]);
    assert_best(&bench, "target", &bench.path("state/best/1/target/step-00000001.safetensors"));
    assert_best(&bench, "baseline", &bench.path("baseline/step-00000001.safetensors"));
    let kept = std::fs::read_dir(bench.path("state/best")).unwrap().count();
    assert_eq!(kept, 1, "one pair is kept");
}

#[test]
fn another_file_under_the_name_of_the_best_is_not_taken_for_it() {
    let Some((bench, running)) = following() else { return };
    let name = "target/step-00000001.safetensors";
    add_pair(&bench, 1);
    // By rename: the kept link holds what was there before.
    bench.put("checkpoints/other.safetensors", name);
    add_pair(&bench, 2);
    add_pair(&bench, 3);
    running.finish().expect(10, &[]);
    assert_best(&bench, "target", &bench.path("state/best/1").join(name));
}

#[test]
fn a_best_that_was_written_over_in_place_is_gone() {
    let Some((bench, running)) = following() else { return };
    add_pair(&bench, 1);
    let other = bench.fixture("checkpoints/other.safetensors");
    std::fs::write(bench.path("target/step-00000001.safetensors"), other).unwrap();
    add_pair(&bench, 2);
    add_pair(&bench, 3);
    running.finish().expect(10, &[]);
    let text = std::fs::read_to_string(bench.path("control/control.json")).unwrap();
    let control: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(control["best"]["target"], serde_json::Value::Null, "{control}");
}
