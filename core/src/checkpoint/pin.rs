//! Pins: ready checkpoints are kept under the state directory until they are evaluated.
//!
//! A pin is a hard link, or where the file systems differ a copy (which shares its blocks where the file
//! system can do that). A checkpoint that is a directory is pinned as a directory of such links.
//!
//! Links cost nothing, so they are made when a candidate is first seen ([`hold`]): whatever then happens to
//! its name, the data stays until it is known what they are. When it is complete, the link becomes the pin
//! ([`settle`]). Where there are no links, a copy is made when it is complete ([`pin`]).

use super::fingerprint::{self, Fingerprints};
use super::scan::{self, Candidate};
use super::{Checkpoint, Settings};
use crate::layout::Layout;
use crate::role::Role;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// In a pinned directory: its identity, then identity and name of each of its files.
const MANIFEST: &str = ".pinned";

/// Holds a candidate that was just seen, by hard links alone. Gives nothing where it changed or vanished
/// meanwhile, or cannot be linked.
///
/// # Errors
/// Links that cannot be removed again.
pub fn hold(
    directory: &Path,
    role: Role,
    layout: Layout,
    candidate: &Candidate,
) -> io::Result<Option<PathBuf>> {
    let held = directory.join(format!("held-{role}-{}", digest(&candidate.identity)));
    let linked =
        std::fs::create_dir_all(directory).and_then(|()| keep(&held, layout, candidate, link));
    if linked.is_ok_and(|is_kept| is_kept) {
        return Ok(Some(held));
    }
    remove(&partial(&held))?;
    remove(&held)?;
    Ok(None)
}

/// Makes a pin of what is held, once its step is known. Gives nothing where it has changed since.
///
/// # Errors
/// A file system that takes no more.
pub fn settle(
    directory: &Path,
    role: Role,
    layout: Layout,
    step: u64,
    candidate: &Candidate,
    held: &Path,
) -> io::Result<Option<PathBuf>> {
    if !is(candidate, layout, held) {
        return Ok(None);
    }
    let pin = path(directory, role, step, &candidate.identity);
    remove(&pin)?;
    std::fs::rename(held, &pin)?;
    Ok(Some(pin))
}

/// Keeps a candidate under `directory`. Gives nothing where it changed or vanished meanwhile: the next
/// scan sees what is there then.
///
/// # Errors
/// A pin that can be neither linked nor copied.
pub fn pin(
    directory: &Path,
    role: Role,
    layout: Layout,
    step: u64,
    candidate: &Candidate,
) -> io::Result<Option<PathBuf>> {
    std::fs::create_dir_all(directory)?;
    let pin = path(directory, role, step, &candidate.identity);
    Ok(keep(&pin, layout, candidate, link_or_copy)?.then_some(pin))
}

/// Whether the candidate is kept as `pin` now. What is replaced or removed once its links are made, or its
/// files opened to be copied, is kept all the same.
fn keep(pin: &Path, layout: Layout, candidate: &Candidate, keep: Keep) -> io::Result<bool> {
    remove(pin)?;
    let kept = match layout.is_directory() {
        true => keep_directory(pin, layout, candidate, keep),
        false => keep(&candidate.path, pin),
    };
    match kept {
        Ok(identity) if identity == candidate.identity => return Ok(true),
        Ok(_) => remove(pin)?,
        // A part of a copy fills the disk even more.
        Err(error) => {
            remove(&partial(pin))?;
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
        }
    }
    Ok(false)
}

/// Whether this is the candidate, unchanged.
fn is(candidate: &Candidate, layout: Layout, path: &Path) -> bool {
    let identity = scan::identity(layout, path, candidate.knows_itself);
    identity.is_ok_and(|found| found.as_ref() == Some(&candidate.identity))
}

/// Whether every file that is held still stands in the directory it was held from: what is there now is a
/// later state of the same checkpoint.
pub fn is_superseded(held: &Path, directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(held) else { return false };
    let inode = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.ino()).ok();
    entries.flatten().filter(|entry| entry.file_name() != MANIFEST).all(|entry| {
        let there = inode(&directory.join(entry.file_name()));
        there.is_some() && there == inode(&entry.path())
    })
}

/// Keeps one file, whole or not at all; gives the identity of what is kept.
type Keep = fn(&Path, &Path) -> io::Result<String>;

fn link(path: &Path, pin: &Path) -> io::Result<String> {
    std::fs::hard_link(std::fs::canonicalize(path)?, pin)?;
    fingerprint::of_file(pin)
}

fn link_or_copy(path: &Path, pin: &Path) -> io::Result<String> {
    match link(path, pin) {
        Ok(identity) => Ok(identity),
        Err(_) => copy(File::open(path)?, pin),
    }
}

/// Copies an open file, which stays readable when its name is removed meanwhile. One that changes meanwhile is
/// no checkpoint: the identity given is that of none.
fn copy(mut file: File, pin: &Path) -> io::Result<String> {
    let before = fingerprint::of_open(&mut file)?;
    let partial = partial(pin);
    let mut copied = File::create(&partial)?;
    file.rewind()?;
    io::copy(&mut file, &mut copied)?;
    copied.set_permissions(file.metadata()?.permissions())?;
    if fingerprint::of_open(&mut file)? != before {
        remove(&partial)?;
        return Ok("changed".to_owned());
    }
    // A pin is whole, also after the power was cut.
    copied.sync_all()?;
    std::fs::rename(&partial, pin)?;
    Ok(before)
}

/// Keeps the files that are read of a directory, all or none; gives the identity of what is kept.
fn keep_directory(
    pin: &Path,
    layout: Layout,
    candidate: &Candidate,
    keep: Keep,
) -> io::Result<String> {
    let partial = partial(pin);
    remove(&partial)?;
    std::fs::create_dir(&partial)?;
    let mut manifest = format!("{}\n", candidate.identity);
    let mut kept = scan::Parts::default();
    for file in layout.files(&candidate.path, candidate.knows_itself)? {
        let name = file.file_name().unwrap_or_default();
        let identity = keep(&file, &partial.join(name))?;
        kept.add(name, &identity);
        manifest.push_str(&format!("{identity} {}\n", name.to_string_lossy()));
    }
    let identity = kept.identity();
    if identity != candidate.identity {
        remove(&partial)?;
        return Ok(identity);
    }
    std::fs::write(partial.join(MANIFEST), manifest)?;
    std::fs::rename(&partial, pin)?;
    Ok(identity)
}

fn partial(pin: &Path) -> PathBuf {
    pin.with_extension("partial")
}

/// Where a checkpoint is pinned.
pub fn path(directory: &Path, role: Role, step: u64, identity: &str) -> PathBuf {
    directory.join(format!("{role}-{step}-{}", digest(identity)))
}

fn digest(identity: &str) -> String {
    blake3::hash(identity.as_bytes()).to_hex()[..12].to_owned()
}

/// Keeps what is pinned under another name too, which must be on the same file system: its file, or the files
/// of its directory. What stood there is replaced.
///
/// # Errors
/// A directory that cannot be made, a link that cannot be.
pub fn keep_also(pin: &Path, to: &Path) -> io::Result<()> {
    remove(to)?;
    if let Some(above) = to.parent() {
        std::fs::create_dir_all(above)?;
    }
    if !pin.is_dir() {
        return std::fs::hard_link(pin, to);
    }
    std::fs::create_dir(to)?;
    for file in pins(pin)? {
        std::fs::hard_link(&file, to.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// Whether a pin still holds what was pinned: a hard link shares the fate of a file that is rewritten in
/// place; a copy does not.
///
/// # Errors
/// What the system cannot tell now, as with too many open files; one that is gone is not intact.
pub fn is_intact(pin: &Path, pinned_identity: &str) -> io::Result<bool> {
    let there = |found: io::Result<bool>| match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found,
    };
    if !pin.is_dir() {
        return there(is_file_intact(pin, pinned_identity));
    }
    let manifest = match std::fs::read_to_string(pin.join(MANIFEST)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        manifest => manifest?,
    };
    let mut lines = manifest.lines();
    if lines.next() != Some(pinned_identity) {
        return Ok(false);
    }
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return Ok(false);
    }
    for line in lines {
        let Some((identity, name)) = line.split_once(' ') else { return Ok(false) };
        if !there(is_file_intact(&pin.join(name), identity))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_file_intact(pin: &Path, pinned_identity: &str) -> io::Result<bool> {
    let now = fingerprint::of_file(pin)?;
    Ok(now == pinned_identity || fingerprint::file(&now) != fingerprint::file(pinned_identity))
}

/// The pins of a network that an earlier life made and did not come to write down, complete ones only.
///
/// # Errors
/// A directory that cannot be listed; one that is not there is no error.
pub fn orphans(
    directory: &Path,
    settings: &Settings,
    is_known: impl Fn(&Path) -> bool,
) -> io::Result<Vec<Checkpoint>> {
    let Settings { role, layout, limits, .. } = settings;
    let mut found = Vec::new();
    // Of several saves of a step the last comes first.
    let mut pins = pins(directory)?;
    pins.sort_by_key(|pin| {
        Reverse(std::fs::metadata(pin).and_then(|metadata| metadata.modified()).ok())
    });
    for pin in pins {
        let Some(step) = step_in_name(&pin, *role) else { continue };
        let is_complete = || !is_known(&pin) && layout.check(&pin, limits).is_ok();
        let Some(identity) = is_complete().then(|| own_identity(&pin)).flatten() else { continue };
        let place = path(directory, *role, step, &identity);
        if place != pin {
            // The identity of what was copied is not that of the copy. But a link whose identity has changed
            // was written over in place: it is of another step by now.
            let is_copy = std::fs::metadata(&pin).is_ok_and(|metadata| metadata.nlink() == 1);
            if pin.is_dir() || !is_copy {
                continue;
            }
            std::fs::rename(&pin, &place)?;
        }
        found.push(Checkpoint { role: *role, step, path: place.clone(), pin: place, identity });
    }
    if !found.is_empty() {
        name(&mut found, settings);
    }
    Ok(found)
}

/// Calls them what their trainer calls them, where they still stand in its directory. What was copied, or is
/// gone there, is called by its pin.
fn name(found: &mut [Checkpoint], settings: &Settings) {
    let listing = scan::scan(settings, &mut Fingerprints::default(), SystemTime::now());
    let candidates = listing.map(|listing| listing.candidates).unwrap_or_default();
    for checkpoint in found {
        let own = candidates.iter().find(|candidate| candidate.identity == checkpoint.identity);
        if let Some(candidate) = own {
            checkpoint.path = candidate.path.clone();
        }
    }
}

/// Whether anything is pinned there, whoever's it is.
pub fn is_any(directory: &Path) -> bool {
    let is_pin = |pin: &PathBuf| Role::BOTH.iter().any(|role| step_in_name(pin, *role).is_some());
    pins(directory).is_ok_and(|pins| pins.iter().any(is_pin))
}

/// The steps of which anything of a network is pinned there.
///
/// # Errors
/// A directory that cannot be listed; one that is not there is no error.
pub fn steps(directory: &Path, role: Role) -> io::Result<BTreeSet<u64>> {
    Ok(pins(directory)?.iter().filter_map(|pin| step_in_name(pin, role)).collect())
}

/// The step of a pin of a network; what is only held has none.
fn step_in_name(pin: &Path, role: Role) -> Option<u64> {
    let name = pin.file_name()?.to_str()?;
    let rest = name.strip_prefix(role.name())?.strip_prefix('-')?;
    let (step, digest) = rest.split_once('-')?;
    let is_digest = digest.chars().all(|digit| digit.is_ascii_hexdigit());
    step.parse().ok().filter(|_| is_digest)
}

fn own_identity(pin: &Path) -> Option<String> {
    if !pin.is_dir() {
        return fingerprint::of_file(pin).ok();
    }
    let manifest = std::fs::read_to_string(pin.join(MANIFEST)).ok()?;
    let identity = manifest.lines().next()?;
    is_intact(pin, identity).is_ok_and(|is_it| is_it).then(|| identity.to_owned())
}

/// Everything under the directory; nothing where it is not there.
fn pins(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// Removes every pin that is not in `kept`.
///
/// # Errors
/// A directory that cannot be listed; one that is not there is no error.
pub fn sweep(directory: &Path, kept: &HashSet<PathBuf>) -> io::Result<()> {
    pins(directory)?.iter().filter(|pin| !kept.contains(*pin)).try_for_each(|pin| remove(pin))
}

/// Lets go of a pin; one that is gone already is no error.
///
/// # Errors
/// A file or directory that cannot be removed.
pub fn remove(pin: &Path) -> io::Result<()> {
    let is_directory = std::fs::symlink_metadata(pin).is_ok_and(|metadata| metadata.is_dir());
    let removed =
        if is_directory { std::fs::remove_dir_all(pin) } else { std::fs::remove_file(pin) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::settings;

    fn first(layout: Layout, directory: &Path) -> Candidate {
        let mut fingerprints = fingerprint::Fingerprints::default();
        let now = std::time::SystemTime::now();
        let listing = scan::scan(&settings(layout, directory), &mut fingerprints, now);
        listing.expect("listed").candidates.remove(0)
    }

    fn kept(pins: &Path, layout: Layout, candidate: &Candidate) -> Option<PathBuf> {
        pin(pins, Role::Target, layout, 1, candidate).expect("no error")
    }

    /// A sharded checkpoint, as far as pins care.
    fn sharded(directory: &Path) -> PathBuf {
        let checkpoint = directory.join("checkpoint-1");
        std::fs::create_dir(&checkpoint).expect("made");
        for (name, text) in [
            ("model-00001-of-00002.safetensors", "first"),
            ("model-00002-of-00002.safetensors", "second"),
            ("model.safetensors.index.json", "{}"),
            ("optimizer.pt", "large, and not read"),
        ] {
            std::fs::write(checkpoint.join(name), text).expect("written");
        }
        checkpoint
    }

    #[test]
    fn a_pin_outlives_the_file_and_a_replaced_file_is_not_taken_for_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("step-1.safetensors");
        std::fs::write(&file, "first").expect("written");
        let pins = directory.path().join("pins");
        let candidate = first(Layout::Safetensors, directory.path());
        let pinned = kept(&pins, Layout::Safetensors, &candidate).expect("still there");
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(std::fs::read(&pinned).expect("kept"), b"first");
        assert!(kept(&pins, Layout::Safetensors, &candidate).is_none(), "it is gone");
        std::fs::write(&file, "second").expect("written");
        assert!(kept(&pins, Layout::Safetensors, &candidate).is_none(), "it is another");
    }

    #[test]
    fn a_file_rewritten_in_place_spoils_its_pin() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("step-1.safetensors");
        std::fs::write(&file, "first").expect("written");
        let pins = directory.path().join("pins");
        let candidate = first(Layout::Safetensors, directory.path());
        let pinned = kept(&pins, Layout::Safetensors, &candidate).expect("still there");
        assert!(is_intact(&pinned, &candidate.identity).expect("told"));
        std::fs::write(&file, "second, in place").expect("written");
        assert!(!is_intact(&pinned, &candidate.identity).expect("told"));
        sweep(&pins, &HashSet::from([pinned.clone()])).expect("swept");
        assert!(pinned.exists());
        sweep(&pins, &HashSet::new()).expect("swept");
        assert!(!pinned.exists());
    }

    #[test]
    fn pins_that_were_not_written_down_are_found_and_parts_of_them_are_not() {
        let home = tempfile::tempdir().expect("a directory");
        let (run, pins) = (home.path().join("run"), home.path().join("pins"));
        std::fs::create_dir(&run).expect("made");
        sharded(&run);
        let candidate = first(Layout::Hf, &run);
        let settings = settings(Layout::Hf, &run);
        let pinned = kept(&pins, Layout::Hf, &candidate).expect("still there");
        std::fs::create_dir(pins.join("held-target-0123456789ab")).expect("made");
        std::fs::create_dir(pins.join("target-2-0123456789ab.partial")).expect("made");
        std::fs::create_dir(pins.join("baseline-3-0123456789ab")).expect("made");
        // Shards of text: structurally nothing.
        assert!(orphans(&pins, &settings, |_| false).expect("listed").is_empty());
        let complete = [&2u64.to_le_bytes()[..], b"{}"].concat();
        let file = run.join("step-7.safetensors");
        std::fs::write(&file, &complete).expect("written");
        let settings = Settings { layout: Layout::Safetensors, ..settings };
        let candidate = first(Layout::Safetensors, &run);
        let own = pin(&pins, Role::Target, Layout::Safetensors, 7, &candidate).expect("no error");
        std::fs::remove_file(&file).expect("removed");
        // A copy: another inode than its name speaks of.
        std::fs::write(pins.join("target-8-0123456789ab"), &complete).expect("written");
        let mut found = orphans(&pins, &settings, |_| false).expect("listed");
        found.sort_by_key(|checkpoint| checkpoint.step);
        assert_eq!(found.iter().map(|found| found.step).collect::<Vec<_>>(), [7, 8]);
        assert_eq!((&found[0].pin, &found[0].identity), (&own.expect("kept"), &candidate.identity));
        for Checkpoint { step, pin, identity, .. } in &found {
            assert_eq!(*pin, path(&pins, Role::Target, *step, identity));
            assert!(is_intact(pin, identity).expect("told"));
        }
        assert!(orphans(&pins, &settings, |_| true).expect("listed").is_empty());
        assert!(pinned.exists());
    }

    #[test]
    fn a_pinned_directory_outlives_its_removal_file_by_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let checkpoint = sharded(directory.path());
        let pins = directory.path().join("pins");
        let candidate = first(Layout::Hf, directory.path());
        let pinned = kept(&pins, Layout::Hf, &candidate).expect("still there");
        std::fs::remove_file(checkpoint.join("model-00001-of-00002.safetensors")).expect("gone");
        assert!(is_intact(&pinned, &candidate.identity).expect("told"));
        assert!(kept(&pins, Layout::Hf, &candidate).is_none(), "half of it is gone");
        let pinned = {
            std::fs::remove_dir_all(&checkpoint).expect("removed");
            let candidate = {
                sharded(directory.path());
                first(Layout::Hf, directory.path())
            };
            let again = kept(&pins, Layout::Hf, &candidate).expect("still there");
            assert_ne!(again, pinned, "a step that is saved again is another checkpoint");
            std::fs::remove_dir_all(&checkpoint).expect("removed");
            assert!(is_intact(&again, &candidate.identity).expect("told"));
            again
        };
        let shard = pinned.join("model-00002-of-00002.safetensors");
        assert_eq!(std::fs::read(shard).expect("kept"), b"second");
        assert!(!pinned.join("optimizer.pt").exists(), "what is not read is not kept");
        let left = std::fs::read_dir(&pins).expect("listed").flatten();
        assert!(left.into_iter().all(|entry| !entry.path().ends_with("partial")));
        remove(&pinned).expect("removed");
        assert!(!pinned.exists());
    }

    #[test]
    fn a_shard_rewritten_in_place_spoils_the_pinned_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let checkpoint = sharded(directory.path());
        let pins = directory.path().join("pins");
        let candidate = first(Layout::Hf, directory.path());
        let pinned = kept(&pins, Layout::Hf, &candidate).expect("still there");
        std::fs::write(checkpoint.join("optimizer.pt"), "another").expect("written");
        assert!(is_intact(&pinned, &candidate.identity).expect("told"), "the network is the same");
        let shard = checkpoint.join("model-00002-of-00002.safetensors");
        std::fs::write(shard, "in place").expect("written");
        assert!(!is_intact(&pinned, &candidate.identity).expect("told"));
        assert!(!is_intact(&pinned, "directory:3:of-another").expect("told"));
    }

    #[test]
    fn a_copy_is_kept_whose_source_is_removed_while_it_is_made() {
        let removed: Keep = |path, pin| {
            let file = File::open(path)?;
            std::fs::remove_file(path)?;
            copy(file, pin)
        };
        let changed: Keep = |path, pin| {
            let file = File::open(path)?;
            std::fs::write(path, "something else, in place")?;
            copy(file, pin)
        };
        for layout in [Layout::Safetensors, Layout::Hf] {
            let directory = tempfile::tempdir().expect("a directory");
            let pin = directory.path().join("pin");
            let made = || match layout {
                Layout::Hf => sharded(directory.path()).join("model-00001-of-00002.safetensors"),
                _ => {
                    let file = directory.path().join("step-1.safetensors");
                    std::fs::write(&file, "first").expect("written");
                    file
                }
            };
            let file = made();
            let candidate = first(layout, directory.path());
            assert!(keep(&pin, layout, &candidate, removed).expect("kept"), "{layout:?}");
            assert!(
                !file.exists() && is_intact(&pin, &candidate.identity).expect("told"),
                "{layout:?}"
            );
            let kept = if pin.is_dir() { pin.join(file.file_name().expect("a name")) } else { pin };
            assert_eq!(std::fs::read(kept).expect("kept"), b"first", "{layout:?}");

            let _ = std::fs::remove_dir_all(directory.path().join("checkpoint-1"));
            made();
            let candidate = first(layout, directory.path());
            let another = directory.path().join("another");
            assert!(!keep(&another, layout, &candidate, changed).expect("no error"), "{layout:?}");
            assert!(!another.exists(), "{layout:?}");
        }
    }
}
