//! The AND-OR logical model of one sample (paper Eq. 3), and how faithful it is when only its
//! strongest interactions are kept (paper, section 2.1, Fig. 1).

use super::transform::{or, single, zeta};
use serde::{Deserialize, Serialize};

/// The two kinds of interaction (paper, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Triggered when all its variables are present.
    And,
    /// Triggered when any of its variables is present.
    Or,
}

/// The effects of one sample, indexed by the bitmask of T.
///
/// Entries of ∅ are zero. For |T| = 1 both kinds have the same trigger, so the effect is stored as
/// AND and the OR entry is zero (DESIGN section 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interactions {
    /// AND effects x_T, length 2^n, in units of v.
    pub and: Vec<f64>,
    /// OR effects y_T, length 2^n, in units of v.
    pub or: Vec<f64>,
}

/// How far a logical model of the strongest interactions alone lies from the values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// Interactions in the model.
    pub kept: usize,
    /// Root of the mean of the squared errors over all 2^n subsets, in units of v.
    pub root_mean_square: f64,
    /// Largest error of any subset, in units of v.
    pub largest: f64,
}

impl Fidelity {
    /// Of the errors of a model with `kept` interactions; NaN where an error is.
    fn new(kept: usize, errors: &[f64]) -> Self {
        let squares: f64 = errors.iter().map(|error| error * error).sum();
        let larger = |a: f64, b: f64| if a > b || a.is_nan() { a } else { b };
        let largest = errors.iter().map(|error| error.abs()).fold(0.0, larger);
        Self { kept, root_mean_square: (squares / errors.len() as f64).sqrt(), largest }
    }
}

impl Interactions {
    /// The effects of one kind, indexed by bitmask.
    pub fn of(&self, kind: Kind) -> &[f64] {
        match kind {
            Kind::And => &self.and,
            Kind::Or => &self.or,
        }
    }

    /// What the model predicts for v(S) − v(∅), for every S.
    pub fn predict(&self) -> Vec<f64> {
        let (mut and, mut or_part) = (self.and.clone(), self.or.clone());
        zeta(single(&mut and));
        or(single(&mut or_part));
        and.iter().zip(&or_part).map(|(a, b)| a + b).collect()
    }

    /// The noise δ_S = v(S) − v(∅) − prediction, for every S (zero for ∅).
    pub fn noise(&self, values: &[f64]) -> Vec<f64> {
        let prediction = self.predict();
        values.iter().zip(&prediction).map(|(v, p)| v - values[0] - p).collect()
    }

    /// The interactions that are not zero, by falling |effect|: kind and T. Equal ones stand in the
    /// order AND, OR, then by T.
    pub fn strongest(&self) -> Vec<(Kind, usize)> {
        let of = |kind| (0..self.of(kind).len()).map(move |t| (kind, t));
        let all = of(Kind::And).chain(of(Kind::Or));
        let effect = |&(kind, t): &(Kind, usize)| self.of(kind)[t].abs();
        let mut ranking: Vec<_> = all.filter(|interaction| effect(interaction) != 0.0).collect();
        ranking.sort_by(|a, b| effect(b).total_cmp(&effect(a)));
        ranking
    }

    /// The model with only these interactions.
    pub fn only(&self, interactions: &[(Kind, usize)]) -> Self {
        let mut model = Self { and: vec![0.0; self.and.len()], or: vec![0.0; self.or.len()] };
        for &(kind, t) in interactions {
            let effects = match kind {
                Kind::And => &mut model.and,
                Kind::Or => &mut model.or,
            };
            effects[t] = self.of(kind)[t];
        }
        model
    }

    /// How far v(∅) plus the `kept` strongest interactions is from v(S), `values` of length 2^n, over
    /// all S: one entry for each number asked for, where more than there are means all of them. The
    /// fidelity that the paper requires of a concise model (section 2.1), at each conciseness.
    ///
    /// The error need not fall with every interaction that is kept: strong effects that offset each
    /// other only do so together. With all effects of an answer of the solver the largest error is at
    /// most ζ. O(n·2^n) for each entry.
    pub fn fidelity(&self, values: &[f64], kept: &[usize]) -> Vec<Fidelity> {
        let ranking = self.strongest();
        let keep = |&count: &usize| {
            let count = count.min(ranking.len());
            Fidelity::new(count, &self.only(&ranking[..count]).noise(values))
        };
        kept.iter().map(keep).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::subset::order;
    use crate::interaction::{naive, transform};
    use crate::sparsify::certificate::ROUNDING;
    use crate::sparsify::{Problem, Settings, Solver};
    use proptest::prelude::*;

    /// A table and effects of n variables.
    fn tables() -> impl Strategy<Value = [Vec<f64>; 3]> {
        (2usize..=6).prop_flat_map(|n| {
            // Whole numbers, so that many effects are equally strong or zero.
            let whole = || prop::collection::vec((-3i8..=3).prop_map(f64::from), 1 << n);
            [whole(), whole(), whole()]
        })
    }

    /// The error by definition: sorted again for each k, summed over the triggers of each S.
    fn naive_fidelity(effects: &Interactions, values: &[f64], kept: usize) -> Fidelity {
        let mut all: Vec<(f64, usize, usize)> = Vec::new();
        for t in 0..values.len() {
            all.push((effects.and[t], 0, t));
            all.push((effects.or[t], 1, t));
        }
        all.retain(|(effect, _, _)| *effect != 0.0);
        all.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()).then((a.1, a.2).cmp(&(b.1, b.2))));
        all.truncate(kept);
        let error = |s: usize| {
            let triggers = |or, t: usize| if or == 1 { t & s != 0 } else { t & s == t };
            let active = all.iter().filter(|(_, or, t)| triggers(*or, *t));
            values[s] - values[0] - active.map(|(effect, _, _)| effect).sum::<f64>()
        };
        let errors = (0..values.len()).map(error);
        let mean = errors.clone().map(|error| error * error).sum::<f64>() / values.len() as f64;
        let largest = errors.fold(0.0, |largest: f64, error| largest.max(error.abs()));
        Fidelity { kept: all.len(), root_mean_square: mean.sqrt(), largest }
    }

    #[test]
    fn interactions_that_offset_each_other_need_each_other() {
        // v = 2·[both present] − 2·[any present]: −2 with one variable, 0 with both.
        let effects = Interactions { and: vec![0.0, 0.0, 0.0, 2.0], or: vec![0.0, 0.0, 0.0, -2.0] };
        let fidelity = effects.fidelity(&[5.0, 3.0, 3.0, 5.0], &[0, 1, 2, 99]);
        let mean = |sum: f64| (sum / 4.0).sqrt();
        let wanted = [(0, mean(8.0), 2.0), (1, mean(12.0), 2.0), (2, 0.0, 0.0), (2, 0.0, 0.0)];
        let found = fidelity.iter().map(|f| (f.kept, f.root_mean_square, f.largest));
        assert_eq!(found.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn an_error_that_is_no_number_is_not_hidden() {
        let effects = Interactions { and: vec![0.0; 4], or: vec![0.0; 4] };
        let fidelity = effects.fidelity(&[0.0, f64::NAN, 1.0, 2.0], &[0])[0];
        assert!(fidelity.largest.is_nan() && fidelity.root_mean_square.is_nan());
    }

    #[test]
    fn all_interactions_of_an_answer_are_faithful_up_to_the_noise() {
        let mut random = fastrand::Rng::with_seed(3);
        let solver = Solver::new(6, Settings::default());
        for _ in 0..4 {
            let values: Vec<f64> = (0..64).map(|_| 2.0 * random.f64() - 1.0).collect();
            let problem = Problem::new(&values, 0.05).unwrap();
            let effects = &solver.solve(std::slice::from_ref(&problem))[0].effects;
            let [none, all] = effects.fidelity(&values, &[0, usize::MAX])[..] else { panic!() };
            assert!((none.largest - problem.scale()).abs() < 1e-12);
            assert!(all.largest <= problem.zeta + ROUNDING * problem.scale(), "{all:?}");
            assert!(all.root_mean_square <= all.largest);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn fidelity_equals_its_naive_oracle([values, and, or] in tables()) {
            let mut effects = Interactions { and, or };
            (effects.and[0], effects.or[0]) = (0.0, 0.0);
            for t in (0..values.len()).filter(|&t| order(t) == 1) {
                effects.or[t] = 0.0;
            }
            let kept: Vec<usize> = (0..=effects.strongest().len()).collect();
            for (found, &kept) in effects.fidelity(&values, &kept).iter().zip(&kept) {
                let wanted = naive_fidelity(&effects, &values, kept);
                prop_assert_eq!((found.kept, found.largest), (wanted.kept, wanted.largest));
                let difference = found.root_mean_square - wanted.root_mean_square;
                prop_assert!(difference.abs() < 1e-9, "{found:?} is not {wanted:?}");
            }
        }

        /// Theorem 1: whatever γ is chosen, the AND-OR effects of Eq. 3 predict v on every S.
        #[test]
        fn universal_matching(
            (v, gamma) in (2usize..=8).prop_flat_map(|n| {
                let table = || prop::collection::vec(-5.0..5.0f64, 1 << n);
                (table(), table())
            })
        ) {
            let full = v.len() - 1;
            // u^OR is 0 on ∅ and u^AND takes the bias (paper, Appendix D).
            let mut u_and: Vec<f64> = v.iter().zip(&gamma).map(|(v, g)| 0.5 * v + g).collect();
            let mut u_or: Vec<f64> = v.iter().zip(&gamma).map(|(v, g)| 0.5 * v - g).collect();
            (u_and[0], u_or[0]) = (v[0], 0.0);
            let mut and = naive::moebius(&u_and);
            let flipped: Vec<f64> = (0..=full).map(|l| u_or[full ^ l]).collect();
            let mut or: Vec<f64> = naive::moebius(&flipped).iter().map(|x| -x).collect();
            (and[0], or[0]) = (0.0, 0.0);
            // The fast inverse finds the same OR effects.
            let mut fast = u_or.clone();
            transform::or_inverse(single(&mut fast));
            for t in 1..=full {
                prop_assert!((fast[t] - or[t]).abs() < 1e-9);
            }
            let model = Interactions { and, or };
            for (s, noise) in model.noise(&v).iter().enumerate() {
                prop_assert!(noise.abs() < 1e-9, "subset {s:b}: off by {noise}");
            }
        }
    }
}
