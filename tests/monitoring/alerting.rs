//! An alert on its way: convergd follows two trainings whose networks go apart, a Prometheus scrapes it, and its
//! Alertmanager tells a webhook.

use crate::bench::{Running, convergd, eventually};
use crate::common;
use crate::common::scrape::{address, await_value, get, try_get};
use crate::programs::find;
use crate::receiver::Receiver;
use crate::rules;
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

/// A rule that knows the best value of the ratio and never fires.
const CONFIG: &str = "\
state: state
program: made/program.ts
probe:
  file: made/probe.safetensors
  variables: {columns: {groups: 4}}
networks:
  target: {checkpoints: target}
  baseline: {checkpoints: baseline}
interactions: {noise: 0.01}
compute: {device: cpu}
policy:
  rules:
    - {id: ratio, when: {declined: {metric: convergent_ratio, drop: {absolute: 2}}}, then: {notify: {}}}
    - {id: budget, when: {reached: {step: 100}}, then: {stop: {}}}
control: {directory: control}
telemetry: {listen: '127.0.0.1:0'}
";
/// After this step the networks go apart.
const LAST_ALIKE: u64 = 3;
/// How often a port that another process has taken meanwhile is replaced.
const MOST_TRIES: usize = 5;

/// A server of Prometheus on a free port of the loopback interface; it ends with this value.
struct Server {
    _running: Running,
    address: SocketAddr,
}

impl Server {
    /// Starts it and waits until it is ready. `arguments` are made for its address.
    fn start(directory: &Path, arguments: impl Fn(SocketAddr) -> Command) -> Self {
        for _ in 0..MOST_TRIES {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut running = Running::start(&mut arguments(address), directory);
            let mut is_there = false;
            eventually("a server that is ready", || {
                is_there = is_ready(address);
                is_there || !running.is_alive()
            });
            if is_there && running.is_alive() {
                return Self { _running: running, address };
            }
            let said = running.err();
            assert!(said.contains("address already in use"), "{said}");
        }
        panic!("no free port in {MOST_TRIES} tries");
    }
}

fn is_ready(address: SocketAddr) -> bool {
    try_get(address, "/-/ready").is_some()
}

/// Copies a step of both networks to where the daemon looks.
fn save(directory: &Path, step: u64) {
    for network in ["target", "baseline"] {
        let name = format!("{network}/step-{step:08}.safetensors");
        let partial = directory.join(&name).with_extension("tmp");
        std::fs::create_dir_all(directory.join(network)).unwrap();
        std::fs::copy(directory.join("made").join(&name), &partial).unwrap();
        std::fs::rename(partial, directory.join(name)).unwrap();
    }
}

fn prometheus(directory: &Path, convergd: SocketAddr, alertmanager: SocketAddr) -> Option<Server> {
    let program = find("prometheus")?;
    // The rules as they are, but for how long a condition must hold.
    let rules = rules::text().replace("for: 1m", "for: 1s");
    std::fs::write(directory.join("rules.yml"), rules).unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - {{job_name: convergd, static_configs: [{{targets: ['{convergd}']}}]}}
alerting:
  alertmanagers:
    - static_configs: [{{targets: ['{alertmanager}']}}]
"
    );
    std::fs::write(directory.join("prometheus.yml"), config).unwrap();
    Some(Server::start(directory, |address| {
        let mut command = Command::new(&program);
        command.arg("--config.file=prometheus.yml").arg("--storage.tsdb.path=prometheus-data");
        command.arg(format!("--web.listen-address={address}")).current_dir(directory);
        command
    }))
}

fn alertmanager(directory: &Path, receiver: &Receiver) -> Option<Server> {
    let program = find("prometheus-alertmanager").or_else(|| find("alertmanager"))?;
    let config = format!(
        "route: {{receiver: test, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - {{name: test, webhook_configs: [{{url: '{}'}}]}}
",
        receiver.url("/alerts")
    );
    std::fs::write(directory.join("alertmanager.yml"), config).unwrap();
    Some(Server::start(directory, |address| {
        let mut command = Command::new(&program);
        command.arg("--config.file=alertmanager.yml").arg("--storage.path=alertmanager-data");
        // No cluster: it would listen on all interfaces.
        command.arg("--cluster.listen-address=").arg(format!("--web.listen-address={address}"));
        command.current_dir(directory);
        command
    }))
}

/// The alerts of a name that have come to the receiver.
fn received(receiver: &Receiver, name: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for request in receiver.requests() {
        let told = request.json();
        let alerts = told["alerts"].as_array().unwrap();
        found.extend(alerts.iter().filter(|alert| alert["labels"]["alertname"] == name).cloned());
    }
    found
}

/// What Prometheus says to a query, as its values.
fn ask(prometheus: &Server, query: &str) -> Vec<f64> {
    let answer = get(prometheus.address, &format!("/api/v1/query?query={query}"));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let results = answer["data"]["result"].as_array().unwrap();
    results.iter().map(|one| one["value"][1].as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_decline_reaches_a_webhook_through_prometheus_and_alertmanager() {
    if !common::has_python() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let directory = root.path();
    let receiver = Receiver::start(&[]);
    let Some(alertmanager) = alertmanager(directory, &receiver) else { return };
    std::fs::create_dir(directory.join("made")).unwrap();
    common::succeed(common::script("make_decline.py").arg(directory.join("made")));
    std::fs::write(directory.join("run.yaml"), CONFIG).unwrap();
    (1..=LAST_ALIKE).for_each(|step| save(directory, step));
    let mut command = convergd(&["run", "-c", "run.yaml"]);
    let mut daemon = Running::start(command.current_dir(directory), directory);
    let daemon_address = address(&mut daemon);
    await_value(daemon_address, "convergd_pair_step", 3.0);
    let Some(prometheus) = prometheus(directory, daemon_address, alertmanager.address) else {
        return;
    };

    // The networks agree: Prometheus knows of it, and no rule fails or fires.
    let ratio = "convergd_monitor_value{monitor=\"convergent_ratio\"}";
    eventually("a scrape", || ask(&prometheus, ratio).iter().any(|ratio| *ratio > 0.9));
    let mut said = String::new();
    eventually("rules that are evaluated", || {
        said = get(prometheus.address, "/api/v1/rules?type=alert");
        !said.contains("\"health\":\"unknown\"")
    });
    assert_eq!(said.matches("\"health\":\"ok\"").count(), 12, "{said}");
    assert!(ask(&prometheus, "ALERTS").is_empty(), "{said}");

    // They go apart.
    (LAST_ALIKE + 1..=LAST_ALIKE + 3).for_each(|step| save(directory, step));
    await_value(daemon_address, "convergd_pair_step", 6.0);
    let name = "ConvergenceDeclining";
    eventually("the alert at the webhook", || !received(&receiver, name).is_empty());
    let alert = received(&receiver, name).remove(0);
    assert_eq!(alert["status"], "firing");
    let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
    let labels = ["job", "instance", "monitor", "severity"].map(label);
    let instance = daemon_address.to_string();
    assert_eq!(labels, ["convergd", instance.as_str(), "convergent_ratio", "warning"]);
    let description = alert["annotations"]["description"].as_str().unwrap();
    assert!(description.contains("convergent_ratio is 0.6"), "{description}");
    assert!(description.contains("below its best value 0.99"), "{description}");
    assert!(description.contains("of step 3,"), "{description}");
    assert_eq!(alert["annotations"]["runbook"], "docs/runbook.md#convergencedeclining");
    assert!(daemon.is_alive());
}
