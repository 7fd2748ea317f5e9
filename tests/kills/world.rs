//! The run that is killed, the trainers around it, and what is left of it.

use crate::bench::{Bench, Running, convergd};
use crate::events::events;
use crate::receiver::Receiver;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
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
const EVENTS: (&str, &str) = ("compute:", "telemetry: {tensorboard: events}\ncompute:");
/// A checkpoint of the target that never gets a partner comes after this step.
const LONELY_AFTER: u64 = 20;
const LONELY: u64 = 25;
/// A program, then a webhook; only the stop is not answered for so long.
const LADDER: &str = "\
    acknowledge: 1s, exec: true, escalate: [\
    {after: 200ms, do: {exec: {command: [sh, -c, 'echo ran >> ran']}}}, \
    {after: 1500ms, do: {webhook: {name: ops}}}]}";
/// More than there are of one command.
const MOST_KILLS: usize = 20;
/// Far more than a run takes between two kills.
const PATIENCE: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(5);

/// What happens in a run beside kills.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Story {
    /// Rules decide all.
    Rules,
    /// Persons decide too, with the run at work and without it, another policy is read, webhooks are told, and the
    /// trainers do not answer the stop until the ladder is climbed.
    Persons,
}

/// A run from its first checkpoint to its end.
pub(crate) struct World {
    story: Story,
    pub(crate) bench: Bench,
    running: Option<Running>,
    receiver: Receiver,
    /// Whether trainers do not answer a stop.
    is_deaf: bool,
    /// The generation that they have answered.
    acknowledged: u64,
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
    pub(crate) fn new(story: Story) -> Option<Self> {
        let bench = Bench::empty()?;
        for network in ["target", "baseline"] {
            std::fs::create_dir(bench.path(network)).unwrap();
        }
        let (told, since, receiver) = (BTreeMap::new(), Instant::now(), Receiver::start(&[]));
        let (running, is_deaf, acknowledged, kills) = (None, false, 0, 0);
        let world =
            Self { story, bench, running, receiver, is_deaf, acknowledged, told, since, kills };
        world.configure(&RULES);
        Some(world)
    }

    fn configure(&self, rules: &[&str]) {
        let rules = rules.join(NEXT_RULE);
        let control =
            format!("{LADDER}\nnotify: [{{name: ops, url: '{}'}}]", self.receiver.url("/"));
        let mut edits = vec![(RULE, rules.as_str()), EVENTS];
        if self.story == Story::Persons {
            edits.push(("acknowledge: 60s}", &control));
        }
        self.bench.configure(&edits);
    }

    /// Plays the whole run; gives what is left of it.
    pub(crate) fn play(&mut self, fate: &mut impl Fate) -> String {
        match self.story {
            Story::Rules => self.play_rules(fate),
            Story::Persons => self.play_persons(fate),
        }
        self.end(fate);
        self.assert_events();
        self.remains()
    }

    /// The event files tell of each pair and decision once, as those that are written at the end do.
    fn assert_events(&self) {
        let mut export = convergd(&["export", "-c", "run.yaml", "--format", "tensorboard"]);
        let directory = self.bench.path(".");
        export.args(["-o", "exported"]).current_dir(&directory);
        Running::start(&mut export, &directory).finish().expect(0, &[]);
        let [grown, exported] = ["events", "exported"].map(|name| events(&self.bench.path(name)));
        assert!(grown == exported, "{} events", grown.iter().map(Vec::len).sum::<usize>());
    }

    fn play_persons(&mut self, fate: &mut impl Fate) {
        self.add_pair(fate, 10, 0);
        self.ask(fate, &["phase", "--to", "on", "--lambda", "0.5"]);
        self.until_acknowledged(fate);
        self.configure(&RULES[..2]);
        self.ask(fate, &["reload"]);
        self.until(fate, "the other policy runs", |world| {
            world.count("intervention WHERE intervention LIKE '{\"policy\"%'") == 2
        });
        self.add_pair(fate, 20, 1);
        self.until_acknowledged(fate);
        self.rest();
        self.decide_alone(fate, &["phase", "--to", "off", "--lambda", "0.1"]);
        self.until_acknowledged(fate);
        self.is_deaf = true;
        self.ask(fate, &["stop"]);
        self.until(fate, "the ladder is climbed", |world| world.count("escalation") == 2);
        self.is_deaf = false;
        self.until_acknowledged(fate);
    }

    fn add_pair(&mut self, fate: &mut impl Fate, step: u64, number: usize) {
        self.save("target", step, number);
        self.save("baseline", step, number + 1);
        self.until(fate, "the pair is stored", |world| {
            world.count(&format!("pair WHERE step = {step}")) == 1
        });
    }

    fn until_acknowledged(&mut self, fate: &mut impl Fate) {
        self.until(fate, "its decision is acknowledged", |world| {
            world.count("acknowledgement") == 2 * world.count("decision")
        });
    }

    fn command(&self, arguments: &[&str], places: Option<String>) -> Running {
        let mut command = convergd(&[arguments, &["-c", "run.yaml", "--wait", "200"]].concat());
        command.env("FAILPOINTS", places.unwrap_or_default());
        let directory = self.bench.path(".");
        Running::start(command.current_dir(&directory), &directory)
    }

    /// A person asks for something while the process is started again and again.
    fn ask(&mut self, fate: &mut impl Fate, arguments: &[&str]) {
        self.until_at_work(fate);
        let mut command = self.command(arguments, None);
        while command.is_alive() {
            // While the command itself has the lock, no run begins.
            let ended = self.tend(fate);
            assert!(matches!(ended, None | Some(75)), "it ended: {ended:?}");
        }
        let finished = command.finish();
        let is_too_late = arguments == ["reload"] && finished.err.contains("no run is at work");
        assert!(finished.code == Some(0) || is_too_late, "{arguments:?}: {}", finished.err);
    }

    fn until_at_work(&mut self, fate: &mut impl Fate) {
        self.until(fate, "it is at work", |world| world.running.is_some());
    }

    /// Ends the process where it is at work.
    fn rest(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.terminate();
        let finished = running.finish();
        // One that is not that far yet has no hand for the signal, and one may die on its way.
        assert!(!finished.err.contains("panicked"), "{}", finished.err);
    }

    /// A person decides without a run at work; the command may be killed too.
    fn decide_alone(&mut self, fate: &mut impl Fate, arguments: &[&str]) {
        let mut was_killed = false;
        for _ in 0..MOST_KILLS {
            let places = fate.next(self);
            let finished = self.command(arguments, places).finish();
            match finished.code {
                None => was_killed = true,
                // It was killed when it was done.
                Some(64) if was_killed && finished.err.contains("already") => return,
                code => return assert_eq!(code, Some(0), "{}", finished.err),
            }
            self.kills += 1;
        }
        panic!("it comes no further");
    }

    fn play_rules(&mut self, fate: &mut impl Fate) {
        for (number, step) in [10, 20, 30, 40].into_iter().enumerate() {
            self.add_pair(fate, step, number);
            self.until_acknowledged(fate);
            if step == LONELY_AFTER {
                self.save("target", LONELY, number);
                self.until(fate, "it waits", |world| {
                    world.count(&format!("checkpoint WHERE step = {LONELY}")) == 1
                });
            }
        }
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
    pub(crate) fn progress(&self) -> [usize; 9] {
        let tables = [
            "pair",
            "checkpoint",
            "acknowledgement",
            "fact",
            "decision WHERE delivered IS NOT NULL",
            "intervention",
            "escalation",
            "escalation WHERE result IS NOT NULL",
            "notification WHERE ended IS NOT NULL",
        ];
        tables.map(|table| self.count(table))
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
        let newest = self.told.last_key_value().map_or(0, |(generation, _)| *generation);
        if let Some(told) = self.told.get(&generation) {
            assert_eq!(told, &document, "one generation is told in two ways");
        } else {
            assert_eq!(generation, newest + 1, "generations follow each other");
            self.told.insert(generation, document.clone());
        }
        if self.acknowledged == generation || (self.is_deaf && document["action"] == "stop") {
            return;
        }
        self.acknowledged = generation;
        for network in ["target", "baseline"] {
            let step = document["at_step"].clone();
            let answer = json!({"schema": 1, "generation": generation, "step": step, "rank": 0});
            let file = self.bench.path("control").join(format!("ack-{network}.json"));
            let partial = file.with_extension("tmp");
            std::fs::write(&partial, answer.to_string()).unwrap();
            std::fs::rename(partial, file).unwrap();
        }
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
            "SELECT name, value FROM fact WHERE name <> 'run id' ORDER BY name",
            "SELECT number, after, intervention, policy FROM intervention ORDER BY number",
            // What came of a program is not known where it was killed meanwhile.
            "SELECT generation, after, kind, measure FROM escalation ORDER BY generation, after",
            // A key begins with the name that webhooks know the run by.
            "SELECT webhook, substr(id, 14), generation, delivered FROM notification ORDER BY id",
        ];
        let mut lines: Vec<String> = Vec::new();
        for table in tables {
            lines.push(table.to_owned());
            for row in self.bench.rows(table) {
                lines.push(row.iter().map(|cell| timeless(cell)).collect::<Vec<_>>().join(" | "));
            }
        }
        let key = |key: &str| key.split_once('/').unwrap().1.to_owned();
        let heard = self.receiver.requests();
        let heard = heard.iter().map(|told| key(told.header("Idempotency-Key").unwrap()));
        lines.extend(heard.collect::<BTreeSet<_>>().into_iter().map(|key| format!("heard {key}")));
        let ran = std::fs::read_to_string(self.bench.path("ran")).unwrap_or_default();
        assert!(ran.lines().count() <= 1, "a program of the ladder ran twice");
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
pub(crate) fn undisturbed(story: Story) -> Option<&'static str> {
    static OF_RULES: OnceLock<Option<String>> = OnceLock::new();
    static OF_PERSONS: OnceLock<Option<String>> = OnceLock::new();
    let (remains, wanted) = match story {
        Story::Rules => (&OF_RULES, [4, 9, 4, 2, 1, 0, 0, 0]),
        Story::Persons => (&OF_PERSONS, [2, 4, 8, 4, 5, 2, 2, 8]),
    };
    let play = || {
        let mut world = World::new(story)?;
        let remains = world.play(&mut Undisturbed);
        let [pairs, checkpoints, answers, _, rest @ ..] = world.progress();
        assert_eq!([&[pairs, checkpoints, answers], &rest[..]].concat(), wanted, "{remains}");
        assert_eq!(world.kills, 0);
        Some(remains)
    };
    remains.get_or_init(play).as_deref()
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
