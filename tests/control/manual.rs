//! What persons decide, with a run at work and without one.

use crate::bench::{Bench, assert_says, eventually};
use crate::trainer::Trainer;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn control(bench: &Bench) -> Value {
    let text = std::fs::read_to_string(bench.path("control/control.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn replay(bench: &Bench) -> Value {
    let finished = bench.command(&["replay", "--json", "-c", "run.yaml"]);
    finished.expect(0, &[]);
    serde_json::from_str(&finished.out).unwrap()
}

/// Replaying gives exactly the decisions that were made.
#[track_caller]
fn assert_replays(bench: &Bench, actions: &[&str]) {
    let value = replay(bench);
    let made = value["decided"]
        .as_array()
        .unwrap()
        .iter()
        .map(|decision| decision["action"].as_str().unwrap());
    assert_eq!(made.collect::<Vec<_>>(), actions);
    assert_eq!(value["as_ran"]["as_decided"], json!(true), "{value:#}");
}

#[test]
fn a_run_at_work_is_stopped_and_taken_up_again() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    let running = bench.follow();
    eventually("both pairs are evaluated", || bench.pairs().len() == 2);
    let trainers = ["target", "baseline"].map(|network| Trainer::known(&bench, network, &[]));
    let stop = bench.command(&["stop", "-c", "run.yaml", "--reason", "the disk is needed"]);
    assert!(
        stop.expect(0, &[])
            .out
            .starts_with("stop at step 2 as `manual-1@2`, generation 1; it is in the control file"),
        "{}",
        stop.out
    );
    running.finish().expect(10, &["decided: the disk is needed", "acknowledged", "early-stopped"]);
    for mut trainer in trainers {
        eventually("the trainer ends", || !trainer.is_alive());
    }
    let status = bench.status();
    assert_eq!(status["stopped"], json!(true));
    assert_eq!(
        (&status["decisions"][0]["rule"], &status["decisions"][0]["reason"]),
        (&json!("manual"), &json!("the disk is needed"))
    );
    bench.command(&["stop", "-c", "run.yaml"]).expect(64, &["the run is stopped already"]);
    bench.add_step("target", 3);
    bench.add_step("baseline", 3);
    bench.once().expect(10, &["was stopped before"]);
    assert_eq!(bench.pairs().len(), 2, "a stopped run stays stopped");

    assert!(bench.path("control/done-target").exists());
    bench.command(&["resume", "-c", "run.yaml"]).expect(0, &[]);
    let told = control(&bench);
    assert_eq!((&told["action"], &told["generation"]), (&json!("continue"), &json!(2)));
    assert!(!bench.path("control/done-target").exists(), "training goes on");
    assert_eq!(bench.status()["stopped"], json!(false));
    bench.command(&["resume", "-c", "run.yaml"]).expect(64, &["the run is not stopped"]);
    bench.once().expect(0, &[]);
    assert_eq!(bench.pairs().len(), 3);
    assert_replays(&bench, &["stop", "continue"]);
}

#[test]
fn without_a_run_at_work_a_command_writes_history_and_control_file_itself() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.once().expect(0, &[]);
    let phase =
        ["phase", "-c", "run.yaml", "--to", "regularized", "--lambda", "0.5", "--ramp", "7"];
    let said = bench.command(&phase);
    assert!(
        said.expect(0, &[]).out.starts_with("phase regularized (λ = 0.5) at step 1"),
        "{}",
        said.out
    );
    bench.command(&phase).expect(64, &["in phase `regularized` with λ = 0.5 already"]);
    let told = control(&bench);
    assert_eq!(
        (&told["phase"], &told["lambda"], &told["ramp"]),
        (&json!("regularized"), &json!(0.5), &json!(7))
    );
    assert_eq!((&told["at_step"], &told["generation"]), (&json!(2), &json!(1)));
    assert_eq!(bench.status()["phase"], json!("regularized"));
    bench.add_step("target", 2);
    bench.add_step("baseline", 2);
    bench.once().expect(0, &[]);
    assert_eq!(bench.status()["phase"], json!("regularized"), "the run goes on in it");
    bench.command(&["stop", "-c", "run.yaml"]).expect(0, &[]);
    assert_eq!(control(&bench)["generation"], json!(2));
    bench.once().expect(10, &["was stopped before"]);
    assert_replays(&bench, &["phase", "stop"]);
}

#[test]
fn a_stop_during_an_evaluation_comes_before_that_pair() {
    let Some(bench) = Bench::empty() else { return };
    for (fixture, to) in [
        ("slow/program.ts", "program.ts"),
        ("slow/target/step-00000001.safetensors", "target/step-00000001.safetensors"),
        ("slow/baseline/step-00000001.safetensors", "baseline/step-00000001.safetensors"),
    ] {
        bench.put(fixture, to);
    }
    bench.configure(&[("step: 100", "step: 1")]);
    let mut running = bench.follow();
    running.says("variables are chosen");
    std::fs::write(bench.path("control/done-target"), "{}").unwrap();
    std::fs::write(bench.path("control/done-baseline"), "{}").unwrap();
    let started = Instant::now();
    bench.command(&["stop", "-c", "run.yaml"]).expect(0, &[]);
    assert!(started.elapsed() < Duration::from_secs(5), "it does not wait for the evaluation");
    assert_eq!(bench.pairs().len(), 0);
    running.finish().expect(10, &["early-stopped decision=\"manual-1@0\""]);
    assert_eq!(bench.pairs().len(), 1);
    assert_replays(&bench, &["stop"]);
}

#[test]
fn a_manual_stop_climbs_the_ladder_as_any_other() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let ladder = "acknowledge: 1s, escalate: [{after: 200ms, do: {signal: {name: SIGTERM}}}]}";
    bench.configure(&[("acknowledge: 60s}", ladder)]);
    let running = bench.follow();
    eventually("the pair is evaluated", || bench.pairs().len() == 1);
    let target = Trainer::known(&bench, "target", &["--deaf"]);
    bench.command(&["stop", "-c", "run.yaml"]).expect(0, &[]);
    running.finish().expect(10, &["was not acknowledged in time by: target, baseline"]);
    target.has_taken(&["SIGTERM"]);
    let status = bench.command(&["status", "-c", "run.yaml"]);
    let said = "not acknowledged by target, baseline; see whether they train on";
    assert_says(&status.expect(0, &[]).out, &[said]);
    std::fs::write(bench.path("control/done-target"), "{}").unwrap();
    let status = bench.command(&["status", "-c", "run.yaml"]);
    let ended = "target is at its end (`done-target`)";
    let never = "not acknowledged by baseline, of whom no answer was ever";
    assert_says(&status.expect(0, &[]).out, &[ended, never]);
}

#[test]
fn a_dry_run_is_stopped_and_nobody_is_told() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.command(&["run", "--once", "--dry-run", "-c", "run.yaml"]).expect(0, &[]);
    let stop = bench.command(&["stop", "-c", "run.yaml"]);
    assert!(stop.expect(0, &[]).out.contains("a dry run, nobody is told"), "{}", stop.out);
    assert!(!bench.path("control").exists());
    bench
        .command(&["run", "--once", "--dry-run", "-c", "run.yaml"])
        .expect(10, &["was stopped before"]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.command(&["stop", "-c", "run.yaml"]).expect(65, &["holds no history yet"]);
    assert!(!bench.path("state").exists(), "nothing is made");
    bench.once().expect(0, &[]);
    let phase = |lambda| ["phase", "-c", "run.yaml", "--to", "on", "--lambda", lambda];
    bench.command(&phase("1.5")).expect(64, &["λ is 1.5, but must lie between 0 and 1"]);
    bench.command(&phase("much")).expect(64, &["invalid value"]);
    // A run that does not take requests.
    let mut running = bench.follow();
    running.says("started");
    let pid = rustix::process::Pid::from_raw(running.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let finished = bench.command(&["stop", "-c", "run.yaml", "--wait", "1"]);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    finished.expect(75, &["does not answer within 1s; the request is taken back"]);
    assert_eq!(bench.status()["decisions"], json!([]));
}

#[test]
fn a_run_is_taken_up_again_after_a_wait_that_was_longer_than_idleness() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let idle = ("acknowledge: 60s}", "acknowledge: 60s}\nend: {idle: 4s}");
    bench.configure(&[("step: 100", "step: 1"), idle]);
    let mut running = bench.follow();
    eventually("it stops", || {
        bench.path("control/control.json").exists() && control(&bench)["action"] == json!("stop")
    });
    let stopped = Instant::now();
    eventually("it has waited for long", || stopped.elapsed() > Duration::from_secs(6));
    bench.command(&["resume", "-c", "run.yaml"]).expect(0, &[]);
    bench.add_step("target", 2);
    bench.add_step("baseline", 2);
    eventually("it goes on", || bench.pairs().len() == 2 || !running.is_alive());
    assert_eq!(bench.pairs().len(), 2, "{}", running.err());
    bench.end_training();
    running.finish().expect(10, &["early-stopped"]);
}

#[test]
fn a_run_is_taken_up_again_while_its_last_pairs_are_evaluated() {
    let Some(bench) = Bench::empty() else { return };
    let put = |network: &str, step: u64| {
        let name = format!("{network}/step-{step:08}.safetensors");
        bench.put(&format!("slow/{name}"), &name);
    };
    bench.put("slow/program.ts", "program.ts");
    bench.configure(&[("compute: {", "pairing: {tolerance: 1}\ncompute: {")]);
    // Certain only at the end, since target step 2 may still come.
    put("target", 1);
    put("baseline", 2);
    let ended = "SELECT value FROM fact WHERE name = 'ended'";
    let running = bench.follow();
    eventually("the control file is there", || bench.path("control/control.json").exists());
    bench.end_training();
    eventually("the training has ended", || bench.rows(ended).len() == 1);
    bench.command(&["stop", "-c", "run.yaml"]).expect(0, &[]);
    bench.command(&["resume", "-c", "run.yaml"]).expect(0, &[]);
    assert_eq!(bench.pairs().len(), 0, "the last pair is still evaluated");
    assert_eq!(bench.rows(ended).len(), 0, "it has not ended any more");
    put("target", 2);
    put("baseline", 3);
    let arrived = "SELECT step FROM checkpoint WHERE outcome = 'waiting'";
    eventually("the next are there", || bench.pairs().len() == 1 && bench.rows(arrived).len() == 2);
    put("target", 3);
    eventually("the nearest are compared", || bench.pairs().len() == 2);
    let steps: Vec<String> = bench.pairs().into_iter().map(|mut row| row.remove(0)).collect();
    assert_eq!(steps, ["1", "3"]);
    running.terminate();
    running.finish().expect(0, &[]);
}

#[test]
fn a_run_that_starts_with_a_weight_tells_it_from_the_first() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let start = "policy:\n  start: on\n  phases: {on: {lambda: 0.8, to: [off]}, off: {lambda: 0}}\n  rules:\n    \
                 - {id: off, phase: on, when: {reached: {step: 1}}, then: {phase: {to: off}}}\n";
    bench.configure(&[("policy:\n  rules:\n", start)]);
    let running = bench.follow();
    eventually("it is written", || bench.path("control/control.json").exists());
    let found = || {
        let control = control(&bench);
        (control["phase"].clone(), control["lambda"].clone())
    };
    eventually("the phase is switched", || found() == (json!("off"), json!(0.0)));
    bench.end_training();
    running.finish().expect(0, &[]);
    assert_replays(&bench, &["phase"]);
    // Before the first pair.
    let Some(empty) = Bench::empty() else { return };
    empty.configure(&[("policy:\n  rules:\n", start)]);
    let mut running = empty.follow();
    running.says("started");
    eventually("it is written", || empty.path("control/control.json").exists());
    let first = control(&empty);
    assert_eq!((&first["phase"], &first["lambda"]), (&json!("on"), &json!(0.8)), "{first}");
    running.terminate();
    running.finish().expect(0, &[]);
    // The next start keeps it.
    let again = empty.follow();
    eventually("it is there", || control(&empty) == first);
    drop(again);
}

/// A pipe in the place of an answer would be waited for, and an absurd number would be the last.
#[test]
fn what_others_put_into_the_control_directory_holds_nothing_up() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("step: 100", "step: 1")]);
    std::fs::create_dir(bench.path("control")).unwrap();
    let mut pipe = std::process::Command::new("mkfifo");
    assert!(pipe.arg(bench.path("control/ack-target.json")).status().unwrap().success());
    let absurd = format!("{{\"schema\": 1, \"generation\": {}, \"step\": 1}}", u64::MAX);
    std::fs::write(bench.path("control/ack-baseline.json"), absurd).unwrap();
    let document = format!(
        "{{\"schema\": 1, \"generation\": {}, \"action\": \"continue\", \"phase\": \"plain\", \"lambda\": 0.0, \"ramp\": 0, \
         \"at_step\": 0, \"best\": null, \"reason\": \"the run goes on\", \"decision_id\": null}}",
        u64::MAX
    );
    std::fs::write(bench.path("control/control.json"), document).unwrap();
    bench.once().expect(10, &["early-stopped"]);
    assert_eq!(control(&bench)["generation"], 1);
}

#[test]
fn a_file_that_is_no_yaml_keeps_nobody_from_asking_a_run_at_work() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let mut running = bench.follow();
    running.says("started");
    bench.configure(&[("policy:", "policy: [")]);
    bench.command(&["reload", "-c", "run.yaml"]).expect(64, &["is no valid YAML"]);
    running.says("is no valid YAML");
    bench.command(&["stop", "-c", "run.yaml"]).expect(0, &[]);
    bench.end_training();
    running.finish().expect(10, &[]);
}

/// Each is answered for itself, whether a run is at work or each has to do it alone.
#[test]
fn several_commands_at_once_come_one_after_the_other() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.once().expect(0, &[]);
    let ask_all = |names: [&str; 4]| {
        let asked = names.map(|name| {
            let to = ["phase", "-c", "run.yaml", "--json", "--lambda", "0.5", "--to", name];
            bench.start(&to)
        });
        let mut generations = asked.map(|asked| {
            let finished = asked.finish();
            let reply: Value = serde_json::from_str(&finished.expect(0, &[]).out).unwrap();
            reply["generation"].as_u64().unwrap()
        });
        generations.sort_unstable();
        generations
    };
    let before = control(&bench)["generation"].as_u64().unwrap();
    let wanted = |from: u64| [1, 2, 3, 4].map(|number| from + number);
    assert_eq!(ask_all(["a", "b", "c", "d"]), wanted(before));
    let mut running = bench.follow();
    running.says("started");
    assert_eq!(ask_all(["e", "f", "g", "h"]), wanted(before + 4));
    assert_eq!(control(&bench)["generation"], before + 8);
    bench.end_training();
    running.finish().expect(0, &[]);
    assert_replays(&bench, &["phase"; 8]);
}

#[test]
fn mistakes_in_the_file_keep_nobody_from_asking_a_run_at_work() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let running = bench.follow();
    eventually("the pair is evaluated", || bench.pairs().len() == 1);
    bench.configure(&[("step: 100", "stepp: 100")]);
    let phase = ["phase", "-c", "run.yaml", "--to", "on", "--lambda", "0.5"];
    bench.command(&phase).expect(0, &[]);
    bench.command(&["stop", "-c", "run.yaml"]).expect(0, &[]);
    bench.command(&["resume", "-c", "run.yaml"]).expect(0, &[]);
    bench.end_training();
    running.finish().expect(0, &[]);
    bench.command(&["stop", "-c", "run.yaml"]).expect(64, &["unknown field `stepp`"]);
}
