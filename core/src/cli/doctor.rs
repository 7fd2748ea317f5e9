//! `convergd doctor`: what works here, and what to do about the rest.

use super::{Exit, ending, say};
use crate::checkpoint::directory::nearest_existing;
use crate::checkpoint::filesystem::Choice;
use crate::checkpoint::fingerprint::Fingerprints;
use crate::checkpoint::scan::{Candidate, Listing, scan};
use crate::checkpoint::{Settings, foreign, left_out, notifier};
use crate::config::Config;
use crate::history::{Holder, StateLock};
use clap::Args;
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is looked at.
#[derive(Args)]
pub struct Arguments {
    /// Configuration file whose paths and checkpoints are looked at too
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What only libtorch can tell.
pub trait Networks {
    /// libtorch itself, and its devices.
    fn libtorch(&self, findings: &mut Findings);

    /// Whether programs, probe, variables and device fit each other, and the newest checkpoints (target, baseline)
    /// the programs.
    fn fit(&self, config: &Config, newest: [Option<PathBuf>; 2], findings: &mut Findings);
}

/// Watches that the system should allow a user, at the least.
const LEAST_WATCHES: u64 = 1024;
/// Bytes that must find room where something is to be written.
const ROOM: usize = 1 << 20;
/// Damaged checkpoints of a network that are named.
const MOST_SAID: usize = 5;

/// Looks at everything and says it.
///
/// # Errors
/// A configuration with mistakes.
pub fn run(arguments: &Arguments, networks: &dyn Networks) -> anyhow::Result<Exit> {
    ending::end_on(ending::caught(&[])?, || ());
    let config = match &arguments.config {
        Some(path) => Some((path, Config::load(path)?)),
        None => None,
    };
    let mut findings = Findings { exit: Exit::Done };
    findings.good("convergd", env!("CARGO_PKG_VERSION"));
    networks.libtorch(&mut findings);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    findings.good("CPU", &format!("{cores} cores"));
    findings.watches();
    if let Some((path, config)) = config {
        findings.good("configuration", &path.display().to_string());
        let threads = config.network.threads;
        if threads > cores {
            findings.warn(
                "configuration",
                &format!("`compute.threads` is {threads}, and there are {cores} cores: threads wait for each other, and each pair takes longer"),
            );
        }
        // What it names of the environment may be set where `run` is started.
        if let Err(problems) = Config::load_to_run(path) {
            for problem in &problems.list {
                findings.warn("configuration", &format!("`{}` {}", problem.path, problem.message));
            }
        }
        findings.paths(&config, networks);
    }
    Ok(findings.exit)
}

/// What was found, said as it is found.
pub struct Findings {
    exit: Exit,
}

impl Findings {
    /// It works.
    pub fn good(&self, what: &str, found: &str) {
        say(format!("ok    {what}: {found}"));
    }

    /// It works, but.
    pub fn warn(&self, what: &str, found: &str) {
        say(format!("warn  {what}: {found}"));
    }

    /// It does not work; the command ends with the exit code of the first.
    pub fn bad(&mut self, what: &str, found: &str, exit: Exit) {
        say(format!("BAD   {what}: {found}"));
        if self.exit == Exit::Done {
            self.exit = exit;
        }
    }

    fn watches(&self) {
        let limit = "/proc/sys/fs/inotify/max_user_watches";
        let allowed: Option<u64> =
            std::fs::read_to_string(limit).ok().and_then(|text| text.trim().parse().ok());
        match allowed {
            Some(count) if count >= LEAST_WATCHES => {
                self.good("inotify", &format!("{count} watches"))
            }
            Some(count) => self.warn(
                "inotify",
                &format!("{count} watches; directories are polled beyond that (sysctl fs.inotify)"),
            ),
            None => self.warn("inotify", "not here; directories are polled"),
        }
    }

    fn paths(&mut self, config: &Config, networks: &dyn Networks) {
        let mut newest = [None, config.fixed.clone()];
        for watched in &config.watch {
            let what = format!("{} checkpoints", watched.role);
            match nearest_existing(&watched.directory) {
                Some(there) if there == watched.directory => {
                    newest[watched.role.index()] = self.checkpoints(&what, watched);
                }
                Some(_) => {
                    let directory = watched.directory.display();
                    self.warn(
                        &what,
                        &format!("`{directory}` is not there yet; `run` waits for it"),
                    );
                }
                None => self.bad(&what, &watched.directory.display().to_string(), Exit::Data),
            }
            if nearest_existing(&watched.directory).is_some() {
                let (directory, wanted) = (&watched.directory, watched.watching.mode);
                let Choice { mode, reason, .. } = notifier::choose(directory, wanted);
                self.good(
                    &format!("{} watching", watched.role),
                    &format!("{}: {reason}", mode.name()),
                );
            }
        }
        let mut files = vec![
            ("target program", &config.network.programs[0]),
            ("baseline program", &config.network.programs[1]),
            ("probe", &config.network.probe),
        ];
        files.extend(config.fixed.as_ref().map(|fixed| ("fixed baseline", fixed)));
        for (what, path) in files {
            match std::fs::File::open(path) {
                Ok(_) => self.good(what, &path.display().to_string()),
                Err(error) => self.bad(what, &format!("`{}`: {error}", path.display()), Exit::Data),
            }
        }
        networks.fit(config, newest, self);
        self.writable("state", &config.state);
        self.writable("control", &config.control.directory);
        self.free(config);
    }

    /// What only one run can have at a time.
    fn free(&mut self, config: &Config) {
        if let Some(Holder::Process(holder)) = StateLock::holder(&config.state) {
            // So are the control directory and the port, by the same run.
            let state = config.state.display();
            return self.warn(
                "state",
                &format!("`{state}` is held by the run of process {holder}; another ends with 75"),
            );
        }
        if let Some(Holder::Process(holder)) = StateLock::holder(&config.control.directory) {
            let directory = config.control.directory.display();
            self.bad(
                "control",
                &format!(
                    "`{directory}` is held by the run of process {holder}, which has another state; give a directory of its own, or end that run"
                ),
                Exit::Later,
            );
        }
        let Some(address) = config.listen else { return };
        match TcpListener::bind(address) {
            Ok(_) => self.good("telemetry", &format!("{address} can be listened on")),
            Err(error) => {
                let (what, exit) = match error.kind() {
                    ErrorKind::AddrInUse => {
                        ("; another `telemetry.listen`, or end what has it", Exit::Later)
                    }
                    _ => ("; see `telemetry.listen`", Exit::Usage),
                };
                self.bad("telemetry", &format!("{address}: {error}{what}"), exit);
            }
        }
    }

    /// What `run` would find in a directory that is there, and say of it.
    /// Gives the newest that is complete.
    fn checkpoints(&mut self, what: &str, watched: &Settings) -> Option<PathBuf> {
        let directory = watched.directory.display();
        let Listing { candidates, others } =
            match scan(watched, &mut Fingerprints::default(), SystemTime::now()) {
                Ok(listing) => listing,
                Err(error) => {
                    self.bad(what, &format!("`{directory}`: {error}"), Exit::Data);
                    return None;
                }
            };
        let flaw = |candidate: &Candidate| {
            let flaw = watched.layout.check(&candidate.path, &watched.limits).err()?;
            Some(format!("`{}` {flaw}", candidate.path.display()))
        };
        let flaws: Vec<Option<String>> = candidates.iter().map(flaw).collect();
        let complete = candidates.iter().zip(&flaws).rev().find(|(_, flaw)| flaw.is_none());
        let newest = complete.map(|(candidate, _)| candidate.path.clone());
        let flaws: Vec<String> = flaws.into_iter().flatten().collect();
        let found = match candidates.len() {
            0 => match foreign(watched, &others) {
                Some(reason) => {
                    self.bad(what, &reason, Exit::Data);
                    return None;
                }
                None => format!("`{directory}` holds none yet; `run` waits for them"),
            },
            count => format!(
                "{} of {count} in `{directory}` are complete, of `layout: {}`{}",
                count - flaws.len(),
                watched.layout.name(),
                left_out(watched, &others).map_or_else(String::new, |what| format!("; {what}"))
            ),
        };
        // One may be being written; where none is whole, the layout may be another.
        let is_any_whole = flaws.len() < candidates.len() || candidates.is_empty();
        if is_any_whole {
            self.good(what, &found);
        } else {
            self.bad(what, &found, Exit::Data);
        }
        for flaw in flaws.iter().take(MOST_SAID) {
            match is_any_whole {
                true => self.warn(what, flaw),
                false => self.bad(what, flaw, Exit::Data),
            }
        }
        if flaws.len() > MOST_SAID {
            self.warn(what, &format!("{} more are incomplete or damaged", flaws.len() - MOST_SAID));
        }
        newest
    }

    fn writable(&mut self, what: &str, directory: &Path) {
        if directory.exists() && !directory.is_dir() {
            return self.bad(
                what,
                &format!("`{}` is a file; give a directory", directory.display()),
                Exit::Data,
            );
        }
        let Some(there) = nearest_existing(directory) else {
            return self.bad(
                what,
                &format!("nothing above `{}` exists", directory.display()),
                Exit::Data,
            );
        };
        // As much as a history needs for its next pairs: an empty file fits on a full disk.
        let written = tempfile::tempfile_in(there).and_then(|mut file| file.write_all(&[1; ROOM]));
        match written {
            Ok(()) => self.good(what, &format!("`{}` can be written", directory.display())),
            Err(error) => {
                self.bad(what, &format!("`{}`: {error}", directory.display()), Exit::Data);
            }
        }
    }
}
