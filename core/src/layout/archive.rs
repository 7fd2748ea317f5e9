//! The zip archive that `torch.save` and TorchScript write.
//!
//! Both store tensors and pickles as they are. What is compressed there comes from elsewhere, and could
//! unpack to any size, so it is refused; what is stored can never be larger than the file.

use super::{Flaw, Limits, flaw};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use zip::{CompressionMethod, ZipArchive};

/// First bytes of an archive.
pub(super) const MAGIC: [u8; 4] = *b"PK\x03\x04";
/// Length of the record at the end of an archive.
const END: u64 = 22;
/// Length of the record that points to the end record of a large archive.
const LOCATOR: u64 = 20;
/// Length of that end record.
const LARGE: u64 = 56;
/// Stands for a number that has no room in the record of an archive that is not large.
const OVERFLOWN: u64 = u32::MAX as u64;

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Where its bytes begin.
    pub(super) offset: u64,
    /// How many they are.
    pub(super) length: u64,
    pub(super) checksum: u32,
    is_stored: bool,
}

/// An open archive: the entries that are read as they are, by name.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) file: Arc<File>,
    /// What stands before the name of every entry: `archive/`, or nothing.
    pub(super) root: String,
    pub(super) entries: std::collections::HashMap<String, Entry>,
}

impl Archive {
    /// Opens an archive with a `data.pkl`, all of whose bytes are there.
    pub(super) fn open(path: &Path, limits: &Limits) -> Result<Self, Flaw> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let directory = directory_length(&mut file)?;
        flaw::within("its directory", directory, limits.header, "limits.header")?;
        let reader = Bounded::new(file.try_clone()?, directory);
        let mut zip = ZipArchive::new(reader).map_err(damaged)?;
        let mut entries = std::collections::HashMap::new();
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?.to_string();
            let is_stored = entry.compression() == CompressionMethod::Stored
                && entry.size() == entry.compressed_size();
            let offset = entry.data_start().unwrap_or(length);
            let found = Entry { offset, length: entry.size(), checksum: entry.crc32(), is_stored };
            if offset.saturating_add(entry.compressed_size()) > length {
                return Err(damaged(format!("its entry `{name}` reaches beyond its end")));
            }
            drop(entry);
            if entries.insert(name.clone(), found).is_some() {
                return Err(damaged(format!("it holds `{name}` twice")));
            }
        }
        Self { file: Arc::new(file), root: String::new(), entries }.checked(length)
    }

    fn checked(mut self, length: u64) -> Result<Self, Flaw> {
        let roots = self.entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let roots: Vec<&str> =
            roots.filter(|root| root.is_empty() || root.ends_with('/')).collect();
        let [root] = roots[..] else {
            return Err(Flaw::new(format!(
                "is an archive with {} entries `data.pkl`; one of `torch.save` has 1",
                roots.len()
            )));
        };
        self.root = root.to_owned();
        let read = || self.entries.iter().filter(|(name, _)| !self.is_code(name));
        if let Some((name, _)) = read().find(|(_, entry)| !entry.is_stored) {
            return Err(Flaw::new(format!(
                "has a compressed entry `{name}`, which `torch.save` never writes; load and save it again"
            )));
        }
        // Entries that share their bytes would add up to more than the file.
        let declared = read().fold(0u64, |sum, (_, entry)| sum.saturating_add(entry.length));
        if declared > length {
            return Err(damaged(format!(
                "its entries add up to {declared} bytes, but it has {length}"
            )));
        }
        Ok(self)
    }

    /// Whether TorchScript wrote it.
    pub(super) fn is_torchscript(&self) -> bool {
        self.entries.contains_key(&format!("{}constants.pkl", self.root))
    }

    /// Code is compressed, and never read.
    fn is_code(&self, name: &str) -> bool {
        name.strip_prefix(&self.root).is_some_and(|name| name.starts_with("code/"))
    }

    /// The pickle of the saved object.
    pub(super) fn pickle(&self, limits: &Limits) -> Result<Vec<u8>, Flaw> {
        let name = format!("{}data.pkl", self.root);
        let entry = self.entry(&name)?;
        flaw::within("its pickle", entry.length, limits.header, "limits.header")?;
        self.read(&name)
    }

    pub(super) fn entry(&self, name: &str) -> Result<Entry, Flaw> {
        let entry = self.entries.get(name).copied();
        entry.ok_or_else(|| damaged(format!("it has no entry `{name}`")))
    }

    /// The bytes of an entry, which are compared with their checksum.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Flaw> {
        let entry = self.entry(name)?;
        let mut bytes = vec![0; entry.length as usize];
        std::os::unix::fs::FileExt::read_exact_at(&*self.file, &mut bytes, entry.offset)?;
        check_sum(name, &bytes, entry.checksum)?;
        Ok(bytes)
    }
}

/// Compares bytes with their checksum; 0 stands for none.
pub(super) fn check_sum(name: &str, bytes: &[u8], wanted: u32) -> Result<(), Flaw> {
    match wanted == 0 || crc32fast::hash(bytes) == wanted {
        true => Ok(()),
        false => Err(damaged(format!("`{name}` does not match its checksum"))),
    }
}

/// A file that is read no further than its directory can explain. The zip crate looks for another end record
/// where the last one leads nowhere, and such a one could stand before any amount of entries.
struct Bounded {
    inner: BufReader<File>,
    left: u64,
}

impl Bounded {
    /// The directory is searched, then read, then each of its entries is looked up.
    fn new(file: File, directory: u64) -> Self {
        const SEARCH_FOR_THE_END: u64 = 1 << 16;
        let left = directory.saturating_mul(4).saturating_add(SEARCH_FOR_THE_END);
        Self { inner: BufReader::new(file), left }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| std::io::Error::other("more is read of it than its directory holds"))?;
        Ok(count)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Length of the archive's directory, which stands at its end: so a file that has one has been written
/// to the end. Found before the directory itself is read, which costs memory for each of its entries; from
/// where it stands, since its size is only what the file says, and must agree.
fn directory_length(file: &mut File) -> Result<u64, Flaw> {
    let short = || Flaw::new("is an archive without a directory: truncated or still being written");
    let end = file.metadata()?.len().checked_sub(END).ok_or_else(short)?;
    let mut record = [0; END as usize];
    read_at(file, end, &mut record)?;
    if record[..4] != *b"PK\x05\x06" || record[20..] != [0, 0] {
        return Err(short());
    }
    let said = [&record[12..16], &record[16..20]].map(number);
    let ([size, offset], end) = match large_end(file, end)? {
        None => (said, end),
        // `torch.save` always writes both records, and they say the same.
        Some((large, end)) => {
            let is_same = |(said, large): (&u64, &u64)| said == large || *said == OVERFLOWN;
            if !said.iter().zip(&large).all(is_same) {
                return Err(damaged("its two end records differ"));
            }
            (large, end)
        }
    };
    match offset.checked_add(size) == Some(end) {
        true => Ok(size),
        false => Err(damaged(format!(
            "its end record says that the directory has {size} bytes from {offset} on, but it ends at {end}"
        ))),
    }
}

/// Size and offset of the directory of an archive that may be large, and where it ends; nothing where there
/// is no such record before the end record at `end`.
fn large_end(file: &mut File, end: u64) -> Result<Option<([u64; 2], u64)>, Flaw> {
    let Some(place) = end.checked_sub(LOCATOR) else { return Ok(None) };
    let mut locator = [0; LOCATOR as usize];
    read_at(file, place, &mut locator)?;
    if locator[..4] != *b"PK\x06\x07" {
        return Ok(None);
    }
    let start = number(&locator[8..16]);
    if start.checked_add(LARGE) != Some(place) {
        return Err(damaged("its end records do not follow each other"));
    }
    let mut record = [0; LARGE as usize];
    read_at(file, start, &mut record)?;
    if record[..4] != *b"PK\x06\x06" {
        return Err(damaged("it lacks its end record"));
    }
    Ok(Some(([&record[40..48], &record[48..56]].map(number), start)))
}

/// A number of an archive, which are little-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

fn read_at(file: &mut File, offset: u64, bytes: &mut [u8]) -> Result<(), Flaw> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)?;
    Ok(())
}

fn damaged(reason: impl std::fmt::Display) -> Flaw {
    Flaw::new(format!("is a damaged archive: {reason}"))
}
