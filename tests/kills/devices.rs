//! Devices that fail while others go on.

use crate::bench::Bench;
use crate::common::scrape;
use crate::failing::start;
use crate::tables::tables;

const LISTEN: (&str, &str) = ("compute:", "telemetry: {listen: '127.0.0.1:0'}\ncompute:");
const SEVERAL: (&str, &str) = ("{device: cpu}", "{devices: [cpu, cpu, cpu], batch: 8}");
const STEPS: [u64; 2] = [1, 2];
/// How a device cannot be used at a start: it is not there, its driver refuses, it is full; and what is said.
const LOST: [(&str, &str); 3] = [
    ("device-start=1*return", "cpu: a test lets it fail"),
    ("device-load=1*return", "CUDA error: a test lets it fail"),
    ("memory-start=1*return", "out of memory, in a test"),
];

#[test]
fn the_others_take_the_samples_of_a_device_that_fails() {
    let Some(bench) = Bench::with_steps(&STEPS) else { return };
    bench.configure(&[("{device: cpu}", "{device: cpu, batch: 8}")]);
    bench.command(&["run", "--once", "-c", "run.yaml"]).expect(0, &[]);
    let wanted = tables(&bench.path("state"));
    assert_eq!(wanted.len(), 2 * STEPS.len());
    // When the variables are chosen; then too and at the first part of a checkpoint; after three parts; and there is not
    // enough memory for the first checkpoint.
    for (state, places, left) in [
        ("one", "device=1*return", 2),
        ("two", "device=1*return->1*off->1*return", 1),
        ("three", "device=4*off->1*return", 2),
        ("four", "memory=1*return", 3),
    ] {
        let state_line = format!("state: {state}");
        bench.configure(&[SEVERAL, LISTEN, ("state: state", &state_line)]);
        let mut daemon = start(&bench, &["run", "-c", "run.yaml"], places);
        let address = scrape::address(&mut daemon);
        let metrics = scrape::await_value(address, "convergd_pairs_total", 2.0);
        let value = |series: &str| scrape::value(&metrics, series);
        assert_eq!(value("convergd_devices"), Some(f64::from(left)), "{metrics}");
        let errors = value("convergd_errors_total{stage=\"device\"}");
        assert_eq!(errors, Some(f64::from(3 - left)), "{metrics}");
        daemon.terminate();
        let said = match left {
            3 => [
                "the other devices take its samples of this checkpoint",
                "out of memory, in a test",
            ],
            _ => ["a device is given up until the next start", "a test lets it fail"],
        };
        daemon.finish().expect(0, &said);
        assert!(wanted == tables(&bench.path(state)), "{state}: the same tables, byte for byte");
    }
}

#[test]
fn a_run_that_has_begun_goes_on_with_the_devices_that_are_left() {
    let Some(bench) = Bench::with_steps(&STEPS) else { return };
    bench.configure(&[("{device: cpu}", "{device: cpu, batch: 8}")]);
    bench.command(&["run", "--once", "-c", "run.yaml"]).expect(0, &[]);
    let wanted = tables(&bench.path("state"));
    bench.configure(&[SEVERAL, ("state: state", "state: other")]);
    // At the first start a mistake is more likely.
    for (lost, said) in LOST {
        start(&bench, &["run", "-c", "run.yaml"], lost).finish().expect(69, &[said]);
    }
    for (state, (lost, said)) in ["one", "two", "three"].into_iter().zip(LOST) {
        let state_line = format!("state: {state}");
        bench.configure(&[SEVERAL, LISTEN, ("state: state", &state_line)]);
        let last = ["target", "baseline"].map(|network| {
            let file = bench.path(&format!("{network}/step-{:08}.safetensors", STEPS[1]));
            let away = bench.path(&format!("{network}-away"));
            std::fs::rename(&file, &away).unwrap();
            (file, away)
        });
        bench.command(&["run", "--once", "-c", "run.yaml"]).expect(0, &[]);
        last.iter().for_each(|(file, away)| std::fs::rename(away, file).unwrap());
        let mut daemon = start(&bench, &["run", "-c", "run.yaml"], lost);
        let address = scrape::address(&mut daemon);
        let metrics = scrape::await_value(address, "convergd_pairs_total", 1.0);
        let value = |series: &str| scrape::value(&metrics, series);
        assert_eq!(value("convergd_devices"), Some(2.0), "{metrics}");
        assert_eq!(value("convergd_errors_total{stage=\"device\"}"), Some(1.0), "{metrics}");
        daemon.terminate();
        let left_out = "a device cannot be used and is left out until the next start";
        daemon.finish().expect(0, &[left_out, said]);
        assert!(wanted == tables(&bench.path(state)), "{lost}: the same tables, byte for byte");
    }
}

#[test]
fn a_lower_precision_survives_a_device_too() {
    let Some(bench) = Bench::with_steps(&STEPS) else { return };
    let precise = |devices: &str| format!("{{{devices}, batch: 8, precision: bf16}}");
    bench.configure(&[("{device: cpu}", &precise("device: cpu"))]);
    bench.command(&["run", "--once", "-c", "run.yaml"]).expect(0, &[]);
    // Of the parts in bfloat16, or of those in float32 that follow.
    for after in [2, 14] {
        let (state, places) = (format!("after-{after}"), format!("device={after}*off->1*return"));
        let several = precise("devices: [cpu, cpu]");
        let state_line = format!("state: {state}");
        bench.configure(&[("{device: cpu}", &several), ("state: state", &state_line)]);
        let finished = start(&bench, &["run", "--once", "-c", "run.yaml"], &places).finish();
        finished.expect(0, &["a device is given up"]);
        assert!(tables(&bench.path("state")) == tables(&bench.path(&state)), "{state}");
    }
}

#[test]
fn where_all_devices_fail_the_run_ends_and_says_why() {
    let Some(bench) = Bench::with_steps(&STEPS) else { return };
    for devices in ["{device: cpu}", "{devices: [cpu, cpu]}"] {
        bench.configure(&[("{device: cpu}", devices)]);
        let finished =
            start(&bench, &["run", "--once", "-c", "run.yaml"], "device=return").finish();
        finished.expect(69, &["error: cpu: a test lets it fail"]);
        assert!(bench.pairs().is_empty());
    }
    // The next start has all devices again.
    bench.command(&["run", "--once", "-c", "run.yaml"]).expect(0, &[]);
    assert_eq!(bench.pairs().len(), STEPS.len());
}

#[test]
fn value_tables_are_made_on_several_devices_too() {
    let Some(bench) = Bench::with_steps(&STEPS) else { return };
    bench.configure(&[("{device: cpu}", "{device: cpu, batch: 8}")]);
    bench.command(&["values", "-c", "run.yaml"]).expect(0, &[]);
    let wanted = tables(&bench.path("state"));
    bench.configure(&[SEVERAL, ("state: state", "state: several")]);
    start(&bench, &["values", "-c", "run.yaml"], "device=1*off->1*return").finish().expect(0, &[]);
    assert!(wanted == tables(&bench.path("several")));
}
