//! `/metrics` of a daemon at work.

use crate::bench::{Bench, Running, eventually};
use crate::common::scrape::{address, await_value, get, try_get, value};
use crate::names;
use crate::programs::promtool_agrees;
use std::net::{SocketAddr, TcpStream};

const LISTEN: (&str, &str) = ("compute:", "telemetry: {listen: '127.0.0.1:0'}\ncompute:");
/// What has a series only on a GPU, in another precision, or with such a rule.
const SOMETIMES: [&str; 4] = [
    "convergd_device_memory_bytes",
    "convergd_patience_remaining_checks",
    "convergd_precision_noise_floor",
    "convergd_rule_alert",
];

#[test]
fn a_scrape_has_all_that_is_documented_and_promtool_finds_no_fault() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    let followed = "policy:
  rules:
    - {id: peak, when: {declined: {metric: convergent_ratio, drop: {absolute: 2}}}, then: {notify: {}}}";
    bench.configure(&[LISTEN, ("policy:\n  rules:", followed)]);
    let mut daemon = bench.follow();
    let address = address(&mut daemon);
    let metrics = await_value(address, "convergd_pairs_total", 3.0);
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    let samples: String = samples.map(|line| format!("{line}\n")).collect();
    let mut missing = names::served();
    let found = names::named(&samples);
    assert!(found.is_subset(&missing), "{:?}", found.difference(&missing));
    missing.retain(|name| !found.contains(name) && !SOMETIMES.contains(&name.as_str()));
    assert!(missing.is_empty(), "no series of {missing:?}");
    assert_eq!(value(&metrics, "convergd_checkpoint_ready_delay_seconds_count"), Some(6.0));
    if let Some(said) = promtool_agrees(&["check", "metrics"], bench.path("").as_path(), &metrics) {
        assert_eq!(said.trim(), "");
    }
}

#[test]
fn the_best_is_shown_as_the_rule_knows_it_and_patience_runs_out() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    let rule = "policy:
  rules:
    - {id: peak, when: {peaked: {metric: probe_loss, goal: max, patience: {checks: 9}}}, warmup: {checks: 1}, then: {notify: {}}}";
    bench.configure(&[LISTEN, ("policy:\n  rules:", rule)]);
    let mut daemon = bench.follow();
    let metrics = await_value(address(&mut daemon), "convergd_pairs_total", 3.0);
    let losses: Vec<f64> = bench.pairs()[1..].iter().map(|row| loss(&row[1])).collect();
    let best = losses[0].max(losses[1]);
    let of = |name: &str| value(&metrics, &format!("convergd_{name}{{monitor=\"probe_loss\"}}"));
    assert_eq!(of("monitor_best"), Some(best));
    let (step, left) = if best == losses[0] { (2.0, 8.0) } else { (3.0, 9.0) };
    assert_eq!(of("monitor_best_step"), Some(step));
    assert!(of("monitor_best_stderr") > Some(0.0));
    let patience = "convergd_patience_remaining_checks{rule=\"peak\"}";
    assert_eq!(value(&metrics, patience), Some(left));
}

fn loss(monitors: &str) -> f64 {
    let monitors: serde_json::Value = serde_json::from_str(monitors).unwrap();
    monitors["probe_loss"]["value"].as_f64().unwrap_or_else(|| panic!("{monitors}"))
}

#[test]
fn what_the_run_has_left_is_served_for_the_grace_and_the_state_is_free() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let grace = ("compute:", "telemetry: {listen: '127.0.0.1:0', grace: 1h}\ncompute:");
    bench.configure(&[grace, ("{step: 100}", "{step: 2}")]);
    let mut daemon = bench.follow();
    let address = address(&mut daemon);
    let metrics = await_value(address, "convergd_pairs_total", 1.0);
    assert_eq!(value(&metrics, "convergd_run_ended"), Some(0.0));
    let silent = |network| {
        format!("convergd_decisions_unacknowledged{{action=\"stop\",network=\"{network}\"}}")
    };
    for network in ["target", "baseline"] {
        assert_eq!(value(&metrics, &silent(network)), Some(0.0));
        bench.add_step(network, 2);
    }
    await_value(address, &silent("target"), 1.0);
    await_value(address, &silent("baseline"), 1.0);
    let done = bench.path("control/done-target");
    std::fs::write(done, "{}").unwrap();
    await_value(address, &silent("target"), 0.0);
    let metrics = get(address, "/metrics");
    assert_eq!(value(&metrics, &silent("baseline")), Some(1.0));
    assert_eq!(value(&metrics, "convergd_run_ended"), Some(0.0));
    bench.end_training();
    let metrics = await_value(address, "convergd_run_ended", 1.0);
    assert_eq!(value(&metrics, &silent("baseline")), Some(0.0));
    assert_eq!(value(&metrics, "convergd_pair_step"), Some(2.0));
    // Nobody could tell it from one that died, were it started again and gone at once.
    daemon.terminate();
    daemon.finish().expect(10, &["telemetry.grace"]);
    assert!(TcpStream::connect(address).is_err(), "something still listens");
    let mut daemon = bench.follow();
    let address = self::address(&mut daemon);
    let metrics = await_value(address, "convergd_run_ended", 1.0);
    assert_eq!(value(&metrics, "convergd_pair_step"), Some(2.0));
    // A command finds nobody at work and does it itself.
    bench.command(&["resume", "-c", "run.yaml"]).expect(0, &[]);
    assert!(daemon.is_alive());
    daemon.terminate();
    daemon.finish().expect(10, &["telemetry.grace"]);
    assert!(TcpStream::connect(address).is_err(), "something still listens");
}
