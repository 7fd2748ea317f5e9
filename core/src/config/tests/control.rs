//! The ladder of a file.

use super::*;
use crate::control::{Ladder, Measure, Rung, Signal};
use std::time::Duration;

const LADDER: &str = "\
control:
  directory: run/control
  exec: true
  escalate:
    - {after: 30s, do: {signal: {name: SIGUSR2}}}
    - {after: 90s, do: {exec: {command: [scancel, '123']}}}
    - {after: 5m, do: {signal: {name: SIGKILL, group: true}}}
";

fn with_ladder(edits: &[(&str, &str)]) -> String {
    let mut ladder = LADDER.to_owned();
    for (from, to) in edits {
        assert!(ladder.contains(from), "{from}");
        ladder = ladder.replace(from, to);
    }
    GOOD.replace("control: {directory: run/control, acknowledge: 30s}\n", &ladder)
}

#[test]
fn a_ladder_becomes_rungs() {
    let config = Config::parse(Path::new("dir/run.yaml"), &with_ladder(&[])).expect("good");
    let rung = |seconds, measure| Rung { after: Duration::from_secs(seconds), measure };
    let command = vec!["scancel".to_owned(), "123".to_owned()];
    let rungs = vec![
        rung(30, Measure::Signal { signal: Signal::Usr2, group: false }),
        rung(90, Measure::Exec { command, timeout: Duration::from_secs(60) }),
        rung(300, Measure::Signal { signal: Signal::Kill, group: true }),
    ];
    assert_eq!(config.control.escalate, Ladder { rungs });
    let none = Config::parse(Path::new("dir/run.yaml"), GOOD).expect("good");
    assert_eq!(none.control.escalate, Ladder::default(), "nothing is escalated unasked");
}

#[test]
fn all_mistakes_of_a_ladder_are_said_with_their_lines() {
    let text = with_ladder(&[
        ("exec: true", "exec: false"),
        ("SIGUSR2", "SIGUSR3"),
        ("after: 5m, ", "after: 10s, when: now, "),
    ]);
    let found = lines(&text);
    assert_eq!(found.len(), 3, "{found:#?}");
    let starts = [
        "29 control.escalate[0].do.signal.name: unknown variant `SIGUSR3`",
        "30 control.escalate[1].do.exec: runs a program, which is off by default",
        "31 control.escalate[2].when: unknown field `when`",
    ];
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}");
    }
    assert!(found[0].ends_with("did you mean `SIGUSR1`?"), "{found:#?}");
}

#[test]
fn rungs_ascend_and_say_what_they_do() {
    let found = lines(&with_ladder(&[("after: 5m", "after: 90s")])).join("\n");
    assert!(
        found.starts_with("31 control.escalate[2].after: is 90s, but the rung before it has 90s"),
        "{found}"
    );
    for (from, to, message) in [
        ("after: 30s, ", "", "control.escalate[0].after: is missing"),
        (", do: {signal: {name: SIGUSR2}}", "", "control.escalate[0].do: is missing"),
        ("{name: SIGUSR2}", "{}", "control.escalate[0].do.signal.name: is missing"),
        (
            "{name: SIGUSR2}",
            "{name: SIGUSR2, group: true}",
            "control.escalate[0].do.signal.group: is `true`, but SIGUSR2 would end every process",
        ),
        ("[scancel, '123']", "[]", "control.escalate[1].do.exec.command: is missing"),
        ("'123']", "'123'], timeout: 2h", "control.escalate[1].do.exec.timeout: is 7200s"),
    ] {
        let found = lines(&with_ladder(&[(from, to)])).join("\n");
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn mistakes_of_webhooks_are_said_and_no_address_is_repeated() {
    let webhook = "{name: ops, url: 'https://example.org/hidden', secret_env: TOKEN, retries: 3, on: [decision]}";
    let with = |webhooks: &str| format!("{GOOD}notify: [{webhooks}]\n");
    let config = Config::parse(Path::new("dir/run.yaml"), &with(webhook)).expect("good");
    assert!(!format!("{config:?}").contains("hidden"));
    for (from, to, message) in [
        (
            "https://example.org/hidden",
            "example.org/hidden",
            "notify[0].url: is no http or https URL",
        ),
        ("url: 'https://example.org/hidden', ", "", "notify[0].url: is missing"),
        ("secret_env", "url_env", "notify[0].url: stands beside `url_env`"),
        ("retries: 3", "format: slack", "notify[0].secret_env: is sent with `format: json` only"),
        ("retries: 3", "retries: 11", "notify[0].retries: is 11"),
        ("retries: 3", "timeout: 2m", "notify[0].timeout: is 120s"),
        ("[decision]", "[decisions]", "did you mean `decision`?"),
        ("name: ops, ", "", "notify[0].name: is missing"),
    ] {
        let text = with(&webhook.replace(from, to));
        let found = lines(&text).join("\n");
        assert!(found.contains(message) && !found.contains("hidden"), "{found}");
    }
    assert!(
        lines(&with(&format!("{webhook}, {webhook}")))
            .join("\n")
            .contains("which another webhook has")
    );
    let ladder = with_ladder(&[("signal: {name: SIGUSR2}", "webhook: {name: opps}")]);
    let found = lines(&format!("{ladder}notify: [{webhook}]\n")).join("\n");
    assert!(
        found.contains("control.escalate[0].do.webhook.name: is `opps`, but `notify` has ops"),
        "{found}"
    );
}
