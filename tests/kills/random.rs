//! The process is killed at random times.

use crate::world::{Fate, Story, World, assert_same, undisturbed};
use std::time::{Duration, Instant};

/// Over several runs, since each is soon over.
const KILLS: usize = 24;
/// In milliseconds after a start: from before it has read its state to when it waits for checkpoints.
const TIMES: std::ops::Range<u64> = 20..900;

struct AtRandom {
    random: fastrand::Rng,
    next: Option<Instant>,
    before: [usize; 9],
    /// Kills since it came further: on a busy machine it needs more time than others.
    stuck: u32,
}

impl AtRandom {
    fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), next: None, before: [0; 9], stuck: 0 }
    }
}

impl Fate for AtRandom {
    fn next(&mut self, world: &World) -> Option<String> {
        let now = world.progress();
        let has_come_further = std::mem::replace(&mut self.before, now) != now;
        self.stuck = if has_come_further { 0 } else { self.stuck + 1 };
        let after = Duration::from_millis(self.random.u64(TIMES)) * (1 + self.stuck / 3);
        self.next = Some(Instant::now() + after);
        None
    }

    fn strikes(&mut self) -> bool {
        let is_time = self.next.is_some_and(|next| Instant::now() >= next);
        if is_time {
            self.next = None;
        }
        is_time
    }
}

fn assert_survived(story: Story, seed: u64) {
    let Some(wanted) = undisturbed(story) else { return };
    eprintln!("seed {seed}; `CONVERGD_TEST_SEED={seed}` repeats it");
    let mut fate = AtRandom::new(seed);
    let mut kills = 0;
    while kills < KILLS {
        let mut world = World::new(story).expect("the fixtures are there");
        let remains = world.play(&mut fate);
        kills += world.kills;
        eprintln!("seed {seed}: {kills} kills");
        assert_same(&remains, wanted, &format!("seed {seed}, after {} kills", world.kills));
    }
}

/// The seed of the environment, or this one.
fn seed(default: u64) -> u64 {
    std::env::var("CONVERGD_TEST_SEED").map_or(default, |seed| seed.parse().expect("a number"))
}

#[test]
fn kills_at_random_times_change_nothing() {
    assert_survived(Story::Rules, seed(1));
}

#[test]
fn kills_at_other_random_times_change_nothing() {
    assert_survived(Story::Rules, seed(2));
}

#[test]
fn kills_at_random_times_while_persons_decide_change_nothing() {
    assert_survived(Story::Persons, seed(3));
}
