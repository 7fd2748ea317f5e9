//! The solver on tensors: time a table against the number of tables at once.
//!
//! `cargo bench --bench tensor_solver -- [--device cpu|cuda|cuda:N] [--variables 8,10,12]
//! [--tables 1,4,16,64,256,1024] [--iterations 600] [--threads 1]`
//!
//! Without `--device` the CPU, and CUDA where it is there. Every table gets the same number of
//! iterations and one check. A line whose run takes longer than a minute ends its series. The first
//! line of each n is the solver of the core on as many threads.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use convergd::network::device::{cuda_devices, prepare};
use convergd::sparsify::{Problem, Settings, Solver};
use convergd::tensor_solver::TensorSolver;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_secs(60);
/// Tables that the solver of the core is timed on.
const TABLES_OF_CORE: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let value = |name: &str, default: &str| -> String {
        let place = arguments.iter().position(|argument| argument == name);
        place.map_or(default, |place| &arguments[place + 1]).to_owned()
    };
    let numbers = |name: &str, default: &str| -> Vec<usize> {
        value(name, default).split(',').map(|number| number.parse().unwrap()).collect()
    };
    let threads = numbers("--threads", "1")[0];
    prepare(threads);
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let iterations = numbers("--iterations", "600")[0];
    let settings = Settings { gap: 0.0, iterations, most_iterations: iterations, largest_basis: 0 };
    println!(
        "{:<12}{:>4}{:>8}{:>14}{:>24}",
        "on", "n", "tables", "ms a table", "µs an iteration, all"
    );
    for n in numbers("--variables", "8,10,12") {
        let core = Solver::new(n, settings);
        let problems = problems(n, TABLES_OF_CORE);
        line(
            "core",
            n,
            iterations,
            problems.len(),
            pool.install(|| timed(|| drop(core.solve(&problems)))),
        );
        for device in devices(&value("--device", "all")) {
            for tables in numbers("--tables", "1,4,16,64,256,1024") {
                if !tensors(device, &pool, n, settings, tables) {
                    break;
                }
            }
        }
    }
}

/// Measures one line; says whether it was fast enough for a longer one.
fn tensors(
    device: tch::Device,
    pool: &ThreadPool,
    n: usize,
    settings: Settings,
    tables: usize,
) -> bool {
    let solver = TensorSolver::new(n, settings, device, tables).unwrap();
    let problems = problems(n, tables);
    // Kernels are chosen, and memory is taken, in the first run.
    let brief = Settings { iterations: 5, most_iterations: 5, ..settings };
    drop(TensorSolver::new(n, brief, device, tables).unwrap().solve(pool, &problems).unwrap());
    let time = timed(|| drop(solver.solve(pool, &problems).unwrap()));
    line(&format!("{device:?}").to_lowercase(), n, settings.iterations, tables, time);
    time < LONGEST
}

fn devices(name: &str) -> Vec<tch::Device> {
    let cuda = cuda_devices();
    match (name, name.strip_prefix("cuda:")) {
        ("cpu", _) => vec![tch::Device::Cpu],
        ("cuda", _) => vec![tch::Device::Cuda(0)],
        (_, Some(index)) => vec![tch::Device::Cuda(index.parse().unwrap())],
        _ if cuda == 0 => vec![tch::Device::Cpu],
        _ => vec![tch::Device::Cpu, tch::Device::Cuda(0)],
    }
}

/// Tables of a random quadratic form under tanh.
fn problems(n: usize, count: usize) -> Vec<Problem> {
    let mut random = fastrand::Rng::with_seed(n as u64);
    let table = |_| {
        let weights: Vec<f64> = (0..n * n).map(|_| 2.0 * random.f64() - 1.0).collect();
        let active = |s: usize, i: usize| s >> i & 1 == 1;
        let value = |s: usize| -> f64 {
            let pairs = (0..n * n).filter(|ij| active(s, ij / n) && active(s, ij % n));
            pairs.map(|ij| weights[ij]).sum::<f64>().tanh()
        };
        let table: Vec<f64> = (0..1 << n).map(value).collect();
        Problem::new(&table, 0.01).unwrap()
    };
    (0..count).map(table).collect()
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn line(on: &str, n: usize, iterations: usize, tables: usize, time: Duration) {
    let seconds = time.as_secs_f64();
    let (table, iteration) = (1e3 * seconds / tables as f64, 1e6 * seconds / iterations as f64);
    println!("{on:<12}{n:>4}{tables:>8}{table:>14.3}{iteration:>24.1}");
}
