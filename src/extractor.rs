//! The solver for a device: on the CPU the one of the core, on a GPU its tensor form.
//!
//! Both iterate the same way on the same schedule, the core at first in single precision, and end at the
//! same vertices. What is not exact may differ within its gap.

use crate::network::Device;
use crate::network::device::prepare;
use crate::sparsify::{Problem, Settings, Solution, Solver};
use crate::tensor_solver::{TensorError, TensorSolver};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Tables in a call for each thread on the CPU. The solver takes sixteen at a time, so a thread has four
/// rounds a call: enough that it seldom waits for another's slow table at the end, and few enough that
/// the largest tables (n = 16, 512 KiB each) take 0.3 GB a thread with all that is made of them.
const TABLES_A_THREAD: usize = 64;
/// Memory of a device that a solver may take: some 1,200 tables at once at n = 10, with which a kernel
/// takes longer than its launch.
const DEVICE_BYTES: usize = 1 << 30;
/// Tables at once on a device, however small they are: each has its own small blocks there and its own
/// answer here.
const MOST_AT_ONCE: usize = 1 << 14;
/// Device loads in a call: the stubborn tables of the first go on together with those of the second.
const LOADS: usize = 2;

/// Extracts interactions of tables of n variables.
pub struct Extractor {
    pool: ThreadPool,
    form: Form,
}

enum Form {
    Core(Box<Solver>),
    Tensor(Box<TensorSolver>),
}

impl Extractor {
    /// Prepares for tables of n variables on the device. What is done on the CPU is done by so many
    /// threads.
    ///
    /// # Errors
    /// Threads that cannot be started; whatever libtorch refuses on a device other than the CPU.
    pub fn new(
        variables: usize,
        settings: Settings,
        device: Device,
        threads: usize,
    ) -> Result<Self, TensorError> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        if device.is_cpu() {
            let solver = Solver::new(variables, settings);
            return Ok(Self { pool, form: Form::Core(Box::new(solver)) });
        }
        prepare(threads);
        let at_once = TensorSolver::tables_within(variables, DEVICE_BYTES).min(MOST_AT_ONCE);
        let solver = TensorSolver::new(variables, settings, device.0, at_once)?;
        Ok(Self { pool, form: Form::Tensor(Box::new(solver)) })
    }

    /// Tables that a call should have at most: enough to keep the device or the threads busy, and a
    /// bound on the memory.
    pub fn tables_a_call(&self) -> usize {
        match &self.form {
            Form::Core(_) => TABLES_A_THREAD * self.pool.current_num_threads(),
            Form::Tensor(solver) => LOADS * solver.most_tables_at_once(),
        }
    }

    /// Solves all problems, the answers in their order.
    ///
    /// # Errors
    /// A problem with another number of variables; a device that gives up.
    pub fn solve(&self, problems: &[Problem]) -> Result<Vec<Solution>, TensorError> {
        match &self.form {
            Form::Core(solver) => {
                TensorError::refuse_other_variables(solver.variables(), problems)?;
                Ok(self.pool.install(|| solver.solve(problems)))
            }
            Form::Tensor(solver) => solver.solve(&self.pool, problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_same_answer() {
        let settings = Settings::default();
        let core = Extractor::new(3, settings, Device::CPU, 1).unwrap();
        let tensor = TensorSolver::new(3, settings, tch::Device::Cpu, 4).unwrap();
        let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let tensor = Extractor { pool, form: Form::Tensor(Box::new(tensor)) };
        assert_eq!((core.tables_a_call(), tensor.tables_a_call()), (64, 8));
        let problem = Problem::new(&[0.0, 1.0, 2.0, 3.5, 0.5, 1.0, 2.0, 7.0], 0.01).unwrap();
        let [a, b] = [core, tensor]
            .map(|extractor| extractor.solve(std::slice::from_ref(&problem)).unwrap().remove(0));
        assert_eq!(a.status, b.status);
        for (a, b) in [(a.effects.and, b.effects.and), (a.effects.or, b.effects.or)] {
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() < 1e-9, "{a} and {b}");
            }
        }
    }

    #[test]
    fn a_device_that_fails_is_an_error_and_no_panic() {
        // Beyond every device that a machine has.
        let device = Device(tch::Device::Cuda(99));
        let failed = Extractor::new(4, Settings::default(), device, 1);
        assert!(matches!(failed.err(), Some(TensorError::Torch(_))));
    }

    #[test]
    fn the_cpu_solves_and_refuses_what_does_not_fit() {
        let extractor = Extractor::new(2, Settings::default(), Device::CPU, 3).unwrap();
        assert_eq!(extractor.tables_a_call(), 3 * TABLES_A_THREAD);
        let fits = Problem::new(&[0.0, 1.0, 2.0, 3.0], 0.0).unwrap();
        let other = Problem::new(&[0.0; 8], 0.0).unwrap();
        let solutions = extractor.solve(std::slice::from_ref(&fits)).unwrap();
        assert!((solutions[0].effects.and[0b10] - 2.0).abs() < 1e-6);
        assert!(matches!(
            extractor.solve(&[fits, other]),
            Err(TensorError::Mixed { index: 1, .. })
        ));
    }
}
