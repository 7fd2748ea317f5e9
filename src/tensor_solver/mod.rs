//! The solver of [`crate::sparsify`] on tensors, for a GPU: the same splitting on the same schedule, for
//! hundreds of tables in one kernel, and then the crossover of the CPU, so that exact answers are the same.
//!
//! Numbers are float64 throughout, and the batch is the innermost dimension, so that elementwise steps
//! run over contiguous memory and each subset transform is a matrix product with the batch as its
//! columns. At a few microseconds a kernel the number of kernels is what counts: an iteration is
//! twelve and one for each block of the projection (6 at n = 8 and 10, 10 at n = 12), whatever the size
//! of the batch. To that end
//!
//! - the variables are taken in two halves, a table being a matrix [2^high, 2^low]: a change of basis
//!   is one product from either side (module `projection`);
//! - the transforms of K are multiplied into the change of basis, so they cost nothing;
//! - the blocks of H⁻¹ differ from table to table and are applied as batched small products;
//! - the metric adapts on the host, by order, from sums made on the device.
//!
//! After the common schedule the near-optimal point of each table goes to the CPU and from there to the
//! canonical vertex, which does not depend on where the way to it began: the answer is that of the
//! solver on the CPU up to rounding. What does not become exact goes on with the splitting until its
//! gap is proven, as there. Tables that are done with leave their batch, and what is left of several
//! batches goes on together: the stubborn few share their kernels. An answer depends on its neighbours
//! by rounding only, and its certificate is computed by the code that checks every other answer.

mod basis;
mod batch;
mod extractor;
mod metric;
mod plan;
mod projection;
#[cfg(test)]
mod tests;
mod transform;

pub use extractor::extractor;

use crate::extractor::{ExtractError, refuse_other_variables};
use crate::interaction::subset::{MAX_VARIABLES, MIN_VARIABLES};
use crate::network::first_lines;
use crate::sparsify::problem::Costs;
use crate::sparsify::solver::Fit;
use crate::sparsify::splitting::{Iterate, NO_WORSE};
use crate::sparsify::{Problem, Settings, Solution, Solver};
use batch::{Answer, Batch, Schedule};
use plan::Plan;
use rayon::ThreadPool;
use rayon::prelude::*;
use std::collections::HashMap;
use thiserror::Error;

/// Why tables could not be solved on a device.
#[derive(Debug, Error)]
pub enum TensorError {
    /// The number of variables is not supported.
    #[error("tables have from 2 to 16 variables, not {0}")]
    Variables(usize),
    /// A problem is none of this solver's.
    #[error(transparent)]
    Refused(#[from] ExtractError),
    /// libtorch refused something; mostly there is not enough memory.
    #[error("{0}")]
    Torch(String),
}

impl From<tch::TchError> for TensorError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(first_lines(&error))
    }
}

/// Numbers a subset and table: 11 of its own, 3 for the blocks, 24 to iterate, some 16 more in a check
/// and while tables leave; and as many again for tables that wait for company and for what the
/// allocator keeps.
const NUMBERS_A_SUBSET: usize = 104;

/// What has been found for the problems of a call.
struct Answers {
    solutions: Vec<Option<Solution>>,
    /// Of tables without noise that are still on their way, by the index of the problem.
    fits: HashMap<usize, Fit>,
}

/// Everything that tables of n variables share on one device.
pub struct TensorSolver {
    /// Finishes and certifies.
    core: Solver,
    settings: Settings,
    plan: Plan,
    most_tables_at_once: usize,
}

impl TensorSolver {
    /// Prepares for tables of n variables on a device.
    ///
    /// # Errors
    /// An n outside 2..=16, and whatever libtorch refuses there.
    pub fn new(
        variables: usize,
        settings: Settings,
        device: tch::Device,
        most_tables_at_once: usize,
    ) -> Result<Self, TensorError> {
        if !(MIN_VARIABLES..=MAX_VARIABLES).contains(&variables) {
            return Err(TensorError::Variables(variables));
        }
        let core = Solver::new(variables, settings);
        let plan = tch::no_grad(|| Plan::new(core.costs(), device))?;
        Ok(Self { core, settings, plan, most_tables_at_once: most_tables_at_once.max(1) })
    }

    /// Tables of n variables that fit into `bytes` of the device's memory at once, at least 1.
    pub fn tables_within(variables: usize, bytes: usize) -> usize {
        (bytes / ((NUMBERS_A_SUBSET * size_of::<f64>()) << variables)).max(1)
    }

    /// The canonical costs, for whoever wants to check an answer.
    pub fn costs(&self) -> &Costs {
        self.core.costs()
    }

    /// Tables that one batch holds. With several times as many in one call the stubborn ones of
    /// several batches go on together.
    pub fn most_tables_at_once(&self) -> usize {
        self.most_tables_at_once
    }

    /// Number of variables n.
    pub fn variables(&self) -> usize {
        self.plan.variables
    }

    /// Solves all problems, the answers in their order. What is done on the CPU is done in the pool.
    ///
    /// # Errors
    /// A problem with another number of variables; a device that gives up.
    pub fn solve(
        &self,
        pool: &ThreadPool,
        problems: &[Problem],
    ) -> Result<Vec<Solution>, TensorError> {
        refuse_other_variables(self.variables(), problems)?;
        let solutions = problems.iter().map(|_| None).collect();
        let mut answers = Answers { solutions, fits: HashMap::new() };
        tch::no_grad(|| self.run(pool, problems, &mut answers))?;
        Ok(answers.solutions.into_iter().flatten().collect())
    }

    fn run(
        &self,
        pool: &ThreadPool,
        problems: &[Problem],
        answers: &mut Answers,
    ) -> Result<(), TensorError> {
        let Settings { gap, iterations, most_iterations, .. } = self.settings;
        let most_iterations = most_iterations.max(1);
        let first_check = iterations.clamp(1, most_iterations);
        let mut fresh = problems.chunks(self.most_tables_at_once).enumerate();
        let mut waiting: Vec<Batch<'_>> = Vec::new();
        loop {
            // What fills half a batch is worth a run; then new tables; then whatever waits.
            let full = waiting.iter().position(|batch| 2 * batch.len() > self.most_tables_at_once);
            let mut batch = if let Some(full) = full {
                waiting.swap_remove(full)
            } else if let Some((chunk, problems)) = fresh.next() {
                let first = chunk * self.most_tables_at_once;
                Batch::new(&self.plan, problems, first, first_check)?
            } else if let Some(least) = least_advanced(&waiting) {
                waiting.swap_remove(least)
            } else {
                return Ok(());
            };
            batch.iterate()?;
            let Some(batch) = self.finish(batch, pool, problems, answers)? else { continue };
            let iterations = batch.iteration();
            let (ended, rest) = batch.check(Schedule { gap, most_iterations })?;
            self.certify(ended, iterations, pool, problems, answers);
            if let Some(rest) = rest {
                self.wait(&mut waiting, rest)?;
            }
        }
    }

    /// Takes tables to their optimal vertices, and gives back what is left of the batch.
    fn finish<'a>(
        &self,
        mut batch: Batch<'a>,
        pool: &ThreadPool,
        problems: &[Problem],
        answers: &mut Answers,
    ) -> Result<Option<Batch<'a>>, TensorError> {
        let has_noise = |&(index, _): &(usize, Iterate)| problems[index].zeta > 0.0;
        let (noisy, others): (Vec<_>, Vec<_>) = batch.due()?.into_iter().partition(has_noise);
        let apart = |due: Vec<(usize, Iterate)>| -> (Vec<usize>, Vec<(&Problem, Iterate)>) {
            due.into_iter().map(|(index, near)| (index, (&problems[index], near))).unzip()
        };
        let (core, iterations) = (&self.core, batch.iteration());
        let (indices, tables) = apart(noisy);
        for (index, vertex) in
            indices.into_iter().zip(pool.install(|| core.finish_all(tables, iterations)))
        {
            answers.solutions[index] = vertex;
        }
        let (indices, tables) = apart(others);
        for (index, fit) in indices.into_iter().zip(pool.install(|| core.fit_all(tables))) {
            let Some(fit) = fit else { continue };
            let best = answers.fits.get(&index).map_or(f64::INFINITY, |best| best.cost);
            if fit.cost <= best * (1.0 + NO_WORSE) {
                answers.fits.insert(index, fit);
            }
        }
        batch.without(|index| answers.solutions[index].is_some())
    }

    /// Checks the answers as those of any other solver.
    fn certify(
        &self,
        mut ended: Vec<Answer>,
        iterations: usize,
        pool: &ThreadPool,
        problems: &[Problem],
        answers: &mut Answers,
    ) {
        let core = &self.core;
        for answer in &mut ended {
            let Some(Fit { effects, cost }) = answers.fits.remove(&answer.index) else { continue };
            let found = core.costs().objective(&answer.effects.and, &answer.effects.or);
            // An exact fit is cleaner than effects of the same cost.
            if cost <= found * (1.0 + NO_WORSE) {
                answer.effects = effects;
            }
        }
        let check = |Answer { index, effects, dual }: Answer| {
            (index, core.certify(&problems[index], effects, dual, iterations))
        };
        let checked: Vec<_> = pool.install(|| ended.into_par_iter().map(check).collect());
        for (index, solution) in checked {
            answers.solutions[index] = Some(solution);
        }
    }

    /// Lets a batch wait, together with another that stands at the same iteration if both fit.
    fn wait<'a>(&self, waiting: &mut Vec<Batch<'a>>, batch: Batch<'a>) -> Result<(), TensorError> {
        let fits = |other: &Batch<'_>| {
            other.keeps_step_with(&batch) && other.len() + batch.len() <= self.most_tables_at_once
        };
        let batch = match waiting.iter().position(fits) {
            Some(partner) => waiting.swap_remove(partner).join(batch)?,
            None => batch,
        };
        waiting.push(batch);
        Ok(())
    }
}

/// The batch that can still meet all others on its way.
fn least_advanced(waiting: &[Batch<'_>]) -> Option<usize> {
    (0..waiting.len()).min_by_key(|&index| waiting[index].next_check())
}
