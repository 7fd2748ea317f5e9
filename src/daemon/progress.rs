//! How far `--once` has come, within a pair too.

use super::Daemon;
use crate::checkpoint::Event;
use crate::extractor::{Extract, ExtractError, Extractor};
use crate::sparsify::{Problem, Solution};
use convergd_core::cli::progress::Progress;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What has been done.
pub(super) struct Course {
    progress: Progress,
    /// Pairs that are evaluated, or could not be.
    pairs: u64,
    /// The step of the pair at work, and how many masked inputs had gone through the networks before it.
    at_work: Option<(u64, u64)>,
    /// Tables of it that are extracted.
    extracted: Arc<AtomicUsize>,
}

impl Course {
    pub(super) fn of(progress: &Progress) -> Self {
        Self { progress: progress.clone(), pairs: 0, at_work: None, extracted: Arc::default() }
    }

    /// What has an extractor count what is extracted.
    pub(super) fn counting(&self) -> impl FnOnce(Extractor) -> Extractor + use<> {
        let count = Arc::clone(&self.extracted);
        |extractor| Box::new(Counted { extractor, count })
    }

    pub(super) fn end_pair(&mut self) {
        self.pairs += u64::from(self.at_work.take().is_some());
    }
}

impl Daemon<'_> {
    pub(super) fn begin_pair(&mut self, step: u64) {
        self.course.at_work = Some((step, self.evaluator.rows()));
        self.course.extracted.store(0, Ordering::Relaxed);
        self.show_progress();
    }

    pub(super) fn show_progress(&self) {
        let Course { progress, pairs, at_work, extracted } = &self.course;
        if !progress.is_shown() {
            return;
        }
        let done = *pairs as f64;
        let total = done + (u64::from(at_work.is_some()) + self.ready()) as f64;
        let Some((step, before)) = at_work else {
            return progress.show(done, total, String::new());
        };
        // All masked inputs go through the networks, then all tables are extracted.
        let samples = 2 * self.evaluator.samples();
        let subsets = self.variables.as_ref().map_or(u64::MAX, |chosen| 1u64 << chosen.count);
        let valued = (self.evaluator.rows() - before) / subsets;
        let share = |of: f64| (of / samples.max(1) as f64).min(1.0) / 2.0;
        let extracted = extracted.load(Ordering::Relaxed);
        let within = share(valued as f64) + share(extracted as f64);
        let doing = if extracted == 0 { "evaluating" } else { "extracting" };
        let doing = format!("{} of {total}, step {step}: {doing}", pairs + 1);
        progress.show(done + within, total, doing);
    }

    /// Pairs that can be made of what waits and what is noted.
    fn ready(&self) -> u64 {
        let mut waiting = self.pairs.waiting();
        for event in &self.noted {
            if let Event::Ready { checkpoint, .. } = event {
                waiting[checkpoint.role.index()] += 1;
            }
        }
        let [target, baseline] = waiting;
        let pairs = if self.config.fixed.is_some() { target } else { target.min(baseline) };
        pairs as u64
    }
}

/// Counts tables as they are extracted.
struct Counted {
    extractor: Extractor,
    count: Arc<AtomicUsize>,
}

impl Extract for Counted {
    fn tables_a_call(&self) -> usize {
        self.extractor.tables_a_call()
    }

    fn solve(&self, problems: &[Problem]) -> Result<Vec<Solution>, ExtractError> {
        let mut solutions = Vec::with_capacity(problems.len());
        for some in problems.chunks(self.tables_a_call().max(1)) {
            solutions.extend(self.extractor.solve(some)?);
            self.count.fetch_add(some.len(), Ordering::Relaxed);
        }
        Ok(solutions)
    }
}
