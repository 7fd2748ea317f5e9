//! Answers against an independent optimum, and what they claim of themselves.

use super::*;
use crate::interaction::subset::order;
use crate::sparsify::Certificate;
use crate::sparsify::crossover::Crossover;
use crate::sparsify::crossover::Limits;

/// Tables with all that the small sizes can have: smooth values, ties by whole numbers, zeros.
fn small_tables(variables: usize, random: &mut fastrand::Rng, count: usize) -> Vec<Vec<f64>> {
    let value = |kind: usize, random: &mut fastrand::Rng| match kind {
        0 => 10.0 * random.f64() - 5.0,
        1 => f64::from(random.i8(-2..=2)),
        _ => f64::from(random.i8(-1..=1)) * random.f64(),
    };
    let table = |index: usize| (0..1 << variables).map(|_| value(index % 3, random)).collect();
    (0..count).map(table).collect()
}

#[test]
fn exact_answers_are_the_canonical_optimum_of_a_naive_simplex() {
    let mut random = fastrand::Rng::with_seed(1);
    for (n, count) in [(2, 60), (3, 60), (4, 24)] {
        let costs = Costs::canonical(n);
        for noise in [NOISE, 0.2] {
            let tables = small_tables(n, &mut random, count);
            for (table, solution) in
                tables.iter().zip(solve_all(&tables, noise, Settings::default()))
            {
                let problem = problem(table, noise);
                let (optimum, scale) = (naive::solve(&problem, &costs), problem.scale());
                let certificate = solution.certificate;
                let place = format!("{table:?}, noise {noise}: {certificate:?}");
                let slack = 1e-9 * scale;
                assert!(certificate.bound <= optimum.objective + slack, "{place}");
                assert!(certificate.objective >= optimum.objective - slack, "{place}");
                // Without room for noise there is no vertex.
                assert!(solution.status == Status::Exact || problem.zeta == 0.0, "{place}");
                if solution.status == Status::Exact {
                    let apart = distance(&solution.effects, &optimum.effects);
                    assert!(apart <= 1e-8 * scale, "off by {apart}: {place}");
                }
            }
        }
    }
}

#[test]
fn sparse_games_without_noise_are_recovered_to_the_last_digits() {
    let mut random = fastrand::Rng::with_seed(12);
    let mut recovered = 0;
    for n in 4..=10 {
        for game in 0..4 {
            let mut planted = Interactions { and: vec![0.0; 1 << n], or: vec![0.0; 1 << n] };
            for term in 0..4 {
                let subset = loop {
                    let subset = random.usize(1..1 << n);
                    if order(subset) <= 3 && (term % 2 == 0 || order(subset) >= 2) {
                        break subset;
                    }
                };
                let effects = if term % 2 == 0 { &mut planted.and } else { &mut planted.or };
                effects[subset] = if random.bool() { 1.0 } else { -1.0 } * (0.5 + random.f64());
            }
            let solution = solve(&planted.predict(), 0.0);
            let costs = Costs::canonical(n);
            let (found, wanted) =
                (solution.certificate, costs.objective(&planted.and, &planted.or));
            let place = format!("n = {n}, game {game}: {found:?}, planted cost {wanted}");
            assert!(solution.status.is_certified(), "{place}");
            assert!(found.bound <= wanted * (1.0 + 1e-9), "{place}");
            // Now and then AND and OR together say it for less.
            if found.objective >= wanted * (1.0 - 2.0 * Settings::default().gap) {
                let apart = distance(&solution.effects, &planted);
                assert!(apart <= 1e-12 * wanted, "off by {apart:e}: {place}");
                recovered += 1;
            }
        }
    }
    assert!(recovered >= 20, "{recovered} of 28");
}

#[test]
fn near_optimal_answers_enclose_the_optimum() {
    let mut random = fastrand::Rng::with_seed(2);
    for (n, iterations) in [(2, 10), (3, 10), (3, 60), (4, 60)] {
        let costs = Costs::canonical(n);
        let settings =
            Settings { gap: 1e-12, iterations, most_iterations: 2 * iterations, largest_basis: 0 };
        for noise in [0.0, NOISE] {
            let tables = small_tables(n, &mut random, 16);
            for (table, solution) in tables.iter().zip(solve_all(&tables, noise, settings)) {
                let problem = problem(table, noise);
                let (optimum, slack) = (naive::solve(&problem, &costs), 1e-9 * problem.scale());
                let certificate = solution.certificate;
                assert!(certificate.feasible, "{table:?}: {certificate:?}");
                assert!(certificate.bound <= optimum.objective + slack, "{table:?}");
                assert!(certificate.objective >= optimum.objective - slack, "{table:?}");
            }
        }
    }
}

#[test]
fn an_answer_out_of_time_says_so_and_carries_its_true_gap() {
    let mut random = fastrand::Rng::with_seed(3);
    let settings = Settings { gap: 1e-13, iterations: 20, most_iterations: 40, largest_basis: 0 };
    for n in 3..=7 {
        let costs = Costs::canonical(n);
        let tables: Vec<_> = (0..9).map(|_| random_table(n, &mut random)).collect();
        for (table, solution) in tables.iter().zip(solve_all(&tables, NOISE, settings)) {
            let (problem, certificate) = (problem(table, NOISE), solution.certificate);
            let slack = 1e-9 * problem.scale();
            assert_eq!(solution.status, Status::GapNotReached, "n = {n}");
            assert_eq!((solution.iterations, solution.pivots), (40, 0));
            let again = Certificate::check(&problem, &costs, &solution.effects, &solution.dual);
            assert_eq!(again, certificate);
            assert!(certificate.gap() > 1e-13 && certificate.gap().is_finite());
            assert!(naive::largest_noise(&solution.effects, table) <= problem.zeta + slack);
            let bound = naive::bound(&problem, &costs, &solution.dual);
            assert!((bound - certificate.bound).abs() <= slack, "n = {n}");
            assert!(strength(&solution.effects) * 1.015 >= certificate.objective);
        }
    }
}

/// ζ = 0, by the share or because v(N) = v(∅): every row is tight, and no vertex is tried.
#[test]
fn without_room_for_noise_there_is_no_vertex_but_a_certified_answer() {
    let mut random = fastrand::Rng::with_seed(4);
    for n in 2..=6 {
        let table = random_table(n, &mut random);
        let mut round_trip = table.clone();
        round_trip[(1 << n) - 1] = table[0];
        for (values, noise) in [(table, 0.0), (round_trip, NOISE)] {
            let (problem, solution) = (problem(&values, noise), solve(&values, noise));
            assert_eq!(problem.zeta, 0.0);
            assert_eq!((solution.status, solution.pivots), (Status::Certified, 0), "n = {n}");
            assert!(solution.certificate.gap() <= Settings::default().gap);
            let largest = naive::largest_noise(&solution.effects, &values);
            assert!(largest <= 1e-9 * problem.scale(), "n = {n}: {largest}");
            let costs = Costs::canonical(n);
            let mut crossover = Crossover::new(n, &costs);
            let limits = Limits { pivots: 5_000, basis: 512 };
            let vertex = crossover.solve(&problem, &solution.effects, &solution.dual, limits);
            assert!(vertex.is_none(), "n = {n}");
        }
    }
}

/// v = [at least k variables present]: every condition is met by many subsets at once, so the path of
/// the crossover is all ties.
#[test]
fn symmetric_games_have_exact_answers_wherever_the_crossover_starts() {
    for (n, noise) in [(6, NOISE), (7, 0.2), (8, 0.04)] {
        let at_least = |k: u32| move |s: usize| f64::from(u8::from(s.count_ones() >= k));
        let game = |k: u32| (0..1 << n).map(at_least(k)).collect();
        let games: Vec<Vec<f64>> = (1..=n).map(game).collect();
        let of =
            |iterations| solve_all(&games, noise, Settings { iterations, ..Settings::default() });
        for (k, (a, b)) in (1..=n).zip(of(60).iter().zip(of(600))) {
            assert_eq!((a.status, b.status), (Status::Exact, Status::Exact), "n = {n}, k = {k}");
            let apart = distance(&a.effects, &b.effects);
            assert!(apart <= 1e-8, "n = {n}, k = {k}: off by {apart}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn exact_answers_do_not_depend_on_where_the_crossover_starts(table in tables(2..=7)) {
        let tables = [table];
        let scale = problem(&tables[0], NOISE).scale();
        let of = |iterations| {
            let settings = Settings { iterations, ..Settings::default() };
            solve_all(&tables, NOISE, settings).remove(0)
        };
        let [first, others @ ..] = [60, 300, 900].map(of);
        prop_assert_eq!(first.status, Status::Exact);
        for other in others {
            prop_assert_eq!(other.status, Status::Exact);
            let apart = distance(&first.effects, &other.effects);
            prop_assert!(apart <= 1e-8 * scale, "off by {}", apart);
        }
    }
}
