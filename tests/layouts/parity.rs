//! The values of each layout are PyTorch's.

use crate::fixture::{Fixture, difference, fixture, reading};
use convergd::layout::{Layout, Limits};

/// Largest difference of a value or a logit, in log-odds.
const TOLERANCE: f64 = 1e-4;

/// A checkpoint, how it is read, and the network that it holds.
const CASES: [(Layout, &str, Option<&str>, &str); 23] = [
    (Layout::Torch, "plain.pt", None, "a"),
    (Layout::Torch, "legacy.pt", None, "a"),
    (Layout::Torch, "bf16.pt", None, "half"),
    (Layout::Torch, "fp16.pt", None, "half"),
    (Layout::Torch, "nested.pth", None, "a"),
    (Layout::Torch, "nested_legacy.pth", None, "a"),
    (Layout::Torch, "compiled.bin", None, "a"),
    (Layout::Torch, "views.pt", None, "a"),
    (Layout::Torch, "extra.pt", None, "a"),
    (Layout::Torch, "ema.pt", Some("model"), "a"),
    (Layout::Torch, "ema.pt", Some("ema"), "b"),
    (Layout::Torch, "shared.pt", Some("ema"), "b"),
    (Layout::Torch, "shared.pt", Some("best"), "b"),
    (Layout::Torch, "shared.pt", Some("first"), "a"),
    (Layout::Torch, "shared.pt", Some("second"), "a"),
    (Layout::Torch, "shared_legacy.pt", Some("best"), "b"),
    (Layout::Torch, "shared_5.pt", Some("second"), "a"),
    (Layout::Torch, "last.ckpt", None, "a"),
    // What it would run is not run, and its tensors are good.
    (Layout::Torch, "../bad/evil.pt", None, "a"),
    (Layout::Torch, "../bad/evil_legacy.pt", None, "a"),
    (Layout::Lightning, "last.ckpt", None, "a"),
    (Layout::Torchscript, "traced-7.pt", None, "a"),
    (Layout::Torchscript, "scripted-7.pt", None, "a"),
];

fn differences(fixture: &Fixture, name: &str, reading_of: (Layout, Option<&str>)) -> [[f64; 2]; 2] {
    let networks = fixture.evaluator("program.ts", reading(reading_of.0, reading_of.1));
    let found = networks.evaluate(&fixture.good(name)).unwrap();
    let against = |other: &str| {
        let values = fixture.rows(&format!("values_{other}"));
        let logits = fixture.rows(&format!("logits_{other}"));
        [difference(&found.values, &values), difference(&found.logits, &logits)]
    };
    // The comparison can fail: another network is far away.
    [against("a"), against("b")]
}

#[test]
fn every_layout_gives_the_values_of_pytorch() {
    let Some(fixture) = fixture() else { return };
    for (layout, name, key, network) in CASES {
        let networks = fixture.evaluator("program.ts", reading(layout, key));
        let found = networks.evaluate(&fixture.good(name)).unwrap();
        for (kind, found) in [("values", &found.values), ("logits", &found.logits)] {
            let error = difference(found, &fixture.rows(&format!("{kind}_{network}")));
            eprintln!("{layout:?} {name} {key:?}: {kind} off by {error:.1e}");
            assert!(error <= TOLERANCE, "{layout:?} {name}: {kind} off by {error}");
        }
    }
}

#[test]
fn the_comparison_can_fail() {
    let Some(fixture) = fixture() else { return };
    let [[same, _], [other, _]] = differences(fixture, "plain.pt", (Layout::Torch, None));
    assert!(same <= TOLERANCE && other > 0.1, "{same} {other}");
    let half = difference(&fixture.rows("values_a"), &fixture.rows("values_half"));
    assert!(half > 10.0 * TOLERANCE, "bfloat16 hardly differs ({half}): it shows nothing");
}

#[test]
fn directories_of_hugging_face_give_the_logits_of_pytorch() {
    let Some(fixture) = fixture() else { return };
    let networks = fixture.evaluator("bert.ts", reading(Layout::Hf, None));
    for name in ["checkpoint-7", "checkpoint-8", "checkpoint-9", "final"] {
        let found = networks.evaluate(&fixture.good(name)).unwrap();
        let error = difference(&found.logits, &fixture.rows("logits_bert"));
        eprintln!("{name}: logits off by {error:.1e}");
        assert!(error <= TOLERANCE, "{name}: off by {error}");
    }
    let shards = std::fs::read_dir(fixture.good("checkpoint-8")).unwrap().flatten();
    let shards = shards.filter(|entry| entry.path().to_string_lossy().contains("-of-"));
    assert!(shards.count() > 1, "the sharded checkpoint has one shard: it shows nothing");
}

#[test]
fn steps_are_read_from_inside() {
    let Some(fixture) = fixture() else { return };
    for (layout, name, step) in [
        (Layout::Torch, "nested.pth", Some(7)),
        (Layout::Torch, "nested_legacy.pth", Some(7)),
        (Layout::Torch, "ema.pt", Some(7)),
        (Layout::Torch, "compiled.bin", Some(7)),
        (Layout::Torch, "plain.pt", None),
        (Layout::Lightning, "last.ckpt", Some(7)),
        (Layout::Hf, "final", Some(12)),
        (Layout::Hf, "checkpoint-8", None),
    ] {
        let found = layout.step_inside(&fixture.good(name), &Limits::default()).unwrap();
        assert_eq!(found, step, "{name}");
    }
}

#[test]
fn where_the_network_stands_twice_the_key_is_asked_for() {
    let Some(fixture) = fixture() else { return };
    for (key, parts) in [
        (None, ["as `ema.…` and as `model.…`", "`weights: ema`"]),
        (Some("emma"), ["no whole network under `weights: emma`", "`ema.…`"]),
    ] {
        let networks = fixture.evaluator("program.ts", reading(Layout::Torch, key));
        let error = networks.evaluate(&fixture.good("ema.pt")).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
