//! The loose types: what stands in a file, before it is checked. Every field may be absent, and a mistaken item of a
//! list is none, so that all mistakes are found at once. The schema asks for what a file needs (`required`).

mod control;
mod notify;
mod policy;

pub use control::*;
pub use notify::*;
pub use policy::*;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use std::path::PathBuf;

/// A whole file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Name of the run; the file's name without it.
    pub name: Option<String>,
    /// State directory.
    #[schemars(required)]
    pub state: Option<PathBuf>,
    /// TorchScript file of both networks.
    pub program: Option<PathBuf>,
    /// The held-out samples.
    #[schemars(required)]
    pub probe: Option<Probe>,
    /// The two runs.
    #[schemars(required)]
    pub networks: Option<Networks>,
    /// What a checkpoint may ask for.
    pub limits: Option<Limits>,
    /// How checkpoint directories are watched.
    pub watch: Option<Watch>,
    /// How checkpoints become pairs.
    pub pairing: Option<Pairing>,
    /// Extraction and comparison.
    pub interactions: Option<Interactions>,
    /// Where networks run.
    pub compute: Option<Compute>,
    /// Value tables that are kept under the state directory.
    pub cache: Option<Cache>,
    /// The rules.
    #[schemars(required)]
    pub policy: Option<Policy>,
    /// The control file.
    #[schemars(required)]
    pub control: Option<Control>,
    /// The webhooks.
    #[schemars(with = "Option<Vec<Webhook>>")]
    pub notify: Option<Vec<Option<Webhook>>>,
    /// The HTTP server.
    pub telemetry: Option<Telemetry>,
    /// When training counts as ended.
    pub end: Option<End>,
}

/// `probe:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Probe {
    /// safetensors file with `inputs`, `labels`, ….
    #[schemars(required)]
    pub file: Option<PathBuf>,
    /// Only the first so many samples.
    #[schemars(range(min = 1))]
    pub samples: Option<usize>,
    /// The rule that chooses the variables, where the file does not.
    pub variables: Option<Variables>,
    /// What replaces an absent variable.
    pub baseline: Option<Baseline>,
}

/// `probe.variables:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Variables {
    /// Patches of the feature map.
    ImagePatches(ImagePatches),
    /// Tokens of a text.
    Tokens(Tokens),
    /// Every column (or position) is a variable.
    Columns(Columns),
}

/// `probe.variables.image_patches:`
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImagePatches {
    /// Patches a side.
    #[schemars(range(min = 1, max = 64))]
    pub grid: Option<usize>,
    /// Patches at the border that are never chosen.
    pub margin: Option<usize>,
    /// Number of variables n.
    #[schemars(range(min = 2, max = 16))]
    pub select: Option<usize>,
}

/// `probe.variables.tokens:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// Number of variables n.
    #[schemars(range(min = 2, max = 16))]
    pub select: Option<usize>,
    /// Ids that are never chosen.
    pub exclude_ids: Option<Vec<i64>>,
}

/// `probe.variables.columns:`
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// Number of variables n: the columns are dealt to them in turn.
    #[schemars(range(min = 2, max = 16))]
    pub groups: Option<usize>,
}

/// `probe.baseline:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Zero.
    Zero,
    /// Mean of the features over the variables of the sample.
    Mean,
    /// The tensor `baseline` of the probe file.
    File,
}

/// `networks:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Networks {
    /// The network that the user cares for.
    #[schemars(required)]
    pub target: Option<Network>,
    /// The network that it is compared with.
    #[schemars(required)]
    pub baseline: Option<Network>,
}

/// `networks.target:` and `networks.baseline:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "write `{checkpoints: DIRECTORY}`")]
pub struct Network {
    /// Directory of the checkpoints.
    pub checkpoints: Option<PathBuf>,
    /// Of the baseline: one checkpoint instead of a training.
    pub fixed: Option<PathBuf>,
    /// How the checkpoints are written.
    pub layout: Option<Layout>,
    /// Where the step of a checkpoint stands.
    pub steps: Option<String>,
    /// When a checkpoint is complete, next to its structure.
    pub ready: Option<Ready>,
    /// Under which key the weights stand.
    pub weights: Option<String>,
    /// TorchScript file, where it is not the common one.
    pub program: Option<PathBuf>,
    /// File with the number of the trainer's process, where its client does not tell it.
    pub pid_file: Option<PathBuf>,
}

/// How the checkpoints are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// One safetensors file a step.
    Safetensors,
    /// Files of `torch.save`.
    Torch,
    /// Lightning checkpoints.
    Lightning,
    /// Directories of Hugging Face.
    Hf,
    /// TorchScript files.
    Torchscript,
}

/// `networks.target.ready:` and `networks.baseline.ready:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ready {
    /// The file that the trainer makes when a checkpoint is complete.
    pub marker: Option<String>,
}

/// `watch:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// How to know when to look.
    pub mode: Option<WatchMode>,
    /// Time between two scans without events.
    pub poll: Option<Duration>,
    /// Time between two scans with events.
    pub rescan: Option<Duration>,
}

/// `watch.mode:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchMode {
    /// By the file system.
    Auto,
    /// Events and a long timer.
    Events,
    /// A short timer.
    Poll,
}

/// `limits:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a checkpoint.
    pub checkpoint: Option<Size>,
    /// Bytes of a header, a pickle or an index.
    pub header: Option<Size>,
    /// Things that a pickle builds.
    #[schemars(range(min = 1))]
    pub objects: Option<u64>,
}

/// `pairing:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pairing {
    /// Which checkpoints are evaluated.
    pub order: Option<Order>,
    /// Steps that the two checkpoints of a pair may lie apart.
    pub tolerance: Option<u64>,
    /// Checkpoints of one network that may wait for their partner or their evaluation, beside those that were there at the start.
    #[schemars(range(min = 2, max = 100_000))]
    pub waiting: Option<usize>,
    /// How long one network may be silent while the other goes on.
    pub stale: Option<Duration>,
}

/// Which checkpoints are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// All of them, oldest first.
    Every,
    /// The newest; what is older is skipped when evaluation falls behind.
    Latest,
    /// The first at or beyond each multiple of so many steps.
    EveryN(#[schemars(range(min = 1))] u64),
}

/// `interactions:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Interactions {
    /// ζ as a share of |v(N) − v(∅)|.
    pub noise: Option<Factor>,
    /// τ as a share of the output scale.
    pub salience: Option<Factor>,
    /// Certified relative gap of an extraction.
    pub gap: Option<Factor>,
    /// Tight rows up to which an extraction is exact.
    #[schemars(range(max = 4096))]
    pub largest_basis: Option<usize>,
}

/// `compute:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Compute {
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    #[schemars(with = "Option<String>")]
    pub device: Option<OneDevice>,
    /// Several devices of one kind instead, which share the samples.
    #[schemars(length(min = 1))]
    pub devices: Option<Vec<String>>,
    /// Of matrix products and convolutions; `tf32` is of NVIDIA GPUs.
    #[schemars(extend("enum" = ["fp32", "tf32", "bf16", null]))]
    pub precision: Option<String>,
    /// Threads of libtorch and of the solver, each.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Masked inputs in one forward.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub batch: Option<usize>,
    /// Share of a device's free memory that a batch may take.
    pub memory: Option<Factor>,
    /// Niceness of the threads that evaluate and extract.
    #[schemars(range(max = 19))]
    pub nice: Option<usize>,
    /// Their priority for the disk.
    #[schemars(extend("enum" = ["normal", "low", "idle", null]))]
    pub io: Option<String>,
}

/// `compute.device:`
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "write one device, such as `cuda:0`; several are `devices: ['cuda:0', 'cuda:1']`"
)]
pub enum OneDevice {
    /// Its name.
    Name(String),
}

/// `cache:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Bytes that they may take; the least recently used go.
    pub size: Option<Size>,
}

/// `telemetry:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Address of the HTTP server.
    pub listen: Option<String>,
    /// How long it serves what the run has left after its end, so that a scrape finds it.
    pub grace: Option<Duration>,
    /// Directory of event files for TensorBoard, which grow with the run.
    pub tensorboard: Option<PathBuf>,
}

/// `end:`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct End {
    /// No new checkpoint for so long.
    pub idle: Option<Duration>,
    /// The processes of all trainers gone for so long.
    pub processes: Option<Duration>,
    /// The last step.
    pub max_step: Option<u64>,
}

/// A duration with its unit: `500ms`, `30s`, `10m`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Duration(pub std::time::Duration);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

/// A year: longer than whatever is waited for.
const LONGEST_SECONDS: f64 = 366.0 * 86400.0;

struct DurationVisitor;

impl serde::de::Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number with its unit, such as `30s` or `10m`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match &text[digits.len()..] {
            "ms" => Some(0.001),
            "s" => Some(1.0),
            "m" => Some(60.0),
            "h" => Some(3600.0),
            _ => None,
        };
        let number = digits.trim().parse::<f64>().ok();
        let seconds = number.zip(factor).map(|(number, factor)| number * factor);
        let seconds = seconds.filter(|seconds| *seconds <= LONGEST_SECONDS);
        let duration = seconds.and_then(|s| std::time::Duration::try_from_secs_f64(s).ok());
        duration.map(Duration).ok_or_else(|| {
            E::custom(format!(
                "`{text}` is no duration; write a number with its unit, such as `30s`, of a year at most"
            ))
        })
    }
}

/// A number of bytes with its unit: `16MiB`, `64GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl serde::de::Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a size with its unit, such as `16MiB` or `64GiB`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match &text[digits.len()..] {
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            "TiB" => Some(1 << 40),
            _ => None,
        };
        let number = digits.trim().parse::<u64>().ok();
        let size = number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
        size.map(Size).ok_or_else(|| {
            E::custom(format!(
                "`{text}` is no size; write a whole number with its unit, such as `16MiB`"
            ))
        })
    }
}

/// A factor, such as `0.01`, which may be written as a share too: `1%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor(pub f64);

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FactorVisitor)
    }
}

struct FactorVisitor;

impl serde::de::Visitor<'_> for FactorVisitor {
    type Value = Factor;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number such as `0.01`, or `1%`")
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Factor, E> {
        Ok(Factor(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Factor, E> {
        Ok(Factor(number as f64))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Factor, E> {
        Ok(Factor(number as f64))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Factor, E> {
        ShareVisitor.visit_str(text).map(|Share(share)| Factor(share))
    }
}

/// A share with its unit, such as `5%`: who writes 5 or 0.05 may mean either.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShareVisitor)
    }
}

struct ShareVisitor;

impl serde::de::Visitor<'_> for ShareVisitor {
    type Value = Share;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a share with its unit, such as `5%`")
    }

    fn visit_f64<E: serde::de::Error>(self, share: f64) -> Result<Share, E> {
        let percent = (1e4 * share).round() / 100.0;
        Err(E::custom(match share.is_finite() {
            true if share > 1.0 => {
                format!("{share} has no unit; write `{share}%`, or `{percent}%` if that is meant")
            }
            true => format!("{share} has no unit; write `{percent}%`"),
            false => format!("{share} is no share; write one with its unit, such as `5%`"),
        }))
    }

    fn visit_u64<E: serde::de::Error>(self, share: u64) -> Result<Share, E> {
        self.visit_f64(share as f64)
    }

    fn visit_i64<E: serde::de::Error>(self, share: i64) -> Result<Share, E> {
        self.visit_f64(share as f64)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Share, E> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        percent.map(|percent| Share(percent / 100.0)).ok_or_else(|| {
            E::custom(format!("`{text}` is no share; write one with its unit, such as `5%`"))
        })
    }
}
