//! The commands that need libtorch are done by `convergd-torch`, which lies beside this program. It takes this
//! process over, so signals, exit codes and the number of the process are those of one program.

use super::{Exit, Torch, doctor, run};
use crate::evaluation::DeviceChoice;
use crate::extractor::Extractor;
use crate::libtorch::{Found, Search};
use crate::sparsify::Settings;
use anyhow::Context;
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program that has libtorch.
const PROGRAM: &str = "convergd-torch";
/// Where the loader looks for libraries.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// The way to it.
pub struct Beside {
    /// The libtorch that it was compiled with.
    pub built_against: Option<&'static str>,
}

/// What is missing.
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
}

impl Beside {
    /// Becomes that program, with the same arguments; returns only where that fails.
    fn become_it(&self) -> anyhow::Result<std::convert::Infallible> {
        let own = std::env::current_exe().context("where this program lies cannot be told")?;
        let program = program(&own)?;
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1));
        // A link may lie in an environment, and the file elsewhere.
        match Search::here(&invoked().unwrap_or(own), self.built_against)
            .find()
            .map_err(NotFound::from)?
        {
            Found::BuiltAgainst(_) => {}
            Found::Elsewhere(directory) => {
                let before = std::env::var_os(LIBRARY_PATH).unwrap_or_default();
                let all = std::iter::once(directory).chain(std::env::split_paths(&before));
                let all = all.filter(|place| !place.as_os_str().is_empty());
                command.env(LIBRARY_PATH, std::env::join_paths(all)?);
            }
        }
        let error = command.exec();
        Err(error).with_context(|| format!("`{}` cannot be started", program.display()))
    }
}

/// Beside the file, and beside what it links to.
fn program(own: &Path) -> Result<PathBuf, NotFound> {
    let mut places: Vec<PathBuf> = vec![own.with_file_name(PROGRAM)];
    let real = std::fs::canonicalize(own).map(|real| real.with_file_name(PROGRAM));
    places.extend(real.ok().filter(|real| *real != places[0]));
    match places.iter().find(|place| place.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(NotFound::Program(places)),
    }
}

/// The path that this program was started by, where it was one.
fn invoked() -> Option<PathBuf> {
    let first = PathBuf::from(std::env::args_os().next()?);
    (first.components().count() > 1).then(|| std::path::absolute(&first).ok())?
}

impl Torch for Beside {
    fn run(&self, _: &run::Arguments) -> anyhow::Result<Exit> {
        match self.become_it()? {}
    }

    fn doctor(&self, _: &doctor::Arguments) -> anyhow::Result<Exit> {
        match self.become_it()? {}
    }

    fn extractor(
        &self,
        _: usize,
        _: Settings,
        _: DeviceChoice,
        _: usize,
    ) -> anyhow::Result<Extractor> {
        match self.become_it()? {}
    }

    fn exit_of(&self, _: &(dyn Error + 'static)) -> Option<Exit> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_beside_this_one_or_beside_what_it_links_to() {
        let directory = tempfile::tempdir().expect("a directory");
        let [real, linked] = ["real", "linked"].map(|name| directory.path().join(name));
        for place in [&real, &linked] {
            std::fs::create_dir(place).expect("made");
        }
        let link = linked.join("convergd");
        std::fs::write(real.join("convergd"), "").expect("written");
        std::os::unix::fs::symlink(real.join("convergd"), &link).expect("linked");
        let said = program(&link).expect_err("not there").to_string();
        for place in [&real, &linked] {
            assert!(said.contains(&place.join(PROGRAM).display().to_string()), "{said}");
        }
        std::fs::write(real.join(PROGRAM), "").expect("written");
        assert_eq!(
            program(&link).expect("there"),
            real.canonicalize().expect("real").join(PROGRAM)
        );
    }
}
