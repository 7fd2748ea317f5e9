//! How good an answer is, computed from the answer alone.
//!
//! The certificate takes a table, effects and a dual vector, wherever they come from, and checks
//! them against the definition of the problem. It knows nothing of the solver and shares with it only
//! the costs and the subset transforms, which are tested against their definitions.
//!
//! *Primal.* The effects are feasible when |δ_S| ≤ ζ for every S ≠ ∅; then their cost is an upper
//! bound of the optimum. *Dual.* For any p with |Σ_{S⊇T} p_S| ≤ c_T and |Σ_{S∩T≠∅} p_S| ≤ d_T, the
//! value Σ p_S·v(S) − ζ·Σ|p_S| is a lower bound (weak duality). Any p at all is made such by dividing
//! it by its largest violation, so a bad p gives a weak bound, never a wrong one.
//!
//! *Rounding.* |δ_S| may exceed ζ by [`ROUNDING`] of the scale of v, and then the cost may lie below the
//! optimum, by at most that excess times Σ|p_S|. The gap counts it in. A cost still further below the
//! bound contradicts itself: it proves nothing.

use super::problem::{Costs, Problem};
use crate::interaction::Interactions;
use crate::interaction::subset::order;
use crate::interaction::transform::{or, single, zeta_adjoint};

/// Rounding that is forgiven in |δ_S| ≤ ζ, relative to the largest |v(S) − v(∅)|.
pub const ROUNDING: f64 = 1e-9;

/// A checked statement about one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Certificate {
    /// Cost of the answer, in units of v: the optimum is at most this and `forgiven` when the answer is
    /// feasible.
    pub objective: f64,
    /// Proven lower bound of the optimum, at least 0, in units of v.
    pub bound: f64,
    /// How far the worst |δ_S| exceeds ζ, in units of v; at most [`ROUNDING`] of the scale of v when
    /// feasible.
    pub violation: f64,
    /// By how much `violation` may have lowered the cost below the optimum, in units of v.
    pub forgiven: f64,
    /// Whether the answer satisfies the problem up to [`ROUNDING`].
    pub feasible: bool,
}

impl Certificate {
    /// Checks `effects` and `dual` (length 2^n, entry of ∅ ignored) against `problem`. What has another
    /// length proves nothing.
    pub fn check(problem: &Problem, costs: &Costs, effects: &Interactions, dual: &[f64]) -> Self {
        let lengths =
            [effects.and.len(), effects.or.len(), dual.len(), costs.and.len(), costs.or.len()];
        if lengths.iter().any(|&length| length != problem.values.len()) {
            return Self {
                objective: f64::INFINITY,
                bound: 0.0,
                violation: f64::INFINITY,
                forgiven: f64::INFINITY,
                feasible: false,
            };
        }
        let scale = problem.scale();
        let noise = effects.noise(&problem.values);
        let worst = noise[1..].iter().fold(0.0, |worst: f64, d| nan_max(worst, d.abs()));
        let violation = nan_max(0.0, worst - problem.zeta);
        let misplaced = (0..effects.or.len()).any(|t| order(t) < 2 && effects.or[t] != 0.0);
        let Bound { bound, weight } = lower_bound(problem, costs, dual);
        Self {
            objective: costs.objective(&effects.and, &effects.or),
            bound,
            violation,
            forgiven: violation * weight,
            feasible: violation.is_finite()
                && violation <= ROUNDING * scale
                && !misplaced
                && effects.and[0] == 0.0,
        }
    }

    /// The relative gap (objective + forgiven − bound) / objective, 0 or more; 0 where objective and bound
    /// are 0. Infinite where the answer is not feasible, where its cost is beyond the range of a double,
    /// and where cost and bound contradict each other.
    pub fn gap(&self) -> f64 {
        let Self { objective, bound, forgiven, feasible, .. } = *self;
        let gap = match objective == 0.0 && bound == 0.0 {
            true => 0.0,
            false => (objective + forgiven - bound) / objective,
        };
        let is_proof = feasible && objective.is_finite() && gap >= -ROUNDING;
        if is_proof { gap.max(0.0) } else { f64::INFINITY }
    }
}

/// A lower bound of the optimum, and Σ|p| of the dual vector that proves it.
struct Bound {
    bound: f64,
    weight: f64,
}

/// The larger of two numbers, NaN if either is NaN.
fn nan_max(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

fn lower_bound(problem: &Problem, costs: &Costs, dual: &[f64]) -> Bound {
    let largest = dual[1..].iter().fold(0.0, |largest: f64, p| nan_max(largest, p.abs()));
    // Sums of the least doubles would be rounded by as much as they are.
    let mut dual: Vec<f64> = dual.iter().map(|p| p / largest).collect();
    dual[0] = 0.0;
    let (mut on_and, mut on_or) = (dual.clone(), dual.clone());
    zeta_adjoint(single(&mut on_and));
    or(single(&mut on_or));
    let mut excess = 0.0;
    for t in 1..dual.len() {
        excess = nan_max(excess, on_and[t].abs() / costs.and[t]);
        if order(t) > 1 {
            excess = nan_max(excess, on_or[t].abs() / costs.or[t]);
        }
    }
    let gain: f64 =
        dual.iter().zip(&problem.values).map(|(p, v)| p * v - problem.zeta * p.abs()).sum();
    let weight: f64 = dual.iter().map(|p| p.abs()).sum();
    let (bound, weight) = (gain / excess, weight / excess);
    match bound.is_finite() && bound > 0.0 && weight.is_finite() {
        true => Bound { bound, weight },
        // The dual vector 0.
        false => Bound { bound: 0.0, weight: 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// v = 2·[0 present] + 1·[0, 1 and 2 present] over three variables.
    fn game() -> (Problem, Costs, Interactions) {
        let mut and = vec![0.0; 8];
        (and[0b001], and[0b111]) = (2.0, 1.0);
        let effects = Interactions { and, or: vec![0.0; 8] };
        let problem = Problem::new(&effects.predict(), 0.0).expect("a good table");
        (problem, Costs::canonical(3), effects)
    }

    #[test]
    fn a_right_answer_without_a_dual_is_feasible_with_a_full_gap() {
        let (problem, costs, effects) = game();
        let certificate = Certificate::check(&problem, &costs, &effects, &[0.0; 8]);
        assert!(certificate.feasible);
        assert_eq!((certificate.bound, certificate.gap()), (0.0, 1.0));
    }

    #[test]
    fn wrong_answers_are_refused() {
        let (problem, costs, right) = game();
        let spoil: [fn(&mut Interactions); 4] = [
            |e| e.and[0b001] = 1.9,
            |e| e.or[0b011] = 1e-3,
            |e| e.and[0b111] = f64::NAN,
            // An OR of order 1 in place of the AND: same predictions, but not the canonical form.
            |e| {
                e.or[0b001] = e.and[0b001];
                e.and[0b001] = 0.0;
            },
        ];
        for (index, spoil) in spoil.into_iter().enumerate() {
            let mut wrong = right.clone();
            spoil(&mut wrong);
            let certificate = Certificate::check(&problem, &costs, &wrong, &[0.0; 8]);
            assert!(!certificate.feasible, "wrong answer {index} was accepted");
            assert_eq!(certificate.gap(), f64::INFINITY);
        }
    }

    #[test]
    fn answers_of_another_length_are_refused() {
        let (problem, costs, right) = game();
        let short = Interactions { and: vec![0.0, 2.0, 0.0, 0.0], or: vec![0.0; 4] };
        let long = Interactions { and: vec![0.0; 16], or: vec![0.0; 16] };
        for (effects, dual) in
            [(&short, 8), (&long, 8), (&right, 0), (&right, 4), (&right, 16), (&short, 4)]
        {
            let certificate = Certificate::check(&problem, &costs, effects, &vec![0.0; dual]);
            assert!(!certificate.feasible, "{} effects, {dual} duals", effects.and.len());
            assert_eq!((certificate.bound, certificate.gap()), (0.0, f64::INFINITY));
        }
        let costs = Costs::canonical(2);
        assert!(!Certificate::check(&problem, &costs, &right, &[0.0; 8]).feasible);
    }

    #[test]
    fn a_cost_beyond_the_range_of_a_double_proves_nothing() {
        let (objective, bound, violation, forgiven) = (f64::INFINITY, 0.0, 0.0, 0.0);
        let certificate = Certificate { objective, bound, violation, forgiven, feasible: true };
        assert_eq!(certificate.gap(), f64::INFINITY);
    }

    #[test]
    fn a_cost_below_its_bound_proves_nothing() {
        let gap = |objective, bound, forgiven| {
            Certificate { objective, bound, violation: 1e-12, forgiven, feasible: true }.gap()
        };
        assert_eq!(gap(2.0, 2.0 + 1e-10, 0.0), 0.0);
        assert_eq!(gap(2.0, 2.1, 0.0), f64::INFINITY);
        assert_eq!(gap(0.0, 0.1, 0.0), f64::INFINITY);
        assert_eq!(gap(2.0, 2.0, 0.5), 0.25);
    }

    #[test]
    fn noise_within_zeta_is_feasible_and_beyond_it_is_not() {
        let values = [0.0, 1.0, 0.02, 1.0];
        let problem = Problem::new(&values, 0.02).expect("a good table");
        let costs = Costs::canonical(2);
        let effects = Interactions { and: vec![0.0, 1.0, 0.0, 0.0], or: vec![0.0; 4] };
        // The dual vector that pays for the least effect of variable 0.
        let dual = [0.0, 0.0, 0.0, 1.0];
        let certificate = Certificate::check(&problem, &costs, &effects, &dual);
        assert!(certificate.feasible);
        assert!(0.9 < certificate.bound && certificate.bound <= certificate.objective);
        // A millionth of what is forgiven is counted in, more is not forgiven.
        let mut near = effects.clone();
        near.and[1] -= 0.02 + 1e-15;
        let certificate = Certificate::check(&problem, &costs, &near, &dual);
        assert!(certificate.feasible && certificate.forgiven > 0.0, "{certificate:?}");
        let mut far = effects;
        far.and[1] -= 0.02 + 1e-8;
        assert!(!Certificate::check(&problem, &costs, &far, &dual).feasible);
    }

    /// v = 0.6·[0 present]: rounding of the least doubles would prove a bound of 1.
    #[test]
    fn the_least_doubles_prove_no_more_than_larger_ones() {
        let problem = Problem::new(&[0.0, 0.6, 0.0, 0.6], 0.0).expect("a good table");
        let costs = Costs::canonical(2);
        let effects = Interactions { and: vec![0.0, 0.6, 0.0, 0.0], or: vec![0.0; 4] };
        let optimum = costs.objective(&effects.and, &effects.or);
        for p in [5e-324, 1e-300, 1.0, 1e300] {
            let certificate = Certificate::check(&problem, &costs, &effects, &[0.0, p, 0.0, 0.0]);
            assert!(certificate.bound <= optimum * (1.0 + 1e-12), "{p:e}: {certificate:?}");
            assert!(certificate.bound > 0.5, "{p:e}: {certificate:?}");
        }
    }

    #[test]
    fn no_dual_vector_gives_a_bound_above_a_feasible_cost() {
        let (problem, costs, effects) = game();
        let optimum = costs.objective(&effects.and, &effects.or);
        for seed in 0..500u32 {
            let dual: Vec<f64> = (0..8u32)
                .map(|s| f64::from((seed * 2654435 + s * 40503 + seed * s * 977) % 2001) - 1000.0)
                .collect();
            let certificate = Certificate::check(&problem, &costs, &effects, &dual);
            assert!(certificate.bound <= optimum * (1.0 + 1e-12), "seed {seed}");
        }
        let hostile = [f64::NAN, f64::INFINITY, 0.0, f64::NAN, -1e308, 1e308, 0.0, 1.0];
        assert_eq!(Certificate::check(&problem, &costs, &effects, &hostile).bound, 0.0);
    }
}
