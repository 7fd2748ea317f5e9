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
//! output scales at least `min_output_scale`, all of it at one pair (while outputs are tiny there is a spurious early
//! peak). After it has fired it rests for its `cooldown`: it goes on watching and does not fire.
//!
//! **Following a monitor.** A condition compares smoothed values: `ema: a` is an average that takes the
//! share a of each new value, starting with the first; `median: k` is the median of the last k values, or
//! of as many as there are. `goal` says whether more or less is better; without it, what is better for the
//! monitor. The *best* value is the best smoothed one since the warm-up; ties do not renew it.
//!
//! **Patience** is a number of checks without a better value, or of training steps, epochs or a time since the
//! best one. **Margins** are absolute, relative to the best value's size, or a number of standard errors of the
//! difference of the two values, taken as independent.
//!
//! **Conditions.**
//! - `peaked {metric, patience, min_drop, significance}`: patience is used up and the value now lies behind the
//!   best by more than `min_drop`, where that is above 0; and, with `significance`, by more than a curve that does not
//!   change would fall behind its best by chance (below).
//! - `plateaued {metric, patience, min_gain}`: patience is used up, where only values better by more than
//!   `min_gain` count as better. This is what early stopping elsewhere does.
//! - `declined {metric, drop, leave, confirm}`: the value lies behind the best by more than `drop`, on
//!   `confirm` checks in a row. It then holds until the value is within `leave` of the best again.
//! - `below` and `above {metric, threshold, leave, confirm}`: the value has crossed the threshold on
//!   `confirm` checks in a row. It then holds until the value crosses `leave` back.
//! - `diverged {metric, worse_than, leave, confirm}`: the value is worse than that on `confirm` checks in a row, or
//!   outputs are not finite, once. It then holds until the value is no worse than `leave`.
//! - `reached {step}`, `{epoch}`, `{checks}` or `{duration}`: one of these budgets is used up; time counts from the
//!   first pair.
//! - `not_finite`: outputs of a network were not finite. Such an observation carries `finite = false` and
//!   no monitors.
//! - `all`, `any`, `not`, `k_of {k, of}`: over other conditions. What has not seen its monitor yet is unknown, and so is
//!   its opposite: neither holds. Each of them sees every observation, with a
//!   memory of its own, so two conditions on one monitor do not disturb each other.
//!
//! **Significance** is a level: how often at most a condition may hold, at any check from its first to the next switch
//! of the phase, however many there are, where the true curve is flat and the noise is that of a probe of so many
//! samples. Each phase, each `resume` and each such condition spends a level of its own. The paired bootstrap over
//! probe samples tells what noise can do: the module `flat` plays this very condition, with its smoothing and its
//! patience in checks, on a thousand flat series. What is added to it only makes it stricter: `min_drop`, patience
//! in steps or time, other conditions. It needs 8 samples, better 30, and says nothing of what all samples do
//! together: a checkpoint that is worse on all of them is worse.
//!
//! **A pair without the monitor** (outputs that are not finite, a probe without labels) is passed over with
//! `missing: skip`: the condition stays as it was and no patience is used up. With `count_as_bad` it is
//! worse than any value: once there is a best one it uses up patience, it is behind by any margin, and lies beyond every threshold on the worse
//! side. With `error` the run ends, unless another rule decides something at this pair; a rule whose warm-up is not
//! over, or that does not hold in this phase, misses nothing.
//!
//! **Actions.** `stop` ends the run for good: no later observation decides anything. `phase {to,
//! lambda, ramp}` switches the training to a named phase; every rule forgets what it has seen, because
//! the next phase is another training. A run starts in `plain`, λ = 0, or in the policy's `start`. A phase rule does not fire above its `max_output_scale`:
//! switched on late, at large logits, the regularised phase wrecks training. A phase may name those that may follow
//! it; then no rule makes other switches (a person may).
//!
//! The other actions change nothing in the training. They are *notices*: all that are due are given, whatever is
//! decided, each once until its condition holds no more or the phase changes. `mark_best` takes the best pair that the rule knows, or
//! the current one, for the best of the phase: what a decision names whose rule follows no monitor. `notify` tells
//! people. `alert` raises an alert for as long as the condition holds.
//!
//! **A decision** names its rule and gives the reason with the values and thresholds that led to it,
//! its step, and the best step; a rule that follows no monitor names the step that a rule has marked, or the best of
//! the first rule that follows one.

mod best;
mod condition;
mod engine;
mod flat;
mod followed;
mod intervene;
mod latch;
mod replay;
mod rule;
mod smoothing;
mod standing;
mod state;
mod verdict;

pub use condition::{
    Condition, Declined, Diverged, Followed, Margin, Patience, Peaked, Plateaued, Reached, Smooth,
    Threshold,
};
pub use engine::{MissingMonitor, Observation, Outcome, decide};
pub use flat::{FlatSeries, LEAST_SAMPLES};
pub use intervene::{Intervention, MANUAL, Refused, adopt, intervene};
pub use replay::{Happened, Replayed, replay, replay_run};
pub use rule::{Action, FIRST_PHASE, Missing, Policy, Rule, Severity, Start, Warmup};
pub use standing::ChecksLeft;
pub use state::{Best, ConditionState, Decision, Moment, Notice, PolicyState, RuleState};
