//! Matches checkpoints of the two networks by step. Pure: no files, no clock.

use super::Checkpoint;
use crate::role::Role;
use std::collections::BTreeMap;

/// Checkpoints of one network that wait; each keeps a file alive that its trainer may have removed.
const MOST_WAITING: usize = 256;

/// Which pairs are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairing {
    /// Only the newest complete pair, instead of every one; older ones are skipped.
    pub latest: bool,
}

/// A pair to be evaluated.
#[derive(Debug)]
pub struct Next {
    /// (target, baseline), of one step.
    pub pair: [Checkpoint; 2],
    /// What is skipped for it, with the reason: checkpoints without a partner at lower steps, and with
    /// `latest` the older pairs.
    pub skipped: Vec<(Checkpoint, &'static str)>,
}

/// Checkpoints that wait for their partner, and pairs that wait to be evaluated.
#[derive(Debug, Default)]
pub struct Pairs {
    pairing: Pairing,
    waiting: [BTreeMap<u64, Checkpoint>; 2],
    /// Step of the last pair handed out or evaluated in an earlier life.
    last: Option<u64>,
}

impl Pairs {
    /// Starts behind the last pair of an earlier life.
    pub fn new(pairing: Pairing, last: Option<u64>) -> Self {
        Self { pairing, waiting: Default::default(), last }
    }

    /// Takes a checkpoint; gives back those that it makes obsolete, with the reason: itself when its
    /// step is over, an earlier save of the same step, or the oldest of too many.
    pub fn add(&mut self, checkpoint: Checkpoint) -> Vec<(Checkpoint, &'static str)> {
        if self.last.is_some_and(|last| checkpoint.step <= last) {
            return vec![(checkpoint, "a pair at this step or a later one is already evaluated")];
        }
        let waiting = &mut self.waiting[checkpoint.role.index()];
        let mut obsolete = Vec::new();
        if let Some(old) = waiting.insert(checkpoint.step, checkpoint) {
            obsolete.push((old, "the step was saved again"));
        }
        if waiting.len() > MOST_WAITING
            && let Some((_, oldest)) = waiting.pop_first()
        {
            obsolete.push((oldest, "too many checkpoints wait for their partner"));
        }
        obsolete
    }

    /// Takes back a pair that could not be evaluated, so that its step can be saved again: the
    /// checkpoints in `good` wait for another partner.
    pub fn take_back(&mut self, last: Option<u64>, good: Option<Checkpoint>) {
        self.last = last;
        if let Some(good) = good {
            self.waiting[good.role.index()].entry(good.step).or_insert(good);
        }
    }

    /// Whether a complete pair waits.
    pub fn is_ready(&self) -> bool {
        let [target, baseline] = &self.waiting;
        target.keys().any(|step| baseline.contains_key(step))
    }

    /// Step of the last pair handed out.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// Takes out the next pair.
    pub fn take_next(&mut self) -> Option<Next> {
        let [target, baseline] = &self.waiting;
        let mut complete = target.keys().filter(|step| baseline.contains_key(step));
        let step = match self.pairing.latest {
            true => *complete.next_back()?,
            false => *complete.next()?,
        };
        self.last = Some(step);
        let pair = Role::BOTH.map(|role| self.waiting[role.index()].remove(&step));
        let mut skipped = Vec::new();
        for waiting in &mut self.waiting {
            let later = waiting.split_off(&step);
            let older = std::mem::replace(waiting, later);
            skipped.extend(older.into_values().map(|old| (old, "a later pair came first")));
        }
        let [Some(target), Some(baseline)] = pair else { return None };
        Some(Next { pair: [target, baseline], skipped })
    }

    /// Checkpoints that wait, by network.
    pub fn waiting(&self) -> [usize; 2] {
        [self.waiting[0].len(), self.waiting[1].len()]
    }

    /// Takes out everything that still waits, at the end of a run.
    pub fn drain(&mut self) -> Vec<Checkpoint> {
        self.waiting.iter_mut().flat_map(|waiting| std::mem::take(waiting).into_values()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(role: Role, step: u64) -> Checkpoint {
        let path = format!("{role}/{step}").into();
        Checkpoint { role, step, path, pin: "pin".into(), identity: format!("{role}{step}") }
    }

    fn filled(pairing: Pairing, target: &[u64], baseline: &[u64]) -> Pairs {
        let mut pairs = Pairs::new(pairing, None);
        for (role, steps) in [(Role::Target, target), (Role::Baseline, baseline)] {
            for &step in steps {
                assert!(pairs.add(checkpoint(role, step)).is_empty());
            }
        }
        pairs
    }

    fn steps(pairs: &mut Pairs) -> (Vec<u64>, Vec<(Role, u64)>) {
        let (mut evaluated, mut skipped) = (Vec::new(), Vec::new());
        while let Some(Next { pair: [target, baseline], skipped: left_out }) = pairs.take_next() {
            assert_eq!(target.step, baseline.step);
            evaluated.push(target.step);
            skipped.extend(left_out.into_iter().map(|(c, _)| (c.role, c.step)));
        }
        (evaluated, skipped)
    }

    #[test]
    fn every_pair_comes_in_order_and_the_odd_ones_are_skipped() {
        let mut pairs = filled(Pairing::default(), &[1, 2, 3, 5, 6], &[2, 5, 1, 4]);
        let (evaluated, skipped) = steps(&mut pairs);
        assert_eq!(evaluated, [1, 2, 5]);
        assert_eq!(skipped, [(Role::Target, 3), (Role::Baseline, 4)]);
        assert_eq!(pairs.waiting(), [1, 0], "step 6 still waits for its partner");
    }

    #[test]
    fn the_latest_pair_skips_the_older_ones() {
        let mut pairs = filled(Pairing { latest: true }, &[1, 2, 3], &[1, 2]);
        let (evaluated, skipped) = steps(&mut pairs);
        assert_eq!((evaluated, skipped), (vec![2], vec![(Role::Target, 1), (Role::Baseline, 1)]));
    }

    #[test]
    fn what_comes_late_is_given_back_with_its_reason() {
        let mut pairs = Pairs::new(Pairing::default(), Some(7));
        let (late, reason) = pairs.add(checkpoint(Role::Target, 7)).remove(0);
        assert_eq!(late.step, 7);
        assert!(reason.contains("already evaluated"));
        assert!(pairs.add(checkpoint(Role::Target, 8)).is_empty());
        let (old, _) = pairs.add(checkpoint(Role::Target, 8)).remove(0);
        assert_eq!(old.step, 8);
    }

    #[test]
    fn of_too_many_that_wait_the_oldest_is_given_back() {
        let mut pairs = Pairs::new(Pairing::default(), None);
        let most = MOST_WAITING as u64;
        assert!((1..=most).all(|step| pairs.add(checkpoint(Role::Target, step)).is_empty()));
        let given_back = pairs.add(checkpoint(Role::Target, most + 1));
        assert_eq!(given_back.iter().map(|(c, _)| c.step).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_pair_that_was_taken_back_can_be_completed_again() {
        let mut pairs = filled(Pairing::default(), &[1, 2], &[1, 2]);
        let Next { pair: [target, _], .. } = pairs.take_next().expect("a pair");
        pairs.take_back(None, Some(target));
        assert!(pairs.add(checkpoint(Role::Baseline, 1)).is_empty(), "saved again");
        assert_eq!(steps(&mut pairs).0, [1, 2]);
    }
}
