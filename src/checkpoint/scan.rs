//! What stands in a checkpoint directory.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that may be a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Training step, from the name.
    pub step: u64,
    /// Where it stands.
    pub path: PathBuf,
    /// Device, inode, size and time of change: the same file as long as these are the same.
    pub identity: String,
}

/// All candidates of a directory, by ascending step.
///
/// # Errors
/// A directory that cannot be listed. Files that vanish meanwhile are left out.
pub fn scan(directory: &Path) -> std::io::Result<Vec<Candidate>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(step) = step_of(&path) else { continue };
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_file() {
            let identity = identity(&metadata);
            found.push(Candidate { step, path, identity });
        }
    }
    // Two names of one file (`last-1.safetensors` as a link) are one checkpoint: that of the real name.
    found.sort_by_key(|candidate: &Candidate| candidate.path.is_symlink());
    let mut seen = HashSet::new();
    found.retain(|candidate| seen.insert(candidate.identity.clone()));
    found.sort_by(|a, b| (a.step, &a.path).cmp(&(b.step, &b.path)));
    Ok(found)
}

/// The identity of a file, from its metadata.
pub fn identity(metadata: &std::fs::Metadata) -> String {
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    format!(
        "{:x}:{:x}:{}:{seconds}.{nanoseconds:09}",
        metadata.dev(),
        metadata.ino(),
        metadata.size()
    )
}

/// The step in the name of a checkpoint: the last whole number in it. Nothing for names that writers
/// use for unfinished files, and for names without such a number.
fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".safetensors")?;
    let is_unfinished =
        name.starts_with('.') || name.starts_with("tmp-") || stem.ends_with("-unfinished");
    let numbers = stem.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
    // Of `epoch7` the digits at the end; not the parts of `0.35`, and not `v2`.
    let digits = |word: &str| {
        let start = word.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (before, digits) = word.split_at(start);
        let is_whole = !before.contains('.') && !before.ends_with(['v', 'V']);
        digits.parse().ok().filter(|_| is_whole)
    };
    numbers.rev().find_map(digits).filter(|_| !is_unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_the_last_number_of_a_finished_name() {
        let step = |name: &str| step_of(Path::new(name));
        assert_eq!(step("dir/step-00000012.safetensors"), Some(12));
        assert_eq!(step("resnet18-epoch=7.safetensors"), Some(7));
        assert_eq!(step("run2-ckpt-40-final.safetensors"), Some(40));
        assert_eq!(step("epoch=7-val_loss=0.35.safetensors"), Some(7));
        assert_eq!(step("model_step100.safetensors"), Some(100));
        for name in [
            "model-v2.safetensors",
            "step-12.pt",
            "last.safetensors",
            "tmp-12.safetensors",
            ".step-12.safetensors",
            "step-12.safetensors.tmp",
            "step-12-unfinished.safetensors",
            "step-99999999999999999999.safetensors",
        ] {
            assert_eq!(step(name), None, "{name}");
        }
    }

    #[test]
    fn a_link_to_a_checkpoint_is_the_same_checkpoint() {
        let directory = tempfile::tempdir().expect("a directory");
        let real = directory.path().join("step-2.safetensors");
        std::fs::write(&real, "x").expect("written");
        std::fs::write(directory.path().join("step-1.safetensors"), "y").expect("written");
        let link = directory.path().join("best-1.safetensors");
        std::os::unix::fs::symlink(&real, link).expect("linked");
        let steps: Vec<_> =
            scan(directory.path()).expect("listed").into_iter().map(|c| c.step).collect();
        assert_eq!(steps, [1, 2]);
    }
}
