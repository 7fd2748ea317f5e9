//! What stands in a checkpoint directory.

use super::Settings;
use crate::layout::{Layout, Named};
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What writers put into a directory that they have not finished.
const INCOMPLETE: &str = "checkpoint-is-incomplete.txt";

/// A file or directory that may be a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Training step, as far as the name tells.
    pub step: Option<u64>,
    /// Whether the step inside the checkpoint counts before that.
    pub knows_itself: bool,
    /// Where it stands.
    pub path: PathBuf,
    /// Device, inode, size and time of change, of each of its files: the same checkpoint as long as these
    /// are the same.
    pub identity: String,
}

/// A directory, looked through.
#[derive(Debug, Default)]
pub struct Listing {
    /// By ascending step.
    pub candidates: Vec<Candidate>,
    /// What is none by its name or kind.
    pub others: Vec<PathBuf>,
}

/// All candidates of the directory.
///
/// # Errors
/// A directory that cannot be listed. Files that vanish meanwhile are left out.
pub fn scan(settings: &Settings) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(&settings.directory)? {
        let path = entry?.path();
        if is_unfinished(&path) {
            continue;
        }
        match candidate(settings, &path) {
            Some(found) => listing.candidates.push(found),
            None => listing.others.push(path),
        }
    }
    let found = &mut listing.candidates;
    // Two names of one file (`last.ckpt` as a link) are one checkpoint: that of the real name.
    found.sort_by_key(|candidate: &Candidate| candidate.path.is_symlink());
    let mut seen = HashSet::new();
    found.retain(|candidate| seen.insert(candidate.identity.clone()));
    found.sort_by(|a, b| (a.step, &a.path).cmp(&(b.step, &b.path)));
    Ok(listing)
}

fn candidate(settings: &Settings, path: &Path) -> Option<Candidate> {
    let Settings { layout, steps, .. } = settings;
    let (step, knows_itself) = match steps.in_name(*layout, path.file_name()?.to_str()?) {
        Named::Nothing => return None,
        Named::Step(step) => (Some(step), false),
        Named::Inside(otherwise) => (otherwise, true),
    };
    // Other directories stand there too, such as logs.
    if layout.is_directory()
        && step.is_none()
        && layout.files(path, false).is_ok_and(|f| f.is_empty())
    {
        return None;
    }
    let identity = identity(*layout, path, knows_itself).ok()??;
    Some(Candidate { step, knows_itself, path: path.to_owned(), identity })
}

/// Names that writers use for what they have not finished, and directories that say so.
fn is_unfinished(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return true };
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    name.starts_with('.')
        || name.starts_with("tmp-")
        || name.ends_with(".tmp")
        || name.contains(".orbax-checkpoint-tmp-")
        || [name, stem].iter().any(|name| name.ends_with("-unfinished"))
        || path.join(INCOMPLETE).exists()
}

/// The identity of a checkpoint; nothing where there is none of this layout: a file in the place of a
/// directory, or a directory without weights.
///
/// # Errors
/// What vanished or cannot be read.
pub fn identity(layout: Layout, path: &Path, step_inside: bool) -> io::Result<Option<String>> {
    let metadata = std::fs::metadata(path)?;
    if !layout.is_directory() {
        return Ok(metadata.is_file().then(|| of_file(&metadata)));
    }
    if !metadata.is_dir() {
        return Ok(None);
    }
    let files = layout.files(path, step_inside)?;
    of_directory(&files).map(Some)
}

/// The identity of a directory, from the names and identities of its files.
pub(super) fn of_directory(files: &[PathBuf]) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let name = file.file_name().unwrap_or_default();
        let identity = of_file(&std::fs::metadata(file)?);
        hasher.update(format!("{name:?} {identity}\n").as_bytes());
    }
    Ok(format!("directory:{}:{}", files.len(), &hasher.finalize().to_hex()[..32]))
}

/// The identity of a file, from its metadata.
pub(super) fn of_file(metadata: &std::fs::Metadata) -> String {
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    format!(
        "{:x}:{:x}:{}:{seconds}.{nanoseconds:09}",
        metadata.dev(),
        metadata.ino(),
        metadata.size()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::settings;

    fn steps(layout: Layout, directory: &Path) -> Vec<Option<u64>> {
        let listing = scan(&settings(layout, directory)).expect("listed");
        listing.candidates.into_iter().map(|candidate| candidate.step).collect()
    }

    #[test]
    fn unfinished_names_are_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in [
            "step-1.safetensors",
            "tmp-2.safetensors",
            ".step-3.safetensors",
            "step-4.safetensors.tmp",
            "step-5-unfinished.safetensors",
            "step-6.safetensors.orbax-checkpoint-tmp-7",
        ] {
            std::fs::write(directory.path().join(name), "x").expect("written");
        }
        assert_eq!(steps(Layout::Safetensors, directory.path()), [Some(1)]);
    }

    #[test]
    fn unfinished_directories_are_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let names =
            ["checkpoint-1", "tmp-checkpoint-2", "checkpoint-3", "checkpoint-4-unfinished", "runs"];
        for name in names {
            std::fs::create_dir(directory.path().join(name)).expect("made");
        }
        std::fs::write(directory.path().join("checkpoint-3").join(INCOMPLETE), "")
            .expect("written");
        std::fs::write(directory.path().join("checkpoint-5"), "a file").expect("written");
        std::fs::create_dir(directory.path().join("final")).expect("made");
        std::fs::write(directory.path().join("final/model.safetensors"), "x").expect("written");
        assert_eq!(steps(Layout::Hf, directory.path()), [None, Some(1)], "`final` and the first");
    }

    #[test]
    fn a_link_to_a_checkpoint_is_the_same_checkpoint() {
        let directory = tempfile::tempdir().expect("a directory");
        let real = directory.path().join("step-2.safetensors");
        std::fs::write(&real, "x").expect("written");
        std::fs::write(directory.path().join("step-1.safetensors"), "y").expect("written");
        let link = directory.path().join("best-1.safetensors");
        std::os::unix::fs::symlink(&real, link).expect("linked");
        assert_eq!(steps(Layout::Safetensors, directory.path()), [Some(1), Some(2)]);
    }

    #[test]
    fn a_state_that_is_written_last_makes_another_checkpoint_only_where_it_tells_the_step() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["checkpoint-2", "final"] {
            std::fs::create_dir(directory.path().join(name)).expect("made");
            std::fs::write(directory.path().join(name).join("model.safetensors"), "x")
                .expect("written");
        }
        let listed = || scan(&settings(Layout::Hf, directory.path())).expect("listed").candidates;
        let before = listed();
        for name in ["checkpoint-2", "final"] {
            let state = directory.path().join(name).join("trainer_state.json");
            std::fs::write(state, "{}").expect("written");
        }
        let after = listed();
        let same = |at: usize| before[at].identity == after[at].identity;
        assert_eq!((before[0].step, before[1].step), (None, Some(2)));
        assert_eq!((same(0), same(1)), (false, true));
    }

    #[test]
    fn a_link_to_a_directory_is_the_same_checkpoint() {
        let directory = tempfile::tempdir().expect("a directory");
        let real = directory.path().join("checkpoint-2");
        std::fs::create_dir(&real).expect("made");
        std::fs::write(real.join("model.safetensors"), "x").expect("written");
        std::os::unix::fs::symlink(&real, directory.path().join("checkpoint-9")).expect("linked");
        assert_eq!(steps(Layout::Hf, directory.path()), [Some(2)]);
    }
}
