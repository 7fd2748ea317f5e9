//! The commands that need libtorch.

mod doctor;
mod logs;
mod run;
mod values;

use crate::backfill::BackfillError;
use crate::daemon::DaemonError;
use crate::extractor::Extractor;
use crate::network::{NetworkError, device};
use crate::sparsify::Settings;
use crate::tensor_solver;
use convergd_core::cli::{self, Exit, Torch};
use convergd_core::evaluation::{DeviceChoice, MEMORY_SHARE};
use std::error::Error;
use std::io::ErrorKind;

/// Runs any command.
pub fn main() -> Exit {
    cli::main(&Here)
}

/// libtorch is in this program.
struct Here;

impl Torch for Here {
    fn run(&self, arguments: &cli::run::Arguments) -> anyhow::Result<Exit> {
        run::run(arguments)
    }

    fn values(&self, arguments: &cli::values::Arguments) -> anyhow::Result<Exit> {
        values::run(arguments)
    }

    fn doctor(&self, arguments: &cli::doctor::Arguments) -> anyhow::Result<Exit> {
        cli::doctor::run(arguments, &doctor::Here)
    }

    fn extractor(
        &self,
        variables: usize,
        settings: Settings,
        device: DeviceChoice,
        threads: usize,
    ) -> anyhow::Result<Extractor> {
        let device = device::find(device)?;
        Ok(tensor_solver::extractor(variables, settings, device, threads, MEMORY_SHARE)?)
    }

    fn exit_of(&self, cause: &(dyn Error + 'static)) -> Option<Exit> {
        if let Some(error) = cause.downcast_ref() {
            return Some(of_network(error));
        }
        if let Some(error) = cause.downcast_ref() {
            return Some(of_backfill(error));
        }
        Some(match cause.downcast_ref::<DaemonError>()? {
            DaemonError::History(error) | DaemonError::NoRoom(error) => cli::of_history(error),
            DaemonError::Network(error) => of_network(error),
            DaemonError::NothingThere { .. }
            | DaemonError::NothingCame { .. }
            | DaemonError::NothingEvaluated { .. }
            | DaemonError::Missing(_)
            | DaemonError::OtherLayout { .. } => Exit::Data,
            DaemonError::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => {
                Exit::Later
            }
            DaemonError::Listen { .. } => Exit::Usage,
            DaemonError::Internal(_) | DaemonError::System(_) => Exit::Internal,
        })
    }
}

fn of_backfill(error: &BackfillError) -> Exit {
    match error {
        BackfillError::History(error) => cli::of_history(error),
        BackfillError::Network(error) => of_network(error),
        BackfillError::NoRoom { .. }
        | BackfillError::Full { .. }
        | BackfillError::NoStep { .. } => Exit::Usage,
        // There may be room a little later.
        BackfillError::Unwritable { .. } => Exit::Internal,
        BackfillError::Directory { .. }
        | BackfillError::Begun { .. }
        | BackfillError::NoPair { .. }
        | BackfillError::NoGoodStep { .. }
        | BackfillError::NoVariables { .. } => Exit::Data,
    }
}

fn of_network(error: &NetworkError) -> Exit {
    match error {
        NetworkError::Device(_) | NetworkError::Memory { .. } | NetworkError::Torch { .. } => {
            Exit::Device
        }
        NetworkError::Died => Exit::Internal,
        _ => Exit::Data,
    }
}
