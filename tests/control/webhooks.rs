//! People who are told over HTTP.

use crate::bench::{Bench, Running, convergd, eventually};
use crate::receiver::Receiver;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

const SECRET: &str = "word-of-the-day";
const PATH: &str = "/services/T0/hidden?key=also-hidden";

/// A run that stops at its first pair, which is there, and tells somebody.
fn bench(notify: &str) -> Option<Bench> {
    let bench = Bench::with_steps(&[1])?;
    configure(&bench, notify, "acknowledge: 60s");
    Some(bench)
}

fn configure(bench: &Bench, notify: &str, control: &str) {
    let with = format!("{control}}}\nnotify: [{notify}]");
    bench.configure(&[("step: 100", "step: 1"), ("acknowledge: 60s}", &with)]);
}

fn start(bench: &Bench, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
    let mut command = convergd(arguments);
    command.args(["-c", "run.yaml"]).current_dir(bench.path(""));
    for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    command.envs(variables.iter().copied());
    Running::start(&mut command, &bench.path(""))
}

/// Everything that a run has written, but the configuration and what it reads.
fn everything(directory: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            text += &everything(&path);
        } else if path.file_name().unwrap() != "run.yaml" {
            text += &String::from_utf8_lossy(&std::fs::read(&path).unwrap());
        }
    }
    text
}

fn notifications(bench: &Bench) -> Vec<Vec<String>> {
    bench.rows("SELECT webhook, delivered, attempts FROM notification ORDER BY time, webhook")
}

#[test]
fn a_webhook_that_fails_twice_is_told_in_the_end_and_its_secret_is_nowhere() {
    let receiver = Receiver::start(&[500, 429]);
    let url = receiver.url(PATH);
    let Some(bench) =
        bench(&format!("{{name: ops, url: '{url}', secret_env: HOOK_SECRET, on: [decision]}}"))
    else {
        return;
    };
    // The log says all that it can.
    let variables = [("HOOK_SECRET", SECRET), ("RUST_LOG", "trace")];
    let finished = start(&bench, &["run", "--once"], &variables).finish();
    assert_eq!(finished.code, Some(10), "{}", finished.err);
    for part in
        ["not delivered: it answers 500", "again in 2s", "told", &receiver.origin().to_string()]
    {
        assert!(finished.err.contains(part), "{part} is not in {}", finished.err);
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert_eq!(request.target, PATH);
        assert_eq!(request.header("Authorization"), Some(format!("Bearer {SECRET}").as_str()));
        assert_eq!(request.header("Content-Type"), Some("application/json"));
        let key = request.header("Idempotency-Key").unwrap();
        assert!(key.ends_with("/budget@1/1"), "{key}");
        assert_eq!(request.json()["id"], json!(key));
    }
    let event = requests[2].json();
    assert_eq!((&event["topic"], &event["schema"]), (&json!("decision"), &json!(1)));
    assert_eq!(
        (&event["decision"]["rule"], &event["control"]["generation"]),
        (&json!("budget"), &json!(1))
    );
    assert_eq!(notifications(&bench), [["ops", "1", "3"]]);
    assert_eq!(start(&bench, &["run", "--once"], &variables).finish().code, Some(10));
    assert_eq!(receiver.requests().len(), 3, "it is told once");
    for command in
        [&["status"][..], &["status", "--json"], &["export", "--format", "json"], &["check"]]
    {
        assert_eq!(start(&bench, command, &variables).finish().code, Some(0));
    }
    let written = everything(&bench.path(""));
    for secret in [SECRET, "hidden"] {
        assert!(!written.contains(secret), "`{secret}` was written");
    }
}

#[test]
fn what_was_not_delivered_is_told_by_the_next_start() {
    let receiver = Receiver::start(&[]);
    let url = receiver.url(PATH);
    let webhook = "{name: ops, url_env: HOOK_URL, on: [decision], retries: 10}";
    let Some(bench) = bench(webhook) else { return };
    let gone = Receiver::start(&[]).url("/");
    let mut running = start(&bench, &["run"], &[("HOOK_URL", &gone)]);
    running.says("not delivered: ");
    drop(running);
    assert_eq!(notifications(&bench), [["ops", "NULL", "0"]]);
    start(&bench, &["run", "--once"], &[("HOOK_URL", &url)])
        .finish()
        .expect(10, &["was stopped before", "told"]);
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(notifications(&bench), [["ops", "1", "1"]]);
    assert!(!everything(&bench.path("")).contains("hidden"));
}

/// The keys of what a receiver was told, without the name of the run.
fn keys(receiver: &Receiver) -> Vec<String> {
    let key = |key: &str| key.split_once('/').unwrap().1.to_owned();
    receiver.requests().iter().map(|told| key(told.header("Idempotency-Key").unwrap())).collect()
}

#[test]
fn a_receiver_that_is_down_for_all_retries_is_told_by_the_next_start() {
    let receiver = Receiver::start(&[]);
    let url = receiver.url(PATH);
    let Some(bench) = bench("{name: ops, url_env: HOOK_URL, on: [decision], retries: 0}") else {
        return;
    };
    let gone = Receiver::start(&[]).url("/");
    let run = |url: &str| start(&bench, &["run", "--once"], &[("HOOK_URL", url)]).finish();
    run(&gone).expect(10, &["not delivered: ", "tried again later"]);
    assert_eq!(notifications(&bench), [["ops", "NULL", "1"]]);
    let status = start(&bench, &["status"], &[]).finish().out;
    assert!(status.contains("is still to be told something (1 attempts): "), "{status}");
    run(&url).expect(10, &["was stopped before", "told"]);
    assert_eq!(keys(&receiver), ["budget@1/1"]);
    assert_eq!(notifications(&bench), [["ops", "1", "2"]]);
}

#[test]
fn what_is_older_than_a_day_is_tried_once_more_and_given_up() {
    let Some(bench) = bench("{name: ops, url_env: HOOK_URL, on: [decision], retries: 0}") else {
        return;
    };
    let gone = Receiver::start(&[]).url("/");
    let run = || start(&bench, &["run", "--once"], &[("HOOK_URL", &gone)]).finish();
    run().expect(10, &["tried again later"]);
    bench.change("UPDATE notification SET time = time - 90000");
    run().expect(10, &["was stopped before"]);
    assert_eq!(notifications(&bench), [["ops", "0", "2"]]);
    run().expect(10, &["was stopped before"]);
    assert_eq!(notifications(&bench), [["ops", "0", "2"]]);
}

#[test]
fn a_receiver_that_is_down_for_a_while_is_told_while_the_run_goes_on() {
    let receiver = Receiver::start(&[503]);
    let url = receiver.url("/");
    let Some(bench) = bench(&format!("{{name: ops, url: '{url}', on: [decision], retries: 0}}"))
    else {
        return;
    };
    let mut running = start(&bench, &["run"], &[]);
    eventually("it is told", || notifications(&bench) == [["ops", "1", "2"]]);
    assert!(running.is_alive(), "it waits for the trainers");
    assert_eq!(keys(&receiver), ["budget@1/1"; 2]);
    bench.end_training();
    running.finish().expect(10, &["tried again later", "told"]);
}

#[test]
fn each_decision_of_a_person_without_a_run_at_work_is_told_by_the_next_run() {
    let receiver = Receiver::start(&[]);
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let notify = format!("{{name: ops, url: '{}', on: [decision]}}", receiver.url("/"));
    let with = format!("acknowledge: 60s}}\nnotify: [{notify}]");
    bench.configure(&[("acknowledge: 60s}", &with)]);
    bench.once().expect(0, &[]);
    let phase = ["phase", "-c", "run.yaml", "--to", "on", "--lambda", "0.5"];
    bench.command(&phase).expect(0, &[]);
    bench.command(&["stop", "-c", "run.yaml"]).expect(0, &[]);
    assert_eq!(receiver.requests().len(), 0);
    start(&bench, &["run", "--once"], &[]).finish().expect(10, &["was stopped before"]);
    assert_eq!(keys(&receiver), ["manual-1@1/1", "manual-2@1/2"]);
}

#[test]
fn at_a_start_trainers_are_told_before_people() {
    let receiver = Receiver::start(&[]);
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("step: 100", "step: 1")]);
    bench.once().expect(10, &[]);
    std::fs::remove_file(bench.path("control/control.json")).unwrap();
    // Nothing more can be stored that people are to be told.
    bench.change(
        "CREATE TRIGGER full BEFORE INSERT ON notification BEGIN SELECT RAISE(ABORT, 'full'); END",
    );
    configure(&bench, &format!("{{name: ops, url: '{}'}}", receiver.url("/")), "acknowledge: 60s");
    start(&bench, &["run", "--once"], &[]).finish().expect(65, &["full"]);
    assert!(bench.path("control/control.json").exists());
}

#[test]
fn a_reload_sends_nothing_twice_and_tells_a_webhook_that_is_new() {
    let (slow, new) = (Receiver::slow(&[], Duration::from_secs(2)), Receiver::start(&[]));
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let ops = format!("{{name: ops, url: '{}', on: [decision]}}", slow.url("/"));
    let configure = |notify: &str| {
        let with = format!("acknowledge: 60s}}\nnotify: [{notify}]");
        bench.configure(&[("acknowledge: 60s}", &with)]);
    };
    configure(&ops);
    let running = start(&bench, &["run"], &[]);
    eventually("the pair is evaluated", || bench.pairs().len() == 1);
    let phase = |to| ["phase", "-c", "run.yaml", "--lambda", "0.5", "--to", to];
    bench.command(&phase("on")).expect(0, &[]);
    eventually("it is on its way", || slow.requests().len() == 1);
    let other = format!("{{name: new, url: '{}', on: [decision]}}", new.url("/"));
    configure(&format!("{ops}, {other}"));
    bench.command(&["reload", "-c", "run.yaml"]).expect(0, &[]);
    bench.command(&phase("off")).expect(0, &[]);
    let told = "SELECT * FROM notification WHERE delivered = 1";
    eventually("all are told", || bench.rows(told).len() == 3);
    running.terminate();
    running.finish().expect(0, &[]);
    assert_eq!(keys(&slow), ["manual-1@1/1", "manual-2@1/2"]);
    assert_eq!(keys(&new), ["manual-2@1/2"]);
}

#[test]
fn what_a_receiver_did_not_take_is_told_at_its_new_address_after_a_reload() {
    let (old, new) = (Receiver::start(&[503; 9]), Receiver::start(&[]));
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let configure = |receiver: &Receiver| {
        let url = receiver.url("/");
        let notify = format!("{{name: ops, url: '{url}', on: [decision], retries: 0}}");
        let with = format!("acknowledge: 60s}}\nnotify: [{notify}]");
        bench.configure(&[("acknowledge: 60s}", &with)]);
    };
    configure(&old);
    let running = start(&bench, &["run"], &[]);
    eventually("the pair is evaluated", || bench.pairs().len() == 1);
    let phase = ["phase", "-c", "run.yaml", "--lambda", "0.5", "--to", "on"];
    bench.command(&phase).expect(0, &[]);
    eventually("it has failed", || notifications(&bench) == [["ops", "NULL", "1"]]);
    configure(&new);
    bench.command(&["reload", "-c", "run.yaml"]).expect(0, &[]);
    eventually("it is told", || notifications(&bench) == [["ops", "1", "2"]]);
    running.terminate();
    running.finish().expect(0, &[]);
    assert_eq!(keys(&old), keys(&new));
}

#[test]
fn each_refused_reload_is_told() {
    let receiver = Receiver::start(&[]);
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let notify = format!("{{name: ops, url: '{}', on: [notice]}}", receiver.url("/"));
    let with = format!("acknowledge: 60s}}\nnotify: [{notify}]");
    bench.configure(&[("acknowledge: 60s}", &with)]);
    let running = start(&bench, &["run"], &[]);
    eventually("the pair is evaluated", || bench.pairs().len() == 1);
    bench.configure(&[("acknowledge: 60s}", &with), ("step: 100", "stop: 1")]);
    for _ in 0..2 {
        bench.command(&["reload", "-c", "run.yaml"]).expect(64, &["unknown field `stop`"]);
    }
    eventually("both are told", || receiver.requests().len() == 2);
    running.terminate();
    running.finish().expect(0, &[]);
    assert_eq!(keys(&receiver), ["notice/1", "notice/2"]);
}

#[test]
fn a_webhook_over_tls_is_told_where_its_certificate_is_trusted_and_nowhere_else() {
    let (receiver, certificate) = Receiver::with_tls();
    let url = receiver.url("/").replace("http:", "https:");
    let Some(bench) = bench(&format!("{{name: ops, url: '{url}', on: [decision], retries: 0}}"))
    else {
        return;
    };
    std::fs::write(bench.path("trusted.pem"), certificate).unwrap();
    let run = |variables: &[(&str, &str)]| start(&bench, &["run", "--once"], variables).finish();
    run(&[]).expect(10, &["not delivered: ", "tried again later"]);
    assert_eq!(receiver.requests().len(), 0);
    run(&[("SSL_CERT_FILE", "trusted.pem")]).expect(10, &["told"]);
    assert_eq!(keys(&receiver), ["budget@1/1"]);
}

#[test]
fn slack_gets_its_shape_and_a_webhook_that_refuses_is_given_up() {
    let (slack, refusing) = (Receiver::start(&[]), Receiver::start(&[404]));
    let redirecting = Receiver::start(&[302]);
    let notify = format!(
        "{{name: chat, url_env: SLACK, format: slack, on: [decision]}}, {{name: bad, url: '{}', on: [decision]}}, \
         {{name: moved, url: '{}', on: [decision]}}, {{name: nothing, url: '{}', on: [notice]}}",
        refusing.url("/"),
        redirecting.url("/"),
        refusing.url("/other")
    );
    let Some(bench) = bench(&notify) else { return };
    let url = slack.url("/services/1");
    start(&bench, &["run", "--once"], &[("SLACK", &url)])
        .finish()
        .expect(10, &["it answers 404", "given up"]);
    let body = slack.requests()[0].json();
    let text = body["text"].as_str().unwrap();
    assert!(text.starts_with("*convergd* `run`: stop at step 1 by rule `budget`: "), "{text}");
    assert_eq!(body.as_object().unwrap().len(), 1);
    assert_eq!((refusing.requests().len(), redirecting.requests().len()), (1, 1));
    let rows = bench.rows("SELECT webhook, delivered, error FROM notification ORDER BY webhook");
    assert_eq!(rows[0][..2], ["bad", "0"]);
    assert!(rows[0][2].contains("404") && rows[2][2].contains("302"), "{rows:?}");
    let text = bench.command(&["status", "-c", "run.yaml"]).out;
    assert!(
        text.contains("webhook     `bad` was not told something (1 attempts): it answers 404"),
        "{text}"
    );
}

#[test]
fn a_decision_that_nobody_acknowledges_is_told_and_a_rung_names_one_webhook() {
    let (all, rung) = (Receiver::start(&[]), Receiver::start(&[]));
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let notify = format!(
        "{{name: all, url: '{}', on: [unacknowledged]}}, {{name: rung, url: '{}', on: []}}",
        all.url("/"),
        rung.url("/")
    );
    let ladder = "acknowledge: 1s, escalate: [{after: 200ms, do: {webhook: {name: rung}}}]";
    configure(&bench, &notify, ladder);
    start(&bench, &["run"], &[])
        .finish()
        .expect(10, &["not acknowledged, so webhook `rung`: queued"]);
    let [rung, all] = [rung.requests(), all.requests()];
    assert_eq!((rung.len(), all.len()), (1, 1));
    assert!(rung[0].header("Idempotency-Key").unwrap().ends_with("/budget@1/1/after%200.2s"));
    assert_eq!(all[0].json()["silent"], json!(["target", "baseline"]));
    assert_eq!(
        all[0].json()["text"],
        "stop at step 1 has not been acknowledged by: target, baseline"
    );
}

#[test]
fn a_receiver_that_never_answers_holds_nothing_up() {
    let receiver = Receiver::slow(&[], Duration::from_secs(4));
    let hook =
        format!("{{name: ops, url: '{}', timeout: 300ms, on: [decision]}}", receiver.url("/"));
    let Some(bench) = bench(&hook) else { return };
    let started = Instant::now();
    let finished = start(&bench, &["run", "--once"], &[]).finish();
    assert_eq!(finished.code, Some(10), "{}", finished.err);
    assert!(finished.err.contains("again in 2s"), "{}", finished.err);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    let delivered: Vec<String> =
        notifications(&bench).into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(delivered, ["NULL"], "an answer that comes too late is none");
}

#[test]
fn a_run_that_ends_with_an_error_says_so() {
    let receiver = Receiver::start(&[]);
    let Some(bench) = bench(&format!("{{name: ops, url: '{}'}}", receiver.url("/"))) else {
        return;
    };
    bench.put("checkpoints/nan.safetensors", "target/step-00000001.safetensors");
    let hook = format!("notify: [{{name: ops, url: '{}'}}]\ncontrol:", receiver.url("/"));
    let rule = "missing: error\n  rules:\n    - {id: low, when: {below: {metric: probe_loss, threshold: 0}}, then: {stop: {}}}\n    - {id: b";
    bench.configure(&[("rules:\n    - {id: b", rule), ("control:", &hook)]);
    let finished = start(&bench, &["run", "--once"], &[]).finish();
    let said = "rule `low` follows `probe_loss`, which the pair of step 1 lacks";
    assert_eq!(finished.code, Some(65), "{}", finished.err);
    assert!(finished.err.contains(said), "{}", finished.err);
    let told: Vec<String> =
        receiver.requests().iter().map(|request| request.body.clone()).collect();
    let last = told.last().expect("told");
    assert!(last.contains("the run has ended with an error") && last.contains(said), "{told:?}");
}

#[test]
fn a_dry_run_tells_no_webhook() {
    let receiver = Receiver::start(&[]);
    let Some(bench) = bench(&format!("{{name: ops, url: '{}'}}", receiver.url("/"))) else {
        return;
    };
    start(&bench, &["run", "--once", "--dry-run"], &[]).finish().expect(10, &[]);
    assert_eq!(receiver.requests().len() + notifications(&bench).len(), 0);
}

#[test]
fn a_variable_that_is_not_set_is_said_where_it_is_named() {
    let Some(bench) = bench(
        "{name: ops, url_env: NO_SUCH_URL}, {name: b, url: 'https://a.b/hidden', secret_env: NO_SUCH_SECRET}",
    ) else {
        return;
    };
    for command in [&["check"][..], &["run", "--once"]] {
        let finished = start(&bench, command, &[]).finish();
        finished.expect(
            64,
            &[
                "`notify[0].url_env`: names the variable `NO_SUCH_URL`, which is not set",
                "`notify[1].secret_env`: names the variable `NO_SUCH_SECRET`, which is not set",
            ],
        );
        assert!(!finished.err.contains("hidden"), "{}", finished.err);
    }
    let variables = [("NO_SUCH_URL", "hidden"), ("NO_SUCH_SECRET", "x")];
    let finished = start(&bench, &["check"], &variables).finish();
    finished.expect(64, &["variable `NO_SUCH_URL`, which holds no http or https URL"]);
    assert!(!finished.err.contains("hidden"), "{}", finished.err);
    // Who only looks at the run needs no secrets.
    bench.command(&["status", "-c", "run.yaml"]).expect(65, &["holds no history yet"]);
}
