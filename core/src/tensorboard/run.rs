//! One run of TensorBoard: a directory with event files, of which the last is appended to.

use super::curves::{DECISIONS, Whose};
use super::event::Event;
use super::record::{events, put};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the names of files begin with; TensorBoard looks for the second part, and reads them in their order.
const PREFIX: &str = "events.out.tfevents.";
/// What they end with: others may write into the same directory.
const SUFFIX: &str = ".convergd";

/// A run, and what stands in its files.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) whose: Whose,
    directory: PathBuf,
    /// Step and time of the last pair.
    pub(super) last: Option<(u64, f64)>,
    /// Number of decisions.
    pub(super) decisions: usize,
    /// The file that is appended to, and its length; made when there is something to write.
    open: Option<(File, u64)>,
    /// The newest file, by its number.
    newest: Option<u64>,
}

impl Run {
    /// Reads what earlier processes have written below a directory; what a crash has cut off does not count.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn read(whose: Whose, below: &Path) -> Result<Self> {
        let directory = below.join(whose.name());
        std::fs::create_dir_all(&directory)?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            files.extend(number(&entry.file_name().to_string_lossy()).map(|n| (n, entry.path())));
        }
        files.sort();
        let newest = files.last().map(|(number, _)| *number);
        let mut run = Self { whose, directory, last: None, decisions: 0, open: None, newest };
        for (_, path) in files {
            events(&std::fs::read(path)?).for_each(|event| run.note(&event));
        }
        Ok(run)
    }

    /// Appends events and has them read at once; those that cannot be written whole are taken back.
    ///
    /// # Errors
    /// What the file system says; the run stands as before.
    pub(super) fn append(&mut self, events: &[Event], now: f64) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        if self.open.is_none() {
            put(&Event::begin(now), &mut bytes);
        }
        events.iter().for_each(|event| put(event, &mut bytes));
        let (mut file, length) = match self.open.take() {
            Some(open) => open,
            None => (self.create(now)?, 0),
        };
        // Whoever removes the files has them written anew.
        if file.metadata()?.nlink() == 0 {
            return Err(Error::new(ErrorKind::NotFound, "its files were removed"));
        }
        if let Err(error) = file.write_all(&bytes) {
            // Readers stop at what is cut off, and where it cannot be taken back, the next file goes on.
            let _ = match (length, self.newest) {
                (0, Some(number)) => std::fs::remove_file(self.path(number)),
                _ => file.set_len(length),
            };
            return Err(error);
        }
        self.open = Some((file, length + bytes.len() as u64));
        events.iter().for_each(|event| self.note(event));
        Ok(())
    }

    /// A file whose name comes after all others.
    fn create(&mut self, now: f64) -> Result<File> {
        let number = (now.max(0.0) as u64).max(self.newest.map_or(0, |newest| newest + 1));
        let file = OpenOptions::new().append(true).create_new(true).open(self.path(number))?;
        self.newest = Some(number);
        Ok(file)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{PREFIX}{number:010}{SUFFIX}"))
    }

    fn note(&mut self, event: &Event) {
        match event.values() {
            Some([value, ..]) if value.tag == DECISIONS => self.decisions += 1,
            Some(_) => self.last = Some((event.step.unsigned_abs(), event.wall_time)),
            None => {}
        }
    }
}

/// The number of a file of ours.
fn number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}
