//! Devices without enough memory: batches become smaller, and what is too much even so is told.

use crate::bench::{Bench, assert_says};

/// A run of a network that wants more memory than a process can address for more than four inputs at a time.
fn hungry(steps: &[u64]) -> Option<Bench> {
    let bench = Bench::empty()?;
    bench.put("hungry/program.ts", "program.ts");
    for step in steps {
        for network in ["target", "baseline"] {
            let name = format!("{network}/step-{step:08}.safetensors");
            bench.put(&format!("hungry/{name}"), &name);
        }
    }
    Some(bench)
}

/// The probe loss of each pair, which all outputs are in.
fn losses(bench: &Bench, state: &str) -> Vec<f64> {
    let rows = bench.rows_of(state, "SELECT monitors FROM pair ORDER BY step");
    let loss = |row: &Vec<String>| {
        let monitors: serde_json::Value = serde_json::from_str(&row[0]).unwrap();
        monitors["probe_loss"]["value"].as_f64().unwrap()
    };
    rows.iter().map(loss).collect()
}

/// But for rounding, which differs with the number of rows at a time.
#[track_caller]
fn assert_alike(found: &[f64], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len());
    let pairs = found.iter().zip(wanted);
    assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-5 * b), "{found:?}, not {wanted:?}");
}

#[test]
fn too_little_memory_halves_the_batch_and_the_run_goes_on() {
    let Some(bench) = hungry(&[1, 2]) else { return };
    let halved = "rows at a time, so it goes on with smaller batches";
    let finished = bench.command(&["run", "--once", "-c", "run.yaml"]);
    finished.expect(0, &[halved, "can't allocate memory", "rows=4"]);
    assert!(!finished.err.contains("panicked"), "{}", finished.err);
    let found = losses(&bench, "state");
    assert_eq!(found.len(), 2);
    // Two devices, each for itself.
    bench.configure(&[("{device: cpu}", "{devices: [cpu, cpu]}"), ("state: state", "state: two")]);
    bench.command(&["run", "--once", "-c", "run.yaml"]).expect(0, &[halved]);
    assert_alike(&found, &losses(&bench, "two"));
    // What fits from the start.
    bench.configure(&[
        ("{device: cpu}", "{device: cpu, batch: 4}"),
        ("state: state", "state: other"),
    ]);
    let finished = bench.command(&["run", "--once", "-c", "run.yaml"]);
    finished.expect(0, &[]);
    assert!(!finished.err.contains(halved), "{}", finished.err);
    assert_alike(&found, &losses(&bench, "other"));
}

#[test]
fn a_share_of_the_free_memory_bounds_a_batch() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let small = "batches are smaller than they might be";
    for (state, batch) in [("by-itself", ""), ("chosen", "batch: 8, ")] {
        // A few bytes.
        let compute = format!("{{device: cpu, {batch}memory: 0.0000000001}}");
        let state_line = format!("state: {state}");
        bench.configure(&[("{device: cpu}", &compute), ("state: state", &state_line)]);
        let finished = bench.command(&["run", "--once", "-c", "run.yaml"]);
        finished.expect(0, &[small, "rows=1 "]);
        assert_eq!(bench.rows_of(state, "SELECT step FROM pair"), [["1"]]);
    }
}

#[test]
fn a_program_that_does_not_fit_into_memory_is_not_called_damaged() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.put("starving/program.ts", "program.ts");
    let finished = bench.command(&["run", "--once", "-c", "run.yaml"]);
    finished.expect(69, &["error: cpu has not enough memory", "can't allocate memory"]);
    assert!(!finished.err.contains("export_program"), "{}", finished.err);
}

#[test]
fn what_is_too_much_for_one_input_ends_the_run_and_nothing_is_lost() {
    // The weights of the third step of the target want too much for any.
    let Some(bench) = hungry(&[1, 3]) else { return };
    let finished = bench.command(&["run", "--once", "-c", "run.yaml"]);
    finished.expect(69, &["trying again"]);
    let message = finished.err.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert_says(
        message,
        &["cpu has not enough memory", "can't allocate memory", "`compute.device`"],
    );
    assert_eq!(bench.pairs().len(), 1, "the first pair is kept");
    // It may be evaluated when there is enough.
    assert_eq!(bench.checkpoint("target", 3).0, "waiting");
}

#[test]
fn memory_does_not_grow_from_forward_to_forward() {
    let Some(bench) = Bench::empty() else { return };
    bench.put("wide/program.ts", "program.ts");
    for network in ["target", "baseline"] {
        let name = format!("{network}/step-00000001.safetensors");
        bench.put(&format!("wide/{name}"), &name);
    }
    // 96 inputs of each network, some 50 MB for each.
    bench.configure(&[("{device: cpu}", "{device: cpu, batch: 1}")]);
    let peak = bench.peak_memory(&["run", "--once", "-c", "run.yaml"]);
    eprintln!("at most {} MiB", peak >> 20);
    assert_eq!(bench.pairs().len(), 1);
    // 690 MiB; 1,600 MB where what is left beside aligned tensors is kept.
    assert!(peak < 1 << 30, "{peak} bytes");
}
