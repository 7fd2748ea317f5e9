//! An independent optimum: the textbook simplex method with Bland's rule, on a dense tableau.
//!
//! It solves the dual, whose origin is feasible: p = p⁺ − p⁻ with
//!
//! ```text
//! maximise Σ (v(S) − ζ) p⁺_S + Σ (−v(S) − ζ) p⁻_S   subject to   ±Kᵀ(p⁺ − p⁻) ≤ c,   p⁺, p⁻ ≥ 0
//! ```
//!
//! and reads the effects off the prices of the constraints. K is written down from the definition.

use super::{Costs, Interactions, Problem};

/// Second costs count this much against the costs.
const SECOND: f64 = 1e-7;
const ROUNDING: f64 = 1e-11;

/// The least cost and the canonical effects.
pub(super) struct Optimum {
    pub(super) objective: f64,
    pub(super) effects: Interactions,
}

/// Kinds and subsets of all effects: (or, T).
fn terms(length: usize) -> Vec<(bool, usize)> {
    let and = (1..length).map(|t| (false, t));
    let or = (1..length).filter(|t| t.count_ones() > 1).map(|t| (true, t));
    and.chain(or).collect()
}

fn triggers((or, t): (bool, usize), s: usize) -> bool {
    if or { t & s != 0 } else { t & s == t }
}

/// Solves one small problem.
pub(super) fn solve(problem: &Problem, costs: &Costs) -> Optimum {
    let Problem { values, zeta, .. } = problem;
    let (length, scale) = (values.len(), problem.scale());
    let terms = terms(length);
    let states: Vec<usize> = (1..length).collect();
    // Rows: ±term ≤ cost. Columns: p⁺, p⁻, slacks, right-hand side. Last row: minus the gains.
    let (constraints, variables) = (2 * terms.len(), 2 * states.len());
    let width = variables + constraints + 1;
    let mut tableau = vec![vec![0.0; width]; constraints + 1];
    for (i, &term) in terms.iter().enumerate() {
        let (or, t) = term;
        let cost = if or { costs.or[t] } else { costs.and[t] };
        let cost = cost + SECOND * costs.second[usize::from(or)][t];
        for (row, sign) in [(2 * i, 1.0), (2 * i + 1, -1.0)] {
            for (j, _) in states.iter().enumerate().filter(|(_, s)| triggers(term, **s)) {
                tableau[row][j] = sign;
                tableau[row][states.len() + j] = -sign;
            }
            tableau[row][variables + row] = 1.0;
            tableau[row][width - 1] = cost;
        }
    }
    for (j, &s) in states.iter().enumerate() {
        tableau[constraints][j] = -(values[s] - zeta) / scale;
        tableau[constraints][states.len() + j] = (values[s] + zeta) / scale;
    }
    let mut basic: Vec<usize> = (variables..variables + constraints).collect();
    while let Some(column) = (0..width - 1).find(|&j| tableau[constraints][j] < -ROUNDING) {
        let ratio = |row: usize| tableau[row][width - 1] / tableau[row][column];
        let able = (0..constraints).filter(|&row| tableau[row][column] > ROUNDING);
        let leaving = able.min_by(|&a, &b| {
            let apart = (ratio(a) - ratio(b)).abs() > ROUNDING;
            if apart { ratio(a).total_cmp(&ratio(b)) } else { basic[a].cmp(&basic[b]) }
        });
        let row = leaving.expect("the costs bound the dual");
        pivot(&mut tableau, row, column);
        basic[row] = column;
    }
    let price = |row: usize| tableau[constraints][variables + row] * scale;
    let mut effects = Interactions { and: vec![0.0; length], or: vec![0.0; length] };
    for (i, &(or, t)) in terms.iter().enumerate() {
        let kind = if or { &mut effects.or } else { &mut effects.and };
        kind[t] = price(2 * i) - price(2 * i + 1);
    }
    Optimum { objective: costs.objective(&effects.and, &effects.or), effects }
}

fn pivot(tableau: &mut [Vec<f64>], row: usize, column: usize) {
    let own = tableau[row][column];
    tableau[row].iter_mut().for_each(|entry| *entry /= own);
    let pivot_row = tableau[row].clone();
    for (other, entries) in tableau.iter_mut().enumerate() {
        let factor = entries[column];
        if other != row && factor != 0.0 {
            for (entry, own) in entries.iter_mut().zip(&pivot_row) {
                *entry -= factor * own;
            }
        }
    }
}

/// The largest |v(S) − v(∅) − prediction| and whether the form is right, by the definition.
pub(super) fn largest_noise(effects: &Interactions, values: &[f64]) -> f64 {
    let terms = terms(values.len());
    let effect = |&(or, t): &(bool, usize)| if or { effects.or[t] } else { effects.and[t] };
    let total: f64 = terms.iter().map(|term| effect(term).abs()).sum();
    assert_eq!(total > 0.0, super::all(effects).any(|e| e != 0.0), "effects where none may be");
    let noise = |s: usize| {
        let active = terms.iter().filter(|term| triggers(**term, s));
        (values[s] - values[0] - active.map(effect).sum::<f64>()).abs()
    };
    (0..values.len()).map(noise).fold(0.0, f64::max)
}

/// The bound that a dual vector proves, by the definition: Σ p·v − ζ·Σ|p| of p scaled into the box.
pub(super) fn bound(problem: &Problem, costs: &Costs, dual: &[f64]) -> f64 {
    let states = || 1..dual.len();
    let excess = terms(dual.len()).into_iter().fold(0.0, |most: f64, (or, t)| {
        let cost = if or { costs.or[t] } else { costs.and[t] };
        let sum: f64 = states().filter(|&s| triggers((or, t), s)).map(|s| dual[s]).sum();
        most.max(sum.abs() / cost)
    });
    let gain: f64 =
        states().map(|s| dual[s] * problem.values[s] - problem.zeta * dual[s].abs()).sum();
    if excess == 0.0 { 0.0 } else { (gain / excess).max(0.0) }
}
