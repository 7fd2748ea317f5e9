//! What stands in a checkpoint directory.

use super::Settings;
use super::fingerprint::{self, Fingerprints};
use crate::layout::{Layout, Named};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
    /// Device, inode, size, time of change and both ends, of each of its files: the same checkpoint as
    /// long as these are the same.
    pub identity: String,
    /// When its files were written.
    pub written: Option<Written>,
    /// Whether its marker is there and not older than its files; true where none is configured.
    pub is_marked: bool,
}

/// When the files of a checkpoint were written, as they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The first.
    pub first: SystemTime,
    /// The last.
    pub last: SystemTime,
}

impl Written {
    fn at(time: SystemTime) -> Self {
        Self { first: time, last: time }
    }

    /// From the first to the last of them.
    pub fn span(&self) -> Duration {
        self.last.duration_since(self.first).unwrap_or_default()
    }

    fn with(self, other: SystemTime) -> Self {
        Self { first: self.first.min(other), last: self.last.max(other) }
    }
}

/// A file that a writer makes when a checkpoint is complete, named relative to the checkpoint directory:
/// `{name}.done` for `step-7.safetensors.done`, `{name}/COMPLETE`, `{stem}.ok`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker(String);

impl Marker {
    /// A marker with this pattern.
    ///
    /// # Errors
    /// A pattern without the checkpoint's name, or one that leads out of the directory.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let path = Path::new(pattern);
        let is_inside =
            path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !is_inside || pattern.ends_with('/') {
            return Err(
                "leads out of the checkpoint directory; write one such as `{name}.done`".to_owned()
            );
        }
        if !pattern.contains("{name}") && !pattern.contains("{stem}") {
            return Err("names the same file for every checkpoint; write one with `{name}` or `{stem}`, such \
                        as `{name}.done`"
                .to_owned());
        }
        Ok(Self(pattern.to_owned()))
    }

    /// Where the marker of a checkpoint stands.
    fn of(&self, checkpoint: &Path) -> Option<PathBuf> {
        let name = checkpoint.file_name()?.to_str()?;
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let marker = self.0.replace("{name}", name).replace("{stem}", stem);
        Some(checkpoint.parent()?.join(marker))
    }

    fn is_there(&self, checkpoint: &Path, modified: Option<SystemTime>) -> bool {
        let marker = self.of(checkpoint).and_then(|path| std::fs::metadata(path).ok());
        let marked = marker.and_then(|metadata| metadata.modified().ok());
        marked.is_some() && marked >= modified
    }
}

/// A directory, looked through.
#[derive(Debug, Default)]
pub struct Listing {
    /// By ascending step.
    pub candidates: Vec<Candidate>,
    /// What is none by its name or kind.
    pub others: Vec<PathBuf>,
}

/// All candidates of the directory at `now`.
///
/// # Errors
/// A directory that cannot be listed. Files that vanish meanwhile are left out.
pub fn scan(
    settings: &Settings,
    fingerprints: &mut Fingerprints,
    now: SystemTime,
) -> io::Result<Listing> {
    fingerprints.begin(now);
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(&settings.directory)? {
        let path = entry?.path();
        if is_unfinished(&path) {
            continue;
        }
        match candidate(settings, &path, fingerprints) {
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

fn candidate(
    settings: &Settings,
    path: &Path,
    fingerprints: &mut Fingerprints,
) -> Option<Candidate> {
    let Settings { layout, steps, marker, .. } = settings;
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
    let (identity, written) = match identify(*layout, path, knows_itself, fingerprints) {
        Ok(found) => found?,
        Err(error) if step.is_some() && is_its_own_fault(&error) => unlisted(path)?,
        Err(_) => return None,
    };
    let last = written.map(|written| written.last);
    let is_marked = marker.as_ref().is_none_or(|marker| marker.is_there(path, last));
    Some(Candidate { step, knows_itself, path: path.to_owned(), identity, written, is_marked })
}

/// Whether a directory will not be listed at the next look either: it may not be, or holds too many files.
/// Others have vanished, or the machine lacks something for a while.
fn is_its_own_fault(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Other)
}

/// The identity of a checkpoint's directory that cannot be listed: its own, so that it is found, and found
/// wanting, as others are.
fn unlisted(path: &Path) -> Option<(String, Option<Written>)> {
    let metadata = std::fs::metadata(path).ok()?;
    let written = metadata.modified().ok().map(Written::at);
    Some((fingerprint::of_unlisted(&metadata), written))
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
/// directory.
///
/// # Errors
/// What vanished or cannot be listed.
pub fn identity(layout: Layout, path: &Path, step_inside: bool) -> io::Result<Option<String>> {
    let identified = identify(layout, path, step_inside, &mut Fingerprints::default())?;
    Ok(identified.map(|(identity, _)| identity))
}

/// The identity, and when its files were written.
fn identify(
    layout: Layout,
    path: &Path,
    step_inside: bool,
    fingerprints: &mut Fingerprints,
) -> io::Result<Option<(String, Option<Written>)>> {
    let metadata = std::fs::metadata(path)?;
    if !layout.is_directory() {
        let written = metadata.modified().ok().map(Written::at);
        let identity = || (fingerprints.of_file(path, &metadata), written);
        return Ok(metadata.is_file().then(identity));
    }
    if !metadata.is_dir() {
        return Ok(None);
    }
    let mut parts = Parts::default();
    let mut written: Option<Written> = None;
    for file in layout.files(path, step_inside)? {
        let metadata = std::fs::metadata(&file)?;
        let identity = fingerprints.of_file(&file, &metadata);
        parts.add(file.file_name().unwrap_or_default(), &identity);
        if let Ok(time) = metadata.modified() {
            written = Some(written.map_or(Written::at(time), |written| written.with(time)));
        }
    }
    Ok(Some(match parts.count {
        // Weights are still to come, or have gone: it is no other directory that lacks them too.
        0 => (fingerprint::of_unlisted(&metadata), None),
        _ => (parts.identity(), written),
    }))
}

/// The files of a directory, from which its identity comes; in the order of their names.
#[derive(Default)]
pub(super) struct Parts {
    hasher: blake3::Hasher,
    count: usize,
}

impl Parts {
    pub(super) fn add(&mut self, name: &OsStr, identity: &str) {
        self.hasher.update(format!("{name:?} {identity}\n").as_bytes());
        self.count += 1;
    }

    pub(super) fn identity(&self) -> String {
        format!("directory:{}:{}", self.count, &self.hasher.finalize().to_hex()[..32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::settings;

    fn listed(settings: &Settings) -> Vec<Candidate> {
        let listing = scan(settings, &mut Fingerprints::default(), SystemTime::now());
        listing.expect("listed").candidates
    }

    fn steps(layout: Layout, directory: &Path) -> Vec<Option<u64>> {
        listed(&settings(layout, directory)).into_iter().map(|candidate| candidate.step).collect()
    }

    #[test]
    fn a_marker_counts_where_it_is_not_older_than_the_checkpoint() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("step-1.safetensors");
        let marker = directory.path().join("step-1.safetensors.done");
        std::fs::write(&file, "x").expect("written");
        let mut settings = settings(Layout::Safetensors, directory.path());
        settings.marker = Some(Marker::new("{name}.done").expect("a marker"));
        let is_marked = || listed(&settings)[0].is_marked;
        assert!(!is_marked());
        std::fs::write(&marker, "").expect("written");
        assert!(is_marked());
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        let written = std::fs::File::options().write(true).open(&file).expect("open");
        written.set_modified(later).expect("set");
        assert!(!is_marked(), "saved again since");
        for pattern in ["done", "../{name}", "/tmp/{name}", "{name}/"] {
            assert!(Marker::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn ten_thousand_files_are_read_once() {
        let directory = tempfile::tempdir().expect("a directory");
        for step in 0..10_000 {
            std::fs::write(directory.path().join(format!("step-{step}.safetensors")), "x")
                .expect("written");
        }
        let settings = settings(Layout::Safetensors, directory.path());
        let mut fingerprints = Fingerprints::default();
        // As if they had been there for long.
        let now = SystemTime::now() + std::time::Duration::from_secs(60);
        let mut candidates = || scan(&settings, &mut fingerprints, now).expect("listed").candidates;
        let first = candidates();
        // Another content behind the same metadata: whoever reads a file again sees another identity.
        for candidate in &first {
            let file = std::fs::File::options().write(true).open(&candidate.path).expect("open");
            let modified = file.metadata().and_then(|metadata| metadata.modified());
            std::io::Write::write_all(&mut &file, b"y").expect("written");
            file.set_modified(modified.expect("there")).expect("set");
        }
        let second = candidates();
        assert_eq!((first.len(), first == second), (10_000, true));
        let anew = listed(&settings);
        assert!(first.iter().zip(&anew).all(|(old, new)| old.identity != new.identity));
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
        let settings = settings(Layout::Hf, directory.path());
        let listed = || listed(&settings);
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
