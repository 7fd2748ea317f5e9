//! The value tables of a run.

use std::collections::BTreeMap;
use std::path::Path;

/// Name and content of the tables under a state directory.
pub(crate) fn tables(state: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(state.join("values")).unwrap();
    let files = files.map(|file| file.unwrap());
    let table = |file: std::fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        (name, std::fs::read(file.path()).unwrap())
    };
    files.map(table).filter(|(name, _)| !name.starts_with(".tmp-")).collect()
}
