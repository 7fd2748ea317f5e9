//! A directory without any checkpoint of its layout, but with one of another: somebody chose another
//! layout than their trainer has, as it seems.
//!
//! Beside checkpoints of its layout another one tells nothing: trainers leave the state of their optimizer
//! there, too, as often as they save. So a run is silent of it, and `doctor` names it.

use super::Settings;
use crate::layout::{Found, Steps, recognise};
use std::path::{Path, PathBuf};

/// Things that are looked at before a directory is called empty.
const MOST_LOOKED_AT: usize = 100;
/// Directories below it that are looked at, level by level.
const MOST_DIRECTORIES: usize = 8;
/// How far below: `lightning_logs/version_0/checkpoints`.
const LEVELS: usize = 3;

/// What is there instead, and what to write in the configuration; `others` is what [`super::scan`] found
/// to be no checkpoint. Nothing where nothing is recognised.
pub fn foreign(settings: &Settings, others: &[PathBuf]) -> Option<String> {
    let Settings { directory, layout, .. } = settings;
    if recognise(directory) == Some(Found::Layout(*layout)) {
        let directory = directory.display();
        return Some(format!(
            "`{directory}` is a checkpoint itself; give the directory that holds it"
        ));
    }
    let Some((path, found)) = recognised(others).next() else {
        let below = below(settings, others, LEVELS)?;
        return Some(format!(
            "`{}` holds no checkpoint of `layout: {}`, but `{}` below it does; give that",
            directory.display(),
            layout.name(),
            below.display()
        ));
    };
    let what = match found == Found::Layout(*layout) {
        true => match &settings.steps {
            Steps::Pattern(before, after) => {
                format!("whose name is not of the pattern `{before}{{step}}{after}` of `steps`")
            }
            _ => "whose name has no step; say with `steps` where it stands".to_owned(),
        },
        false => format!("which is {found}"),
    };
    Some(format!(
        "`{}` holds no checkpoint of `layout: {}`, but `{}`, {what}",
        directory.display(),
        layout.name(),
        name(path)
    ))
}

/// What the layout leaves out in a directory where it finds checkpoints. Nothing where nothing is recognised.
pub fn left_out(settings: &Settings, others: &[PathBuf]) -> Option<String> {
    let is_of_another = |(_, found): &(&PathBuf, Found)| *found != Found::Layout(settings.layout);
    let (path, found) = recognised(others).find(is_of_another)?;
    Some(format!("left out is `{}`, {found} if such are its checkpoints", name(path)))
}

/// A directory below, `levels` deep at most, that holds a checkpoint of the layout.
fn below(settings: &Settings, others: &[PathBuf], levels: usize) -> Option<PathBuf> {
    let directories = others.iter().take(MOST_LOOKED_AT).filter(|path| path.is_dir());
    directories.take(MOST_DIRECTORIES).find_map(|directory| {
        let entries = std::fs::read_dir(directory).ok()?.flatten().take(MOST_LOOKED_AT);
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        let is_one = |path: &PathBuf| recognise(path) == Some(Found::Layout(settings.layout));
        match paths.iter().any(is_one) {
            true => Some(directory.clone()),
            false if levels > 1 => below(settings, &paths, levels - 1),
            false => None,
        }
    })
}

fn recognised(others: &[PathBuf]) -> impl Iterator<Item = (&PathBuf, Found)> {
    others.iter().take(MOST_LOOKED_AT).filter_map(|path| Some((path, recognise(path)?)))
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}
