//! What is told to webhooks, from the moment that it is to be told.
//!
//! It is stored with what it tells of, in the same transaction, and stays open until it is delivered or given up. Of
//! what has ended the newest [`KEPT`] are kept, and what tells of the last decision, which each start tells a webhook
//! that is new.

use super::{History, HistoryError};
use rusqlite::{Connection, OptionalExtension, Row, params};

type Result<T> = std::result::Result<T, HistoryError>;

/// One thing that one webhook is told.
#[derive(Clone, Debug, PartialEq)]
pub struct NotificationRow {
    /// The webhook.
    pub webhook: String,
    /// The key that makes it idempotent.
    pub id: String,
    /// What is told, as JSON.
    pub body: String,
    /// The decision that it is about, where it is one.
    pub generation: Option<u64>,
    /// When it happened, by the clock of the run.
    pub time: f64,
    /// When it was delivered or given up, by the clock of the run; nothing while it is open.
    pub ended: Option<f64>,
    /// Whether it was delivered.
    pub delivered: Option<bool>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was not delivered when it was tried last.
    pub error: Option<String>,
}

/// Those that have ended and are kept.
const KEPT: usize = 1000;
/// Rows that are looked at in one go: they are asked for at every tick while a webhook is slow.
const MOST_AT_ONCE: usize = 1000;
const SELECT: &str = "SELECT webhook, id, body, generation, time, ended, delivered, attempts, error FROM notification";
pub(super) const OPEN_NOTIFICATIONS: &str =
    "SELECT webhook, id, body, generation, time, ended, delivered, attempts, error FROM notification
    WHERE webhook = ? AND ended IS NULL ORDER BY time, rowid LIMIT ?";
const PRUNE_NOTIFICATIONS: &str = "DELETE FROM notification WHERE rowid IN (
        SELECT rowid FROM notification WHERE ended IS NOT NULL ORDER BY time DESC LIMIT -1 OFFSET ?
    ) AND generation IS NOT (SELECT coalesce(max(generation), -1) FROM decision)";

impl History {
    /// Stores that webhooks are to be told something; says whether any of it is new.
    ///
    /// # Errors
    /// SQLite's; nothing is stored then.
    pub fn add_notifications(&mut self, rows: &[NotificationRow]) -> Result<bool> {
        let transaction = self.connection.transaction()?;
        let added = insert_notifications(&transaction, rows)?;
        transaction.commit()?;
        Ok(added > 0)
    }

    /// The same of something that happens again and again, which has a number.
    ///
    /// # Errors
    /// SQLite's; nothing is stored then.
    pub fn add_numbered(&mut self, number: u64, rows: &[NotificationRow]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let insert = "INSERT OR REPLACE INTO counter VALUES ('notice', ?)";
        transaction.execute(insert, [number as i64])?;
        insert_notifications(&transaction, rows)?;
        Ok(transaction.commit()?)
    }

    /// The number of the next such thing, from 1.
    ///
    /// # Errors
    /// SQLite's.
    pub fn next_notice(&self) -> Result<u64> {
        let select = "SELECT value FROM counter WHERE name = 'notice'";
        let mut query = self.connection.prepare_cached(select)?;
        let last = query.query_row([], |row| row.get::<_, i64>(0)).optional()?;
        Ok(last.map_or(1, |last| last as u64 + 1))
    }

    /// Stores that so many more attempts have failed, and that others will be made.
    ///
    /// # Errors
    /// SQLite's.
    pub fn note_attempts(&self, webhook: &str, id: &str, attempts: u32, error: &str) -> Result<()> {
        let update = "UPDATE notification SET attempts = attempts + ?, error = ?
                      WHERE webhook = ? AND id = ?";
        self.connection.execute(update, params![attempts, error, webhook, id])?;
        Ok(())
    }

    /// Stores what came of it after so many more attempts, and forgets what is old.
    ///
    /// # Errors
    /// SQLite's; nothing is stored then.
    pub fn end_notification(
        &mut self,
        webhook: &str,
        id: &str,
        attempts: u32,
        error: Option<&str>,
        time: f64,
    ) -> Result<()> {
        let update = "UPDATE notification
                      SET ended = ?, delivered = ?, attempts = attempts + ?, error = ?
                      WHERE webhook = ? AND id = ?";
        let transaction = self.connection.transaction()?;
        let values = params![time, error.is_none(), attempts, error, webhook, id];
        transaction.execute(update, values)?;
        transaction.execute(PRUNE_NOTIFICATIONS, [KEPT as i64])?;
        Ok(transaction.commit()?)
    }

    /// Gives up what happened before `since` and is still to be told to webhooks that are no longer known.
    ///
    /// # Errors
    /// SQLite's.
    pub fn give_up_unknown(&self, known: &[&str], since: f64, time: f64) -> Result<()> {
        let update = "UPDATE notification SET ended = ?, delivered = 0, error = ?
                      WHERE ended IS NULL AND time < ?
                      AND webhook NOT IN (SELECT value FROM json_each(?))";
        let error = "there is no such webhook any more";
        let known = serde_json::to_string(known)?;
        self.connection.execute(update, params![time, error, since, known])?;
        Ok(())
    }

    /// What a webhook is still to be told, oldest first: a thousand at most, beside so many that the caller knows.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open_notifications(&self, webhook: &str, known: usize) -> Result<Vec<NotificationRow>> {
        let mut query = self.connection.prepare_cached(OPEN_NOTIFICATIONS)?;
        let most = i64::try_from(MOST_AT_ONCE + known).unwrap_or(i64::MAX);
        let rows = query.query_map(params![webhook, most], read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What was to be told and was not, oldest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn untold(&self) -> Result<Vec<NotificationRow>> {
        self.read_notifications("WHERE delivered IS NOT 1")
    }

    /// All that was to be told and is known yet, oldest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn notifications(&self) -> Result<Vec<NotificationRow>> {
        self.read_notifications("")
    }

    fn read_notifications(&self, which: &str) -> Result<Vec<NotificationRow>> {
        let select = format!("{SELECT} {which} ORDER BY time, rowid");
        let mut query = self.connection.prepare_cached(&select)?;
        let rows = query.query_map([], read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// Stores them, but those that are known; how many are new.
pub(super) fn insert_notifications(
    connection: &Connection,
    rows: &[NotificationRow],
) -> Result<usize> {
    let insert = "INSERT OR IGNORE INTO notification (webhook, id, body, generation, time)
                  VALUES (?, ?, ?, ?, ?)";
    let mut added = 0;
    for NotificationRow { webhook, id, body, generation, time, .. } in rows {
        let generation = generation.map(|generation| generation as i64);
        let mut query = connection.prepare_cached(insert)?;
        added += query.execute(params![webhook, id, body, generation, time])?;
    }
    Ok(added)
}

fn read(row: &Row<'_>) -> rusqlite::Result<NotificationRow> {
    Ok(NotificationRow {
        webhook: row.get(0)?,
        id: row.get(1)?,
        body: row.get(2)?,
        generation: row.get::<_, Option<i64>>(3)?.map(|generation| generation as u64),
        time: row.get(4)?,
        ended: row.get(5)?,
        delivered: row.get(6)?,
        attempts: row.get(7)?,
        error: row.get(8)?,
    })
}
