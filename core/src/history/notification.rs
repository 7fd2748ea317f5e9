//! What is told to webhooks, from the moment that it is to be told.

use super::{History, HistoryError};
use rusqlite::{Row, params};

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
    /// When it was delivered or given up, in seconds since 1970; nothing while it is open.
    pub ended: Option<f64>,
    /// Whether it was delivered.
    pub delivered: Option<bool>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up.
    pub error: Option<String>,
}

/// Rows that are looked at in one go: they are asked for at every tick while a webhook is slow.
const MOST_AT_ONCE: i64 = 1000;
const SELECT: &str =
    "SELECT webhook, id, body, ended, delivered, attempts, error FROM notification";

impl History {
    /// Stores that a webhook is to be told something; says whether that is new.
    ///
    /// # Errors
    /// SQLite's.
    pub fn add_notification(&self, webhook: &str, id: &str, body: &str, now: f64) -> Result<bool> {
        let insert =
            "INSERT OR IGNORE INTO notification (webhook, id, body, time) VALUES (?, ?, ?, ?)";
        Ok(self.connection.execute(insert, params![webhook, id, body, now])? > 0)
    }

    /// Stores what came of it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn end_notification(
        &self,
        webhook: &str,
        id: &str,
        attempts: u32,
        error: Option<&str>,
        now: f64,
    ) -> Result<()> {
        let update = "UPDATE notification SET ended = ?, delivered = ?, attempts = ?, error = ?
                      WHERE webhook = ? AND id = ?";
        let values = params![now, error.is_none(), attempts, error, webhook, id];
        self.connection.execute(update, values)?;
        Ok(())
    }

    /// What is still to be told, oldest first, a thousand at most.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open_notifications(&self) -> Result<Vec<NotificationRow>> {
        self.read_notifications("WHERE ended IS NULL", MOST_AT_ONCE)
    }

    /// What was to be told and was not, oldest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn untold(&self) -> Result<Vec<NotificationRow>> {
        self.read_notifications("WHERE delivered IS NOT 1", i64::MAX)
    }

    /// All that was to be told, oldest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn notifications(&self) -> Result<Vec<NotificationRow>> {
        self.read_notifications("", i64::MAX)
    }

    fn read_notifications(&self, which: &str, most: i64) -> Result<Vec<NotificationRow>> {
        let select = format!("{SELECT} {which} ORDER BY time, rowid LIMIT ?");
        let mut query = self.connection.prepare_cached(&select)?;
        let rows = query.query_map([most], read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<NotificationRow> {
    Ok(NotificationRow {
        webhook: row.get(0)?,
        id: row.get(1)?,
        body: row.get(2)?,
        ended: row.get(3)?,
        delivered: row.get(4)?,
        attempts: row.get(5)?,
        error: row.get(6)?,
    })
}
