//! The checkpoints of a directory that are complete at this moment, for work on a training that is over, or on as much
//! of one as is there.
//!
//! Nothing is waited for and nothing is pinned: a checkpoint is read where it stands, and whoever reads it makes sure
//! after that that it is still the same ([`super::fixed::is_unchanged`]).

use super::fingerprint::Fingerprints;
use super::scan::{self, Candidate, scan};
use super::{Checkpoint, Settings, foreign};
use crate::layout::Flaw;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

/// Why a checkpoint without a step counts for none.
pub(super) const NO_STEP: &str =
    "has no step in its name, and none inside; say with `steps` where it stands";

/// A checkpoint that counts for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it stands.
    pub path: PathBuf,
    /// Its training step, where its name has one or it was read so far.
    pub step: Option<u64>,
    /// Why.
    pub reason: String,
}

/// What was found in a directory.
#[derive(Debug, Default)]
pub struct Census {
    /// Complete, by ascending step; each is its own pin.
    pub checkpoints: Vec<Checkpoint>,
    /// Those that are not.
    pub left_out: Vec<LeftOut>,
    /// Where there is no checkpoint at all: what there is of another layout.
    pub foreign: Option<String>,
}

impl Census {
    /// Lists a directory.
    ///
    /// # Errors
    /// A directory that cannot be listed.
    pub fn take(settings: &Settings) -> io::Result<Self> {
        let listing = scan(settings, &mut Fingerprints::default(), SystemTime::now())?;
        let mut census = Self::default();
        if listing.candidates.is_empty() {
            census.foreign = foreign(settings, &listing.others);
        }
        for candidate in listing.candidates {
            match complete(settings, &candidate) {
                Ok(checkpoint) => census.checkpoints.push(checkpoint),
                Err(flaw) => {
                    let Candidate { path, step, .. } = candidate;
                    census.left_out.push(LeftOut { path, step, reason: flaw.to_string() });
                }
            }
        }
        // Some tell their step only when they are read.
        census.checkpoints.sort_by(|a, b| (a.step, &a.path).cmp(&(b.step, &b.path)));
        Ok(census)
    }
}

/// The checkpoint, where it is whole.
fn complete(settings: &Settings, candidate: &Candidate) -> Result<Checkpoint, Flaw> {
    let Settings { role, layout, limits, .. } = settings;
    let path = candidate.path.clone();
    if !candidate.is_marked {
        return Err(Flaw::new("has no marker yet (`ready`)"));
    }
    let identity = scan::identity(*layout, &path, false)?;
    let identity = identity.ok_or_else(|| Flaw::new("was removed meanwhile"))?;
    layout.check(&path, limits)?;
    let inside = match candidate.knows_itself {
        true => layout.step_inside(&path, limits)?,
        false => None,
    };
    let step = inside.or(candidate.step).ok_or_else(|| Flaw::new(NO_STEP))?;
    Ok(Checkpoint { role: *role, step, pin: path.clone(), path, identity })
}
