//! A control directory that cannot be written: decisions are kept and delivered later.

use crate::bench::{Bench, assert_says, eventually};
use serde_json::{Value, json};

/// A run that stops at its first pair, with a file where the control directory should be.
fn obstructed() -> Option<Bench> {
    let bench = Bench::with_steps(&[1])?;
    bench.configure(&[("step: 100", "step: 1")]);
    std::fs::write(bench.path("control"), "in the way").unwrap();
    Some(bench)
}

fn is_delivered(bench: &Bench) -> bool {
    let rows = bench.rows("SELECT delivered FROM decision");
    assert_eq!(rows.len(), 1);
    rows[0][0] != "NULL"
}

fn control(bench: &Bench) -> Value {
    let text = std::fs::read_to_string(bench.path("control/control.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_undelivered_decision_is_kept_and_delivered_when_the_obstacle_is_gone() {
    let Some(bench) = obstructed() else { return };
    let mut running = bench.follow();
    running.says("the decision is kept and tried again");
    let file = bench.path("control/control.json").display().to_string();
    running.says(&format!("control file `{file}` cannot be written: "));
    assert!(!is_delivered(&bench));
    let status = bench.status();
    assert_eq!((&status["stopped"], &status["delivered"]), (&json!(true), &json!(null)));
    let text = bench.command(&["status", "-c", "run.yaml"]);
    assert!(text.expect(0, &[]).out.contains("not delivered"), "{}", text.out);

    std::fs::remove_file(bench.path("control")).unwrap();
    eventually("the decision is delivered", || is_delivered(&bench));
    let control = control(&bench);
    assert_eq!((&control["action"], &control["decision_id"]), (&json!("stop"), &json!("budget@1")));
    for network in ["target", "baseline"] {
        let answer = json!({"schema": 1, "generation": control["generation"], "step": 2});
        let file = bench.path("control").join(format!("ack-{network}.json"));
        std::fs::write(file, answer.to_string()).unwrap();
    }
    let finished = running.finish();
    finished.expect(10, &["early-stopped"]);
    let said = finished.err.matches("the decision is kept and tried again").count();
    assert_eq!(said, 1, "it is said once, not at every try");
}

#[test]
fn a_run_that_cannot_begin_leaves_the_decision_of_another() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("{reached: {step: 100}}", "{reached: {step: 1}}")]);
    bench.once().expect(10, &["early-stopped"]);
    let decided = control(&bench);
    assert_eq!(decided["action"], json!("stop"));
    let text = std::fs::read_to_string(bench.path("run.yaml")).unwrap();
    let another = text.replace("state: state", "state: another");
    let another = another.replace("checkpoints: target", "checkpoints: nowhere");
    std::fs::write(bench.path("another.yaml"), another).unwrap();
    let finished = bench.command(&["run", "--once", "-c", "another.yaml"]);
    finished.expect(65, &["nowhere` is not there yet"]);
    assert_eq!(control(&bench), decided);
    bench.once().expect(10, &["was stopped before"]);
}

#[test]
fn a_decision_that_outlives_its_process_is_delivered_by_the_next() {
    let Some(bench) = obstructed() else { return };
    bench.once().expect(10, &["cannot be written", "the decision is kept"]);
    assert!(!is_delivered(&bench));
    bench.once().expect(10, &["cannot be written", "was stopped before"]);
    assert!(!is_delivered(&bench));
    std::fs::remove_file(bench.path("control")).unwrap();
    bench.once().expect(10, &["was stopped before"]);
    assert!(is_delivered(&bench));
    assert_eq!(control(&bench)["action"], json!("stop"));
    assert_eq!(bench.pairs().len(), 1, "nothing is decided twice");
}

#[test]
fn a_dry_run_tells_nobody_however_often_it_is_started() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("step: 100", "step: 1")]);
    for _ in 0..2 {
        bench.command(&["run", "--once", "--dry-run", "-c", "run.yaml"]).expect(10, &[]);
        assert!(!is_delivered(&bench) && !bench.path("control").exists());
    }
}

#[test]
fn two_runs_cannot_deliver_to_one_control_directory() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let mut first = bench.follow();
    first.says("started");
    bench.configure(&[("state: state", "state: other")]);
    let pid = format!("(process {})", first.pid());
    bench.once().expect(75, &["control directory `", "is held by another convergd", &pid]);
    let held = format!("is held by the run of process {}", first.pid());
    let doctor = bench.command(&["doctor", "-c", "run.yaml"]);
    doctor.expect(75, &[]);
    assert_says(&doctor.out, &["BAD   control: `", &held]);
    // One that tells nobody may look on.
    let mut dry = bench.start(&["run", "--dry-run", "-c", "run.yaml"]);
    dry.says("started");
    dry.terminate();
    dry.finish().expect(0, &[]);
    // Nor may a person's decision of another run come between.
    let Some(other) = Bench::with_steps(&[1]) else { return };
    other.once().expect(0, &[]);
    let shared = format!("control: {{directory: {}", bench.path("control").display());
    other.configure(&[("control: {directory: control", &shared)]);
    other.command(&["stop", "-c", "run.yaml"]).expect(75, &["control directory `", &pid]);
    first.terminate();
    first.finish().expect(0, &[]);
    bench.once().expect(0, &[]);
    bench.command(&["stop", "-c", "run.yaml"]).expect(0, &[]);
    let said = "another run has used it since";
    other.command(&["stop", "-c", "run.yaml"]).expect(64, &["control directory `", said]);
    assert_eq!(other.status()["stopped"], false);
}

#[test]
fn status_says_whether_a_run_is_at_work_and_what_its_rules_wait_for() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let rule = "- {id: peak, when: {peaked: {metric: probe_loss, patience: {checks: 9}}}, then: {stop: {}}}\n    \
                - {id: late, warmup: {checks: 7}, when: {not_finite: {}}, then: {stop: {}}}\n    - {id: budget";
    bench.configure(&[("- {id: budget", rule)]);
    let running = bench.follow();
    eventually("the pair is evaluated", || bench.pairs().len() == 1);
    let text = |bench: &Bench| {
        let finished = bench.command(&["status", "-c", "run.yaml"]);
        finished.expect(0, &[]).out.clone()
    };
    let at_work = format!(", at work as process {}", running.pid());
    assert_says(
        &text(&bench),
        &[
            &at_work,
            "rule        peak: `probe_loss` is best at step 1: ",
            "rule        late: is warming up: 1 of 7 checks",
            "rule        budget: step 1 has not reached the budget of 100 steps",
        ],
    );
    assert_eq!(bench.status()["at_work"], true);
    running.terminate();
    running.finish().expect(0, &[]);
    assert_says(&text(&bench), &[", not at work"]);
    let status = bench.status();
    assert_eq!(
        (&status["at_work"], &status["rules"][0]["rule"]),
        (&false.into(), &"budget".into())
    );
    // When the run is stopped, it says why the others had not done so.
    bench.configure(&[("- {id: budget", rule), ("step: 100", "step: 2")]);
    for network in ["target", "baseline"] {
        bench.add_step(network, 2);
    }
    bench.once().expect(10, &["early-stopped"]);
    let said = text(&bench);
    assert_says(
        &said,
        &[
            "rule        peak, at the stop: `probe_loss` ",
            "rule        late, at the stop: is warming up: 2 of 7",
        ],
    );
    assert!(!said.contains("rule        budget"), "{said}");
}

#[test]
fn training_has_ended_when_the_processes_of_both_trainers_are_gone() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("compute:", "end: {processes: 1s}\ncompute:")]);
    let running = bench.follow();
    eventually("the control file is there", || bench.path("control/control.json").exists());
    eventually("the pair is evaluated", || bench.pairs().len() == 1);
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/python");
    let code = "\
import sys
sys.path.insert(0, sys.argv[1])
from convergd import Control
Control('control', network=sys.argv[2]).poll(1)";
    bench.python(code, &[package, "target"]);
    bench.python(code, &[package, "baseline"]);
    running.finish().expect(0, &["training has ended: its processes have been gone"]);
    let ended = bench.status()["ended"].clone();
    assert!(ended.as_str().unwrap().contains("`end.processes` 1s"), "{ended}");
}
