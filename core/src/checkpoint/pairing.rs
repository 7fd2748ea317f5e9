//! Matches checkpoints of the two networks by step. Pure: no files, no clock.
//!
//! **Which are partners.** Those of one step. With a tolerance, those whose steps are nearest: of all that wait,
//! the two that are nearest to each other within the tolerance are partners, then of the rest, and so on; of
//! equal distances that with the lower target step, then the lower baseline step. Each checkpoint has one
//! partner at most. The step of a pair is its target's.
//!
//! **When that is certain.** Of one step, at once. Otherwise a nearer one may still come, so a pair at distance d
//! waits until each network has shown a step of at least the other's step + d − 1 (each brings its
//! checkpoints by ascending step), or until the end. So which pairs there are depends on the order in which
//! the two networks' checkpoints arrive only where one of them saves more than once within the tolerance.
//!
//! **Which are evaluated**, by ascending steps of both networks:
//! - `every`: each one; those below that wait without a partner are skipped.
//! - `latest`: the newest; those below are skipped.
//! - `every_n: N`: the first at or beyond each multiple of N steps, so with saves at multiples of a divisor of N
//!   exactly the multiples; and the first and the last pair of the run. Nothing but the last evaluated step
//!   is remembered for that, so a restart changes nothing.
//!
//! With a **fixed** checkpoint in the place of the baseline, every checkpoint of the target is a pair.

use super::Checkpoint;
use crate::role::Role;
use std::collections::{BTreeMap, BTreeSet};

/// Checkpoints of one network that wait by default, beside those of the start; each keeps a file alive that its trainer may have removed.
pub const DEFAULT_WAITING: usize = 64;
const TOO_MANY: &str =
    "more than `pairing.waiting` checkpoints of its network wait, beside those of the start";
/// Steps whose quarantine is remembered.
const MOST_QUARANTINED: usize = 256;

/// Which pairs are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// All of them.
    #[default]
    Every,
    /// Only the newest complete pair; older ones are skipped.
    Latest,
    /// The first at or beyond each multiple of so many steps.
    EveryN(u64),
}

/// How checkpoints become pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Which pairs are evaluated.
    pub order: Order,
    /// Steps that partners may lie apart.
    pub tolerance: u64,
    /// Checkpoints of one network that may wait, beside those that were there at the start; the oldest of more is skipped.
    pub waiting: usize,
}

impl Pairing {
    /// For a run that is over, of which everything that is there is evaluated: nothing more comes, however long it waits.
    #[must_use]
    pub fn without_bound(self) -> Self {
        Self { waiting: usize::MAX, ..self }
    }
}

impl Default for Pairing {
    fn default() -> Self {
        Self { order: Order::default(), tolerance: 0, waiting: DEFAULT_WAITING }
    }
}

/// A pair to be evaluated.
#[derive(Debug)]
pub struct Next {
    /// (target, baseline).
    pub pair: [Checkpoint; 2],
    /// What is skipped for it, with the reason.
    pub skipped: Vec<(Checkpoint, &'static str)>,
}

/// Steps of partners, (target, baseline).
type Steps = [u64; 2];

/// Checkpoints that wait for their partner, and pairs that wait to be evaluated.
#[derive(Debug, Default)]
pub struct Pairs {
    pairing: Pairing,
    fixed: Option<Checkpoint>,
    waiting: [BTreeMap<u64, Checkpoint>; 2],
    /// Of those that were there at the start, how many are still to come.
    to_come: [usize; 2],
    /// Of those, how many may wait beside the others; nothing while what an earlier life has kept is taken in.
    beside: [Option<usize>; 2],
    /// Newest step that each network has shown.
    newest: [Option<u64>; 2],
    quarantined: [BTreeSet<u64>; 2],
    /// Of the last pair handed out or evaluated in an earlier life.
    last: Option<Steps>,
    is_over: bool,
}

impl Pairs {
    /// Starts behind the last pair of an earlier life; `fixed` stands in the place of all baseline
    /// checkpoints.
    pub fn new(pairing: Pairing, last: Option<Steps>, fixed: Option<Checkpoint>) -> Self {
        Self { pairing, last, fixed, ..Self::default() }
    }

    /// The checkpoint in the place of the baseline's, if there is one.
    pub fn fixed(&self) -> Option<&Checkpoint> {
        self.fixed.as_ref()
    }

    /// Takes a checkpoint; gives back those that it makes obsolete, with the reason: itself when its
    /// step is over, an earlier save of the same step, pairs that are passed over, or the oldest of too many.
    pub fn add(&mut self, checkpoint: Checkpoint) -> Vec<(Checkpoint, &'static str)> {
        let (role, step) = (checkpoint.role.index(), checkpoint.step);
        if self.last.is_some_and(|last| step <= last[role]) {
            return vec![(checkpoint, "a pair at this step or a later one is already evaluated")];
        }
        self.newest[role] = self.newest[role].max(Some(step));
        self.quarantined[role].remove(&step);
        let mut obsolete = Vec::new();
        if let Some(old) = self.waiting[role].insert(step, checkpoint) {
            obsolete.push((old, "the step was saved again"));
        }
        obsolete.extend(self.pass_over());
        let waiting = &mut self.waiting[role];
        if let Some(beside) = &mut self.beside[role] {
            if self.to_come[role] > 0 {
                self.to_come[role] -= 1;
                *beside += 1;
            } else {
                // They go first, and nothing takes their place.
                *beside = (*beside).min(waiting.len().saturating_sub(1));
            }
            let most = beside.saturating_add(self.pairing.waiting);
            if waiting.len() > most
                && let Some((_, oldest)) = waiting.pop_first()
            {
                obsolete.push((oldest, TOO_MANY));
            }
        }
        obsolete
    }

    /// Notes that what an earlier life has kept is taken in. All of it may wait, and where that is more than
    /// `pairing.waiting`, no others beside it.
    pub fn note_recovered(&mut self) {
        for (beside, waiting) in self.beside.iter_mut().zip(&self.waiting) {
            *beside = Some(waiting.len().saturating_sub(self.pairing.waiting));
        }
    }

    /// Whether there may be too many that wait.
    pub fn are_bounded(&self) -> bool {
        self.pairing.waiting < usize::MAX
    }

    /// Notes how many checkpoints of a network are there at the start, and are to come: so many more may wait.
    pub fn note_there(&mut self, role: Role, count: usize) {
        self.to_come[role.index()] = count;
    }

    /// Notes a checkpoint that will not come, so that its partner's reason is true.
    pub fn note_quarantined(&mut self, role: Role, step: u64) {
        let quarantined = &mut self.quarantined[role.index()];
        quarantined.insert(step);
        if quarantined.len() > MOST_QUARANTINED {
            quarantined.pop_first();
        }
    }

    /// Takes back a pair that could not be evaluated, so that its step can be saved again: the
    /// checkpoints in `good` wait for another partner, or again for their turn.
    pub fn take_back(&mut self, last: Option<Steps>, good: Vec<Checkpoint>) {
        self.last = last;
        for good in good {
            self.waiting[good.role.index()].entry(good.step).or_insert(good);
        }
    }

    /// Nothing more will come: what waits for a nearer partner or a multiple waits no longer.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// More will come after all.
    pub fn go_on(&mut self) {
        self.is_over = false;
    }

    /// Whether a pair waits to be evaluated.
    pub fn is_ready(&self) -> bool {
        self.choose().is_some()
    }

    /// Steps of the last pair handed out, (target, baseline).
    pub fn last(&self) -> Option<Steps> {
        self.last
    }

    /// Takes out the next pair.
    pub fn take_next(&mut self) -> Option<Next> {
        let steps = self.choose()?;
        let matched = self.matches();
        let pair = match &self.fixed {
            Some(fixed) => [self.waiting[0].remove(&steps[0]), Some(fixed.clone())],
            None => [0, 1].map(|role| self.waiting[role].remove(&steps[role])),
        };
        self.last = Some(steps);
        let mut skipped = Vec::new();
        for role in Role::BOTH {
            let (index, step) = (role.index(), steps[role.index()]);
            let later = self.waiting[index].split_off(&step);
            for (step, old) in std::mem::replace(&mut self.waiting[index], later) {
                let is_matched = matched.iter().any(|pair| pair[index] == step);
                skipped.push((old, self.reason(role, step, is_matched)));
            }
        }
        let [Some(target), Some(baseline)] = pair else { return None };
        Some(Next { pair: [target, baseline], skipped })
    }

    /// Checkpoints that wait, by network.
    pub fn waiting(&self) -> [usize; 2] {
        [self.waiting[0].len(), self.waiting[1].len()]
    }

    /// Takes out everything that still waits, at the end of a run, with the reason.
    pub fn drain(&mut self) -> Vec<(Checkpoint, &'static str)> {
        let all = std::mem::take(&mut self.waiting).into_iter().flat_map(BTreeMap::into_values);
        all.map(|checkpoint| {
            let reason = match self.is_partner_quarantined(checkpoint.role, checkpoint.step) {
                true => PARTNER_QUARANTINED,
                false => "its partner never came",
            };
            (checkpoint, reason)
        })
        .collect()
    }

    /// Why a checkpoint below the pair that was just taken out is skipped.
    fn reason(&self, role: Role, step: u64, is_matched: bool) -> &'static str {
        match self.pairing.order {
            Order::Latest if is_matched => "a later pair was there, and `order: latest` takes that",
            Order::EveryN(_) if is_matched => PASSED_OVER,
            _ if self.is_partner_quarantined(role, step) => PARTNER_QUARANTINED,
            _ => "no partner came before a later pair was evaluated",
        }
    }

    fn is_partner_quarantined(&self, role: Role, step: u64) -> bool {
        let near = step.saturating_sub(self.pairing.tolerance)
            ..=step.saturating_add(self.pairing.tolerance);
        self.quarantined[1 - role.index()].range(near).next().is_some()
    }

    /// All partners, by ascending step of the target.
    fn matches(&self) -> Vec<Steps> {
        let [targets, baselines] = &self.waiting;
        if self.fixed.is_some() {
            return targets.keys().map(|&step| [step, step]).collect();
        }
        let tolerance = self.pairing.tolerance;
        if tolerance == 0 {
            let both = targets.keys().filter(|step| baselines.contains_key(step));
            return both.map(|&step| [step, step]).collect();
        }
        let mut near: Vec<(u64, Steps)> = Vec::new();
        for &target in targets.keys() {
            let range = target.saturating_sub(tolerance)..=target.saturating_add(tolerance);
            near.extend(baselines.range(range).map(|(&b, _)| (target.abs_diff(b), [target, b])));
        }
        near.sort_unstable();
        let mut taken = [BTreeSet::new(), BTreeSet::new()];
        near.retain(|(_, steps)| {
            let is_free = (0..2).all(|role| !taken[role].contains(&steps[role]));
            if is_free {
                taken.iter_mut().zip(steps).for_each(|(taken, step)| taken.extend([*step]));
            }
            is_free
        });
        near.sort_unstable_by_key(|(_, steps)| *steps);
        near.into_iter().map(|(_, steps)| steps).collect()
    }

    /// Whether nothing that is still to come can be nearer to either of them.
    fn is_certain(&self, [target, baseline]: Steps) -> bool {
        let distance = target.abs_diff(baseline);
        let has_passed = |role: Role, step: u64| {
            self.newest[role.index()]
                .is_some_and(|newest| newest >= step.saturating_add(distance) - 1)
        };
        distance == 0
            || self.is_over
            || (has_passed(Role::Baseline, target) && has_passed(Role::Target, baseline))
    }

    /// Whether `every_n` asks for a pair of this target step.
    fn is_due(&self, every: u64, step: u64) -> bool {
        self.last.is_none_or(|[last, _]| step / every > last / every)
    }

    /// The next pair to evaluate.
    fn choose(&self) -> Option<Steps> {
        let matched = self.matches();
        let mut certain = matched.iter().copied().filter(|&steps| self.is_certain(steps));
        match self.pairing.order {
            Order::Latest => certain.next_back(),
            Order::EveryN(every) => {
                let due = certain.clone().find(|&[step, _]| self.is_due(every, step));
                due.or_else(|| certain.next_back().filter(|_| self.is_over))
            }
            Order::Every => {
                // Nothing may cross a certain pair, so what lies below it in both is certain too.
                let [target, baseline] = certain.next()?;
                matched.into_iter().find(|steps| steps[0] <= target && steps[1] <= baseline)
            }
        }
    }

    /// Takes out the pairs that `every_n` does not ask for, but for the newest: it may be the last of all.
    fn pass_over(&mut self) -> Vec<(Checkpoint, &'static str)> {
        let Order::EveryN(every) = self.pairing.order else { return Vec::new() };
        // They are passed over with the next pair.
        if self.pairing.waiting == usize::MAX {
            return Vec::new();
        }
        let certain = self.matches().into_iter().filter(|&steps| self.is_certain(steps));
        let mut over: Vec<Steps> =
            certain.take_while(|&[step, _]| !self.is_due(every, step)).collect();
        over.pop();
        let mut skipped = Vec::new();
        for steps in over {
            for (waiting, step) in self.waiting.iter_mut().zip(steps) {
                skipped.extend(waiting.remove(&step).map(|checkpoint| (checkpoint, PASSED_OVER)));
            }
        }
        skipped
    }
}

const PARTNER_QUARANTINED: &str = "its partner was quarantined";
const PASSED_OVER: &str = "`order: every_n` passes it over";

#[cfg(test)]
#[path = "pairing_tests.rs"]
mod tests;
