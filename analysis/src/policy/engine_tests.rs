//! Rules, one behaviour each.

use super::*;
use crate::convergence::{Goal, Totals};
use crate::policy::{
    Condition, Declined, Diverged, Followed, Margin, Missing, Patience, Peaked, Plateaued, Reached,
    Replayed, Severity, Smooth, Threshold, replay,
};

fn seen(step: u64, score: f64) -> Observation {
    let estimate = |value| Estimate { value, standard_error: 0.1 };
    let monitors = [
        (Monitor::ConvergenceScore, estimate(score)),
        (Monitor::OutputScaleTarget, estimate(0.1 * step as f64)),
        (Monitor::OutputScaleBaseline, estimate(0.2 * step as f64)),
    ];
    Observation { step, monitors: monitors.into(), finite: true, samples: None }
}

fn rule(id: &str, when: Condition, then: Action) -> Rule {
    let id = id.to_owned();
    Rule { id, when, then, warmup: Warmup::default(), cooldown: None, phase: None }
}

const SCORE: Followed =
    Followed { metric: Monitor::ConvergenceScore, goal: Goal::Max, smooth: Smooth::Nothing };

fn peaked(patience: u32) -> Condition {
    let patience = Patience::Checks(patience);
    Condition::Peaked(Peaked {
        followed: SCORE,
        patience,
        min_drop: Margin::NONE,
        significance: None,
    })
}

fn plateaued(patience: u32, min_gain: Margin) -> Condition {
    let patience = Patience::Checks(patience);
    Condition::Plateaued(Plateaued { followed: SCORE, patience, min_gain })
}

fn declined(drop: Margin, leave: Margin, confirm: u32) -> Condition {
    Condition::Declined(Declined { followed: SCORE, drop, leave, confirm })
}

fn below(threshold: f64, leave: f64, confirm: u32) -> Condition {
    Condition::Below(Threshold { followed: SCORE, threshold, leave, confirm })
}

fn above(threshold: f64) -> Condition {
    Condition::Above(Threshold { followed: SCORE, threshold, leave: threshold, confirm: 1 })
}

fn to_phase(to: &str, lambda: f64) -> Action {
    Action::Phase { to: to.to_owned(), lambda, ramp: 0, max_output_scale: None }
}

fn at_step(step: u64) -> Condition {
    Condition::Reached(Reached { step: Some(step), checks: None, seconds: None })
}

fn run(rules: Vec<Rule>, observations: &[Observation]) -> Vec<Decision> {
    run_policy(&Policy { rules, ..Policy::default() }, observations)
}

/// One observation a minute.
fn run_policy(policy: &Policy, observations: &[Observation]) -> Vec<Decision> {
    let minutes = (0..).map(|minute| 60.0 * f64::from(minute));
    replay(policy, observations.iter().zip(minutes)).decisions
}

fn series(scores: &[f64]) -> Vec<Observation> {
    scores.iter().enumerate().map(|(i, &score)| seen(i as u64 + 1, score)).collect()
}

#[test]
fn stops_once_patience_is_used_up_and_names_the_best_step() {
    let scores = series(&[0.1, 0.3, 0.5, 0.4, 0.45, 0.2, 0.1, 0.9]);
    let decisions = run(vec![rule("peak", peaked(3), Action::Stop)], &scores);
    assert_eq!(decisions.len(), 1, "a stopped run decides nothing more");
    let decision = &decisions[0];
    assert_eq!((decision.step, decision.best_step), (6, Some(3)));
    assert_eq!((decision.id.as_str(), decision.action.as_str()), ("peak@6", "stop"));
    assert!(decision.reason.contains("0.5000 at step 3"), "{}", decision.reason);
}

#[test]
fn a_tie_does_not_renew_the_best() {
    let decisions = run(vec![rule("peak", peaked(2), Action::Stop)], &series(&[0.5, 0.5, 0.5]));
    assert_eq!((decisions[0].step, decisions[0].best_step), (3, Some(1)));
}

#[test]
fn a_small_drop_is_waited_out() {
    let mut patient = rule("peak", peaked(1), Action::Stop);
    if let Condition::Peaked(peaked) = &mut patient.when {
        peaked.min_drop = Margin::Absolute(0.15);
    }
    let decisions = run(vec![patient], &series(&[0.5, 0.45, 0.4, 0.3]));
    assert_eq!(decisions[0].step, 4);
}

#[test]
fn the_warmup_hides_a_spurious_early_peak() {
    let mut guarded = rule("peak", peaked(2), Action::Stop);
    // The target's scale reaches 0.4 at step 4.
    guarded.warmup.min_output_scale = 0.4;
    let scores = series(&[0.9, 0.1, 0.1, 0.2, 0.3, 0.2, 0.1]);
    let decisions = run(vec![guarded], &scores);
    assert_eq!((decisions[0].step, decisions[0].best_step), (7, Some(5)));
}

#[test]
fn warmup_checks_and_steps_are_counted() {
    let mut by_checks = rule("checks", at_step(0), Action::Stop);
    by_checks.warmup.checks = 3;
    assert_eq!(run(vec![by_checks], &series(&[0.0; 5]))[0].step, 4);
    let mut by_step = rule("step", at_step(0), Action::Stop);
    by_step.warmup.step = 3;
    assert_eq!(run(vec![by_step], &series(&[0.0; 5]))[0].step, 3);
}

#[test]
fn the_first_rule_that_fires_wins() {
    let rules =
        vec![rule("peak", peaked(1), Action::Stop), rule("budget", at_step(2), Action::Stop)];
    assert_eq!(run(rules.clone(), &series(&[0.5, 0.4]))[0].rule, "peak");
    assert_eq!(run(rules, &series(&[0.5, 0.6]))[0].rule, "budget");
}

#[test]
fn a_phase_switch_resets_the_rules_and_keeps_the_run_going() {
    let to = Action::Phase {
        to: "regularized".to_owned(),
        lambda: 0.8,
        ramp: 10,
        max_output_scale: None,
    };
    let mut switch = rule("switch", peaked(1), to);
    switch.phase = Some("plain".to_owned());
    let mut end = rule("end", peaked(1), Action::Stop);
    end.phase = Some("regularized".to_owned());
    let decisions = run(vec![switch, end], &series(&[0.5, 0.4, 0.1, 0.2, 0.1]));
    let steps: Vec<_> = decisions.iter().map(|d| (d.action.as_str(), d.step)).collect();
    assert_eq!(steps, [("phase", 2), ("stop", 5)]);
    assert_eq!((decisions[0].lambda, decisions[0].ramp), (0.8, 10));
    assert_eq!(decisions[1].best_step, Some(4), "the best of the first phase is forgotten");
    assert_eq!(decisions[1].phase, "regularized");
}

#[test]
fn a_phase_rule_does_not_hold_in_the_phase_that_it_leads_to() {
    let to = Action::Phase {
        to: "regularized".to_owned(),
        lambda: 0.8,
        ramp: 0,
        max_output_scale: None,
    };
    let rules = vec![rule("switch", at_step(2), to), rule("budget", at_step(4), Action::Stop)];
    let steps: Vec<_> =
        run(rules, &series(&[0.1; 6])).into_iter().map(|d| (d.rule, d.step)).collect();
    assert_eq!(steps, [("switch".to_owned(), 2), ("budget".to_owned(), 4)]);
}

#[test]
fn a_budget_names_the_best_step_that_another_rule_knows() {
    let rules =
        vec![rule("peak", peaked(9), Action::Stop), rule("budget", at_step(4), Action::Stop)];
    let decisions = run(rules, &series(&[0.1, 0.5, 0.4, 0.3]));
    assert_eq!((decisions[0].rule.as_str(), decisions[0].best_step), ("budget", Some(2)));
}

#[test]
fn a_phase_rule_does_not_fire_at_large_logits() {
    let most = |most| Action::Phase {
        to: "regularized".to_owned(),
        lambda: 0.8,
        ramp: 0,
        max_output_scale: Some(most),
    };
    let scores = series(&[0.5, 0.4, 0.3]);
    assert!(run(vec![rule("late", peaked(1), most(0.3))], &scores).is_empty());
    assert_eq!(run(vec![rule("early", peaked(1), most(0.5))], &scores)[0].step, 2);
}

#[test]
fn pairs_without_the_metric_count_for_nothing() {
    let mut scores = series(&[0.5, 0.4, 0.3, 0.2]);
    scores[1].monitors.remove(&Monitor::ConvergenceScore);
    assert_eq!(run(vec![rule("peak", peaked(2), Action::Stop)], &scores)[0].step, 4);
}

#[test]
fn outputs_that_are_not_finite_fire_their_rule() {
    let mut scores = series(&[0.5, 0.4]);
    scores[1] = Observation { step: 2, monitors: Monitors::new(), finite: false, samples: None };
    let decisions = run(vec![rule("nan", Condition::NotFinite, Action::Stop)], &scores);
    assert_eq!((decisions.len(), decisions[0].step), (1, 2));
}

#[test]
fn a_budget_counts_checks() {
    let budget = Condition::Reached(Reached { step: None, checks: Some(3), seconds: None });
    assert_eq!(run(vec![rule("b", budget, Action::Stop)], &series(&[0.0; 5]))[0].step, 3);
}

/// The steps at which a condition holds: where the rule of its opposite does not fire.
fn holding(when: Condition, scores: &[f64]) -> Vec<u64> {
    let rest = Condition::Not(Box::new(when));
    let policy = Policy { rules: vec![rule("r", rest, Action::Stop)], ..Policy::default() };
    let mut state = PolicyState::default();
    let mut steps = Vec::new();
    for observation in series(scores) {
        let outcome = decide(&policy, state, &observation, 0.0);
        let decision = outcome.decision;
        state = PolicyState { stopped: false, ..outcome.state };
        if decision.is_none() {
            steps.push(observation.step);
        }
    }
    steps
}

#[test]
fn a_plateau_counts_only_gains_above_its_least() {
    // Gains of 0.05 are none: the best stays that of step 1.
    let scores = [0.5, 0.55, 0.6, 0.65, 0.7];
    assert_eq!(holding(plateaued(3, Margin::Absolute(0.3)), &scores), [4, 5]);
    assert_eq!(holding(plateaued(3, Margin::NONE), &scores), [0; 0]);
    // A tenth of the best value 0.5 is 0.05: 0.56 is a gain, and of that 0.61 is none.
    let scores = [0.5, 0.56, 0.61, 0.61, 0.61];
    assert_eq!(holding(plateaued(3, Margin::Relative(0.1)), &scores), [5]);
}

#[test]
fn a_decline_is_confirmed_and_stays_until_the_way_back_is_gone() {
    let scores = [0.5, 0.3, 0.45, 0.3, 0.3, 0.35, 0.45, 0.6];
    let condition = |confirm| declined(Margin::Absolute(0.1), Margin::Absolute(0.1), confirm);
    assert_eq!(holding(condition(1), &scores), [2, 4, 5, 6]);
    assert_eq!(holding(condition(2), &scores), [5, 6]);
    let sticky = declined(Margin::Absolute(0.1), Margin::Absolute(0.0), 2);
    assert_eq!(holding(sticky, &scores), [5, 6, 7], "until the best is beaten");
}

#[test]
fn margins_in_standard_errors_take_both_values_as_independent() {
    // Each has a standard error of 0.1, so the difference has 0.1414.
    let by = |count| declined(Margin::StandardErrors(count), Margin::NONE, 1);
    assert_eq!(holding(by(2.0), &[0.5, 0.22]), [0; 0]);
    assert_eq!(holding(by(2.0), &[0.5, 0.21]), [2]);
}

#[test]
fn relative_drops_are_shares_of_the_best() {
    let by = |share| declined(Margin::Relative(share), Margin::NONE, 1);
    assert_eq!(holding(by(0.2), &[-0.5, -0.59, -0.61]), [3]);
}

#[test]
fn thresholds_have_a_way_in_and_a_way_out() {
    let scores = [0.5, 0.2, 0.4, 0.2, 0.1, 0.35, 0.45, 0.2];
    assert_eq!(holding(below(0.3, 0.3, 1), &scores), [2, 4, 5, 8]);
    assert_eq!(holding(below(0.3, 0.4, 2), &scores), [5, 6]);
    assert_eq!(holding(above(0.4), &scores), [1, 7]);
}

#[test]
fn divergence_is_a_bound_or_outputs_that_are_not_finite() {
    let diverged = |confirm| {
        Condition::Diverged(Diverged { followed: SCORE, worse_than: -1.0, leave: -1.0, confirm })
    };
    let scores = series(&[0.5, -1.5, 0.2, -1.5, -2.0]);
    let stop = |confirm| vec![rule("guard", diverged(confirm), Action::Stop)];
    assert_eq!(run(stop(1), &scores)[0].step, 2);
    assert_eq!(run(stop(2), &scores)[0].step, 5);
    let nan = Observation { step: 3, monitors: Monitors::new(), finite: false, samples: None };
    assert_eq!(run(stop(9), &[scores[0].clone(), nan])[0].step, 3);
}

#[test]
fn smoothing_waits_out_a_single_outlier() {
    let scores = [0.5, 0.1, 0.6, 0.6, 0.6, 0.1, 0.1, 0.1];
    let smoothed = |smooth| {
        let followed = Followed { smooth, ..SCORE };
        below_of(followed, 0.3)
    };
    assert_eq!(holding(smoothed(Smooth::Nothing), &scores), [2, 6, 7, 8]);
    assert_eq!(holding(smoothed(Smooth::Median(3)), &scores), [7, 8]);
    // 0.5, 0.3, 0.45, 0.525, 0.5625, 0.33, 0.22, 0.16
    assert_eq!(holding(smoothed(Smooth::Ema(0.5)), &scores), [7, 8]);
}

fn below_of(followed: Followed, threshold: f64) -> Condition {
    Condition::Below(Threshold { followed, threshold, leave: threshold, confirm: 1 })
}

#[test]
fn all_any_and_k_of_hold_as_their_names_say() {
    let scores = [0.5, 0.3, 0.1, 0.6];
    let parts = || vec![below(0.4, 0.4, 1), below(0.2, 0.2, 1), at_step(4)];
    assert_eq!(holding(Condition::All(parts()), &scores), [0; 0]);
    assert_eq!(holding(Condition::Any(parts()), &scores), [2, 3, 4]);
    assert_eq!(holding(Condition::KOf { k: 2, of: parts() }, &scores), [3]);
    let not = Condition::Not(Box::new(Condition::Any(parts())));
    assert_eq!(holding(not, &scores), [1]);
}

#[test]
fn a_combination_names_the_reasons_that_hold() {
    let both = Condition::All(vec![peaked(1), below(0.45, 0.45, 1)]);
    let decision = &run(vec![rule("both", both, Action::Stop)], &series(&[0.5, 0.47, 0.4]))[0];
    assert_eq!((decision.step, decision.best_step), (3, Some(1)));
    assert!(decision.reason.contains("peaked: best 0.5000 at step 1"), "{}", decision.reason);
    assert!(
        decision.reason.contains("; and `convergence_score` below 0.45"),
        "{}",
        decision.reason
    );
}

#[test]
fn every_condition_of_a_combination_sees_every_observation() {
    // The peak is looked at while the other condition does not hold yet.
    let late = Condition::All(vec![at_step(5), peaked(3)]);
    let decision =
        &run(vec![rule("late", late, Action::Stop)], &series(&[0.1, 0.5, 0.4, 0.3, 0.2]))[0];
    assert_eq!((decision.step, decision.best_step), (5, Some(2)));
}

#[test]
fn two_rules_on_one_metric_do_not_clash() {
    let rules = vec![
        rule("slow", peaked(4), Action::Stop),
        rule("fast", peaked(2), to_phase("regularized", 0.8)),
    ];
    let decisions = run(rules, &series(&[0.5, 0.4, 0.3, 0.6, 0.5, 0.4, 0.3, 0.2]));
    let steps: Vec<_> = decisions.iter().map(|d| (d.rule.as_str(), d.step)).collect();
    // `fast` fires at 3 and everything starts anew: the best is 0.6 at step 4.
    assert_eq!(steps, [("fast", 3), ("slow", 8)]);
}

#[test]
fn patience_in_steps_and_in_time_counts_from_the_best() {
    let with = |patience| {
        Condition::Peaked(Peaked {
            followed: SCORE,
            patience,
            min_drop: Margin::NONE,
            significance: None,
        })
    };
    let mut scores = series(&[0.5, 0.4, 0.3, 0.2]);
    for observation in &mut scores {
        observation.step *= 100;
    }
    let by_steps = rule("steps", with(Patience::Steps(150)), Action::Stop);
    assert_eq!(run(vec![by_steps], &scores)[0].step, 300);
    let by_time = rule("time", with(Patience::Seconds(180.0)), Action::Stop);
    assert_eq!(run(vec![by_time], &scores)[0].step, 400, "three minutes after the first");
}

#[test]
fn a_budget_of_time_counts_from_the_first_pair() {
    let budget = Condition::Reached(Reached { step: None, checks: None, seconds: Some(120.0) });
    let decision = &run(vec![rule("b", budget, Action::Stop)], &series(&[0.0; 5]))[0];
    assert_eq!(decision.step, 3);
    assert_eq!(decision.reason, "120 s reached the budget of 120 s");
}

#[test]
fn a_rule_rests_for_its_cooldown() {
    // The paper's experiment: on, off, on.
    let switch = |id: &str, from: &str, to: &str, lambda| {
        let mut rule = rule(id, peaked(1), to_phase(to, lambda));
        rule.phase = Some(from.to_owned());
        rule.cooldown = Some(Patience::Checks(6));
        rule
    };
    let rules =
        vec![switch("on", "plain", "regularized", 0.8), switch("off", "regularized", "plain", 0.0)];
    let falling: Vec<f64> = (0..12).map(|i| -f64::from(i)).collect();
    let decisions = run(rules, &series(&falling));
    let steps: Vec<_> = decisions.iter().map(|d| (d.rule.as_str(), d.step)).collect();
    assert_eq!(steps, [("on", 2), ("off", 4), ("on", 8), ("off", 10)]);
}

#[test]
fn a_missing_metric_that_counts_as_bad_uses_up_patience() {
    let mut scores = series(&[0.5, 0.4, 0.3, 0.2]);
    scores[1].monitors.remove(&Monitor::ConvergenceScore);
    let rules = vec![rule("peak", peaked(2), Action::Stop)];
    let policy = |missing| Policy { rules: rules.clone(), missing, ..Policy::default() };
    assert_eq!(run_policy(&policy(Missing::Skip), &scores)[0].step, 4);
    assert_eq!(run_policy(&policy(Missing::CountAsBad), &scores)[0].step, 3);
}

#[test]
fn the_memory_of_an_earlier_version_is_taken_over() {
    let stored = r#"{"seen":5,"warm":true,"best":[0.5,2],"since_best":3}"#;
    let memory: RuleState = serde_json::from_str(stored).expect("read");
    let condition = &memory.conditions[""];
    assert_eq!(
        (condition.best.map(|b| (b.value, b.at.step)), condition.since_best),
        (Some((0.5, 2)), 3)
    );
}

#[test]
fn state_survives_a_restart_at_any_point() {
    let when = Condition::Any(vec![
        Condition::Peaked(Peaked {
            followed: Followed { smooth: Smooth::Median(3), ..SCORE },
            patience: Patience::Checks(3),
            min_drop: Margin::StandardErrors(0.5),
            significance: None,
        }),
        declined(Margin::Relative(0.9), Margin::NONE, 3),
    ]);
    let policy = Policy { rules: vec![rule("peak", when, Action::Stop)], ..Policy::default() };
    let scores = series(&[0.1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01]);
    let whole = run_policy(&policy, &scores);
    assert_eq!(whole.len(), 1);
    let mut state = PolicyState::default();
    let mut decisions = Vec::new();
    for (minute, observation) in scores.iter().enumerate() {
        let outcome = decide(&policy, state, observation, 60.0 * minute as f64);
        decisions.extend(outcome.decision);
        // What a restart does: the stored text is all that is kept.
        let stored = serde_json::to_string(&outcome.state).expect("written");
        state = serde_json::from_str(&stored).expect("read");
    }
    assert_eq!(decisions, whole);
}

/// All that a policy makes of them, one observation a minute.
fn outcome(policy: &Policy, observations: &[Observation]) -> Replayed {
    let minutes = (0..).map(|minute| 60.0 * f64::from(minute));
    replay(policy, observations.iter().zip(minutes))
}

#[test]
fn what_changes_nothing_is_said_once_as_long_as_it_holds_and_stops_no_other_rule() {
    let message = Some("look".to_owned());
    let rules = vec![
        rule("tell", below(0.3, 0.3, 1), Action::Notify { message: message.clone() }),
        rule("end", at_step(6), Action::Stop),
    ];
    let scores = series(&[0.5, 0.2, 0.1, 0.4, 0.2, 0.2]);
    let Replayed { decisions, notices, .. } =
        outcome(&Policy { rules, ..Policy::default() }, &scores);
    let told: Vec<_> = notices.iter().map(|n| (n.id.as_str(), n.action.as_str())).collect();
    assert_eq!(told, [("tell@2", "notify"), ("tell@5", "notify")]);
    assert_eq!(notices[0].message, message);
    assert!(notices[0].reason.contains("0.2000 at step 2"), "{}", notices[0].reason);
    assert_eq!(decisions.len(), 1);
}

#[test]
fn a_notice_rests_for_its_cooldown() {
    let mut tell = rule("tell", below(0.3, 0.3, 1), Action::Notify { message: None });
    tell.cooldown = Some(Patience::Checks(4));
    let policy = Policy { rules: vec![tell], ..Policy::default() };
    let scores = series(&[0.2, 0.5, 0.2, 0.2, 0.2, 0.2]);
    let steps: Vec<u64> = outcome(&policy, &scores).notices.iter().map(|n| n.step).collect();
    assert_eq!(steps, [1, 5], "it holds again at 3, and is said when the rest is over");
}

#[test]
fn an_alert_holds_as_long_as_its_condition() {
    let alert = Action::Alert { severity: Severity::Critical, message: None };
    let rules = vec![rule("low", below(0.3, 0.4, 1), alert)];
    let policy = Policy { rules, ..Policy::default() };
    let mut state = PolicyState::default();
    let mut holds = Vec::new();
    for observation in series(&[0.5, 0.2, 0.35, 0.45]) {
        state = decide(&policy, state, &observation, 0.0).state;
        holds.push(state.rules["low"].holds);
    }
    assert_eq!(holds, [false, true, true, false]);
}

#[test]
fn a_marked_best_is_what_a_budget_names_and_what_is_kept() {
    let marks = rule("good", above(0.6), Action::MarkBest);
    let rules = vec![
        rule("peak", peaked(9), Action::Notify { message: None }),
        marks,
        rule("end", at_step(5), Action::Stop),
    ];
    let policy = Policy { rules, ..Policy::default() };
    let scores = series(&[0.1, 0.7, 0.9, 0.5, 0.2]);
    let Replayed { decisions, notices, .. } = outcome(&policy, &scores);
    assert_eq!((notices[0].rule.as_str(), notices[0].best_step), ("good", Some(2)));
    assert_eq!(decisions[0].best_step, Some(2), "marked, though step 3 is better");
    let mut state = PolicyState::default();
    for observation in &scores[..4] {
        state = decide(&policy, state, observation, 0.0).state;
    }
    assert!(state.best_steps().contains(&2));
}

#[test]
fn a_missing_monitor_can_be_an_error() {
    let mut scores = series(&[0.5, 0.4, 0.3]);
    scores[1].monitors.remove(&Monitor::ConvergenceScore);
    let policy = |rules| Policy { rules, missing: Missing::Error, ..Policy::default() };
    let strict = policy(vec![rule("peak", peaked(9), Action::Stop)]);
    let wanted =
        MissingMonitor { rule: "peak".to_owned(), monitor: Monitor::ConvergenceScore, step: 2 };
    assert_eq!(outcome(&strict, &scores).missing, Some(wanted));
    // Before its warm-up is over a rule follows nothing; and what is decided is no mistake.
    let mut late = rule("peak", peaked(9), Action::Stop);
    late.warmup.checks = 2;
    assert_eq!(outcome(&policy(vec![late]), &scores).missing, None);
    scores[1].finite = false;
    let guarded = vec![
        rule("peak", peaked(9), Action::Stop),
        rule("nan", Condition::NotFinite, Action::Stop),
    ];
    let Replayed { decisions, missing, .. } = outcome(&policy(guarded), &scores);
    assert_eq!((decisions[0].rule.as_str(), missing), ("nan", None));
}

#[test]
fn a_phase_is_left_only_for_those_that_it_allows() {
    let rules = vec![
        rule("skip", at_step(2), to_phase("late", 0.4)),
        rule("on", at_step(3), to_phase("regularized", 0.8)),
    ];
    let allowed = [("plain".to_owned(), ["regularized".to_owned()].into())];
    let policy = Policy { rules, transitions: allowed.into(), ..Policy::default() };
    let decisions = outcome(&policy, &series(&[0.1; 4])).decisions;
    let steps: Vec<_> = decisions.iter().map(|d| (d.rule.as_str(), d.step)).collect();
    // From `regularized`, of which nothing is said, any may follow.
    assert_eq!(steps, [("on", 3), ("skip", 4)]);
}

#[test]
fn patience_in_epochs_is_one_in_steps() {
    let patience = Patience::Epochs { epochs: 1.5, steps: 150 };
    let with = Peaked { followed: SCORE, patience, min_drop: Margin::NONE, significance: None };
    let mut scores = series(&[0.5, 0.4, 0.3, 0.2]);
    for observation in &mut scores {
        observation.step *= 100;
    }
    let decision = &run(vec![rule("e", Condition::Peaked(with), Action::Stop)], &scores)[0];
    assert_eq!(decision.step, 300);
    assert!(decision.reason.contains("patience 1.5 epochs (150 steps)"), "{}", decision.reason);
}

#[test]
fn a_missing_value_that_counts_as_bad_diverges() {
    let guard = Condition::Diverged(Diverged {
        followed: SCORE,
        worse_than: -1.0,
        leave: -1.0,
        confirm: 2,
    });
    let mut scores = series(&[0.5, 0.4, 0.3]);
    for observation in &mut scores[1..] {
        observation.monitors.remove(&Monitor::ConvergenceScore);
    }
    let rules = vec![rule("guard", guard, Action::Stop)];
    let policy = |missing| Policy { rules: rules.clone(), missing, ..Policy::default() };
    assert_eq!(run_policy(&policy(Missing::CountAsBad), &scores)[0].step, 3);
    assert!(run_policy(&policy(Missing::Skip), &scores).is_empty());
}

/// Pairs of ten samples with these losses: by their mean, and each a little off for itself.
fn sampled(losses: &[f64]) -> Vec<Observation> {
    let mut random = fastrand::Rng::with_seed(5);
    let pair = |(i, &loss): (usize, &f64)| {
        let mut sample = || {
            let mut totals = Totals::zero(2);
            totals.samples = 1.0;
            totals.loss = Some([loss + 0.1 * (random.f64() - 0.5); 2]);
            totals
        };
        let samples = Samples::of(&(0..10).map(|_| sample()).collect::<Vec<_>>());
        let value = samples.value(Monitor::ProbeLoss).expect("labelled");
        let monitors = [(Monitor::ProbeLoss, Estimate { value, standard_error: 0.0 })].into();
        Observation { step: i as u64 + 1, monitors, finite: true, samples: Some(samples) }
    };
    losses.iter().enumerate().map(pair).collect()
}

#[test]
fn a_drop_must_be_more_than_chance_on_top_of_patience() {
    let loss = Followed { metric: Monitor::ProbeLoss, goal: Goal::Min, ..SCORE };
    let looks = |significance| {
        let (patience, min_drop) = (Patience::Checks(2), Margin::NONE);
        let peaked = Peaked { followed: loss, patience, min_drop, significance };
        vec![rule("peak", Condition::Peaked(peaked), Action::Stop)]
    };
    // Noise of 0.01 around 0.5, then a rise that is none.
    let mut losses = vec![0.5; 8];
    losses.extend([1.0, 1.0, 1.0]);
    let pairs = sampled(&losses);
    assert!(run(looks(None), &pairs)[0].step < 8, "patience alone takes noise for a peak");
    let decision = &run(looks(Some(0.05)), &pairs)[0];
    assert!(decision.step >= 9, "{decision:?}");
    let threshold = decision.reason.split("significant at 5 % from ").nth(1).expect("told");
    let threshold: f64 = threshold.trim_end_matches(')').parse().expect("a number");
    assert!(0.001 < threshold && threshold < 0.5, "{}", decision.reason);
    // Without samples nothing is significant.
    let bare: Vec<Observation> =
        pairs.into_iter().map(|pair| Observation { samples: None, ..pair }).collect();
    assert!(run(looks(Some(0.05)), &bare).is_empty());
}

/// A rule that wants a drop to be no chance, and its memory over a restart after each pair.
fn significant(pairs: &[Observation], missing: Missing) -> Vec<Decision> {
    let loss = Followed { metric: Monitor::ProbeLoss, goal: Goal::Min, ..SCORE };
    let (patience, min_drop) = (Patience::Checks(2), Margin::NONE);
    let peaked = Peaked { followed: loss, patience, min_drop, significance: Some(0.05) };
    let rules = vec![rule("peak", Condition::Peaked(peaked), Action::Stop)];
    let policy = Policy { rules, missing, ..Policy::default() };
    let mut state = PolicyState::default();
    let mut decisions = Vec::new();
    for pair in pairs {
        let outcome = decide(&policy, state, pair, 0.0);
        decisions.extend(outcome.decision);
        let stored = serde_json::to_string(&outcome.state).expect("written");
        state = serde_json::from_str(&stored).expect("read");
    }
    decisions
}

#[test]
fn nothing_is_significant_before_chance_could_have_done_it() {
    // A rise that is none of chance, and of ever more pairs before it the samples or the values are missing.
    let mut losses = vec![0.5; 6];
    losses.extend([1.0; 6]);
    let pairs = sampled(&losses);
    let without_samples = |count: usize| {
        let mut pairs = pairs.clone();
        pairs[..count].iter_mut().for_each(|pair| pair.samples = None);
        significant(&pairs, Missing::Skip)
    };
    assert_eq!(without_samples(0).len(), 1);
    for count in 1..6 {
        for decision in without_samples(count) {
            assert!(!decision.reason.contains("from 0.0000"), "{count}: {}", decision.reason);
            assert!(decision.best_step > Some(count as u64), "{count}: {decision:?}");
        }
    }
    let mut gaps = sampled(&[0.5, 0.5, 0.51]);
    gaps[1].monitors.clear();
    gaps[1].samples = None;
    assert_eq!(significant(&gaps, Missing::CountAsBad), [], "0.51 is noise");
}

#[test]
fn what_was_never_seen_is_unknown_and_so_is_its_opposite() {
    let mut scores = series(&[0.5, 0.5, 0.5]);
    for observation in &mut scores {
        observation.monitors.remove(&Monitor::ConvergenceScore);
    }
    let opposite = |of| Condition::Not(Box::new(of));
    for when in [
        opposite(below(0.3, 0.3, 1)),
        opposite(peaked(1)),
        opposite(Condition::Any(vec![below(0.3, 0.3, 1), at_step(9)])),
        Condition::All(vec![at_step(1), opposite(above(0.3))]),
    ] {
        assert_eq!(run(vec![rule("not", when.clone(), Action::Stop)], &scores), [], "{when:?}");
    }
    // Known all the same, whatever the unknown is.
    let known = opposite(Condition::All(vec![below(0.3, 0.3, 1), at_step(9)]));
    assert_eq!(run(vec![rule("not", known, Action::Stop)], &scores)[0].step, 1);
    // Seen once, it stays as it was.
    let mut scores = series(&[0.5, 0.5]);
    scores[1].monitors.remove(&Monitor::ConvergenceScore);
    let both = Condition::All(vec![at_step(2), opposite(below(0.3, 0.3, 1))]);
    assert_eq!(run(vec![rule("not", both, Action::Stop)], &scores)[0].step, 2);
}
