//! Another policy, other webhooks and another ladder while a run is at work.

use crate::bench::{Bench, Running, eventually};
use crate::receiver::Receiver;
use crate::trainer::Trainer;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

fn add_step(bench: &Bench, step: u64) {
    bench.add_step("target", step);
    bench.add_step("baseline", step);
}

fn replay(bench: &Bench) -> Value {
    let finished = bench.command(&["replay", "--json", "-c", "run.yaml"]);
    finished.expect(0, &[]);
    serde_json::from_str(&finished.out).unwrap()
}

fn hang_up(running: &Running) {
    let pid = rustix::process::Pid::from_raw(running.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
}

/// A gauge of a run that listens.
fn gauge(running: &Running, name: &str) -> f64 {
    let log = running.err();
    let address =
        log.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_changed_policy_decides_from_the_next_pair_on_and_the_run_replays() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let mut running = bench.follow();
    eventually("the first pair is evaluated", || bench.pairs().len() == 1);
    bench.configure(&[("step: 100", "step: 2")]);
    let said = bench.command(&["reload", "-c", "run.yaml"]);
    assert_eq!(said.expect(0, &[]).out, "reloaded\n");
    running.says("the configuration is reloaded");
    for network in ["target", "baseline"] {
        std::fs::write(bench.path(&format!("control/done-{network}")), "{}").unwrap();
    }
    add_step(&bench, 2);
    running.finish().expect(10, &["decided: step 2 reached the budget of 2 steps"]);
    let value = replay(&bench);
    assert_eq!(value["as_ran"], json!({"policies": 2, "interventions": 0, "as_decided": true}));
    let rows = bench.rows("SELECT after, intervention FROM intervention ORDER BY number");
    assert_eq!((rows[0][0].as_str(), rows[1][0].as_str()), ("NULL", "1"));
    assert!(rows[0][1].contains("step: 100") && rows[1][1].contains("step: 2"), "{rows:?}");
    // What runs is no more what the file says, and what was decided is still known.
    bench.configure(&[("step: 100", "step: 1")]);
    let value = replay(&bench);
    assert_eq!(
        (&value["as_ran"]["as_decided"], &value["policies"][0]["as_decided"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn an_invalid_file_keeps_the_old_one_and_says_all_its_mistakes() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let listen =
        ("compute: {device: cpu}", "compute: {device: cpu}\ntelemetry: {listen: '127.0.0.1:0'}");
    bench.configure(&[listen]);
    let mut running = bench.follow();
    eventually("the first pair is evaluated", || bench.pairs().len() == 1);
    let (success, timestamp) =
        ("convergd_config_last_reload_successful", "convergd_config_last_reload_timestamp_seconds");
    assert_eq!(gauge(&running, success), 1.0);
    let begun = gauge(&running, timestamp);
    bench.configure(&[listen, ("step: 100", "stop: 1"), ("then: {stop: {}}", "then: {stopp: {}}")]);
    hang_up(&running);
    running.says("the configuration is not reloaded, and the run goes on as it was: ");
    eventually("the metric says so", || gauge(&running, success) == 0.0);
    for part in [
        "`policy.rules[0].when.reached.stop`: unknown field",
        "`policy.rules[0].then.stopp`: unknown variant",
    ] {
        assert!(running.err().contains(part), "{part}: {}", running.err());
    }
    let refused = bench.command(&["reload", "-c", "run.yaml"]);
    refused.expect(64, &["unknown field `stop`", "unknown variant `stopp`"]);
    assert_eq!(gauge(&running, timestamp), begun);
    add_step(&bench, 2);
    eventually("it goes on", || bench.pairs().len() == 2);
    bench.configure(&[listen, ("step: 100", "step: 50")]);
    hang_up(&running);
    running.says("the configuration is reloaded");
    eventually("the metric says so", || gauge(&running, success) == 1.0);
    assert!(gauge(&running, timestamp) > begun);
    running.terminate();
    running.finish().expect(0, &[]);
}

#[test]
fn what_must_not_change_is_refused_with_a_list() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.command(&["reload", "-c", "run.yaml"]).expect(65, &["holds no history yet"]);
    let running = bench.follow();
    eventually("the first pair is evaluated", || bench.pairs().len() == 1);
    bench.configure(&[
        ("noise: 0.01", "noise: 0.02"),
        ("step: 100", "step: 1"),
        ("acknowledge: 60s", "acknowledge: 60s, exec: true"),
        ("target: {checkpoints: target}", "target: {checkpoints: target, layout: safetensors}"),
    ]);
    let refused = bench.command(&["reload", "-c", "run.yaml"]);
    refused.expect(
        64,
        &[
            "only `policy`, `notify`, `control.escalate` can change",
            "`control.exec`, `interactions.noise`, `networks.target.layout` differ",
        ],
    );
    add_step(&bench, 2);
    eventually("it goes on under the old policy", || bench.pairs().len() == 2);
    running.terminate();
    running.finish().expect(0, &[]);
    bench.configure(&[]);
    bench.command(&["reload", "-c", "run.yaml"]).expect(64, &["no run is at work"]);
}

#[test]
fn other_webhooks_and_another_ladder_are_taken_up() {
    let receiver = Receiver::start(&[]);
    let Some(bench) = Bench::empty() else { return };
    let running = bench.follow();
    eventually("the control file is there", || bench.path("control/control.json").exists());
    let target = Trainer::known(&bench, "target", &["--deaf"]);
    std::fs::write(bench.path("control/done-baseline"), "{}").unwrap();
    let control = format!(
        "acknowledge: 60s, escalate: [{{after: 100ms, do: {{signal: {{name: SIGTERM}}}}}}]}}\n\
         notify: [{{name: ops, url: '{}', on: [decision]}}]",
        receiver.url("/")
    );
    bench.configure(&[("step: 100", "step: 1"), ("acknowledge: 60s}", &control)]);
    bench.command(&["reload", "-c", "run.yaml"]).expect(0, &[]);
    add_step(&bench, 1);
    target.has_taken(&["SIGTERM"]);
    eventually("the webhook is told", || receiver.requests().len() == 1);
    std::fs::write(bench.path("control/done-target"), "{}").unwrap();
    running.finish().expect(10, &[]);
}

#[test]
fn status_shows_the_alerts_of_the_policy_that_runs() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let budget = "- {id: budget,";
    let alert = "- {id: low, when: {below: {metric: convergent_ratio, threshold: 2}}, \
                 then: {alert: {severity: warning}}}\n    - {id: budget,";
    bench.configure(&[(budget, alert)]);
    bench.once().expect(0, &[]);
    assert_eq!(bench.status()["alerts"], json!(["low"]));
    bench.configure(&[]);
    assert_eq!(bench.status()["alerts"], json!(["low"]), "the file does not run yet");
    bench.once().expect(0, &[]);
    assert_eq!(bench.status()["alerts"], json!([]));
}

#[test]
fn a_policy_that_changes_between_two_starts_is_recorded_too() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.once().expect(0, &[]);
    bench.once().expect(0, &[]);
    bench.configure(&[("step: 100", "step: 2")]);
    add_step(&bench, 2);
    bench.once().expect(10, &[]);
    let value = replay(&bench);
    assert_eq!(value["as_ran"], json!({"policies": 2, "interventions": 0, "as_decided": true}));
    let text = bench.command(&["replay", "-c", "run.yaml"]).out;
    assert!(
        text.contains(
            "2 policies recorded, 0 decisions of persons: replayed, exactly what was decided"
        ),
        "{text}"
    );
}
