//! Explanations that were made lately: an extraction takes a moment, and samples are looked at again.

use super::{Refusal, Site};
use crate::explanation::{Explanation, StoredPair};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Explanations that are kept; one of a large image has some hundred kilobytes.
const KEPT: usize = 100;
/// Threads of an extraction for somebody who looks on.
const THREADS: usize = 1;

/// The latest of them, newest last.
#[derive(Default)]
pub(super) struct Explained(Mutex<VecDeque<Arc<Explanation>>>);

impl Explained {
    fn find(&self, step: u64, sample: usize) -> Option<Arc<Explanation>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|one| (one.step, one.sample) == (step, sample)).cloned()
    }

    fn keep(&self, new: &[Arc<Explanation>]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(new.iter().cloned());
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
}

/// Some samples of a pair, explained.
pub(super) struct Listed {
    /// Step of the pair.
    pub(super) step: u64,
    /// Number of samples P.
    pub(super) samples: usize,
    /// Number of variables n.
    pub(super) variables: usize,
    /// The first of them.
    pub(super) from: usize,
    /// They, in order.
    pub(super) explanations: Vec<Arc<Explanation>>,
}

impl Listed {
    /// The first sample behind them.
    pub(super) fn next(&self) -> Option<usize> {
        let next = self.from + self.explanations.len();
        (next < self.samples).then_some(next)
    }
}

impl Site {
    /// At most `most` samples of a pair from sample `from` on.
    pub(super) fn list(
        &self,
        step: Option<u64>,
        from: usize,
        most: usize,
    ) -> Result<Listed, Refusal> {
        let history = self.history()?;
        let pair = StoredPair::open(&self.config, &history, step)?;
        let (step, samples, variables) = (pair.step(), pair.samples(), pair.variables());
        let wanted = from..from.saturating_add(most).min(samples);
        let missing: Vec<usize> =
            wanted.clone().filter(|&sample| self.explained.find(step, sample).is_none()).collect();
        let made: Vec<Arc<Explanation>> = match missing.as_slice() {
            [] => Vec::new(),
            missing => pair.explain(missing, THREADS)?.into_iter().map(Arc::new).collect(),
        };
        let of = |sample| {
            let new = made.iter().find(|one: &&Arc<Explanation>| one.sample == sample).cloned();
            new.or_else(|| self.explained.find(step, sample))
        };
        let explanations = wanted.filter_map(of).collect();
        self.explained.keep(&made);
        Ok(Listed { step, samples, variables, from, explanations })
    }

    /// One sample of a pair.
    pub(super) fn explain(
        &self,
        step: Option<u64>,
        sample: usize,
    ) -> Result<Arc<Explanation>, Refusal> {
        if let Some(kept) = step.and_then(|step| self.explained.find(step, sample)) {
            return Ok(kept);
        }
        let pair = StoredPair::open(&self.config, &self.history()?, step)?;
        if let Some(kept) = self.explained.find(pair.step(), sample) {
            return Ok(kept);
        }
        let made = Arc::new(pair.explain_one(sample, THREADS)?);
        self.explained.keep(std::slice::from_ref(&made));
        Ok(made)
    }
}
