//! One checkpoint in the place of a whole training: a network that was trained before.
//!
//! It is read where it stands, not pinned: nothing is expected to change or remove it. Whoever reads it makes
//! sure that it did not.

use super::{Checkpoint, fingerprint, scan};
use crate::layout::{Flaw, Layout, Limits};
use crate::role::Role;
use std::path::Path;

/// Finds it, complete. Its step is that which it tells itself; 0 where it tells none.
///
/// # Errors
/// A file or directory that is not there, damaged or of another layout.
pub fn find(path: &Path, layout: Layout, limits: &Limits) -> Result<Checkpoint, Flaw> {
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

/// What tells its content, wherever it is copied to: size and a hash of both ends of the file.
pub fn content(fixed: &Checkpoint) -> String {
    fingerprint::content(&fixed.identity)
}
