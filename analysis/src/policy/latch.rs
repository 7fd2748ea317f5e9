//! Conditions on a threshold, with confirmation and hysteresis.

use super::condition::{Diverged, Threshold};
use super::followed::{Seen, kept};
use super::state::ConditionState;
use super::verdict::{Verdict, View, not_finite};

/// Confirmation and hysteresis: holds after `confirm` crossings in a row, until it is crossed back.
pub(super) fn latch(memory: &mut ConditionState, is_crossed: bool, is_back: bool, confirm: u32) {
    memory.crossed = if is_crossed { memory.crossed.saturating_add(1) } else { 0 };
    memory.holds = match memory.holds {
        true => !is_back,
        false => memory.crossed >= confirm,
    };
}

impl Threshold {
    pub(super) fn observe(
        &self,
        is_below: bool,
        memory: &mut ConditionState,
        view: &View<'_>,
    ) -> Verdict {
        let Self { followed, threshold, leave, confirm } = self;
        let metric = followed.metric;
        let value = match followed.see(memory, view) {
            Seen::Value(now) => now.value,
            Seen::Bad => followed.worst(),
            Seen::Nothing => return kept(followed, memory, view),
        };
        let side = if is_below { "below" } else { "above" };
        let (is_crossed, is_back) = match is_below {
            true => (value < *threshold, value >= *leave),
            false => (value > *threshold, value <= *leave),
        };
        latch(memory, is_crossed, is_back, *confirm);
        let reason = format!(
            "`{metric}` {side} {threshold}: {value:.4} at step {} ({} of {confirm} checks, until {leave})",
            view.now.step, memory.crossed
        );
        Verdict { holds: memory.holds, reason, best_step: None, is_unknown: false }
    }
}

impl Diverged {
    pub(super) fn observe(&self, memory: &mut ConditionState, view: &View<'_>) -> Verdict {
        let Self { followed, worse_than, leave, confirm } = self;
        if !view.observation.finite {
            memory.holds = true;
            return not_finite(view);
        }
        let value = match followed.see(memory, view) {
            Seen::Value(now) => now.value,
            Seen::Bad => followed.worst(),
            Seen::Nothing => return kept(followed, memory, view),
        };
        let is_worse = followed.behind(*worse_than, value) > 0.0;
        let is_back = followed.behind(*leave, value) <= 0.0;
        latch(memory, is_worse, is_back, *confirm);
        let reason = format!(
            "`{}` diverged: {value:.4} at step {} against {worse_than} ({} of {confirm} checks, until {leave})",
            followed.metric, view.now.step, memory.crossed
        );
        Verdict { holds: memory.holds, reason, best_step: None, is_unknown: false }
    }
}
