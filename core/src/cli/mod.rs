//! The command line: one file a command, and what they share.

pub mod beside;
mod check;
pub mod doctor;
mod duration;
pub mod ending;
mod explain;
mod export;
mod extract;
mod manual;
pub mod progress;
mod ran;
mod replay;
mod report;
pub mod run;
mod status;
mod told;
mod top;
pub mod values;

use crate::config::{Config, Problems};
use crate::evaluation::DeviceChoice;
use crate::extractor::{ExtractError, Extractor};
use crate::files::write_atomically;
use crate::history::HistoryError;
use crate::sparsify::Settings;
use clap::{Args, Parser, Subcommand};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The commands that need libtorch, or a way to whoever has it.
pub trait Torch {
    /// `run`.
    ///
    /// # Errors
    /// Whatever ends a run.
    fn run(&self, arguments: &run::Arguments) -> anyhow::Result<Exit>;

    /// `values`.
    ///
    /// # Errors
    /// Whatever makes every table impossible.
    fn values(&self, arguments: &values::Arguments) -> anyhow::Result<Exit>;

    /// `doctor`.
    ///
    /// # Errors
    /// A configuration with mistakes.
    fn doctor(&self, arguments: &doctor::Arguments) -> anyhow::Result<Exit>;

    /// Extraction on a device that is not the CPU.
    ///
    /// # Errors
    /// A device that is not there or gives up.
    fn extractor(
        &self,
        variables: usize,
        settings: Settings,
        device: DeviceChoice,
        threads: usize,
    ) -> anyhow::Result<Extractor>;

    /// The code of an error that only libtorch's side knows.
    fn exit_of(&self, cause: &(dyn Error + 'static)) -> Option<Exit>;
}

/// How a command ended; the codes are part of the interface (DESIGN section 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; training ended.
    Done = 0,
    /// A rule stopped the training.
    Stopped = 10,
    /// Bad usage or configuration.
    Usage = 64,
    /// Bad data.
    Data = 65,
    /// A device or library is missing.
    Device = 69,
    /// An internal error.
    Internal = 70,
    /// Not now, but later: another instance holds the state, or `run --once` was asked to end before it was done.
    Later = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Stops the training of two neural networks when their interactions have converged.
#[derive(Parser)]
#[command(name = "convergd", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 10 early-stopped, 64 bad usage or configuration, 65 bad \
data, 69 device or library missing, 70 internal error, 75 another instance holds the state, or --once was asked to end \
before it was done."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Follow two trainings and act on the policy
    Run(run::Arguments),
    /// Make the value tables of the checkpoints that are there, for a run to find; several processes share the work
    Values(values::Arguments),
    /// Check a configuration file and say every mistake in it
    Check(check::Arguments),
    /// Show the state of a running or finished run
    Status(status::Arguments),
    /// Watch a run in the terminal as it goes on
    Top(top::Arguments),
    /// Say what a policy would have decided over the history of a run, and when
    Replay(replay::Arguments),
    /// Stop the trainings of a run by hand
    Stop(manual::Stop),
    /// Switch the trainings of a run to another phase by hand
    Phase(manual::Phase),
    /// Have a run at work read its policy, webhooks and ladder anew
    Reload(manual::Reload),
    /// Take a stop back: the next `run` goes on
    Resume(manual::Resume),
    /// Extract the sparsest AND-OR interactions of value tables
    Extract(extract::Arguments),
    /// Write the history of a run for other programs: CSV, JSON or TensorBoard
    Export(export::Arguments),
    /// Write a self-contained page of a run
    Report(report::Arguments),
    /// Show the interactions of one probe sample in both networks of a pair
    Explain(explain::Arguments),
    /// Say what works here and what to do about the rest
    Doctor(doctor::Arguments),
}

/// The configuration file that most commands take.
#[derive(Args)]
pub struct ConfigArgument {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
}

impl ConfigArgument {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.config)?)
    }
}

/// Runs the command; errors are printed once, here, with their chain.
pub fn main(torch: &dyn Torch) -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed terminal is no reason to fail differently.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let result = match arguments.command {
        Command::Run(arguments) => torch.run(&arguments),
        Command::Values(arguments) => torch.values(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Stop(arguments) => manual::stop(&arguments),
        Command::Phase(arguments) => manual::phase(&arguments),
        Command::Reload(arguments) => manual::reload(&arguments),
        Command::Resume(arguments) => manual::resume(&arguments),
        Command::Extract(arguments) => extract::run(&arguments, torch),
        Command::Export(arguments) => export::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Doctor(arguments) => torch.doctor(&arguments),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "error: {}", describe(&error));
        exit_of(&error, torch)
    })
}

/// The error and its causes; a cause that the message quotes already is left out.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        match text.as_str() {
            "" => text = cause,
            said if said.contains(&cause) => {}
            _ => text = format!("{text}: {cause}"),
        }
    }
    text
}

fn exit_of(error: &anyhow::Error, torch: &dyn Torch) -> Exit {
    for cause in error.chain() {
        if cause.is::<Problems>() || cause.is::<Misuse>() {
            return Exit::Usage;
        } else if cause.is::<BadData>() {
            return Exit::Data;
        } else if cause.is::<beside::NotFound>() {
            return Exit::Device;
        } else if let Some(ExtractError::Device(_)) = cause.downcast_ref() {
            return Exit::Device;
        } else if let Some(error) = cause.downcast_ref() {
            return of_history(error);
        } else if let Some(exit) = torch.exit_of(cause) {
            return exit;
        }
    }
    Exit::Internal
}

/// The code of an error of the history.
pub fn of_history(error: &HistoryError) -> Exit {
    match error {
        HistoryError::Held { .. } | HistoryError::ControlHeld { .. } => Exit::Later,
        HistoryError::Mixed { .. } | HistoryError::ControlAhead { .. } => Exit::Usage,
        _ => Exit::Data,
    }
}

/// An argument of a command that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

/// Input of a command that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadData(String);

/// Writes what a command has made, and says where.
fn write_output(output: &Path, text: &str) -> anyhow::Result<()> {
    let output = std::path::absolute(output)?;
    write_atomically(&output, text.as_bytes())
        .map_err(|error| BadData(format!("`{}` cannot be written: {error}", output.display())))?;
    say(output.display().to_string());
    Ok(())
}

/// Prints to standard output; a closed pipe ends the output, not the command.
pub fn say(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_device_that_gives_up_ends_with_its_own_code() {
        let gave_up = || Err::<(), _>(ExtractError::Device("CUDA out of memory".to_owned()));
        let error = gave_up().context("`values.safetensors`").unwrap_err();
        assert_eq!(exit_of(&error, &beside::Beside { built_against: None }), Exit::Device);
        let said = describe(&error);
        assert!(said.contains("CUDA out of memory") && said.contains("`cpu`"), "{said}");
    }
}
