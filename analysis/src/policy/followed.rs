//! The value of a monitor at an observation, and the patience and margins that it is measured by.

use super::condition::{Followed, Margin, Patience};
use super::rule::Missing;
use super::smoothing;
use super::state::{Best, ConditionState, Moment};
use super::verdict::{Verdict, View};
use crate::convergence::{Estimate, Goal};

/// A monitor's value at this observation.
pub(super) enum Seen {
    /// Smoothed, with the standard error of the raw value.
    Value(Estimate),
    /// Missing, and worse than any other.
    Bad,
    /// Missing, and to be passed over.
    Nothing,
}

impl Followed {
    pub(super) fn see(&self, memory: &mut ConditionState, view: &View<'_>) -> Seen {
        match (view.observation.estimate(self.metric), view.missing) {
            (Some(Estimate { value, standard_error }), _) => {
                memory.seen = true;
                let value = smoothing::next(self.smooth, &mut memory.past, value);
                Seen::Value(Estimate { value, standard_error })
            }
            (None, Missing::CountAsBad) => Seen::Bad,
            (None, Missing::Skip | Missing::Error) => Seen::Nothing,
        }
    }

    /// How much worse than `best` a value is; negative where it is better.
    pub(super) fn behind(&self, best: f64, value: f64) -> f64 {
        match self.goal {
            Goal::Max => best - value,
            Goal::Min => value - best,
        }
    }

    /// What counts in the place of a value that is missing and bad: beyond every bound on the worse side.
    pub(super) fn worst(&self) -> f64 {
        match self.goal {
            Goal::Max => f64::NEG_INFINITY,
            Goal::Min => f64::INFINITY,
        }
    }

    fn missing(&self, view: &View<'_>) -> String {
        format!("`{}` is missing at step {}", self.metric, view.now.step)
    }
}

/// What holds stays so while the monitor is missing.
pub(super) fn kept(followed: &Followed, memory: &ConditionState, view: &View<'_>) -> Verdict {
    let best_step = memory.overall().map(|best| best.at.step);
    // What an earlier version remembers has been seen too.
    let is_unknown = !memory.seen && memory.best.is_none() && memory.crossed == 0 && !memory.holds;
    Verdict { holds: memory.holds, reason: followed.missing(view), best_step, is_unknown }
}

impl Patience {
    /// Whether it is used up, `checks` checks after a moment.
    pub(super) fn is_over(self, since: Moment, checks: u64, now: Moment) -> bool {
        match self {
            Self::Checks(patience) => checks >= u64::from(patience),
            Self::Steps(patience) => now.step.saturating_sub(since.step) >= patience,
            Self::Epochs { steps, .. } => now.step.saturating_sub(since.step) >= steps,
            Self::Seconds(patience) => now.time - since.time >= patience,
        }
    }
}

impl std::fmt::Display for Patience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Checks(checks) => write!(f, "{checks}"),
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Epochs { epochs, steps } => write!(f, "{epochs} epochs ({steps} steps)"),
            Self::Seconds(seconds) => write!(f, "{seconds} s"),
        }
    }
}

impl Margin {
    /// The margin in units of the monitor.
    pub(super) fn of(self, best: Best, now: Estimate) -> f64 {
        match self {
            Self::Absolute(margin) => margin,
            Self::Relative(share) => share * best.value.abs(),
            Self::StandardErrors(count) => count * best.standard_error.hypot(now.standard_error),
        }
    }
}

impl std::fmt::Display for Margin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absolute(margin) => write!(f, "{margin}"),
            Self::Relative(share) => write!(f, "{} % of the best", 100.0 * share),
            Self::StandardErrors(count) => write!(f, "{count} standard errors"),
        }
    }
}
