//! The process dies when it has stored that the training has ended, or what the run could not go on with.

use crate::bench::{Bench, Running, eventually};
use crate::failing;
use crate::receiver::Receiver;

fn run(bench: &Bench, places: &str) -> Running {
    failing::start(bench, &["run", "-c", "run.yaml"], places)
}

#[test]
fn an_end_that_was_stored_is_told_once_by_the_next_start() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    let receiver = Receiver::start(&[]);
    let notify = format!("notify: [{{name: ops, url: '{}'}}]\ncontrol:", receiver.url("/"));
    bench.configure(&[("control:", &notify)]);
    let running = run(&bench, "end-recorded=return");
    eventually("both pairs are evaluated", || bench.pairs().len() == 2);
    bench.end_training();
    let killed = running.finish();
    assert_eq!(killed.code, None, "{}", killed.err);
    assert_eq!(receiver.requests().len(), 0, "nobody was told yet");
    let ended = bench.status()["ended"].clone();
    assert!(ended.as_str().is_some_and(|why| why.contains("done-target")), "{ended}");
    run(&bench, "").finish().expect(0, &[]);
    assert_eq!(bench.status()["ended"], ended);
    let told: Vec<String> =
        receiver.requests().iter().map(|request| request.body.clone()).collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("done-target"), "{told:#?}");
    assert_eq!(bench.pairs().len(), 2);
}

#[test]
fn an_error_that_was_stored_is_told_until_the_run_goes_on() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.once().expect(0, &[]);
    bench.configure(&[("noise: 0.01", "noise: 0.02")]);
    let killed = run(&bench, "failure-recorded=return").finish();
    assert_eq!(killed.code, None, "{}", killed.err);
    let error = bench.status()["failed"]["error"].clone();
    assert!(error.as_str().is_some_and(|error| error.contains("`interactions.noise`")), "{error}");
    // It is none of the settings that a report shows or an export holds.
    let export = bench.command(&["export", "--format", "json", "-c", "run.yaml"]);
    assert!(!export.out.contains("was begun with"), "{}", export.out);
    bench.configure(&[]);
    bench.once().expect(0, &[]);
    assert!(bench.status()["failed"].is_null());
}
