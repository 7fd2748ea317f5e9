//! Checkpoint directories that are late, vanish, or hold a step twice.

use crate::bench::{Bench, assert_says, eventually};

#[test]
fn run_waits_for_a_directory_and_goes_on_when_it_appears() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    let (there, away) = (bench.path("baseline"), bench.path("away"));
    std::fs::rename(&there, &away).unwrap();
    let mut running = bench.follow();
    running.says(&format!("waiting: `{}` is not there yet", there.display()));
    assert!(bench.pairs().is_empty());
    std::fs::rename(&away, &there).unwrap();
    eventually("both pairs are evaluated", || bench.pairs().len() == 2);
    bench.end_training();
    running.finish().expect(0, &[]);
    assert_eq!(bench.pairs().len(), 2);
}

#[test]
fn once_does_not_wait_for_a_directory() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    std::fs::remove_dir_all(bench.path("baseline")).unwrap();
    let there = bench.path("baseline").display().to_string();
    bench.once().expect(65, &["baseline network", &there, "is not there yet", "without it waits"]);
    std::fs::write(&there, "a file").unwrap();
    bench.once().expect(65, &["baseline network", &there, "cannot be listed: Not a directory"]);
    std::fs::remove_file(&there).unwrap();
    bench.add_step("baseline", 1);
    bench.once().expect(0, &[]);
    assert_eq!(bench.pairs().len(), 1, "what was refused is evaluated later");
}

#[test]
fn a_directory_that_vanishes_and_comes_back_is_followed_again() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let mut running = bench.follow();
    eventually("the first pair is evaluated", || bench.pairs().len() == 1);
    std::fs::remove_dir_all(bench.path("target")).unwrap();
    running.says(&format!("waiting: `{}` is not there", bench.path("target").display()));
    for step in [1, 2] {
        bench.add_step("target", step);
    }
    bench.add_step("baseline", 2);
    eventually("the second pair is evaluated", || bench.pairs().len() == 2);
    bench.end_training();
    running.finish().expect(0, &[]);
    let saved = bench.rows(
        "SELECT outcome, reason FROM checkpoint WHERE network = 'target' AND step = 1
         ORDER BY time",
    );
    assert_eq!(saved.len(), 2, "the file that came back is another one: {saved:?}");
    assert_eq!(saved[0][0], "evaluated");
    assert_eq!(
        (saved[1][0].as_str(), saved[1][1].contains("already evaluated")),
        ("skipped", true)
    );
    bench.assert_no_pins();
}

#[test]
fn a_step_saved_again_after_its_evaluation_is_skipped_with_its_reason() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let running = bench.follow();
    eventually("the first pair is evaluated", || bench.pairs().len() == 1);
    let pairs = bench.pairs();
    bench.put("checkpoints/other.safetensors", "target/step-00000001.safetensors");
    let skipped =
        || bench.rows("SELECT network, step, reason FROM checkpoint WHERE outcome = 'skipped'");
    eventually("the new file is skipped", || skipped().len() == 1);
    bench.end_training();
    running.finish().expect(0, &[]);
    let reason = "a pair at this step or a later one is already evaluated";
    assert_eq!(skipped(), [["target", "1", reason]]);
    assert_eq!(bench.pairs(), pairs, "what was evaluated stands");
    bench.assert_no_pins();
}

#[test]
fn without_events_of_the_file_system_directories_are_polled() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("compute:", "watch: {poll: 200ms}\ncompute:")]);
    let Some(mut running) = bench.start_without_events(&["run", "-c", "run.yaml"]) else { return };
    running.says("polled: no events can be had");
    eventually("the first pair is evaluated", || bench.pairs().len() == 1);
    bench.add_step("target", 2);
    bench.add_step("baseline", 2);
    eventually("the second pair is evaluated", || bench.pairs().len() == 2);
    bench.end_training();
    running.finish().expect(0, &["the limits are in `sysctl fs.inotify`"]);
    let doctor = bench.start_without_events(&["doctor", "-c", "run.yaml"]).unwrap().finish();
    assert_says(&doctor.out, &["target watching: poll: no events can be had"]);
    let doctor = bench.command(&["doctor", "-c", "run.yaml"]);
    assert_says(&doctor.out, &["target watching: events: "]);
}
