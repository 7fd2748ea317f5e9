//! An answer depends on its table alone, not on its neighbours, its place or the number of threads.

use super::*;

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(work)
}

/// A table that an exact answer ends after the common schedule, one that needs many iterations more
/// since ζ = 0, and easy ones.
fn neighbours(variables: usize, random: &mut fastrand::Rng) -> Vec<Problem> {
    let noises = [0.0, NOISE, 0.3, 0.0, NOISE];
    let hard = noises.map(|noise| problem(&random_table(variables, random), noise));
    let zero = problem(&vec![0.0; 1 << variables], NOISE);
    hard.into_iter().chain([zero]).collect()
}

#[test]
fn duplicates_have_bit_equal_answers_in_any_place_of_any_batch() {
    let mut random = fastrand::Rng::with_seed(7);
    let settings = Settings { gap: 1e-6, iterations: 200, ..Settings::default() };
    for n in [2, 5, 6] {
        let solver = Solver::new(n, settings);
        let neighbours = neighbours(n, &mut random);
        // Once alone: one that becomes exact, one that needs the splitting to go on.
        for alone in &neighbours[..2] {
            let wanted = solver.solve(std::slice::from_ref(alone)).remove(0);
            assert_eq!(wanted.status == Status::Exact, alone.zeta > 0.0);
            for size in [1, 2, 7, 8, 9, 17, 64] {
                let mut is_duplicate: Vec<bool> = (0..size).map(|_| random.bool()).collect();
                (is_duplicate[0], is_duplicate[size - 1]) = (size == 1 || random.bool(), true);
                let batch: Vec<Problem> = is_duplicate
                    .iter()
                    .map(|&same| if same { alone } else { &neighbours[random.usize(0..6)] }.clone())
                    .collect();
                for threads in [1, 3] {
                    let solutions = in_pool(threads, || solver.solve(&batch));
                    assert_eq!(solutions.len(), size);
                    let places = is_duplicate.iter().enumerate().filter(|(_, same)| **same);
                    for (place, _) in places {
                        let found = &solutions[place];
                        assert_eq!(found.status, wanted.status);
                        let same = bits(found) == bits(&wanted);
                        assert!(same, "n = {n}: {place} of {size} on {threads} threads");
                    }
                }
            }
        }
    }
}

/// Larger tables go through the transforms in several blocks, and the last one of a call of seventeen
/// on one thread in a narrower group.
#[test]
fn large_tables_are_bit_equal_alone_and_in_company() {
    let mut random = fastrand::Rng::with_seed(8);
    for (n, noise) in [(9, 0.3), (11, 0.0)] {
        let solver = Solver::new(n, Settings { gap: 0.02, iterations: 100, ..Settings::default() });
        let tables: Vec<Problem> =
            (0..17).map(|_| problem(&random_table(n, &mut random), noise)).collect();
        let together = in_pool(1, || solver.solve(&tables));
        for place in [0, 15, 16] {
            let alone = solver.solve(&tables[place..=place]).remove(0);
            assert!(alone.status.is_certified(), "n = {n}: {:?}", alone.certificate);
            assert_eq!(bits(&together[place]), bits(&alone), "n = {n}, {place} of 17");
        }
    }
}

#[test]
fn no_tables_have_no_answers() {
    assert!(Solver::new(4, Settings::default()).solve(&[]).is_empty());
}
