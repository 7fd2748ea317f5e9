//! The control file: how trainers learn of a decision (DESIGN section 8).
//!
//! `control.json` is replaced atomically; its `generation` only grows. A trainer's client answers with
//! `ack-<network>.json`, and with `done-<network>` at its end; [`Client`] is that of a trainer in Rust. Delivery is at least once and idempotent
//! by generation.

mod client;
mod command;
mod ladder;
mod pid_file;
mod process;
mod signals;

pub use client::Client;
pub use command::{Ran, Task};
pub use ladder::{Ladder, Measure, Rung};
pub use pid_file::{Sighting, look as look_at_pid_file};
pub use process::Process;
pub use signals::{NotSent, Reached, Signal};

use crate::files::read_small;
use crate::role::Role;
use crate::signal::{Acknowledgement, Document};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Files of the directory are a few hundred bytes.
const LARGEST: u64 = 1 << 20;
/// One a second would take three hundred thousand years to get there.
const LARGEST_GENERATION: u64 = 1 << 43;

/// Where and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Directory of the control file and the answers to it.
    pub directory: PathBuf,
    /// How long a stop waits to be acknowledged by both trainers.
    pub acknowledge: Duration,
    /// What is done while a trainer has not acknowledged.
    pub escalate: Ladder,
    /// Files with the number of a trainer's process, (target, baseline).
    pub pid_files: [Option<PathBuf>; 2],
}

impl Settings {
    /// A directory and a wait, and nothing else.
    pub fn new(directory: PathBuf, acknowledge: Duration) -> Self {
        Self { directory, acknowledge, escalate: Ladder::default(), pid_files: [None, None] }
    }
}

/// The control directory.
#[derive(Clone, Debug)]
pub struct Control {
    settings: Settings,
}

impl Control {
    /// Opens the directory; it is made with the first write.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// How long a stop waits to be acknowledged.
    pub fn patience(&self) -> Duration {
        self.settings.acknowledge
    }

    /// Replaces the control file. Writing the same generation again changes nothing for a trainer.
    ///
    /// # Errors
    /// A directory that cannot be made or written.
    pub fn deliver(&self, document: &Document) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(document).map_err(io::Error::other)?;
        let path = self.settings.directory.join("control.json");
        crate::files::write_atomically(&path, &text).map_err(|error| {
            let message = format!(
                "control file `{}` cannot be written: {error}; make room for its directory, or give \
                 another `control.directory`",
                path.display()
            );
            io::Error::new(error.kind(), message)
        })
    }

    /// The control file as it stands, if there is one that can be read.
    pub fn current(&self) -> Option<Document> {
        let path = self.settings.directory.join("control.json");
        serde_json::from_slice(&read_small(&path, LARGEST).ok()?).ok()
    }

    /// The least generation that is newer than everything in the directory: 0 where nothing is. A file
    /// that cannot be read as a document counts as far as its generation can be made out.
    pub fn next_generation(&self) -> u64 {
        let names = ["control.json", "ack-target.json", "ack-baseline.json"];
        let seen = names.into_iter().filter_map(|name| {
            let bytes = read_small(&self.settings.directory.join(name), LARGEST).ok()?;
            let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
            // What no run ever reaches is no generation, but rubbish.
            value["generation"].as_u64().filter(|generation| *generation <= LARGEST_GENERATION)
        });
        seen.max().map_or(0, |newest| newest.saturating_add(1))
    }

    /// The newest answer of a trainer, if it has given one that can be read.
    pub fn acknowledgement(&self, role: Role) -> Option<Acknowledgement> {
        self.answer(role)
    }

    /// The process of a trainer, as far as its answer tells.
    pub fn process(&self, role: Role) -> Option<Process> {
        #[derive(serde::Deserialize)]
        struct Answer {
            process: Option<Process>,
        }
        self.answer::<Answer>(role)?.process
    }

    /// The process of a trainer: as its answer tells, else as it was first seen in its pid file.
    pub fn known_process(&self, role: Role, seen: Option<&Sighting>) -> Option<Process> {
        let seen = seen.map(|seen| seen.process.clone());
        match self.process(role) {
            Some(told) if seen.is_none() || told.is_gone() == Some(false) => Some(told),
            told => seen.or(told),
        }
    }

    /// What is asked for of a trainer's newest answer.
    fn answer<T: serde::de::DeserializeOwned>(&self, role: Role) -> Option<T> {
        let path = self.settings.directory.join(format!("ack-{role}.json"));
        serde_json::from_slice(&read_small(&path, LARGEST).ok()?).ok()
    }

    /// Removes what trainers have said of their ends: training goes on. One that cannot be removed is one
    /// that a trainer's client removes when it starts.
    pub fn forget_ends(&self) {
        for role in Role::BOTH {
            let _ = std::fs::remove_file(self.settings.directory.join(format!("done-{role}")));
        }
    }

    /// Whether a trainer has said that it is at its end.
    pub fn is_done(&self, role: Role) -> bool {
        self.settings.directory.join(format!("done-{role}")).exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivered_document_is_read_back_and_answers_are_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = Settings::new(directory.path().join("control"), Duration::from_secs(1));
        let control = Control::new(settings);
        let document = Document::start(control.next_generation());
        control.deliver(&document).expect("written");
        let path = directory.path().join("control/control.json");
        let text = std::fs::read(&path).expect("there");
        assert_eq!(serde_json::from_slice::<Document>(&text).expect("readable"), document);
        assert_eq!(control.current().as_ref(), Some(&document));
        assert_eq!(control.acknowledgement(Role::Target), None);
        let ack = directory.path().join("control/ack-target.json");
        std::fs::write(&ack, r#"{"schema":1,"generation":2,"#).expect("written");
        assert_eq!(control.acknowledgement(Role::Target), None, "a torn answer is none yet");
        std::fs::write(&ack, r#"{"schema":1,"generation":2,"step":7,"rank":0,"pid":1,"time":2.5}"#)
            .expect("written");
        let found = control.acknowledgement(Role::Target).expect("an answer");
        assert_eq!((found.generation, found.step), (2, 7));
        assert!(!control.is_done(Role::Baseline));
        assert_eq!(control.next_generation(), 3, "newer than the document and than the answer");
    }
}
