//! YAML → checked [`Config`].
//!
//! [`yaml`] turns text into the loose types of [`file`] and knows where in the text everything stood;
//! [`check`] turns those into a [`Config`], whose parts belong to the modules that they configure.
//! Every mistake of a file is reported at once, with line, column, path and what to try.

mod check;
pub mod file;
mod problem;
mod schema;
mod written;
mod yaml;

pub use problem::{Problem, Problems};
pub use schema::schema;
pub use written::{RELOADABLE, Written};

use crate::notify::Webhook;
use crate::policy::Policy;
use crate::role::Role;
use crate::{checkpoint, control, evaluation, sparsify};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A run, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it came from.
    pub source: PathBuf,
    /// Name of the run in reports and logs.
    pub name: String,
    /// Directory of the history, the value cache and the pins.
    pub state: PathBuf,
    /// Bytes that the value cache may take.
    pub cache_size: u64,
    /// The checkpoint directories and how they are watched: the target's, and the baseline's unless that is
    /// fixed.
    pub watch: Vec<checkpoint::Settings>,
    /// The checkpoint that stands in the place of the baseline's training.
    pub fixed: Option<PathBuf>,
    /// How checkpoints of the two networks become pairs.
    pub pairing: checkpoint::Pairing,
    /// How long one network may be silent while the other goes on.
    pub stale: std::time::Duration,
    /// Programs, probe, variables and device.
    pub network: evaluation::Settings,
    /// Extraction and comparison.
    pub interactions: Interactions,
    /// The rules.
    pub policy: Policy,
    /// The control file.
    pub control: control::Settings,
    /// The webhooks.
    pub notify: Vec<Webhook>,
    /// Address of the HTTP server, or none.
    pub listen: Option<SocketAddr>,
    /// How long it serves what the run has left after its end.
    pub grace: std::time::Duration,
    /// Directory of event files for TensorBoard, or none.
    pub tensorboard: Option<PathBuf>,
    /// When training counts as ended.
    pub end: End,
    /// All of this as it stands in the file.
    pub written: Written,
}

/// Extraction and comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interactions {
    /// ζ as a share of |v(N) − v(∅)|.
    pub noise: f64,
    /// τ as a share of the output scale.
    pub salience: f64,
    /// Settings of the solver.
    pub solver: sparsify::Settings,
}

/// When training counts as ended, next to the `done-<network>` files of the trainers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct End {
    /// No new checkpoint for so long, once there was one.
    pub idle: std::time::Duration,
    /// Whether the file says so; else it is not the end where a trainer is known to be alive.
    pub is_idle_chosen: bool,
    /// The processes of all trainers gone for so long.
    pub processes: std::time::Duration,
    /// A pair at this step or later is the last.
    pub max_step: Option<u64>,
}

impl Config {
    /// The networks that are trained: both, or the target alone.
    pub fn trainings(&self) -> impl Iterator<Item = Role> + '_ {
        self.watch.iter().map(|watched| watched.role)
    }

    /// The directory of the value cache.
    pub fn values(&self) -> PathBuf {
        self.state.join("values")
    }

    /// Reads and checks a file. Relative paths in it are relative to the file's directory.
    ///
    /// # Errors
    /// Every mistake of the file at once.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::parse(path, &read(path)?)
    }

    /// As [`Config::load`], and the environment variables that it names must be set: it is to be run here.
    ///
    /// # Errors
    /// Every mistake of the file at once.
    pub fn load_to_run(path: &Path) -> Result<Self, Problems> {
        Self::parse_for(path, &read(path)?, true)
    }

    /// Reads where the state of a file is, whatever else is wrong with it.
    ///
    /// # Errors
    /// A file that cannot be read, or that says of no `state`; of one that is no YAML, that.
    pub fn load_state(path: &Path) -> Result<PathBuf, Problems> {
        let text = read(path)?;
        let state = |text: &str| {
            let file = yaml::Document::parse(path, text)?.read::<file::File>();
            check::check_state(path, file).ok_or_else(|| {
                Problems::of(
                    path,
                    "`state` is missing: give the directory of the history".to_owned(),
                )
            })
        };
        state(&text).or_else(|problems| {
            // Of a file that is no YAML, or has too many mistakes, the line that says it.
            let line = text.lines().find(|line| line.starts_with("state:"));
            line.and_then(|line| state(line).ok()).ok_or(problems)
        })
    }

    /// Reads and checks the policy of a file, which may hold nothing else.
    ///
    /// # Errors
    /// Every mistake of the policy at once; of the rest of the file only what is no field, or of a wrong type.
    pub fn load_policy(path: &Path) -> Result<Policy, Problems> {
        Self::parse_policy(path, &read(path)?)
    }

    /// As [`Config::load_policy`], with the text given, which came `from` somewhere.
    ///
    /// # Errors
    /// Every mistake of the policy at once.
    pub fn parse_policy(from: &Path, text: &str) -> Result<Policy, Problems> {
        let mut document = yaml::Document::parse(from, text)?;
        let file = document.read::<file::File>();
        check::check_policy(file, document.into_problems())
    }

    /// As [`Config::load`], with the text given.
    ///
    /// # Errors
    /// Every mistake of the text at once.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        Self::parse_for(path, text, false)
    }

    fn parse_for(path: &Path, text: &str, has_environment: bool) -> Result<Self, Problems> {
        let mut document = yaml::Document::parse(path, text)?;
        let written = document.written();
        let file = document.read::<file::File>();
        let mut config = check::check(path, file, document.into_problems(), has_environment)?;
        config.written = written;
        Ok(config)
    }
}

fn read(path: &Path) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|error| {
        Problems::of(path, format!("cannot be read: {error}; give the path of a YAML file"))
    })
}

#[cfg(test)]
mod tests;
