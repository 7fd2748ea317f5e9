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

    fn hang_up(running: &mut Running, times: usize) {
        let pid = rustix::process::Pid::from_raw(running.pid() as i32).unwrap();
        // Before that a signal would end it.
        running.says("started");
        let said = |running: &Running| running.err().matches("is reloaded").count();
        while said(running) < times {
            let before = said(running);
            rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
            eventually("it is reloaded", || said(running) > before);
        }
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

#[test]
fn a_rung_comes_in_the_time_of_the_run_also_after_a_restart() {
    for hours in [-5, 5] {
        let Some(clock) = Clock::new() else { return };
        let ladder = "acknowledge: 3h, exec: true, escalate: [\
            {after: 1h, do: {exec: {command: [sh, -c, 'echo ran >> ran']}}}]}";
        clock.0.configure(&[("step: 100", "step: 1"), ("acknowledge: 60s}", ladder)]);
        let mut running = clock.run(&[]);
        eventually("it is at work", || clock.0.path("control/control.json").exists());
        // The decision is delivered while the clock goes five hours wrong.
        clock.turn(hours);
        clock.add(1);
        let delivered = "SELECT * FROM decision WHERE delivered IS NOT NULL";
        eventually("it is delivered", || clock.0.rows(delivered).len() == 1);
        let assert_none = || {
            let rungs = clock.0.rows("SELECT * FROM escalation");
            assert_eq!(rungs, Vec::<Vec<String>>::new(), "{hours} hours");
        };
        // At least one look at the ladder lies between two of them.
        Clock::hang_up(&mut running, 2);
        assert_none();
        drop(running);
        clock.turn(0);
        let mut running = clock.run(&[]);
        Clock::hang_up(&mut running, 2);
        clock.0.end_training();
        running.finish().expect(10, &[]);
        assert_none();
    }
}

#[test]
fn what_a_person_decides_comes_after_the_pair_before_it_also_by_a_clock_that_goes_slow() {
    let Some(clock) = Clock::new() else { return };
    clock.add(1);
    let running = clock.run(&[]);
    eventually("the pair is stored", || clock.times().len() == 1);
    clock.turn(-5);
    let phase = ["phase", "-c", "run.yaml", "--to", "on", "--lambda", "0.5"];
    clock.0.command(&phase).expect(0, &[]);
    clock.0.end_training();
    running.finish().expect(0, &[]);
    let rows = clock.0.rows("SELECT time FROM intervention ORDER BY number");
    let times: Vec<f64> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(times[1] >= clock.times()[0] && times[1] - times[0] < 600.0, "{times:?}");
    clock.assert_replayed(1);
}
