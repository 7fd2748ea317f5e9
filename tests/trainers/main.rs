//! Real trainers of Lightning and Hugging Face, each a process of its own that keeps only its last
//! checkpoint, with the real program attached from before the first one.
//!
//! `fixtures/train.py` is the training; what it wrote it says itself, with the values that PyTorch
//! computes from the same weights. Without the virtual environment the tests say so and end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;
mod killed;
mod pair;

use pair::{Pace, TrainingPair};

/// Every checkpoint that the trainers wrote is evaluated, though all but the last are gone.
fn assert_every_one_is_evaluated(trainer: &str, options: &[&str]) {
    let Some(pair) = TrainingPair::prepare("every", trainer) else { return };
    pair.train(Pace::Seen, options);
    let [target, baseline] = pair.written();
    let steps: Vec<u64> = target.iter().map(|checkpoint| checkpoint.step).collect();
    assert!(steps.len() >= 4, "{steps:?}");
    assert!(target.iter().rev().skip(1).all(|checkpoint| checkpoint.removed.is_some()));
    assert_eq!(steps, baseline.iter().map(|checkpoint| checkpoint.step).collect::<Vec<_>>());
    assert_eq!(pair.evaluated(), steps);
    assert_eq!(pair.outcomes(), vec![("evaluated".to_owned(), 2 * steps.len())]);
    pair.assert_values_are_those_of_pytorch(&steps);
    pair.assert_no_pins();
}

#[test]
fn lightning_by_steps_with_a_link_to_the_last() {
    assert_every_one_is_evaluated("lightning", &["--every", "15", "--save-last", "link"]);
}

#[test]
fn hugging_face_by_epochs() {
    assert_every_one_is_evaluated("hf", &["--every", "epoch"]);
}

/// Trainings that wait for nobody: a checkpoint that its trainer removes before a scan has seen it cannot be
/// had. All others are pinned, the last pair is always evaluated, and nothing torn is.
fn assert_free_trainings_lose_nothing_that_stays(trainer: &str, order: &str, every: &str) {
    let Some(pair) = TrainingPair::prepare(order, trainer) else { return };
    pair.train(Pace::Free, &["--every", every, "--epochs", "12"]);
    let written = pair.written();
    let evaluated = pair.evaluated();
    let both = |step: u64| {
        written.each_ref().map(|own| own.iter().find(|checkpoint| checkpoint.step == step))
    };
    assert!(evaluated.iter().all(|&step| both(step).iter().all(Option::is_some)), "{evaluated:?}");
    assert_eq!(evaluated.last(), written[0].last().map(|checkpoint| &checkpoint.step));
    let total = written[0].len();
    let known = pair.known();
    let shortest = known.iter().min_by(|a, b| a.total_cmp(b)).copied().unwrap_or(f64::NAN);
    eprintln!(
        "{trainer}, order {order}: {} of {total} pairs evaluated; {} of {} checkpoints pinned, the one \
         that lived shortest for {shortest:.3} s",
        evaluated.len(),
        known.len(),
        2 * total
    );
    pair.assert_values_are_those_of_pytorch(&evaluated);
    for (outcome, count) in pair.outcomes() {
        assert!(outcome == "evaluated" || outcome == "skipped", "{count} are {outcome}");
    }
    if order == "every" {
        // All but the last are gone when the trainings end: these were pinned in time.
        assert!(4 * evaluated.len() >= total, "{} of {total} pairs", evaluated.len());
        for own in &written {
            let stayed = own.iter().filter(|checkpoint| checkpoint.lifetime() > pair::SEEN_AFTER);
            assert!(stayed.clone().all(|checkpoint| pair.is_known(checkpoint)), "{stayed:?}");
        }
    }
    pair.assert_no_pins();
}

#[test]
fn free_lightning_trainings_and_the_newest_pair() {
    assert_free_trainings_lose_nothing_that_stays("lightning", "latest", "epoch");
}

#[test]
fn free_hugging_face_trainings_and_every_pair() {
    assert_free_trainings_lose_nothing_that_stays("hf", "every", "10");
}
