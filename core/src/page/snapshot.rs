//! What the history says at one moment.

use super::Refusal;
use super::news::Bulletin;
use crate::account::{Status, report};
use crate::config::Config;
use crate::history::History;
use crate::page::choice::Choice;
use crate::telemetry::report::{PairRow, Report};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Notices and checkpoints set aside that the page shows: the newest of each.
const MOST_SHOWN: usize = 20;
/// Choices whose drawing is kept.
const MOST_DRAWN: usize = 32;

/// All that the page shows but samples.
pub(super) struct Snapshot {
    /// What it answers to.
    pub(super) bulletin: Bulletin,
    /// Where the run stands.
    pub(super) status: Status,
    /// Its pairs and decisions, as the report has them.
    pub(super) report: Report,
    /// What follows the run, as it was drawn for a choice.
    drawn: Mutex<HashMap<Choice, Arc<str>>>,
}

impl Snapshot {
    /// Reads it; pairs are never changed, so only those behind the last snapshot's are read.
    pub(super) fn read(
        config: &Config,
        bulletin: Bulletin,
        before: Option<&Self>,
    ) -> Result<Self, Refusal> {
        let history = History::open_for_reading(&config.state)?;
        let mut pairs = before.map(|before| before.report.pairs.clone()).unwrap_or_default();
        let from = pairs.last().map_or(0, |last: &Arc<PairRow>| last.step + 1);
        pairs.extend(history.pairs_from(from, usize::MAX)?.into_iter().map(report::pair));
        let status = Status::of(config, &history, MOST_SHOWN)?;
        let report = report::report(config, &history, pairs, MOST_SHOWN)?;
        Ok(Self { bulletin, status, report, drawn: Mutex::default() })
    }

    /// What follows the run for a choice; drawn where nobody has asked for it since the last change.
    pub(super) fn drawn(&self, choice: &Choice, draw: impl FnOnce() -> String) -> Arc<str> {
        // Held meanwhile, so that of many who ask one draws.
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = drawn.get(choice) {
            return text.clone();
        }
        if drawn.len() >= MOST_DRAWN {
            drawn.clear();
        }
        let text: Arc<str> = draw().into();
        drawn.insert(*choice, text.clone());
        text
    }

    /// The pair at a place, from 0; without one, or beyond the end, the last.
    pub(super) fn pair_at(&self, place: Option<usize>) -> Option<(usize, &PairRow)> {
        let last = self.report.pairs.len().checked_sub(1)?;
        let place = place.unwrap_or(last).min(last);
        Some((place, self.report.pairs.get(place)?))
    }
}
