//! Rules over pairs that lack what they follow, notices, and what a history is computed again from.

use crate::bench::{Bench, assert_says};
use serde_json::Value;

const RULES: &str = "{id: budget, when: {reached: {step: 100}}, then: {stop: {}}}";

#[test]
fn a_monitor_that_a_pair_lacks_ends_the_run_where_that_is_an_error() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    bench.put("probes/unlabelled.safetensors", "probe.safetensors");
    let peak = "{id: peak, when: {peaked: {metric: probe_loss}}, then: {stop: {}}}";
    let rules = format!("{peak}\n    - {RULES}");
    let edits = |missing: &str| {
        bench.configure(&[
            ("policy:\n", &format!("policy:\n  missing: {missing}\n")),
            (RULES, &rules),
        ]);
    };
    edits("error");
    let parts = ["rule `peak` follows `probe_loss`", "step 1", "the probe has no labels"];
    bench.once().expect(65, &parts);
    assert_eq!(bench.pairs().len(), 1, "the pair is stored");
    // The next start goes on after it.
    bench.once().expect(65, &["rule `peak`", "step 2"]);
    edits("skip");
    bench.once().expect(0, &[]);
    assert_eq!(bench.pairs().len(), 3);
    bench.assert_no_pins();
}

#[test]
fn notices_are_told_and_kept_and_replayed() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    let alert = "{id: low, when: {above: {metric: probe_loss, threshold: 0}}, then: {alert: {severity: \
                 critical, message: look at it}}}";
    let mark = "{id: mark, when: {reached: {step: 2}}, then: {mark_best: {}}}";
    let end = "{id: end, when: {reached: {step: 3}}, then: {stop: {}}}";
    bench.configure(&[(RULES, &format!("{alert}\n    - {mark}\n    - {end}"))]);
    let finished = bench.once();
    finished.expect(10, &[]);
    assert!(finished.err.contains("look at it"), "{}", finished.err);
    let rows = bench.rows("SELECT id, notice FROM notice ORDER BY step");
    let ids: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(ids, ["low@1", "mark@2"], "an alert that goes on is said once");
    let notice: Value = serde_json::from_str(&rows[0][1]).unwrap();
    assert_eq!((&notice["severity"], &notice["step"]), (&"critical".into(), &1.into()));
    // The budget follows no monitor: it names what was marked, which is kept.
    let status = bench.status();
    assert_eq!(status["decisions"][0]["best_step"], 2);
    assert!(bench.path("state/best/2/target").exists());
    assert_eq!((&status["alerts"][0], &status["notices"][0]), (&"low".into(), &notice));
    let said = bench.command(&["status", "-c", "run.yaml"]);
    assert!(said.out.contains("alerts      low"), "{}", said.out);
    let said = bench.command(&["replay", "-c", "run.yaml"]);
    said.expect(0, &[]);
    for part in ["alert at step 1 by rule `low`: look at it", "mark_best at step 2", "as it was"] {
        assert!(said.out.contains(part), "{}", said.out);
    }
    let json = bench.command(&["replay", "--json", "-c", "run.yaml"]);
    let value: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["policies"][0]["notices"][0], notice);
}

#[test]
fn which_rule_fired_is_told_wherever_a_decision_is() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    let rules = "{id: late, when: {reached: {step: 3}}, then: {stop: {}}}
    - {id: early, when: {reached: {checks: 2}}, then: {stop: {}}}";
    bench.configure(&[(RULES, rules)]);
    let finished = bench.once();
    finished.expect(10, &["early@2"]);
    let decision = &bench.status()["decisions"][0];
    assert_eq!((&decision["rule"], &decision["step"]), (&"early".into(), &2.into()));
    let control = std::fs::read_to_string(bench.path("control/control.json")).unwrap();
    let control: Value = serde_json::from_str(&control).unwrap();
    assert_eq!(control["decision_id"], "early@2");
    for command in ["status", "replay"] {
        let said = bench.command(&[command, "-c", "run.yaml"]);
        assert_says(&said.out, &["rule `early`"]);
    }
}

#[test]
fn a_history_is_computed_again_from_its_value_tables() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    bench.once().expect(0, &[]);
    let compare =
        "{id: other, when: {below: {metric: convergent_ratio, threshold: 2}}, then: {notify: {}}}";
    std::fs::write(bench.path("other.yaml"), format!("policy: {{rules: [{compare}]}}")).unwrap();
    let replay = |more: &[&str]| {
        let all =
            [&["replay", "--json", "--policy", "other.yaml", "-c", "run.yaml"], more].concat();
        let finished = bench.command(&all);
        finished.expect(0, &[]);
        serde_json::from_str::<Value>(&finished.out).unwrap()
    };
    let reason = |value: &Value| value["policies"][1]["notices"][0]["reason"].clone();
    let stored = replay(&[]);
    assert_eq!(stored["recomputed"], Value::Null);
    let waits = &stored["policies"][0]["rules"][0];
    assert_eq!(waits["holds"], false);
    let reason_of_waiting = waits["reason"].as_str().unwrap();
    assert_says(reason_of_waiting, &["step 3", "100"]);
    let said = bench.command(&["replay", "-c", "run.yaml"]).out;
    assert_says(&said, &[&format!("rule budget: {reason_of_waiting}"), "decides nothing"]);
    // The same settings give the same monitors; a salience at which nothing is left gives none.
    let again = replay(&["--from-values"]);
    assert_eq!(reason(&again), reason(&stored));
    assert_eq!(again["recomputed"]["extractions"], 3 * 2 * 6, "{again:#}");
    assert_eq!(again["policies"][0]["as_decided"], Value::Null);
    let coarse = replay(&["--from-values", "--salience", "0.3", "--noise", "0.05"]);
    assert_eq!(coarse["recomputed"]["salience"], 0.3);
    assert_ne!(reason(&coarse), reason(&stored));
    // A pair whose table is gone is left out, and that is said.
    let key = &bench.rows("SELECT target_values FROM evidence WHERE step = 2")[0][0];
    std::fs::remove_file(bench.path("state/values").join(format!("{key}.safetensors"))).unwrap();
    assert_eq!(replay(&["--from-values"])["recomputed"]["left_out"], serde_json::json!([2]));
    let said = bench.command(&["replay", "--from-values", "-c", "run.yaml"]);
    assert!(said.out.contains("not in the cache any more: 2"), "{}", said.out);
    bench
        .command(&["replay", "--from-values", "--noise", "2", "-c", "run.yaml"])
        .expect(64, &["`--noise` is 2", "between 0 and 1"]);
    bench.command(&["replay", "--noise", "0.1", "-c", "run.yaml"]).expect(64, &["--from-values"]);
}
