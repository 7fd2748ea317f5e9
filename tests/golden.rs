//! Known answers: value tables with optima found by an interior-point method with crossover.
//!
//! The tables lie beside the project and are no part of it; without them the test says so and ends.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs)]

use convergd::sparsify::{Problem, Settings, Solution, Solver, Status};
use safetensors::SafeTensors;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/golden/values.safetensors");
const VARIABLES: [usize; 3] = [6, 8, 10];

fn golden() -> Option<Vec<u8>> {
    let file = std::fs::read(GOLDEN).ok();
    if file.is_none() {
        eprintln!("skipped: the golden value tables are not here ({GOLDEN})");
    }
    file
}

fn read(file: &[u8], name: &str) -> Vec<f64> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let bytes = tensors.tensor(name).unwrap().data().to_vec();
    bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
}

fn solve(tables: &[f64], n: usize, noise: f64, settings: Settings) -> Vec<Solution> {
    let problems: Vec<_> =
        tables.chunks_exact(1 << n).map(|table| Problem::new(table, noise).unwrap()).collect();
    Solver::new(n, settings).solve(&problems)
}

#[test]
fn golden_optima_are_met_within_the_certified_gap() {
    let Some(file) = golden() else { return };
    for n in VARIABLES {
        for noise in ["0", "0.01", "0.04"] {
            let optima = read(&file, &format!("objective_n{n}_r{noise}"));
            let tables = read(&file, &format!("values_n{n}"));
            let solutions = solve(&tables, n, noise.parse().unwrap(), Settings::default());
            for (table, (solution, optimum)) in solutions.iter().zip(&optima).enumerate() {
                let (certificate, slack) = (solution.certificate, 1e-6 * optimum);
                let place = format!("n = {n}, noise {noise}, table {table}: {certificate:?}");
                assert_eq!(solution.status, Status::Certified, "{place}");
                assert!(certificate.gap() <= 1e-3, "{place}");
                assert!(certificate.bound <= optimum + slack, "bound above {optimum}: {place}");
                assert!(certificate.objective >= optimum - slack, "below {optimum}: {place}");
            }
            let worst = solutions.iter().map(|s| s.iterations).max().unwrap();
            eprintln!("n = {n}, noise {noise}: at most {worst} iterations");
        }
    }
}

#[test]
fn planted_games_without_noise_are_recovered_exactly() {
    let Some(file) = golden() else { return };
    // The planted effects are the unique optimum, so a small gap pins every effect.
    let settings = Settings { gap: 1e-9, most_iterations: 200_000, ..Settings::default() };
    let mut games = 0;
    for n in VARIABLES {
        let size = 1 << n;
        let tables = read(&file, &format!("values_n{n}"));
        let planted = read(&file, &format!("planted_n{n}"));
        let kinds = read_kinds(&file, &format!("kind_n{n}"));
        let optima = read(&file, &format!("objective_n{n}_r0"));
        for table in (0..kinds.len()).filter(|&table| kinds[table] == 2) {
            let values = &tables[table * size..][..size];
            let planted = &planted[2 * table * size..][..2 * size];
            let total: f64 = planted.iter().map(|e| e.abs()).sum();
            // Tables of planted games with noise added are not the planted effects any more.
            if (total - optima[table]).abs() > 0.02 * total {
                continue;
            }
            let effects = convergd::interaction::Interactions {
                and: planted[..size].to_vec(),
                or: planted[size..].to_vec(),
            };
            if effects.noise(values).iter().any(|d| d.abs() > 1e-9) {
                continue;
            }
            games += 1;
            let solution = &solve(values, n, 0.0, settings)[0];
            for (kind, found, wanted) in [
                ("AND", &solution.effects.and, &effects.and),
                ("OR", &solution.effects.or, &effects.or),
            ] {
                for t in 1..size {
                    let error = (found[t] - wanted[t]).abs();
                    assert!(
                        error < 1e-5 * total,
                        "n = {n}, table {table}: {kind} of {t:b} is {}, planted {}",
                        found[t],
                        wanted[t]
                    );
                }
            }
        }
    }
    assert!(games >= VARIABLES.len(), "the golden file holds {games} games without noise");
}

fn read_kinds(file: &[u8], name: &str) -> Vec<i64> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let view = tensors.tensor(name).unwrap();
    let width = view.data().len() / view.shape().iter().product::<usize>();
    let number = |b: &[u8]| match (view.dtype(), width) {
        (safetensors::Dtype::F64, _) => f64::from_le_bytes(b.try_into().unwrap()) as i64,
        (_, 8) => i64::from_le_bytes(b.try_into().unwrap()),
        (_, 4) => i64::from(i32::from_le_bytes(b.try_into().unwrap())),
        _ => i64::from(b[0]),
    };
    view.data().chunks_exact(width).map(number).collect()
}
