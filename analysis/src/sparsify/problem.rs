//! The canonical problem: costs that make the sparsest answer unique, and the checked value table.

use crate::interaction::subset::{members, order, variables_of};
use thiserror::Error;

/// Size η of the tie-break in the costs (DESIGN section 6).
pub const TIE_BREAK: f64 = 0.01;

/// Larger values could take sums over 2^n of them beyond the range of a double.
pub const LARGEST_VALUE: f64 = f64::MAX / (1u64 << 24) as f64;

/// Why a value table cannot be extracted.
#[derive(Debug, Error, PartialEq)]
pub enum ProblemError {
    /// The length of the table is not 2^n for an n that is supported.
    #[error("a value table has 2^n entries with n from 2 to 16, this one has {0}")]
    Length(usize),
    /// A value is NaN or infinite.
    #[error("v(S) is {value} for S = {subset:#b}; the network's output is not finite there")]
    NotFinite {
        /// The bitmask of S.
        subset: usize,
        /// The offending value.
        value: f64,
    },
    /// The difference of two values is beyond [`LARGEST_VALUE`].
    #[error("v(S) − v(∅) is larger than {LARGEST_VALUE:.1e} for S = {subset:#b}; scale v down")]
    Range {
        /// The bitmask of S.
        subset: usize,
    },
    /// The noise share is negative or not finite.
    #[error("`noise` is {0}, but it must be a share of 0 or more that gives a finite ζ")]
    Noise(f64),
}

/// One table, checked and shifted so that v(∅) = 0.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Number of variables n.
    pub variables: usize,
    /// v(S) − v(∅), length 2^n.
    pub values: Vec<f64>,
    /// Bound ζ of the noise |δ_S|, in units of v.
    pub zeta: f64,
}

impl Problem {
    /// Checks a table of v(S) and sets ζ = noise·|v(N) − v(∅)|.
    ///
    /// # Errors
    /// A length that is no 2^n, a value that is not finite, a noise share below 0.
    pub fn new(values: &[f64], noise: f64) -> Result<Self, ProblemError> {
        let variables = variables_of(values.len()).ok_or(ProblemError::Length(values.len()))?;
        if !(noise.is_finite() && noise >= 0.0) {
            return Err(ProblemError::Noise(noise));
        }
        if let Some(subset) = values.iter().position(|v| !v.is_finite()) {
            return Err(ProblemError::NotFinite { subset, value: values[subset] });
        }
        let values: Vec<f64> = values.iter().map(|v| v - values[0]).collect();
        if let Some(subset) = values.iter().position(|v| v.is_nan() || v.abs() > LARGEST_VALUE) {
            return Err(ProblemError::Range { subset });
        }
        let zeta = noise * values[values.len() - 1].abs();
        if !zeta.is_finite() {
            return Err(ProblemError::Noise(noise));
        }
        Ok(Self { variables, values, zeta })
    }

    /// The largest |v(S) − v(∅)|.
    pub fn scale(&self) -> f64 {
        self.values.iter().fold(0.0, |largest, v| largest.max(v.abs()))
    }
}

/// Costs c of the AND effects and d of the OR effects, by bitmask.
#[derive(Clone, Debug)]
pub struct Costs {
    /// c_T, length 2^n; the entry of ∅ is 1 and unused.
    pub and: Vec<f64>,
    /// d_T, length 2^n; entries of order below 2 are 1 and unused.
    pub or: Vec<f64>,
    /// Second costs, AND then OR: of all optimal answers the canonical one has the least Σ of these
    /// times |effect|. Nearly all first costs are 1 and K is 0 or 1, so ties between optimal answers
    /// are the rule and not the exception.
    pub second: [Vec<f64>; 2],
}

impl Costs {
    /// The canonical costs: 1, but AND_{i} a little cheaper and OR_{a,b} a little dearer, each by an
    /// amount that differs from variable to variable, so that ties are broken by index.
    pub fn canonical(variables: usize) -> Self {
        let golden = |k: usize| (0.618_033_988_749_894_9 * k as f64).fract();
        // Effects of low order first, then by index.
        let second = |kind: usize| {
            let cost =
                |t: usize| (order(t) as f64 + scatter(2 * t + kind)) / (variables + 1) as f64;
            (0..1 << variables).map(cost).collect()
        };
        let ones = vec![1.0; 1 << variables];
        let mut costs = Self { and: ones.clone(), or: ones, second: [second(0), second(1)] };
        for subset in 1..1usize << variables {
            let mut variables = members(subset);
            match (order(subset), variables.next(), variables.next()) {
                (1, Some(i), _) => {
                    costs.and[subset] = 1.0 - TIE_BREAK * (1.0 + golden(i + 1) / 2.0)
                }
                (2, Some(a), Some(b)) => {
                    let index = 3 + b * (b - 1) / 2 + a;
                    costs.or[subset] = 1.0 + TIE_BREAK * (1.0 + golden(index) / 2.0);
                }
                _ => {}
            }
        }
        costs
    }

    /// Σ c_T |x_T| + Σ d_T |y_T|.
    pub fn objective(&self, and: &[f64], or: &[f64]) -> f64 {
        let weigh = |costs: &[f64], effects: &[f64]| -> f64 {
            costs.iter().zip(effects).map(|(c, e)| c * e.abs()).sum()
        };
        weigh(&self.and, and) + weigh(&self.or, or)
    }
}

/// A number in [0, 1) for each index, without any linear relation between them (SplitMix64).
fn scatter(index: usize) -> f64 {
    let mut bits = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_tables_are_refused_with_their_reason() {
        assert_eq!(Problem::new(&[0.0; 3], 0.0).err(), Some(ProblemError::Length(3)));
        let mut values = [0.0; 8];
        values[5] = f64::NEG_INFINITY;
        let error = Problem::new(&values, 0.01).err();
        assert_eq!(error, Some(ProblemError::NotFinite { subset: 5, value: f64::NEG_INFINITY }));
        assert_eq!(Problem::new(&[0.0; 8], -0.1).err(), Some(ProblemError::Noise(-0.1)));
        let far = [-1e300, 0.0, 1.7e308, 0.0];
        assert_eq!(Problem::new(&far, 0.0).err(), Some(ProblemError::Range { subset: 2 }));
        let wide = [0.0, 0.0, 0.0, 1e300];
        assert_eq!(Problem::new(&wide, 1e10).err(), Some(ProblemError::Noise(1e10)));
    }

    #[test]
    fn canonical_costs_follow_their_formula() {
        let costs = Costs::canonical(3);
        let h = |k: f64| (0.618_033_988_749_894_9 * k).fract();
        assert!((costs.and[0b100] - (1.0 - 0.01 * (1.0 + h(3.0) / 2.0))).abs() < 1e-15);
        // {a, b} = {1, 2}: index 3 + 2·1/2 + 1.
        assert!((costs.or[0b110] - (1.0 + 0.01 * (1.0 + h(5.0) / 2.0))).abs() < 1e-15);
        assert_eq!((costs.and[0b011], costs.or[0b111]), (1.0, 1.0));
    }
}
