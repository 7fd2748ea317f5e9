//! The value tables of checkpoints that are there, into the cache that a run looks into first (DESIGN section 13).
//!
//! Any number of processes may do that at once, on machines that share the directories, without knowing of each
//! other: a table is one file, named after everything that it depends on, and appears whole. So what one of them has
//! done the others find, and one that was killed is started again. Which checkpoints are wanted follows from what is
//! there and from the YAML file alone: the pairs of `run --once` in a new state.

use crate::checkpoint::{Census, Checkpoint, LeftOut, Pairs, fixed};
use crate::config::Config;
use crate::daemon::{MOST_TRIES, RETRY, find_fixed, has_begun};
use crate::evaluation::cache::{self, NotKept};
use crate::evaluation::{ValueCache, Variables};
use crate::history::{Begun, History, HistoryError};
use crate::network::{Evaluator, NetworkError, Source, memory};
use crate::role::Role;
use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use thiserror::Error;

/// Which of the checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Steps of the target.
    pub steps: RangeInclusive<u64>,
    /// Counted from 0.
    pub shard: usize,
    /// Of so many; each checkpoint is of one of them.
    pub shards: usize,
}

/// What became of one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many masked inputs went through the network.
    Evaluated(u64),
    /// Its table was in the cache.
    Found,
    /// Why it has none.
    Refused(String),
}

/// One checkpoint, done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Whose it is.
    pub role: Role,
    /// Its training step.
    pub step: u64,
    /// Where it stands.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: Outcome,
}

/// Why no table can be made.
#[derive(Debug, Error)]
pub enum BackfillError {
    /// A directory of checkpoints.
    #[error("{role} network: {reason}")]
    Directory {
        /// Whose.
        role: Role,
        /// What is wrong with it, and what to try.
        reason: String,
    },
    /// The history of the run, or settings that it was not begun with.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// What the run says of itself.
    #[error(
        "`{}` cannot be read: {reason}; the next start of the run writes it anew, and without it the history is asked",
        .path.display()
    )]
    Begun {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A network, program, probe or device.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// There is no pair.
    #[error(
        "no pair of checkpoints is there: {target} of the target and {baseline} of the baseline are complete, {left_out} are \
         left out{reason}; `convergd doctor -c` looks at them"
    )]
    NoPair {
        /// Complete ones.
        target: usize,
        /// Complete ones, with the fixed one.
        baseline: usize,
        /// Those that are not, or fit no program.
        left_out: usize,
        /// Of one of them.
        reason: String,
    },
    /// There are pairs, and none that the variables can be chosen from.
    #[error(
        "of {pairs} pairs of checkpoints none gives finite outputs, so no variables can be chosen; `convergd doctor -c` \
         looks at the newest"
    )]
    NoVariables {
        /// How many were tried.
        pairs: usize,
    },
    /// A cache that would let go of what was put into it.
    #[error(
        "the value tables of {checkpoints} checkpoints take {needed} bytes at the least, and `cache.size` is {size}, a sixteenth of \
         which stays free: a run would let some go before it has read them; raise it, to `{}` at the least", cache::least_size(*.needed)
    )]
    NoRoom {
        /// How many are wanted, in all shards.
        checkpoints: usize,
        /// Bytes of their tables, at least.
        needed: u64,
        /// Bytes that the cache may take.
        size: u64,
    },
    /// A cache that is full of others.
    #[error(
        "the value tables that are there take {there} bytes, the next one {needed}, and `cache.size` is {size}, a sixteenth of \
         which stays free: a run might let some go before it has read them; raise it, or remove the oldest under `{}`, which costs \
         time where a run still wants them, and what `explain` says of checkpoints that are gone", .directory.display()
    )]
    Full {
        /// Where they lie.
        directory: PathBuf,
        /// Bytes of those that are there.
        there: u64,
        /// Bytes of the one that was not kept.
        needed: u64,
        /// Bytes that the cache may take.
        size: u64,
    },
    /// The steps that are asked for have no pair.
    #[error("of {pairs} pairs of checkpoints, of steps {first} to {last}, `--steps` takes none")]
    NoStep {
        /// How many there are.
        pairs: usize,
        /// Step of the first.
        first: u64,
        /// Step of the last.
        last: u64,
    },
    /// The steps that are asked for have no pair, and checkpoints that are no good.
    #[error(
        "no pair of `--steps` can be made ({pairs} pairs are of other steps, {first} to {last}): {}`{}` {reason}",
        others(*.left_out), .path.display()
    )]
    NoGoodStep {
        /// How many pairs there are.
        pairs: usize,
        /// Step of the first.
        first: u64,
        /// Step of the last.
        last: u64,
        /// How many are no good.
        left_out: usize,
        /// One of them.
        path: PathBuf,
        /// Why it is left out.
        reason: String,
    },
    /// A table that cannot be written.
    #[error("value tables cannot be listed or written under `{}`: {reason}; free some room or see to its rights", .directory.display())]
    Unwritable {
        /// The directory of the cache.
        directory: PathBuf,
        /// What the file system says.
        reason: String,
    },
}

type Result<T> = std::result::Result<T, BackfillError>;

/// Checkpoints whose tables are wanted, and what evaluates them.
pub struct Backfill {
    evaluator: Evaluator,
    config: Config,
    variables: Option<Variables>,
    /// Those of the shard, in the order in which they are taken.
    checkpoints: Vec<Checkpoint>,
    /// Their number in all shards.
    wanted_of_all: usize,
    /// Those of the shard that are not complete or fit no program.
    left_out: Vec<LeftOut>,
}

impl Backfill {
    /// Finds the checkpoints, and loads programs and probe.
    ///
    /// # Errors
    /// Whatever makes every table impossible, and settings that the run was not begun with.
    pub fn plan(config: &Config, wanted: &Wanted) -> Result<Self> {
        let mut left_out = Vec::new();
        let [target, baseline, fixed] = checkpoints(config, &mut left_out)?;
        let cache = ValueCache::new(config.values(), config.cache_size).filled_only(wanted.shards);
        let evaluator = Evaluator::start(config.network.clone(), cache)?;
        let begun = begun(config, &evaluator)?;
        let fixed = fixed.into_iter().next();
        let all = [target, baseline].concat();
        let mut variables = begun;
        let mut bad = HashSet::new();
        let mut pairs = pairs_of(config, &all, fixed.as_ref(), &bad);
        let mut tried = 0;
        while let (None, Some(pair)) = (&variables, pairs.get(tried)) {
            let ask = || evaluator.choose([source(&pair[0]), source(&pair[1])]).wait();
            match patiently(ask) {
                Ok(chosen) => (variables, tried) = (chosen, tried + 1),
                // A run sets it aside, and its partner may find another.
                Err(NetworkError::Checkpoint { path, message, is_passing: false })
                    if bad.insert(path.clone()) =>
                {
                    let step = pair.iter().find(|of| of.path == path).map(|of| of.step);
                    left_out.push(LeftOut { path, step, reason: message });
                    pairs = pairs_of(config, &all, fixed.as_ref(), &bad);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if pairs.is_empty() {
            let reason = left_out.first().map(|LeftOut { path, reason, .. }| {
                format!(", such as `{}`, which {reason}", path.display())
            });
            let count = |role| all.iter().filter(|checkpoint| checkpoint.role == role).count();
            return Err(BackfillError::NoPair {
                target: count(Role::Target),
                baseline: count(Role::Baseline) + usize::from(fixed.is_some()),
                left_out: left_out.len(),
                reason: reason.unwrap_or_default(),
            });
        }
        if variables.is_none() {
            return Err(BackfillError::NoVariables { pairs: pairs.len() });
        }
        let steps = || pairs.iter().map(|pair| pair[0].step);
        if !steps().any(|step| wanted.steps.contains(&step)) {
            let (first, last) = (steps().min().unwrap_or(0), steps().max().unwrap_or(0));
            return Err(none_of(wanted, pairs.len(), [first, last], &left_out));
        }
        let of_steps = pairs.into_iter().filter(|pair| wanted.steps.contains(&pair[0].step));
        let mut seen = BTreeSet::new();
        let once = of_steps.flatten().filter(|checkpoint| seen.insert(checkpoint.path.clone()));
        let checkpoints: Vec<Checkpoint> = once.collect();
        let wanted_of_all = checkpoints.len();
        if let Some(variables) = &variables {
            let table = cache::table_bytes(evaluator.samples(), variables.count);
            check_room(config, wanted_of_all, table)?;
        }
        let of_shard = |index: usize| index % wanted.shards.max(1) == wanted.shard;
        let checkpoints = checkpoints.into_iter().enumerate();
        let checkpoints = checkpoints.filter(|(index, _)| of_shard(*index));
        let checkpoints = checkpoints.map(|(_, checkpoint)| checkpoint).collect();
        left_out.retain(|of| of.step.is_none_or(|step| wanted.steps.contains(&step)));
        left_out.sort_by(|a, b| a.path.cmp(&b.path));
        let left_out = left_out.into_iter().enumerate();
        let left_out = left_out.filter(|(index, _)| of_shard(*index)).map(|(_, of)| of).collect();
        Ok(Self {
            evaluator,
            config: config.clone(),
            variables,
            checkpoints,
            wanted_of_all,
            left_out,
        })
    }

    /// How many checkpoints there are to do.
    pub fn count(&self) -> usize {
        self.checkpoints.len()
    }

    /// Those of the steps that are not complete or fit no program; of several shards each tells of its own.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Makes the tables, one after the other, and tells of each.
    ///
    /// # Errors
    /// What makes the next one impossible too; those before are kept.
    pub fn run(self, mut tell: impl FnMut(Done)) -> Result<()> {
        let Some(variables) = &self.variables else { return Ok(()) };
        for checkpoint in &self.checkpoints {
            let outcome = self.make(checkpoint, variables)?;
            let Checkpoint { role, step, path, .. } = checkpoint.clone();
            tell(Done { role, step, path, outcome });
            memory::release();
        }
        Ok(())
    }

    fn make(&self, checkpoint: &Checkpoint, variables: &Variables) -> Result<Outcome> {
        let ask = || self.evaluator.evaluate(source(checkpoint), variables).wait();
        let evaluated = match patiently(ask) {
            Ok(evaluated) => evaluated,
            Err(error) if error.is_of_checkpoint() => {
                return Ok(Outcome::Refused(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        let layout = self.config.network.reading[checkpoint.role.index()].layout;
        if !fixed::is_unchanged(checkpoint, layout) {
            // What was read is no checkpoint, and nobody asks for its table.
            let what = format!("`{}` was changed or removed meanwhile", checkpoint.path.display());
            return Ok(Outcome::Refused(what));
        }
        if let Some(unkept) = evaluated.unkept {
            let directory = self.config.values();
            return Err(match unkept {
                NotKept::Full { needed } => BackfillError::Full {
                    there: cache::usage(&directory).map_or(0, |usage| usage.bytes),
                    needed,
                    size: self.config.cache_size,
                    directory,
                },
                NotKept::System(reason) => BackfillError::Unwritable { directory, reason },
            });
        }
        // Only now it is known how many logits there are. A run in between may have let it go.
        let table = cache::entry_bytes(&self.config.values(), &evaluated.key);
        let table = table.unwrap_or_else(|| evaluated.values.bytes());
        check_room(&self.config, self.wanted_of_all, table)?;
        match evaluated.rows {
            0 => Ok(Outcome::Found),
            rows => Ok(Outcome::Evaluated(rows)),
        }
    }
}

/// Once more where the system could not read a file, or others had the memory, as a run does.
fn patiently<T>(
    ask: impl Fn() -> std::result::Result<T, NetworkError>,
) -> std::result::Result<T, NetworkError> {
    for _ in 1..MOST_TRIES {
        match ask() {
            Err(error) if error.is_passing() || error.lacks_memory() => {
                tracing::warn!("{error}; trying again");
                std::thread::sleep(RETRY);
            }
            answer => return answer,
        }
    }
    ask()
}

/// So many are no good, of which one is named.
fn others(left_out: usize) -> String {
    match left_out {
        0 | 1 => String::new(),
        count => format!("{count} checkpoints are left out, such as this: "),
    }
}

/// Why the steps that are asked for have no pair.
fn none_of(
    wanted: &Wanted,
    pairs: usize,
    [first, last]: [u64; 2],
    left_out: &[LeftOut],
) -> BackfillError {
    let is_asked_for = |of: &&LeftOut| of.step.is_some_and(|step| wanted.steps.contains(&step));
    let mut of_steps = left_out.iter().filter(is_asked_for);
    let count = of_steps.clone().count();
    match of_steps.next().cloned() {
        None => BackfillError::NoStep { pairs, first, last },
        Some(LeftOut { path, reason, .. }) => {
            BackfillError::NoGoodStep { pairs, first, last, left_out: count, path, reason }
        }
    }
}

/// Of the target, of the baseline, and the fixed one.
fn checkpoints(config: &Config, left_out: &mut Vec<LeftOut>) -> Result<[Vec<Checkpoint>; 3]> {
    let mut found = [const { Vec::new() }; 3];
    for watched in &config.watch {
        let role = watched.role;
        let census = Census::take(watched).map_err(|error| BackfillError::Directory {
            role,
            reason: format!("`{}` cannot be listed: {error}", watched.directory.display()),
        })?;
        if let Some(reason) = census.foreign {
            return Err(BackfillError::Directory { role, reason });
        }
        left_out.extend(census.left_out);
        found[role.index()] = census.checkpoints;
    }
    found[2].extend(find_fixed(config)?);
    Ok(found)
}

/// The pairs that a run would evaluate that finds all of them at once.
fn pairs_of(
    config: &Config,
    all: &[Checkpoint],
    fixed: Option<&Checkpoint>,
    bad: &HashSet<PathBuf>,
) -> Vec<[Checkpoint; 2]> {
    let mut pairs = Pairs::new(config.pairing.without_bound(), None, fixed.cloned());
    for checkpoint in all.iter().filter(|checkpoint| !bad.contains(&checkpoint.path)) {
        pairs.add(checkpoint.clone());
    }
    pairs.end();
    std::iter::from_fn(|| pairs.take_next()).map(|next| next.pair).collect()
}

/// The variables of a run that has begun; its settings must be those of the file.
fn begun(config: &Config, evaluator: &Evaluator) -> Result<Option<Variables>> {
    let unreadable = |error: std::io::Error| {
        let (path, reason) = (Begun::path(&config.state), error.to_string());
        BackfillError::Begun { path, reason }
    };
    if let Some(begun) = Begun::read(&config.state).map_err(unreadable)? {
        if begun.variables.is_some() {
            begun.compare(&config.state, evaluator.facts())?;
        }
        return Ok(begun.variables);
    }
    // Of a version that had no such file.
    let history = match History::open_for_reading(&config.state) {
        Err(HistoryError::Absent { .. }) => return Ok(None),
        history => history?,
    };
    if !has_begun(&history, &config.state)? {
        return Ok(None);
    }
    for (name, value) in evaluator.facts() {
        history.compare_fact(name, value)?;
    }
    let text = history.fact("variables")?;
    let variables = text.map(|text| serde_json::from_str(&text)).transpose();
    Ok(variables.map_err(HistoryError::Value)?)
}

/// Refuses what the cache could not hold until a run has looked into it: so many tables of so many bytes.
fn check_room(config: &Config, checkpoints: usize, table: u64) -> Result<()> {
    let needed = (checkpoints as u64).saturating_mul(table);
    match needed <= cache::kept_bytes(config.cache_size) {
        true => Ok(()),
        false => Err(BackfillError::NoRoom { checkpoints, needed, size: config.cache_size }),
    }
}

fn source(checkpoint: &Checkpoint) -> Source {
    let Checkpoint { role, path, .. } = checkpoint.clone();
    Source { role, file: path.clone(), name: path }
}
