//! Reading and writing the history.

use super::notification::insert_notifications;
use super::row::{CheckpointRow, DeliveryRow, Evidence, PairRecord, PairRow};
use super::schema::MIGRATIONS;
use super::{HistoryError, NotificationRow, setting};
use crate::convergence::Samples;
use crate::policy::Notice;
use crate::role::Role;
use crate::signal::Acknowledgement;
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) type Result<T> = std::result::Result<T, HistoryError>;

const FILE_NAME: &str = "history.sqlite";
/// How long a reader waits for a writer and the other way round.
const BUSY: Duration = Duration::from_secs(5);
/// Pages of the file that are copied at a time.
const PAGES: std::ffi::c_int = 1024;

/// An open history.
pub struct History {
    pub(super) connection: Connection,
    path: PathBuf,
}

impl History {
    /// Opens the history of a state directory for writing, making it where there is none. The caller
    /// holds the lock.
    ///
    /// # Errors
    /// A file that cannot be opened or is of a newer version.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = Self::file(directory);
        let refuse = |error| unusable(directory, error);
        let connection = Connection::open(&path).map_err(refuse)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(refuse)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let mut history = Self::with(connection, path)?;
        history.migrate()?;
        Ok(history)
    }

    /// Opens the history of a state directory for reading, while another process may write.
    ///
    /// # Errors
    /// A directory without a history, or one of a newer version.
    pub fn open_for_reading(directory: &Path) -> Result<Self> {
        let path = Self::file(directory);
        if !path.exists() {
            return Err(HistoryError::Absent { path: directory.to_owned() });
        }
        // WAL readers write to the shared-memory file, so the connection itself is not read-only.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)
            .or_else(|_| Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
        connection.pragma_update(None, "query_only", true)?;
        let history = match Self::with(connection, path.clone()) {
            // Where that file has no room, or the disk cannot be written: without a log the file is whole.
            Err(
                HistoryError::Directory { .. } | HistoryError::Disk(_) | HistoryError::Database(_),
            ) if is_log_empty(&path) => Self::with(open_unchanging(&path)?, path)?,
            opened => opened?,
        };
        match history.version()? == MIGRATIONS.len() as i64 {
            true => Ok(history),
            false => history.migrated_copy(),
        }
    }

    /// A copy in memory that is of this version: a reader leaves the file as it is.
    fn migrated_copy(self) -> Result<Self> {
        let mut copy = Connection::open_in_memory()?;
        Backup::new(&self.connection, &mut copy)?.run_to_completion(PAGES, Duration::ZERO, None)?;
        let mut history = Self::with(copy, self.path)?;
        history.migrate()?;
        Ok(history)
    }

    /// The file of the history of a state directory.
    pub fn file(directory: &Path) -> PathBuf {
        directory.join(FILE_NAME)
    }

    /// A number that differs when another process has stored something since it was asked for last.
    ///
    /// # Errors
    /// SQLite's.
    pub fn change(&self) -> Result<i64> {
        Ok(self.connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    fn with(connection: Connection, path: PathBuf) -> Result<Self> {
        connection.busy_timeout(BUSY)?;
        let history = Self { connection, path };
        // The first question to the file: one that is no database is noticed here.
        let found = history.version().map_err(|error| match error {
            HistoryError::Database(error) => {
                unusable(history.path.parent().unwrap_or(&history.path), error)
            }
            other => other,
        })?;
        let known = MIGRATIONS.len() as i64;
        match found <= known {
            true => Ok(history),
            false => Err(HistoryError::Newer { path: history.path, found, known }),
        }
    }

    fn version(&self) -> Result<i64> {
        Ok(self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
    }

    fn migrate(&mut self) -> Result<()> {
        for version in self.version()? as usize..MIGRATIONS.len() {
            let transaction = self.connection.transaction()?;
            transaction.execute_batch(MIGRATIONS[version])?;
            transaction.pragma_update(None, "user_version", version as i64 + 1)?;
            transaction.commit()?;
        }
        Ok(())
    }

    /// Whether the run decides and tells nobody.
    ///
    /// # Errors
    /// SQLite's.
    pub fn is_dry(&self) -> Result<bool> {
        Ok(self.fact("mode")?.as_deref() == Some("dry run"))
    }

    /// A fact of the run.
    ///
    /// # Errors
    /// SQLite's.
    pub fn fact(&self, name: &str) -> Result<Option<String>> {
        let mut query = self.connection.prepare_cached("SELECT value FROM fact WHERE name = ?")?;
        Ok(query.query_row([name], |row| row.get(0)).optional()?)
    }

    /// Stores a fact of the run once; a later different value is refused, because the numbers before
    /// and after it could not be compared.
    ///
    /// # Errors
    /// A different value, and SQLite's.
    pub fn keep_fact(&self, name: &str, value: &str) -> Result<()> {
        self.compare_fact(name, value)?;
        if self.fact(name)?.is_none() {
            let insert = "INSERT INTO fact (name, value) VALUES (?, ?)";
            self.connection.execute(insert, [name, value])?;
        }
        Ok(())
    }

    /// Refuses a value other than the one that is stored, if there is one.
    ///
    /// # Errors
    /// A different value, and SQLite's.
    pub fn compare_fact(&self, name: &str, value: &str) -> Result<()> {
        setting::compare(&self.path, name, self.fact(name)?.as_deref(), value)
    }

    /// Forgets all facts of a run that has no pair yet, but how webhooks know it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forget_facts(&self) -> Result<()> {
        self.connection.execute("DELETE FROM fact WHERE name <> 'run id'", [])?;
        Ok(())
    }

    /// Stores how the training ended, the fact `ended`, with what webhooks are to be told of it.
    ///
    /// # Errors
    /// SQLite's; nothing is stored then.
    pub fn record_end(&mut self, why: &str, notifications: &[NotificationRow]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let insert = "INSERT OR REPLACE INTO fact (name, value) VALUES ('ended', ?)";
        transaction.execute(insert, [why])?;
        insert_notifications(&transaction, notifications)?;
        Ok(transaction.commit()?)
    }

    /// Stores that the training goes on.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forget_end(&self) -> Result<()> {
        delete_end(&self.connection)
    }

    /// Stores that nothing of this stop is left to do, the fact `closed`: it is answered, and the last checkpoints are
    /// evaluated or let go of.
    ///
    /// # Errors
    /// SQLite's.
    pub fn record_closed(&self, generation: u64) -> Result<()> {
        let insert = "INSERT OR REPLACE INTO fact (name, value) VALUES ('closed', ?)";
        self.connection.execute(insert, [generation.to_string()])?;
        Ok(())
    }

    /// The last stop of which nothing is left to do.
    ///
    /// # Errors
    /// SQLite's.
    pub fn closed(&self) -> Result<Option<u64>> {
        Ok(self.fact("closed")?.and_then(|generation| generation.parse().ok()))
    }

    /// The latest time by the clock of the run that is stored: of the last pair, intervention and delivery.
    ///
    /// # Errors
    /// SQLite's.
    pub fn latest_time(&self) -> Result<Option<f64>> {
        let mut query = self.connection.prepare_cached(LATEST_TIME)?;
        Ok(query.query_row([], |row| row.get(0))?)
    }

    /// All facts of the run, by name, without those of its last end: of it tell [`History::failure`] and [`History::closed`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn facts(&self) -> Result<Vec<(String, String)>> {
        let mut query = self.connection.prepare(
            "SELECT name, value FROM fact WHERE name NOT IN ('failed', 'closed') ORDER BY name",
        )?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Stores how a checkpoint ended.
    ///
    /// # Errors
    /// SQLite's.
    pub fn record_checkpoint(&self, row: &CheckpointRow, now: f64) -> Result<()> {
        insert_checkpoint(&self.connection, row, now)
    }

    /// Removes the record of a checkpoint that was waiting and is gone: if it comes again, it is new.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forget_checkpoint(&self, role: Role, identity: &str) -> Result<()> {
        let delete = "DELETE FROM checkpoint WHERE network = ? AND identity = ?";
        self.connection.execute(delete, [role.name(), identity])?;
        Ok(())
    }

    /// Stores a pair with its checkpoints, its decision and its notices in one transaction.
    ///
    /// # Errors
    /// SQLite's; nothing is stored then.
    pub fn record_pair(&mut self, record: &PairRecord<'_>) -> Result<()> {
        let PairRecord { pair, evidence, checkpoints, decision, notices, notifications } = record;
        let transaction = self.connection.transaction()?;
        insert_pair(&transaction, pair)?;
        insert_evidence(&transaction, pair.step, evidence)?;
        for row in *checkpoints {
            insert_checkpoint(&transaction, row, pair.time)?;
        }
        if let Some(row) = decision {
            insert_decision(&transaction, row, None)?;
        }
        insert_notifications(&transaction, notifications)?;
        for notice in *notices {
            let insert = "INSERT OR REPLACE INTO notice VALUES (?, ?, ?)";
            let text = serde_json::to_string(notice)?;
            transaction.execute(insert, params![notice.id, notice.step as i64, text])?;
        }
        crate::failpoint::reach("pair-inserted");
        Ok(transaction.commit()?)
    }

    /// What the monitors of the pair of a step rest on; nothing where an earlier version stored the pair.
    ///
    /// # Errors
    /// SQLite's.
    pub fn evidence(&self, step: u64) -> Result<Option<Evidence>> {
        let select = "SELECT samples, target_values, baseline_values FROM evidence WHERE step = ?";
        let mut query = self.connection.prepare_cached(select)?;
        let read = |row: &Row<'_>| {
            let samples: Option<Vec<u8>> = row.get(0)?;
            let samples = samples.and_then(|bytes| Samples::from_bytes(&bytes));
            Ok(Evidence { samples, values: [row.get(1)?, row.get(2)?] })
        };
        Ok(query.query_row([step as i64], read).optional()?)
    }

    /// What rules had to say at a pair.
    ///
    /// # Errors
    /// As [`History::pairs`].
    pub fn notices_at(&self, step: u64) -> Result<Vec<Notice>> {
        let select = "SELECT notice FROM notice WHERE step = ? ORDER BY id";
        let mut query = self.connection.prepare_cached(select)?;
        let rows = query.query_map([step as i64], |row| row.get::<_, String>(0))?;
        rows.map(|text| Ok(serde_json::from_str(&text?)?)).collect()
    }

    /// All that rules had to say, by step.
    ///
    /// # Errors
    /// As [`History::pairs`].
    pub fn notices(&self) -> Result<Vec<Notice>> {
        self.last_notices(usize::MAX)
    }

    /// Notes that the control file of a generation has been written; the first time counts.
    ///
    /// # Errors
    /// SQLite's.
    pub fn record_delivery(&self, generation: u64, now: f64) -> Result<()> {
        let update = "UPDATE decision SET delivered = coalesce(delivered, ?) WHERE generation = ?";
        self.connection.execute(update, params![now, generation as i64])?;
        Ok(())
    }

    /// Stores an answer once; says whether it is new.
    ///
    /// # Errors
    /// SQLite's.
    pub fn record_acknowledgement(
        &self,
        role: Role,
        ack: &Acknowledgement,
        now: f64,
    ) -> Result<bool> {
        let insert = "INSERT OR IGNORE INTO acknowledgement VALUES (?, ?, ?, ?, ?)";
        let values = params![role.name(), ack.generation as i64, ack.step as i64, ack.time, now];
        Ok(self.connection.execute(insert, values)? > 0)
    }

    /// Answers to a generation: network, step, time.
    ///
    /// # Errors
    /// SQLite's.
    pub fn acknowledgements(&self, generation: u64) -> Result<Vec<(String, u64, f64)>> {
        let select = "SELECT network, step, time FROM acknowledgement WHERE generation = ?
                      ORDER BY network DESC";
        let mut query = self.connection.prepare_cached(select)?;
        let rows = query.query_map([generation as i64], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)? as u64, row.get(2)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// All pairs by ascending step.
    ///
    /// # Errors
    /// SQLite's, and a stored value that cannot be read.
    pub fn pairs(&self) -> Result<Vec<PairRow>> {
        let mut query = self.connection.prepare(&format!("{SELECT_PAIR} ORDER BY step"))?;
        let rows = query.query_map([], pair_columns)?;
        rows.map(|row| read_pair(row?)).collect()
    }

    /// At most `most` pairs by ascending step, from step `from` on.
    ///
    /// # Errors
    /// As [`History::pairs`].
    pub fn pairs_from(&self, from: u64, most: usize) -> Result<Vec<PairRow>> {
        let select = format!("{SELECT_PAIR} WHERE step >= ? ORDER BY step LIMIT ?");
        let mut query = self.connection.prepare_cached(&select)?;
        let [from, most] =
            [i64::try_from(from), i64::try_from(most)].map(|bound| bound.unwrap_or(i64::MAX));
        let rows = query.query_map([from, most], pair_columns)?;
        rows.map(|row| read_pair(row?)).collect()
    }

    /// The pair with the highest step.
    ///
    /// # Errors
    /// As [`History::pairs`].
    pub fn last_pair(&self) -> Result<Option<PairRow>> {
        self.one_pair(&format!("{SELECT_PAIR} ORDER BY step DESC LIMIT 1"), None)
    }

    /// The pair of a step.
    ///
    /// # Errors
    /// As [`History::pairs`].
    pub fn pair(&self, step: u64) -> Result<Option<PairRow>> {
        self.one_pair(&format!("{SELECT_PAIR} WHERE step = ?"), Some(step))
    }

    fn one_pair(&self, select: &str, step: Option<u64>) -> Result<Option<PairRow>> {
        let mut query = self.connection.prepare_cached(select)?;
        let parameters = step.map(|step| step as i64);
        let row =
            query.query_row(rusqlite::params_from_iter(parameters), pair_columns).optional()?;
        row.map(read_pair).transpose()
    }
}

fn insert_checkpoint(connection: &Connection, row: &CheckpointRow, now: f64) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?, ?, ?, ?)";
    let CheckpointRow { role, identity, step, path, outcome, reason } = row;
    let values =
        params![role.name(), identity, *step as i64, path, outcome.name(), reason.as_deref(), now];
    connection.prepare_cached(insert)?.execute(values)?;
    Ok(())
}

fn insert_pair(transaction: &Transaction<'_>, pair: &PairRow) -> Result<()> {
    let insert = "INSERT INTO pair VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    transaction.execute(
        insert,
        params![
            pair.step as i64,
            pair.time,
            pair.paths[0],
            pair.paths[1],
            pair.finite,
            pair.samples as i64,
            pair.certified as i64,
            pair.gap_max,
            serde_json::to_string(&pair.monitors)?,
            serde_json::to_string(&pair.strengths)?,
            serde_json::to_string(&pair.policy)?,
            pair.noise_floor.map(|floor| serde_json::to_string(&floor)).transpose()?,
        ],
    )?;
    Ok(())
}

fn insert_evidence(
    transaction: &Transaction<'_>,
    step: u64,
    Evidence { samples, values: [target, baseline] }: &Evidence,
) -> Result<()> {
    let bytes = samples.as_ref().map(Samples::to_bytes);
    let insert = "INSERT INTO evidence VALUES (?, ?, ?, ?)";
    transaction.execute(insert, params![step as i64, bytes, target, baseline])?;
    Ok(())
}

pub(super) fn delete_end(connection: &Connection) -> Result<()> {
    connection.execute("DELETE FROM fact WHERE name = 'ended'", [])?;
    Ok(())
}

pub(super) fn insert_decision(
    transaction: &Transaction<'_>,
    row: &DeliveryRow,
    request: Option<&str>,
) -> Result<()> {
    let insert = "INSERT INTO decision (generation, id, step, decision, document, request)
                  VALUES (?, ?, ?, ?, ?, ?)";
    let DeliveryRow { decision, document, .. } = row;
    transaction.execute(
        insert,
        params![
            document.generation as i64,
            decision.id,
            decision.step as i64,
            serde_json::to_string(decision)?,
            serde_json::to_string(document)?,
            request,
        ],
    )?;
    Ok(())
}

const LATEST_TIME: &str = "SELECT max(time) FROM (
    SELECT * FROM (SELECT time FROM pair ORDER BY step DESC LIMIT 1)
    UNION ALL SELECT * FROM (SELECT time FROM intervention ORDER BY number DESC LIMIT 1)
    UNION ALL SELECT * FROM (SELECT delivered AS time FROM decision ORDER BY generation DESC LIMIT 1)
    UNION ALL SELECT * FROM (SELECT seen AS time FROM acknowledgement ORDER BY rowid DESC LIMIT 2)
    UNION ALL SELECT * FROM (SELECT time FROM escalation ORDER BY rowid DESC LIMIT 1)
    UNION ALL SELECT * FROM (SELECT time FROM notification ORDER BY rowid DESC LIMIT 1))";

const SELECT_PAIR: &str =
    "SELECT step, time, target, baseline, finite, samples, certified, gap_max,
                           monitors, strengths, policy, noise_floor FROM pair";

/// A pair whose JSON columns are still text.
type RawPair = (PairRow, [String; 3], Option<String>);

fn pair_columns(row: &Row<'_>) -> rusqlite::Result<RawPair> {
    let pair = PairRow {
        step: row.get::<_, i64>(0)? as u64,
        time: row.get(1)?,
        paths: [row.get(2)?, row.get(3)?],
        finite: row.get(4)?,
        samples: row.get::<_, i64>(5)? as usize,
        certified: row.get::<_, i64>(6)? as usize,
        gap_max: row.get(7)?,
        noise_floor: None,
        monitors: Default::default(),
        strengths: Default::default(),
        policy: Default::default(),
    };
    Ok((pair, [row.get(8)?, row.get(9)?, row.get(10)?], row.get(11)?))
}

fn read_pair((pair, [monitors, strengths, policy], noise_floor): RawPair) -> Result<PairRow> {
    Ok(PairRow {
        monitors: serde_json::from_str(&monitors)?,
        strengths: serde_json::from_str(&strengths)?,
        policy: serde_json::from_str(&policy)?,
        noise_floor: noise_floor.map(|text| serde_json::from_str(&text)).transpose()?,
        ..pair
    })
}

/// What SQLite says of a file that it cannot open.
fn unusable(directory: &Path, error: rusqlite::Error) -> HistoryError {
    match HistoryError::from(error) {
        HistoryError::Database(error) => HistoryError::Directory {
            path: directory.to_owned(),
            source: std::io::Error::other(error),
        },
        other => other,
    }
}

/// Whether all of a file is in it, and nothing in the log beside it.
fn is_log_empty(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(true, |metadata| metadata.len() == 0)
}

/// Opens a file that nobody writes, without locks or files beside it.
fn open_unchanging(path: &Path) -> Result<Connection> {
    let mut address = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                address.push(char::from(*byte));
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(address, flags)?)
}
