//! What commands ask of a run that is at work: files in the state directory.
//!
//! `requests/<id>.json` is written atomically by the command; the run takes it by renaming it to `<id>.taken`, does it,
//! writes `<id>.answer` and removes it. A command that waits no longer removes its request, and the one that comes first
//! has it. What a command has left that was killed is not done: the request names its process, and the time when it
//! gives up.
//!
//! A decision is stored with the id of its request. So where a run has been killed between taking and answering, the next
//! one answers from the history, or the command finds it there itself; what was not done is there again.

use crate::control::Process;
use crate::files::{read_small, write_atomically};
use crate::history::DeliveryRow;
use crate::policy::{Decision, Intervention};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Version of both files.
const SCHEMA: u32 = 1;
/// Answers that nobody has come for.
const OLD: Duration = Duration::from_secs(600);
/// A request is a few hundred bytes.
const LARGEST: u64 = 1 << 20;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// A decision.
    Decide(Intervention),
    /// The configuration read anew.
    Reload,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Version of this form.
    pub schema: u32,
    /// What is asked for.
    pub wish: Wish,
    /// When the command gives up, in seconds since 1970.
    pub expires: f64,
    /// The command.
    pub process: Option<Process>,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Why nothing was done.
    pub refused: Option<String>,
    /// The decision that was made.
    pub decision: Option<Decision>,
    /// Its generation.
    pub generation: Option<u64>,
    /// Whether the control file says so.
    pub delivered: bool,
}

impl Reply {
    /// A decision was made.
    pub fn decided(row: DeliveryRow) -> Self {
        let (generation, delivered) = (Some(row.document.generation), row.delivered.is_some());
        Self { refused: None, decision: Some(row.decision), generation, delivered }
    }

    /// Nothing was done.
    pub fn refused(why: impl ToString) -> Self {
        Self { refused: Some(why.to_string()), ..Self::default() }
    }
}

/// The directory of requests and replies.
#[derive(Clone, Debug)]
pub struct Desk {
    directory: PathBuf,
}

impl Desk {
    /// That of a state directory.
    pub fn of(state: &Path) -> Self {
        Self { directory: state.join("requests") }
    }

    fn path(&self, id: &str, end: &str) -> PathBuf {
        self.directory.join(format!("{id}.{end}"))
    }

    /// Writes a request; its id.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn ask(&self, wish: Wish, now: f64, patience: Duration) -> io::Result<String> {
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let id = format!("{}-{}", nanos.as_nanos(), std::process::id());
        let process = Process::running(std::process::id());
        let expires = now + patience.as_secs_f64();
        let request = Request { schema: SCHEMA, wish, expires, process };
        let text = serde_json::to_vec(&request).map_err(io::Error::other)?;
        write_atomically(&self.path(&id, "json"), &text)?;
        Ok(id)
    }

    /// The reply to a request, once it is there.
    pub fn reply(&self, id: &str) -> Option<Reply> {
        let path = self.path(id, "answer");
        let reply = serde_json::from_slice(&std::fs::read(&path).ok()?).ok();
        let _ = std::fs::remove_file(path);
        reply
    }

    /// Takes a request back; false where the run has it.
    pub fn withdraw(&self, id: &str) -> bool {
        std::fs::remove_file(self.path(id, "json")).is_ok()
    }

    /// Requests that were taken and not answered, by an earlier life of the run: their ids, oldest first.
    pub fn unanswered(&self) -> Vec<String> {
        self.ids(".taken")
    }

    /// What was taken and not done is there again; it is done if its command still waits.
    pub fn put_back(&self, id: &str) {
        let (taken, path) = (self.path(id, "taken"), self.path(id, "json"));
        if let Err(error) = std::fs::rename(taken, path) {
            tracing::warn!(%error, "a request that was not done cannot be taken up again");
        }
    }

    fn ids(&self, end: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<String> =
            names.filter_map(|name| name.strip_suffix(end).map(str::to_owned)).collect();
        ids.sort();
        ids
    }

    /// Takes the oldest request that is there.
    pub fn take(&self, now: f64) -> Option<(String, Request)> {
        self.ids(".json").into_iter().find_map(|id| self.take_one(id, now))
    }

    fn take_one(&self, id: String, now: f64) -> Option<(String, Request)> {
        let path = self.path(&id, "taken");
        if std::fs::rename(self.path(&id, "json"), &path).is_err() {
            // Withdrawn.
            return None;
        }
        let bytes = read_small(&path, LARGEST).unwrap_or_default();
        match serde_json::from_slice::<Request>(&bytes) {
            Ok(request) if request.schema != SCHEMA => {
                self.answer(
                    &id,
                    &Reply::refused("the run is of another version of convergd; use that one"),
                );
                None
            }
            Ok(request) if request.is_left(now) => {
                tracing::warn!(wish = ?request.wish, "a request is not done: its command has ended or given up");
                let _ = std::fs::remove_file(path);
                None
            }
            Ok(request) => Some((id, request)),
            Err(error) => {
                self.answer(
                    &id,
                    &Reply::refused(format!("the run cannot read the request: {error}")),
                );
                None
            }
        }
    }

    /// Answers a request that was taken.
    pub fn answer(&self, id: &str, reply: &Reply) {
        let written = serde_json::to_vec(reply)
            .map_err(io::Error::other)
            .and_then(|text| write_atomically(&self.path(id, "answer"), &text));
        if let Err(error) = written {
            tracing::warn!(%error, "a request is done but cannot be answered");
        }
        // Who waits finds the answer, and a decision in the history too.
        let _ = std::fs::remove_file(self.path(id, "taken"));
    }

    /// Forgets a request whose run is gone, taken or not.
    pub fn forget(&self, id: &str) {
        for end in ["json", "taken"] {
            let _ = std::fs::remove_file(self.path(id, end));
        }
    }

    /// Removes answers that nobody has come for.
    pub fn sweep(&self) {
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let is_old = modified.is_ok_and(|then| then.elapsed().is_ok_and(|age| age >= OLD));
            if is_old && path.extension().is_some_and(|end| end == "answer") {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

impl Request {
    /// Whether nobody waits for it any more.
    fn is_left(&self, now: f64) -> bool {
        let is_gone = self.process.as_ref().and_then(Process::is_gone) == Some(true);
        is_gone || now > self.expires
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop() -> Wish {
        Wish::Decide(Intervention::Stop { reason: "enough".to_owned() })
    }

    #[test]
    fn a_request_is_taken_once_and_answered() {
        let directory = tempfile::tempdir().expect("a directory");
        let desk = Desk::of(directory.path());
        assert!(desk.take(1.0).is_none());
        let first = desk.ask(stop(), 1.0, Duration::from_secs(5)).expect("asked");
        let second = desk.ask(Wish::Reload, 1.0, Duration::from_secs(5)).expect("asked");
        let take = || desk.take(2.0).map(|(id, request)| (id, request.wish));
        assert_eq!(take(), Some((first.clone(), stop())));
        assert_eq!(take(), Some((second.clone(), Wish::Reload)));
        assert!(take().is_none() && !desk.withdraw(&first));
        assert_eq!(desk.unanswered(), [first.clone(), second.clone()]);
        desk.put_back(&second);
        assert_eq!(take(), Some((second, Wish::Reload)));
        assert_eq!(desk.reply(&first), None);
        desk.answer(&first, &Reply::refused("no"));
        assert_eq!(desk.reply(&first), Some(Reply::refused("no")));
        assert_eq!(desk.reply(&first), None);
        assert_eq!(desk.unanswered().len(), 1, "what is answered is no more taken");
    }

    #[test]
    fn what_nobody_waits_for_is_not_done() {
        let directory = tempfile::tempdir().expect("a directory");
        let desk = Desk::of(directory.path());
        let withdrawn = desk.ask(stop(), 1.0, Duration::from_secs(5)).expect("asked");
        assert!(desk.withdraw(&withdrawn) && desk.take(2.0).is_none());
        desk.ask(stop(), 1.0, Duration::from_secs(5)).expect("asked");
        assert!(desk.take(7.0).is_none(), "it has given up");
        let left = desk.ask(stop(), 1.0, Duration::from_secs(5)).expect("asked");
        let path = desk.path(&left, "json");
        let mut request: Request =
            serde_json::from_slice(&std::fs::read(&path).expect("there")).expect("read");
        let process = request.process.as_mut().expect("known");
        process.start -= 1;
        std::fs::write(&path, serde_json::to_vec(&request).expect("text")).expect("written");
        assert!(desk.take(2.0).is_none(), "its process has ended");
        std::fs::write(desk.path("torn", "json"), "{").expect("written");
        assert!(desk.take(2.0).is_none());
        assert!(desk.reply("torn").is_some_and(|reply| reply.refused.is_some()));
    }
}
