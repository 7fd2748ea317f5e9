//! Pairs, without any file.

use super::*;
use proptest::strategy::Strategy as _;
use std::ops::RangeInclusive;

fn checkpoint(role: Role, step: u64) -> Checkpoint {
    let path = format!("{role}/{step}").into();
    Checkpoint { role, step, path, pin: "pin".into(), identity: format!("{role}{step}") }
}

fn every_n(every: u64) -> Pairing {
    Pairing { order: Order::EveryN(every), ..Pairing::default() }
}

fn filled(pairing: Pairing, target: &[u64], baseline: &[u64]) -> Pairs {
    let mut pairs = Pairs::new(pairing, None, None);
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
        assert!(target.step.abs_diff(baseline.step) <= pairs.pairing.tolerance);
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
fn after_an_end_that_was_none_a_nearer_partner_is_waited_for_again() {
    let near = Pairing { tolerance: 1, ..Pairing::default() };
    let mut pairs = filled(near, &[1], &[2]);
    pairs.end();
    assert!(pairs.is_ready());
    pairs.go_on();
    assert!(!pairs.is_ready(), "target step 2 may still come");
    pairs.add(checkpoint(Role::Target, 2));
    assert_eq!(steps(&mut pairs).0, [2]);
}

#[test]
fn the_latest_pair_skips_the_older_ones() {
    let mut pairs =
        filled(Pairing { order: Order::Latest, ..Pairing::default() }, &[1, 2, 3], &[1, 2]);
    let (evaluated, skipped) = steps(&mut pairs);
    assert_eq!((evaluated, skipped), (vec![2], vec![(Role::Target, 1), (Role::Baseline, 1)]));
}

#[test]
fn what_comes_late_is_given_back_with_its_reason() {
    let mut pairs = Pairs::new(Pairing::default(), Some([7, 7]), None);
    let (late, reason) = pairs.add(checkpoint(Role::Target, 7)).remove(0);
    assert_eq!(late.step, 7);
    assert!(reason.contains("already evaluated"));
    assert!(pairs.add(checkpoint(Role::Target, 8)).is_empty());
    let (old, _) = pairs.add(checkpoint(Role::Target, 8)).remove(0);
    assert_eq!(old.step, 8);
}

#[test]
fn of_too_many_that_wait_the_oldest_is_given_back() {
    let given_back = |pairs: &mut Pairs, steps: RangeInclusive<u64>| -> Vec<u64> {
        let given = steps.flat_map(|step| pairs.add(checkpoint(Role::Target, step)));
        given.map(|(checkpoint, _)| checkpoint.step).collect()
    };
    let start = || Pairs::new(Pairing { waiting: 5, ..Pairing::default() }, None, None);
    let mut pairs = start();
    pairs.note_recovered();
    assert_eq!(given_back(&mut pairs, 1..=7), [1, 2]);
    // What an earlier life has kept may wait, and if that is more, nothing beside it.
    let mut pairs = start();
    assert_eq!(given_back(&mut pairs, 1..=3), [0_u64; 0]);
    pairs.note_recovered();
    assert_eq!(given_back(&mut pairs, 4..=6), [1]);
    let mut pairs = start();
    assert_eq!(given_back(&mut pairs, 1..=9), [0_u64; 0]);
    pairs.note_recovered();
    assert_eq!(given_back(&mut pairs, 10..=11), [1, 2]);
    // What is there at the start may wait, and as many as ever beside it, until it is gone.
    let mut pairs = start();
    pairs.note_recovered();
    Role::BOTH.iter().for_each(|role| pairs.note_there(*role, 100));
    assert_eq!(given_back(&mut pairs, 1..=100), [0_u64; 0]);
    for step in 1..=100 {
        assert!(pairs.add(checkpoint(Role::Baseline, step)).is_empty());
    }
    assert_eq!(pairs.take_next().expect("a pair").pair[0].step, 1);
    assert_eq!(given_back(&mut pairs, 101..=105), [0_u64; 0]);
    assert_eq!(given_back(&mut pairs, 106..=106), [2]);
    while pairs.take_next().is_some() {}
    assert_eq!(pairs.waiting(), [6, 0], "without partners");
    assert_eq!(given_back(&mut pairs, 107..=116).last(), Some(&105), "eleven wait");
}

#[test]
fn a_pair_that_was_taken_back_can_be_completed_again() {
    let mut pairs = filled(Pairing::default(), &[1, 2], &[1, 2]);
    let Next { pair: [target, _], .. } = pairs.take_next().expect("a pair");
    pairs.take_back(None, vec![target]);
    assert!(pairs.add(checkpoint(Role::Baseline, 1)).is_empty(), "saved again");
    assert_eq!(steps(&mut pairs).0, [1, 2]);
}

#[test]
fn every_n_takes_the_first_pair_at_or_beyond_each_multiple_and_the_last_of_all() {
    let saved: Vec<u64> = (1..=9).map(|n| 500 * n).collect();
    let mut pairs = Pairs::new(every_n(2000), None, None);
    let (mut evaluated, mut passed) = (Vec::new(), Vec::new());
    for &step in &saved {
        for role in Role::BOTH {
            passed.extend(pairs.add(checkpoint(role, step)).into_iter().map(|(c, _)| c.step));
            evaluated.extend(steps(&mut pairs).0);
        }
        assert!(pairs.waiting() <= [1, 1], "no more than one is kept alive for the end");
    }
    assert_eq!(evaluated, [500, 2000, 4000]);
    assert_eq!(passed, [1000, 1000, 2500, 2500, 3000, 3000], "the others go with the next pair");
    assert!(!pairs.is_ready());
    pairs.end();
    assert_eq!(steps(&mut pairs).0, [4500], "the last of all");
    // Epochs of 469 steps never meet a multiple.
    let epochs: Vec<u64> = (1..=9).map(|n| 469 * n).collect();
    let mut pairs = filled_in_one(every_n(1000), &epochs);
    assert_eq!(steps(&mut pairs).0, [469, 1407, 2345, 3283, 4221]);
}

fn filled_in_one(pairing: Pairing, saved: &[u64]) -> Pairs {
    let mut pairs = Pairs::new(pairing, None, None);
    for &step in saved {
        Role::BOTH.into_iter().for_each(|role| drop(pairs.add(checkpoint(role, step))));
    }
    pairs
}

#[test]
fn with_a_fixed_baseline_every_checkpoint_of_the_target_is_a_pair() {
    let fixed = checkpoint(Role::Baseline, 70_000);
    let mut pairs = Pairs::new(Pairing::default(), None, Some(fixed.clone()));
    for step in [1, 2, 3] {
        assert!(pairs.add(checkpoint(Role::Target, step)).is_empty());
        let Next { pair: [target, baseline], skipped } = pairs.take_next().expect("a pair");
        assert_eq!((target.step, &baseline, skipped.len()), (step, &fixed, 0));
    }
    assert_eq!(pairs.last().map(|last| last[0]), Some(3));
    assert!(pairs.drain().is_empty(), "it is not skipped at the end");
}

#[test]
fn reasons_tell_what_became_of_the_partner() {
    let mut pairs = filled(Pairing::default(), &[1, 2, 3, 4], &[3]);
    pairs.note_quarantined(Role::Baseline, 2);
    pairs.note_quarantined(Role::Baseline, 4);
    let Next { skipped, .. } = pairs.take_next().expect("a pair");
    let reasons: Vec<_> = skipped.into_iter().map(|(c, reason)| (c.step, reason)).collect();
    let never = "no partner came before a later pair was evaluated";
    assert_eq!(reasons, [(1, never), (2, PARTNER_QUARANTINED)]);
    assert_eq!(pairs.drain()[0].1, PARTNER_QUARANTINED);
}

/// Plays the arrivals of both networks, each in its own order, in a mixture chosen by `turns`.
fn evaluated(pairing: Pairing, saved: [&[u64]; 2], turns: &[bool]) -> Vec<Steps> {
    let mut pairs = Pairs::new(pairing, None, None);
    let mut left = saved.map(|steps| steps.iter());
    let mut turns = turns.iter().cycle();
    let mut evaluated = Vec::new();
    let mut take = |pairs: &mut Pairs| {
        while let Some(Next { pair: [target, baseline], .. }) = pairs.take_next() {
            evaluated.push([target.step, baseline.step]);
        }
    };
    while left.iter().any(|left| left.len() > 0) {
        let role = Role::BOTH[usize::from(*turns.next().expect("turns"))];
        if let Some(&step) = left[role.index()].next() {
            pairs.add(checkpoint(role, step));
            take(&mut pairs);
        } else if let Some(&step) = left[1 - role.index()].next() {
            pairs.add(checkpoint(Role::BOTH[1 - role.index()], step));
            take(&mut pairs);
        }
    }
    pairs.end();
    take(&mut pairs);
    evaluated
}

fn ascending(apart: u64) -> impl proptest::strategy::Strategy<Value = Vec<u64>> {
    use proptest::prelude::*;
    prop::collection::vec(apart..apart + 6, 0..12).prop_map(|gaps| {
        let mut step = 0;
        gaps.into_iter()
            .map(|gap| {
                step += gap;
                step
            })
            .collect()
    })
}

proptest::proptest! {
    #[test]
    fn partners_are_near_ascend_and_are_used_once(
        target in ascending(1), baseline in ascending(1), tolerance in 0u64..6,
        turns in proptest::collection::vec(proptest::bool::ANY, 2..9),
    ) {
        let pairing = Pairing { tolerance, ..Pairing::default() };
        let pairs = evaluated(pairing, [&target, &baseline], &turns);
        proptest::prop_assert!(pairs.iter().all(|[t, b]| t.abs_diff(*b) <= tolerance));
        proptest::prop_assert!(pairs.windows(2).all(|w| w[0][0] < w[1][0] && w[0][1] < w[1][1]));
        for step in target.iter().filter(|step| baseline.contains(step)) {
            let is_there = pairs.contains(&[*step, *step]);
            proptest::prop_assert!(is_there, "of one step, {} is missing: {:?}", step, pairs);
        }
    }

    /// Where neither saves more than once within the tolerance.
    #[test]
    fn the_order_of_arrival_changes_nothing(
        orders in 0usize..2,
        steps in (0u64..4).prop_flat_map(|t| (ascending(2 * t + 1), ascending(2 * t + 1), t..=t)),
        turns in proptest::collection::vec(proptest::bool::ANY, 2..9),
    ) {
        let (target, baseline, tolerance) = steps;
        let order = [Order::Every, Order::EveryN(5)][orders];
        let pairing = Pairing { tolerance, order, ..Pairing::default() };
        let one = evaluated(pairing, [&target, &baseline], &turns);
        let other = evaluated(pairing, [&target, &baseline], &[true, false]);
        proptest::prop_assert_eq!(one, other);
    }
}
