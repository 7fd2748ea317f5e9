//! The alert rules: promtool plays them, every name in them is served, and each has its section in the runbook.

use crate::common::root;
use crate::names::{assert_served, named};
use crate::programs::promtool_agrees;
use std::path::PathBuf;

/// Those of the design, and of devices.
const ALERTS: [&str; 12] = [
    "ConvergenceDeclining",
    "ConvergencePeaked",
    "EvaluationStale",
    "CheckpointStalled",
    "PairStale",
    "StopNotAcknowledged",
    "NetworkDiverged",
    "CheckpointCorrupt",
    "WatcherDegraded",
    "ConfigReloadFailed",
    "DeviceLost",
    "ConvergdDown",
];

pub(crate) fn directory() -> PathBuf {
    root().join("deploy/prometheus")
}

pub(crate) fn text() -> String {
    std::fs::read_to_string(directory().join("convergd.rules.yml")).unwrap()
}

/// Each alert with its part of the file.
fn alerts(text: &str) -> Vec<(&str, &str)> {
    let parts = text.split("- alert: ").skip(1);
    parts.map(|part| (part.split_whitespace().next().unwrap(), part)).collect()
}

/// The files of cases, one for each alert.
fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory().join("tests")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn promtool_plays_the_cases_of_every_alert() {
    let directory = directory();
    promtool_agrees(&["check", "rules", "convergd.rules.yml"], &directory, "");
    let files: Vec<String> = cases().iter().map(|path| path.display().to_string()).collect();
    let arguments: Vec<&str> =
        ["test", "rules"].into_iter().chain(files.iter().map(String::as_str)).collect();
    promtool_agrees(&arguments, &directory, "");
}

#[test]
fn every_alert_has_cases_that_fire_that_clear_and_without_data() {
    let files = cases();
    let texts: Vec<String> =
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert_eq!(files.len(), ALERTS.len());
    for alert in ALERTS {
        let of: Vec<&String> =
            texts.iter().filter(|text| text.contains(&format!("alertname: {alert}\n"))).collect();
        assert_eq!(of.len(), 1, "files of {alert}");
        let cases: Vec<&str> = of[0].split("  - name: ").skip(1).collect();
        let fires = |case: &&str| case.contains("exp_labels:");
        assert!(cases.iter().any(fires), "{alert} never fires");
        let clears = |case: &str| {
            let last = case.rsplit("- eval_time: ").next().unwrap();
            case.contains("exp_labels:") && last.contains("exp_alerts: []")
        };
        assert!(cases.iter().any(|case| clears(case)), "{alert} never clears");
        assert!(cases.iter().any(|case| case.contains("input_series: []")), "{alert} without data");
    }
}

#[test]
fn every_alert_is_complete_and_its_names_are_served() {
    let text = text();
    let alerts = alerts(&text);
    assert_eq!(alerts.iter().map(|(alert, _)| *alert).collect::<Vec<_>>(), ALERTS);
    let runbook = std::fs::read_to_string(root().join("docs/runbook.md")).unwrap();
    for (alert, part) in alerts {
        // ConvergdDown asks Prometheus itself, and the last answer.
        assert!(!named(part).is_empty(), "{alert} names no metric");
        assert_served(alert, part);
        let severities = ["info", "warning", "critical"];
        let given =
            severities.map(|severity| part.matches(&format!("severity: {severity}\n")).count());
        assert_eq!(given.iter().sum::<usize>(), 1, "{alert}");
        for annotation in ["summary:", "description:"] {
            assert_eq!(part.matches(annotation).count(), 1, "{annotation} of {alert}");
        }
        let section = alert.to_lowercase();
        assert!(part.contains(&format!("runbook: docs/runbook.md#{section}\n")), "{alert}");
        let start = runbook.find(&format!("\n## {alert}\n"));
        let start = start.unwrap_or_else(|| panic!("no section on {alert}"));
        let section = runbook[start + 1..].split("\n## ").next().unwrap();
        for word in
            ["**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Mitigation.**", "```console"]
        {
            assert!(section.contains(word), "{word} of {alert}");
        }
        assert_served(alert, section);
    }
}
