//! The control file as a trainer in Rust sees it; the rules are those of `convergd.Control` in Python.
//!
//! 1. A decision is known by its `generation`, which only grows. A file with a generation that is not newer than the
//!    newest one read changes nothing.
//! 2. A decision takes effect at the first poll with `step >= at_step`; until then the previous one holds. A newer
//!    decision that is read in the meantime replaces one that still waits.
//! 3. A file that is missing, half-written, invalid or of an unknown schema changes nothing. Before the first valid
//!    file the decision is: continue, phase `plain`, λ = 0.
//! 4. Training does not depend on the sidecar: nothing here fails because of what is or is not on the disk. What could
//!    not be written is logged as a warning; an acknowledgement is tried again at the next poll.
//!
//! With several ranks every rank polls a shared directory; an `at_step` in the future makes them act at the same
//! step. Only rank 0 acknowledges.

use super::Process;
use crate::files::write_atomically;
use crate::role::Role;
use crate::signal::{ACTIONS, Best, Document, SCHEMA};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A control file is a few hundred bytes; more than this is not one, and is not read into memory.
const LARGEST_FILE: u64 = 1 << 20;

/// Reads decisions of the sidecar and acknowledges them.
#[derive(Debug)]
pub struct Client {
    directory: PathBuf,
    role: Role,
    rank: u64,
    /// Inode, time of change in seconds and nanoseconds, and size of the file that was read last.
    signature: Option<(u64, i64, i64, u64)>,
    effective: Document,
    waiting: Option<Document>,
    newest: Option<u64>,
    is_unacknowledged: bool,
    warned: BTreeSet<String>,
}

impl Client {
    /// For the trainer of one network; `directory` is where the sidecar writes `control.json`, and need not exist.
    /// Rank 0 removes the end that an earlier training has told, which would end the sidecar's run at once.
    pub fn new(directory: &Path, role: Role, rank: u64) -> Self {
        let client = Self {
            directory: directory.to_owned(),
            role,
            rank,
            signature: None,
            effective: Document::start(0),
            waiting: None,
            newest: None,
            is_unacknowledged: false,
            warned: BTreeSet::new(),
        };
        if rank == 0 {
            client.remove_old_end();
        }
        client
    }

    /// The decision that holds since the last poll.
    pub fn decision(&self) -> &Document {
        &self.effective
    }

    /// The decision that holds at `step`, in the unit in which checkpoints are numbered. Costs one `stat` while the
    /// file is unchanged, so it may be called at every step. Rank 0 acknowledges a generation when it takes effect.
    pub fn poll(&mut self, step: u64) -> &Document {
        self.read_if_changed();
        if let Some(document) = self.waiting.take_if(|waiting| step >= waiting.at_step) {
            self.effective = document;
            self.is_unacknowledged = true;
        }
        if self.is_unacknowledged && self.rank == 0 {
            self.acknowledge(step);
        }
        &self.effective
    }

    /// Writes `ack-<network>.json` for the decision that holds.
    pub fn acknowledge(&mut self, step: u64) {
        let pid = std::process::id();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = serde_json::json!({
            "schema": SCHEMA,
            "generation": self.effective.generation,
            "step": step,
            "rank": self.rank,
            "pid": pid,
            "process": Process::running(pid),
            "time": time.as_secs_f64(),
        });
        if self.write(&format!("ack-{}.json", self.role), &record) {
            self.is_unacknowledged = false;
        }
    }

    /// Writes `done-<network>`: this training has ended with `step`, nothing more is to come.
    pub fn done(&mut self, step: u64) {
        self.write(&format!("done-{}", self.role), &serde_json::json!({ "step": step }));
    }

    fn remove_old_end(&self) {
        let path = self.directory.join(format!("done-{}", self.role));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "the end of an earlier training stays");
            }
            _ => {}
        }
    }

    fn read_if_changed(&mut self) {
        let path = self.directory.join("control.json");
        let Ok(found) = std::fs::metadata(&path) else { return };
        let signature = (found.ino(), found.mtime(), found.mtime_nsec(), found.size());
        if self.signature == Some(signature) {
            return;
        }
        let mut content = Vec::new();
        let read =
            File::open(&path).and_then(|file| file.take(LARGEST_FILE).read_to_end(&mut content));
        if read.is_err() {
            return;
        }
        // Taken before the file was read: if it was replaced in between, it is read once more.
        self.signature = Some(signature);
        if let Some(document) = parse(&content)
            && self.newest.is_none_or(|newest| document.generation > newest)
        {
            self.newest = Some(document.generation);
            self.waiting = Some(document);
        }
    }

    /// Whether it could be written.
    fn write(&mut self, name: &str, record: &serde_json::Value) -> bool {
        let written =
            write_atomically(&self.directory.join(name), format!("{record}\n").as_bytes());
        match written {
            Ok(()) => self.warned.remove(name),
            Err(ref error) => {
                let is_first = self.warned.insert(name.to_owned());
                if is_first {
                    tracing::warn!(name, %error, "cannot be written; training goes on");
                }
                is_first
            }
        };
        written.is_ok()
    }
}

/// What must be there and what may, more leniently than the sidecar reads what it has written itself.
#[derive(Deserialize)]
#[serde(remote = "Document")]
struct Written {
    schema: u32,
    generation: u64,
    action: String,
    phase: String,
    lambda: f64,
    #[serde(default)]
    ramp: u64,
    #[serde(default)]
    at_step: u64,
    #[serde(default)]
    best: Option<Best>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    decision_id: Option<String>,
}

/// The decision in a control file; nothing if the file is not a valid one.
fn parse(content: &[u8]) -> Option<Document> {
    let mut content = serde_json::Deserializer::from_slice(content);
    let document = Written::deserialize(&mut content).ok()?;
    content.end().ok()?;
    let is_known = document.schema == SCHEMA && ACTIONS.contains(&document.action.as_str());
    (is_known && (0.0..=1.0).contains(&document.lambda)).then_some(document)
}
