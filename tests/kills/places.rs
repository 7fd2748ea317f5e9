//! The process dies at each place of a pair's way, each time that it comes there.

use crate::world::{Fate, Story, World, assert_same, undisturbed};
use convergd::failpoint::PLACES;

/// Dies at one place. A process after some that came no further may pass it as often as there were of them.
struct At {
    place: &'static str,
    before: Option<[usize; 9]>,
    stuck: usize,
}

/// More than there are in a run.
const MOST: usize = 60;

impl Fate for At {
    fn next(&mut self, world: &World) -> Option<String> {
        let now = Some(world.progress());
        let has_come_further = std::mem::replace(&mut self.before, now) != now;
        self.stuck = if has_come_further { 0 } else { self.stuck + 1 };
        assert!(world.kills < MOST, "{}: it comes no further", self.place);
        Some(format!("{}={}*off->return", self.place, self.stuck))
    }
}

fn assert_survived(story: Story, places: &[&'static str]) {
    let Some(wanted) = undisturbed(story) else { return };
    for place in places {
        let mut world = World::new(story).expect("the fixtures are there");
        let remains = world.play(&mut At { place, before: None, stuck: 0 });
        assert!(world.kills > 0, "nothing comes to `{place}`");
        eprintln!("{place}: {} kills", world.kills);
        assert_same(&remains, wanted, place);
    }
}

#[test]
fn every_place_is_in_a_test() {
    // The first thirty are taken below by their order; `ending.rs` has the first and the last of these.
    assert_eq!(PLACES[30..], ["end-recorded", "stop-released", "failure-recorded"]);
}

// Several tests, so that they run beside each other.

#[test]
fn a_kill_while_checkpoints_arrive_changes_nothing() {
    assert_survived(Story::Rules, &PLACES[..5]);
}

#[test]
fn a_kill_during_an_evaluation_changes_nothing() {
    assert_survived(Story::Rules, &PLACES[5..11]);
}

#[test]
fn a_kill_around_the_transaction_changes_nothing() {
    assert_survived(Story::Rules, &PLACES[11..15]);
}

#[test]
fn a_kill_around_the_control_file_changes_nothing() {
    assert_survived(Story::Rules, &PLACES[15..18]);
}

#[test]
fn a_kill_when_pins_go_or_answers_come_changes_nothing() {
    assert_survived(Story::Rules, &PLACES[18..22]);
}

#[test]
fn a_kill_between_the_last_pair_and_the_end_of_a_stopped_run_changes_nothing() {
    assert_survived(Story::Rules, &["stop-released"]);
}

#[test]
fn a_kill_while_a_person_is_obeyed_changes_nothing() {
    assert_survived(Story::Persons, &PLACES[22..25]);
}

#[test]
fn a_kill_on_a_rung_or_when_a_webhook_has_been_told_changes_nothing() {
    assert_survived(Story::Persons, &PLACES[25..30]);
}

#[test]
fn a_kill_after_the_transaction_of_a_pair_keeps_no_news_back() {
    assert_survived(Story::Persons, &["pair-inserted", "committed"]);
}

#[test]
fn a_kill_around_the_control_file_of_a_person_changes_nothing() {
    assert_survived(Story::Persons, &PLACES[15..18]);
}
