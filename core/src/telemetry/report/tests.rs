//! The page in all the states that a run can be in.

use super::words::estimate_text;
use super::*;
use crate::convergence::Estimate;

/// A pair whose monitors are all `value`.
fn pair(step: u64, value: f64) -> PairRow {
    let estimate = Estimate { value, standard_error: 0.04 * value.abs() };
    let strength = Strength {
        positive: value.abs(),
        negative: 0.5 * value.abs(),
        convergent_positive: 0.4 * value.abs(),
        convergent_negative: 0.1 * value.abs(),
    };
    PairRow {
        step,
        monitors: Monitor::ALL.iter().map(|&monitor| (monitor, estimate)).collect(),
        strengths: [vec![strength; 11], vec![strength; 11]],
        samples: 30,
        certified: 29,
        gap_max: 8e-4,
    }
}

fn report(pairs: Vec<PairRow>) -> Report {
    Report {
        title: "run".into(),
        state: "running".into(),
        state_directory: "/state".into(),
        generated: "2025-01-01 00:00".into(),
        facts: vec![("Variables".into(), "10".into())],
        primary: Monitor::ConvergenceScore,
        best: None,
        pairs: pairs.into_iter().map(Arc::new).collect(),
        decisions: Vec::new(),
        notices: Vec::new(),
        skipped: Vec::new(),
    }
}

fn decision(action: &str, step: u64, best_step: Option<u64>) -> DecisionRow {
    DecisionRow {
        step,
        action: action.into(),
        rule: "peak".into(),
        reason: "it fell".into(),
        best_step,
        time: "now".into(),
    }
}

fn assert_sound(page: &str) {
    for bad in ["NaN", "inf,", "\"inf", "<script", "http:", "https:", "src="] {
        assert!(!page.contains(bad), "{bad}");
    }
    let ids: Vec<&str> =
        page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len(), "ids are unique");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert_eq!(page.matches("<polyline").count(), page.matches("</polyline>").count());
}

#[test]
fn without_pairs_it_says_so() {
    let page = report(Vec::new()).render();
    assert_sound(&page);
    assert!(page.contains("Nothing has been decided. No pair has been evaluated yet."));
    assert!(!page.contains("role=\"img\""));
}

#[test]
fn any_scale_is_drawn() {
    for value in [0.0, 0.5, -2.0, 1e6, -1e6, 1e-12, 1e300] {
        assert_sound(&report(vec![pair(100, value)]).render());
        assert_sound(&report(vec![pair(100, value), pair(200, value)]).render());
        assert_sound(&report(vec![pair(0, value), pair(200, 0.1), pair(300, 0.2)]).render());
    }
}

#[test]
fn without_labels_there_is_a_note_and_no_loss() {
    let mut pairs = vec![pair(100, 0.5), pair(200, 0.6)];
    for pair in &mut pairs {
        pair.monitors.retain(|&monitor, _| monitor == Monitor::ConvergentRatio);
    }
    let mut report = report(pairs);
    let page = report.render();
    assert_sound(&page);
    assert!(page.contains("no labels") && page.contains("No pair has this monitor yet"));
    assert!(!page.contains("Probe loss"));
    report.primary = Monitor::ConvergentRatio;
    assert!(report.render().contains("The best step so far is <strong>200</strong>"));
}

#[test]
fn without_strengths_the_section_is_absent() {
    let mut pair = pair(100, 0.5);
    pair.strengths = [Vec::new(), Vec::new()];
    let page = report(vec![pair]).render();
    assert_sound(&page);
    assert!(!page.contains("Strength by order"));
}

#[test]
fn the_best_step_is_that_of_the_stop_or_of_the_monitor() {
    let mut report = report(vec![pair(100, 0.9), pair(200, 0.6), pair(300, 0.5)]);
    assert_eq!(report.best_step(), Some(100));
    report.decisions = vec![decision("phase", 200, Some(300))];
    assert_eq!(report.best_step(), Some(100), "a phase rule may follow another monitor");
    report.decisions.push(decision("stop", 300, Some(200)));
    assert_eq!(report.best_step(), Some(200));
    report.decisions.push(decision("continue", 300, None));
    assert_eq!(report.best_step(), Some(100), "a stop that was taken back");
    report.primary = Monitor::ProbeLoss;
    report.decisions.clear();
    assert_eq!(report.best_step(), Some(300), "less loss is better");
}

#[test]
fn decisions_outside_of_the_pairs_are_drawn() {
    let mut report = report(vec![pair(100, 0.9), pair(200, 0.8)]);
    report.decisions = vec![decision("stop", 900, Some(5000)), decision("phase", 0, None)];
    let page = report.render();
    assert_sound(&page);
    assert!(page.contains("stop 900") && page.contains("best 5,000"));
}

#[test]
fn text_is_escaped() {
    let mut report = report(vec![pair(100, 0.9)]);
    let hostile = "<script>alert(\"1\")</script>";
    report.title = hostile.into();
    report.state_directory = hostile.into();
    report.skipped = vec![(hostile.into(), hostile.into())];
    report.decisions = vec![DecisionRow { reason: hostile.into(), ..decision(hostile, 100, None) }];
    let page = report.render();
    assert_sound(&page);
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn a_long_run_stays_small() {
    let value = |i: u64| 0.5 + 0.123_456_789 * (i as f64).sin();
    let page = report((0..500).map(|i| pair(i * 250, value(i))).collect()).render();
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

#[test]
fn digits_follow_the_standard_error() {
    let text = |value, standard_error| estimate_text(&Estimate { value, standard_error });
    assert_eq!(text(0.612_345, 0.004_12), "0.6123 ±\u{a0}0.0041");
    assert_eq!(text(-1.5, 0.21), "−1.50 ±\u{a0}0.21");
    assert_eq!(text(0.75, 0.0), "0.7500");
    assert_eq!(text(2e6, 1e3), "2.00e6 ±\u{a0}1000");
}

#[test]
fn reasons_are_set_as_prose() {
    let said = prose("`a_b` fell: -0.5 (-1 < c) at step 3").into_string();
    assert_eq!(said, "<code>a_b</code> fell: −0.5 (−1 &lt; c) at step 3");
}

#[test]
fn notices_have_a_table_of_their_own() {
    let mut report = report(Vec::new());
    assert!(!report.render().contains("id=\"notices\""));
    report.notices = vec![decision("alert", 200, None)];
    let page = report.render();
    assert!(page.contains("<h3 id=\"notices\">Notices</h3>") && page.contains("<td>alert</td>"));
}
