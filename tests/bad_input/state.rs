//! State directories that cannot be used.

use crate::bench::{Bench, eventually};

#[test]
fn a_state_directory_that_cannot_be_made_is_refused() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    for state in ["probe.safetensors/state", "/proc/convergd/state"] {
        bench.configure(&[("state: state", &format!("state: {state}"))]);
        let parts = [state, "cannot be used: ", "give another `state` or its rights"];
        bench.once().expect(65, &parts);
        bench.command(&["run", "-c", "run.yaml"]).expect(65, &parts);
        bench.command(&["status", "-c", "run.yaml"]).expect(65, &[state, "`convergd run` makes"]);
    }
    assert!(!bench.path("control").exists());
}

#[test]
fn a_history_that_is_no_database_is_refused_and_left_as_it_is() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let file = bench.path("state/history.sqlite");
    std::fs::create_dir(bench.path("state")).unwrap();
    let text = "this is no database, but somebody may want it\n".repeat(100);
    std::fs::write(&file, &text).unwrap();
    for command in [&["run", "--once"][..], &["status"], &["report"]] {
        let finished = bench.command(&[command, &["-c", "run.yaml"]].concat());
        finished.expect(65, &[bench.path("state").to_str().unwrap(), "file is not a database"]);
        assert_eq!(finished.err.matches("file is not a database").count(), 1, "{}", finished.err);
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), text);
}

#[test]
fn a_second_instance_is_refused_and_the_first_goes_on() {
    let Some(bench) = Bench::empty() else { return };
    let mut first = bench.follow();
    first.says("waiting: ");
    let holder = format!("is held by another convergd (process {})", first.pid());
    for arguments in [&["run", "-c", "run.yaml"][..], &["run", "--once", "-c", "run.yaml"]] {
        let finished = bench.command(arguments);
        finished.expect(75, &[bench.path("state").to_str().unwrap(), &holder, "another `state`"]);
    }
    assert!(first.is_alive());
    bench.add_step("target", 1);
    bench.add_step("baseline", 1);
    eventually("the first evaluates", || bench.pairs().len() == 1);
    bench.end_training();
    first.finish().expect(0, &[]);
    bench.once().expect(0, &[]);
}

#[test]
fn a_state_is_refused_for_other_checkpoint_directories() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.once().expect(0, &[]);
    let pairs = bench.pairs();
    for network in ["target", "baseline"] {
        let directory = format!("{network}: {{checkpoints: {network}}}");
        bench.configure(&[(&directory, &format!("{network}: {{checkpoints: other}}"))]);
        let was = format!("was begun with {network} checkpoints {}", bench.path(network).display());
        bench.once().expect(64, &[&was, "give a new `state`"]);
        bench.command(&["run", "-c", "run.yaml"]).expect(64, &[&was]);
    }
    bench.configure(&[]);
    bench.once().expect(0, &[]);
    assert_eq!(bench.pairs(), pairs, "the run itself goes on");
}
