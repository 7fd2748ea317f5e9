//! The annotated examples of `config/`, played over runs of which the truth is known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code)]
#[path = "common/noisy_run.rs"]
mod noisy_run;

use convergd::config::Config;
use convergd::convergence::{Estimate, Monitor, Monitors, Samples};
use convergd::policy::{Observation, Policy, PolicyState, decide, replay};
use std::path::Path;

const CHECKS: usize = 40;

fn policy(name: &str) -> Policy {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    Config::load_policy(&file).expect("a good example")
}

/// A flat curve that declines from the middle on, a pair each so many steps.
fn declining(stride: u64) -> Vec<Observation> {
    let run = noisy_run::run(7, 60, CHECKS, 0.1);
    run.into_iter().enumerate().map(|(check, samples)| observe(check, samples, stride)).collect()
}

fn observe(check: usize, samples: Samples, stride: u64) -> Observation {
    let estimate = |value| Estimate { value, standard_error: 0.01 };
    let of_samples = [Monitor::ConvergenceScore, Monitor::ConvergentRatio, Monitor::ProbeLoss];
    let values = of_samples.map(|monitor| (monitor, samples.value(monitor).expect("defined")));
    let mut monitors: Monitors =
        values.into_iter().map(|(monitor, value)| (monitor, estimate(value))).collect();
    monitors.insert(Monitor::ProbeAccuracy, estimate(0.9));
    for scale in [Monitor::OutputScaleTarget, Monitor::OutputScaleBaseline] {
        monitors.insert(scale, estimate(2.0));
    }
    let step = (check as u64 + 1) * stride;
    Observation { step, monitors, finite: true, samples: Some(samples) }
}

fn minutes(observations: &[Observation]) -> impl Iterator<Item = (&Observation, f64)> {
    observations.iter().zip((0..).map(|minute| 60.0 * f64::from(minute)))
}

/// Rule and action of each decision, with its step.
fn played(name: &str, stride: u64) -> Vec<(String, String, u64)> {
    let (policy, observations) = (policy(name), declining(stride));
    let replayed = replay(&policy, minutes(&observations));
    replayed.decisions.into_iter().map(|d| (d.rule, d.action, d.step)).collect()
}

fn rules(decisions: &[(String, String, u64)]) -> Vec<(&str, &str)> {
    decisions.iter().map(|(rule, action, _)| (rule.as_str(), action.as_str())).collect()
}

#[test]
fn the_three_phases_come_by_step() {
    let decisions = played("three-phases.yaml", 10);
    let wanted =
        [("release", "phase", 100), ("regularize-again", "phase", 200), ("budget", "stop", 300)];
    let found: Vec<_> = decisions.iter().map(|(r, a, s)| (r.as_str(), a.as_str(), *s)).collect();
    assert_eq!(found, wanted);
}

#[test]
fn a_decline_switches_and_another_one_stops() {
    let decisions = played("decline.yaml", 100);
    assert_eq!(rules(&decisions), [("convergence-declines", "phase"), ("declines-again", "stop")]);
}

#[test]
fn the_careful_policy_waits_for_a_decline_that_is_no_noise() {
    let decisions = played("careful.yaml", 391);
    assert_eq!(rules(&decisions), [("convergence-peaked", "phase"), ("score-peaked", "stop")]);
    assert!(
        decisions[0].2 > 391 * CHECKS as u64 / 2,
        "the curve is flat until then: {decisions:?}"
    );
}

#[test]
fn early_stopping_stops_where_the_loss_gets_no_better() {
    assert_eq!(rules(&played("early-stopping.yaml", 100)), [("early-stopping", "stop")]);
}

#[test]
fn the_demos_stop_and_switch_at_the_peak() {
    assert_eq!(rules(&played("demo.yaml", 1)), [("convergence-peaked", "stop")]);
    let decisions = played("demo-phase.yaml", 1);
    assert_eq!(rules(&decisions), [("convergence-peaked", "phase"), ("budget", "stop")]);
}

#[test]
fn state_survives_a_restart_after_any_pair_under_every_example() {
    for (name, stride) in [
        ("three-phases.yaml", 10),
        ("decline.yaml", 100),
        ("careful.yaml", 391),
        ("early-stopping.yaml", 100),
        ("demo.yaml", 1),
        ("demo-phase.yaml", 1),
    ] {
        let (policy, observations) = (policy(name), declining(stride));
        let whole = replay(&policy, minutes(&observations));
        let mut state = PolicyState::begin(&policy);
        let (mut decisions, mut notices) = (Vec::new(), Vec::new());
        for (observation, time) in minutes(&observations) {
            let outcome = decide(&policy, state, observation, time);
            decisions.extend(outcome.decision);
            notices.extend(outcome.notices);
            // What a restart does: the stored text is all that is kept.
            let stored = serde_json::to_string(&outcome.state).expect("written");
            state = serde_json::from_str(&stored).expect("read");
        }
        assert!(!decisions.is_empty(), "{name}");
        assert_eq!((decisions, notices), (whole.decisions, whole.notices), "{name}");
        assert_eq!(state, whole.state, "{name}");
    }
}
