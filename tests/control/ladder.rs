//! Trainers that do not acknowledge.

use crate::bench::{Bench, Running, eventually};
use crate::trainer::Trainer;
use serde_json::{Value, json};

/// A run that stops at its first pair, with a ladder.
fn bench(ladder: &str) -> Option<Bench> {
    let bench = Bench::empty()?;
    configure(&bench, ladder);
    Some(bench)
}

fn configure(bench: &Bench, ladder: &str) {
    let control = format!("{{directory: control, acknowledge: 1s, {ladder}}}");
    let control = ("{directory: control, acknowledge: 60s}", control.as_str());
    bench.configure(&[("step: 100", "step: 1"), control]);
}

/// Starts the run and waits until trainers find its control file.
fn follow(bench: &Bench) -> Running {
    let running = bench.follow();
    eventually("the control file is there", || bench.path("control/control.json").exists());
    running
}

/// The first pair, at which it stops.
fn decide(bench: &Bench) {
    bench.add_step("target", 1);
    bench.add_step("baseline", 1);
    eventually("the control file says stop", || action(bench) == "stop");
}

fn action(bench: &Bench) -> String {
    let text = std::fs::read_to_string(bench.path("control/control.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["action"].as_str().unwrap().to_owned()
}

/// Kind, measure and result of the rungs that were begun.
fn rungs(bench: &Bench) -> Vec<Vec<String>> {
    bench.rows("SELECT kind, measure, result FROM escalation ORDER BY after")
}

#[test]
fn a_trainer_that_never_acknowledges_climbs_the_ladder_in_order() {
    let ladder = "exec: true, escalate: [\
        {after: 2s, do: {signal: {name: SIGUSR2}}}, \
        {after: 2300ms, do: {exec: {command: [sh, -c, 'env | grep -e CONVERGD_ -e LD_LIBRARY_PATH | sort > told']}}}, \
        {after: 2600ms, do: {signal: {name: SIGTERM, group: true}}}, \
        {after: 6s, do: {signal: {name: SIGKILL, group: true}}}]";
    let Some(bench) = bench(ladder) else { return };
    let running = follow(&bench);
    let mut deaf = Trainer::known(&bench, "target", &["--deaf"]);
    let mut good = Trainer::known(&bench, "baseline", &[]);
    decide(&bench);
    running.finish().expect(10, &["not acknowledged, so SIGUSR2: target: sent to process"]);
    deaf.has_taken(&["SIGUSR2", "SIGTERM"]);
    assert!(!deaf.is_alive(), "SIGKILL cannot be handled");
    assert_eq!(good.signals(), [""; 0], "who acknowledges gets nothing");
    eventually("the good one ends by itself", || !good.is_alive());
    let expected = [
        ["signal", "SIGUSR2", "success"],
        ["exec", "`sh`", "success"],
        ["signal", "SIGTERM to the process group", "success"],
        ["signal", "SIGKILL to the process group", "success"],
    ];
    assert_eq!(rungs(&bench), expected);
    let told = std::fs::read_to_string(bench.path("told")).unwrap();
    for line in ["CONVERGD_ACTION=stop", "CONVERGD_DECISION=budget@1", "CONVERGD_SILENT=target"] {
        assert!(told.lines().any(|said| said == line), "{line}: {told}");
    }
    // What was set for the loader of libtorch is none of a program's.
    assert!(!told.contains("CONVERGD_FORMER"), "{told}");
    let own = std::env::var("LD_LIBRARY_PATH").ok();
    let line = told.lines().find_map(|line| line.strip_prefix("LD_LIBRARY_PATH="));
    assert_eq!(line, own.as_deref(), "{told}");
    let status = bench.status();
    assert_eq!(status["escalations"][3]["after"], json!(6.0));
    let answer = &status["acknowledged"][0];
    assert_eq!(answer["network"], "baseline");
    // It was there before the first rung, and not before the control file was.
    let latency = answer["latency"].as_f64().unwrap();
    assert!(latency > 0.0 && latency < 2.0, "{status:#}");
    let text = bench.command(&["status", "-c", "run.yaml"]).out;
    assert!(text.contains("escalated after 6s: SIGKILL to the process group: success"), "{text}");
}

#[test]
fn who_acknowledges_on_a_rung_is_spared_the_others() {
    let ladder = "escalate: [{after: 200ms, do: {signal: {name: SIGTERM}}}, \
                  {after: 20s, do: {signal: {name: SIGKILL}}}]";
    let Some(bench) = bench(ladder) else { return };
    let running = follow(&bench);
    let mut target = Trainer::known(&bench, "target", &["--deaf"]);
    let mut baseline = Trainer::known(&bench, "baseline", &["--deaf"]);
    decide(&bench);
    eventually("both have got SIGTERM", || {
        [&target, &baseline].iter().all(|trainer| trainer.signals() == ["SIGTERM"])
    });
    let control: Value =
        serde_json::from_str(&std::fs::read_to_string(bench.path("control/control.json")).unwrap())
            .unwrap();
    for network in ["target", "baseline"] {
        let answer = json!({"schema": 1, "generation": control["generation"], "step": 2});
        std::fs::write(bench.path(&format!("control/ack-{network}.json")), answer.to_string())
            .unwrap();
    }
    running.finish().expect(10, &["acknowledged"]);
    assert_eq!(rungs(&bench), [["signal", "SIGTERM", "success"]]);
    assert!(target.is_alive() && baseline.is_alive());
}

#[test]
fn a_trainer_that_ends_by_a_signal_needs_no_answer() {
    let ladder = "escalate: [{after: 200ms, do: {signal: {name: SIGTERM}}}, \
                  {after: 10m, do: {signal: {name: SIGKILL}}}]";
    let Some(bench) = bench(ladder) else { return };
    let running = follow(&bench);
    let flags = ["--deaf", "--ends-on-term"];
    let trainers = ["target", "baseline"].map(|network| Trainer::known(&bench, network, &flags));
    decide(&bench);
    let finished = running.finish();
    finished.expect(10, &["early-stopped"]);
    assert!(!finished.err.contains("was not acknowledged in time"), "{}", finished.err);
    for mut trainer in trainers {
        assert!(!trainer.is_alive());
    }
}

#[test]
fn a_process_that_has_taken_the_number_of_a_trainer_is_not_touched() {
    let ladder = "escalate: [{after: 200ms, do: {signal: {name: SIGKILL, group: true}}}]";
    let Some(bench) = bench(ladder) else { return };
    let running = follow(&bench);
    let mut innocent = Trainer::known(&bench, "target", &["--deaf"]);
    // The trainer that answered had the same number, and began a moment earlier.
    let file = bench.path("control/ack-target.json");
    let mut answer: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(answer["process"]["pid"], json!(innocent.pid()));
    answer["process"]["start"] = json!(answer["process"]["start"].as_u64().unwrap() - 1);
    std::fs::write(&file, answer.to_string()).unwrap();
    decide(&bench);
    running.finish().expect(
        10,
        &["target: not sent: its process has ended", "baseline: not sent: no process is known"],
    );
    assert_eq!(rungs(&bench), [["signal", "SIGKILL to the process group", "skipped"]]);
    assert!(innocent.is_alive() && innocent.signals().is_empty());
}

#[test]
fn a_restart_in_the_middle_goes_on_with_the_next_rung() {
    let ladder = "escalate: [{after: 100ms, do: {signal: {name: SIGUSR2}}}, \
                  {after: 6s, do: {signal: {name: SIGHUP}}}, \
                  {after: 6500ms, do: {signal: {name: SIGTERM}}}]";
    let Some(bench) = bench(ladder) else { return };
    let running = follow(&bench);
    let target = Trainer::known(&bench, "target", &["--deaf"]);
    std::fs::write(bench.path("control/done-baseline"), "{}").unwrap();
    decide(&bench);
    eventually("the first rung is done", || rungs(&bench).len() == 1);
    drop(running);
    target.has_taken(&["SIGUSR2"]);
    // Killed and away for an hour: what is due comes at once, and what is behind it keeps its distance.
    bench.change("UPDATE decision SET delivered = delivered - 3600");
    let said = ["for the trainings to answer", "was not acknowledged in time by: target"];
    bench.follow().finish().expect(10, &said);
    target.has_taken(&["SIGUSR2", "SIGHUP", "SIGTERM"]);
    let times = bench.rows("SELECT time FROM escalation ORDER BY after");
    let times: Vec<f64> = times.iter().map(|row| row[0].parse().unwrap()).collect();
    assert!((0.3..60.0).contains(&(times[2] - times[1])), "{times:?}");
}

#[test]
fn a_pid_file_stands_for_a_client_that_tells_no_process() {
    let ladder = "escalate: [{after: 200ms, do: {signal: {name: SIGTERM}}}]";
    let Some(bench) = Bench::empty() else { return };
    let control = format!("{{directory: control, acknowledge: 1s, {ladder}}}");
    bench.configure(&[
        ("step: 100", "step: 1"),
        ("{directory: control, acknowledge: 60s}", &control),
        ("target: {checkpoints: target}", "target: {checkpoints: target, pid_file: target.pid}"),
    ]);
    let mut running = follow(&bench);
    let flags = ["--deaf", "--pid-file", "target.pid"];
    let target = Trainer::start(&bench, "target", &flags);
    running.says("process found");
    std::fs::write(bench.path("control/done-baseline"), "{}").unwrap();
    decide(&bench);
    running.finish().expect(10, &["target: sent to process"]);
    target.has_taken(&["SIGTERM"]);
    let status = || bench.command(&["status", "-c", "run.yaml"]).out;
    drop(target);
    let ended = "not acknowledged by target, whose process has ended";
    assert!(status().contains(ended), "{}", status());
    // Whoever starts it again has somebody to tell.
    let _again = Trainer::start(&bench, "target", &flags);
    let silent = "not acknowledged by target, of whom no answer was ever in the control directory; see whether";
    eventually("the other process is seen", || status().contains(silent));
}

#[test]
fn a_phase_switch_gets_no_more_than_a_hint() {
    let ladder = "exec: true, escalate: [{after: 100ms, do: {exec: {command: [touch, ran]}}}, \
                  {after: 200ms, do: {signal: {name: SIGUSR2}}}, {after: 300ms, do: {signal: {name: SIGTERM}}}]";
    let Some(bench) = Bench::empty() else { return };
    let control = format!("{{directory: control, acknowledge: 1s, {ladder}}}");
    bench.configure(&[
        ("{directory: control, acknowledge: 60s}", &control),
        ("then: {stop: {}}}", "then: {stop: {}}}\n    - {id: on, when: {reached: {step: 1}}, then: {phase: {to: regularized, lambda: 0.5}}}"),
    ]);
    let mut running = follow(&bench);
    let mut target = Trainer::known(&bench, "target", &["--deaf"]);
    // Without a handler the hint would be its end.
    let mut sleeper = crate::common::python();
    let code = "import os, sys, time, convergd\n\
        convergd.Control('control', network='baseline').poll(1)\nprint('known', flush=True)\ntime.sleep(300)";
    let mut sleeper =
        Running::start(sleeper.args(["-c", code]).current_dir(bench.path("")), &bench.path(""));
    eventually("the baseline is known", || bench.path("control/ack-baseline.json").exists());
    bench.add_step("target", 1);
    bench.add_step("baseline", 1);
    running.says("baseline: not sent: its process has no handler for SIGUSR2");
    bench.add_step("target", 2);
    bench.add_step("baseline", 2);
    eventually("it goes on", || bench.pairs().len() == 2);
    assert_eq!(rungs(&bench), [["signal", "SIGUSR2", "success"]]);
    target.has_taken(&["SIGUSR2"]);
    assert!(target.is_alive() && sleeper.is_alive() && !bench.path("ran").exists());
    running.terminate();
    running.finish().expect(0, &[]);
}

#[test]
fn a_dry_run_climbs_nothing() {
    let ladder = "exec: true, escalate: [{after: 0s, do: {exec: {command: [touch, ran]}}}]";
    let Some(bench) = bench(ladder) else { return };
    decide_without_control(&bench);
    bench.command(&["run", "--dry-run", "-c", "run.yaml"]).expect(10, &[]);
    assert_eq!(rungs(&bench), [[""; 3]; 0]);
    assert!(!bench.path("ran").exists() && !bench.path("control").exists());
}

fn decide_without_control(bench: &Bench) {
    bench.add_step("target", 1);
    bench.add_step("baseline", 1);
}

#[test]
fn with_nothing_to_wait_for_a_stop_still_climbs_the_whole_ladder() {
    let Some(bench) = Bench::empty() else { return };
    let ladder = "escalate: [{after: 500ms, do: {signal: {name: SIGUSR2}}}, \
                  {after: 1s, do: {signal: {name: SIGTERM}}}]";
    let control = format!("{{directory: control, acknowledge: 0s, {ladder}}}");
    bench.configure(&[
        ("step: 100", "step: 1"),
        ("{directory: control, acknowledge: 60s}", &control),
    ]);
    let running = follow(&bench);
    let target = Trainer::known(&bench, "target", &["--deaf"]);
    std::fs::write(bench.path("control/done-baseline"), "{}").unwrap();
    decide(&bench);
    running.finish().expect(10, &["was not acknowledged in time by: target"]);
    target.has_taken(&["SIGUSR2", "SIGTERM"]);
}

#[test]
fn a_group_that_holds_a_trainer_that_has_answered_is_spared() {
    let ladder = "escalate: [{after: 500ms, do: {signal: {name: SIGKILL, group: true}}}]";
    let Some(bench) = bench(ladder) else { return };
    let running = follow(&bench);
    let mut good = Trainer::known(&bench, "target", &["--deaf"]);
    let mut deaf = Trainer::known_in(&bench, "baseline", &["--deaf"], good.pid());
    std::fs::write(bench.path("control/done-target"), "{}").unwrap();
    decide(&bench);
    running
        .finish()
        .expect(10, &["alone: its group holds the process of a network that has answered"]);
    assert!(!deaf.is_alive() && good.is_alive());
}

#[test]
fn a_signal_that_may_not_have_been_sent_is_sent_after_a_restart_and_a_program_is_not() {
    let ladder = "exec: true, escalate: [\
        {after: 100ms, do: {exec: {command: [sh, -c, 'echo ran >> ran']}}}, \
        {after: 200ms, do: {signal: {name: SIGUSR2}}}, \
        {after: 6s, do: {signal: {name: SIGTERM}}}]";
    let Some(bench) = bench(ladder) else { return };
    let running = follow(&bench);
    let target = Trainer::known(&bench, "target", &["--deaf"]);
    std::fs::write(bench.path("control/done-baseline"), "{}").unwrap();
    decide(&bench);
    eventually("both rungs are done", || {
        rungs(&bench).iter().filter(|row| row[2] == "success").count() == 2
    });
    drop(running);
    // As a kill before their ends leaves them.
    bench.change("UPDATE escalation SET result = NULL, detail = NULL");
    bench.follow().finish().expect(10, &["was not acknowledged in time by: target"]);
    target.has_taken(&["SIGUSR2", "SIGUSR2", "SIGTERM"]);
    assert_eq!(std::fs::read_to_string(bench.path("ran")).unwrap(), "ran\n");
    let expected = [
        ["exec", "`sh`", "NULL"],
        ["signal", "SIGUSR2", "success"],
        ["signal", "SIGTERM", "success"],
    ];
    assert_eq!(rungs(&bench), expected);
}

/// What a program of the ladder has started; it ends with this value.
struct Started(u32);

impl Started {
    /// Whether it runs; who only waits for its parent to see its end does not.
    fn is_at_work(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0));
        stat.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // A test that failed has left it, and its number is still its own.
        if self.is_at_work() {
            let pid = rustix::process::Pid::from_raw(self.0 as i32).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// A run whose ladder starts a program, which is at work.
fn program_at_work(timeout: &str) -> Option<(Bench, Running, Started)> {
    let ladder = format!(
        "exec: true, escalate: [{{after: 100ms, do: {{exec: {{command: \
         [sh, -c, 'sleep 600 & echo $! > begun; wait'], timeout: {timeout}}}}}}}]"
    );
    let bench = bench(&ladder)?;
    let running = follow(&bench);
    decide(&bench);
    let begun = || -> Option<u32> {
        std::fs::read_to_string(bench.path("begun")).ok()?.strip_suffix('\n')?.parse().ok()
    };
    eventually("the program is at work", || begun().is_some());
    let started = Started(begun().unwrap());
    Some((bench, running, started))
}

#[test]
fn a_run_does_not_end_before_a_program_of_its_ladder() {
    let Some((bench, running, started)) = program_at_work("4s") else { return };
    bench.end_training();
    running.finish().expect(10, &["`sh`: was ended after 4s"]);
    assert_eq!(rungs(&bench), [["exec", "`sh`", "failure"]]);
    eventually("what it has started is ended", || !started.is_at_work());
}

#[test]
fn a_run_that_is_interrupted_ends_the_program_of_its_ladder() {
    let Some((bench, running, started)) = program_at_work("10m") else { return };
    running.terminate();
    running.finish().expect(
        10,
        &[
            "`sh`: was ended because the run ends",
            "the stop stands in the control directory, and has not been acknowledged by: target, baseline, for which",
        ],
    );
    assert_eq!(rungs(&bench), [["exec", "`sh`", "failure"]]);
    eventually("what it has started is ended", || !started.is_at_work());
}
