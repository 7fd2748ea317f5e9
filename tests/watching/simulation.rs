//! What must be reported, whatever the writer does and however many wake-ups are lost.

use crate::world::{LONG, Outcome, SHORT, Save, play, play_by, wall};
use convergd::layout::Layout;
use std::time::{Duration, SystemTime};

const LAYOUTS: [Layout; 2] = [Layout::Safetensors, Layout::Hf];
const MISSED: [f64; 4] = [0.0, 0.3, 0.9, 1.0];
/// The timer, and then twice the time in which something settles.
const SEEN_BY_THE_TIMER: Duration = Duration::from_millis(30_000 + 2 * 350);
/// The next look while something is not settled, and one more.
const SETTLED: Duration = Duration::from_millis(2 * 350);

fn assert_reported(outcome: &Outcome, must: impl Fn(&Save) -> bool, world: &str) {
    for (id, save) in outcome.saves.iter().enumerate() {
        let is_reported = outcome.reported.contains(&(id as u64));
        assert!(is_reported || !must(save), "not reported in {world}: save {id}, {save:?}");
    }
}

#[test]
fn a_watcher_that_misses_wake_ups_reports_what_a_perfect_one_does() {
    for layout in LAYOUTS {
        for seed in 0..6 {
            for missed in MISSED {
                let outcome = play(layout, seed, LONG, missed);
                let world = format!("{layout:?} of seed {seed}, missed {missed}");
                assert_eq!(outcome.saves.len(), 12);
                assert_reported(&outcome, |_| true, &world);
            }
        }
    }
}

#[test]
fn what_a_timer_can_see_is_reported_and_nothing_is_torn() {
    for layout in LAYOUTS {
        for seed in 100..125 {
            for missed in [0.3, 0.9, 1.0] {
                let outcome = play(layout, seed, SHORT, missed);
                let world = format!("{layout:?} of seed {seed}, missed {missed}");
                let must = |save: &Save| save.lived(outcome.end) >= SEEN_BY_THE_TIMER + save.span;
                assert_reported(&outcome, must, &world);
            }
        }
    }
}

/// A clock that is turned by hours every minute or so, first of all back.
fn turned(time: Duration) -> SystemTime {
    let hours = [0, -5, 3, -1][(time.as_secs() / 70 % 4) as usize];
    let offset = Duration::from_secs(3600 * i64::unsigned_abs(hours));
    if hours < 0 { wall(time) - offset } else { wall(time) + offset }
}

#[test]
fn a_clock_that_is_turned_takes_no_checkpoint_away() {
    for layout in LAYOUTS {
        for seed in 300..310 {
            for missed in [0.0, 0.9] {
                let outcome = play_by(turned, layout, seed, LONG, missed);
                let world =
                    format!("{layout:?} of seed {seed}, missed {missed}, by a turned clock");
                assert_reported(&outcome, |_| true, &world);
            }
        }
    }
}

/// The name may go at once: the link holds the bytes. Only a save in place writes over them, and what took a
/// while must stand as long.
#[test]
fn with_every_wake_up_each_save_is_reported_even_if_it_is_removed_at_once() {
    let mut removed_at_once = 0;
    for layout in LAYOUTS {
        for seed in 200..225 {
            let outcome = play(layout, seed, SHORT, 0.0);
            let destroyed_at_once =
                |save: &Save| save.destroyed.is_some_and(|then| then - save.complete < SETTLED);
            let stood = |save: &Save| {
                save.span < Duration::from_millis(100)
                    || save.lived(outcome.end) >= save.span + SETTLED
            };
            let must = |save: &Save| !destroyed_at_once(save) && stood(save);
            assert_reported(&outcome, must, &format!("{layout:?} of seed {seed}"));
            let at_once = |save: &&Save| {
                save.gone.is_some_and(|then| then - save.complete < Duration::from_millis(100))
            };
            removed_at_once += outcome.saves.iter().filter(at_once).count();
        }
    }
    assert!(removed_at_once > 5, "the worlds are too kind: {removed_at_once}");
}
