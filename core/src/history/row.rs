//! What is stored.

use super::NotificationRow;
use crate::convergence::{Monitors, Samples, Strength};
use crate::policy::{Decision, Notice, PolicyState};
use crate::role::Role;
use crate::signal::Document;

/// How a checkpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Pinned, not evaluated yet.
    Waiting,
    /// Evaluated in a pair.
    Evaluated,
    /// Passed over: too late, without a partner, or replaced.
    Skipped,
    /// Damaged, or not of this network.
    Quarantined,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Evaluated, Self::Skipped, Self::Quarantined];
    /// Those that end a checkpoint's way.
    pub const FINAL: [Self; 3] = [Self::Evaluated, Self::Skipped, Self::Quarantined];

    /// The name in metrics and the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Evaluated => "evaluated",
            Self::Skipped => "skipped",
            Self::Quarantined => "quarantined",
        }
    }
}

/// One checkpoint that was dealt with.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRow {
    /// Whose it was.
    pub role: Role,
    /// What told it from others.
    pub identity: String,
    /// Its step.
    pub step: u64,
    /// Where the trainer wrote it.
    pub path: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it was not evaluated.
    pub reason: Option<String>,
}

/// One evaluated pair.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRow {
    /// Its step.
    pub step: u64,
    /// When it was stored, in seconds since 1970.
    pub time: f64,
    /// Checkpoints, (target, baseline), where the trainers wrote them.
    pub paths: [String; 2],
    /// Whether all outputs were finite; otherwise there are no monitors.
    pub finite: bool,
    /// Extractions, both networks together.
    pub samples: usize,
    /// Those whose gap is proven.
    pub certified: usize,
    /// The largest gap.
    pub gap_max: f64,
    /// The largest difference from float32 of an effect in units of the output scale, (target, baseline);
    /// nothing where the precision is float32.
    pub noise_floor: Option<[f64; 2]>,
    /// The monitors.
    pub monitors: Monitors,
    /// Mean strengths by order, (target, baseline).
    pub strengths: [Vec<Strength>; 2],
    /// The policy's memory after it.
    pub policy: PolicyState,
}

/// What the monitors of a pair rest on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// What every sample adds to the monitors.
    pub samples: Option<Samples>,
    /// Names of the value tables in the cache, (target, baseline).
    pub values: [Option<String>; 2],
}

/// All that one transaction stores of a pair.
pub struct PairRecord<'a> {
    /// The pair.
    pub pair: &'a PairRow,
    /// What its monitors rest on.
    pub evidence: &'a Evidence,
    /// Its checkpoints.
    pub checkpoints: &'a [CheckpointRow; 2],
    /// What was decided at it.
    pub decision: Option<&'a DeliveryRow>,
    /// What rules had to say.
    pub notices: &'a [Notice],
    /// What webhooks are to be told of it.
    pub notifications: &'a [NotificationRow],
}

/// One decision and its way to the trainers.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRow {
    /// What was decided.
    pub decision: Decision,
    /// The control document.
    pub document: Document,
    /// When the control file was written, in seconds since 1970.
    pub delivered: Option<f64>,
}
