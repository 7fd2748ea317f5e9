//! Where libtorch is: in the PyTorch of the Python environment that convergd is used in.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The PyTorch whose libtorch this version is built for; its interface changes with each minor version.
pub const VERSION: &str = "2.11";
/// What must be in the directory.
const LIBRARY: &str = "libtorch_cpu.so";
/// An interpreter that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Stands before the answer of an interpreter, which may print other things.
const MARK: &str = "convergd-torch-at:";

/// Where it is looked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// `LIBTORCH`: the directory above `lib`.
    pub given: Option<PathBuf>,
    /// Those of `LD_LIBRARY_PATH`.
    pub libraries: Vec<PathBuf>,
    /// Where it was when convergd was compiled, for a program that lies where it was made.
    pub built_against: Option<PathBuf>,
    /// Python environments, such as the one whose `bin` convergd is in.
    pub environments: Vec<PathBuf>,
    /// Python interpreters that are asked after all of these and their own.
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

impl Search {
    /// The places that the environment of this process names; `programs` are the paths of this program: the
    /// one it was started by, and the one it lies at.
    pub fn here(programs: &[PathBuf], built_against: Option<&str>) -> Self {
        let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let mut environments = Vec::new();
        let own = programs.iter().filter_map(|program| program.parent()?.parent());
        let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(named);
        for place in own.map(Path::to_owned).chain(active.map(PathBuf::from)) {
            if !environments.contains(&place) {
                environments.push(place);
            }
        }
        Self {
            given: named("LIBTORCH").map(PathBuf::from),
            libraries: named("LD_LIBRARY_PATH").as_deref().map(split).unwrap_or_default(),
            built_against: built_against.map(PathBuf::from),
            environments,
            interpreters: interpreters(&named("PATH").unwrap_or_default()),
        }
    }

    /// What is wrong with `LIBTORCH`, where it is set and another place was found.
    pub fn complaint(&self, found: &Path) -> Option<String> {
        let given = self.given.as_ref()?;
        let is_it = found == given || found == given.join("lib");
        (!is_it).then(|| {
            format!(
                "LIBTORCH is `{}`, which holds no {LIBRARY} of PyTorch {VERSION}; taking `{}`",
                given.display(),
                found.display()
            )
        })
    }

    /// The first directory that has it, in the order of the fields.
    ///
    /// # Errors
    /// No place has it: all of them.
    pub fn find(&self) -> Result<PathBuf, NotFound> {
        let mut searched = Searched::default();
        let given = self.given.iter().flat_map(|given| [given.join("lib"), given.clone()]);
        if let Some(found) = searched.first(given, "LIBTORCH") {
            return Ok(found);
        }
        if let Some(found) = searched.first(self.libraries.iter().cloned(), "LD_LIBRARY_PATH") {
            return Ok(found);
        }
        if let Some(found) = searched.first(self.built_against.iter().cloned(), "compiled with") {
            return Ok(found);
        }
        for environment in &self.environments {
            if let Some(found) = searched.environment(environment) {
                return Ok(found);
            }
        }
        for interpreter in &self.interpreters {
            if let Some(found) = searched.interpreter(interpreter) {
                return Ok(found);
            }
        }
        Err(NotFound(searched.places))
    }
}

/// What was looked at, and why it is not it.
#[derive(Default)]
struct Searched {
    places: Vec<String>,
    interpreters: Vec<PathBuf>,
}

impl Searched {
    /// The first directory with libtorch of the right version.
    fn first(&mut self, places: impl Iterator<Item = PathBuf>, what: &str) -> Option<PathBuf> {
        for place in places {
            let shown = place.display();
            match (place.join(LIBRARY).is_file(), version(&place)) {
                (false, _) => self.places.push(format!("{shown} ({what}): not there")),
                (true, Some(other)) if !is_right(&other) => {
                    self.places.push(format!("{shown} ({what}): PyTorch {other}"));
                }
                (true, _) => return Some(place),
            }
        }
        None
    }

    /// Its packages, its libraries (where conda puts it), and what its interpreter knows of.
    fn environment(&mut self, environment: &Path) -> Option<PathBuf> {
        let what = format!("environment {}", environment.display());
        let packages = site_packages(environment);
        if packages.is_empty() {
            self.places.push(format!("{what}: no lib/python3.*/site-packages/torch there"));
        }
        let packages = packages.into_iter().map(|place| place.join("torch/lib"));
        let libraries = environment.join("lib");
        let libraries = Some(libraries).filter(|place| place.join(LIBRARY).is_file());
        if let Some(found) = self.first(packages.chain(libraries), &what) {
            return Some(found);
        }
        let interpreter = environment.join("bin/python3");
        interpreter.is_file().then(|| self.interpreter(&interpreter))?
    }

    fn interpreter(&mut self, interpreter: &Path) -> Option<PathBuf> {
        if self.interpreters.iter().any(|asked| asked == interpreter) {
            return None;
        }
        self.interpreters.push(interpreter.to_owned());
        let what = format!("torch of {}", interpreter.display());
        match ask(interpreter) {
            Answer::At(torch) => self.first(std::iter::once(torch.join("lib")), &what),
            Answer::None => {
                self.places.push(format!("{what}: it has none"));
                None
            }
            Answer::Silent => {
                self.places.push(format!("{what}: it does not answer"));
                None
            }
        }
    }
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
fn interpreters(path: &OsStr) -> Vec<PathBuf> {
    let places = split(path);
    let find = |name: &str| places.iter().map(|place| place.join(name)).find(|file| file.is_file());
    ["python3", "python"].into_iter().filter_map(find).collect()
}

/// The absolute places of a variable such as PATH.
fn split(variable: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(variable).filter(|place| place.is_absolute()).collect()
}

enum Answer {
    At(PathBuf),
    None,
    Silent,
}

/// The directory of an interpreter's torch, which is found and not imported.
fn ask(interpreter: &Path) -> Answer {
    let question = format!(
        "import importlib.util as u; s = u.find_spec('torch'); \
         print('{MARK}' + (s.submodule_search_locations[0] if s else ''))"
    );
    // Python imports from where it is started, and nothing here is to be run.
    let asked = Command::new(interpreter)
        .args(["-c", &question])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = asked else { return Answer::Silent };
    let started = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Answer::Silent;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut said = String::new();
    if child.stdout.take().is_none_or(|mut out| out.read_to_string(&mut said).is_err()) {
        return Answer::Silent;
    }
    match said.lines().find_map(|line| line.strip_prefix(MARK)) {
        None => Answer::Silent,
        Some("") => Answer::None,
        Some(place) => Answer::At(place.into()),
    }
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
        let wrong = environment(&old, "2.1.0");
        let wanted = environment(&new, "2.11.0+cu128");
        let found = Ok(wanted.clone());
        let environments = vec![old, new];
        assert_eq!(Search { environments, ..Search::default() }.find(), found);
        let given = wanted.parent().map(Path::to_owned);
        assert_eq!(Search { given, ..Search::default() }.find(), found);
        let libraries = vec![wrong, wanted.clone()];
        assert_eq!(Search { libraries, ..Search::default() }.find(), found);
        let built_against = Some(wanted);
        assert_eq!(Search { built_against, ..Search::default() }.find(), found);
    }

    #[test]
    fn every_place_that_has_none_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let old = directory.path().join("old");
        environment(&old, "2.110.0");
        let search = Search {
            given: Some("/nowhere/given".into()),
            libraries: vec!["/nowhere/libraries".into()],
            built_against: Some("/nowhere/built".into()),
            environments: vec![old.clone(), directory.path().join("empty")],
            interpreters: vec!["/nowhere/python3".into()],
        };
        let said = search.find().expect_err("there is none").to_string();
        let old = format!("{}/lib/python3.12/site-packages/torch/lib", old.display());
        for part in [
            "/nowhere/given/lib (LIBTORCH): not there",
            "/nowhere/libraries (LD_LIBRARY_PATH): not there",
            "/nowhere/built (compiled with): not there",
            &format!("{old} (environment"),
            "PyTorch 2.110.0",
            "empty: no lib/python3.*/site-packages/torch there",
            "torch of /nowhere/python3: it does not answer",
            "set LIBTORCH",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }

    /// A program that stands for an interpreter.
    fn script(directory: &Path, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.join("python3");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
        path
    }

    #[test]
    fn an_interpreter_may_print_other_things_and_is_not_run_here() {
        let directory = tempfile::tempdir().expect("a directory");
        let wanted = environment(&directory.path().join("new"), "2.11.1");
        let torch = wanted.parent().expect("above").display();
        let place = directory.path().join("place");
        let text = format!("echo hello; pwd > {}; echo {MARK}{torch}", place.display());
        let interpreters = vec![script(directory.path(), &text)];
        assert_eq!(Search { interpreters, ..Search::default() }.find(), Ok(wanted));
        assert_eq!(std::fs::read_to_string(place).expect("written"), "/\n");
    }

    #[test]
    fn the_interpreter_of_an_environment_is_asked_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let environment = directory.path().join("venv");
        std::fs::create_dir_all(environment.join("bin")).expect("made");
        let calls = directory.path().join("calls");
        let text = format!("echo called >> {}; echo {MARK}", calls.display());
        let interpreters = vec![script(&environment.join("bin"), &text)];
        let said = Search { environments: vec![environment], interpreters, ..Search::default() };
        let NotFound(places) = said.find().expect_err("it has none");
        assert!(
            places.iter().any(|place| place.ends_with("bin/python3: it has none")),
            "{places:?}"
        );
        assert_eq!(std::fs::read_to_string(calls).expect("written"), "called\n");
    }
}
