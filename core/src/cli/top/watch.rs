//! What is read of a run, and read again only when it has changed.

use crate::account::Status;
use crate::config::Config;
use crate::convergence::{Estimate, Goal, Monitor, Monitors};
use crate::history::{History, HistoryError, Holder, Outcome, StateLock};
use crate::role::Role;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

/// The newest notices, as many as a high terminal shows.
const NOTICES: usize = 50;

/// A run that is looked at.
pub(super) struct Watch {
    config: Config,
    open: Option<Open>,
    /// As it was read last; nothing before there is a history.
    pub(super) seen: Option<Seen>,
}

/// An open history, and what tells that it is still the one, as it was.
struct Open {
    history: History,
    /// Device and inode of its file.
    file: (u64, u64),
    change: i64,
}

/// What is shown of a run.
pub(super) struct Seen {
    pub(super) state: Status,
    /// Steps and monitors of all pairs, ascending.
    pub(super) pairs: Vec<(u64, Monitors)>,
    /// The best value of each monitor and its step: what a rule knows, as in the report, else the best measured.
    pub(super) bests: BTreeMap<Monitor, (u64, Estimate)>,
    /// The best measured.
    extremes: BTreeMap<Monitor, (u64, Estimate)>,
    /// Who has answered the last decision.
    pub(super) answered: Vec<String>,
    /// The newest checkpoint that waits, (target, baseline).
    pub(super) newest: [Option<u64>; 2],
}

impl Watch {
    pub(super) fn of(config: Config) -> Self {
        Self { config, open: None, seen: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn state(&self) -> String {
        self.config.state.display().to_string()
    }

    /// The monitor of the first rule that follows one.
    pub(super) fn primary(&self) -> Monitor {
        let rules = self.seen.as_ref().map_or(&self.config.policy, |seen| &seen.state.rules);
        rules.primary()
    }

    /// Reads what has changed. A history that is not there yet is waited for, and one that has been replaced is opened anew.
    ///
    /// # Errors
    /// A history that cannot be read; what was read before stays.
    pub(super) fn refresh(&mut self) -> anyhow::Result<()> {
        let Self { config, open, seen } = self;
        let file = std::fs::metadata(History::file(&config.state));
        let file = file.ok().map(|file| (file.dev(), file.ino()));
        if open.as_ref().map(|open| open.file) != file {
            (*open, *seen) = (None, None);
        }
        let open = match (open, file) {
            (_, None) => return Ok(()),
            (Some(open), _) => open,
            (none, Some(file)) => match History::open_for_reading(&config.state) {
                Err(HistoryError::Absent { .. }) => return Ok(()),
                history => none.insert(Open { history: history?, file, change: -1 }),
            },
        };
        let change = open.history.change()?;
        match seen {
            Some(seen) if open.change == change => {
                seen.state.holder = StateLock::holder(&config.state);
            }
            _ => {
                Seen::read(config, &open.history, seen)?;
                // What came in between is read at the next look.
                open.change = change;
            }
        }
        Ok(())
    }
}

impl Seen {
    /// Reads a run; of pairs those that were not there before.
    fn read(config: &Config, history: &History, seen: &mut Option<Self>) -> anyhow::Result<()> {
        let state = Status::of(config, history, NOTICES)?;
        let last = seen.as_ref().and_then(|seen| seen.pairs.last());
        let new = history.monitors_after(last.map(|(step, _)| *step))?;
        let answered = match state.decisions.last() {
            Some(row) => history.acknowledgements(row.document.generation)?,
            None => Vec::new(),
        };
        let [target, baseline] = Role::BOTH.map(|role| history.last_step(role, Outcome::Waiting));
        let newest = [target?, baseline?];
        // From here on nothing fails: until then the last state stays.
        let (mut pairs, mut extremes) = match seen.take() {
            Some(seen) => (seen.pairs, seen.extremes),
            None => Default::default(),
        };
        for (step, monitors) in new {
            for (&monitor, &estimate) in &monitors {
                let best = extremes.entry(monitor).or_insert((step, estimate));
                if is_better(monitor, estimate, best.1) {
                    *best = (step, estimate);
                }
            }
            pairs.push((step, monitors));
        }
        let mut bests = extremes.clone();
        for (monitor, best) in state.rules.bests(&state.policy) {
            let place = pairs.binary_search_by_key(&best.at.step, |(step, _)| *step);
            let estimate = place.ok().and_then(|place| pairs[place].1.get(&monitor));
            bests.extend(estimate.map(|&estimate| (monitor, (best.at.step, estimate))));
        }
        *seen = Some(Self {
            state,
            pairs,
            extremes,
            bests,
            answered: answered.into_iter().map(|(network, ..)| network).collect(),
            newest,
        });
        Ok(())
    }

    /// Steps from the last pair to the newest checkpoint that waits.
    pub(super) fn lag(&self) -> Option<u64> {
        let last = self.pairs.last().map_or(0, |(step, _)| *step);
        self.newest.iter().flatten().max().map(|newest| newest.saturating_sub(last))
    }

    /// What is said of a process at work.
    pub(super) fn at_work(&self) -> String {
        match &self.state.holder {
            Some(Holder::Process(pid)) => format!("at work (process {pid})"),
            Some(Holder::Nobody) => "not at work".to_owned(),
            None => String::new(),
        }
    }
}

fn is_better(monitor: Monitor, new: Estimate, best: Estimate) -> bool {
    match monitor.goal() {
        Goal::Max => new.value > best.value,
        Goal::Min => new.value < best.value,
    }
}
