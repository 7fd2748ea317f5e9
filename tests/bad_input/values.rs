//! `values`: tables ahead of a run, and what it cannot make.

use crate::bench::{Bench, Finished};
use serde_json::Value;

/// Tables that were made, that were there, and how many checkpoints have none.
fn counts(finished: &Finished) -> [usize; 3] {
    let told: Value = serde_json::from_str(&finished.out).unwrap();
    let number = |name: &str| told[name].as_u64().unwrap() as usize;
    [number("evaluated"), number("found"), told["refused"].as_array().unwrap().len()]
}

fn values(bench: &Bench, more: &[&str]) -> Finished {
    bench.command(&[&["values", "--json", "-c", "run.yaml"], more].concat())
}

#[test]
fn tables_of_some_steps_are_made_and_found_again() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    let finished = values(&bench, &["--steps", "2..3"]);
    assert_eq!(counts(finished.expect(0, &[])), [4, 0, 0]);
    assert_eq!(counts(values(&bench, &[]).expect(0, &[])), [2, 4, 0]);
    // Both of a run find them: it makes none.
    let run = bench.command(&["run", "--once", "-c", "run.yaml"]);
    run.expect(0, &[]);
    assert!(!run.err.contains("are not of this checkpoint"), "{}", run.err);
    assert_eq!(counts(values(&bench, &[]).expect(0, &[])), [0, 6, 0]);
    let none = values(&bench, &["--steps", "500..600"]);
    none.expect(64, &["of 3 pairs of checkpoints, of steps 1 to 3, `--steps` takes none"]);
}

#[test]
fn steps_with_nothing_but_bad_checkpoints_name_them() {
    let Some(bench) = Bench::with_steps(&[2, 3]) else { return };
    bench.put("checkpoints/truncated.safetensors", "target/step-00000001.safetensors");
    bench.add_step("baseline", 1);
    values(&bench, &["--steps", "1..1"]).expect(
        65,
        &[
            "no pair of `--steps` can be made (2 pairs are of other steps, 2 to 3): `",
            "target/step-00000001.safetensors` is 1104 bytes long",
        ],
    );
    // One that fits no program shows it only when it is read.
    bench.put("checkpoints/missing.safetensors", "target/step-00000001.safetensors");
    let parts = ["no pair of `--steps`", "step-00000001.safetensors` lacks", "norm.running_var"];
    values(&bench, &["--steps", "..1"]).expect(65, &parts);
    values(&bench, &["--steps", "4.."]).expect(64, &["`--steps` takes none"]);
}

#[test]
fn a_bad_checkpoint_fails_no_shard_that_has_nothing_to_do_with_it() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.put("checkpoints/truncated.safetensors", "target/step-00000002.safetensors");
    let (mut made, mut left_out) = (0, 0);
    for shard in 0..8 {
        let finished = values(&bench, &["--shard", &format!("{shard}/8")]);
        let [evaluated, found, refused] = counts(finished.expect(0, &[]));
        assert_eq!(found, 0);
        left_out += refused;
        // Those of other shards are no strangers.
        assert!(!finished.err.contains("are not of this checkpoint"), "{}", finished.err);
        made += evaluated;
    }
    assert_eq!((made, left_out), (2, 1), "each in one shard");
    let other_steps = values(&bench, &["--steps", "1..1"]);
    assert_eq!(counts(other_steps.expect(0, &[])), [0, 2, 0]);
}

#[test]
fn a_shard_asks_what_the_run_has_begun_with_and_not_its_history() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    bench.once().expect(0, &[]);
    bench.add_step("target", 3);
    bench.add_step("baseline", 3);
    // As of another machine, which must not open it.
    let (history, away) = (bench.path("state/history.sqlite"), bench.path("away"));
    std::fs::rename(&history, &away).unwrap();
    std::fs::write(&history, "not for other machines").unwrap();
    assert_eq!(counts(values(&bench, &[]).expect(0, &[])), [2, 4, 0]);
    bench.configure(&[("{device: cpu}", "{device: cpu, precision: bf16}")]);
    values(&bench, &[]).expect(64, &["was begun with", "precision", "new `state`"]);
    bench.configure(&[]);
    std::fs::rename(away, history).unwrap();
    // The variables are those of the run: it finds the tables.
    let begun = std::fs::read(bench.path("state/begun.json")).unwrap();
    bench.once().expect(0, &[]);
    assert_eq!(counts(values(&bench, &[]).expect(0, &[])), [0, 6, 0]);
    std::fs::write(bench.path("state/begun.json"), &begun[..begun.len() / 2]).unwrap();
    values(&bench, &[]).expect(65, &["state/begun.json` cannot be read", "the next start"]);
    bench.once().expect(0, &[]);
    assert_eq!(std::fs::read(bench.path("state/begun.json")).unwrap(), begun);
    // A version that had none: the history tells.
    std::fs::remove_file(bench.path("state/begun.json")).unwrap();
    assert_eq!(counts(values(&bench, &[]).expect(0, &[])), [0, 6, 0]);
}

#[test]
fn a_signal_ends_it_also_where_the_system_would_not() {
    let Some(bench) = Bench::empty() else { return };
    bench.put("slow/program.ts", "program.ts");
    for network in ["target", "baseline"] {
        for step in 1..=3 {
            let name = format!("{network}/step-{step:08}.safetensors");
            bench.put(&format!("slow/{name}"), &name);
        }
    }
    let mut running = bench.start(&["values", "-c", "run.yaml"]);
    running.says("evaluated");
    running.terminate();
    // Of its own, as the first process of a container would have to: by the signal there would be no code.
    running.finish().expect(143, &[]);
}

#[test]
fn without_a_pair_there_is_nothing_to_make() {
    let Some(bench) = Bench::empty() else { return };
    bench.add_step("target", 1);
    bench.add_step("baseline", 2);
    let parts = ["no pair of checkpoints is there", "1 of the target and 1 of the baseline"];
    values(&bench, &[]).expect(65, &parts);
}

#[test]
fn a_cache_that_is_too_small_or_cannot_be_written_is_told() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    // Six tables of 6 samples with 2^4 states are 4,608 bytes, and a sixteenth stays free.
    bench.configure(&[("compute:", "cache: {size: 4KiB}\ncompute:")]);
    values(&bench, &[]).expect(
        64,
        &[
            "of 6 checkpoints take 4608 bytes",
            "`cache.size` is 4096",
            "raise it, to `5KiB` at the least",
        ],
    );
    assert!(!bench.path("state/values").exists());
    // With the logits, 6 samples of 3 classes each, and a head they are 7,248 bytes, which the first of them shows.
    bench.configure(&[("compute:", "cache: {size: 5KiB}\ncompute:")]);
    values(&bench, &[]).expect(64, &["of 6 checkpoints take 7248 bytes", "`cache.size` is 5120"]);
    assert_eq!(std::fs::read_dir(bench.path("state/values")).unwrap().count(), 1);
    std::fs::remove_dir_all(bench.path("state")).unwrap();
    // Nor does it get there step by step: with their heads the tables of two steps fill it.
    bench.configure(&[("compute:", "cache: {size: 6KiB}\ncompute:")]);
    let of_step = |step: u64| values(&bench, &["--steps", &format!("{step}..{step}")]);
    of_step(1).expect(0, &[]);
    of_step(2);
    let full = [
        "tables that are there take ",
        "`cache.size` is 6144",
        "raise it, or remove the oldest under",
        "state/values",
    ];
    of_step(3).expect(64, &full);
    let tables = std::fs::read_dir(bench.path("state/values")).unwrap();
    let bytes: u64 = tables.map(|table| table.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 6144 - 6144 / 16, "{bytes}");
    assert_eq!(counts(&of_step(1)), [0, 2, 0]);
    std::fs::remove_dir_all(bench.path("state")).unwrap();
    bench.configure(&[]);
    // A file where the directory should be.
    std::fs::create_dir_all(bench.path("state")).unwrap();
    std::fs::write(bench.path("state/values"), "").unwrap();
    values(&bench, &[])
        .expect(70, &["value tables cannot be listed or written under", "state/values"]);
}

#[test]
fn tables_of_another_precision_are_others_and_a_run_says_so() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    values(&bench, &[]).expect(0, &[]);
    bench.configure(&[("{device: cpu}", "{device: cpu, precision: bf16}")]);
    let run = bench.command(&["run", "--once", "-c", "run.yaml"]);
    run.expect(0, &["the value tables that are there are not of this checkpoint on a CPU in bf16"]);
}
