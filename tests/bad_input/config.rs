//! Usage and configuration.

use crate::bench::{Bench, assert_says};

#[test]
fn three_mistakes_are_reported_together_and_nothing_is_started() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[
        ("noise: 0.01", "noise: 0.9"),
        ("groups: 4", "group: 4"),
        ("step: 100", "step: soon"),
    ]);
    for command in [&["check"][..], &["run"], &["run", "--once"], &["status"], &["report"]] {
        let arguments = [command, &["-c", "run.yaml"]].concat();
        let finished = bench.command(&arguments);
        finished.expect(
            64,
            &[
                "run.yaml:5:25: `probe.variables.columns.group`: unknown field `group`",
                "run.yaml:9:16: `interactions.noise`: is 0.9, but must lie between 0 and 0.5",
                "run.yaml:13:37: `policy.rules[0].when.reached.step`: invalid type: string \"soon\"",
            ],
        );
        assert_eq!(finished.err.lines().count(), 3, "{}", finished.err);
        assert!(finished.out.is_empty(), "{}", finished.out);
    }
    assert!(!bench.path("state").exists() && !bench.path("control").exists());
}

#[test]
fn bad_usage_is_refused_with_the_usage_code() {
    let Some(bench) = Bench::empty() else { return };
    for (arguments, part) in [
        (&["rnu"][..], "unrecognized subcommand 'rnu'"),
        (&[], "Usage: convergd <COMMAND>"),
        (&["run"], "--config <FILE>"),
        (&["run", "-c", "run.yaml", "--twice"], "unexpected argument '--twice'"),
        (&["check", "-c"], "a value is required for '--config <FILE>'"),
    ] {
        bench.command(arguments).expect(64, &[part]);
    }
    for command in ["check", "run"] {
        let finished = bench.command(&[command, "-c", "nowhere.yaml"]);
        finished.expect(64, &["nowhere.yaml: cannot be read: ", "give the path of a YAML file"]);
        std::fs::write(bench.path("binary.yaml"), [0xff, 0xfe, 0x00]).unwrap();
        bench.command(&[command, "-c", "binary.yaml"]).expect(64, &["binary.yaml: cannot be read"]);
    }
}

#[test]
fn settings_do_not_change_within_a_history() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    bench.once().expect(0, &[]);
    let pairs = bench.pairs();
    assert_eq!(pairs.len(), 2);
    for (from, to, parts) in [
        (
            "noise: 0.01",
            "noise: 0.02",
            ["begun with noise 0.01", "now it is 0.02 (`interactions.noise`)"],
        ),
        (
            "noise: 0.01",
            "noise: 0.01, gap: 0.01",
            ["begun with gap 0.001", "now it is 0.01 (`interactions.gap`)"],
        ),
    ] {
        bench.configure(&[(from, to)]);
        bench
            .once()
            .expect(64, &["state/history.sqlite`", parts[0], parts[1], "`state` directory"]);
        let failed = bench.status()["failed"]["error"].clone();
        assert_says(failed.as_str().unwrap(), &[parts[0], parts[1]]);
        let told = bench.command(&["status", "-c", "run.yaml"]);
        told.expect(0, &[]);
        assert_says(&told.out, &["failed      20", parts[0]]);
    }
    bench.configure(&[]);
    bench.add_step("target", 3);
    bench.add_step("baseline", 3);
    bench.once().expect(0, &[]);
    assert!(bench.status()["failed"].is_null(), "this one went well");
    let all = bench.pairs();
    assert_eq!((all.len(), &all[..2]), (3, &pairs[..]), "the run goes on as it was begun");
}

#[test]
fn a_start_that_fails_does_not_bind_the_next() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("probe.safetensors", "absent.safetensors")]);
    bench.once().expect(65, &["absent.safetensors` cannot be read"]);
    bench.configure(&[("noise: 0.01", "noise: 0.02")]);
    bench.once().expect(0, &[]);
    assert_eq!(bench.pairs().len(), 1);
}
