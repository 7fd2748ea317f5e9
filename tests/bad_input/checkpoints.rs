//! Checkpoints that are damaged, of another network, or not finite.

use crate::bench::{Bench, assert_says, eventually};
use serde_json::json;
use std::sync::OnceLock;

const SECOND: &str = "target/step-00000002.safetensors";

/// The pairs of a run without the second step.
fn without_the_second() -> &'static [Vec<String>] {
    static PAIRS: OnceLock<Vec<Vec<String>>> = OnceLock::new();
    PAIRS.get_or_init(|| {
        let bench = Bench::with_steps(&[1, 3]).unwrap();
        bench.once().expect(0, &[]);
        assert_eq!(bench.pairs().len(), 2);
        bench.pairs()
    })
}

/// A run whose target has a bad second checkpoint.
fn with_bad(name: &str) -> Option<Bench> {
    let bench = Bench::with_steps(&[1, 2, 3])?;
    bench.put(&format!("checkpoints/{name}.safetensors"), SECOND);
    Some(bench)
}

/// The bad checkpoint is quarantined for this reason, its partner is skipped at the next pair, and the
/// rest of the run is as if the step had never been.
#[track_caller]
fn assert_quarantined(bench: &Bench, reason: &[&str]) {
    let finished = bench.once();
    finished.expect(0, &[SECOND]).expect(0, reason);
    let (outcome, found) = bench.checkpoint("target", 2);
    assert_eq!(outcome, "quarantined");
    assert_says(&found, reason);
    let (outcome, found) = bench.checkpoint("baseline", 2);
    // Whichever was first: the later pair, or the patience with a file that may still grow.
    let true_reasons =
        ["its partner was quarantined", "no partner came before a later pair was evaluated"];
    assert!(outcome == "skipped" && true_reasons.contains(&found.as_str()), "{outcome}: {found}");
    assert_eq!(bench.pairs(), without_the_second(), "the bad checkpoint left a trace");
    let status = bench.status();
    assert_eq!((&status["quarantined"], &status["skipped"]), (&json!(1), &json!(1)), "{status}");
    assert_eq!((&status["pairs"], &status["step"]), (&json!(2), &json!(3)), "{status}");
    bench.assert_no_pins();
}

#[test]
fn a_truncated_checkpoint_is_quarantined_and_later_pairs_are_evaluated() {
    let Some(bench) = with_bad("truncated") else { return };
    let reason = ["is 1104 bytes long, its header wants 1204: truncated or still being written"];
    assert_quarantined(&bench, &reason);
    // What is known to be bad is not looked at again.
    bench.once().expect(0, &[]);
    assert_eq!(bench.pairs().len(), 2);
}

#[test]
fn a_file_that_is_no_checkpoint_is_quarantined() {
    let Some(bench) = with_bad("text") else { return };
    assert_quarantined(&bench, &["is no safetensors file: its header"]);
}

#[test]
fn checkpoints_of_another_network_are_quarantined_and_leave_no_half_updated_network() {
    for (name, reason) in [
        ("missing", "lacks `norm.running_var`; is it of the network"),
        ("misshapen", "has `last.weight` of shape [3, 9], but the program wants [3, 8]; is it of"),
        ("dtype", "has `last.bias` of type Int64, but the program wants Float; is it of"),
        (
            "doubled",
            "the whole network more than once, as `…` and as `ema.…`; choose one with `weights`, such as `weights: ema`",
        ),
    ] {
        let Some(bench) = with_bad(name) else { return };
        assert_quarantined(&bench, &[reason]);
    }
}

#[test]
fn a_bad_checkpoint_that_is_saved_again_is_evaluated() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    bench.put("checkpoints/missing.safetensors", SECOND);
    let mut running = bench.follow();
    running.says("quarantined: ");
    assert_eq!(bench.pairs().len(), 1);
    bench.add_step("target", 2);
    eventually("the second pair is evaluated", || bench.pairs().len() == 2);
    bench.end_training();
    running.finish().expect(0, &[]);
    assert_eq!(bench.checkpoint("baseline", 2).0, "evaluated");
    bench.assert_no_pins();
}

#[test]
fn everything_that_is_there_is_evaluated_however_little_may_wait() {
    for is_once in [true, false] {
        let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
        bench.configure(&[("compute:", "pairing: {waiting: 2}\ncompute:")]);
        let finished = if is_once {
            bench.once()
        } else {
            let running = bench.follow();
            eventually("all are evaluated", || bench.pairs().len() == 3);
            bench.end_training();
            running.finish()
        };
        finished.expect(0, &[]);
        assert_eq!(bench.pairs().len(), 3);
        assert_eq!(bench.rows("SELECT DISTINCT outcome FROM checkpoint"), [["evaluated"]]);
    }
}

#[test]
fn a_bad_first_checkpoint_does_not_choose_the_variables() {
    let Some(bench) = Bench::with_steps(&[1, 3]) else { return };
    bench.put("checkpoints/misshapen.safetensors", "target/step-00000000.safetensors");
    bench.put("baseline/step-00000002.safetensors", "baseline/step-00000000.safetensors");
    bench.once().expect(0, &["[3, 9]"]);
    assert_eq!(bench.checkpoint("target", 0).0, "quarantined");
    assert_eq!(bench.pairs(), without_the_second());
}

#[test]
fn weights_that_are_not_finite_are_recorded_without_monitors_and_the_run_goes_on() {
    for name in ["nan", "huge"] {
        let Some(bench) = with_bad(name) else { return };
        bench.once().expect(0, &["no convergence: target: sample 0: v(S) is NaN", "step=2"]);
        let (outcome, reason) = bench.checkpoint("target", 2);
        assert_eq!(outcome, "evaluated");
        assert_says(&reason, &["target: sample 0: v(S) is NaN", "not finite"]);
        let finite = bench.rows("SELECT step, finite FROM pair ORDER BY step");
        assert_eq!(finite, [["1", "1"], ["2", "0"], ["3", "1"]]);
        let pairs = bench.pairs();
        assert_eq!(pairs[1][1], "{}", "no monitors");
        assert_eq!([&pairs[0], &pairs[2]], [&without_the_second()[0], &without_the_second()[1]]);
        bench.assert_no_pins();
    }
}

#[test]
fn a_rule_stops_at_weights_that_are_not_finite_and_does_not_offer_them_as_the_best() {
    let Some(bench) = with_bad("nan") else { return };
    let rule = "rules:\n    - {id: broken, when: {not_finite: {}}, then: {stop: {}}}";
    bench.configure(&[("rules:", rule)]);
    bench.once().expect(10, &["decided: a network's outputs are not finite at step 2"]);
    let text = std::fs::read_to_string(bench.path("control/control.json")).unwrap();
    let control: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&control["action"], &control["best"]), (&json!("stop"), &json!(null)), "{control}");
    assert_eq!(bench.pairs().len(), 2, "nothing is evaluated after the stop");
    let status = bench.status();
    assert_eq!((&status["stopped"], &status["pairs"]), (&json!(true), &json!(2)), "{status}");
}

#[test]
fn a_network_with_constant_outputs_has_only_the_monitors_that_are_defined() {
    let Some(bench) = with_bad("constant") else { return };
    bench.once().expect(0, &[]);
    let pairs = bench.pairs();
    assert_eq!(pairs.len(), 3);
    assert!(!pairs[1][1].contains("convergent_ratio\"") && pairs[1][1].contains("probe_loss"));
    bench.command(&["report", "-c", "run.yaml", "-o", "page.html"]).expect(0, &[]);
}
