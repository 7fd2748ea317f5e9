//! What holds of every answer, whatever the table: properties of the solver as a whole.

mod batches;
mod hard_tables;
mod invariance;
mod naive;
mod optimality;

use super::problem::{Costs, Problem};
use super::settings::Settings;
use super::solver::{EXACT_GAP, Solution, Solver, Status};
use crate::interaction::Interactions;
use proptest::prelude::*;

/// Noise share of most tests.
const NOISE: f64 = 0.01;

/// A table of 2^n values for n from the range.
fn tables(variables: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<f64>> {
    variables.prop_flat_map(|n| prop::collection::vec(-5.0..5.0f64, 1 << n))
}

fn random_table(variables: usize, random: &mut fastrand::Rng) -> Vec<f64> {
    (0..1 << variables).map(|_| 10.0 * random.f64() - 5.0).collect()
}

fn problem(values: &[f64], noise: f64) -> Problem {
    Problem::new(values, noise).expect("a good table")
}

/// Tables of one size, solved as one batch.
fn solve_all(tables: &[Vec<f64>], noise: f64, settings: Settings) -> Vec<Solution> {
    let problems: Vec<Problem> = tables.iter().map(|table| problem(table, noise)).collect();
    Solver::new(problems[0].variables, settings).solve(&problems)
}

fn solve(values: &[f64], noise: f64) -> Solution {
    solve_all(&[values.to_vec()], noise, Settings::default()).remove(0)
}

/// Every AND and OR effect.
fn all(effects: &Interactions) -> impl Iterator<Item = f64> {
    effects.and.iter().chain(&effects.or).copied()
}

/// The largest difference of any two effects.
fn distance(a: &Interactions, b: &Interactions) -> f64 {
    all(a).zip(all(b)).fold(0.0, |largest: f64, (a, b)| largest.max((a - b).abs()))
}

/// Σ|effect|.
fn strength(effects: &Interactions) -> f64 {
    all(effects).map(f64::abs).sum()
}

/// The bits of everything that an answer says.
fn bits(solution: &Solution) -> Vec<u64> {
    let Solution { effects, dual, certificate, iterations, pivots, .. } = solution;
    let certificate = [certificate.objective, certificate.bound, certificate.violation];
    let numbers = all(effects).chain(dual.iter().copied()).chain(certificate).map(f64::to_bits);
    numbers.chain([*iterations as u64, *pivots as u64]).collect()
}
