//! `when:` → [`Condition`].

use super::Check;
use crate::config::file;
use crate::convergence::{Goal, Monitor};
use crate::policy::{
    Condition, Declined, Diverged, Followed, Margin, Patience, Peaked, Plateaued, Reached, Smooth,
    Threshold,
};

const DEFAULT_PATIENCE: u32 = 3;
/// Values of a median: more would not be noise but another monitor.
const MOST_SMOOTHED: usize = 1000;
/// The same with significance.
const MOST_SMOOTHED_SERIES: usize = 9;
/// Levels of significance: below, the flat series that they rest on are too few.
const SIGNIFICANCE: std::ops::RangeInclusive<f64> = 0.01..=0.5;
/// Conditions within conditions: what a person can still read.
const DEEPEST: usize = 8;

impl Check {
    pub(super) fn condition(
        &mut self,
        at: &str,
        condition: file::Condition,
        depth: usize,
    ) -> Option<Condition> {
        if depth > DEEPEST {
            let message = format!("stands in more than {DEEPEST} other conditions; use more rules");
            self.checked.report(at, message);
            return None;
        }
        match condition {
            file::Condition::Peaked(peaked) => self.peaked(&format!("{at}.peaked"), peaked),
            file::Condition::Plateaued(plateaued) => {
                self.plateaued(&format!("{at}.plateaued"), plateaued)
            }
            file::Condition::Declined(declined) => {
                self.declined(&format!("{at}.declined"), declined)
            }
            file::Condition::Below(threshold) => {
                self.threshold(&format!("{at}.below"), threshold, true).map(Condition::Below)
            }
            file::Condition::Above(threshold) => {
                self.threshold(&format!("{at}.above"), threshold, false).map(Condition::Above)
            }
            file::Condition::Diverged(diverged) => {
                self.diverged(&format!("{at}.diverged"), diverged)
            }
            file::Condition::Reached(reached) => self.reached(&format!("{at}.reached"), reached),
            file::Condition::NotFinite(_) => Some(Condition::NotFinite),
            file::Condition::All(of) => {
                self.several(&format!("{at}.all"), of, depth).map(Condition::All)
            }
            file::Condition::Any(of) => {
                self.several(&format!("{at}.any"), of, depth).map(Condition::Any)
            }
            file::Condition::Not(of) => {
                let of = self.condition(&format!("{at}.not"), *of, depth + 1)?;
                Some(Condition::Not(Box::new(of)))
            }
            file::Condition::KOf(k_of) => self.k_of(&format!("{at}.k_of"), k_of, depth),
        }
    }

    fn several(
        &mut self,
        at: &str,
        of: Vec<Option<file::Condition>>,
        depth: usize,
    ) -> Option<Vec<Condition>> {
        if of.is_empty() {
            self.checked.report(at, "is empty: give at least one condition");
            return None;
        }
        let wanted = of.len();
        for (index, _) in of.iter().enumerate().filter(|(_, of)| of.is_none()) {
            // Unless it is known why.
            self.checked.report(&format!("{at}[{index}]"), "is empty: give a condition");
        }
        let known: Vec<Condition> = of
            .into_iter()
            .enumerate()
            .filter_map(|(index, of)| self.condition(&format!("{at}[{index}]"), of?, depth + 1))
            .collect();
        (known.len() == wanted).then_some(known)
    }

    fn k_of(&mut self, at: &str, k_of: file::KOf, depth: usize) -> Option<Condition> {
        let of = self.several(&format!("{at}.of"), k_of.of.unwrap_or_default(), depth);
        let k = self.required(&format!("{at}.k"), k_of.k, "how many of them must hold");
        let of = of?;
        let k = self.count(&format!("{at}.k"), k, 1..=of.len(), 1);
        Some(Condition::KOf { k: k?, of })
    }

    fn followed(
        &mut self,
        at: &str,
        metric: Option<Monitor>,
        goal: Option<Goal>,
        smooth: Option<file::Smooth>,
    ) -> Option<Followed> {
        let metric = self.required(&format!("{at}.metric"), metric, "a monitor");
        let smooth = match smooth {
            None => Some(Smooth::Nothing),
            Some(file::Smooth::Ema(file::Share(share))) => self
                .number(&format!("{at}.smooth.ema"), Some(share), f64::MIN_POSITIVE..=1.0, 1.0)
                .map(Smooth::Ema),
            Some(file::Smooth::Median(count)) => self
                .count(&format!("{at}.smooth.median"), Some(count), 1..=MOST_SMOOTHED, 1)
                .map(Smooth::Median),
        };
        let metric = metric?;
        Some(Followed { metric, goal: goal.unwrap_or(metric.goal()), smooth: smooth? })
    }

    /// The steps of so many epochs.
    pub(super) fn steps_of(&mut self, at: &str, epochs: f64) -> Option<u64> {
        let Some(steps) = self.steps_per_epoch else {
            let message = format!(
                "is {epochs}, but the steps of an epoch are not known: give `policy.steps_per_epoch`"
            );
            self.checked.report(at, message);
            return None;
        };
        let epochs = self.number(at, Some(epochs), 0.0..=f64::MAX, 0.0)?;
        // As many as fit: no training is that long.
        Some((epochs * steps as f64).ceil() as u64)
    }

    pub(super) fn patience(
        &mut self,
        at: &str,
        patience: Option<file::Patience>,
    ) -> Option<Patience> {
        let zero = |what: &str| format!("is 0, but must be at least 1 {what}");
        match patience.unwrap_or(file::Patience::Checks(DEFAULT_PATIENCE)) {
            file::Patience::Checks(0) => {
                self.checked.report(&format!("{at}.checks"), zero("check"))
            }
            file::Patience::Steps(0) => self.checked.report(&format!("{at}.steps"), zero("step")),
            file::Patience::Duration(duration) if duration.0.is_zero() => {
                self.checked.report(&format!("{at}.duration"), "is 0, but must be above 0");
            }
            file::Patience::Checks(checks) => return Some(Patience::Checks(checks)),
            file::Patience::Steps(steps) => return Some(Patience::Steps(steps)),
            file::Patience::Epochs(epochs) if epochs <= 0.0 => {
                let message = format!("is {epochs}, but must be above 0");
                self.checked.report(&format!("{at}.epochs"), message);
            }
            file::Patience::Epochs(epochs) => {
                let steps = self.steps_of(&format!("{at}.epochs"), epochs)?;
                return Some(Patience::Epochs { epochs, steps: steps.max(1) });
            }
            file::Patience::Duration(duration) => {
                return Some(Patience::Seconds(duration.0.as_secs_f64()));
            }
        }
        None
    }

    fn margin(
        &mut self,
        at: &str,
        margin: Option<file::Margin>,
        default: Margin,
    ) -> Option<Margin> {
        let mut at_least_0 = |name: &str, value: f64| {
            self.number(&format!("{at}.{name}"), Some(value), 0.0..=f64::MAX, 0.0)
        };
        match margin {
            None => Some(default),
            Some(file::Margin::Absolute(margin)) => {
                at_least_0("absolute", margin).map(Margin::Absolute)
            }
            Some(file::Margin::Relative(file::Share(share))) => {
                at_least_0("relative", share).map(Margin::Relative)
            }
            Some(file::Margin::StandardErrors(count)) => {
                at_least_0("standard_errors", count).map(Margin::StandardErrors)
            }
        }
    }

    fn confirm(&mut self, at: &str, confirm: Option<u32>) -> Option<u32> {
        let confirm = confirm.unwrap_or(1);
        if confirm == 0 {
            self.checked.report(&format!("{at}.confirm"), "is 0, but must be at least 1 check");
        }
        (confirm > 0).then_some(confirm)
    }

    fn peaked(&mut self, at: &str, file: file::Peaked) -> Option<Condition> {
        let followed = self.followed(at, file.metric, file.goal, file.smooth);
        let patience = self.patience(&format!("{at}.patience"), file.patience);
        let min_drop = self.margin(&format!("{at}.min_drop"), file.min_drop, Margin::NONE);
        let significance = match file.significance {
            None => Some(None),
            Some(file::Share(level)) => {
                self.number(&format!("{at}.significance"), Some(level), SIGNIFICANCE, 0.0).map(Some)
            }
        };
        if let Some((Followed { smooth: Smooth::Median(count), .. }, _)) =
            followed.zip(file.significance)
            && count > MOST_SMOOTHED_SERIES
        {
            let message = format!(
                "is {count}, but with `significance` must be {MOST_SMOOTHED_SERIES} at most: a thousand series are \
                 smoothed likewise and stored with every pair; take `ema`"
            );
            self.checked.report(&format!("{at}.smooth.median"), message);
            return None;
        }
        let (followed, patience, min_drop) = (followed?, patience?, min_drop?);
        Some(Condition::Peaked(Peaked {
            followed,
            patience,
            min_drop,
            significance: significance?,
        }))
    }

    fn plateaued(&mut self, at: &str, file: file::Plateaued) -> Option<Condition> {
        let followed = self.followed(at, file.metric, file.goal, file.smooth);
        let patience = self.patience(&format!("{at}.patience"), file.patience);
        let min_gain = self.margin(&format!("{at}.min_gain"), file.min_gain, Margin::NONE);
        let (followed, patience, min_gain) = (followed?, patience?, min_gain?);
        Some(Condition::Plateaued(Plateaued { followed, patience, min_gain }))
    }

    fn declined(&mut self, at: &str, file: file::Declined) -> Option<Condition> {
        let followed = self.followed(at, file.metric, file.goal, file.smooth);
        let wanted = "by how much, such as `{relative: 5%}`";
        let drop = self.required(&format!("{at}.drop"), file.drop, wanted);
        let drop =
            drop.and_then(|drop| self.margin(&format!("{at}.drop"), Some(drop), Margin::NONE));
        let confirm = self.confirm(at, file.confirm);
        let leave = self.margin(&format!("{at}.leave"), file.leave, drop.unwrap_or(Margin::NONE));
        let (drop, leave) = (drop?, leave?);
        let fits = match (leave, drop) {
            (Margin::Absolute(leave), Margin::Absolute(drop))
            | (Margin::Relative(leave), Margin::Relative(drop))
            | (Margin::StandardErrors(leave), Margin::StandardErrors(drop)) => leave <= drop,
            _ => false,
        };
        if !fits {
            let message =
                format!("is {leave}, but must be of one kind with `drop` and at most {drop}");
            self.checked.report(&format!("{at}.leave"), message);
            return None;
        }
        Some(Condition::Declined(Declined { followed: followed?, drop, leave, confirm: confirm? }))
    }

    fn threshold(&mut self, at: &str, file: file::Threshold, is_below: bool) -> Option<Threshold> {
        let followed = self.followed(at, file.metric, None, file.smooth);
        let any = f64::MIN..=f64::MAX;
        let threshold = self.required(&format!("{at}.threshold"), file.threshold, "a value");
        let threshold = threshold
            .and_then(|t| self.number(&format!("{at}.threshold"), Some(t), any.clone(), 0.0));
        let confirm = self.confirm(at, file.confirm);
        let threshold = threshold?;
        let range = if is_below { threshold..=f64::MAX } else { f64::MIN..=threshold };
        let leave = self.number(&format!("{at}.leave"), file.leave, range, threshold);
        Some(Threshold { followed: followed?, threshold, leave: leave?, confirm: confirm? })
    }

    fn diverged(&mut self, at: &str, file: file::Diverged) -> Option<Condition> {
        let followed = self.followed(at, file.metric, file.goal, file.smooth);
        let bound = "the value that no training comes back from";
        let worse_than = self.required(&format!("{at}.worse_than"), file.worse_than, bound);
        let any = f64::MIN..=f64::MAX;
        let worse_than = worse_than
            .and_then(|worst| self.number(&format!("{at}.worse_than"), Some(worst), any, 0.0));
        let confirm = self.confirm(at, file.confirm);
        let (followed, worse_than, confirm) = (followed?, worse_than?, confirm?);
        let better = match followed.goal {
            Goal::Max => worse_than..=f64::MAX,
            Goal::Min => f64::MIN..=worse_than,
        };
        let leave = self.number(&format!("{at}.leave"), file.leave, better, worse_than)?;
        Some(Condition::Diverged(Diverged { followed, worse_than, leave, confirm }))
    }

    fn reached(&mut self, at: &str, file: file::Reached) -> Option<Condition> {
        let file::Reached { step, epoch, checks, duration } = file;
        let of_epoch = match epoch {
            None => None,
            Some(epoch) => Some(self.steps_of(&format!("{at}.epoch"), epoch)?),
        };
        let step = step.into_iter().chain(of_epoch).min();
        let seconds = duration.map(|duration| duration.0.as_secs_f64());
        if step.is_none() && checks.is_none() && seconds.is_none() {
            self.checked.report(at, "needs `step`, `epoch`, `checks` or `duration`");
            return None;
        }
        Some(Condition::Reached(Reached { step, checks, seconds }))
    }
}
