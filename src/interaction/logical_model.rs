//! The AND-OR logical model of one sample (paper Eq. 3).

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::{naive, transform};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

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
