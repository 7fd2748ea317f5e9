//! Where libtorch is: in the PyTorch of the Python environment that convergd is used in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

/// The PyTorch whose libtorch this version is built for; its interface changes with each minor version.
pub const VERSION: &str = "2.11";
/// What must be in the directory.
const LIBRARY: &str = "libtorch_cpu.so";

/// Where it is looked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// `LIBTORCH`: the directory above `lib`.
    pub given: Option<PathBuf>,
    /// Where it was when convergd was compiled; the program finds it there by itself.
    pub built_against: Option<PathBuf>,
    /// Python environments, such as the one whose `bin` convergd is in.
    pub environments: Vec<PathBuf>,
    /// Python interpreters that are asked after all of these.
    pub interpreters: Vec<PathBuf>,
}

/// It was found nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "no libtorch of PyTorch {VERSION} was found; looked for {LIBRARY} in:{}\ninstall torch {VERSION} into the Python \
     environment that convergd is in, activate the one that has it, or set LIBTORCH to the directory `torch` of that \
     package",
    .0.iter().map(|place| format!("\n  {place}")).collect::<String>()
)]
pub struct NotFound(pub Vec<String>);

/// A directory with libtorch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The one that convergd was compiled with.
    BuiltAgainst(PathBuf),
    /// Another, which the program must be told of.
    Elsewhere(PathBuf),
}

impl Search {
    /// The places that the environment of this process names.
    pub fn here(executable: &Path, built_against: Option<&str>) -> Self {
        let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let own = executable.parent().and_then(Path::parent).map(Path::to_owned);
        let active =
            ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(named).map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self {
            given: named("LIBTORCH").map(PathBuf::from),
            built_against: built_against.map(PathBuf::from),
            environments: own.into_iter().chain(active).collect(),
            interpreters: interpreters(&path),
        }
    }

    /// The first place that has it, in the order of the fields.
    ///
    /// # Errors
    /// No place has it: all of them.
    pub fn find(&self) -> Result<Found, NotFound> {
        let mut searched = Vec::new();
        if let Some(given) = &self.given {
            let given = [given.join("lib"), given.clone()];
            if let Some(directory) = first(given.into_iter(), "LIBTORCH", &mut searched) {
                return Ok(Found::Elsewhere(directory));
            }
        }
        let built_against = self.built_against.iter().cloned();
        if let Some(directory) = first(built_against, "compiled with", &mut searched) {
            return Ok(Found::BuiltAgainst(directory));
        }
        for environment in &self.environments {
            let places =
                site_packages(environment).into_iter().map(|place| place.join("torch/lib"));
            let what = format!("environment {}", environment.display());
            let before = searched.len();
            if let Some(directory) = first(places, &what, &mut searched) {
                return Ok(Found::Elsewhere(directory));
            }
            if searched.len() == before {
                searched.push(format!("{what}: no lib/python3.*/site-packages/torch there"));
            }
        }
        for interpreter in &self.interpreters {
            let what = format!("torch of {}", interpreter.display());
            match ask(interpreter) {
                Some(torch) => {
                    let place = std::iter::once(torch.join("lib"));
                    if let Some(directory) = first(place, &what, &mut searched) {
                        return Ok(Found::Elsewhere(directory));
                    }
                }
                None => searched.push(format!("{what}: it has none")),
            }
        }
        Err(NotFound(searched))
    }
}

/// The first directory with libtorch of the right version; what is wrong with the others.
fn first(
    places: impl Iterator<Item = PathBuf>,
    what: &str,
    searched: &mut Vec<String>,
) -> Option<PathBuf> {
    for place in places {
        let shown = place.display();
        match (place.join(LIBRARY).is_file(), version(&place)) {
            (false, _) => searched.push(format!("{shown} ({what}): not there")),
            (true, Some(other)) if !is_right(&other) => {
                searched.push(format!("{shown} ({what}): PyTorch {other}"));
            }
            (true, _) => return Some(place),
        }
    }
    None
}

fn is_right(version: &str) -> bool {
    version.strip_prefix(VERSION).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The version of the PyTorch that a `lib` belongs to, where it says so.
fn version(lib: &Path) -> Option<String> {
    let text = std::fs::read_to_string(lib.parent()?.join("version.py")).ok()?;
    let line = text.lines().find(|line| line.starts_with("__version__"))?;
    line.split(['\'', '"']).nth(1).map(str::to_owned)
}

fn site_packages(environment: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(environment.join("lib")) else { return Vec::new() };
    let is_python = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("python3"))
    };
    let mut pythons: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_python).collect();
    pythons.sort();
    pythons
        .into_iter()
        .map(|python| python.join("site-packages"))
        .filter(|path| path.join("torch").is_dir())
        .collect()
}

/// `python3` and `python` where PATH has them first.
fn interpreters(path: &OsString) -> Vec<PathBuf> {
    let find = |name: &str| {
        std::env::split_paths(path).map(|place| place.join(name)).find(|file| file.is_file())
    };
    ["python3", "python"].into_iter().filter_map(find).collect()
}

/// The directory of an interpreter's torch, which is found and not imported.
fn ask(interpreter: &Path) -> Option<PathBuf> {
    const QUESTION: &str = "import importlib.util as u; s = u.find_spec('torch'); \
                            print(s.submodule_search_locations[0] if s else '')";
    let asked =
        Command::new(interpreter).args(["-c", QUESTION]).stderr(Stdio::null()).output().ok()?;
    let answer = String::from_utf8(asked.stdout).ok()?;
    Some(answer.trim()).filter(|answer| !answer.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An environment with a torch of a version.
    fn environment(root: &Path, version: &str) -> PathBuf {
        let torch = root.join("lib/python3.12/site-packages/torch");
        std::fs::create_dir_all(torch.join("lib")).expect("made");
        std::fs::write(torch.join("lib").join(LIBRARY), "").expect("written");
        let text = format!("from typing import Optional\n__version__ = '{version}'\n");
        std::fs::write(torch.join("version.py"), text).expect("written");
        torch.join("lib")
    }

    #[test]
    fn the_first_of_the_right_version_is_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
        environment(&old, "2.1.0");
        let wanted = environment(&new, "2.11.0+cu128");
        let search = Search { environments: vec![old, new.clone()], ..Search::default() };
        assert_eq!(search.find(), Ok(Found::Elsewhere(wanted.clone())));
        let compiled = Search { built_against: Some(wanted.clone()), ..search.clone() };
        assert_eq!(compiled.find(), Ok(Found::BuiltAgainst(wanted.clone())));
        let given = wanted.parent().map(Path::to_owned);
        let given = Search { given, built_against: Some(wanted.clone()), ..Search::default() };
        assert_eq!(given.find(), Ok(Found::Elsewhere(wanted)));
    }

    #[test]
    fn every_place_that_has_none_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let old = directory.path().join("old");
        environment(&old, "2.110.0");
        let search = Search {
            given: Some("/nowhere/given".into()),
            built_against: Some("/nowhere/built".into()),
            environments: vec![old.clone(), directory.path().join("empty")],
            interpreters: vec!["/nowhere/python3".into()],
        };
        let said = search.find().expect_err("there is none").to_string();
        let old = format!("{}/lib/python3.12/site-packages/torch/lib", old.display());
        for part in [
            "/nowhere/given/lib (LIBTORCH): not there",
            "/nowhere/built (compiled with): not there",
            &format!("{old} (environment"),
            "PyTorch 2.110.0",
            "empty: no lib/python3.*/site-packages/torch there",
            "torch of /nowhere/python3: it has none",
            "set LIBTORCH",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}
