//! Tables at the edges of what a number can be.

use super::*;

/// Feasible by the naive definition, certified, and a number everywhere.
fn assert_sound(name: &str, table: &[f64], noise: f64, solution: &Solution) {
    let (problem, certificate) = (problem(table, noise), solution.certificate);
    let place = format!("{name}, n = {}, noise {noise}: {certificate:?}", problem.variables);
    let Solution { effects, dual, .. } = solution;
    let numbers = [certificate.objective, certificate.bound, certificate.violation];
    let numbers = all(effects).chain(dual.iter().copied()).chain(numbers);
    assert!(numbers.into_iter().all(f64::is_finite), "not a number: {place}");
    assert!(certificate.feasible && solution.status.is_certified(), "{place}");
    assert!(certificate.gap() <= Settings::default().gap, "{place}");
    let largest = naive::largest_noise(effects, table);
    assert!(largest <= problem.zeta + 2e-9 * problem.scale(), "noise {largest}: {place}");
}

fn assert_all_sound(name: &str, make: impl Fn(usize, &mut fastrand::Rng) -> Vec<f64>) {
    let mut random = fastrand::Rng::with_seed(8);
    for n in 2..=7 {
        for noise in [0.0, NOISE, 0.5] {
            let tables: Vec<_> = (0..3).map(|_| make(n, &mut random)).collect();
            for (table, solution) in
                tables.iter().zip(solve_all(&tables, noise, Settings::default()))
            {
                assert_sound(name, table, noise, &solution);
            }
        }
    }
}

#[test]
fn tables_without_any_difference_have_no_effects() {
    for n in 2..=7 {
        for constant in [0.0, -0.0, 7.5, 1e300, 5e-324] {
            for noise in [0.0, NOISE, 2.0] {
                let table = vec![constant; 1 << n];
                let solution = solve(&table, noise);
                assert_sound("constant", &table, noise, &solution);
                assert!(all(&solution.effects).all(|e| e == 0.0), "n = {n}, v = {constant}");
                assert_eq!(solution.certificate.gap(), 0.0);
            }
        }
    }
}

#[test]
fn one_huge_value() {
    assert_all_sound("huge", |n, random| {
        let mut table: Vec<f64> = (0..1 << n).map(|_| 2.0 * random.f64() - 1.0).collect();
        table[random.usize(0..1 << n)] = 1e12;
        table
    });
}

#[test]
fn one_value_that_hardly_differs() {
    assert_all_sound("tiny", |n, random| {
        let mut table = vec![1.0; 1 << n];
        table[random.usize(0..1 << n)] += 1e-12;
        table
    });
    assert_all_sound("tiny among others", |n, random| {
        let mut table = random_table(n, random);
        table[random.usize(0..1 << n)] = 1e-12;
        table
    });
}

#[test]
fn values_of_all_sizes() {
    assert_all_sound("sizes", |n, random| {
        let size = |random: &mut fastrand::Rng| f64::powi(10.0, random.i32(-12..=3));
        (0..1 << n).map(|_| size(random) * (2.0 * random.f64() - 1.0)).collect()
    });
}

#[test]
fn values_below_the_normal_numbers() {
    assert_all_sound("all 1e-310", |n, random| {
        (0..1 << n).map(|_| 1e-310 * (2.0 * random.f64() - 1.0)).collect()
    });
    assert_all_sound("one 1e-310", |n, random| {
        let mut table = vec![0.0; 1 << n];
        table[random.usize(1..1 << n)] = 1e-310;
        table
    });
}

#[test]
fn values_near_the_largest_number() {
    assert_all_sound("1e300", |n, random| {
        (0..1 << n).map(|_| 1e300 * (2.0 * random.f64() - 1.0)).collect()
    });
}

/// A noise share that explains everything: all |v(S) − v(∅)| ≤ ζ, so nothing is left to attribute.
#[test]
fn noise_that_explains_everything_leaves_no_effects() {
    let mut random = fastrand::Rng::with_seed(9);
    for n in 2..=7 {
        for noise in [0.5, 1.0, 2.0, 1e40] {
            let most = 0.9 * f64::min(noise, 2.0);
            let mut table: Vec<f64> = (0..1 << n).map(|_| most * random.f64()).collect();
            (table[0], table[(1 << n) - 1]) = (0.0, 1.0);
            let solution = solve(&table, noise);
            assert_sound("explained", &table, noise, &solution);
            if noise >= 1.0 {
                assert_eq!(solution.status, Status::Exact, "n = {n}, noise {noise}");
                assert!(all(&solution.effects).all(|e| e == 0.0), "n = {n}, noise {noise}");
                assert_eq!(
                    (solution.certificate.objective, solution.certificate.gap()),
                    (0.0, 0.0)
                );
            }
        }
    }
}

#[test]
fn every_exact_answer_proves_the_exact_gap() {
    let mut random = fastrand::Rng::with_seed(10);
    for n in 2..=7 {
        let tables: Vec<_> = (0..8).map(|_| random_table(n, &mut random)).collect();
        for (table, solution) in tables.iter().zip(solve_all(&tables, NOISE, Settings::default())) {
            assert_sound("random", table, NOISE, &solution);
            assert_eq!(solution.status, Status::Exact);
            assert!(solution.certificate.gap() <= EXACT_GAP);
        }
    }
}
