//! People who are told over HTTP.

use crate::bench::{Bench, Running, convergd, eventually};
use crate::receiver::Receiver;
use serde_json::json;
use std::path::Path;

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
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
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
    assert!(text.contains("webhook     `bad` was not told (1 attempts): it answers 404"), "{text}");
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
