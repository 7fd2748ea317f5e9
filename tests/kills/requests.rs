//! A run dies while it does what a person has asked for.

use crate::bench::{Bench, Running, convergd, eventually};
use convergd::clock::now;
use convergd::config::Config;
use convergd::history::StateLock;
use convergd::person::decide_alone;
use convergd::person::requests::{Desk, Wish};
use convergd::policy::Intervention;
use std::time::Duration;

/// A run with a pair that dies at a place.
fn dying(bench: &Bench, place: &str) -> Running {
    let mut command = convergd(&["run", "-c", "run.yaml"]);
    command.env("FAILPOINTS", format!("{place}=return"));
    let directory = bench.path(".");
    let running = Running::start(command.current_dir(&directory), &directory);
    eventually("the pair is evaluated", || bench.pairs().len() == 1);
    running
}

#[test]
fn what_was_done_before_a_kill_is_no_refusal_and_is_delivered() {
    for place in ["request-taken", "intervention-recorded", "request-answered"] {
        let Some(bench) = Bench::with_steps(&[1]) else { return };
        let running = dying(&bench, place);
        let stop = bench.command(&["stop", "-c", "run.yaml"]);
        let out = &stop.expect(0, &[]).out;
        let wanted = "stop at step 1 as `manual-1@1`, generation 1; it is in the control file";
        assert!(out.starts_with(wanted), "{place}: {out}");
        assert_eq!(running.finish().code, None, "{place}");
        assert_eq!(bench.rows("SELECT id FROM decision"), [["manual-1@1"]], "{place}");
    }
}

#[test]
fn the_next_run_answers_what_was_done_and_does_what_was_not() {
    for place in ["request-taken", "intervention-recorded"] {
        let Some(bench) = Bench::with_steps(&[1]) else { return };
        let running = dying(&bench, place);
        let desk = Desk::of(&bench.path("state"));
        let wish = Wish::Decide(Intervention::Stop { reason: "enough".to_owned() });
        let id = desk.ask(wish, now(), Duration::from_secs(120)).unwrap();
        assert_eq!(running.finish().code, None, "{place}");
        bench.end_training();
        let next = bench.follow();
        let mut reply = None;
        eventually("it is answered", || {
            reply = desk.reply(&id);
            reply.is_some()
        });
        next.finish().expect(10, &[]);
        let reply = reply.unwrap();
        assert_eq!((reply.refused, reply.generation), (None, Some(1)), "{place}");
        assert!(reply.delivered, "{place}");
        assert_eq!(bench.rows("SELECT id FROM decision"), [["manual-1@1"]], "{place}");
        assert_eq!(desk.unanswered(), [""; 0], "{place}");
    }
}

#[test]
fn what_another_decision_has_followed_is_not_delivered_after_it() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.once().expect(0, &[]);
    let phase = ["phase", "-c", "run.yaml", "--to", "on", "--lambda", "0.5"];
    let mut command = convergd(&phase);
    command.env("FAILPOINTS", "intervention-recorded=return").current_dir(bench.path("."));
    assert_eq!(Running::start(&mut command, &bench.path(".")).finish().code, None);
    bench.change("UPDATE decision SET request = 'asked'");
    bench.command(&["stop", "-c", "run.yaml"]).expect(0, &[]);
    let config = Config::load(&bench.path("run.yaml")).unwrap();
    let lock = StateLock::take(&config.state).unwrap();
    let stop = Intervention::Stop { reason: "not read".to_owned() };
    let row = decide_alone(&config, stop, Some("asked"), &lock).unwrap().unwrap();
    assert_eq!((row.decision.action.as_str(), row.document.generation), ("phase", 1));
    assert_eq!(row.delivered, None);
    let control = std::fs::read_to_string(bench.path("control/control.json")).unwrap();
    assert!(
        control.contains("\"generation\":2") || control.contains("\"generation\": 2"),
        "{control}"
    );
}
