//! A writer that makes random moves at simulated times, and what it has saved.

use convergd::checkpoint::{Checkpoint, Directory, Event, Mode, Moment, Settings};
use convergd::layout::Layout;
use convergd::role::Role;
use fastrand::Rng;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How long the writer leaves a save alone: not seen by a timer, or seen by any.
pub(crate) const SHORT: (u64, u64) = (10, 3_000);
pub(crate) const LONG: (u64, u64) = (150_000, 200_000);
/// Between a save of a step and another of it file by file: longer than the writer's pauses within one.
const BETWEEN_SAVES: (u64, u64) = (20_000, 40_000);

/// What the writer does to the file system, at one moment.
#[derive(Clone, Debug)]
pub(crate) enum Move {
    MakeDirectory(PathBuf),
    /// Replaces the content in place, without another name.
    Write(PathBuf, Vec<u8>),
    Rename(PathBuf, PathBuf),
    /// A link of this name to a file beside it.
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    RemoveAll(PathBuf),
}

impl Move {
    /// Files are stamped by the simulated clock, since moves follow each other faster than the real one
    /// ticks.
    fn make(&self, wall: SystemTime) {
        match self {
            Self::MakeDirectory(path) => std::fs::create_dir_all(path).unwrap(),
            Self::Write(path, bytes) => {
                std::fs::write(path, bytes).unwrap();
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_modified(wall).unwrap();
            }
            Self::Rename(from, to) => std::fs::rename(from, to).unwrap(),
            Self::Link(from, to) => {
                let _ = std::fs::remove_file(from);
                std::os::unix::fs::symlink(to, from).unwrap();
            }
            Self::Remove(path) => std::fs::remove_file(path).unwrap(),
            Self::RemoveAll(path) => std::fs::remove_dir_all(path).unwrap(),
        }
    }
}

/// One whole save.
#[derive(Clone, Debug)]
pub(crate) struct Save {
    pub(crate) path: PathBuf,
    pub(crate) complete: Duration,
    /// From its first file to its last.
    pub(crate) span: Duration,
    /// When its name went, or became another's.
    pub(crate) gone: Option<Duration>,
    /// When its bytes were written over.
    pub(crate) destroyed: Option<Duration>,
}

impl Save {
    /// How long it stood there whole, in a world that ends at `end`.
    pub(crate) fn lived(&self, end: Duration) -> Duration {
        let gone = self.gone.unwrap_or(end).min(self.destroyed.unwrap_or(end));
        gone.saturating_sub(self.complete)
    }
}

/// Makes the script of a world.
struct Writer {
    rng: Rng,
    layout: Layout,
    root: PathBuf,
    now: Duration,
    script: Vec<(Duration, Move)>,
    saves: Vec<Save>,
    pause: (u64, u64),
}

impl Writer {
    fn wait(&mut self, (least, most): (u64, u64)) {
        self.now += Duration::from_millis(self.rng.u64(least..=most));
    }

    fn then(&mut self, done: Move) {
        self.script.push((self.now, done));
    }

    /// A file in place, in pieces.
    fn write_slowly(&mut self, path: &Path, bytes: &[u8]) {
        let pieces = self.rng.usize(1..=4);
        for piece in 1..pieces {
            let length = bytes.len() * piece / pieces;
            self.then(Move::Write(path.to_owned(), bytes[..length].to_vec()));
            // Now and then longer than the patience with incomplete files.
            let longest = if self.rng.u8(..) < 20 { 8_000 } else { 800 };
            self.wait((1, longest));
        }
        self.then(Move::Write(path.to_owned(), bytes.to_vec()));
    }

    /// Ends whatever stood at a path.
    fn end(&mut self, path: &Path, is_in_place: bool) {
        let now = self.now;
        let standing = self.saves.iter_mut().filter(|save| save.path.starts_with(path));
        for save in standing.filter(|save| save.gone.is_none() && save.destroyed.is_none()) {
            let end = if is_in_place { &mut save.destroyed } else { &mut save.gone };
            *end = Some(now);
        }
    }

    fn save(&mut self, step: u64) {
        let id = self.saves.len() as u64;
        let begin = self.now;
        let path = match self.layout {
            Layout::Hf => self.save_directory(step, id),
            _ => self.save_file(step, id),
        };
        let (complete, gone, destroyed) = (self.now, None, None);
        let span = match self.layout {
            Layout::Hf => complete - begin,
            _ => Duration::ZERO,
        };
        self.saves.push(Save { path, complete, span, gone, destroyed });
    }

    fn save_file(&mut self, step: u64, id: u64) -> PathBuf {
        let path = self.root.join(format!("step-{step}.safetensors"));
        let bytes = content(id, step);
        if self.rng.bool() {
            let partial = path.with_extension("safetensors.tmp");
            self.write_slowly(&partial, &bytes);
            self.end(&path, false);
            self.then(Move::Rename(partial, path.clone()));
        } else {
            self.end(&path, true);
            self.then(Move::Write(path.clone(), Vec::new()));
            self.wait((0, 500));
            self.write_slowly(&path, &bytes);
        }
        if self.rng.bool() {
            // Two names that writers give to their last one, the second of which looks like a step.
            let name = self
                .root
                .join(self.rng.choice(["last.safetensors", "best-1.safetensors"]).unwrap());
            self.then(Move::Link(name, PathBuf::from(path.file_name().unwrap())));
        }
        path
    }

    fn save_directory(&mut self, step: u64, id: u64) -> PathBuf {
        let path = self.root.join(format!("checkpoint-{step}"));
        let stands = self.saves.iter().any(|save| save.path == path && save.gone.is_none());
        if stands && self.rng.bool() {
            self.replace_files(&path, step, id);
            return path;
        }
        if stands {
            self.end(&path, false);
            self.then(Move::RemoveAll(path.clone()));
        }
        let is_in_place = self.rng.bool();
        let filled = if is_in_place { path.clone() } else { self.root.join(format!("tmp-{step}")) };
        self.then(Move::MakeDirectory(filled.clone()));
        let mut files = vec![
            ("model.safetensors.index.json", INDEX.as_bytes().to_vec()),
            ("model-1.safetensors", content(id, step)),
            ("model-2.safetensors", content(id, step)),
        ];
        self.rng.shuffle(&mut files);
        for (name, bytes) in files {
            self.wait((0, 700));
            self.write_slowly(&filled.join(name), &bytes);
        }
        if !is_in_place {
            self.then(Move::Rename(filled, path.clone()));
        }
        path
    }

    /// Another save of a step, file by file by rename: whole at any time, and of two saves in between.
    fn replace_files(&mut self, path: &Path, step: u64, id: u64) {
        self.wait(BETWEEN_SAVES);
        self.end(path, false);
        let mut names =
            ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"];
        self.rng.shuffle(&mut names);
        for name in names {
            let bytes = match name.ends_with("json") {
                true => INDEX.as_bytes().to_vec(),
                false => content(id, step),
            };
            let partial = path.join(format!("{name}.tmp"));
            self.then(Move::Write(partial.clone(), bytes));
            self.then(Move::Rename(partial, path.join(name)));
            self.wait((1, 5_000));
        }
    }

    /// Keeps the last `k`; directories go file by file.
    fn keep_last(&mut self, k: usize) {
        let standing = |save: &&Save| save.gone.is_none() && save.destroyed.is_none();
        let all: Vec<PathBuf> =
            self.saves.iter().filter(standing).map(|s| s.path.clone()).collect();
        for path in &all[..all.len().saturating_sub(k)] {
            self.end(path, false);
            if self.layout == Layout::Hf {
                for name in ["model-2.safetensors", "model.safetensors.index.json"] {
                    self.then(Move::Remove(path.join(name)));
                    self.wait((0, 300));
                }
                self.then(Move::RemoveAll(path.clone()));
            } else {
                self.then(Move::Remove(path.clone()));
            }
        }
    }

    /// The root goes and comes again, or another takes its place at once.
    fn remake_root(&mut self) {
        self.end(&self.root.clone(), false);
        let away = self.root.with_extension("away");
        match self.rng.bool() {
            true => self.then(Move::RemoveAll(self.root.clone())),
            false => {
                self.then(Move::Rename(self.root.clone(), away.clone()));
                self.then(Move::RemoveAll(away));
            }
        }
        self.wait((0, 2_000));
        self.then(Move::MakeDirectory(self.root.clone()));
    }

    fn write_all(&mut self, saves: u64) {
        self.then(Move::MakeDirectory(self.root.clone()));
        let mut step = 0;
        for _ in 0..saves {
            self.wait(self.pause);
            let saves_again = step > 0 && self.rng.u8(..) < 40;
            step += u64::from(!saves_again);
            self.save(step);
            let is_hasty = self.pause == SHORT && self.rng.bool();
            self.wait(if is_hasty { (0, 50) } else { self.pause });
            if self.rng.bool() {
                let k = self.rng.usize(0..=2);
                self.keep_last(k);
            }
            if self.rng.u8(..) < 25 {
                self.remake_root();
            }
        }
    }
}

const INDEX: &str = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;

/// A complete safetensors file that tells its save and step and has a checksum; of the same length for every
/// save.
fn content(id: u64, step: u64) -> Vec<u8> {
    let mut data = [id.to_le_bytes(), step.to_le_bytes()].concat();
    data.resize(6_000, id as u8);
    data.extend_from_slice(blake3::hash(&data).as_bytes());
    let header =
        format!(r#"{{"w":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, data.len());
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// Save and step of a file's content, if it is one whole save.
fn whole(bytes: &[u8]) -> Option<(u64, u64)> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let data = bytes.get(8 + usize::try_from(length).ok()?..)?;
    let (data, checksum) = data.split_at_checked(data.len().checked_sub(32)?)?;
    let number = |at: usize| Some(u64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?));
    (blake3::hash(data).as_bytes() == checksum).then_some((number(0)?, number(8)?))
}

/// What a pin holds; fails where that is not one whole save.
pub(crate) fn read_pin(checkpoint: &Checkpoint) -> u64 {
    let files = match checkpoint.pin.is_dir() {
        true => vec!["model-1.safetensors", "model-2.safetensors"],
        false => vec![""],
    };
    let saves: HashSet<(u64, u64)> = files
        .into_iter()
        .map(|name| {
            let file =
                if name.is_empty() { checkpoint.pin.clone() } else { checkpoint.pin.join(name) };
            whole(&std::fs::read(file).unwrap()).unwrap_or_else(|| panic!("torn: {checkpoint:?}"))
        })
        .collect();
    assert_eq!(saves.len(), 1, "of several saves: {checkpoint:?}");
    let (id, step) = saves.into_iter().next().unwrap();
    assert_eq!(step, checkpoint.step, "{checkpoint:?}");
    id
}

pub(crate) fn settings(layout: Layout, directory: &Path) -> Settings {
    Settings::new(Role::Target, directory.to_owned(), layout)
}

/// What came of one world.
pub(crate) struct Outcome {
    pub(crate) saves: Vec<Save>,
    /// Saves whose pins were reported.
    pub(crate) reported: HashSet<u64>,
    pub(crate) end: Duration,
}

/// Plays the world of a seed before a watcher that misses this share of its wake-ups.
pub(crate) fn play(layout: Layout, seed: u64, pause: (u64, u64), missed: f64) -> Outcome {
    play_by(wall, layout, seed, pause, missed)
}

/// The same where the system's clock shows something else.
pub(crate) fn play_by(
    wall: fn(Duration) -> SystemTime,
    layout: Layout,
    seed: u64,
    pause: (u64, u64),
    missed: f64,
) -> Outcome {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("run/checkpoints");
    let mut writer = Writer {
        rng: Rng::with_seed(seed),
        layout,
        root: root.clone(),
        now: Duration::from_secs(1),
        script: Vec::new(),
        saves: Vec::new(),
        pause,
    };
    writer.write_all(12);
    let end = writer.now + Duration::from_secs(120);
    let mut watcher = Watcher {
        directory: Directory::new(
            settings(layout, &root),
            home.path().join("pins"),
            HashSet::new(),
        ),
        start: Instant::now(),
        reported: HashMap::new(),
        next: Duration::ZERO,
        wall,
    };
    let mut wake_ups = Rng::with_seed(!seed);
    for (time, done) in &writer.script {
        watcher.wait_until(*time);
        done.make(wall(*time));
        if wake_ups.f64() >= missed {
            watcher.look(*time);
        }
    }
    watcher.wait_until(end);
    let left = std::fs::read_dir(home.path().join("pins")).map_or(0, |pins| {
        pins.flatten().filter(|pin| pin.file_name().to_string_lossy().starts_with("held")).count()
    });
    assert_eq!(left, 0, "links are left, seed {seed}");
    Outcome { saves: writer.saves, reported: watcher.reported.into_keys().collect(), end }
}

pub(crate) fn wall(time: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + time
}

/// The loop of the watching thread, on the simulated clock.
struct Watcher {
    directory: Directory,
    start: Instant,
    reported: HashMap<u64, Checkpoint>,
    next: Duration,
    wall: fn(Duration) -> SystemTime,
}

impl Watcher {
    fn wait_until(&mut self, time: Duration) {
        while self.next <= time {
            self.look(self.next);
        }
    }

    fn look(&mut self, time: Duration) {
        let now = Moment { monotonic: self.start + time, wall: (self.wall)(time) };
        for event in self.directory.look(now) {
            if let Event::Ready { checkpoint, .. } = event {
                let twice = self.reported.insert(read_pin(&checkpoint), checkpoint.clone());
                assert!(twice.is_none(), "reported twice: {checkpoint:?} and {twice:?}");
            }
        }
        self.next = time + self.directory.pause(Mode::Events);
    }
}
