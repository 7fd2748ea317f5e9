//! The store on a real file.

use super::*;
use crate::convergence::{Estimate, Monitor, Samples, Strength, Totals};
use crate::policy::{Decision, Intervention, Notice, PolicyState, Severity};
use crate::role::Role;
use crate::signal::Document;

fn pair(step: u64) -> PairRow {
    let estimate = Estimate { value: 0.1 + step as f64, standard_error: 1.0 / 3.0 };
    PairRow {
        step,
        time: 1.5,
        paths: ["a".to_owned(), "b".to_owned()],
        finite: true,
        samples: 80,
        certified: 79,
        gap_max: 2e-3,
        noise_floor: step.is_multiple_of(2).then_some([0.125, 0.25]),
        monitors: [(Monitor::ConvergenceScore, estimate)].into(),
        strengths: [vec![Strength { positive: 0.7, ..Default::default() }], Vec::new()],
        policy: PolicyState { checks: step, ..Default::default() },
    }
}

fn checkpoints(step: u64) -> [CheckpointRow; 2] {
    Role::BOTH.map(|role| CheckpointRow {
        role,
        identity: format!("{role}-{step}"),
        step,
        path: format!("{role}/{step}"),
        outcome: Outcome::Evaluated,
        reason: None,
    })
}

fn delivery(step: u64, generation: u64) -> DeliveryRow {
    let decision = Decision {
        id: format!("peak@{step}"),
        rule: "peak".to_owned(),
        action: "stop".to_owned(),
        phase: "plain".to_owned(),
        lambda: 0.0,
        ramp: 0,
        step,
        best_step: Some(1),
        reason: "it peaked".to_owned(),
        time: 2.0,
    };
    let document = Document::of(&decision, generation, step + 1, None);
    DeliveryRow { decision, document, delivered: None }
}

fn notice(step: u64) -> Notice {
    Notice {
        id: format!("look@{step}"),
        rule: "look".to_owned(),
        action: "alert".to_owned(),
        message: Some("look".to_owned()),
        severity: Some(Severity::Critical),
        step,
        best_step: None,
        reason: "it fell".to_owned(),
        time: 0.1 + step as f64,
    }
}

fn evidence() -> Evidence {
    let mut totals = Totals::zero(3);
    totals.strength[1][2].negative = f64::from(0.3_f32);
    let samples = Some(Samples::of(&[totals.clone(), totals]));
    Evidence { samples, values: [Some("a".to_owned()), None] }
}

fn store(
    history: &mut History,
    step: u64,
    decision: Option<&DeliveryRow>,
) -> Result<(), HistoryError> {
    store_pair(history, &pair(step), decision)
}

fn store_pair(
    history: &mut History,
    pair: &PairRow,
    decision: Option<&DeliveryRow>,
) -> Result<(), HistoryError> {
    history.record_pair(&PairRecord {
        pair,
        evidence: &evidence(),
        checkpoints: &checkpoints(pair.step),
        decision,
        notices: &[notice(pair.step)],
        notifications: &[],
    })
}

#[test]
fn what_is_stored_is_read_back_after_opening_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut history = History::open(directory.path()).expect("opened");
    let decided = delivery(2, 1);
    store(&mut history, 1, None).expect("stored");
    store(&mut history, 2, Some(&decided)).expect("stored");
    drop(history);
    let history = History::open_for_reading(directory.path()).expect("opened");
    assert_eq!(history.pairs().expect("read"), [pair(1), pair(2)]);
    assert_eq!(history.last_pair().expect("read"), Some(pair(2)));
    assert_eq!(history.pair(1).expect("read"), Some(pair(1)));
    assert_eq!(history.decisions().expect("read"), [decided]);
    assert_eq!(history.notices().expect("read"), [notice(1), notice(2)]);
    assert_eq!(history.evidence(1).expect("read"), Some(evidence()));
    assert_eq!(history.notices_at(2).expect("read"), [notice(2)]);
    assert_eq!(history.evidence(3).expect("read"), None);
    assert_eq!(history.checkpoints_that(Outcome::Evaluated, 9).expect("read").len(), 4);
}

#[test]
fn an_older_history_is_read_and_left_as_it_is_until_it_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("history.sqlite");
    let old = rusqlite::Connection::open(&file).expect("opened");
    old.execute_batch(super::schema::MIGRATIONS[0]).expect("made");
    old.pragma_update(None, "user_version", 1).expect("set");
    let columns = "INSERT INTO pair VALUES (?, 0, 'a', 'b', 1, 4, 4, 0, '{}', ?, ?)";
    let policy = serde_json::to_string(&pair(1).policy).expect("text");
    old.execute(columns, rusqlite::params![1, "[[], []]", policy]).expect("stored");
    let version =
        || -> i64 { old.pragma_query_value(None, "user_version", |row| row.get(0)).expect("read") };
    let read = History::open_for_reading(directory.path()).expect("opened").pairs().expect("read");
    assert_eq!((read.len(), read[0].step, read[0].noise_floor), (1, 1, None));
    assert_eq!(version(), 1);
    let written = History::open(directory.path()).expect("opened");
    assert_eq!(written.pairs().expect("read"), read);
    assert_eq!(version(), super::schema::MIGRATIONS.len() as i64);
}

#[test]
fn a_pair_and_its_decision_are_stored_together_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut history = History::open(directory.path()).expect("opened");
    store(&mut history, 1, Some(&delivery(1, 1))).expect("stored");
    // The same generation again: the decision cannot be stored, so the pair is not either.
    assert!(store(&mut history, 2, Some(&delivery(2, 1))).is_err());
    assert_eq!(history.pairs().expect("read").len(), 1);
    assert_eq!(history.evidence(2).expect("read"), None);
    assert_eq!(history.notices().expect("read").len(), 1);
    assert_eq!(history.checkpoints().expect("read").len(), 2);
}

fn notification(id: &str, time: f64) -> NotificationRow {
    NotificationRow {
        webhook: "ops".to_owned(),
        id: id.to_owned(),
        body: "{}".to_owned(),
        generation: None,
        time,
        ended: None,
        delivered: None,
        attempts: 0,
        error: None,
    }
}

#[test]
fn what_is_to_be_told_is_stored_with_what_it_tells_of_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut history = History::open(directory.path()).expect("opened");
    let store = |history: &mut History, step, told: &str| {
        history.record_pair(&PairRecord {
            pair: &pair(step),
            evidence: &evidence(),
            checkpoints: &checkpoints(step),
            decision: Some(&delivery(step, 1)),
            notices: &[],
            notifications: &[notification(told, 1.0)],
        })
    };
    store(&mut history, 1, "first").expect("stored");
    // The same generation again.
    assert!(store(&mut history, 2, "second").is_err());
    assert_eq!(history.notifications().expect("read"), [notification("first", 1.0)]);
    history.record_end("it ended", &[notification("end", 2.0)]).expect("stored");
    let resume = Intervention::Resume { reason: "on".to_owned() };
    let (policy, intervention) = (PolicyState::default(), resume);
    let row = InterventionRow { number: 1, after: Some(1), time: 3.0, intervention, policy };
    let decided = delivery(1, 2);
    let decided =
        DeliveryRow { decision: Decision { id: "b".to_owned(), ..decided.decision }, ..decided };
    let record = |request| InterventionRecord {
        row: &row,
        decision: Some(&decided),
        request: Some(request),
        notifications: &[],
    };
    history.record_intervention(record("17-4")).expect("stored");
    assert!(history.record_intervention(record("17-5")).is_err(), "its number is taken");
    assert_eq!(history.decision_of("17-4").expect("read"), Some(decided.clone()));
    assert_eq!(history.decision_of("17-5").expect("read"), None);
    assert_eq!(history.fact("ended").expect("read"), None, "training goes on");
    let open = history.open_notifications("ops", 0).expect("read");
    assert_eq!(open, [notification("first", 1.0), notification("end", 2.0)]);
    assert_eq!(history.open_notifications("chat", 0).expect("read"), []);
}

#[test]
fn old_notifications_go_but_what_is_open_and_what_tells_of_the_last_decision() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut history = History::open(directory.path()).expect("opened");
    store(&mut history, 1, Some(&delivery(1, 1))).expect("stored");
    store(&mut history, 2, Some(&delivery(2, 2))).expect("stored");
    let about = |id: &str, generation| NotificationRow { generation, ..notification(id, 0.0) };
    let early = [about("former", Some(1)), about("last", Some(2)), about("open", None)];
    assert!(history.add_notifications(&early).expect("stored"));
    assert!(!history.add_notifications(&early).expect("known"));
    let many: Vec<_> = (1..=1001).map(|at| notification(&at.to_string(), f64::from(at))).collect();
    history.add_notifications(&many).expect("stored");
    for row in early[..2].iter().chain(&many) {
        history.end_notification("ops", &row.id, 1, None, row.time).expect("stored");
    }
    let left = history.notifications().expect("read");
    let left: Vec<&str> = left.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(left[..4], ["last", "open", "2", "3"]);
    assert_eq!(left.len(), 1002);
}

#[test]
fn attempts_add_up_and_what_happens_again_has_another_number() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut history = History::open(directory.path()).expect("opened");
    for number in 1..=2 {
        assert_eq!(history.next_notice().expect("read"), number);
        let row = notification(&number.to_string(), 1.0);
        history.add_numbered(number, &[row]).expect("stored");
    }
    history.note_attempts("ops", "1", 4, "it answers 503").expect("stored");
    let open = history.open_notifications("ops", 0).expect("read");
    assert_eq!((open[0].attempts, open[0].error.as_deref()), (4, Some("it answers 503")));
    let webhooks = |known: &[&str], since| {
        history.give_up_unknown(known, since, 8.0).expect("stored");
        history.open_notifications("ops", 0).expect("read").len()
    };
    assert_eq!([webhooks(&["chat"], 0.5), webhooks(&["chat", "ops"], 5.0)], [2, 2]);
    history.end_notification("ops", "1", 1, None, 9.0).expect("stored");
    let rows = history.notifications().expect("read");
    assert_eq!((rows[0].attempts, &rows[0].error, rows[0].delivered), (5, &None, Some(true)));
    assert_eq!(history.untold().expect("read"), rows[1..]);
    history.give_up_unknown(&[], 5.0, 8.0).expect("stored");
    let rows = history.notifications().expect("read");
    assert_eq!((rows[1].delivered, rows[1].ended), (Some(false), Some(8.0)));
}

#[test]
fn an_earlier_outbox_is_taken_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("history.sqlite");
    let old = rusqlite::Connection::open(&file).expect("opened");
    super::schema::MIGRATIONS[..5].iter().for_each(|s| old.execute_batch(s).expect("made"));
    old.pragma_update(None, "user_version", 5).expect("set");
    let row = delivery(2, 7);
    let decision = serde_json::to_string(&row.decision).expect("text");
    let document = serde_json::to_string(&row.document).expect("text");
    old.execute(
        "INSERT INTO decision VALUES (7, 'peak@2', 2, ?, ?, 5.5)",
        [decision, document.clone()],
    )
    .expect("stored");
    let insert = "INSERT INTO notification VALUES ('ops', ?, ?, ?, ?, ?, 0, NULL)";
    let about = format!("{{\"control\": {document}}}");
    let none = None::<f64>;
    old.execute(insert, rusqlite::params!["a", about, 1.0, 2.0, 1]).expect("stored");
    old.execute(insert, rusqlite::params!["b", "{\"text\": 1}", 2.0, none, none]).expect("stored");
    old.execute(insert, rusqlite::params!["c", "torn {", 3.0, none, none]).expect("stored");
    let mut history = History::open(directory.path()).expect("opened");
    let delivered = DeliveryRow { delivered: Some(5.5), ..row };
    assert_eq!(history.last_decision().expect("read"), Some(delivered));
    let rows = history.notifications().expect("read");
    let rows: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.generation)).collect();
    assert_eq!(rows, [("a", Some(7)), ("b", None), ("c", None)]);
    assert_eq!(history.open_notifications("ops", 0).expect("read").len(), 2);
    assert_eq!(history.next_notice().expect("read"), 1);
    let known = NotificationRow { webhook: "ops".to_owned(), ..notification("a", 9.0) };
    assert!(!history.add_notifications(&[known]).expect("known"), "it is not told again");
}

#[test]
fn the_time_of_a_run_is_the_latest_that_is_stored() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut history = History::open(directory.path()).expect("opened");
    let latest = |history: &History| history.latest_time().expect("read");
    assert_eq!(latest(&history), None);
    store(&mut history, 1, Some(&delivery(1, 1))).expect("stored");
    assert_eq!(latest(&history), Some(1.5));
    history.record_delivery(1, 7.0).expect("stored");
    assert_eq!(latest(&history), Some(7.0));
    let intervention = Intervention::Policy { text: String::new() };
    let policy = PolicyState::default();
    let row = InterventionRow { number: 1, after: Some(1), time: 9.0, intervention, policy };
    let record =
        InterventionRecord { row: &row, decision: None, request: None, notifications: &[] };
    history.record_intervention(record).expect("stored");
    assert_eq!(latest(&history), Some(9.0));
}

#[test]
fn facts_of_a_run_do_not_change() {
    let directory = tempfile::tempdir().expect("a directory");
    let history = History::open(directory.path()).expect("opened");
    history.keep_fact("noise", "0.01").expect("stored");
    history.keep_fact("noise", "0.01").expect("the same");
    let error = history.keep_fact("noise", "0.04").expect_err("refused").to_string();
    assert!(error.contains("noise 0.01") && error.contains("0.04"), "{error}");
}

#[test]
fn a_held_or_missing_state_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let held = StateLock::take(directory.path()).expect("taken");
    let error = StateLock::take(directory.path()).expect_err("held").to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    drop(held);
    assert!(StateLock::take(directory.path()).is_ok(), "it is free again");
    let missing = History::open_for_reading(directory.path());
    assert!(matches!(missing, Err(HistoryError::Absent { .. })));
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("written");
    assert!(matches!(StateLock::take(&file), Err(HistoryError::Directory { .. })));
}

#[test]
fn narrow_questions_give_what_reading_everything_gives() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut history = History::open(directory.path()).expect("opened");
    assert_eq!(history.last_decision().expect("read"), None);
    assert_eq!(history.largest_noise_floor().expect("read"), None);
    assert_eq!(history.last_step(Role::Baseline, Outcome::Evaluated).expect("read"), None);
    for step in 1..=20u64 {
        let decided = step.is_multiple_of(5).then(|| delivery(step, step / 5));
        let mut pair = pair(step);
        pair.noise_floor = (step == 7).then_some([0.25, 0.5]);
        store_pair(&mut history, &pair, decided.as_ref()).expect("stored");
    }
    for (step, outcome) in [(3, Outcome::Skipped), (30, Outcome::Skipped), (31, Outcome::Waiting)] {
        let [mut row, _] = checkpoints(step);
        (row.identity, row.outcome) = (format!("other-{step}"), outcome);
        history.record_checkpoint(&row, 1.0).expect("stored");
    }
    let all = history.checkpoints().expect("read");
    assert_eq!(all.len(), 43);
    for outcome in Outcome::ALL {
        let of: Vec<_> = all.iter().filter(|row| row.outcome == outcome).cloned().collect();
        assert_eq!(history.checkpoints_that(outcome, usize::MAX).expect("read"), of);
        let last = of[of.len().saturating_sub(3)..].to_vec();
        assert_eq!(history.checkpoints_that(outcome, 3).expect("read"), last);
        assert_eq!(history.count_checkpoints(outcome).expect("read"), of.len() as u64);
        let target = of.iter().filter(|row| row.role == Role::Target).map(|row| row.step).max();
        assert_eq!(history.last_step(Role::Target, outcome).expect("read"), target);
    }
    assert_eq!(history.checkpoints_at(Role::Target, 3).expect("read").len(), 2);
    assert_eq!(history.last_decision().expect("read"), history.decisions().expect("read").pop());
    assert_eq!(history.largest_noise_floor().expect("read"), Some(0.5));
    assert_eq!(history.count_pairs().expect("read"), 20);
    let identities = |last| history.identities(Role::Target, last).expect("read").len();
    assert_eq!([identities(None), identities(Some(20)), identities(Some(30))], [21, 22, 23]);
    let evaluated = |path: &str| history.evaluated(Role::Baseline, path, 9).expect("read");
    assert_eq!(evaluated("baseline/8").as_deref(), Some("baseline-8"));
    assert_eq!(evaluated("baseline/99"), None);
}

#[test]
fn the_first_delivery_of_a_decision_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut history = History::open(directory.path()).expect("opened");
    store(&mut history, 1, Some(&delivery(1, 1))).expect("stored");
    for time in [5.0, 7.0] {
        history.record_delivery(1, time).expect("stored");
    }
    let row = history.last_decision().expect("read").expect("there");
    assert_eq!(row.delivered, Some(5.0));
}
