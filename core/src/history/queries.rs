//! Questions to a history that may hold ten thousand pairs: each reads only the rows and columns that it needs,
//! found by an index.

use super::row::{CheckpointRow, DeliveryRow, Outcome};
use super::store::{History, Result};
use crate::convergence::Monitors;
use crate::policy::Notice;
use crate::role::Role;
use rusqlite::{OptionalExtension, Row};

const DECISIONS: &str = "SELECT decision, document, delivered FROM decision ORDER BY generation";
const LAST_DECISION: &str =
    "SELECT decision, document, delivered FROM decision ORDER BY generation DESC LIMIT 1";
const DECISION_OF_REQUEST: &str =
    "SELECT decision, document, delivered FROM decision WHERE request = ?";
const COUNT_PAIRS: &str = "SELECT count(*) FROM pair";
const STEPS: &str = "SELECT step FROM pair ORDER BY step";
const MONITORS: &str = "SELECT step, monitors FROM pair WHERE step > ? ORDER BY step";
const NOISE_FLOORS: &str = "SELECT noise_floor FROM pair WHERE noise_floor IS NOT NULL";
const LAST_NOTICES: &str = "SELECT notice FROM notice ORDER BY step DESC, rowid DESC LIMIT ?";
const NOTICES_FROM: &str = "SELECT notice FROM notice ORDER BY step, rowid LIMIT ? OFFSET ?";
const COUNT_NOTICES: &str = "SELECT count(*) FROM notice";
const CHECKPOINTS: &str = "SELECT network, identity, step, path, outcome, reason FROM checkpoint
    ORDER BY step, network";
const CHECKPOINTS_OF_OUTCOME: &str =
    "SELECT network, identity, step, path, outcome, reason FROM checkpoint
    WHERE outcome = ? ORDER BY step DESC, network DESC LIMIT ?";
const CHECKPOINTS_OF_STEP: &str =
    "SELECT network, identity, step, path, outcome, reason FROM checkpoint
    WHERE network = ? AND step = ?";
const COUNT_CHECKPOINTS: &str = "SELECT count(*) FROM checkpoint WHERE outcome = ?";
const LAST_STEP: &str = "SELECT step FROM checkpoint WHERE outcome = ? AND network = ?
    ORDER BY step DESC LIMIT 1";
const IDENTITIES: &str = "SELECT identity FROM checkpoint
    WHERE network = ? AND (outcome NOT IN ('skipped', 'quarantined') OR step <= ?)";
const NEAREST_IDENTITY: &str = "SELECT identity FROM checkpoint
    WHERE network = ? AND outcome = 'evaluated' AND path = ?
    ORDER BY abs(step - ?), step LIMIT 1";

impl History {
    /// Number of pairs.
    ///
    /// # Errors
    /// SQLite's.
    pub fn count_pairs(&self) -> Result<u64> {
        let mut query = self.connection.prepare_cached(COUNT_PAIRS)?;
        Ok(query.query_row([], |row| row.get::<_, i64>(0))? as u64)
    }

    /// The steps of all pairs, ascending.
    ///
    /// # Errors
    /// SQLite's.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut query = self.connection.prepare_cached(STEPS)?;
        let rows = query.query_map([], |row| row.get::<_, i64>(0))?;
        rows.map(|step| Ok(step? as u64)).collect()
    }

    /// Step and monitors of the pairs after a step, or of all, by ascending step.
    ///
    /// # Errors
    /// SQLite's, and a stored value that cannot be read.
    pub fn monitors_after(&self, step: Option<u64>) -> Result<Vec<(u64, Monitors)>> {
        let mut query = self.connection.prepare_cached(MONITORS)?;
        let after = step.map_or(-1, |step| step as i64);
        let rows = query.query_map([after], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
        rows.map(|row: rusqlite::Result<(i64, String)>| {
            let (step, monitors) = row?;
            Ok((step as u64, serde_json::from_str(&monitors)?))
        })
        .collect()
    }

    /// The largest of all pairs' differences from float32; nothing where all are float32 themselves.
    ///
    /// # Errors
    /// SQLite's, and a stored value that cannot be read.
    pub fn largest_noise_floor(&self) -> Result<Option<f64>> {
        let mut query = self.connection.prepare_cached(NOISE_FLOORS)?;
        let rows = query.query_map([], |row| row.get::<_, String>(0))?;
        let mut largest = None;
        for text in rows {
            let [target, baseline]: [f64; 2] = serde_json::from_str(&text?)?;
            largest = Some(target.max(baseline).max(largest.unwrap_or(0.0)));
        }
        Ok(largest)
    }

    /// All decisions by ascending generation.
    ///
    /// # Errors
    /// SQLite's, and a stored value that cannot be read.
    pub fn decisions(&self) -> Result<Vec<DeliveryRow>> {
        let mut query = self.connection.prepare_cached(DECISIONS)?;
        let rows = query.query_map([], decision_columns)?;
        rows.map(|row| read_decision(row?)).collect()
    }

    /// The decision with the highest generation.
    ///
    /// # Errors
    /// As [`History::decisions`].
    pub fn last_decision(&self) -> Result<Option<DeliveryRow>> {
        let mut query = self.connection.prepare_cached(LAST_DECISION)?;
        let row = query.query_row([], decision_columns).optional()?;
        row.map(read_decision).transpose()
    }

    /// What was decided by a request.
    ///
    /// # Errors
    /// As [`History::decisions`].
    pub fn decision_of(&self, request: &str) -> Result<Option<DeliveryRow>> {
        let mut query = self.connection.prepare_cached(DECISION_OF_REQUEST)?;
        let row = query.query_row([request], decision_columns).optional()?;
        row.map(read_decision).transpose()
    }

    /// The newest `most` of what rules had to say, by step.
    ///
    /// # Errors
    /// SQLite's, and a stored value that cannot be read.
    pub fn last_notices(&self, most: usize) -> Result<Vec<Notice>> {
        let mut query = self.connection.prepare_cached(LAST_NOTICES)?;
        let rows = query.query_map([bound(most)], |row| row.get::<_, String>(0))?;
        let notices: Result<Vec<Notice>> =
            rows.map(|text| Ok(serde_json::from_str(&text?)?)).collect();
        notices.map(|mut notices| {
            notices.reverse();
            notices
        })
    }

    /// At most `most` of what rules had to say, by step, from the `from`-th on, counted from 0.
    ///
    /// # Errors
    /// As [`History::last_notices`].
    pub fn notices_from(&self, from: usize, most: usize) -> Result<Vec<Notice>> {
        let mut query = self.connection.prepare_cached(NOTICES_FROM)?;
        let rows = query.query_map([bound(most), bound(from)], |row| row.get::<_, String>(0))?;
        rows.map(|text| Ok(serde_json::from_str(&text?)?)).collect()
    }

    /// How often rules had something to say.
    ///
    /// # Errors
    /// SQLite's.
    pub fn count_notices(&self) -> Result<u64> {
        let mut query = self.connection.prepare_cached(COUNT_NOTICES)?;
        Ok(query.query_row([], |row| row.get::<_, i64>(0))? as u64)
    }

    /// All checkpoints that were dealt with, by step.
    ///
    /// # Errors
    /// SQLite's.
    pub fn checkpoints(&self) -> Result<Vec<CheckpointRow>> {
        let mut query = self.connection.prepare_cached(CHECKPOINTS)?;
        let rows = query.query_map([], read_checkpoint)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Checkpoints that ended in one way, by step: the last `most` of them.
    ///
    /// # Errors
    /// SQLite's.
    pub fn checkpoints_that(&self, outcome: Outcome, most: usize) -> Result<Vec<CheckpointRow>> {
        let mut query = self.connection.prepare_cached(CHECKPOINTS_OF_OUTCOME)?;
        let rows = query.query_map((outcome.name(), bound(most)), read_checkpoint)?;
        let mut rows: Vec<CheckpointRow> = rows.collect::<rusqlite::Result<_>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// Checkpoints of a network and step.
    ///
    /// # Errors
    /// SQLite's.
    pub fn checkpoints_at(&self, role: Role, step: u64) -> Result<Vec<CheckpointRow>> {
        let mut query = self.connection.prepare_cached(CHECKPOINTS_OF_STEP)?;
        let rows = query.query_map((role.name(), step as i64), read_checkpoint)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many checkpoints ended in one way.
    ///
    /// # Errors
    /// SQLite's.
    pub fn count_checkpoints(&self, outcome: Outcome) -> Result<u64> {
        let mut query = self.connection.prepare_cached(COUNT_CHECKPOINTS)?;
        Ok(query.query_row([outcome.name()], |row| row.get::<_, i64>(0))? as u64)
    }

    /// The highest step of a network whose checkpoint ended in one way.
    ///
    /// # Errors
    /// SQLite's.
    pub fn last_step(&self, role: Role, outcome: Outcome) -> Result<Option<u64>> {
        let mut query = self.connection.prepare_cached(LAST_STEP)?;
        let names = [outcome.name(), role.name()];
        let step = query.query_row(names, |row| row.get::<_, i64>(0)).optional()?;
        Ok(step.map(|step| step as u64))
    }

    /// Identities of a network's checkpoints that are dealt with: not those that were skipped or quarantined
    /// after the last pair.
    ///
    /// # Errors
    /// SQLite's.
    pub fn identities(&self, role: Role, last: Option<u64>) -> Result<Vec<String>> {
        let mut query = self.connection.prepare_cached(IDENTITIES)?;
        let last = last.map_or(-1, |last| last as i64);
        let rows = query.query_map((role.name(), last), |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The identity of the evaluated checkpoint at a path: of several that of the nearest step.
    ///
    /// # Errors
    /// SQLite's.
    pub fn evaluated(&self, role: Role, path: &str, step: u64) -> Result<Option<String>> {
        let mut query = self.connection.prepare_cached(NEAREST_IDENTITY)?;
        let found = query.query_row((role.name(), path, step as i64), |row| row.get(0));
        Ok(found.optional()?)
    }
}

/// A number of rows as SQLite takes it.
fn bound(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

type RawDecision = (String, String, Option<f64>);

fn decision_columns(row: &Row<'_>) -> rusqlite::Result<RawDecision> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn read_decision((decision, document, delivered): RawDecision) -> Result<DeliveryRow> {
    let (decision, document) = (serde_json::from_str(&decision)?, serde_json::from_str(&document)?);
    Ok(DeliveryRow { decision, document, delivered })
}

fn read_checkpoint(row: &Row<'_>) -> rusqlite::Result<CheckpointRow> {
    let (network, outcome): (String, String) = (row.get(0)?, row.get(4)?);
    let unknown = |what: &str, value: &str| {
        let message = format!("unknown {what} `{value}`");
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, message.into())
    };
    let role = Role::BOTH.into_iter().find(|role| role.name() == network);
    let found = Outcome::ALL.into_iter().find(|known| known.name() == outcome);
    Ok(CheckpointRow {
        role: role.ok_or_else(|| unknown("network", &network))?,
        identity: row.get(1)?,
        step: row.get::<_, i64>(2)? as u64,
        path: row.get(3)?,
        outcome: found.ok_or_else(|| unknown("outcome", &outcome))?,
        reason: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::notification::OPEN_NOTIFICATIONS;
    use super::*;

    /// What the daemon asks at each tick and each start, `status` each time, and `top` when something has changed.
    const NARROW: [&str; 13] = [
        LAST_DECISION,
        DECISION_OF_REQUEST,
        OPEN_NOTIFICATIONS,
        COUNT_PAIRS,
        MONITORS,
        LAST_NOTICES,
        NOISE_FLOORS,
        CHECKPOINTS_OF_OUTCOME,
        CHECKPOINTS_OF_STEP,
        COUNT_CHECKPOINTS,
        LAST_STEP,
        "SELECT policy FROM pair ORDER BY step DESC LIMIT 1",
        "SELECT policy FROM pair WHERE step = ?",
    ];

    #[test]
    fn no_question_reads_rows_or_columns_that_it_does_not_need() {
        let directory = tempfile::tempdir().expect("a directory");
        let history = History::open(directory.path()).expect("opened");
        for question in NARROW {
            let explain = format!("EXPLAIN QUERY PLAN {question}");
            let mut plan = history.connection.prepare(&explain).expect("understood");
            let nothing = vec![rusqlite::types::Null; plan.parameter_count()];
            let rows = plan.query_map(rusqlite::params_from_iter(nothing), |row| row.get(3));
            let plan: Vec<String> =
                rows.expect("run").collect::<rusqlite::Result<_>>().expect("read");
            // A scan in the order of a key ends with the first rows; one of a covering index reads no pair.
            let is_narrow = |line: &String| {
                let is_last = question.ends_with("DESC LIMIT 1") && line == "SCAN decision"
                    || question.ends_with("DESC LIMIT 1") && line == "SCAN pair"
                    || question.ends_with("DESC LIMIT ?") && line.contains("USING INDEX");
                line.starts_with("SEARCH") || line.contains("USING COVERING INDEX") || is_last
            };
            assert!(plan.iter().all(is_narrow), "{question}: {plan:?}");
        }
    }
}
