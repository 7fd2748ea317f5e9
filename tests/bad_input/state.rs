//! State directories that cannot be used.

use crate::bench::{Bench, assert_says, eventually};

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
    let held = format!("is held by the run of process {}; another ends with 75", first.pid());
    let doctor = bench.command(&["doctor", "-c", "run.yaml"]);
    doctor.expect(0, &[]);
    assert_says(&doctor.out, &["warn  state: `", &held]);
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

#[test]
fn a_history_is_exported_whole() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    bench.put("checkpoints/nan.safetensors", "target/step-00000002.safetensors");
    bench.configure(&[("{reached: {step: 100}}", "{reached: {step: 3}}")]);
    bench.once().expect(10, &[]);
    let zero = bench.command(&["run", "--once", "--exit-zero", "-c", "run.yaml"]);
    zero.expect(0, &["early-stopped"]);
    let csv = bench.command(&["export", "-c", "run.yaml"]);
    csv.expect(0, &[]);
    let read = "\
import csv, json, sys
rows = list(csv.DictReader(open('pairs.csv')))
print(json.dumps([[row['step'], row['finite'], row['probe_loss'], row['probe_loss_stderr']] for row in rows]))";
    std::fs::write(bench.path("pairs.csv"), &csv.out).unwrap();
    let rows: Vec<[String; 4]> = serde_json::from_str(&bench.python(read, &[])).unwrap();
    bench
        .command(&["export", "-c", "run.yaml", "--format", "json", "-o", "run.json"])
        .expect(0, &[]);
    let json = std::fs::read_to_string(bench.path("run.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    for (row, pair) in rows.iter().zip(json["pairs"].as_array().unwrap()) {
        assert_eq!(row[0], pair["step"].to_string());
        assert_eq!(row[1], pair["finite"].to_string());
        let loss = &pair["monitors"]["probe_loss"];
        // The same doubles, to the last bit; of a pair that is not finite there are none.
        let number = |text: &str| text.parse::<f64>().ok();
        assert_eq!(number(&row[2]), loss["value"].as_f64());
        assert_eq!(number(&row[3]), loss["standard_error"].as_f64());
        assert_eq!(row[1] == "true", loss["value"].is_f64());
    }
    assert_eq!(rows.iter().map(|row| &row[1][..]).collect::<Vec<_>>(), ["true", "false", "true"]);
    assert_eq!(json["decisions"][0]["decision"]["action"], "stop");
    assert_eq!(json["checkpoints"].as_array().unwrap().len(), 6);
    assert_eq!(json["facts"]["noise"], "0.01");
    assert_eq!(json["facts"]["variable rule"], "columns {groups: 4}");
    bench.command(&["export", "-c", "run.yaml", "-o", "run.yaml/x"]).expect(65, &["run.yaml/x"]);
}
