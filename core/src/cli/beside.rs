//! The commands that need libtorch are done by `convergd-torch`, which lies beside this program. It takes this
//! process over, so signals, exit codes and the number of the process are those of one program.

use super::{Exit, Torch, doctor, ending, run, values};
use crate::config::Config;
use crate::evaluation::DeviceChoice;
use crate::extractor::{CpuExtractor, Extractor};
use crate::libtorch::Search;
use crate::sparsify::Settings;
use std::convert::Infallible;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program that has libtorch.
const PROGRAM: &str = "convergd-torch";
/// The number of the first process of a container.
const FIRST: u32 = 1;
/// Where the loader looks for libraries.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
/// How the C library manages memory.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// libtorch's tensors are aligned, and what is left over beside each goes into the small blocks that a thread keeps for
/// itself. Then the place of a large tensor is too small for the next of its size, and memory grows with every forward.
const NO_THREAD_CACHE: &str = "glibc.malloc.tcache_count=0";
/// What is set for the program alone, and where it finds what it was before.
const CHANGED: [(&str, &str); 2] = [
    (LIBRARY_PATH, "CONVERGD_FORMER_LD_LIBRARY_PATH"),
    (TUNABLES, "CONVERGD_FORMER_GLIBC_TUNABLES"),
];

/// The way to it.
pub struct Beside {
    /// The libtorch that it was compiled with.
    pub built_against: Option<&'static str>,
}

/// What is missing or in the way.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// The program.
    #[error(
        "`{PROGRAM}`, which does what needs libtorch, was not found; looked for {}; install convergd anew, or build \
         both programs with `cargo build --release`",
        .0.iter().map(|place| format!("`{}`", place.display())).collect::<Vec<_>>().join(", ")
    )]
    Program(Vec<PathBuf>),
    /// libtorch.
    #[error(transparent)]
    Libtorch(#[from] crate::libtorch::NotFound),
    /// libtorch, where the loader cannot be told of it.
    #[error(
        "`{}` has a colon in its path, which the loader of libraries takes for two places; move or link it", .0.display()
    )]
    Colon(PathBuf),
    /// The program does not start.
    #[error("`{}` cannot be started: {source}; install convergd anew", program.display())]
    Start {
        /// It.
        program: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Beside {
    /// Becomes that program, with the same arguments; returns only where that fails.
    fn become_it(&self) -> Result<Infallible, NotFound> {
        let is_first = std::process::id() == FIRST;
        if is_first {
            // What comes from here on is taken by that program. Where the system refuses, it is dropped as ever.
            let _ = ending::hold();
        }
        let missing = self.exec();
        if is_first {
            ending::let_through();
        }
        missing
    }

    fn exec(&self) -> Result<Infallible, NotFound> {
        let own = own_paths();
        let program = program(&own)?;
        let search = Search::here(&own, self.built_against);
        let libraries = search.find()?;
        if let Some(complaint) = search.complaint(&libraries) {
            let _ = writeln!(std::io::stderr(), "warning: {complaint}");
        }
        let before = std::env::var_os(LIBRARY_PATH);
        let all = std::iter::once(libraries.clone())
            .chain(before.iter().flat_map(std::env::split_paths))
            .filter(|place| !place.as_os_str().is_empty());
        let all = std::env::join_paths(all).map_err(|_| NotFound::Colon(libraries))?;
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1));
        for (name, former) in CHANGED {
            command.env(former, std::env::var_os(name).unwrap_or_default());
        }
        command.env(LIBRARY_PATH, all).env(TUNABLES, tunables(std::env::var_os(TUNABLES)));
        Err(NotFound::Start { source: command.exec(), program })
    }
}

/// Ours, and behind it those that are set, which count where they say otherwise.
fn tunables(set: Option<OsString>) -> OsString {
    let mut all = OsString::from(NO_THREAD_CACHE);
    if let Some(set) = set.filter(|set| !set.is_empty()) {
        all.push(":");
        all.push(set);
    }
    all
}

/// Gives the variables back that were set for the loader and the C library, which have read them: programs that are
/// started later are none of it.
///
/// # Safety
/// No other thread may run.
pub unsafe fn restore_environment() {
    for (name, former) in CHANGED {
        let Some(value) = std::env::var_os(former) else { continue };
        // SAFETY: the caller's.
        unsafe {
            std::env::remove_var(former);
            match value.is_empty() {
                true => std::env::remove_var(name),
                false => std::env::set_var(name, value),
            }
        }
    }
}

/// The paths of this program: by which it was started, which may be a link in an environment, and at which it lies.
fn own_paths() -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let started = std::env::args_os().next().map(PathBuf::from);
    let started = started.and_then(|name| match name.components().count() {
        0 | 1 => on_path(&name, &std::env::var_os("PATH")?),
        _ => std::path::absolute(&name).ok(),
    });
    for path in started.into_iter().chain(std::env::current_exe()) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

fn on_path(name: &Path, path: &OsStr) -> Option<PathBuf> {
    let mut places = std::env::split_paths(path).map(|place| place.join(name));
    places.find(|file| file.is_file()).and_then(|file| std::path::absolute(file).ok())
}

/// Beside the first path where it is.
fn program(own: &[PathBuf]) -> Result<PathBuf, NotFound> {
    let places: Vec<PathBuf> = own.iter().map(|path| path.with_file_name(PROGRAM)).collect();
    match places.iter().find(|place| place.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(NotFound::Program(places)),
    }
}

impl Torch for Beside {
    fn run(&self, arguments: &run::Arguments) -> anyhow::Result<Exit> {
        // Its mistakes are told where libtorch is missing too.
        Config::load_to_run(&arguments.config.config)?;
        match self.become_it()? {}
    }

    fn values(&self, arguments: &values::Arguments) -> anyhow::Result<Exit> {
        // Its mistakes are told where libtorch is missing too.
        Config::load(&arguments.config.config)?;
        match self.become_it()? {}
    }

    fn doctor(&self, arguments: &doctor::Arguments) -> anyhow::Result<Exit> {
        match self.become_it() {
            Ok(never) => match never {},
            Err(missing) => doctor::run(arguments, &Without(missing.to_string())),
        }
    }

    fn extractor(
        &self,
        variables: usize,
        settings: Settings,
        device: DeviceChoice,
        threads: usize,
    ) -> anyhow::Result<Extractor> {
        match (self.become_it(), device) {
            (Ok(never), _) => match never {},
            // No CUDA without libtorch.
            (Err(_), DeviceChoice::Auto) => {
                Ok(Box::new(CpuExtractor::new(variables, settings, threads)?))
            }
            (Err(missing), _) => Err(missing.into()),
        }
    }

    fn exit_of(&self, _: &(dyn Error + 'static)) -> Option<Exit> {
        None
    }
}

/// What `doctor` says of networks where libtorch is missing.
struct Without(String);

impl doctor::Networks for Without {
    fn libtorch(&self, findings: &mut doctor::Findings) {
        findings.bad("libtorch", &self.0, Exit::Device);
    }

    fn fit(&self, _: &Config, _: [Option<PathBuf>; 2], _: &mut doctor::Findings) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_beside_the_link_or_beside_what_it_links_to() {
        let directory = tempfile::tempdir().expect("a directory");
        let [real, linked] = ["real", "linked"].map(|name| directory.path().join(name));
        for place in [&real, &linked] {
            std::fs::create_dir(place).expect("made");
        }
        let own = [linked.join("convergd"), real.join("convergd")];
        let said = program(&own).expect_err("not there").to_string();
        for place in [&real, &linked] {
            assert!(said.contains(&place.join(PROGRAM).display().to_string()), "{said}");
        }
        for place in [real, linked] {
            std::fs::write(place.join(PROGRAM), "").expect("written");
            assert_eq!(program(&own).expect("there"), place.join(PROGRAM));
        }
        let found = on_path(Path::new(PROGRAM), directory.path().join("linked").as_os_str());
        assert_eq!(found, Some(directory.path().join("linked").join(PROGRAM)));
    }
}
