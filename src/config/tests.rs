//! Mistakes are found, all at once, where they stand.

use super::*;
use crate::layout::{Layout, Limits, Reading, Steps};

const GOOD: &str = "\
name: digits
state: run/state
program: run/program.ts
probe:
  file: run/probe.safetensors
  samples: 40
  variables:
    image_patches: {grid: 4, select: 8}
networks:
  target: {checkpoints: run/target}
  baseline: {checkpoints: run/baseline}
policy:
  rules:
    - id: peak
      when:
        peaked: {metric: convergence_score, patience: {checks: 3}}
      warmup: {min_output_scale: 0.25}
      then:
        stop: {}
    - id: budget
      when:
        reached: {step: 60}
      then:
        stop: {}
control: {directory: run/control, acknowledge: 30s}
telemetry: {listen: '127.0.0.1:9464'}
";

fn mistakes(text: &str) -> Vec<Problem> {
    Config::parse(Path::new("dir/run.yaml"), text).expect_err("refused").list
}

/// The mistakes as `line path: message`.
fn lines(text: &str) -> Vec<String> {
    let line = |p: &Problem| p.place.map_or(0, |(line, _)| line);
    mistakes(text).iter().map(|p| format!("{} {}: {}", line(p), p.path, p.message)).collect()
}

#[test]
fn a_good_file_becomes_a_configuration() {
    let config = Config::parse(Path::new("dir/run.yaml"), GOOD).expect("good");
    assert!(config.state.is_absolute() && config.state.ends_with("dir/run/state"));
    assert_eq!(config.policy.rules.len(), 2);
    assert_eq!(config.policy.rules[0].warmup.min_output_scale, 0.25);
    assert_eq!(config.control.acknowledge.as_secs(), 30);
    assert_eq!(config.interactions.noise, 0.01);
}

#[test]
fn three_mistakes_are_all_reported_with_their_lines() {
    let text = GOOD
        .replace("metric: convergence_score", "metric: convergence_scor")
        .replace("samples: 40", "sample: 40")
        .replace("reached: {step: 60}", "reached: {step: -60}");
    let found = lines(&text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].starts_with("6 probe.sample: unknown field `sample`"), "{found:#?}");
    assert!(found[0].ends_with("did you mean `samples`?"), "{found:#?}");
    assert!(found[1].starts_with("16 policy.rules[0].when.peaked.metric: unknown variant"));
    assert!(found[1].contains("did you mean `convergence_score`?"), "{found:#?}");
    assert!(found[2].starts_with("22 policy.rules[1].when.reached.step: "), "{found:#?}");
}

#[test]
fn ranges_units_and_missing_fields_are_reported_together() {
    let text = GOOD
        .replace("acknowledge: 30s", "acknowledge: 30")
        .replace("select: 8", "select: 17")
        .replace("state: run/state\n", "")
        .replace("min_output_scale: 0.25", "min_output_scale: .nan")
        .replace("id: budget", "id: peak");
    let found = lines(&text).join("\n");
    for part in [
        "control.acknowledge: invalid type: integer `30`, expected a number with its unit",
        "probe.variables.image_patches.select: is 17",
        "state: is missing",
        "warmup.min_output_scale: is NaN",
        "policy.rules[1].id: is `peak`, which another rule has",
    ] {
        assert!(found.contains(part), "{part}\nis not in\n{found}");
    }
}

#[test]
fn a_peak_without_a_budget_is_refused() {
    let text = GOOD.replace("reached: {step: 60}", "peaked: {metric: probe_loss}");
    assert!(lines(&text)[0].contains("no budget"), "{:?}", lines(&text));
}

#[test]
fn a_budget_that_may_never_hold_is_none() {
    for guard in ["phase: plain", "warmup: {min_output_scale: 5}"] {
        let text =
            GOOD.replace("    - id: budget\n", &format!("    - id: budget\n      {guard}\n"));
        assert!(lines(&text)[0].contains("no budget"), "{guard}: {:?}", lines(&text));
    }
}

#[test]
fn one_directory_for_both_networks_is_refused() {
    let text = GOOD.replace("run/baseline", "run/./target");
    assert!(lines(&text)[0].contains("the target's directory too"), "{:?}", lines(&text));
}

#[test]
fn a_rule_for_a_phase_that_nothing_leads_to_is_refused() {
    let text = GOOD.replace("    - id: peak\n", "    - id: peak\n      phase: plian\n");
    assert!(lines(&text)[0].contains("`plian`"), "{:?}", lines(&text));
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_place() {
    let found = mistakes("name: digits\nstate: [unclosed\n");
    assert!(found[0].place.is_some() && found[0].message.contains("no valid YAML"));
}

#[test]
fn an_empty_file_names_everything_that_is_needed() {
    let found = lines("").join("\n");
    for path in [
        "state",
        "networks.target.checkpoints",
        "networks.baseline.program",
        "probe.file",
        "policy.rules",
        "control.directory",
    ] {
        assert!(found.contains(&format!(" {path}: is missing")), "{path} is not in\n{found}");
    }
}

#[test]
fn a_rule_with_a_mistake_does_not_hide_another_rules_mistake() {
    let text = GOOD.replace("stop: {}", "stopp: {}");
    let found = lines(&text);
    assert_eq!(
        found.iter().filter(|l| l.contains("did you mean `stop`?")).count(),
        2,
        "{found:#?}"
    );
}

#[test]
fn a_misspelt_choice_is_one_mistake() {
    for (right, wrong) in [("image_patches: {", "image_patch: {"), ("peaked: {", "peeked: {")] {
        let found = lines(&GOOD.replace(right, wrong));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("did you mean"), "{found:#?}");
    }
}

#[test]
fn a_layout_with_its_settings_becomes_a_way_of_reading() {
    let text = GOOD
        .replace(
            "{checkpoints: run/target}",
            "{checkpoints: run/target, layout: torch, steps: 'model_{step}.pt', weights: ema}",
        )
        .replace("policy:", "limits: {header: 1MiB, objects: 5}\npolicy:");
    let config = Config::parse(Path::new("dir/run.yaml"), &text).expect("good");
    let limits = Limits { header: 1 << 20, objects: 5, ..Limits::default() };
    let weights = Some("ema".to_owned());
    assert_eq!(config.network.reading[0], Reading { layout: Layout::Torch, weights, limits });
    let steps = Steps::Pattern("model_".to_owned(), ".pt".to_owned());
    assert_eq!((config.watch[0].layout, &config.watch[0].steps), (Layout::Torch, &steps));
    assert_eq!(config.network.reading[1].layout, Layout::Safetensors);
    assert_eq!(config.watch[1].limits, limits, "limits are of both");
}

#[test]
fn every_example_loads() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut loaded = 0;
    for entry in std::fs::read_dir(directory).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            Config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
            loaded += 1;
        }
    }
    assert!(loaded >= 3, "{loaded} examples");
}
