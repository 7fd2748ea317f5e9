//! Processes that make the value tables of one run together, of which some are killed.

use crate::bench::{Bench, Finished, Running, eventually};
use crate::failing;
use crate::tables::tables;
use safetensors::SafeTensors;
use serde_json::Value;

const SHARDS: usize = 4;
const STEPS: u64 = 16;
/// The whole run.
const CHECKPOINTS: u64 = 2 * STEPS;

/// A run of many checkpoints, each with weights of its own.
fn bench() -> Option<Bench> {
    let bench = Bench::empty()?;
    for network in ["target", "baseline"] {
        let mut weights = bench.fixture(&format!("{network}/step-00000001.safetensors"));
        let (length, about) = SafeTensors::read_metadata(&weights).unwrap();
        let is_float = |info: &&safetensors::tensor::TensorInfo| {
            info.dtype == safetensors::Dtype::F32 && info.shape.len() == 2
        };
        let tensors = about.tensors();
        let place = tensors.into_values().find(is_float).unwrap().data_offsets.0;
        let place = 8 + length + place;
        std::fs::create_dir_all(bench.path(network)).unwrap();
        for step in 1..=STEPS {
            weights[place..place + 4].copy_from_slice(&(0.1 * step as f32).to_le_bytes());
            let name = format!("{network}/step-{step:08}.safetensors");
            std::fs::write(bench.path(&name), &weights).unwrap();
        }
    }
    Some(bench)
}

fn start(bench: &Bench, shard: usize, places: &str) -> Running {
    let shard = format!("{shard}/{SHARDS}");
    failing::start(bench, &["values", "--json", "--shard", &shard, "-c", "run.yaml"], places)
}

fn counts(finished: &Finished) -> [u64; 2] {
    finished.expect(0, &[]);
    let value: Value = serde_json::from_str(&finished.out).unwrap();
    ["evaluated", "found"].map(|name| value[name].as_u64().unwrap())
}

#[test]
fn four_processes_of_which_two_are_killed_make_what_one_makes() {
    let Some(bench) = bench() else { return };
    let alone = bench.command(&["values", "--json", "-c", "run.yaml"]);
    assert_eq!(counts(&alone), [CHECKPOINTS, 0]);
    let wanted = tables(&bench.path("state"));
    assert_eq!(wanted.len() as u64, CHECKPOINTS);

    let seed = std::env::var("CONVERGD_TEST_SEED").map_or(4, |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    eprintln!("seed {seed}; `CONVERGD_TEST_SEED={seed}` repeats it");
    for round in 0..3 {
        let state = format!("shared-{round}");
        bench.configure(&[("state: state", &format!("state: {state}"))]);
        let mut shards: Vec<usize> = (0..SHARDS).collect();
        random.shuffle(&mut shards);
        let (killed, others) = shards.split_at(2);
        // Each has eight tables to make.
        let places = ["table-written", "table-kept"];
        let mut dies = |shard: &usize| {
            let (place, after) = (places[random.usize(0..2)], random.usize(0..8));
            // The table at which it dies is there already where it dies after that.
            let kept = after + usize::from(place == "table-kept");
            (start(&bench, *shard, &format!("{place}={after}*off->return")), kept as u64)
        };
        let killed_first: Vec<(Running, u64)> = killed.iter().map(&mut dies).collect();
        let survive: Vec<Running> = others.iter().map(|shard| start(&bench, *shard, "")).collect();
        let mut kept = Vec::new();
        for (process, tables) in killed_first {
            assert_eq!(process.finish().code, None, "it was to be killed");
            kept.push(tables);
        }
        let again: Vec<Running> = killed.iter().map(|shard| start(&bench, *shard, "")).collect();
        for process in survive {
            assert_eq!(counts(&process.finish()), [8, 0]);
        }
        for (process, kept) in again.into_iter().zip(kept) {
            // None is made twice.
            assert_eq!(counts(&process.finish()), [8 - kept, kept], "round {round}");
        }
        assert_eq!(tables(&bench.path(&state)), wanted, "round {round}");
        // A run looks there, and would die of the first table that it made itself.
        let arguments: &[&str] = match round {
            1 => &["run", "-c", "run.yaml"],
            _ => &["run", "--once", "-c", "run.yaml"],
        };
        let run = failing::start(&bench, arguments, "table-written=return");
        let has_all =
            || bench.rows_of(&state, "SELECT COUNT(*) FROM pair") == [[STEPS.to_string()]];
        if round == 1 {
            eventually("all pairs", has_all);
            run.terminate();
        }
        run.finish().expect(0, &[]);
        assert!(has_all());
    }
}
