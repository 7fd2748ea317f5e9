//! Names of metrics in expressions, which must be served.

use convergd::telemetry::Metrics;
use std::collections::BTreeSet;

/// What is behind the name of a histogram or a counter in an expression.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// The names that convergd serves; of a histogram those of its parts.
pub(crate) fn served() -> BTreeSet<String> {
    let metrics = Metrics::new("cpu").unwrap();
    let names = metrics.described().iter().flat_map(|metric| match metric.kind {
        "histogram" => PARTS.map(|part| format!("{}{part}", metric.name)).to_vec(),
        _ => vec![metric.name.clone()],
    });
    names.collect()
}

/// The names of convergd's metrics in a text.
pub(crate) fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("convergd_"));
    words.map(str::to_owned).collect()
}

/// Every name must be one that convergd serves.
#[track_caller]
pub(crate) fn assert_served(what: &str, expression: &str) {
    let unknown: Vec<String> = named(expression).difference(&served()).cloned().collect();
    assert!(unknown.is_empty(), "{what}: convergd serves no {unknown:?}: {expression}");
}

#[test]
fn names_are_found_and_told_apart() {
    let expression =
        "rate(convergd_stage_duration_seconds_sum{stage=\"x\"}[5m]) > convergd_lag * 2";
    let found: Vec<String> = named(expression).into_iter().collect();
    assert_eq!(found, ["convergd_lag", "convergd_stage_duration_seconds_sum"]);
    assert!(served().contains(&found[1]) && !served().contains(&found[0]));
    assert!(!served().contains("convergd_stage_duration_seconds"));
}
