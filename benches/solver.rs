//! The solver on one thread: certification, cost against n, linearity and memory.
//!
//! `make bench-solver`, or
//! `cargo bench -p convergd-analysis --bench solver -- --tables DIR [--golden FILE]
//! [--only certification|cost|linear|memory|monitors]`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod common;

use common::{Arguments, header, heading, line, timed};
use convergd_analysis::convergence::{Monitor, NetworkProbe, Pair, compare};
use convergd_analysis::sparsify::{Problem, Settings, Solution, Solver};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const GAP: f64 = 1e-3;
/// The product's default noise share, and those of the certification.
const NOISE: f64 = 0.01;
const NOISES: [f64; 3] = [0.0, NOISE, 0.04];
/// The tables of the linearity and memory sections: one full batch, repeated.
const BATCH: usize = 8;
const SALIENCE: f64 = 0.02;
/// Rounds of the linearity section; the best of them counts.
const ROUNDS: usize = 3;

/// Counts the bytes that are allocated and keeps their peak.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs once and gives the most bytes that were held beyond those held before.
fn peak_bytes<R>(run: impl FnOnce() -> R) -> (usize, R) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = run();
    (PEAK.load(Relaxed) - before, result)
}

/// One call of the solver.
struct Run {
    seconds: f64,
    solutions: Vec<Solution>,
}

impl Run {
    fn of(solver: &Solver, problems: &[Problem]) -> Self {
        let (seconds, solutions) = timed(|| solver.solve(problems));
        Self { seconds, solutions }
    }

    fn certified(&self) -> usize {
        self.solutions.iter().filter(|solution| solution.certificate.gap() <= GAP).count()
    }

    fn worst_gap(&self) -> f64 {
        self.solutions.iter().map(|solution| solution.certificate.gap()).fold(0.0, f64::max)
    }

    /// Median and largest number of iterations.
    fn iterations(&self) -> (usize, usize) {
        let mut all: Vec<_> = self.solutions.iter().map(|solution| solution.iterations).collect();
        all.sort_unstable();
        (all[all.len() / 2], all[all.len() - 1])
    }

    fn milliseconds_a_table(&self) -> f64 {
        self.seconds * 1e3 / self.solutions.len() as f64
    }
}

fn solver(n: usize) -> Solver {
    Solver::new(n, Settings { gap: GAP, ..Settings::default() })
}

fn problems(tables: &[Vec<f64>], noise: f64) -> Vec<Problem> {
    tables.iter().map(|table| Problem::new(table, noise).unwrap()).collect()
}

/// One full batch of fresh tables, `copies` times.
fn batches(arguments: &Arguments, n: usize, copies: usize) -> Vec<Problem> {
    vec![problems(&arguments.fresh(n)[..BATCH], NOISE); copies].concat()
}

fn certification(arguments: &Arguments) {
    heading("Certification: golden and fresh tables; certified = proven gap of at most 1e-3");
    let widths = [3, 6, 7, 12, 10, 8, 8, 10, 16];
    let names = "n|noise|tables|certified|worst gap|median|most|ms/table|optimum between";
    header(names, widths);
    for n in [6, 7, 8, 9, 10, 12] {
        let solver = solver(n);
        for noise in NOISES {
            let golden = arguments.golden(n, noise);
            let mut tables: Vec<_> = golden.iter().map(|(table, _)| table.clone()).collect();
            tables.extend(arguments.fresh(n));
            let run = Run::of(&solver, &problems(&tables, noise));
            let (median, most) = run.iterations();
            let share = 100.0 * run.certified() as f64 / tables.len() as f64;
            line(
                [
                    &n.to_string(),
                    &noise.to_string(),
                    &tables.len().to_string(),
                    &format!("{} {share:.1} %", run.certified()),
                    &format!("{:.2e}", run.worst_gap()),
                    &median.to_string(),
                    &most.to_string(),
                    &format!("{:.3}", run.milliseconds_a_table()),
                    &optima_between(&golden, &run.solutions),
                ],
                widths,
            );
        }
    }
    println!(
        "\nmedian, most: iterations; optimum between: golden optima within [bound, objective]"
    );
}

/// How many known optima lie between the proven bound and the objective found.
fn optima_between(golden: &[(Vec<f64>, f64)], solutions: &[Solution]) -> String {
    let inside = golden.iter().zip(solutions).filter(|((_, optimum), solution)| {
        let slack = 1e-6 * optimum;
        let certificate = solution.certificate;
        certificate.bound <= optimum + slack && certificate.objective >= optimum - slack
    });
    if golden.is_empty() {
        "-".to_owned()
    } else {
        format!("{} of {}", inside.count(), golden.len())
    }
}

fn cost(arguments: &Arguments) {
    heading("Cost against n: fresh tables, noise 0.01");
    let widths = [3, 7, 10, 10, 8, 9, 10, 8, 18];
    let names = "n|tables|certified|worst gap|median|ms/table|to n - 1|prepare|µs/iteration·table";
    header(names, widths);
    let mut last = None;
    for n in 4..=14 {
        let (prepare, solver) = timed(|| solver(n));
        let tables = arguments.fresh(n);
        let tables = &tables[..tables.len().min(3 * BATCH)];
        let run = Run::of(&solver, &problems(tables, NOISE));
        let milliseconds = run.milliseconds_a_table();
        let iterations: usize = run.solutions.iter().map(|solution| solution.iterations).sum();
        line(
            [
                &n.to_string(),
                &tables.len().to_string(),
                &run.certified().to_string(),
                &format!("{:.2e}", run.worst_gap()),
                &run.iterations().0.to_string(),
                &format!("{milliseconds:.3}"),
                &last.map_or("-".to_owned(), |last| format!("× {:.2}", milliseconds / last)),
                &format!("{:.1} ms", prepare * 1e3),
                &format!("{:.3}", run.seconds * 1e6 / iterations as f64),
            ],
            widths,
        );
        last = Some(milliseconds);
    }
}

fn linear(arguments: &Arguments) {
    heading("Time against the number of tables: eight fresh tables, repeated; noise 0.01");
    let widths = [3, 7, 10, 10, 16];
    header("n|tables|ms|ms/table|to eight tables", widths);
    for n in [8, 10] {
        let solver = solver(n);
        let all = [1, 2, 4, 8, 16, 32].map(|copies| batches(arguments, n, copies));
        let mut best = all.each_ref().map(|_| f64::INFINITY);
        // Round by round, so that a busy moment does not fall on one number of tables alone.
        for _ in 0..ROUNDS {
            for (problems, best) in all.iter().zip(&mut best) {
                *best = best.min(Run::of(&solver, problems).milliseconds_a_table());
            }
        }
        for (problems, each) in all.iter().zip(best) {
            line(
                [
                    &n.to_string(),
                    &problems.len().to_string(),
                    &format!("{:.1}", each * problems.len() as f64),
                    &format!("{each:.3}"),
                    &format!("× {:.3}", each / best[0]),
                ],
                widths,
            );
        }
    }
}

fn memory(arguments: &Arguments) {
    heading("Memory of a call, one thread, by a counting allocator; a table is 8·2^n bytes");
    let widths = [3, 14, 14, 14, 19, 16];
    header("n|8 tables|64 tables|stated batch|answer in tables|prepared", widths);
    for n in [6, 8, 10, 12] {
        let (prepared, solver) = peak_bytes(|| solver(n));
        let peak = |copies: usize| {
            let problems = batches(arguments, n, copies);
            peak_bytes(|| solver.solve(&problems)).0
        };
        // What the matrix library keeps for its thread is there from the first call on.
        peak(1);
        let (one, many) = (peak(1), peak(8));
        let table = (8usize << n) as f64;
        let answer = (many as f64 - one as f64) / (7 * BATCH) as f64;
        line(
            [
                &n.to_string(),
                &one.to_string(),
                &many.to_string(),
                &solver.batch_bytes().to_string(),
                &format!("{:.2}", answer / table),
                &prepared.to_string(),
            ],
            widths,
        );
    }
    println!(
        "\n8, 64 tables: peak bytes of a call, the answers included; stated: `Solver::batch_bytes`; \
         answer: growth\nof the peak by each further table; prepared: peak bytes of preparing for n, once"
    );
}

/// Interactions of a recorded pair, solved in three ways, and what that does to the monitor.
fn monitors(arguments: &Arguments) {
    heading(
        "Monitors: `convergent_ratio` of a recorded run, n = 10, noise 0.01; a difference is to exact",
    );
    let widths = [5, 8, 10, 8, 12, 10, 14, 10];
    let names = "step|exact|ms/table|default|difference|ms/table|near-optimal|difference";
    header(names, widths);
    let mut worst = [0.0f64; 2];
    for (step, pair) in arguments.pairs(10).iter().enumerate() {
        let [exact, default, near] = [1023, Settings::default().largest_basis, 0].map(|largest| {
            let settings = Settings { gap: GAP, largest_basis: largest, ..Settings::default() };
            let solver = Solver::new(10, settings);
            let (seconds, ratio) = timed(|| convergent_ratio(&solver, pair));
            (ratio, seconds * 1e3 / (2 * pair[0].len()) as f64)
        });
        let differences = [default.0 - exact.0, near.0 - exact.0];
        for (worst, difference) in worst.iter_mut().zip(differences) {
            *worst = worst.max(difference.abs());
        }
        line(
            [
                &step.to_string(),
                &format!("{:.4}", exact.0),
                &format!("{:.2}", exact.1),
                &format!("{:.4}", default.0),
                &format!("{:+.4}", differences[0]),
                &format!("{:.2}", default.1),
                &format!("{:.4}", near.0),
                &format!("{:+.4}", differences[1]),
            ],
            widths,
        );
    }
    println!("\nlargest difference: default {:.4}, near-optimal {:.4}", worst[0], worst[1]);
}

fn odds(log_odds: f64) -> Vec<f64> {
    let probability = 1.0 / (1.0 + (-log_odds).exp());
    vec![probability, 1.0 - probability]
}

fn convergent_ratio(solver: &Solver, pair: &[Vec<Vec<f64>>; 2]) -> f64 {
    let [target, baseline] = pair.each_ref().map(|tables| {
        let problems = problems(tables, NOISE);
        let output = |problem: &Problem| problem.values.last().copied().unwrap();
        NetworkProbe {
            interactions: solver.solve(&problems).into_iter().map(|s| s.effects).collect(),
            outputs: problems.iter().map(output).collect(),
            // p(y*) from v(N), its log-odds; the ratio does not need it.
            probabilities: tables.iter().map(|table| odds(table[table.len() - 1])).collect(),
            ..NetworkProbe::default()
        }
    });
    let pair = Pair { target: &target, baseline: &baseline, salience: SALIENCE };
    compare(&pair).monitors[&Monitor::ConvergentRatio].value
}

type Section = fn(&Arguments);

fn main() {
    let arguments = Arguments::read();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        let sections: [(&str, Section); 5] = [
            ("certification", certification),
            ("cost", cost),
            ("linear", linear),
            ("memory", memory),
            ("monitors", monitors),
        ];
        for (name, section) in sections {
            if arguments.wants(name) {
                section(&arguments);
            }
        }
    });
}
