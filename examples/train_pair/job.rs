//! What is asked for on the command line.

use super::networks::Architecture;
use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use convergd::evaluation::DeviceChoice;
use convergd::role::Role;
use std::path::PathBuf;

/// Trains a pair of networks that convergd watches.
#[derive(Debug, Parser)]
#[command(name = "train_pair")]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the probe set, the first test images, to `probe.safetensors` in the directory of the run.
    Probe {
        /// Directory of the run.
        #[arg(long)]
        run: PathBuf,
        /// Directory of IDX files of images or token ids, or of CIFAR-10 binary files.
        #[arg(long)]
        data: PathBuf,
        /// Number of images.
        #[arg(long, default_value_t = 60)]
        samples: usize,
    },
    /// Train one network or both, until the control file says stop or all epochs are done.
    Train(Job),
}

/// Which networks a process trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// The target alone.
    Target,
    /// The baseline alone.
    Baseline,
    /// Both, as losses of a pair need.
    Both,
}

impl Which {
    /// Their roles.
    pub(crate) fn roles(self) -> &'static [Role] {
        match self {
            Self::Target => &[Role::Target],
            Self::Baseline => &[Role::Baseline],
            Self::Both => &Role::BOTH,
        }
    }
}

/// What λ weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Regularizer {
    /// 𝓘² of each network.
    Penalty,
    /// Eq. 9.
    Interaction,
    /// Eq. 11.
    Outputs,
    /// Eq. 12.
    Features,
}

/// A training.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Job {
    /// Directory of the run: checkpoints under `target` and `baseline`, the control file under `control`.
    #[arg(long)]
    pub(crate) run: PathBuf,
    /// Directory of IDX files of images or token ids, or of CIFAR-10 binary files.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Which networks this process trains.
    #[arg(long, value_enum)]
    pub(crate) network: Which,
    /// Of weights and batches; of both networks, the baseline's weights have the next one.
    #[arg(long)]
    pub(crate) seed: u64,
    /// The network.
    #[arg(long, value_enum, default_value = "small")]
    pub(crate) architecture: Architecture,
    /// What λ weighs in the regularised phase.
    #[arg(long, value_enum, default_value = "penalty")]
    pub(crate) loss: Regularizer,
    /// Share of the batch on which interactions are taken.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) fraction: f64,
    /// Epochs, unless it is stopped before.
    #[arg(long, default_value_t = 60)]
    pub(crate) epochs: u64,
    /// Samples a batch.
    #[arg(long, default_value_t = 32)]
    pub(crate) batch: usize,
    /// Learning rate of Adam.
    #[arg(long, default_value_t = 1e-3)]
    pub(crate) rate: f64,
    /// Training samples, the first ones; all without it.
    #[arg(long)]
    pub(crate) samples: Option<usize>,
    /// Share of the training labels that are replaced by wrong ones.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) label_noise: f64,
    /// Test images that are the probe's and not tested on.
    #[arg(long, default_value_t = 60)]
    pub(crate) probe_samples: usize,
    /// Seconds that an epoch lasts at least.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) min_epoch_seconds: f64,
    /// Where the networks are: `cpu`, `cuda`, `cuda:N`, or `auto` for CUDA where there is a device.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: DeviceChoice,
    /// Threads of libtorch.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: i32,
}

impl Job {
    /// What cannot be done is said before anything is read.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            self.epochs >= 1 && self.batch >= 2,
            "`--epochs` is at least 1, `--batch` at least 2"
        );
        ensure!((0.0..=1.0).contains(&self.label_noise), "`--label-noise` is 0 to 1");
        if self.loss != Regularizer::Penalty && self.network != Which::Both {
            bail!(
                "this loss compares two networks: give `--network both`, or `--loss penalty` for a process of its own"
            );
        }
        Ok(())
    }
}
