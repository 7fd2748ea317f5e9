//! The clock of the system is turned back and forth.

use crate::bench::{Bench, Running, convergd, eventually};
use crate::world::{NEXT_RULE, RULE};

/// Each of them counts hours.
const RULES: [&str; 2] = [
    "- {id: budget, when: {reached: {duration: 1h}}, then: {stop: {}}}",
    "- {id: late, when: {peaked: {metric: probe_loss, patience: {duration: 1h}}}, then: {stop: {}}}",
];

struct Clock(Bench);

impl Clock {
    fn new() -> Option<Self> {
        let bench = Bench::empty()?;
        let rules = RULES.join(NEXT_RULE);
        bench.configure(&[(RULE, &rules), ("compute:", "end: {idle: 2h}\ncompute:")]);
        let clock = Self(bench);
        clock.turn(0);
        Some(clock)
    }

    /// Sets the clock to so many hours from the right time.
    fn turn(&self, hours: i64) {
        let (file, partial) = (self.0.path("offset"), self.0.path("offset.tmp"));
        std::fs::write(&partial, (3600 * hours).to_string()).unwrap();
        std::fs::rename(partial, file).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Running {
        let file = self.0.path("offset");
        let mut command = convergd(&[&["run", "-c", "run.yaml"], arguments].concat());
        command.env("FAILPOINTS", format!("clock=return({})", file.display()));
        Running::start(command.current_dir(self.0.path(".")), &self.0.path("."))
    }

    fn add(&self, step: u64) {
        self.0.add_step("target", step);
        self.0.add_step("baseline", step);
    }

    fn times(&self) -> Vec<f64> {
        let rows = self.0.rows("SELECT time FROM pair ORDER BY step");
        rows.iter().map(|row| row[0].parse().unwrap()).collect()
    }

    fn assert_replayed(&self, decisions: usize) {
        let replay = self.0.command(&["replay", "--json", "-c", "run.yaml"]);
        replay.expect(0, &[]);
        let replay: serde_json::Value = serde_json::from_str(&replay.out).unwrap();
        assert_eq!(replay["policies"][0]["as_decided"], true, "{replay}");
        assert_eq!(replay["decided"].as_array().unwrap().len(), decisions);
    }
}

#[test]
fn a_clock_that_is_turned_while_the_run_goes_on_changes_nothing() {
    let Some(clock) = Clock::new() else { return };
    let running = clock.run(&[]);
    for (step, hours) in [(1, 0), (2, 5), (3, -1_000_000)] {
        clock.turn(hours);
        clock.add(step);
        eventually("the pair is stored", || clock.times().len() == step as usize);
    }
    clock.0.end_training();
    running.finish().expect(0, &[]);
    let times = clock.times();
    assert!(times.is_sorted() && times[2] - times[0] < 600.0, "{times:?}");
    clock.assert_replayed(0);
}

#[test]
fn between_two_starts_back_is_no_time_and_forth_is_time_that_has_passed() {
    let Some(clock) = Clock::new() else { return };
    clock.add(1);
    clock.run(&["--once"]).finish().expect(0, &[]);
    clock.turn(-5);
    clock.add(2);
    clock.run(&["--once"]).finish().expect(0, &[]);
    let times = clock.times();
    assert!(times.is_sorted() && times[1] - times[0] < 600.0, "{times:?}");
    clock.turn(2);
    clock.add(3);
    clock.run(&["--once"]).finish().expect(10, &["reached the budget of 3600 s"]);
    let times = clock.times();
    assert!(times[2] - times[1] > 3600.0, "{times:?}");
    clock.assert_replayed(1);
}
