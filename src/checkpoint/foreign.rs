//! A directory without any checkpoint of its layout, but with one of another: somebody chose another
//! layout than their trainer has, as it seems.
//!
//! Beside checkpoints of its layout another one tells nothing: trainers leave the state of their optimizer
//! there, too, as often as they save. So a run is silent of it, and `doctor` names it.

use super::Settings;
use crate::layout::{Found, recognise};
use std::path::{Path, PathBuf};

/// Things that are looked at before a directory is called empty.
const MOST_LOOKED_AT: usize = 100;

/// What is there instead, and what to write in the configuration; `others` is what [`super::scan`] found
/// to be no checkpoint. Nothing where nothing is recognised.
pub fn foreign(settings: &Settings, others: &[PathBuf]) -> Option<String> {
    let Settings { directory, layout, .. } = settings;
    let (path, found) = recognised(others).next()?;
    let what = match found == Found::Layout(*layout) {
        true => "whose name has no step; say with `steps` where it stands".to_owned(),
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

fn recognised(others: &[PathBuf]) -> impl Iterator<Item = (&PathBuf, Found)> {
    others.iter().take(MOST_LOOKED_AT).filter_map(|path| Some((path, recognise(path)?)))
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}
