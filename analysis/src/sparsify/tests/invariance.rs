//! Tables that say the same in another way have the same answer.

use super::*;
use crate::sparsify::problem::TIE_BREAK;

/// `permuted`[π(S)] = `values`[S].
fn permute(values: &[f64], places: &[usize]) -> Vec<f64> {
    let mut permuted = vec![0.0; values.len()];
    for (subset, value) in values.iter().enumerate() {
        permuted[image(subset, places)] = *value;
    }
    permuted
}

/// π(S): variable i stands at `places[i]`.
fn image(subset: usize, places: &[usize]) -> usize {
    places.iter().enumerate().map(|(i, place)| (subset >> i & 1) << place).sum()
}

/// Effects of the permuted table, told in the variables of the original.
fn permute_back(effects: &Interactions, places: &[usize]) -> Interactions {
    let back = |of: &[f64]| (0..of.len()).map(|t| of[image(t, places)]).collect();
    Interactions { and: back(&effects.and), or: back(&effects.or) }
}

fn shuffled(variables: usize, random: &mut fastrand::Rng) -> Vec<usize> {
    let mut places: Vec<usize> = (0..variables).collect();
    random.shuffle(&mut places);
    places
}

/// v of the given effects, plus a bias.
fn game(variables: usize, and: &[(usize, f64)], or: &[(usize, f64)]) -> Vec<f64> {
    let length = 1 << variables;
    let mut effects = Interactions { and: vec![0.0; length], or: vec![0.0; length] };
    and.iter().for_each(|&(t, effect)| effects.and[t] = effect);
    or.iter().for_each(|&(t, effect)| effects.or[t] = effect);
    effects.predict().iter().map(|v| v + 3.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The costs c know the index, so the answer A of a table and the answer B of the permuted table,
    /// told in the same variables, may differ by the tie-break. A permutation takes single effects to
    /// single effects and pairs to pairs, whose costs c and c' differ by η/2 at most; so
    /// c(A) ≤ c(B) ≤ c'(B) + η/2·|B| ≤ c'(A) + η/2·|B| ≤ c(A) + η/2·(|A| + |B|).
    #[test]
    fn permuting_the_variables_changes_the_answer_by_the_tie_break_at_most(
        table in tables(2..=7), seed in 0u64..1000
    ) {
        let original = problem(&table, NOISE);
        let places = shuffled(original.variables, &mut fastrand::Rng::with_seed(seed));
        let a = solve(&table, NOISE);
        let b = solve(&permute(&table, &places), NOISE);
        prop_assert_eq!((a.status, b.status), (Status::Exact, Status::Exact));
        let (a, b) = (a.effects, permute_back(&b.effects, &places));
        let slack = 1e-8 * original.scale();
        prop_assert!(naive::largest_noise(&b, &table) <= original.zeta + slack);
        let costs = Costs::canonical(original.variables);
        let cost = |effects: &Interactions| costs.objective(&effects.and, &effects.or);
        prop_assert!(cost(&a) <= cost(&b) + slack);
        prop_assert!(cost(&b) <= cost(&a) + TIE_BREAK / 2.0 * (strength(&a) + strength(&b)) + slack);
    }

    #[test]
    fn scaling_the_values_scales_the_answer(table in tables(2..=7), sign in prop::bool::ANY) {
        let plain = solve(&table, NOISE);
        prop_assert_eq!(plain.status, Status::Exact);
        let scale = problem(&table, NOISE).scale();
        for factor in [1e-6, 0.3, 1e6, 1e100] {
            let factor = if sign { factor } else { -factor };
            let scaled: Vec<f64> = table.iter().map(|v| factor * v).collect();
            let mut scaled = solve(&scaled, NOISE);
            prop_assert_eq!(scaled.status, Status::Exact);
            let Interactions { and, or } = &mut scaled.effects;
            and.iter_mut().chain(or).for_each(|effect| *effect /= factor);
            let apart = distance(&plain.effects, &scaled.effects);
            prop_assert!(apart <= 1e-8 * scale, "factor {}: off by {}", factor, apart);
        }
    }

    #[test]
    fn a_constant_changes_nothing(table in tables(2..=7), constant in -30.0..30.0f64) {
        let shifted: Vec<f64> = table.iter().map(|v| v + constant).collect();
        let (plain, shifted) = (solve(&table, NOISE), solve(&shifted, NOISE));
        let scale = problem(&table, NOISE).scale();
        let apart = distance(&plain.effects, &shifted.effects);
        prop_assert!(apart <= 1e-9 * scale, "off by {}", apart);
    }
}

/// v = a·[i] + b·[j] + d·[i and j] with d > 3ζ has one optimum whatever the index: ζ moves from the
/// pair into the single effects, which are cheaper, and from v(N). The dual p_ij = 1, p_i = c_i − 1,
/// p_j = c_j − 1 proves it, with room at every other column. Told as an AND and an OR, it is a tie of
/// the plain costs.
#[test]
fn planted_games_with_one_optimum_permute_exactly() {
    let mut random = fastrand::Rng::with_seed(5);
    for n in 2..=7 {
        for _ in 0..4 {
            let [a, b] = [1.0 + random.f64(), 1.0 + random.f64()];
            let d = 0.5 + random.f64();
            let least = a.min(b);
            let tied: &[_] = &[(0b01, a - least), (0b10, b - least), (0b11, d + least)];
            let plain: &[_] = &[(0b01, a), (0b10, b), (0b11, d)];
            let zeta = NOISE * (a + b + d);
            let wanted = [(0b01, a + zeta), (0b10, b + zeta), (0b11, d - 3.0 * zeta)];
            for (and, or) in [(plain, 0.0), (tied, least)] {
                let places = shuffled(n, &mut random);
                let solution = solve(&permute(&game(n, and, &[(0b11, or)]), &places), NOISE);
                assert_eq!(solution.status, Status::Exact);
                let mut found = permute_back(&solution.effects, &places);
                wanted.iter().for_each(|&(t, effect)| found.and[t] -= effect);
                let apart = all(&found).fold(0.0, |most: f64, e| most.max(e.abs()));
                assert!(apart <= 1e-8 * (a + b + d), "n = {n}, {places:?}: off by {apart}");
            }
        }
    }
}

/// Either single effect of v = a·[i] + a·[j] may give up ζ: the one with the larger cost does, which
/// is the index's choice and not the game's.
#[test]
fn what_the_game_leaves_open_is_settled_by_index() {
    let mut random = fastrand::Rng::with_seed(6);
    for n in 2..=7 {
        let places = shuffled(n, &mut random);
        let (i, j) = (1 << places[0], 1 << places[1]);
        let solution = solve(&game(n, &[(i, 2.0), (j, 2.0)], &[]), NOISE);
        let costs = Costs::canonical(n);
        let (dear, cheap) = if costs.and[i] > costs.and[j] { (i, j) } else { (j, i) };
        let mut found = solution.effects;
        found.and[dear] -= 2.0 - 4.0 * NOISE;
        found.and[cheap] -= 2.0;
        let apart = all(&found).fold(0.0, |most: f64, e| most.max(e.abs()));
        assert!(apart <= 1e-8, "n = {n}, {places:?}: off by {apart}");
    }
}
