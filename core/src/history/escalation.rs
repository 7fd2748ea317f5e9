//! Rungs of the escalation ladder, the processes that they may reach, and how long answers took.

use super::notification::insert_notifications;
use super::{History, HistoryError, NotificationRow};
use crate::role::Role;
use rusqlite::{OptionalExtension, params};
use std::time::Duration;

type Result<T> = std::result::Result<T, HistoryError>;

/// One rung that was begun.
#[derive(Clone, Debug, PartialEq)]
pub struct EscalationRow {
    /// Of the decision.
    pub generation: u64,
    /// The time of the rung since the delivery: what it is known by.
    pub after: Duration,
    /// Kind of the measure.
    pub kind: String,
    /// The measure in words.
    pub measure: String,
    /// When it was begun, in seconds since 1970.
    pub time: f64,
    /// `success`, `failure` or `skipped`; nothing while it is not known, and for ever if the process ended meanwhile.
    pub result: Option<String>,
    /// What came of it.
    pub detail: Option<String>,
}

impl History {
    /// Stores that a rung is begun, before it is, and what webhooks are to be told by it: after a crash in between it is
    /// known. One that is begun again has another time.
    ///
    /// # Errors
    /// SQLite's; nothing is stored then.
    pub fn begin_escalation(
        &mut self,
        row: &EscalationRow,
        notifications: &[NotificationRow],
    ) -> Result<()> {
        let insert = "INSERT OR REPLACE INTO escalation VALUES (?, ?, ?, ?, ?, ?, ?)";
        let EscalationRow { generation, after, kind, measure, time, result, detail } = row;
        let after = after.as_secs_f64();
        let values = params![*generation as i64, after, kind, measure, time, result, detail];
        let transaction = self.connection.transaction()?;
        transaction.execute(insert, values)?;
        insert_notifications(&transaction, notifications)?;
        Ok(transaction.commit()?)
    }

    /// Stores what came of a rung.
    ///
    /// # Errors
    /// SQLite's.
    pub fn end_escalation(&self, row: &EscalationRow) -> Result<()> {
        let update =
            "UPDATE escalation SET result = ?, detail = ? WHERE generation = ? AND after = ?";
        let after = row.after.as_secs_f64();
        let values = params![row.result, row.detail, row.generation as i64, after];
        self.connection.execute(update, values)?;
        Ok(())
    }

    /// The rungs that were begun for a decision, in order.
    ///
    /// # Errors
    /// SQLite's.
    pub fn escalations(&self, generation: u64) -> Result<Vec<EscalationRow>> {
        let select = "SELECT after, kind, measure, time, result, detail FROM escalation
                      WHERE generation = ? ORDER BY after";
        let mut query = self.connection.prepare_cached(select)?;
        let rows = query.query_map([generation as i64], |row| {
            Ok(EscalationRow {
                generation,
                after: Duration::try_from_secs_f64(row.get(0)?).unwrap_or_default(),
                kind: row.get(1)?,
                measure: row.get(2)?,
                time: row.get(3)?,
                result: row.get(4)?,
                detail: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What was seen in the pid file of a network, as JSON.
    ///
    /// # Errors
    /// SQLite's.
    pub fn sighting(&self, role: Role) -> Result<Option<String>> {
        let select = "SELECT sighting FROM sighting WHERE network = ?";
        let mut query = self.connection.prepare_cached(select)?;
        Ok(query.query_row([role.name()], |row| row.get(0)).optional()?)
    }

    /// Stores what is seen in the pid file of a network.
    ///
    /// # Errors
    /// SQLite's.
    pub fn keep_sighting(&self, role: Role, sighting: &str) -> Result<()> {
        let insert = "INSERT OR REPLACE INTO sighting VALUES (?, ?)";
        self.connection.execute(insert, [role.name(), sighting])?;
        Ok(())
    }

    /// Seconds from the delivery of a decision to each answer, by network: by the clock of this side alone.
    ///
    /// # Errors
    /// SQLite's.
    pub fn latencies(&self, generation: u64) -> Result<Vec<(String, f64)>> {
        let select = "SELECT network, max(seen - delivered, 0) FROM acknowledgement
                      JOIN decision USING (generation)
                      WHERE generation = ? AND seen IS NOT NULL AND delivered IS NOT NULL
                      ORDER BY network DESC";
        let mut query = self.connection.prepare_cached(select)?;
        let rows = query.query_map([generation as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
