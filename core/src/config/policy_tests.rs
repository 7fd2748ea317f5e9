//! `policy:` beside its conditions: epochs, phases, notices.

use super::super::*;
use super::{GOOD, lines};
use crate::policy::{Action, Condition, Missing, Patience, Reached, Severity};

/// The good file with another policy.
fn policy(text: &str) -> String {
    let (head, rest) = GOOD.split_once("policy:\n").expect("there");
    let tail = &rest[rest.find("control:").expect("there")..];
    format!("{head}policy:\n{text}{tail}")
}

#[test]
fn epochs_are_steps_and_need_their_number() {
    let rules = |head: &str| {
        policy(&format!(
            "{head}  rules:
    - id: peak
      when:
        peaked: {{metric: probe_loss, patience: {{epochs: 1.5}}, significance: 5%}}
      warmup: {{step: 10, epoch: 0.5}}
      then:
        stop: {{}}
    - id: budget
      when:
        reached: {{epoch: 20, step: 9000}}
      then:
        stop: {{}}
"
        ))
    };
    let config =
        Config::parse(Path::new("dir/run.yaml"), &rules("  steps_per_epoch: 391\n")).expect("good");
    let [peak, budget] = &config.policy.rules[..] else { panic!("two rules") };
    let Condition::Peaked(peaked) = &peak.when else { panic!("{peak:?}") };
    // 586.5 and 195.5 steps.
    assert_eq!(peaked.patience, Patience::Epochs { epochs: 1.5, steps: 587 });
    assert_eq!((peaked.significance, peak.warmup.step), (Some(0.05), 196));
    let wanted = Reached { step: Some(7820), checks: None, seconds: None };
    assert_eq!(budget.when, Condition::Reached(wanted));
    let found = lines(&rules(""));
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().all(|message| message.contains("give `policy.steps_per_epoch`")));
    let found = lines(&rules("  steps_per_epoch: 0\n"));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("policy.steps_per_epoch: is 0"), "{found:#?}");
}

#[test]
fn phases_give_their_lambda_and_say_what_may_follow() {
    let text = |to: &str, from: &str| {
        policy(&format!(
            "  missing: error
  phases:
    plain: {{to: [regularized]}}
    regularized: {{lambda: 0.8, ramp: 500, to: [plain]}}
    late: {{lambda: 2, to: [never]}}
  rules:
    - id: switch
      phase: {from}
      when:
        reached: {{checks: 3}}
      then:
        phase: {{to: {to}}}
"
        ))
    };
    let good = text("regularized", "plain").replace("    late: {lambda: 2, to: [never]}\n", "");
    let config = Config::parse(Path::new("dir/run.yaml"), &good).expect("good");
    let Action::Phase { lambda, ramp, .. } = config.policy.rules[0].then else { panic!("a phase") };
    assert_eq!((lambda, ramp), (0.8, 500));
    assert_eq!(config.policy.missing, Missing::Error);
    assert!(config.policy.allows("plain", "regularized") && !config.policy.allows("plain", "late"));
    let found = lines(&text("regularised", "plain"));
    let has = |part: &str| assert!(found.iter().any(|f| f.contains(part)), "{part}: {found:#?}");
    has("policy.phases.late.lambda: is 2, but must lie between 0 and 1");
    has("policy.phases.late.to: names `never`, but the phases are late, plain, regularized");
    has("then.phase.to: is `regularised`, but `policy.phases` has late, plain, regularized");
    let found = lines(&text("late", "plain").replace("lambda: 2, to: [never]", "lambda: 1"));
    assert!(
        found[0].contains("`policy.phases.plain.to` does not allow it after `plain`"),
        "{found:#?}"
    );
}

#[test]
fn notices_are_read() {
    let text = policy(
        "  rules:
    - id: low
      when:
        below: {metric: convergent_ratio, threshold: 0.3}
      then:
        alert: {severity: critical, message: look at it}
    - id: tell
      when:
        above: {metric: probe_accuracy, threshold: 0.9}
      then:
        notify: {}
    - id: mark
      when:
        above: {metric: probe_accuracy, threshold: 0.9}
      then:
        mark_best: {}
    - id: budget
      when:
        reached: {step: 9}
      then:
        stop: {}
",
    );
    let config = Config::parse(Path::new("dir/run.yaml"), &text).expect("good");
    let actions: Vec<&Action> = config.policy.rules.iter().map(|rule| &rule.then).collect();
    let alert =
        Action::Alert { severity: Severity::Critical, message: Some("look at it".to_owned()) };
    assert_eq!(
        actions,
        [&alert, &Action::Notify { message: None }, &Action::MarkBest, &Action::Stop]
    );
    let found = lines(&text.replace("severity: critical", "severity: urgent"));
    assert!(found[0].contains("unknown variant `urgent`"), "{found:#?}");
}

#[test]
fn empty_items_and_reserved_names_are_mistakes() {
    let end = "    - {id: end, when: {reached: {step: 9}}, then: {stop: {}}}\n";
    let of = |rule: &str| lines(&policy(&format!("  rules:\n    - {rule}\n{end}")));
    for (rule, part) in [
        ("", "policy.rules[0]: is empty: give a rule"),
        ("{id: a, when: {any: [null, {not_finite: {}}]}, then: {stop: {}}}", "any[0]: is empty"),
        (
            "{id: manual-1, when: {not_finite: {}}, then: {stop: {}}}",
            "id: is `manual-1`, which names",
        ),
        ("{id: '', when: {not_finite: {}}, then: {stop: {}}}", "id: is empty"),
        (
            "{id: a, when: {not_finite: {}}, then: {phase: {to: '', lambda: 0.1}}}",
            "then.phase.to: is missing",
        ),
        (
            "{id: a, when: {peaked: {metric: probe_loss, smooth: {median: 10}, significance: 5%}}, then: \
             {stop: {}}}",
            "smooth.median: is 10, but with `significance`",
        ),
    ] {
        let found = of(rule);
        assert!(found.iter().any(|line| line.contains(part)), "{rule}: {found:#?}");
        assert!(!found.iter().any(|line| line.contains("BUG")), "{rule}: {found:#?}");
    }
}

#[test]
fn a_phase_without_settings_is_one_and_may_be_led_to_by_a_person() {
    let text = policy(
        "  phases:
    plain:
    regularized: {lambda: 0.8}
  rules:
    - {id: back, phase: regularized, when: {reached: {step: 5}}, then: {phase: {to: plain, lambda: 0}}}
    - {id: end, when: {reached: {step: 9}}, then: {stop: {}}}
",
    );
    let config = Config::parse(Path::new("dir/run.yaml"), &text).expect("good");
    assert!(config.policy.transitions.is_empty());
}

#[test]
fn mistakes_beside_each_other_are_all_told() {
    let found = lines(&policy(
        "  phases:
    plain: {to: [one, other]}
  rules:
    - id: a
      phase: nowhere
      when:
        declined: {metric: probe_loss, leave: {absolute: -1}}
      then:
        stop: {}
    - id: b
      when:
        declined: {metric: probe_loss, drop: {relative: 5}}
      then:
        stop: {}
    - id: c
      when:
        not_finite: {}
      then: stop
",
    ));
    let wanted = [
        "policy.phases.plain.to: names `one`, `other`, but the phases are plain",
        "rules[0].when.declined.drop: is missing",
        "rules[0].when.declined.leave.absolute: is -1",
        "relative: 5 has no unit; write `5%`, or `500%` if that is meant",
        "rules[2].then: is a name alone; write it with what belongs to it, such as `{stop: {}}`",
    ];
    for part in wanted {
        assert!(found.iter().any(|message| message.contains(part)), "{part}: {found:#?}");
    }
    // What the last rule leads to is not known.
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
}

#[test]
fn a_phase_that_nothing_leads_to_is_told_beside_other_mistakes() {
    let found = lines(&policy(
        "  rules:
    - id: a
      phase: nowhere
      when:
        below: {metric: probe_loss}
      then:
        stop: {}
",
    ));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().any(|message| message.contains("rules[0].phase: is `nowhere`")));
}

#[test]
fn a_value_in_the_place_of_a_form_is_told_how_to_write_it() {
    let found = lines(&policy(
        "  rules:
    - id: a
      when:
        peaked: {metric: probe_loss, patience: 3, min_drop: 0.01, smooth: 0.3}
      then:
        stop: now
",
    ));
    for part in [
        "patience: invalid type: integer `3`; write `{checks: 3}`",
        "min_drop: invalid type: floating point `0.01`; write `{absolute: 0.01}`",
        "smooth: invalid type: floating point `0.3`; write `{ema: 30%}`",
        "then.stop: invalid type: string \"now\"; write `{}`",
    ] {
        assert!(found.iter().any(|message| message.contains(part)), "{part}: {found:#?}");
    }
}

#[test]
fn a_wrong_item_of_a_list_hides_no_other_mistake_and_invents_none() {
    let text = policy(
        "  phases:
    plain: {to: [1, nowhere]}
  rules:
    - id: a
      when:
        below: {metric: probe_los, threshold: 1}
      then:
        stop: {}
",
    )
    .replace(
        "control: {",
        "control: {escalate: [{after: 5s, do: {exec: {command: [scancel, 123]}}}], ",
    );
    let found = lines(&text);
    let wanted = ["escalate[0].do.exec.command[1]: ", "phases.plain.to[0]: ", "probe_los"];
    for part in wanted {
        assert!(found.iter().any(|message| message.contains(part)), "{part}: {found:#?}");
    }
    assert!(found.iter().all(|message| !message.contains("is missing")), "{found:#?}");
    // The list with the mistake is not looked into further.
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn after_many_mistakes_the_rest_is_said_to_be_unread_and_nothing_is_invented() {
    let rule = |i: usize| {
        format!("    - {{id: r{i}, whem: {{not_finite: {{}}}}, then: {{stop: {{}}}}}}\n")
    };
    let rules: String = (0..60).map(rule).collect();
    let found = lines(&policy(&format!("  rules:\n{rules}")));
    assert_eq!(found.len(), 51);
    assert!(found[..50].iter().all(|message| message.contains("`whem`")), "{found:#?}");
    assert!(found[50].contains("there may be more mistakes"), "{}", found[50]);
}

#[test]
fn a_run_may_start_in_a_phase_with_a_weight() {
    let rules = "  rules:
    - {id: end, when: {reached: {step: 9}}, then: {stop: {}}}
";
    let text = |start: &str| policy(&format!("{start}{rules}"));
    let good = "  start: on\n  phases: {on: {lambda: 0.8}, off: {lambda: 0}}\n";
    let config = Config::parse(Path::new("run.yaml"), &text(good)).expect("good");
    assert_eq!((config.policy.start.phase.as_str(), config.policy.start.lambda), ("on", 0.8));
    for (start, message) in [
        ("  start: on\n", "policy.start: is `on`, whose λ is not given"),
        ("  start: on\n  phases: {on: {to: [off]}, off: {}}\n", "whose λ is not given"),
        ("  phases: {on: {lambda: 0.8}}\n", "lacks `plain`, in which a run starts"),
    ] {
        let found = lines(&text(start));
        assert!(found.iter().any(|line| line.contains(message)), "{message}: {found:#?}");
    }
}

#[test]
fn factors_may_be_written_as_shares_and_a_divergence_has_its_own_end() {
    let text = format!("{GOOD}interactions: {{noise: 1%, salience: 0.02}}\n");
    let config = Config::parse(Path::new("run.yaml"), &text).expect("good");
    assert_eq!(config.interactions.noise, 0.01);
    let rules = |leave: &str| {
        policy(&format!(
            "  rules:
    - {{id: a, when: {{diverged: {{metric: probe_loss, worse_than: 3{leave}}}}}, then: {{stop: {{}}}}}}
    - {{id: budget, when: {{reached: {{step: 9}}}}, then: {{stop: {{}}}}}}
"
        ))
    };
    let leave = |text: &str| {
        let config = Config::parse(Path::new("run.yaml"), text).expect("good");
        let Condition::Diverged(diverged) = &config.policy.rules[0].when else {
            panic!("diverged")
        };
        diverged.leave
    };
    assert_eq!((leave(&rules("")), leave(&rules(", leave: 2"))), (3.0, 2.0));
    let found = lines(&rules(", leave: 4"));
    assert!(found.len() == 1 && found[0].contains("diverged.leave: is 4"), "{found:#?}");
}
