//! The tensor solver against definitions, known optima and the solver on the CPU.
#![allow(clippy::print_stderr)]

use super::plan::Plan;
use super::{TensorError, TensorSolver};
use crate::extractor::ExtractError;
use crate::interaction::subset::order;
use crate::interaction::{Interactions, naive};
use crate::network::device::{cuda_devices, prepare};
use crate::sparsify::problem::Costs;
use crate::sparsify::{Problem, Settings, Solution, Solver, Status};
use rayon::{ThreadPool, ThreadPoolBuilder};
use safetensors::SafeTensors;
use tch::{Device, Tensor};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/golden/values.safetensors");

/// Tables that a small network could have: smooth in S, with some noise.
fn tables(n: usize, count: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let table = |_| {
        let weights: Vec<f64> = (0..n * n).map(|_| 2.0 * random.f64() - 1.0).collect();
        let value = |s: usize| {
            let active = |i: usize| s >> i & 1 == 1;
            let pairs = (0..n * n).filter(|ij| active(ij / n) && active(ij % n));
            pairs.map(|ij| weights[ij]).sum::<f64>().tanh() + 0.01 * random.f64()
        };
        (0..1 << n).map(value).collect()
    };
    (0..count).map(table).collect()
}

/// Tables that a few effects of one size explain.
fn planted(n: usize, count: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let table = |_| {
        let length = 1 << n;
        let mut effects = Interactions { and: vec![0.0; length], or: vec![0.0; length] };
        for _ in 0..n {
            let sign = if random.bool() { 1.0 } else { -1.0 };
            effects.and[random.usize(1..length)] = sign;
            let subset = random.usize(1..length);
            effects.or[subset] = if order(subset) > 1 { sign } else { 0.0 };
        }
        effects.predict()
    };
    (0..count).map(table).collect()
}

fn problems(tables: &[Vec<f64>], noise: f64) -> Vec<Problem> {
    tables.iter().map(|table| Problem::new(table, noise).unwrap()).collect()
}

fn pool() -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(2).build().unwrap()
}

fn solve(n: usize, settings: Settings, at_once: usize, problems: &[Problem]) -> Vec<Solution> {
    prepare(1);
    let solver = TensorSolver::new(n, settings, Device::Cpu, at_once).unwrap();
    solver.solve(&pool(), problems).unwrap()
}

/// Largest difference of two answers relative to their cost.
fn difference(a: &Solution, b: &Solution) -> f64 {
    let pairs = a.effects.and.iter().zip(&b.effects.and);
    let pairs = pairs.chain(a.effects.or.iter().zip(&b.effects.or));
    let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    largest / a.certificate.objective.max(f64::MIN_POSITIVE)
}

#[test]
fn the_projection_undoes_h_by_its_definition() {
    let mut random = fastrand::Rng::with_seed(2);
    for n in (2..=9).chain([12]) {
        let (length, lanes) = (1usize << n, 2);
        let plan = Plan::new(&Costs::canonical(n), Device::Cpu).unwrap();
        let (d_and, d_or, d_noise) = (
            |k: usize, lane: usize| if k < 1 { 0.0 } else { 0.03 / (1 + k + lane) as f64 },
            |k: usize, lane: usize| if k < 2 { 0.0 } else { 0.02 + 0.002 * (k * lane) as f64 },
            |k: usize, lane: usize| if k < 1 { 1.0 } else { 0.001 * (1 + k + 3 * lane) as f64 },
        );
        let by_order = |d: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            (0..=n)
                .flat_map(|k| (0..lanes).map(move |lane| (k, lane)))
                .map(|(k, l)| d(k, l))
                .collect()
        };
        let metric = [by_order(&d_and), by_order(&d_or), by_order(&d_noise)].concat();
        let metric = Tensor::from_slice(&metric).view([3, n as i64 + 1, lanes as i64]);
        let (mut values, mut points, mut duals) = (Vec::new(), Vec::new(), Vec::new());
        for lane in 0..lanes {
            let mut row = |first: usize| -> Vec<f64> {
                let entry = |s| if order(s) < first { 0.0 } else { random.f64() - 0.5 };
                (0..length).map(entry).collect()
            };
            let (p, x, y, delta) = (row(1), row(1), row(2), row(1));
            let weigh = |table: Vec<f64>, d: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
                table.iter().enumerate().map(|(s, a)| a * d(order(s), lane)).collect()
            };
            // v = H p + K (x, y, δ)
            let in_and = naive::zeta(&weigh(naive::zeta_adjoint(&p), &d_and));
            let in_or = naive::or(&weigh(naive::or(&p), &d_or));
            let in_noise = weigh(p.clone(), &d_noise);
            let (zx, oy) = (naive::zeta(&x), naive::or(&y));
            let value = |s: usize| in_and[s] + in_or[s] + in_noise[s] + zx[s] + oy[s] + delta[s];
            values.push((0..length).map(value).collect::<Vec<f64>>());
            points.push([x, y, delta].concat());
            duals.push(p);
        }
        let stack = |rows: &[Vec<f64>]| {
            let rows: Vec<Tensor> = rows.iter().map(|row| Tensor::from_slice(row)).collect();
            Tensor::stack(&rows, 1)
        };
        let projection = &plan.projection;
        let work = projection.work(lanes as i64, Device::Cpu).unwrap();
        let spin_values = projection.values(&stack(&values), &work).unwrap();
        let blocks = projection.factor(&metric).unwrap();
        let point = stack(&points).view([3, length as i64, lanes as i64]);
        projection.adjoint_of_solved(&point, &spin_values, &blocks, &work).unwrap();
        let found = plan.download(&work.adjoint).unwrap();
        for (lane, p) in duals.iter().enumerate() {
            let wanted = [naive::zeta_adjoint(p), naive::or(p), p.clone()];
            for (part, wanted) in wanted.iter().enumerate() {
                for s in 1..length {
                    let found = found[(part * length + s) * lanes + lane];
                    let error = (found - wanted[s]).abs();
                    // A part adds up to 2^n entries of p.
                    let allowed = if n < 10 { 1e-9 } else { 1e-7 };
                    assert!(error < allowed, "n = {n}, part {part}, S = {s:b}: off by {error}");
                }
            }
        }
    }
}

#[test]
fn after_the_same_iterations_stands_the_answer_of_the_cpu() {
    for (n, iterations) in [(2, 100), (3, 100), (5, 130), (6, 130), (7, 130), (8, 130)] {
        for noise in [0.0, 0.02] {
            let problems = problems(&tables(n, 5, n as u64), noise);
            let settings =
                Settings { gap: 0.0, iterations, most_iterations: iterations, largest_basis: 0 };
            let found = solve(n, settings, 3, &problems);
            let wanted = Solver::new(n, settings).solve_in_double(&problems);
            for (table, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let difference = difference(found, wanted);
                let place = format!("n = {n}, noise {noise}, table {table}");
                assert!(difference < 1e-9, "{place}: effects differ by {difference:e}");
                let (a, b) = (found.certificate, wanted.certificate);
                let bounds = (a.bound - b.bound).abs();
                assert!(bounds < 1e-9 * a.objective, "{place}: bounds differ by {bounds:e}");
                assert_eq!(found.iterations, wanted.iterations, "{place}");
            }
        }
    }
}

/// The same tables on a device and on the CPU: what becomes exact is the same, and equal to 1e-9.
/// Gives the number of exact answers.
fn compare(
    n: usize,
    settings: Settings,
    device: Device,
    problems: &[Problem],
    what: &str,
) -> usize {
    prepare(1);
    let found = TensorSolver::new(n, settings, device, 256).unwrap().solve(&pool(), problems);
    let found = found.unwrap();
    let wanted = Solver::new(n, settings).solve(problems);
    let (mut of_exact, mut of_certified, mut exact) = (0.0f64, 0.0f64, 0);
    for (table, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        let place = format!("n = {n}, {what}, table {table}: {:?}", found.certificate);
        assert_eq!(found.status, wanted.status, "{place}");
        assert!(found.status.is_certified(), "{place}");
        let apart = difference(found, wanted);
        if found.status == Status::Exact {
            (exact, of_exact) = (exact + 1, of_exact.max(apart));
            assert!(found.certificate.gap() <= 1e-9, "{place}");
            assert!(apart < 1e-9, "{apart:e} from the answer of the CPU: {place}");
            assert_eq!(found.iterations, wanted.iterations, "{place}");
        } else {
            of_certified = of_certified.max(apart);
            let (a, b) = (found.certificate, wanted.certificate);
            let objectives = (a.objective - b.objective).abs();
            let allowed = (a.gap() * a.objective).max(b.gap() * b.objective) + 1e-9 * a.objective;
            assert!(objectives <= allowed, "{objectives} from the cost on the CPU: {place}");
        }
    }
    let same = found.iter().zip(&wanted).filter(|(a, b)| a.iterations == b.iterations).count();
    let worst = found.iter().map(|solution| solution.iterations).max().unwrap_or(0);
    eprintln!(
        "n = {n}, {what}: {exact} of {} exact, which differ by at most {of_exact:.1e}, the others by \
         {of_certified:.1e}; at most {worst} iterations, as many as on the CPU in {same}",
        found.len()
    );
    exact
}

#[test]
fn exact_answers_are_those_of_the_cpu() {
    for n in 4..=8 {
        for noise in [0.01, 0.04] {
            let smooth = tables(n, 6, 40 + n as u64);
            // Effects of one size make ties, on which a crossover could walk in circles.
            let planted = planted(n, 12, 50 + n as u64);
            for (tables, what) in [(smooth, "smooth"), (planted, "planted")] {
                let problems = problems(&tables, noise);
                let exact = compare(n, Settings::default(), Device::Cpu, &problems, what);
                // Without room for noise there is no vertex to look for.
                let wanted = problems.iter().filter(|problem| problem.zeta > 0.0).count();
                assert_eq!(exact, wanted, "n = {n}, noise {noise}, {what}");
            }
        }
    }
}

/// Without noise there is no vertex, but the same fit on the support.
#[test]
fn sparse_games_without_noise_are_fitted_as_on_the_cpu() {
    let mut fitted = 0;
    for n in [4, 6, 8] {
        let problems = problems(&planted(n, 12, 60 + n as u64), 0.0);
        let found = solve(n, Settings::default(), 5, &problems);
        let wanted = Solver::new(n, Settings::default()).solve(&problems);
        for (table, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            assert!(found.status.is_certified() && wanted.status.is_certified());
            // A repaired answer has small effects all over; a fitted one those of its support.
            let effects = wanted.effects.and.iter().chain(&wanted.effects.or);
            if effects.filter(|effect| **effect != 0.0).count() <= 3 * n {
                let apart = difference(found, wanted);
                assert!(apart <= 1e-12, "n = {n}, table {table}: {apart:e} from the CPU's");
                fitted += 1;
            }
        }
    }
    assert!(fitted >= 15, "only {fitted} of 36 were fitted");
}

#[test]
fn tables_with_large_bases_end_as_on_the_cpu() {
    for n in [5, 6] {
        // Small enough for some tables to be taken to a vertex and others not.
        let settings = Settings { largest_basis: 5 * n, gap: 2e-4, ..Settings::default() };
        let tables = [tables(n, 8, 5), planted(n, 8, 5)].concat();
        let problems = problems(&tables, 0.02);
        let exact = compare(n, settings, Device::Cpu, &problems, "small bases");
        assert!(0 < exact && exact < problems.len(), "n = {n}: {exact} exact");
    }
}

#[test]
fn golden_optima_are_met_as_on_the_cpu() {
    golden_on(Device::Cpu, &[6, 8, 10]);
}

#[test]
fn golden_optima_are_met_on_a_cuda_device() {
    if cuda_devices() == 0 {
        eprintln!("skipped: libtorch sees no CUDA device");
        return;
    }
    golden_on(Device::Cuda(0), &[6, 8, 10]);
}

fn golden_on(device: Device, variables: &[usize]) {
    let Ok(file) = std::fs::read(GOLDEN) else {
        eprintln!("skipped: the golden value tables are not here ({GOLDEN})");
        return;
    };
    let tensors = SafeTensors::deserialize(&file).unwrap();
    for &n in variables {
        let bytes = tensors.tensor(&format!("values_n{n}")).unwrap().data();
        let values: Vec<f64> =
            bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        let tables: Vec<Vec<f64>> = values.chunks_exact(1 << n).map(<[f64]>::to_vec).collect();
        for noise in [0.0, 0.01, 0.04] {
            let what = format!("golden, noise {noise}");
            compare(n, Settings::default(), device, &problems(&tables, noise), &what);
        }
    }
}

#[test]
fn an_answer_does_not_depend_on_its_neighbours() {
    for n in [6, 9] {
        let problems = problems(&tables(n, 13, 7), 0.01);
        // Narrow enough for stubborn tables, which go on in other company.
        let settings = Settings { gap: 2e-4, largest_basis: 0, ..Settings::default() };
        let together = solve(n, settings, 64, &problems);
        let alone = solve(n, settings, 1, &problems);
        let in_groups = solve(n, settings, 4, &problems);
        let long: Vec<bool> = together.iter().map(|s| s.iterations > settings.iterations).collect();
        assert!(long.chunks(4).filter(|group| group.contains(&true)).count() > 1, "{long:?}");
        let mut equal = 0;
        for other in [&alone, &in_groups] {
            for (table, (a, b)) in together.iter().zip(other).enumerate() {
                let difference = difference(a, b);
                assert!(difference < 1e-9, "n = {n}, table {table}: {difference:e}");
                assert_eq!(a.iterations, b.iterations);
                equal += usize::from(a.effects.and == b.effects.and && a.dual == b.dual);
            }
        }
        eprintln!("n = {n}: {equal} of {} answers are equal to the last bit", 2 * problems.len());
    }
}

#[test]
fn zero_and_constant_tables_have_no_effects() {
    for n in [2, 5, 8] {
        for noise in [0.0, 0.01] {
            let constant = [vec![0.0; 1 << n], vec![-3.5; 1 << n]];
            let other = tables(n, 1, 3);
            let problems = problems(&[&constant[..], &other].concat(), noise);
            let solutions = solve(n, Settings::default(), 8, &problems);
            for solution in &solutions[..2] {
                assert_eq!(solution.status, Status::Certified);
                assert_eq!(solution.certificate.objective, 0.0);
                assert!(solution.effects.and.iter().chain(&solution.effects.or).all(|e| *e == 0.0));
            }
            assert!(solutions[2].certificate.objective > 0.0);
        }
    }
}

#[test]
fn iterations_that_run_out_give_a_feasible_answer_with_its_true_gap() {
    let problems = problems(&tables(6, 3, 11), 0.01);
    let settings = Settings { gap: 1e-12, iterations: 20, most_iterations: 30, largest_basis: 0 };
    for solution in solve(6, settings, 2, &problems) {
        assert_eq!(solution.status, Status::GapNotReached);
        assert_eq!(solution.iterations, 30);
        assert!(solution.certificate.feasible);
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let wrong = TensorSolver::new(17, Settings::default(), Device::Cpu, 8);
    assert!(matches!(wrong, Err(TensorError::Variables(17))));
    let problems = [problems(&tables(3, 1, 1), 0.0), problems(&tables(4, 1, 1), 0.0)].concat();
    let solver = TensorSolver::new(3, Settings::default(), Device::Cpu, 8).unwrap();
    let mixed = solver.solve(&pool(), &problems);
    let Err(TensorError::Refused(ExtractError::Mixed { index: 1, variables: 4, wanted: 3 })) =
        mixed
    else {
        panic!("a table of 4 variables was accepted")
    };
    assert!(solver.solve(&pool(), &[]).unwrap().is_empty());
}
