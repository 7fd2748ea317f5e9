//! The tensor solver as an extractor, and the choice between it and the one of the CPU.

use super::{TensorError, TensorSolver};
use crate::extractor::{CpuExtractor, Extract, ExtractError, Extractor};
use crate::network::device::prepare;
use crate::network::{Device, memory};
use crate::sparsify::{Problem, Settings, Solution};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Memory of a device that a solver may take, where it has that: some 1,200 tables at once at n = 10, with which a kernel
/// takes longer than its launch.
const DEVICE_BYTES: usize = 1 << 30;
/// Tables at once on a device, however small they are: each has its own small blocks there and its own
/// answer here.
const MOST_AT_ONCE: usize = 1 << 14;
/// Device loads in a call: the stubborn tables of the first go on together with those of the second.
const LOADS: usize = 2;

/// Prepares for tables of n variables on the device, of whose free memory they take at most a share. What is done on
/// the CPU is done by so many threads.
///
/// # Errors
/// Threads that cannot be started; whatever libtorch refuses on a device other than the CPU.
pub fn extractor(
    variables: usize,
    settings: Settings,
    device: Device,
    threads: usize,
    share: f64,
) -> Result<Extractor, ExtractError> {
    if device.is_cpu() {
        return Ok(Box::new(CpuExtractor::new(variables, settings, threads)?));
    }
    prepare(threads);
    let free = memory::free(device).map_or(f64::INFINITY, |free| share * free as f64);
    let bytes = DEVICE_BYTES.min(free as usize);
    let at_once = TensorSolver::tables_within(variables, bytes).clamp(1, MOST_AT_ONCE);
    let solver = TensorSolver::new(variables, settings, device.0, at_once)?;
    Ok(Box::new(TensorExtractor::new(solver, threads)?))
}

struct TensorExtractor {
    pool: ThreadPool,
    solver: TensorSolver,
}

impl TensorExtractor {
    fn new(solver: TensorSolver, threads: usize) -> Result<Self, ExtractError> {
        Ok(Self { pool: ThreadPoolBuilder::new().num_threads(threads).build()?, solver })
    }
}

impl Extract for TensorExtractor {
    fn tables_a_call(&self) -> usize {
        LOADS * self.solver.most_tables_at_once()
    }

    fn solve(&self, problems: &[Problem]) -> Result<Vec<Solution>, ExtractError> {
        Ok(self.solver.solve(&self.pool, problems)?)
    }
}

impl From<TensorError> for ExtractError {
    fn from(error: TensorError) -> Self {
        match error {
            TensorError::Refused(error) => error,
            other => Self::Device(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_same_answer() {
        let settings = Settings::default();
        let core = extractor(3, settings, Device::CPU, 1, 0.5).unwrap();
        let tensor = TensorSolver::new(3, settings, tch::Device::Cpu, 4).unwrap();
        let tensor: Extractor = Box::new(TensorExtractor::new(tensor, 1).unwrap());
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
        let failed = extractor(4, Settings::default(), device, 1, 0.5);
        assert!(matches!(failed.err(), Some(ExtractError::Device(_))));
    }
}
