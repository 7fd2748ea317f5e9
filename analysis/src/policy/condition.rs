//! Conditions as checked values. What they mean stands in the module's documentation.

use crate::convergence::{Goal, Monitor};

/// When a rule fires.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A monitor has passed its best value.
    Peaked(Peaked),
    /// A monitor gets no better any more.
    Plateaued(Plateaued),
    /// A monitor lies below its best value.
    Declined(Declined),
    /// A monitor lies below a threshold.
    Below(Threshold),
    /// A monitor lies above a threshold.
    Above(Threshold),
    /// A monitor is worse than any value that a training comes back from, or outputs are not finite.
    Diverged(Diverged),
    /// A budget is used up.
    Reached(Reached),
    /// A network's outputs are not finite.
    NotFinite,
    /// All of them hold.
    All(Vec<Condition>),
    /// One of them holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// At least `k` of them hold.
    KOf {
        /// How many, from 1 to their number.
        k: usize,
        /// They.
        of: Vec<Condition>,
    },
}

/// A monitor, the direction in which it is better, and how its noise is smoothed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Followed {
    /// The monitor.
    pub metric: Monitor,
    /// Whether its best is its largest or its smallest value.
    pub goal: Goal,
    /// What is compared in place of the raw values.
    pub smooth: Smooth,
}

/// How the noise of a monitor is smoothed before it is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Smooth {
    /// Not at all.
    #[default]
    Nothing,
    /// Exponential moving average: this share of the new value, the rest of the average before; in (0, 1].
    Ema(f64),
    /// Median of the last so many values, or of as many as there are; at least 1.
    Median(usize),
}

/// How long a better value is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Patience {
    /// Checks without one; at least 1.
    Checks(u32),
    /// Training steps since the best one; at least 1.
    Steps(u64),
    /// Epochs since the best one.
    Epochs {
        /// As configured; above 0.
        epochs: f64,
        /// Training steps that they are; at least 1.
        steps: u64,
    },
    /// Seconds since the best one was seen; above 0.
    Seconds(f64),
}

/// A difference of two values of a monitor that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Margin {
    /// In units of the monitor; at least 0.
    Absolute(f64),
    /// As a share of the absolute best value; at least 0.
    Relative(f64),
    /// In standard errors of the difference, as if the two values were independent; at least 0.
    StandardErrors(f64),
}

impl Margin {
    /// Any difference counts.
    pub const NONE: Self = Self::Absolute(0.0);
}

/// See the module's `peaked`.
#[derive(Clone, Debug, PartialEq)]
pub struct Peaked {
    /// The monitor that is followed.
    pub followed: Followed,
    /// How long a better value is waited for.
    pub patience: Patience,
    /// How far behind the best the value must lie.
    pub min_drop: Margin,
    /// How often at most, over a whole run, a curve that does not change may be taken for one that does;
    /// in (0, 1).
    pub significance: Option<f64>,
}

/// See the module's `plateaued`.
#[derive(Clone, Debug, PartialEq)]
pub struct Plateaued {
    /// The monitor that is followed.
    pub followed: Followed,
    /// How long a better value is waited for.
    pub patience: Patience,
    /// What a value must be better by to count as better.
    pub min_gain: Margin,
}

/// See the module's `declined`.
#[derive(Clone, Debug, PartialEq)]
pub struct Declined {
    /// The monitor that is followed.
    pub followed: Followed,
    /// How far behind the best the value must lie.
    pub drop: Margin,
    /// How near to the best it must come again for the condition to end; at most `drop`.
    pub leave: Margin,
    /// Checks in a row; at least 1.
    pub confirm: u32,
}

/// See the module's `below` and `above`.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// The monitor.
    pub followed: Followed,
    /// The value that must be crossed.
    pub threshold: f64,
    /// The value that must be crossed back for the condition to end.
    pub leave: f64,
    /// Checks in a row; at least 1.
    pub confirm: u32,
}

/// See the module's `diverged`.
#[derive(Clone, Debug, PartialEq)]
pub struct Diverged {
    /// The monitor.
    pub followed: Followed,
    /// The value that it must not be worse than.
    pub worse_than: f64,
    /// The value that must be reached again for the condition to end; no worse than `worse_than`.
    pub leave: f64,
    /// Checks in a row; at least 1.
    pub confirm: u32,
}

/// See the module's `reached`; at least one of the three is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// The step of the pair.
    pub step: Option<u64>,
    /// The number of pairs evaluated.
    pub checks: Option<u64>,
    /// Seconds since the first pair.
    pub seconds: Option<f64>,
}

impl Condition {
    /// Whether the condition is sure to be met at some time, whatever the networks do.
    pub fn is_budget(&self) -> bool {
        match self {
            Self::Reached(_) => true,
            Self::Any(of) => of.iter().any(Self::is_budget),
            Self::All(of) => !of.is_empty() && of.iter().all(Self::is_budget),
            Self::KOf { k, of } => of.iter().filter(|c| c.is_budget()).count() >= *k,
            _ => false,
        }
    }

    /// The monitors that it follows, in order.
    pub fn monitors(&self) -> Vec<Monitor> {
        match self {
            Self::Peaked(Peaked { followed, .. })
            | Self::Plateaued(Plateaued { followed, .. })
            | Self::Declined(Declined { followed, .. })
            | Self::Below(Threshold { followed, .. })
            | Self::Above(Threshold { followed, .. })
            | Self::Diverged(Diverged { followed, .. }) => vec![followed.metric],
            Self::Reached(_) | Self::NotFinite => Vec::new(),
            Self::All(of) | Self::Any(of) | Self::KOf { of, .. } => {
                of.iter().flat_map(Self::monitors).collect()
            }
            Self::Not(of) => of.monitors(),
        }
    }

    /// Whether it needs the samples of a pair.
    pub fn needs_samples(&self) -> bool {
        match self {
            Self::Peaked(peaked) => peaked.significance.is_some(),
            Self::All(of) | Self::Any(of) | Self::KOf { of, .. } => {
                of.iter().any(Self::needs_samples)
            }
            Self::Not(of) => of.needs_samples(),
            _ => false,
        }
    }

    /// Whether it waits for something that may never come.
    pub fn waits(&self) -> bool {
        !self.is_budget() && !self.monitors().is_empty()
    }
}
