//! How trainers lay out a checkpoint: what belongs to it, whether it is complete, its step, its tensors.
//!
//! | [`Layout`] | a checkpoint is | complete when |
//! |---|---|---|
//! | `safetensors` | a file | `8 + header + max(data_offsets) == length` |
//! | `torch`, `lightning` | a file of `torch.save` | the archive has its directory, which stands at its end; a legacy file holds every storage that its pickles name |
//! | `hf` | a directory | the weights are there; of shards the index and every shard that it names |
//! | `torchscript` | a TorchScript file | the archive has its directory |
//!
//! Nothing in a checkpoint is executed: pickles are read as data, TorchScript's code is not loaded. Nothing
//! is believed either: [`Limits`] bound what a header may ask for, and a tensor is read only where the
//! program wants one of its shape.
//!
//! No libtorch and no watching here: `checkpoint` finds and keeps checkpoints, `network` loads them,
//! both by this module.

mod aliases;
mod archive;
mod flaw;
mod hf;
mod pickle;
mod recognise;
mod safetensors;
mod script;
mod steps;
mod torch;
mod torchscript;
mod weights;

pub use flaw::Flaw;
pub use recognise::{Found, recognise};
pub use steps::{Named, Steps};
pub use weights::{Stored, Weights};

use std::path::{Path, PathBuf};

/// How the checkpoints of one training are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One safetensors file a step.
    Safetensors,
    /// `torch.save` of a state dict, or of dicts that hold one.
    Torch,
    /// A Lightning checkpoint: `torch.save` of a dict with `state_dict` and `global_step`.
    Lightning,
    /// A directory of Hugging Face: one file of weights, or shards with their index.
    Hf,
    /// A TorchScript file; its parameters and buffers are the weights.
    Torchscript,
}

/// What a checkpoint may ask for. A file that asks for more is refused before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole checkpoint.
    pub checkpoint: u64,
    /// Bytes of a header, a pickle, an index or an archive's directory.
    pub header: u64,
    /// Things that a pickle builds: about 30 for each tensor.
    pub objects: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { checkpoint: 256 << 30, header: 16 << 20, objects: 2_000_000 }
    }
}

/// All that is needed to read a network's checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// How they are written.
    pub layout: Layout,
    /// Under which key the weights stand, where a checkpoint holds the whole network several times.
    pub weights: Option<String>,
    /// What they may ask for.
    pub limits: Limits,
}

impl Layout {
    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Torch => "torch",
            Self::Lightning => "lightning",
            Self::Hf => "hf",
            Self::Torchscript => "torchscript",
        }
    }

    /// Whether a checkpoint is a directory.
    pub fn is_directory(self) -> bool {
        self == Self::Hf
    }

    /// Whether a checkpoint may hold its step.
    pub fn tells_its_step(self) -> bool {
        matches!(self, Self::Torch | Self::Lightning | Self::Hf)
    }

    /// How names of checkpoint files end.
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Safetensors => &["safetensors"],
            Self::Torch => &["pt", "pth", "bin", "ckpt"],
            Self::Lightning => &["ckpt"],
            Self::Hf => &[],
            Self::Torchscript => &["pt", "pth", "ts"],
        }
    }

    /// The part of a name that may hold the step; nothing for names that are none of this layout.
    pub fn stem(self, name: &str) -> Option<&str> {
        if self.is_directory() {
            return Some(name);
        }
        let (stem, extension) = name.rsplit_once('.')?;
        self.extensions().contains(&extension).then_some(stem)
    }

    /// The files that are read of a checkpoint, by name: those that its identity comes from. With
    /// `step_inside`, that which tells the step is among them: trainers write it last, and it makes no
    /// other checkpoint of one whose name tells the step.
    ///
    /// # Errors
    /// A directory that cannot be listed, or holds far too many files.
    pub fn files(self, path: &Path, step_inside: bool) -> std::io::Result<Vec<PathBuf>> {
        match self {
            Self::Hf => hf::files(path, step_inside),
            _ => Ok(vec![path.to_owned()]),
        }
    }

    /// Whether the checkpoint is complete and of this layout. Reads headers alone.
    ///
    /// # Errors
    /// What is missing or wrong, and what to try.
    pub fn check(self, path: &Path, limits: &Limits) -> Result<(), Flaw> {
        let length: u64 = match self {
            Self::Hf => hf::length(path)?,
            _ => std::fs::metadata(path)?.len(),
        };
        flaw::within("the checkpoint", length, limits.checkpoint, "limits.checkpoint")?;
        match self {
            Self::Safetensors => safetensors::check(path, limits),
            Self::Torch => torch::check(path, limits),
            Self::Lightning => torch::check_lightning(path, limits),
            Self::Hf => hf::check(path, limits),
            Self::Torchscript => torchscript::check(path, limits),
        }
    }

    /// The step that the checkpoint itself tells, where the layout has one.
    ///
    /// # Errors
    /// A checkpoint that cannot be read.
    pub fn step_inside(self, path: &Path, limits: &Limits) -> Result<Option<u64>, Flaw> {
        match self {
            Self::Torch | Self::Lightning => torch::step(path, limits),
            Self::Hf => hf::step(path, limits),
            Self::Safetensors | Self::Torchscript => Ok(None),
        }
    }

    /// The tensors of a checkpoint by name; their data is read later, one by one.
    ///
    /// # Errors
    /// A checkpoint that is damaged, incomplete or not of this layout.
    pub fn open(self, path: &Path, limits: &Limits) -> Result<Weights, Flaw> {
        self.check(path, limits)?;
        match self {
            Self::Safetensors => safetensors::open(path, limits),
            Self::Torch | Self::Lightning => torch::open(path, limits),
            Self::Hf => hf::open(path, limits),
            Self::Torchscript => torchscript::open(path, limits),
        }
    }
}
