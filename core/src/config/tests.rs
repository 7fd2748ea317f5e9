//! Mistakes are found, all at once, where they stand.

mod compute;
mod control;
#[path = "policy_tests.rs"]
mod policy_tests;

use super::*;
use crate::convergence::{Goal, Monitor};
use crate::layout::{Layout, Limits, Reading, Steps};
use crate::policy::{
    Condition, Declined, Diverged, Followed, Margin, Patience, Peaked, Plateaued, Reached, Smooth,
    Threshold,
};

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
    assert!(config.grace.is_zero());
    let text = GOOD.replace("9464'", "9464', grace: 90s");
    let config = Config::parse(Path::new("dir/run.yaml"), &text).expect("good");
    assert_eq!((config.grace.as_secs(), config.tensorboard), (90, None));
    let text = GOOD.replace("9464'", "9464', tensorboard: events");
    let config = Config::parse(Path::new("dir/run.yaml"), &text).expect("good");
    assert!(config.tensorboard.is_some_and(|directory| directory.ends_with("dir/events")));
    let found = lines(&GOOD.replace("9464'", "9464', tensorboard: ''"));
    assert!(found.len() == 1 && found[0].contains("telemetry.tensorboard"), "{found:#?}");
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
fn the_value_cache_has_a_size_with_its_unit() {
    let parse = |text: &str| Config::parse(Path::new("run.yaml"), text);
    let with = |size: &str| parse(&format!("{GOOD}cache: {{size: {size}}}\n"));
    assert_eq!(parse(GOOD).expect("good").cache_size, 10 << 30);
    assert_eq!(with("512MiB").expect("good").cache_size, 512 << 20);
    assert_eq!(with("0KiB").expect("good").cache_size, 0);
    for bad in ["5", "10GB", "-1GiB", "1.5GiB", "99999999999TiB"] {
        assert!(with(bad).is_err(), "{bad}");
    }
}

/// The file with another condition in its first rule.
fn when(condition: &str) -> String {
    GOOD.replace("peaked: {metric: convergence_score, patience: {checks: 3}}", condition)
}

#[test]
fn every_condition_with_all_that_it_takes_is_read() {
    let follow =
        |metric: Monitor| Followed { metric, goal: metric.goal(), smooth: Smooth::Nothing };
    let reached = |checks, seconds| Condition::Reached(Reached { step: None, checks, seconds });
    let plateaued = Plateaued {
        followed: Followed { smooth: Smooth::Median(3), ..follow(Monitor::ProbeLoss) },
        patience: Patience::Steps(500),
        min_gain: Margin::Absolute(0.01),
    };
    let declined = Declined {
        followed: Followed { smooth: Smooth::Ema(0.5), ..follow(Monitor::ConvergentRatio) },
        drop: Margin::Relative(0.05),
        leave: Margin::Relative(0.02),
        confirm: 2,
    };
    let threshold = |metric, threshold, leave| Threshold {
        followed: follow(metric),
        threshold,
        leave,
        confirm: 1,
    };
    let diverged =
        Diverged { followed: follow(Monitor::ProbeLoss), worse_than: 3.0, leave: 3.0, confirm: 2 };
    let peaked = Peaked {
        followed: Followed { goal: Goal::Min, ..follow(Monitor::ConvergenceScore) },
        patience: Patience::Seconds(90.0),
        min_drop: Margin::StandardErrors(1.0),
        significance: Some(0.05),
    };
    let above = Condition::Above(threshold(Monitor::ProbeAccuracy, 0.9, 0.9));
    for (text, condition) in [
        (
            "plateaued: {metric: probe_loss, smooth: {median: 3}, patience: {steps: 500}, min_gain: \
             {absolute: 0.01}}",
            Condition::Plateaued(plateaued),
        ),
        (
            "declined: {metric: convergent_ratio, smooth: {ema: 50%}, drop: {relative: 5%}, leave: \
             {relative: 2%}, confirm: 2}",
            Condition::Declined(declined),
        ),
        (
            "below: {metric: disagreement, threshold: 0.1, leave: 0.2}",
            Condition::Below(threshold(Monitor::Disagreement, 0.1, 0.2)),
        ),
        (
            "diverged: {metric: probe_loss, worse_than: 3, leave: 3, confirm: 2}",
            Condition::Diverged(diverged),
        ),
        (
            "all: [reached: {duration: 2h}, not: {not_finite: {}}]",
            Condition::All(vec![
                reached(None, Some(7200.0)),
                Condition::Not(Box::new(Condition::NotFinite)),
            ]),
        ),
        (
            "k_of: {k: 2, of: [reached: {checks: 9}, not_finite: {}, above: {metric: \
             probe_accuracy, threshold: 0.9}]}",
            Condition::KOf { k: 2, of: vec![reached(Some(9), None), Condition::NotFinite, above] },
        ),
        (
            "peaked: {metric: convergence_score, goal: min, patience: {duration: 90s}, min_drop: \
             {standard_errors: 1}, significance: 5%}",
            Condition::Peaked(peaked),
        ),
    ] {
        let config = Config::parse(Path::new("dir/run.yaml"), &when(text));
        let config = config.unwrap_or_else(|problems| panic!("{text}: {problems}"));
        assert_eq!(config.policy.rules[0].when, condition);
    }
}

#[test]
fn mistakes_within_conditions_are_all_reported_where_they_stand() {
    let text = when(
        "any:
          - all:
              - below: {metric: probe_loss, threshold: 0.5, leave: 0.4}
              - reached: {}
          - plateaued: {metric: probe_loss, patience: {checks: 0}}
          - k_of: {k: 3, of: [not_finite: {}]}
          - declined: {metric: convergent_ratio, drop: {relative: -5%}, confirm: 0}
          - peaked: {metric: convergence_score, smooth: {ema: 150%}, significance: 0.1%}
          - diverged: {metric: probe_loss, worse_than: .inf}",
    );
    let found = lines(&text);
    for (line, part) in [
        (18, "any[0].all[0].below.leave: is 0.4, but must"),
        (19, "any[0].all[1].reached: needs `step`, `epoch`, `checks` or `duration`"),
        (20, "any[1].plateaued.patience.checks: is 0, but must be at least 1 check"),
        (21, "any[2].k_of.k: is 3, but must lie between 1 and 1"),
        (22, "any[3].declined.drop.relative: is -0.05, but must be a number of 0 or more"),
        (22, "any[3].declined.confirm: is 0, but must be at least 1 check"),
        (23, "any[4].peaked.smooth.ema: is 1.5, but must lie above 0, at most 1"),
        (23, "any[4].peaked.significance: is 0.001, but must lie between 0.01 and 0.5"),
        (24, "any[5].diverged.worse_than: is inf, but must be a number"),
    ] {
        let start = format!("{line} policy.rules[0].when.{part}");
        assert!(found.iter().any(|l| l.starts_with(&start)), "{start}\nis not in\n{found:#?}");
    }
    assert_eq!(found.len(), 9, "{found:#?}");
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/convergd.schema.json");
    let committed = std::fs::read_to_string(&file).expect("the schema is there");
    let is_current = committed == schema().expect("written");
    assert!(is_current, "`convergd check --schema > {}` makes it anew", file.display());
}

#[test]
fn every_example_loads() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut loaded = 0;
    for entry in std::fs::read_dir(directory).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            Config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
            let text = std::fs::read_to_string(&path).expect("read");
            let names_schema =
                text.starts_with("# yaml-language-server: $schema=convergd.schema.json");
            assert!(names_schema, "{}", path.display());
            loaded += 1;
        }
    }
    assert!(loaded >= 3, "{loaded} examples");
}

#[test]
fn watching_and_pairing_are_read_and_their_mistakes_are_told() {
    use crate::checkpoint::{Mode, Order};
    let with = |watch: &str, pairing: &str, baseline: &str| {
        GOOD.replace("policy:", &format!("watch: {watch}\npairing: {pairing}\npolicy:"))
            .replace("{checkpoints: run/baseline}", baseline)
    };
    let good = with(
        "{mode: poll, poll: 5s}",
        "{order: {every_n: 2000}, tolerance: 3}",
        "{fixed: run/old.safetensors}",
    );
    let config = Config::parse(Path::new("dir/run.yaml"), &good).expect("good");
    let watching = config.watch[0].watching;
    assert_eq!((watching.mode, watching.poll.as_secs()), (Some(Mode::Poll), 5));
    assert_eq!((config.pairing.order, config.pairing.tolerance), (Order::EveryN(2000), 3));
    assert_eq!(config.trainings().collect::<Vec<_>>(), [Role::Target]);
    assert!(config.fixed.expect("fixed").ends_with("dir/run/old.safetensors"));
    let bad = with(
        "{poll: 1ms}",
        "{order: {every_n: 0}}",
        "{checkpoints: run/baseline, ready: {marker: done}}",
    );
    let found = lines(&bad).join("\n");
    for part in
        ["watch.poll: is 1ms", "every_n: is 0", "ready.marker: is `done`, which names the same"]
    {
        assert!(found.contains(part), "`{part}` is not in:\n{found}");
    }
}
