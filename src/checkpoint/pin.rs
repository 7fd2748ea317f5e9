//! Pins: ready checkpoints are kept under the state directory until they are evaluated.

use super::scan::{Candidate, identity};
use crate::role::Role;
use std::io;
use std::path::{Path, PathBuf};

/// Keeps a candidate under `directory`, by hard link, or by copy where the file systems differ.
/// Gives nothing where the file changed or vanished meanwhile: the next scan sees what is there then.
///
/// # Errors
/// A pin that can be neither linked nor copied.
pub fn pin(directory: &Path, role: Role, candidate: &Candidate) -> io::Result<Option<PathBuf>> {
    std::fs::create_dir_all(directory)?;
    let pin = path(directory, role, candidate.step, &candidate.identity);
    remove(&pin)?;
    let source = match std::fs::canonicalize(&candidate.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        source => source?,
    };
    if std::fs::hard_link(&source, &pin).is_err() {
        let partial = pin.with_extension("partial");
        match std::fs::copy(&source, &partial) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            copied => copied?,
        };
        std::fs::rename(&partial, &pin)?;
    }
    let unchanged = std::fs::metadata(&source).is_ok_and(|m| identity(&m) == candidate.identity);
    // A file that was replaced or removed after the link was made is pinned all the same.
    let linked = std::fs::metadata(&pin).is_ok_and(|m| identity(&m) == candidate.identity);
    if unchanged || linked {
        return Ok(Some(pin));
    }
    remove(&pin)?;
    Ok(None)
}

/// Where a checkpoint is pinned.
pub fn path(directory: &Path, role: Role, step: u64, identity: &str) -> PathBuf {
    let digest = blake3::hash(identity.as_bytes()).to_hex();
    directory.join(format!("{role}-{step}-{}.safetensors", &digest[..12]))
}

/// Whether a pin still holds what was pinned: a hard link shares the fate of a file that is rewritten in
/// place; a copy does not.
pub fn is_intact(pin: &Path, pinned_identity: &str) -> bool {
    let Ok(metadata) = std::fs::metadata(pin) else { return false };
    let now = identity(&metadata);
    let file = |identity: &str| identity.splitn(3, ':').take(2).collect::<Vec<_>>().join(":");
    now == pinned_identity || file(&now) != file(pinned_identity)
}

/// Removes every pin that is not in `kept`.
///
/// # Errors
/// A directory that cannot be listed; one that is not there is no error.
pub fn sweep(directory: &Path, kept: &[PathBuf]) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !kept.contains(&path) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Lets go of a pin; one that is gone already is no error.
///
/// # Errors
/// A file that cannot be removed.
pub fn remove(pin: &Path) -> io::Result<()> {
    match std::fs::remove_file(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::scan::scan;

    #[test]
    fn a_pin_outlives_the_file_and_a_replaced_file_is_not_taken_for_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("step-1.safetensors");
        std::fs::write(&file, "first").expect("written");
        let pins = directory.path().join("pins");
        let candidate = scan(directory.path()).expect("listed").remove(0);
        let kept = pin(&pins, Role::Target, &candidate).expect("pinned").expect("still there");
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(std::fs::read(&kept).expect("kept"), b"first");
        assert!(pin(&pins, Role::Target, &candidate).expect("no error").is_none(), "it is gone");
        std::fs::write(&file, "second").expect("written");
        assert!(pin(&pins, Role::Target, &candidate).expect("no error").is_none(), "it is another");
    }

    #[test]
    fn a_file_rewritten_in_place_spoils_its_pin() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("step-1.safetensors");
        std::fs::write(&file, "first").expect("written");
        let pins = directory.path().join("pins");
        let candidate = scan(directory.path()).expect("listed").remove(0);
        let kept = pin(&pins, Role::Target, &candidate).expect("pinned").expect("still there");
        assert!(is_intact(&kept, &candidate.identity));
        std::fs::write(&file, "second, in place").expect("written");
        assert!(!is_intact(&kept, &candidate.identity));
        sweep(&pins, std::slice::from_ref(&kept)).expect("swept");
        assert!(kept.exists());
        sweep(&pins, &[]).expect("swept");
        assert!(!kept.exists());
    }
}
