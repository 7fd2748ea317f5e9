//! One checkpoint in the place of a whole training: a network that was trained before.
//!
//! It is read where it stands, not pinned: nothing is expected to change or remove it. Whoever reads it makes
//! sure that it did not.

use super::{Checkpoint, fingerprint, scan};
use crate::layout::{Flaw, Found, Layout, Limits, recognise};
use crate::role::Role;
use std::path::Path;

/// Finds it, complete. Its step is that which it tells itself; 0 where it tells none.
///
/// # Errors
/// A file or directory that is not there, damaged or of another layout.
pub fn find(path: &Path, layout: Layout, limits: &Limits) -> Result<Checkpoint, Flaw> {
    // A stray file says nothing of its layout; this one was named.
    if let Some(found) = recognise(path).filter(|found| *found != Found::Layout(layout)) {
        let is_another = layout.check(path, limits).is_err();
        if is_another {
            return Err(Flaw::new(format!(
                "is no checkpoint of `layout: {}`, but {found}",
                layout.name()
            )));
        }
    }
    let identity = scan::identity(layout, path, false)?;
    let Some(identity) = identity else {
        let wanted = if layout.is_directory() { "directory" } else { "file" };
        return Err(Flaw::new(format!("is no {wanted}, as `layout: {}` wants one", layout.name())));
    };
    layout.check(path, limits)?;
    let step = layout.step_inside(path, limits)?.unwrap_or_default();
    let path = path.to_owned();
    Ok(Checkpoint { role: Role::Baseline, step, pin: path.clone(), path, identity })
}

/// Whether it is what was found.
pub fn is_unchanged(fixed: &Checkpoint, layout: Layout) -> bool {
    let identity = scan::identity(layout, &fixed.path, false);
    identity.is_ok_and(|found| found.as_ref() == Some(&fixed.identity))
}

/// What tells its content, wherever it is copied to: size and a hash of both ends of the file, or of each
/// file that is read of a directory.
pub fn content(fixed: &Checkpoint) -> String {
    // Only this layout has directories.
    let files = fixed.path.is_dir().then(|| Layout::Hf.files(&fixed.path, false));
    match files.map(|files| files.and_then(|files| fingerprint::content_of_all(&files))) {
        Some(Ok(content)) => content,
        // It is gone meanwhile, which whoever reads it says.
        Some(Err(_)) | None => fingerprint::content(&fixed.identity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest safetensors file with one number.
    fn weights(number: u8) -> Vec<u8> {
        let header = br#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        [&(header.len() as u64).to_le_bytes()[..], header, &[number]].concat()
    }

    #[test]
    fn a_copy_has_the_same_content_and_another_file_or_name_has_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = |place: &str, name: &str, number: u8| {
            let path = directory.path().join(place);
            std::fs::create_dir_all(&path).expect("made");
            std::fs::write(path.join(name), weights(number)).expect("written");
            std::fs::write(path.join("optimizer.pt"), place).expect("written");
            path
        };
        let content = |layout, path: &Path| {
            content(&find(path, layout, &Limits::default()).expect("a checkpoint"))
        };
        let first = made("first", "model.safetensors", 1);
        let copy = made("copy", "model.safetensors", 1);
        let other = made("other", "model.safetensors", 2);
        assert_eq!(content(Layout::Hf, &first), content(Layout::Hf, &copy));
        assert_ne!(content(Layout::Hf, &first), content(Layout::Hf, &other));
        made("copy", "model-2.safetensors", 1);
        assert_ne!(content(Layout::Hf, &first), content(Layout::Hf, &copy), "one more");
        let file = |path: &Path| content(Layout::Safetensors, &path.join("model.safetensors"));
        assert_eq!(file(&first), file(&copy));
        assert_ne!(file(&first), file(&other));
    }
}
