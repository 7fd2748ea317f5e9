//! The policy: when a run is stopped or its phase switched.
//!
//! The engine is pure: `(state, observation, now) → (state, decision)`. It reads no clock and no
//! file, so a stored history replays to the same decisions.
//!
//! **Observation.** One pair of checkpoints at one step: its monitors, and the smaller of the two
//! output scales. Observations come in ascending order of step.
//!
//! **Rules** stand in order; every rule sees every observation, and the first that fires wins. A rule
//! holds only in its `phase`, if it names one, and never in the phase that it leads to. Until its warm-up is over it neither fires nor
//! remembers anything: `checks` observations seen, `step` reached, and both output scales at least
//! `min_output_scale` once (while outputs are tiny there is a spurious early peak).
//!
//! **Conditions.**
//! - `peaked {metric, patience {checks}, min_drop}`: the best value so far is `patience` checks old
//!   and the metric now lies below it by more than `min_drop`. Ties do not renew the best. A pair
//!   without the metric is skipped: it neither counts as a check nor ends the run.
//! - `reached {step}` or `reached {checks}`: the step, or the number of checks, is reached: a budget.
//! - `not_finite`: a monitor that a network should have could not be computed because its outputs
//!   were not finite. Such an observation carries `finite = false` and no monitors.
//!
//! **Actions.** `stop` ends the run for good: no later observation decides anything. `phase {to,
//! lambda, ramp}` switches the training to a named phase; every rule forgets what it has seen, because
//! the next phase is another training. A phase rule does not fire above its `max_output_scale`:
//! switched on late, at large logits, the regularised phase wrecks training.
//!
//! **A decision** names its rule and gives the reason with the values and thresholds that led to it,
//! its step, and the best step; a rule that follows no monitor names the best step of the first rule that does.

mod engine;
mod rule;
mod state;

pub use engine::{Observation, decide};
pub use rule::{Action, Condition, FIRST_PHASE, Peaked, Policy, Reached, Rule, Warmup};
pub use state::{Decision, PolicyState, RuleState};
