//! The Grafana dashboard: promtool takes every expression, and every name in them is served.

use crate::common;
use crate::names::{assert_served, named, served};
use crate::programs::promtool_agrees;
use serde_json::Value;
use std::path::PathBuf;

fn directory() -> PathBuf {
    common::root().join("deploy/grafana")
}

fn dashboard() -> Value {
    serde_json::from_slice(&std::fs::read(directory().join("convergd.json")).unwrap()).unwrap()
}

/// All values of a key, wherever it is.
fn collect<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| collect(one, key, found)),
        Value::Object(all) => {
            for (name, one) in all {
                found.extend(one.as_str().filter(|_| name == key));
                collect(one, key, found);
            }
        }
        _ => {}
    }
}

/// The expressions of panels and annotations, and what the variables ask for.
fn expressions(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(dashboard, "expr", &mut found);
    assert!(found.len() > 40, "{found:?}");
    let mut asked = Vec::new();
    collect(&dashboard["templating"], "definition", &mut asked);
    let asked = asked.iter().map(|asked| {
        let inside = asked.strip_prefix("label_values(").expect("label_values");
        inside.rsplit_once(", ").unwrap().0
    });
    found.into_iter().chain(asked).map(str::to_owned).collect()
}

/// As Grafana asks: variables have values.
fn filled(expression: &str) -> String {
    let values = [("$__rate_interval", "1m"), ("$instance", "a:9464"), ("$monitor", "probe_loss")];
    let filled =
        values.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!filled.contains('$'), "{expression}");
    filled
}

#[test]
fn promtool_takes_every_expression_and_every_name_is_served() {
    let dashboard = dashboard();
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, expression) in expressions(&dashboard).iter().enumerate() {
        let filled = filled(expression);
        // A name that is misspelt beyond its prefix would be no name of convergd's at all.
        let is_known = !named(&filled).is_empty() || filled.starts_with("ALERTS{");
        assert!(is_known, "{expression} names no metric");
        assert_served("the dashboard", &filled);
        let quoted = serde_json::to_string(&filled).unwrap();
        rules += &format!("  - record: dashboard:{number}\n    expr: {quoted}\n");
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("rules.yml"), rules).unwrap();
    promtool_agrees(&["check", "rules", "rules.yml"], root.path(), "");
}

#[test]
fn what_is_served_is_shown() {
    let shown = named(&expressions(&dashboard()).join("\n"));
    let left_out = [
        "convergd_precision_noise_floor",
        "convergd_config_last_reload_timestamp_seconds",
        "convergd_pairs_total",
        "convergd_value_cache_evictions_total",
    ];
    let is_part = |name: &String| {
        name.ends_with("_count") || name.ends_with("_sum") || name.ends_with("_bucket")
    };
    let missing: Vec<String> = served()
        .difference(&shown)
        .filter(|name| !is_part(name) && !left_out.contains(&name.as_str()))
        .cloned()
        .collect();
    assert!(missing.is_empty(), "not in the dashboard: {missing:?}");
}

#[test]
fn panels_do_not_overlap_and_have_their_words() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let place =
        |panel: &Value| ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
    for (number, panel) in panels.iter().enumerate() {
        let [x, y, w, h] = place(panel);
        assert!(x + w <= 24, "{panel}");
        for other in &panels[number + 1..] {
            let [a, b, c, d] = place(other);
            let is_apart = x + w <= a || a + c <= x || y + h <= b || b + d <= y;
            assert!(is_apart, "{} lies on {}", panel["title"], other["title"]);
        }
        assert!(!panel["title"].as_str().unwrap().is_empty());
        let is_row = panel["type"] == "row";
        assert!(is_row || !panel["description"].as_str().unwrap().is_empty(), "{panel}");
    }
}

#[test]
fn the_dashboard_is_what_its_script_makes() {
    if !common::has_python() {
        return;
    }
    let made = tempfile::tempdir().unwrap();
    let made = made.path().join("made.json");
    common::succeed(common::python().arg(directory().join("make_dashboard.py")).arg(&made));
    let committed = std::fs::read_to_string(directory().join("convergd.json")).unwrap();
    let anew = "`python deploy/grafana/make_dashboard.py` makes it anew";
    assert!(std::fs::read_to_string(made).unwrap() == committed, "{anew}");
}
