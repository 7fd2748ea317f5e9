//! The run that is killed, the trainers around it, and what is left of it.

use crate::bench::{Bench, Running, convergd};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A notice, a switch at the second pair, a stop at the fourth; the third rule knows a best step.
const RULES: [&str; 4] = [
    "- {id: told, when: {below: {metric: convergent_ratio, threshold: 2}}, then: {notify: {}}}",
    "- {id: switch, when: {reached: {step: 20}}, then: {phase: {to: regularized, lambda: 0.8}}}",
    "- {id: follow, when: {peaked: {metric: probe_loss, patience: {checks: 50}}}, then: {stop: {}}}",
    "- {id: end, when: {reached: {step: 40}}, then: {stop: {}}}",
];
pub(crate) const RULE: &str = "- {id: budget, when: {reached: {step: 100}}, then: {stop: {}}}";
pub(crate) const NEXT_RULE: &str = "\n    ";
/// A checkpoint of the target that never gets a partner comes after this step.
const LONELY_AFTER: u64 = 20;
const LONELY: u64 = 25;
/// Far more than a run takes between two kills.
const PATIENCE: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(5);

/// A run from its first checkpoint to its end.
pub(crate) struct World {
    bench: Bench,
    running: Option<Running>,
    /// Decisions that the trainers have read, by generation.
    told: BTreeMap<u64, Value>,
    since: Instant,
    pub(crate) kills: usize,
}

/// What happens to the process.
pub(crate) trait Fate {
    /// The places at which the next process is to die.
    fn next(&mut self, world: &World) -> Option<String>;
    /// Whether it is to be killed now.
    fn strikes(&mut self) -> bool {
        false
    }
}

/// Nothing happens.
pub(crate) struct Undisturbed;

impl Fate for Undisturbed {
    fn next(&mut self, _: &World) -> Option<String> {
        None
    }
}

impl World {
    /// Nothing where the fixtures cannot be made.
    pub(crate) fn new() -> Option<Self> {
        let bench = Bench::empty()?;
        bench.configure(&[(RULE, &RULES.join(NEXT_RULE))]);
        for network in ["target", "baseline"] {
            std::fs::create_dir(bench.path(network)).unwrap();
        }
        let (told, since) = (BTreeMap::new(), Instant::now());
        Some(Self { bench, running: None, told, since, kills: 0 })
    }

    /// Plays the whole run; gives what is left of it.
    pub(crate) fn play(&mut self, fate: &mut impl Fate) -> String {
        for (number, step) in [10, 20, 30, 40].into_iter().enumerate() {
            self.save("target", step, number);
            self.save("baseline", step, number + 1);
            self.until(fate, "the pair is stored", |world| {
                world.count(&format!("pair WHERE step = {step}")) == 1
            });
            self.until(fate, "its decision is acknowledged", |world| {
                world.count("acknowledgement") == 2 * world.count("decision")
            });
            if step == LONELY_AFTER {
                self.save("target", LONELY, number);
                self.until(fate, "it waits", |world| {
                    world.count(&format!("checkpoint WHERE step = {LONELY}")) == 1
                });
            }
        }
        self.end(fate);
        self.remains()
    }

    /// Checkpoints whose content is that of few fixtures.
    fn save(&self, network: &str, step: u64, number: usize) {
        let fixture = format!("{network}/step-{:08}.safetensors", number % 3 + 1);
        self.bench.put(&fixture, &format!("{network}/step-{step:08}.safetensors"));
    }

    /// Rows of a table.
    pub(crate) fn count(&self, of: &str) -> usize {
        let rows = self.bench.rows(&format!("SELECT count(*) FROM {of}"));
        rows.first().map_or(0, |row| row[0].parse().unwrap())
    }

    /// How far it has come: what a process that dies at once does not add to.
    pub(crate) fn progress(&self) -> [usize; 5] {
        let tables = ["pair", "checkpoint", "acknowledgement", "fact"];
        let [a, b, c, d] = tables.map(|table| self.count(table));
        [a, b, c, d, self.count("decision WHERE delivered IS NOT NULL")]
    }

    fn until(&mut self, fate: &mut impl Fate, what: &str, is_so: impl Fn(&Self) -> bool) {
        self.since = Instant::now();
        while !is_so(self) {
            assert!(self.since.elapsed() < PATIENCE, "not in time: {what}\n{}", self.err());
            if let Some(code) = self.tend(fate) {
                panic!("it ended with {code} before {what}:\n{}", self.err());
            }
        }
    }

    fn end(&mut self, fate: &mut impl Fate) {
        self.since = Instant::now();
        loop {
            assert!(self.since.elapsed() < PATIENCE, "it does not end:\n{}", self.err());
            match self.tend(fate) {
                Some(10) => return,
                Some(code) => panic!("it ended with {code}:\n{}", self.err()),
                None => {}
            }
        }
    }

    fn err(&self) -> String {
        self.running.as_ref().map(Running::err).unwrap_or_default()
    }

    /// Lets the trainers look, and starts the process where there is none; its code where it has ended by itself.
    fn tend(&mut self, fate: &mut impl Fate) -> Option<i32> {
        self.answer();
        let Some(running) = &mut self.running else {
            let places = fate.next(self);
            let mut command = convergd(&["run", "-c", "run.yaml"]);
            command.env("FAILPOINTS", places.unwrap_or_default());
            let directory = self.bench.path(".");
            self.running = Some(Running::start(command.current_dir(&directory), &directory));
            return None;
        };
        if fate.strikes() {
            let pid = rustix::process::Pid::from_raw(running.pid() as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        } else if running.is_alive() {
            std::thread::sleep(POLL);
            return None;
        }
        let finished = self.running.take()?.finish();
        assert!(!finished.err.contains("panicked"), "{}", finished.err);
        if finished.code.is_none() {
            self.kills += 1;
        } else {
            eprintln!("{}", finished.err);
        }
        finished.code
    }

    /// Both trainers read the control file, and acknowledge what is new.
    fn answer(&mut self) {
        let file = self.bench.path("control/control.json");
        let Ok(text) = std::fs::read(&file) else { return };
        let document: Value = serde_json::from_slice(&text).expect("never half written");
        let generation = document["generation"].as_u64().unwrap();
        if document["decision_id"].is_null() {
            assert!(self.told.is_empty(), "a decision is taken back: {document}");
            return;
        }
        if let Some(told) = self.told.get(&generation) {
            assert_eq!(told, &document, "one generation is told in two ways");
            return;
        }
        let newest = self.told.last_key_value().map_or(0, |(generation, _)| *generation);
        assert_eq!(generation, newest + 1, "generations follow each other");
        for network in ["target", "baseline"] {
            let step = document["at_step"].clone();
            let answer = json!({"schema": 1, "generation": generation, "step": step, "rank": 0});
            let file = self.bench.path("control").join(format!("ack-{network}.json"));
            let partial = file.with_extension("tmp");
            std::fs::write(&partial, answer.to_string()).unwrap();
            std::fs::rename(partial, file).unwrap();
        }
        self.told.insert(generation, document);
    }

    /// Everything that the run has stored and told, but for times and the place of its directory.
    fn remains(&self) -> String {
        let tables = [
            "SELECT step, target, baseline, finite, samples, certified, gap_max, noise_floor, monitors, \
             strengths, policy FROM pair ORDER BY step",
            "SELECT generation, id, step, decision, document, delivered IS NOT NULL FROM decision \
             ORDER BY generation",
            // Why one was skipped is said in other words where that was only seen at the next start.
            "SELECT network, step, path, outcome FROM checkpoint ORDER BY step, network",
            "SELECT step, hex(samples), target_values, baseline_values FROM evidence ORDER BY step",
            "SELECT id, step, notice FROM notice ORDER BY id",
            "SELECT network, generation, step FROM acknowledgement ORDER BY generation, network",
            "SELECT name, value FROM fact ORDER BY name",
        ];
        let mut lines: Vec<String> = Vec::new();
        for table in tables {
            lines.push(table.to_owned());
            for row in self.bench.rows(table) {
                lines.push(row.iter().map(|cell| timeless(cell)).collect::<Vec<_>>().join(" | "));
            }
        }
        lines.extend(self.told.values().map(|document| format!("told {document}")));
        let control = std::fs::read_to_string(self.bench.path("control/control.json")).unwrap();
        lines.push(format!("control.json {}", timeless(&control)));
        for directory in ["state/values", "state/best", "state/pins"] {
            lines.extend(self.files(directory));
        }
        let root = std::fs::canonicalize(self.bench.path(".")).unwrap();
        lines.join("\n").replace(&root.display().to_string(), "ROOT")
    }

    /// Names below a directory; what a killed process has half written counts for nothing.
    fn files(&self, directory: &str) -> Vec<String> {
        let mut names = Vec::new();
        let Ok(entries) = std::fs::read_dir(self.bench.path(directory)) else { return names };
        for entry in entries.flatten() {
            let name = format!("{directory}/{}", entry.file_name().to_string_lossy());
            match entry.file_type().unwrap().is_dir() {
                true => names.extend(self.files(&name)),
                false if name.contains("/.tmp-") => {}
                false => names.push(name),
            }
        }
        names.sort();
        names
    }
}

/// A cell without the times in it.
fn timeless(cell: &str) -> String {
    match serde_json::from_str::<Value>(cell) {
        Ok(mut value) => {
            forget_times(&mut value);
            value.to_string()
        }
        Err(_) => cell.to_owned(),
    }
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "time" | "started" => *value = Value::Null,
                    _ => forget_times(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}

/// What is left of an undisturbed run; nothing where the fixtures cannot be made.
pub(crate) fn undisturbed() -> Option<&'static str> {
    static REMAINS: OnceLock<Option<String>> = OnceLock::new();
    let play = || {
        let mut world = World::new()?;
        let remains = world.play(&mut Undisturbed);
        assert_eq!(world.progress(), [4, 9, 4, world.count("fact"), 2], "{remains}");
        assert_eq!(world.kills, 0);
        Some(remains)
    };
    REMAINS.get_or_init(play).as_deref()
}

/// The first line that differs, beside its counterpart.
#[track_caller]
pub(crate) fn assert_same(disturbed: &str, undisturbed: &str, how: &str) {
    let [is, was] = [disturbed, undisturbed].map(|text| text.lines().collect::<Vec<_>>());
    for (is, was) in is.iter().zip(&was) {
        assert_eq!(is, was, "{how}");
    }
    assert_eq!(is.len(), was.len(), "{how}:\n{disturbed}");
}
