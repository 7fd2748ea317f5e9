//! A run in a directory of its own, and the program at work on it.

use crate::common;
pub(crate) use crate::common::process::{Finished, Running, assert_says, convergd, eventually};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// The configuration that every test starts from; paths are relative to it.
const CONFIG: &str = "\
state: state
program: program.ts
probe:
  file: probe.safetensors
  variables: {columns: {groups: 4}}
networks:
  target: {checkpoints: target}
  baseline: {checkpoints: baseline}
interactions: {noise: 0.01}
compute: {device: cpu}
policy:
  rules:
    - {id: budget, when: {reached: {step: 100}}, then: {stop: {}}}
control: {directory: control, acknowledge: 60s}
";

/// The directory with good and bad files, made once; nothing where there is no Python for it.
pub(crate) fn fixtures() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    MADE.get_or_init(make).as_deref()
}

fn make() -> Option<PathBuf> {
    if !common::has_python() {
        return None;
    }
    let directory = common::own_directory("bad_input");
    common::succeed(common::script("make_bad_input.py").arg(&directory));
    Some(directory)
}

/// One run's directory.
pub(crate) struct Bench {
    root: tempfile::TempDir,
    fixtures: &'static Path,
}

impl Bench {
    /// A good run without checkpoints; nothing where the fixtures cannot be made.
    pub(crate) fn empty() -> Option<Self> {
        let fixtures = fixtures()?;
        let bench = Self { root: tempfile::tempdir().unwrap(), fixtures };
        bench.put("program.ts", "program.ts");
        bench.put("probe.safetensors", "probe.safetensors");
        bench.configure(&[]);
        Some(bench)
    }

    /// A good run with checkpoints of these steps.
    pub(crate) fn with_steps(steps: &[u64]) -> Option<Self> {
        let bench = Self::empty()?;
        for step in steps {
            bench.add_step("target", *step);
            bench.add_step("baseline", *step);
        }
        Some(bench)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Copies a fixture; as trainers do, under another name first.
    pub(crate) fn put(&self, fixture: &str, to: &str) {
        let to = self.path(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let partial = to.with_extension("tmp");
        std::fs::copy(self.fixtures.join(fixture), &partial).unwrap();
        std::fs::rename(partial, to).unwrap();
    }

    pub(crate) fn fixture(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.fixtures.join(name)).unwrap()
    }

    pub(crate) fn add_step(&self, network: &str, step: u64) {
        let name = format!("{network}/step-{step:08}.safetensors");
        self.put(&name, &name);
    }

    /// Writes the configuration, with parts replaced.
    pub(crate) fn configure(&self, edits: &[(&str, &str)]) {
        let mut text = CONFIG.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "`{from}` is not in the configuration");
            text = text.replace(from, to);
        }
        std::fs::write(self.path("run.yaml"), text).unwrap();
    }

    /// Starts a command in the directory.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::start(convergd(arguments).current_dir(self.root.path()), self.root.path())
    }

    /// The same where the system gives no events of the file system; nothing where that cannot be arranged.
    pub(crate) fn start_without_events(&self, arguments: &[&str]) -> Option<Running> {
        // A user of its own may have fewer than the machine's.
        let none = "echo 0 > /proc/sys/user/max_inotify_instances; exec \"$@\"";
        self.start_below(&["-Ur", "sh", "-c", none, "sh"], arguments)
    }

    /// The same as the first process of a container, below another that ends with its code; nothing where that cannot be
    /// arranged.
    pub(crate) fn start_as_first(&self, arguments: &[&str]) -> Option<Running> {
        self.start_below(&["-Urpf", "--kill-child"], arguments)
    }

    /// By `unshare` with these arguments.
    fn start_below(&self, unshare: &[&str], arguments: &[&str]) -> Option<Running> {
        let can = Command::new("unshare").args(unshare).arg("true").output();
        if !can.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: `unshare {}` cannot be had here", unshare[0]);
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(unshare).arg(env!("CARGO_BIN_EXE_convergd")).args(arguments);
        command.env("OMP_WAIT_POLICY", "PASSIVE").env_remove("RUST_LOG");
        Some(Running::start(command.current_dir(self.root.path()), self.root.path()))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }

    /// Runs Python code in the directory; what it prints.
    #[track_caller]
    pub(crate) fn python(&self, code: &str, arguments: &[&str]) -> String {
        let mut command = common::python();
        command.args(["-c", code]).args(arguments).current_dir(self.root.path());
        let finished = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
        assert!(finished.status.success(), "{code} {arguments:?}");
        String::from_utf8(finished.stdout).unwrap()
    }

    /// The largest resident size that a command of the program had, in bytes.
    #[track_caller]
    pub(crate) fn peak_memory(&self, arguments: &[&str]) -> u64 {
        let code = "\
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
        let said = self.python(code, &[&[env!("CARGO_BIN_EXE_convergd")], arguments].concat());
        1024 * said.trim().parse::<u64>().unwrap()
    }

    pub(crate) fn once(&self) -> Finished {
        self.command(&["run", "--once", "-c", "run.yaml"])
    }

    pub(crate) fn follow(&self) -> Running {
        self.start(&["run", "-c", "run.yaml"])
    }

    /// Both trainers say that they are at their end.
    pub(crate) fn end_training(&self) {
        for network in ["target", "baseline"] {
            std::fs::write(self.path("control").join(format!("done-{network}")), "{}").unwrap();
        }
    }

    pub(crate) fn status(&self) -> Value {
        let finished = self.command(&["status", "--json", "-c", "run.yaml"]);
        finished.expect(0, &[]);
        serde_json::from_str(&finished.out).unwrap()
    }

    fn history(&self, state: &str) -> Option<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = self.path(state).join("history.sqlite");
        let connection = Connection::open_with_flags(file, flags).ok()?;
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        Some(connection)
    }

    /// Changes the history behind its back.
    pub(crate) fn change(&self, statement: &str) {
        self.history("state").unwrap().execute(statement, []).unwrap();
    }

    /// The rows of a query as text; none while there is no history yet.
    pub(crate) fn rows(&self, query: &str) -> Vec<Vec<String>> {
        self.rows_of("state", query)
    }

    /// The same of another state directory.
    pub(crate) fn rows_of(&self, state: &str, query: &str) -> Vec<Vec<String>> {
        let Some(history) = self.history(state) else { return Vec::new() };
        let Ok(mut statement) = history.prepare(query) else { return Vec::new() };
        let columns = statement.column_count();
        let text = |value: rusqlite::types::Value| match value {
            rusqlite::types::Value::Null => "NULL".to_owned(),
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Real(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Blob(_) => "a blob".to_owned(),
        };
        let rows = statement
            .query_map([], |row| {
                (0..columns).map(|column| Ok(text(row.get(column)?))).collect::<Result<_, _>>()
            })
            .unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// Step and monitors of every pair.
    pub(crate) fn pairs(&self) -> Vec<Vec<String>> {
        self.rows("SELECT step, monitors FROM pair ORDER BY step")
    }

    /// How a checkpoint ended, and why.
    #[track_caller]
    pub(crate) fn checkpoint(&self, network: &str, step: u64) -> (String, String) {
        let query = format!(
            "SELECT outcome, reason FROM checkpoint WHERE network = '{network}' AND step = {step}"
        );
        let rows = self.rows(&query);
        assert_eq!(rows.len(), 1, "{network} {step}: {rows:?}");
        (rows[0][0].clone(), rows[0][1].clone())
    }

    /// Nothing waits under the state directory any more.
    #[track_caller]
    pub(crate) fn assert_no_pins(&self) {
        let pins = self.path("state/pins");
        let left = std::fs::read_dir(pins).map_or(0, |entries| entries.count());
        assert_eq!(left, 0, "pins are left");
    }
}
