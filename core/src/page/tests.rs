//! The page over a real server, history and value cache.

use super::*;
use crate::account::Status;
use crate::convergence::{Estimate, Monitor, Strength};
use crate::evaluation::{Assignment, ProbeValues, ValueCache, Variables};
use crate::history::{CheckpointRow, Evidence, Outcome, PairRecord, PairRow};
use crate::policy::PolicyState;
use crate::role::Role;
use crate::telemetry::Metrics;
use crate::telemetry::http::Server;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

const SAMPLES: usize = 3;

fn pair(step: u64) -> PairRow {
    let estimate = Estimate { value: 0.1 * step as f64, standard_error: 0.01 };
    let strength = Strength { positive: 0.7, convergent_positive: 0.5, ..Default::default() };
    PairRow {
        step,
        time: 1.5,
        paths: ["a".to_owned(), "b".to_owned()],
        finite: true,
        samples: 2 * SAMPLES,
        certified: 2 * SAMPLES,
        gap_max: 0.0,
        noise_floor: None,
        monitors: Monitor::ALL.iter().map(|&monitor| (monitor, estimate)).collect(),
        strengths: [vec![strength; 4], vec![strength; 4]],
        policy: PolicyState { checks: step, ..Default::default() },
    }
}

/// A history, its page, and a server of both.
struct Bench {
    root: tempfile::TempDir,
    config: Config,
    history: History,
    news: News,
    server: Option<Server>,
}

impl Bench {
    fn new(steps: &[u64]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let text = "name: <bench>\nstate: state\nprogram: p.ts\n\
            probe: {file: p.safetensors, variables: {columns: {groups: 3}}}\n\
            networks: {target: {checkpoints: t}, baseline: {checkpoints: b}}\n\
            control: {directory: c}\n\
            policy: {rules: [{id: b, when: {reached: {step: 9}}, then: {stop: {}}}]}\n";
        let config = Config::parse(&root.path().join("run.yaml"), text).unwrap();
        std::fs::create_dir_all(&config.state).unwrap();
        let history = History::open(&config.state).unwrap();
        let variables =
            Variables { count: 3, classes: vec![0, 1, 2], assignment: Assignment::Columns };
        history.keep_fact("variables", &serde_json::to_string(&variables).unwrap()).unwrap();
        let mut bench = Self { root, config, history, news: News::default(), server: None };
        for &step in steps {
            bench.store(step);
        }
        bench
    }

    fn store(&mut self, step: u64) {
        let checkpoints = Role::BOTH.map(|role| CheckpointRow {
            role,
            identity: format!("{role}-{step}"),
            step,
            path: format!("{role}/{step}"),
            outcome: Outcome::Evaluated,
            reason: None,
        });
        let record = PairRecord {
            pair: &pair(step),
            evidence: &Evidence {
                samples: None,
                values: [0, 1].map(|i| Some(key(step, i).to_hex().to_string())),
            },
            checkpoints: &checkpoints,
            decision: None,
            notices: &[],
            notifications: &[],
        };
        self.history.record_pair(&record).unwrap();
        self.news.pair(step);
    }

    /// Keeps value tables of a step: an AND of variables 1 and 2, twice as strong in the target.
    fn keep_values(&self, step: u64) {
        let mut cache = ValueCache::new(self.config.values(), 1 << 20);
        for (network, effect) in [(0, 2.0), (1, 1.0)] {
            let table = |sample: usize| {
                (0..8).map(|set| if set & 3 == 3 { effect + sample as f64 } else { 0.0 }).collect()
            };
            let values = ProbeValues {
                values: (0..SAMPLES).map(table).collect(),
                logits: vec![vec![0.0]; SAMPLES],
                reference: Vec::new(),
            };
            cache.keep(&key(step, network), Path::new("/"), &values).unwrap();
        }
    }

    fn site(&self) -> Site {
        Site::of(self.config.clone(), self.news.clone())
    }

    fn serve(mut self) -> Self {
        let site = self.site();
        let any = "127.0.0.1:0".parse().unwrap();
        let serve = |bound| site.served(bound);
        self.server = Some(Server::start(any, Metrics::new("cpu").unwrap(), serve).unwrap());
        self
    }

    fn ask(&self, path: &str, headers: &[(&str, &str)]) -> ureq::http::Response<ureq::Body> {
        let address = self.server.as_ref().unwrap().address();
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_recv_body(Some(Duration::from_secs(60)))
            .build()
            .into();
        let request = agent.get(format!("http://{address}{path}"));
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .call()
            .unwrap()
    }

    #[track_caller]
    fn get(&self, path: &str, status: u16) -> String {
        let mut answer = self.ask(path, &[]);
        let text = answer.body_mut().read_to_string().unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}: {text}");
        text
    }

    #[track_caller]
    fn json(&self, path: &str, status: u16) -> Value {
        serde_json::from_str(&self.get(path, status)).unwrap()
    }
}

fn key(step: u64, network: usize) -> blake3::Hash {
    blake3::hash(format!("{step} {network}").as_bytes())
}

fn steps(value: &Value) -> Vec<u64> {
    let pairs = value["pairs"].as_array().unwrap().iter();
    pairs.map(|pair| pair["step"].as_u64().unwrap()).collect()
}

#[test]
fn every_answer_is_guarded_and_nothing_changes_anything() {
    let bench = Bench::new(&[1]).serve();
    for path in ["/", "/page.js", "/page.css", "/parts/live", "/api/v1/status", "/nothing"] {
        let answer = bench.ask(path, &[]);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (header("cache-control"), header("x-content-type-options")),
            ("no-store".into(), "nosniff".into())
        );
        let policy = header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("script-src 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        let refused = bench.ask(path, &[("host", "evil.example")]);
        assert_eq!(refused.status(), 421, "{path}");
    }
    assert!(bench.get("/metrics", 200).contains("convergd_"));
    let address = bench.server.as_ref().unwrap().address();
    for path in ["/", "/api/v1/status", "/api/v1/samples/1"] {
        let answer = ureq::post(format!("http://{address}{path}")).send_empty();
        assert!(matches!(answer, Err(ureq::Error::StatusCode(405))), "{path}: {answer:?}");
    }
}

#[test]
fn a_part_of_the_history_says_where_the_next_begins() {
    let steps_of_run: Vec<u64> = (1..=130).map(|i| i * 10).collect();
    let bench = Bench::new(&steps_of_run).serve();
    let first = bench.json("/api/v1/history", 200);
    assert_eq!(steps(&first), steps_of_run[..100]);
    assert_eq!((&first["next"], &first["count"]), (&1010.into(), &130.into()));
    assert_eq!(first["pairs"][0]["strengths"]["target"][1]["positive"], 0.7);
    let rest = bench.json("/api/v1/history?from=1010&limit=500", 200);
    assert_eq!((steps(&rest).len(), &rest["next"]), (30, &Value::Null));
    assert_eq!(steps(&bench.json("/api/v1/history?from=25&limit=2", 200)), [30, 40]);
    assert_eq!(steps(&bench.json("/api/v1/history?from=2000", 200)), [0; 0]);
    assert_eq!(steps(&bench.json("/api/v1/history?limit=0", 200)), [10], "one at least");
}

#[test]
fn a_question_that_is_none_is_answered_with_its_mistake() {
    let bench = Bench::new(&[1]).serve();
    for (path, status, part) in [
        ("/api/v1/history?from=-1", 400, "invalid digit"),
        ("/api/v1/history?since=3", 400, "unknown field `since`"),
        ("/api/v1/samples/one", 400, "the step `one` is no whole number"),
        ("/api/v1/samples/1/-2", 400, "the sample `-2` is no whole number"),
        ("/api/v1/samples/7", 404, "there is no pair of step 7; the only one is of step 1"),
        ("/api/v1/samples/1", 410, "are not in the value cache any more"),
        ("/api/v1/none", 404, "there is nothing here"),
        ("/parts/none", 404, "no part `none`"),
        ("/parts/sample", 400, "`sample` is missing"),
    ] {
        let error = bench.json(path, status);
        assert!(error["error"].as_str().unwrap().contains(part), "{path}: {error}");
    }
    assert!(
        bench.get("/?monitor=none&step=", 200).contains("monitor-choice"),
        "it is chosen no more"
    );
}

#[test]
fn status_decisions_and_samples_are_the_objects_of_the_commands() {
    let bench = Bench::new(&[1, 2]).serve();
    bench.keep_values(2);
    let status = Status::of(&bench.config, &bench.history, 9).unwrap().json();
    assert_eq!(bench.json("/api/v1/status", 200), status);
    let decisions = bench.json("/api/v1/decisions", 200);
    assert_eq!((&decisions["count"]["decisions"], &decisions["next"]), (&0.into(), &Value::Null));
    let list = bench.json("/api/v1/samples?limit=2&top=1", 200);
    assert_eq!((&list["step"], &list["samples"], &list["next"]), (&2.into(), &3.into(), &2.into()));
    let first = &list["list"][0];
    assert_eq!((&first["class"], &first["output"]["target"]), (&0.into(), &2.0.into()));
    let strongest = &first["interactions"][0];
    assert_eq!(
        (&strongest["kind"], &strongest["variables"]),
        (&"and".into(), &serde_json::json!([1, 2]))
    );
    let of_two = bench.json("/api/v1/samples/2/1", 200);
    let pair =
        crate::explanation::StoredPair::open(&bench.config, &bench.history, Some(2)).unwrap();
    assert_eq!(of_two, pair.explain_one(1, 1).unwrap().json());
    bench.get("/api/v1/samples/2/3", 404);
    let page = bench.get("/?step=2&samples=0&sample=1", 200);
    assert!(page.contains("class=\"explanation\"") && page.contains("Sample 2"), "{page}");
    assert!(bench.get("/explanation/2/1", 200).contains("<style>"));
}

#[test]
fn the_history_is_read_once_for_a_change_and_pairs_once_at_all() {
    let mut bench = Bench::new(&[1, 2]);
    let site = bench.site();
    let first = site.snapshot().unwrap();
    assert!(Arc::ptr_eq(&first, &site.snapshot().unwrap()));
    bench.store(3);
    let second = site.snapshot().unwrap();
    assert_eq!(second.report.pairs.len(), 3);
    assert!(Arc::ptr_eq(&first.report.pairs[1], &second.report.pairs[1]));
    bench.news.stand(|standing| standing.waiting = 0);
    assert!(Arc::ptr_eq(&second, &site.snapshot().unwrap()), "it stands where it stood");
}

/// The next event of a stream: its name and data.
fn event(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Option<(String, Value)> {
    let (mut name, mut data) = (None, None);
    for line in lines.by_ref() {
        let line = line.unwrap();
        match line.split_once(": ") {
            Some(("event", text)) => name = Some(text.to_owned()),
            Some(("data", text)) => data = serde_json::from_str(text).ok(),
            _ if line.is_empty() => return name.zip(data),
            _ => {}
        }
    }
    None
}

#[test]
fn what_happens_is_told_and_what_comes_at_once_is_told_once() {
    let mut bench = Bench::new(&[1]).serve();
    let answer = bench.ask("/events", &[]);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut lines = BufReader::new(answer.into_body().into_reader()).lines();
    let (name, data) = event(&mut lines).unwrap();
    assert_eq!((name.as_str(), &data["run"]), ("hello", &"<bench>".into()));
    bench.store(2);
    bench.store(3);
    bench.news.decision(1);
    assert_eq!(event(&mut lines).unwrap(), ("pair".into(), serde_json::json!({"step": 3})));
    assert_eq!(
        event(&mut lines).unwrap(),
        ("decision".into(), serde_json::json!({"generation": 1}))
    );
    bench.news.changed();
    assert_eq!(event(&mut lines).unwrap().0, "state");
    bench.news.stand(|standing| standing.is_over = true);
    bench.server = None;
    assert_eq!(event(&mut lines).unwrap(), ("end".into(), serde_json::json!({"over": true})));
    assert_eq!(event(&mut lines), None, "the stream ends with the server");
}

#[test]
fn only_so_many_follow_and_one_that_leaves_makes_room() {
    let bench = Bench::new(&[1]).serve();
    let mut following: Vec<_> = (0..MOST_FOLLOWERS).map(|_| bench.ask("/events", &[])).collect();
    assert!(following.iter().all(|answer| answer.status() == 200));
    assert!(bench.json("/events", 503)["error"].as_str().unwrap().contains("too many pages"));
    assert!(bench.get("/metrics", 200).contains("convergd_"), "the metrics are served");
    following.pop();
    let started = std::time::Instant::now();
    // It is noticed when something is to be told.
    while bench.ask("/events", &[]).status() != 200 {
        assert!(started.elapsed() < Duration::from_secs(60));
        bench.news.changed();
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_page_of_ten_thousand_pairs_stays_small() {
    let bench = Bench::new(&[1]).serve();
    let file = rusqlite::Connection::open(bench.config.state.join("history.sqlite")).unwrap();
    file.execute_batch(
        "WITH RECURSIVE more(step) AS (SELECT 2 UNION ALL SELECT step + 1 FROM more WHERE step < 10000)
         INSERT INTO pair SELECT more.step, time, target, baseline, finite, samples, certified, gap_max,
            monitors, strengths, policy, noise_floor FROM pair, more WHERE pair.step = 1",
    )
    .unwrap();
    bench.news.changed();
    for path in ["/", "/parts/live", "/api/v1/history?limit=1000000", "/api/v1/status"] {
        let answer = bench.get(path, 200);
        assert!(answer.len() < 2_000_000, "{path}: {} bytes", answer.len());
    }
    assert!(bench.get("/", 200).len() < 300_000);
    let page = bench.get("/?pair=4999", 200);
    assert!(page.contains("step 5,000") && page.contains("max=\"9999\""));
}

#[test]
fn a_run_without_a_pair_has_a_page_and_names_are_escaped() {
    let bench = Bench::new(&[]).serve();
    let page = bench.get("/", 200);
    assert!(page.contains("Waiting for the first pair") && page.contains("&lt;bench&gt;"));
    assert!(!page.contains("<bench>") && !page.contains("http:") && !page.contains("https:"));
    assert!(!page.contains(" style=") && !page.contains(" onclick="), "the policy allows neither");
    assert_eq!(bench.json("/api/v1/status", 200)["pairs"], 0);
    bench.json("/api/v1/samples", 404);
    drop(bench.root);
}
