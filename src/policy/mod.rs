//! The policy: when a run is stopped or its phase switched.
//!
//! The engine is pure: `(state, observation, now) → (state, decision)`. It reads no clock and no
//! file, so a stored history replays to the same decisions.
//!
//! **Observation.** One pair of checkpoints at one step: its monitors, and the smaller of the two
//! output scales. Observations come in ascending order of step.
//!
//! **Rules** stand in order; every rule sees every observation, and the first that fires wins. A rule
//! holds only in its `phase`, if it names one, and never in the phase that it leads to. Until its warm-up
//! is over it neither fires nor remembers anything: `checks` observations seen, `step` reached, and both
//! output scales at least `min_output_scale` once (while outputs are tiny there is a spurious early
//! peak). After it has fired it rests for its `cooldown`: it goes on watching and does not fire.
//!
//! **Following a monitor.** A condition compares smoothed values: `ema: a` is an average that takes the
//! share a of each new value, starting with the first; `median: k` is the median of the last k values, or
//! of as many as there are. `goal` says whether more or less is better; without it, what is better for the
//! monitor. The *best* value is the best smoothed one since the warm-up; ties do not renew it.
//!
//! **Patience** is a number of checks without a better value, or of training steps or a time since the best
//! one. **Margins** are absolute, relative to the best value's size, or a number of standard errors of the
//! difference of the two values, taken as independent.
//!
//! **Conditions.**
//! - `peaked {metric, patience, min_drop}`: patience is used up and the value now lies behind the best by
//!   more than `min_drop`.
//! - `plateaued {metric, patience, min_gain}`: patience is used up, where only values better by more than
//!   `min_gain` count as better. This is what early stopping elsewhere does.
//! - `declined {metric, drop, leave, confirm}`: the value lies behind the best by more than `drop`, on
//!   `confirm` checks in a row. It then holds until the value is within `leave` of the best again.
//! - `below` and `above {metric, threshold, leave, confirm}`: the value has crossed the threshold on
//!   `confirm` checks in a row. It then holds until the value crosses `leave` back.
//! - `diverged {metric, worse_than, confirm}`: the value is worse than that on `confirm` checks in a row, or
//!   outputs are not finite, once.
//! - `reached {step}`, `{checks}` or `{duration}`: one of these budgets is used up; time counts from the
//!   first pair.
//! - `not_finite`: outputs of a network were not finite. Such an observation carries `finite = false` and
//!   no monitors.
//! - `all`, `any`, `not`, `k_of {k, of}`: over other conditions. Each of them sees every observation, with a
//!   memory of its own, so two conditions on one monitor do not disturb each other.
//!
//! **A pair without the monitor** (outputs that are not finite, a probe without labels) is passed over with
//! `missing: skip`: the condition stays as it was and no patience is used up. With `count_as_bad` it is
//! worse than any value: it uses up patience and is behind by any margin.
//!
//! **Actions.** `stop` ends the run for good: no later observation decides anything. `phase {to,
//! lambda, ramp}` switches the training to a named phase; every rule forgets what it has seen, because
//! the next phase is another training. A phase rule does not fire above its `max_output_scale`:
//! switched on late, at large logits, the regularised phase wrecks training.
//!
//! **A decision** names its rule and gives the reason with the values and thresholds that led to it,
//! its step, and the best step; a rule that follows no monitor names the best step of the first rule that does.

mod condition;
mod engine;
mod replay;
mod rule;
mod state;
mod verdict;

pub use condition::{
    Condition, Declined, Diverged, Followed, Margin, Patience, Peaked, Plateaued, Reached, Smooth,
    Threshold,
};
pub use engine::{Observation, decide};
pub use replay::replay;
pub use rule::{Action, FIRST_PHASE, Missing, Policy, Rule, Warmup};
pub use state::{Best, ConditionState, Decision, Moment, PolicyState, RuleState};
