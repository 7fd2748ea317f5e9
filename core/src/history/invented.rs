//! Invented histories, for tests of what reads them.

use super::{CheckpointRow, DeliveryRow, Evidence, History, Outcome, PairRecord, PairRow};
use crate::convergence::{Estimate, Goal, Monitor, Strength};
use crate::policy::{Decision, Notice, PolicyState};
use crate::role::Role;
use crate::signal::Document;
use std::path::Path;

/// The step at which every monitor is at its best.
pub(crate) const BEST: u64 = 30;

/// A history in a directory with pairs of these steps, in it since before.
pub(crate) fn history(directory: &Path, steps: &[u64]) -> History {
    let mut history = History::open(directory).expect("opened");
    for &step in steps {
        store(&mut history, &pair(step), None, &[]);
    }
    history
}

/// A pair whose monitors are the farther from 1 the farther its step is from the best.
pub(crate) fn pair(step: u64) -> PairRow {
    let distance = step.abs_diff(BEST) as f64 / 100.0;
    let estimate = |&monitor: &Monitor| {
        let sign = if monitor.goal() == Goal::Max { -1.0 } else { 1.0 };
        (monitor, Estimate { value: 1.0 + sign * distance, standard_error: 0.0625 })
    };
    let order = |k: usize| Strength {
        positive: k as f64,
        negative: 0.5 * k as f64,
        convergent_positive: 0.25 * k as f64,
        convergent_negative: 0.125 * k as f64,
    };
    let strengths: Vec<Strength> = (0..=4).map(order).collect();
    PairRow {
        step,
        time: 1_000_000.25 + step as f64,
        paths: Role::BOTH.map(|role| format!("{role}/{step}")),
        finite: true,
        samples: 80,
        certified: 79,
        gap_max: 2e-3,
        noise_floor: None,
        monitors: Monitor::ALL.iter().map(estimate).collect(),
        strengths: [strengths.clone(), strengths],
        policy: PolicyState { checks: step / 10, ..PolicyState::default() },
    }
}

pub(crate) fn store(
    history: &mut History,
    pair: &PairRow,
    decision: Option<&DeliveryRow>,
    notices: &[Notice],
) {
    let checkpoints = Role::BOTH.map(|role| CheckpointRow {
        role,
        identity: format!("{role}-{}", pair.step),
        step: pair.step,
        path: pair.paths[role.index()].clone(),
        outcome: Outcome::Evaluated,
        reason: None,
    });
    let evidence = &Evidence::default();
    let record = PairRecord {
        pair,
        evidence,
        checkpoints: &checkpoints,
        decision,
        notices,
        notifications: &[],
    };
    history.record_pair(&record).expect("stored");
}

pub(crate) fn stop(step: u64) -> DeliveryRow {
    let decision = Decision {
        id: format!("peak@{step}"),
        rule: "peak".to_owned(),
        action: "stop".to_owned(),
        phase: "plain".to_owned(),
        lambda: 0.0,
        ramp: 0,
        step,
        best_step: Some(BEST),
        reason: "it peaked".to_owned(),
        time: 1_000_000.25 + step as f64,
    };
    let document = Document::of(&decision, 1, step + 1, None);
    DeliveryRow { decision, document, delivered: None }
}

pub(crate) fn notice(step: u64) -> Notice {
    Notice {
        id: format!("look@{step}"),
        rule: "look".to_owned(),
        action: "notify".to_owned(),
        message: Some("look here".to_owned()),
        severity: None,
        step,
        best_step: None,
        reason: "it fell".to_owned(),
        time: 1_000_000.25 + step as f64,
    }
}
