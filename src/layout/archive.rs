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
        flaw::within(
            "its directory",
            directory_length(&mut file)?,
            limits.header,
            "limits.header",
        )?;
        let mut zip = ZipArchive::new(BufReader::new(file.try_clone()?)).map_err(damaged)?;
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

/// Length of the archive's directory, which stands at its end: so a file that has one has been written
/// to the end. Read before the directory itself, which costs memory for each of its entries.
fn directory_length(file: &mut File) -> Result<u64, Flaw> {
    let length = file.metadata()?.len();
    let short = || Flaw::new("is an archive without a directory: truncated or still being written");
    let mut record = [0; END as usize];
    read_at(file, length.checked_sub(END).ok_or_else(short)?, &mut record)?;
    if record[..4] != *b"PK\x05\x06" {
        return Err(short());
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let [size, offset] = [&record[12..16], &record[16..20]].map(number);
    if size != u64::from(u32::MAX) && offset != u64::from(u32::MAX) {
        return Ok(size);
    }
    let mut locator = [0; LOCATOR as usize];
    read_at(file, length.checked_sub(END + LOCATOR).ok_or_else(short)?, &mut locator)?;
    if locator[..4] != *b"PK\x06\x07" {
        return Err(short());
    }
    let mut large = [0; 56];
    read_at(file, number(&locator[8..16]), &mut large)?;
    if large[..4] != *b"PK\x06\x06" {
        return Err(short());
    }
    Ok(number(&large[40..48]))
}

fn read_at(file: &mut File, offset: u64, bytes: &mut [u8]) -> Result<(), Flaw> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)?;
    Ok(())
}

fn damaged(reason: impl std::fmt::Display) -> Flaw {
    Flaw::new(format!("is a damaged archive: {reason}"))
}
