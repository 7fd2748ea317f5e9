//! Value tables on disk, by content: what was evaluated once is not evaluated again.
//!
//! An entry is one file, named after everything that its values depend on, with a checksum of that and of its
//! content. One that does not match is damaged: it is evaluated again and replaced.
//!
//! **Bound.** When the entries take more than `size` bytes, the least recently used go, down to a sixteenth
//! below `size`, so that not every write has to list the directory. The order is that of the times of the files,
//! so after a jump of the clock another one may go first; nothing else depends on it.
//!
//! **What is held stays**, even beyond the bound: an entry is needed for as long as the checkpoint that it was
//! computed from is there. That is its pin, which goes when its pair is stored, or the fixed baseline.
//!
//! **Several processes** may share the directory. An entry that one of them holds has a shared lock, which
//! the others see and the system lets go of after a crash. Files appear whole, by a rename; what a process that
//! was killed has half written counts for nothing and is removed later. Each process lists the directory again
//! when it has written a sixteenth of `size`, so it may be exceeded by that much for each.

use super::ProbeValues;
use crate::failpoint;
use crate::files::Replacement;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Bytes by default: ten thousand pairs of 50 samples with 10 variables.
pub const DEFAULT_SIZE: u64 = 10 << 30;
const EXTENSION: &str = "safetensors";
const CHECKSUM: &str = "blake3";
/// A share of the bound: how far it may be exceeded unseen, and how much room is made at a time.
const PART: u64 = 16;
/// Processes that fill it at once and do not know of each other, as of several `--steps`.
const AT_ONCE: usize = 8;
/// Nobody takes that long between making a file and locking it.
const ABANDONED: Duration = Duration::from_secs(60);

/// A directory of value tables.
#[derive(Debug)]
pub struct ValueCache {
    directory: PathBuf,
    size: u64,
    /// Bytes of the entries when they were listed last, and of those written since.
    listed: Option<u64>,
    written: u64,
    held: Vec<Held>,
    /// Where it only takes entries, none is held and none goes: bytes that it may write before it lists them again.
    unseen: Option<u64>,
}

/// An entry that must stay.
#[derive(Debug)]
struct Held {
    entry: PathBuf,
    /// The checkpoint that it was computed from.
    source: PathBuf,
    /// Its shared lock, where the file system has locks.
    _lock: File,
}

/// What an evaluation found in the cache, and left there.
#[derive(Clone, Copy, Debug)]
pub struct Cached {
    /// `hit`, `miss` or `damaged`.
    pub lookup: &'static str,
    /// Whether its values are there now.
    pub is_kept: bool,
    /// Entries that had to go for it.
    pub evicted: u64,
    /// Bytes of all entries.
    pub bytes: u64,
}

/// What was found under a key.
#[derive(Debug)]
pub enum Found {
    /// The values.
    Hit(ProbeValues),
    /// Nothing.
    Missed,
    /// A file that does not hold what was written.
    Damaged,
}

/// The values of a key in a directory of value tables, for one look at them: nothing is held, and how lately they
/// were used stays as it was. Nothing where they are not there or damaged.
pub fn read(directory: &Path, key: &str) -> Option<ProbeValues> {
    let bytes = std::fs::read(directory.join(format!("{key}.{EXTENSION}"))).ok()?;
    decode(&blake3::Hash::from_hex(key).ok()?, &bytes)
}

/// Whether there is an entry under a key, whole or damaged.
pub fn is_there(directory: &Path, key: &str) -> bool {
    entry_bytes(directory, key).is_some()
}

/// Bytes that the entry under a key takes, if there is one.
pub fn entry_bytes(directory: &Path, key: &str) -> Option<u64> {
    let entry = std::fs::metadata(directory.join(format!("{key}.{EXTENSION}"))).ok()?;
    entry.is_file().then_some(entry.len())
}

/// Bytes that the entry of so many samples with so many variables takes at least: logits come to that, 8 bytes for each
/// sample and class.
pub fn table_bytes(samples: usize, variables: usize) -> u64 {
    (samples as u64 * size_of::<f64>() as u64) << variables
}

/// Bytes of entries of which none goes, in a cache of so many.
pub fn kept_bytes(size: u64) -> u64 {
    size - size / PART
}

/// The size of a cache that keeps so many bytes, as one writes it: rounded up to a unit of which it has ten or more.
pub fn least_size(kept: u64) -> String {
    let size = kept.saturating_mul(PART).div_ceil(PART - 1);
    let unit = [(30, "GiB"), (20, "MiB")].into_iter().find(|(bits, _)| size >> bits >= 10);
    let (bits, unit) = unit.unwrap_or((10, "KiB"));
    format!("{}{unit}", size.div_ceil(1 << bits))
}

/// What the entries take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Their number.
    pub tables: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// Why values are not kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotKept {
    /// Of those that are there none may go.
    #[error("the cache is full")]
    Full {
        /// Bytes that the entry takes.
        needed: u64,
    },
    /// What the file system says.
    #[error("{0}")]
    System(String),
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> Self {
        Self::System(error.to_string())
    }
}

impl ValueCache {
    /// A cache of at most `size` bytes; the directory is made with the first entry.
    pub fn new(directory: PathBuf, size: u64) -> Self {
        let held = Vec::new();
        Self { directory, size, listed: None, written: 0, held, unseen: None }
    }

    /// For who fills it before a run looks into it: none of the entries is held, which are more than a process may
    /// have open files, and none goes for another. What a run would let go of before it has read it is not kept.
    /// So many do so at once, or [`AT_ONCE`] that do not know of each other: together they write half of
    /// what may be exceeded before they see it.
    #[must_use]
    pub fn filled_only(self, processes: usize) -> Self {
        let unseen = self.size / PART / 2 / processes.max(AT_ONCE) as u64;
        Self { unseen: Some(unseen), ..self }
    }

    /// Whether it is filled for a run that is still to come: what is there of others says nothing then.
    pub fn is_filled_only(&self) -> bool {
        self.unseen.is_some()
    }

    /// Bytes of all entries, as far as it is known without listing them again.
    pub fn bytes(&self) -> u64 {
        self.listed.unwrap_or(0) + self.written
    }

    /// The values of a key, which are then held for as long as `source` is there.
    pub fn find(&mut self, key: &blake3::Hash, source: &Path) -> Found {
        if self.listed.is_none() && !self.is_filled_only() {
            self.listed = usage(&self.directory).ok().map(|usage| usage.bytes);
        }
        let path = self.path(key);
        let Ok(mut file) = File::open(&path) else { return Found::Missed };
        // Whoever takes it away now leaves what is open readable.
        let _ = flock(&file, FlockOperation::NonBlockingLockShared);
        let mut bytes = Vec::new();
        let read = file.read_to_end(&mut bytes).ok();
        let Some(values) = read.and_then(|_| decode(key, &bytes)) else { return Found::Damaged };
        // Used now, and so the last to go; where the time cannot be set, it goes earlier.
        let _ = rustix::fs::futimens(&file, &NOW);
        self.hold(path, source, file);
        Found::Hit(values)
    }

    /// Keeps the values of a key, held for as long as `source` is there, and makes room; gives the number of
    /// entries that had to go.
    ///
    /// # Errors
    /// Whatever the file system says, and one that is full where none may go; nothing is kept then.
    pub fn keep(
        &mut self,
        key: &blake3::Hash,
        source: &Path,
        values: &ProbeValues,
    ) -> Result<u64, NotKept> {
        let path = self.path(key);
        let bytes = encode(key, values)?;
        if let Some(unseen) = self.unseen {
            // What it replaces, where that is damaged.
            let there = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let needed = bytes.len() as u64;
            if !self.has_room_for(needed.saturating_sub(there), unseen)? {
                return Err(NotKept::Full { needed });
            }
        }
        let replacement = Replacement::beside(&path)?;
        // Nobody takes it for one that was left behind.
        let _ = flock(replacement.file(), FlockOperation::NonBlockingLockExclusive);
        replacement.file().write_all(&bytes)?;
        failpoint::reach("table-written");
        replacement.commit()?;
        failpoint::reach("table-kept");
        self.written += bytes.len() as u64;
        if self.is_filled_only() {
            return Ok(0);
        }
        if let Ok(file) = File::open(&path) {
            let _ = flock(&file, FlockOperation::NonBlockingLockShared);
            self.hold(path, source, file);
        }
        let is_seen = self.listed.is_some() && self.written < self.size / PART;
        if is_seen && self.bytes() <= self.size { Ok(0) } else { Ok(self.make_room()?) }
    }

    /// Whether so many bytes find room beside all that are there, those that others have written meanwhile too.
    fn has_room_for(&mut self, bytes: u64, unseen: u64) -> io::Result<bool> {
        let fits = |cache: &Self| cache.bytes().saturating_add(bytes) <= kept_bytes(cache.size);
        if self.listed.is_none() || self.written >= unseen || !fits(self) {
            // What those that were killed have left.
            sweep(&self.directory)?;
            (self.listed, self.written) = (Some(usage(&self.directory)?.bytes), 0);
        }
        Ok(fits(self))
    }

    fn path(&self, key: &blake3::Hash) -> PathBuf {
        self.directory.join(key.to_hex().as_str()).with_extension(EXTENSION)
    }

    fn hold(&mut self, entry: PathBuf, source: &Path, lock: File) {
        if self.is_filled_only() {
            return;
        }
        self.held.retain(|held| held.entry != entry && held.source.exists());
        self.held.push(Held { entry, source: source.to_owned(), _lock: lock });
    }

    /// Lists the entries, and lets the least recently used go where they take too much.
    fn make_room(&mut self) -> io::Result<u64> {
        self.held.retain(|held| held.source.exists());
        sweep(&self.directory)?;
        let mut entries = entries(&self.directory)?;
        let mut bytes = entries.iter().map(|entry| entry.bytes).sum();
        let mut evicted = 0;
        if bytes > self.size {
            let aim = kept_bytes(self.size);
            entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
            for entry in &entries {
                if bytes <= aim {
                    break;
                }
                if self.evict(&entry.path)? {
                    bytes -= entry.bytes;
                    evicted += 1;
                }
            }
        }
        (self.listed, self.written) = (Some(bytes), 0);
        Ok(evicted)
    }

    /// Removes an entry unless somebody needs it.
    fn evict(&self, path: &Path) -> io::Result<bool> {
        if self.held.iter().any(|held| held.entry == path) || is_locked(path) {
            return Ok(false);
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        }
    }
}

/// What the entries of a directory take; nothing where it is not there.
///
/// # Errors
/// A directory that cannot be listed.
pub fn usage(directory: &Path) -> io::Result<Usage> {
    let entries = entries(directory)?;
    let bytes = entries.iter().map(|entry| entry.bytes).sum();
    Ok(Usage { tables: entries.len() as u64, bytes })
}

/// The present, by the clock of the file system.
const NOW: rustix::fs::Timestamps = {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::Timestamps { last_access: now, last_modification: now }
};

struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// The whole entries of a directory. What goes meanwhile is left out.
fn entries(directory: &Path) -> io::Result<Vec<Entry>> {
    let is_entry = |name: &str| {
        let digest = name.strip_suffix(EXTENSION).and_then(|name| name.strip_suffix('.'));
        digest.is_some_and(|digest| digest.len() == 64)
    };
    let all = files(directory, is_entry)?.into_iter();
    Ok(all.map(|(path, bytes, used)| Entry { path, bytes, used }).collect())
}

/// Removes what processes that were killed have left half written.
fn sweep(directory: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    for (path, _, written) in files(directory, |name| name.starts_with(".tmp-"))? {
        let is_old = now.duration_since(written).is_ok_and(|age| age >= ABANDONED);
        if is_old && !is_locked(&path) {
            // Another process may be sweeping too.
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Path, length and time of the files whose names are asked for.
fn files(
    directory: &Path,
    is_wanted: impl Fn(&str) -> bool,
) -> io::Result<Vec<(PathBuf, u64, SystemTime)>> {
    let listing = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(&is_wanted) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        found.push((entry.path(), metadata.len(), metadata.modified()?));
    }
    Ok(found)
}

/// Whether a process holds a lock on a file, this one with another handle included.
fn is_locked(path: &Path) -> bool {
    // Over NFS only who may write may ask for it.
    let file = File::options().read(true).write(true).open(path).or_else(|_| File::open(path));
    let Ok(file) = file else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
}

const TENSORS: [&str; 3] = ["values", "logits", "reference"];

/// Of the key, and of name, shape and content of each tensor.
fn checksum(key: &blake3::Hash, tensors: [(&str, &[usize], &[u8]); 3]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    for (name, shape, data) in tensors {
        hasher.update(format!("{name} {shape:?} ").as_bytes()).update(data);
    }
    hasher.finalize()
}

fn encode(key: &blake3::Hash, values: &ProbeValues) -> io::Result<Vec<u8>> {
    let parts = [&values.values, &values.logits, &values.reference].map(|rows| {
        let bytes: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        ([rows.len(), rows.first().map_or(0, Vec::len)], bytes)
    });
    let named = [0, 1, 2].map(|i| (TENSORS[i], &parts[i].0[..], &parts[i].1[..]));
    let checksum = checksum(key, named).to_hex().to_string();
    let view = |(name, shape, data): (&'static str, &[usize], _)| {
        TensorView::new(Dtype::F64, shape.to_vec(), data).map(|view| (name, view))
    };
    let tensors: Result<Vec<_>, _> = named.into_iter().map(view).collect();
    let about = [(CHECKSUM.to_owned(), checksum)].into();
    let tensors = tensors.map_err(io::Error::other)?;
    safetensors::serialize(tensors, Some(about)).map_err(io::Error::other)
}

/// The values, where they are those that were written under this key.
fn decode(key: &blake3::Hash, bytes: &[u8]) -> Option<ProbeValues> {
    let (_, about) = SafeTensors::read_metadata(bytes).ok()?;
    let expected = about.metadata().as_ref()?.get(CHECKSUM)?;
    let file = SafeTensors::deserialize(bytes).ok()?;
    let mut views = Vec::new();
    for name in TENSORS {
        views.push(file.tensor(name).ok()?);
    }
    let named = [0, 1, 2].map(|i| (TENSORS[i], views[i].shape(), views[i].data()));
    if checksum(key, named).to_hex().as_str() != expected {
        return None;
    }
    let [values, logits, reference] = named.map(|(_, shape, data)| rows(shape, data));
    Some(ProbeValues { values: values?, logits: logits?, reference: reference? })
}

fn rows(shape: &[usize], data: &[u8]) -> Option<Vec<Vec<f64>>> {
    let [_, columns] = shape else { return None };
    let numbers = data.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
    let all: Vec<f64> = numbers.collect();
    Some(all.chunks_exact((*columns).max(1)).map(<[f64]>::to_vec).collect())
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
