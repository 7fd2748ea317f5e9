//! Extraction of many tables: where it is done is chosen by whoever starts it.

use crate::sparsify::{Problem, Settings, Solution, Solver};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use thiserror::Error;

/// Tables in a call for each thread on the CPU. The solver takes sixteen at a time, so a thread has four
/// rounds a call: enough that it seldom waits for another's slow table at the end, and few enough that
/// the largest tables (n = 16, 512 KiB each) take 0.3 GB a thread with all that is made of them.
const TABLES_A_THREAD: usize = 64;

/// Why tables could not be solved.
#[derive(Debug, Error)]
pub enum ExtractError {
    /// A problem is none of this solver's.
    #[error("problem {index} has {variables} variables, but the solver was made for {wanted}")]
    Mixed {
        /// Its place among the problems.
        index: usize,
        /// Its number of variables.
        variables: usize,
        /// The solver's number of variables.
        wanted: usize,
    },
    /// The device refused something; mostly there is not enough memory.
    #[error(
        "the device gave up: {0}; where others fill its memory, the device `cpu` gives the same exact answers"
    )]
    Device(String),
    /// The threads of the CPU's part cannot be started.
    #[error("the solver's threads: {0}")]
    Threads(#[from] ThreadPoolBuildError),
}

/// Extracts interactions of tables of n variables. Every form iterates the same way on the same schedule, the CPU's
/// at first in single precision, and ends at the same vertices. What is not exact may differ within its gap.
pub trait Extract: Send {
    /// Tables that a call should have at most: enough to keep the device or the threads busy, and a
    /// bound on the memory.
    fn tables_a_call(&self) -> usize;

    /// Solves all problems, the answers in their order.
    ///
    /// # Errors
    /// A problem with another number of variables; a device that gives up.
    fn solve(&self, problems: &[Problem]) -> Result<Vec<Solution>, ExtractError>;
}

/// Any form.
pub type Extractor = Box<dyn Extract>;

/// That of the CPU.
pub struct CpuExtractor {
    pool: ThreadPool,
    solver: Solver,
}

impl CpuExtractor {
    /// Prepares for tables of n variables, with so many threads.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn new(variables: usize, settings: Settings, threads: usize) -> Result<Self, ExtractError> {
        let named = |index| format!("solver {index}");
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(named).build()?;
        Ok(Self { pool, solver: Solver::new(variables, settings) })
    }
}

impl Extract for CpuExtractor {
    fn tables_a_call(&self) -> usize {
        TABLES_A_THREAD * self.pool.current_num_threads()
    }

    fn solve(&self, problems: &[Problem]) -> Result<Vec<Solution>, ExtractError> {
        refuse_other_variables(self.solver.variables(), problems)?;
        Ok(self.pool.install(|| self.solver.solve(problems)))
    }
}

/// The first problem that does not have n variables, as an error.
///
/// # Errors
/// It.
pub fn refuse_other_variables(wanted: usize, problems: &[Problem]) -> Result<(), ExtractError> {
    match problems.iter().position(|problem| problem.variables != wanted) {
        Some(index) => {
            Err(ExtractError::Mixed { index, variables: problems[index].variables, wanted })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_solves_and_refuses_what_does_not_fit() {
        let extractor = CpuExtractor::new(2, Settings::default(), 3).unwrap();
        assert_eq!(extractor.tables_a_call(), 3 * TABLES_A_THREAD);
        let fits = Problem::new(&[0.0, 1.0, 2.0, 3.0], 0.0).unwrap();
        let other = Problem::new(&[0.0; 8], 0.0).unwrap();
        let solutions = extractor.solve(std::slice::from_ref(&fits)).unwrap();
        assert!((solutions[0].effects.and[0b10] - 2.0).abs() < 1e-6);
        assert!(matches!(
            extractor.solve(&[fits, other]),
            Err(ExtractError::Mixed { index: 1, .. })
        ));
    }
}
