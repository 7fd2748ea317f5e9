//! Pairs, decisions and facts as JSON; the names are part of the interface.

use super::Told;
use crate::history::{DeliveryRow, History, HistoryError, PairRow, setting};
use serde_json::{Map, Value, json};

/// A pair with its monitors and strengths, but not the memory of the rules nor what each sample adds.
pub fn pair(pair: &PairRow) -> Value {
    json!({
        "step": pair.step, "time": pair.time,
        "target": pair.paths[0], "baseline": pair.paths[1],
        "finite": pair.finite, "extractions": pair.samples, "certified": pair.certified,
        "gap_max": pair.gap_max, "noise_floor": pair.noise_floor,
        "phase": pair.policy.phase, "lambda": pair.policy.lambda,
        "monitors": pair.monitors,
        "strengths": {"target": pair.strengths[0], "baseline": pair.strengths[1]},
    })
}

/// A decision, the control document that tells it, and the answers.
///
/// # Errors
/// The history's.
pub fn decision(history: &History, row: &DeliveryRow) -> Result<Value, HistoryError> {
    let told = Told::of(history, Some(row))?;
    Ok(json!({
        "decision": row.decision, "control": row.document, "delivered": row.delivered,
        "acknowledged": told.acknowledged(), "escalations": told.escalations(),
    }))
}

/// The settings that a run was begun with, by name.
///
/// # Errors
/// The history's.
pub fn facts(history: &History) -> Result<Map<String, Value>, HistoryError> {
    let readable = |(name, value): (String, String)| {
        let value = Value::String(setting::readable(&name, &value));
        (name, value)
    };
    Ok(history.facts()?.into_iter().map(readable).collect())
}
