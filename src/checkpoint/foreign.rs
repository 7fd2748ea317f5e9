//! A directory without any checkpoint of its layout, but with one of another: somebody chose another
//! layout than their trainer has, as it seems.

use super::Settings;
use crate::layout::{Found, recognise};
use std::path::{Path, PathBuf};

/// Things that are looked at before a directory is called empty.
const MOST_LOOKED_AT: usize = 100;

/// What is there instead, and what to write in the configuration; `others` is what [`super::scan`] found
/// to be no checkpoint. Nothing where nothing is recognised.
pub fn foreign(settings: &Settings, others: &[PathBuf]) -> Option<String> {
    let Settings { directory, layout, .. } = settings;
    let find = |path: &PathBuf| recognise(path).map(|found| (path.clone(), found));
    let (path, found) = others.iter().take(MOST_LOOKED_AT).find_map(find)?;
    let what = match found == Found::Layout(*layout) {
        true => "whose name has no step; say with `steps` where it stands".to_owned(),
        false => format!("which is {found}"),
    };
    Some(format!(
        "`{}` holds no checkpoint of `layout: {}`, but `{}`, {what}",
        directory.display(),
        layout.name(),
        name(&path)
    ))
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}
