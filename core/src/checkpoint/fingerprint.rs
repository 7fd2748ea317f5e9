//! What tells a file from every other and from its earlier self.
//!
//! Device, inode, size and time of change do nearly all of it. A file that is saved again in place with the
//! same size within the granularity of the clock keeps all four, so both ends of the file are hashed too: the
//! start holds the header, the end of an archive its checksums, the end of a safetensors file weights.
//! Hashes are kept by the four others, so that a scan of many files reads none twice; but not while a
//! file is so young that it could still be changed within the granularity.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Bytes that are hashed at each end.
const EDGE: u64 = 4096;
/// The coarsest clock of a file system that is met (FAT: 2 s).
const GRANULARITY: Duration = Duration::from_secs(2);
/// How often a file that changes while it is read is read again.
const TRIES: usize = 3;

/// What metadata tell of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stat {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        }
    }

    fn identity(self, edges: &str) -> String {
        let Self { device, inode, size, seconds, nanoseconds } = self;
        format!("{device:x}:{inode:x}:{size}:{seconds}.{nanoseconds:09}:{edges}")
    }
}

/// Hashes of files that have been read, of this scan and the one before.
#[derive(Debug)]
pub struct Fingerprints {
    now: SystemTime,
    before: HashMap<Stat, String>,
    kept: HashMap<Stat, String>,
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self { now: SystemTime::UNIX_EPOCH, before: HashMap::new(), kept: HashMap::new() }
    }
}

impl Fingerprints {
    /// Begins a scan at `now`: what the scan before did not see is forgotten.
    pub fn begin(&mut self, now: SystemTime) {
        self.now = now;
        self.before = std::mem::take(&mut self.kept);
    }

    /// The identity of a regular file.
    pub fn of_file(&mut self, path: &Path, metadata: &Metadata) -> String {
        let stat = Stat::of(metadata);
        if let Some(edges) = self.before.get(&stat).or_else(|| self.kept.get(&stat)).cloned() {
            let identity = stat.identity(&edges);
            self.kept.insert(stat, edges);
            return identity;
        }
        // A file that cannot be read has no hash; its structure is checked later, and says why.
        let (stat, edges) = read(path, stat).unwrap_or_else(|_| (stat, "unread".to_owned()));
        let is_old = metadata.modified().is_ok_and(|modified| {
            self.now.duration_since(modified).is_ok_and(|age| age > GRANULARITY)
        });
        if is_old {
            self.kept.insert(stat, edges.clone());
        }
        stat.identity(&edges)
    }
}

/// The identity of a regular file, without any memory.
///
/// # Errors
/// A file that is gone, or cannot be read.
pub(super) fn of_file(path: &Path) -> io::Result<String> {
    let (stat, edges) = read(path, Stat::of(&std::fs::metadata(path)?))?;
    Ok(stat.identity(&edges))
}

/// The identity of an open file, whatever has become of its name.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn of_open(file: &mut File) -> io::Result<String> {
    let stat = Stat::of(&file.metadata()?);
    file.rewind()?;
    let edges = edges(file, stat.size)?;
    Ok(stat.identity(&edges))
}

/// The identity of a directory that cannot be listed, or has nothing that is read.
pub(super) fn of_unlisted(metadata: &Metadata) -> String {
    Stat::of(metadata).identity("unlisted")
}

/// The part of an identity that stays when the file is written to: device and inode.
pub(super) fn file(identity: &str) -> String {
    identity.splitn(3, ':').take(2).collect::<Vec<_>>().join(":")
}

/// Size and content of a file by its identity, which a copy shares: what does not depend on where it lies.
pub(super) fn content(identity: &str) -> String {
    let parts: Vec<&str> = identity.split(':').collect();
    match parts.as_slice() {
        [_, _, size, _, edges] => format!("{size} bytes, {edges}"),
        _ => identity.to_owned(),
    }
}

/// The same of several files, with their names.
///
/// # Errors
/// A file that is gone.
pub(super) fn content_of_all(files: &[PathBuf]) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let name = file.file_name().unwrap_or_default();
        hasher.update(format!("{name:?} {}\n", content(&of_file(file)?)).as_bytes());
    }
    Ok(format!("files: {}, {}", files.len(), &hasher.finalize().to_hex()[..16]))
}

/// Metadata before and after must agree.
fn read(path: &Path, mut stat: Stat) -> io::Result<(Stat, String)> {
    for _ in 0..TRIES {
        let mut file = File::open(path)?;
        let edges = edges(&mut file, stat.size)?;
        let after = Stat::of(&file.metadata()?);
        if after == stat {
            return Ok((stat, edges));
        }
        stat = after;
    }
    Ok((stat, "changing".to_owned()))
}

fn edges(file: &mut File, size: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(EDGE).read_to_end(&mut bytes)?;
    if size > EDGE {
        file.seek(SeekFrom::Start(size.saturating_sub(EDGE).max(EDGE)))?;
        file.take(EDGE).read_to_end(&mut bytes)?;
    }
    Ok(blake3::hash(&bytes).to_hex()[..16].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes in place, and leaves size and time of change as they were.
    fn rewrite(path: &Path, bytes: &[u8], modified: SystemTime) {
        std::fs::write(path, bytes).expect("written");
        let file = File::options().write(true).open(path).expect("open");
        file.set_modified(modified).expect("set");
    }

    #[test]
    fn a_file_saved_again_within_the_granularity_is_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let now = SystemTime::now();
        let mut fingerprints = Fingerprints::default();
        let mut identity = |bytes: &[u8], now| {
            fingerprints.begin(now);
            rewrite(&path, bytes, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
            fingerprints.of_file(&path, &std::fs::metadata(&path).expect("there"))
        };
        let young = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_001);
        let long = |end: u8| [vec![7; 20_000], vec![end]].concat();
        assert_ne!(identity(b"first", young), identity(b"other", young));
        assert_ne!(identity(&long(1), young), identity(&long(2), young), "the end counts");
        // Much later nobody writes with this time any more: the file is not read again.
        assert_eq!(identity(b"first", now), identity(b"other", now));
    }
}
