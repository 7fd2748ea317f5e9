//! A trainer that is killed while it writes.

use crate::common;
use crate::common::process::{Running, assert_says, eventually};
use crate::pair::TrainingPair;
use convergd::layout::{Layout, Limits};

/// Numbers that make the file large enough to be killed in the middle of writing it: 400 MB.
const PADDING: &str = "100000000";
/// Kills that may come too late, when the file is whole already.
const ATTEMPTS: u64 = 5;

/// Writes one checkpoint in place, as `torch.save` does.
const SAVE: &str = "\
import sys, torch
from train import Net
path, seed, padding = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(seed)
torch.save({'model': Net().state_dict(), 'optimizer': torch.zeros(padding)}, path)";

fn save(pair: &TrainingPair, network: &str, step: u64, padding: &str) -> Running {
    let path = pair.path(&format!("{network}/step-{step}.pt"));
    let fixtures = common::root().join("tests/fixtures");
    let packages = std::env::join_paths([common::root().join("python"), fixtures]).unwrap();
    let seed = format!("{}{step}", network.len());
    let mut command = common::python();
    command.env("PYTHONPATH", packages).args(["-c", SAVE]).arg(path).args([&seed, padding]);
    Running::start(&mut command, &pair.path("."))
}

/// A step that both networks save to the end.
fn save_both(pair: &TrainingPair, step: u64) {
    for saved in ["target", "baseline"].map(|name| save(pair, name, step, "1")) {
        saved.finish().expect(0, &[]);
    }
}

#[test]
fn a_trainer_killed_while_it_writes_costs_that_checkpoint_alone() {
    let Some(pair) = TrainingPair::prepare("every", "torch") else { return };
    let mut running = pair.follow();
    for network in ["target", "baseline"] {
        std::fs::create_dir(pair.path(network)).unwrap();
    }
    save_both(&pair, 1);
    pair.wait_for_pairs(&[1]);
    let truncated = (2..2 + ATTEMPTS).find(|&step| {
        let training = save(&pair, "target", step, PADDING);
        let file = pair.path(&format!("target/step-{step}.pt"));
        let length = || std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
        eventually("the file is begun", || length() > 1 << 20);
        // SIGKILL: nothing is flushed or tidied up.
        drop(training);
        Layout::Torch.check(&file, &Limits::default()).is_err()
    });
    let step = truncated.expect("a kill in time");
    let query = format!(
        "SELECT outcome || ': ' || coalesce(reason, ''), step FROM checkpoint WHERE step = {step}"
    );
    eventually("the file is set aside", || !pair.rows(&query).is_empty());
    let said = &pair.rows(&query)[0].0;
    assert_says(said, &["quarantined: ", "truncated or still being written"]);
    // It is started again, from its last whole checkpoint.
    save_both(&pair, 9);
    pair.wait_for_pairs(&[1, 9]);
    assert!(running.is_alive());
    pair.end_training();
    running.finish().expect(0, &["done"]);
    pair.assert_no_pins();
}
