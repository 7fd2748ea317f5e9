//! The solver: splitting for all tables, crossover to a vertex, certificate.
//!
//! Every table gets the same number of iterations of the splitting (module `splitting`), in single
//! precision: they only have to find out which effects take part. Then its near-optimal point is taken
//! to an optimal vertex (module `crossover`), which is exact: the answer does not depend on how the
//! point was reached. Where there is no room for noise (ζ = 0), where the basis is too large, or where
//! the exchanges fail, the splitting goes on in double precision until the gap is proven.

use super::certificate::Certificate;
use super::crossover::{Crossover, Limits};
use super::problem::{Costs, Problem};
use super::settings::Settings;
use super::splitting::{Best, Iterate, LANES, Numbers, Paused, Plan, ROUGH_LANES, Splitting};
use crate::interaction::Interactions;
use crate::interaction::real::Real;
use rayon::prelude::*;

/// What the history records as the solver of a run.
pub const SOLVER_NAME: &str = "halpern-peaceman-rachford, parametric simplex";
/// Raised whenever a change can move an answer beyond its stated tolerance.
pub const SOLVER_VERSION: u32 = 3;

/// A vertex whose certificate proves this gap is exact up to rounding.
pub const EXACT_GAP: f64 = 1e-9;
/// Beyond the common schedule a table is looked at again after 15 % more iterations.
pub(crate) const CHECK_GROWTH: f64 = 1.15;
/// Exchanges after which a crossover gives up: a hundred is usual, 600 the most on golden tables; games
/// that are symmetric in all variables take thousands from n = 9 on.
const MOST_PIVOTS: usize = 5_000;

/// Whether a crossover is worth a try: at first, and each time that the iterations have doubled.
pub(crate) fn is_due(tried: usize, iterations: usize) -> bool {
    iterations >= 2 * tried
}

/// How a table ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// An optimal vertex: the certificate proves a gap of at most [`EXACT_GAP`].
    Exact,
    /// The certificate proves a gap of at most the wanted one.
    Certified,
    /// The iterations ran out first: the answer carries its true gap, no more. It is feasible up to
    /// rounding; only where v is as small as the least doubles (below 1e-315) may that fail, and the
    /// gap is infinite then.
    GapNotReached,
}

impl Status {
    /// Whether the wanted gap is proven.
    pub fn is_certified(self) -> bool {
        self != Self::GapNotReached
    }
}

/// One answer with its certificate.
#[derive(Clone, Debug)]
pub struct Solution {
    /// The AND-OR effects, in units of v.
    pub effects: Interactions,
    /// The dual vector p behind the bound, length 2^n, without unit.
    pub dual: Vec<f64>,
    /// Computed from `effects` and `dual` alone.
    pub certificate: Certificate,
    /// Iterations of the splitting.
    pub iterations: usize,
    /// Exchanges of the crossover; 0 where the answer is not a vertex.
    pub pivots: usize,
    /// Whether the wanted gap is proven.
    pub status: Status,
}

/// Everything that tables of n variables share.
pub struct Solver {
    plan: Plan,
    settings: Settings,
}

/// Cuts a list into groups of at most so many.
fn groups<T>(mut all: Vec<T>, most: usize) -> Vec<Vec<T>> {
    let mut groups = Vec::with_capacity(all.len().div_ceil(most));
    while !all.is_empty() {
        let rest = all.split_off(all.len().min(most));
        groups.push(std::mem::replace(&mut all, rest));
    }
    groups
}

/// A table on its way: its number, and the best feasible answer so far.
struct Table<'p> {
    index: usize,
    problem: &'p Problem,
    best: Option<Best>,
    /// Iterations after which a crossover failed last; 0 before the first.
    tried: usize,
    /// Where it stands, after the first check.
    paused: Option<Paused>,
}

/// What a check makes of a table: done, with its number, or paused.
type End<'p> = Result<(usize, Solution), Box<Table<'p>>>;

/// The buffers of one thread: for full groups, and for those that half the lanes hold.
struct Work<'a, const FULL: usize, const HALF: usize, T> {
    full: Splitting<'a, FULL, T>,
    half: Splitting<'a, HALF, T>,
    crossover: Crossover,
}

impl Solver {
    /// Prepares for tables of n variables.
    pub fn new(variables: usize, settings: Settings) -> Self {
        Self { plan: Plan::new(variables), settings }
    }

    /// The canonical costs, for whoever wants to check an answer.
    pub fn costs(&self) -> &Costs {
        &self.plan.costs
    }

    /// Number of variables n.
    pub fn variables(&self) -> usize {
        self.plan.variables
    }

    /// Bytes that each thread works with beside problems and answers: a group of tables, and the
    /// crossover with its basis at the largest.
    pub fn batch_bytes(&self) -> usize {
        let largest = self.settings.largest_basis.min(1 << self.variables());
        self.plan.splitting_bytes() + Crossover::bytes(self.variables(), largest)
    }

    /// Solves all problems, in parallel over groups on the current rayon pool. An answer depends on its
    /// table alone, not on its neighbours, its place or the number of threads.
    ///
    /// # Panics
    /// When a problem has another number of variables.
    pub fn solve(&self, problems: &[Problem]) -> Vec<Solution> {
        let fits = problems.iter().all(|problem| problem.variables == self.variables());
        assert!(fits, "every problem has {} variables", self.variables());
        let most = self.settings.most_iterations.max(1);
        let mut check = self.settings.iterations.clamp(1, most);
        let tables = problems.iter().enumerate();
        let fresh = |(index, problem)| Table { index, problem, best: None, tried: 0, paused: None };
        let mut solutions: Vec<Option<Solution>> = problems.iter().map(|_| None).collect();
        let mut ends = self.start_all(tables.map(fresh).collect(), check);
        loop {
            let mut open = Vec::new();
            for end in ends {
                match end {
                    Ok((index, solution)) => solutions[index] = Some(solution),
                    Err(table) => open.push(*table),
                }
            }
            if open.is_empty() {
                return solutions.into_iter().flatten().collect();
            }
            ends = self.advance_all(open, check);
            check = ((check as f64 * CHECK_GROWTH).ceil() as usize).min(most);
        }
    }

    /// Iterates fresh tables until `check`, in single precision, and takes to a vertex what it can.
    fn start_all<'p>(&self, tables: Vec<Table<'p>>, check: usize) -> Vec<End<'p>> {
        let work = || self.work::<ROUGH_LANES, { ROUGH_LANES / 2 }, _>(&self.plan.rough);
        let start = |work: &mut Work<'_, _, _, f32>, group: Vec<Table<'p>>| {
            if group.len() <= ROUGH_LANES / 2 {
                self.start(&mut work.half, &mut work.crossover, group, check)
            } else {
                self.start(&mut work.full, &mut work.crossover, group, check)
            }
        };
        // Where every thread gets a group of half the lanes anyway, none shall wait for a full one.
        let few = tables.len() <= ROUGH_LANES / 2 * rayon::current_num_threads();
        let most = if few { ROUGH_LANES / 2 } else { ROUGH_LANES };
        groups(tables, most).into_par_iter().map_init(work, start).flatten_iter().collect()
    }

    /// Iterates paused tables, all equally far, until `check`.
    fn advance_all<'p>(&self, tables: Vec<Table<'p>>, check: usize) -> Vec<End<'p>> {
        let work = || self.work::<LANES, { LANES / 2 }, _>(&self.plan.exact);
        let advance = |work: &mut Work<'_, _, _, f64>, group: Vec<Table<'p>>| {
            if group.len() <= LANES / 2 {
                self.advance(&mut work.half, &mut work.crossover, group, check)
            } else {
                self.advance(&mut work.full, &mut work.crossover, group, check)
            }
        };
        groups(tables, LANES).into_par_iter().map_init(work, advance).flatten_iter().collect()
    }

    fn work<'a, const FULL: usize, const HALF: usize, T: Real>(
        &'a self,
        numbers: &'a Numbers<T>,
    ) -> Work<'a, FULL, HALF, T> {
        Work {
            full: Splitting::new(&self.plan, numbers),
            half: Splitting::new(&self.plan, numbers),
            crossover: Crossover::new(self.variables(), self.costs()),
        }
    }

    /// Iterates a fresh group until `check` and looks at each table: at a vertex, or paused.
    fn start<'p, const L: usize>(
        &self,
        splitting: &mut Splitting<'_, L, f32>,
        crossover: &mut Crossover,
        tables: Vec<Table<'p>>,
        check: usize,
    ) -> Vec<End<'p>> {
        let problems: Vec<&Problem> = tables.iter().map(|table| table.problem).collect();
        splitting.load(&problems);
        splitting.iterate_until(check);
        let tables = tables.into_iter().enumerate();
        tables
            .map(|(lane, mut table)| {
                let near = splitting.iterate(lane);
                if let Some(vertex) = self.finish(crossover, table.problem, &near, check) {
                    return Ok((table.index, vertex));
                }
                // Without noise there is no vertex to go to, but perhaps a fit, once it is looked at.
                table.tried = if table.problem.zeta > 0.0 { check } else { 0 };
                table.paused = Some(splitting.pause(lane));
                Err(Box::new(table))
            })
            .collect()
    }

    /// Iterates a paused group until `check` and looks at each table: done, or paused again.
    fn advance<'p, const L: usize>(
        &self,
        splitting: &mut Splitting<'_, L, f64>,
        crossover: &mut Crossover,
        mut tables: Vec<Table<'p>>,
        check: usize,
    ) -> Vec<End<'p>> {
        let paused =
            tables.iter().filter_map(|table| Some((table.problem, table.paused.as_ref()?)));
        splitting.resume(&paused.collect::<Vec<_>>());
        splitting.iterate_until(check);
        let vertices: Vec<Option<Solution>> = tables
            .iter_mut()
            .enumerate()
            .map(|(lane, table)| self.try_again(splitting, crossover, lane, table))
            .collect();
        self.improve(splitting, crossover, &mut tables, &vertices);
        let last = check >= self.settings.most_iterations;
        let ends = tables.into_iter().zip(vertices).enumerate();
        ends.map(|(lane, (mut table, vertex))| {
            let enough = |best: &mut Best| last || best.reaches(self.settings.gap);
            match (vertex, table.best.take_if(enough)) {
                (Some(solution), _) => Ok((table.index, solution)),
                (None, Some(Best { effects, dual, .. })) => {
                    Ok((table.index, self.certify(table.problem, effects, dual, check)))
                }
                (None, None) => {
                    table.paused = Some(splitting.pause(lane));
                    Err(Box::new(table))
                }
            }
        })
        .collect()
    }

    /// Another crossover, where one is due.
    fn try_again<const L: usize>(
        &self,
        splitting: &Splitting<'_, L, f64>,
        crossover: &mut Crossover,
        lane: usize,
        table: &mut Table<'_>,
    ) -> Option<Solution> {
        let iterations = splitting.iteration();
        if table.problem.zeta == 0.0 || !is_due(table.tried, iterations) {
            return None;
        }
        table.tried = iterations;
        self.finish(crossover, table.problem, &splitting.iterate(lane), iterations)
    }

    /// Better feasible answers and bounds for the tables that are at no vertex.
    fn improve<const L: usize>(
        &self,
        splitting: &mut Splitting<'_, L, f64>,
        crossover: &mut Crossover,
        tables: &mut [Table<'_>],
        vertices: &[Option<Solution>],
    ) {
        let first = || Best::new(1 << self.variables());
        let pairs = tables.iter_mut().zip(vertices);
        let open = pairs.map(|(table, vertex)| vertex.is_none().then_some(table));
        let mut open: Vec<Option<&mut Table<'_>>> = open.collect();
        let best =
            open.iter_mut().map(|table| Some(table.as_mut()?.best.get_or_insert_with(first)));
        splitting.improve(&mut best.collect::<Vec<_>>());
        for (lane, table) in open.into_iter().enumerate() {
            let Some(table) = table else { continue };
            let due = is_due(table.tried, splitting.iteration());
            if table.problem.zeta > 0.0 || self.settings.largest_basis == 0 || !due {
                continue;
            }
            table.tried = splitting.iteration();
            let near = splitting.iterate(lane).effects;
            let fitted = crossover.fit(table.problem, &near);
            if let (Some(effects), Some(best)) = (fitted, &mut table.best) {
                let cost = self.costs().objective(&effects.and, &effects.or);
                best.offer(effects, cost, table.problem.scale());
            }
        }
    }

    /// Optimal vertices from where a splitting stands after so many iterations, in parallel on the
    /// current rayon pool; `None` where none is found.
    #[cfg(feature = "torch")]
    pub(crate) fn finish_all(
        &self,
        tables: Vec<(&Problem, Iterate)>,
        iterations: usize,
    ) -> Vec<Option<Solution>> {
        let crossover = || Crossover::new(self.variables(), self.costs());
        let finish = |crossover: &mut Crossover, (problem, near): (&Problem, Iterate)| {
            self.finish(crossover, problem, &near, iterations)
        };
        tables.into_par_iter().map_init(crossover, finish).collect()
    }

    fn limits(&self) -> Limits {
        Limits { pivots: MOST_PIVOTS, basis: self.settings.largest_basis }
    }

    /// An optimal vertex from a near-optimal point, if the certificate agrees that it is one.
    fn finish(
        &self,
        crossover: &mut Crossover,
        problem: &Problem,
        near: &Iterate,
        iterations: usize,
    ) -> Option<Solution> {
        let tight = near.dual.iter().filter(|p| **p != 0.0).count();
        let active = near.effects.and.iter().chain(&near.effects.or).filter(|e| **e != 0.0).count();
        if tight.min(active) > self.settings.largest_basis {
            return None;
        }
        let vertex = crossover.solve(problem, &near.effects, &near.dual, self.limits())?;
        let certificate = Certificate::check(problem, self.costs(), &vertex.effects, &vertex.dual);
        (certificate.gap() <= EXACT_GAP).then_some(Solution {
            effects: vertex.effects,
            dual: vertex.dual,
            certificate,
            iterations,
            pivots: vertex.pivots,
            status: Status::Exact,
        })
    }

    /// A feasible answer with what its certificate proves.
    pub(crate) fn certify(
        &self,
        problem: &Problem,
        effects: Interactions,
        dual: Vec<f64>,
        iterations: usize,
    ) -> Solution {
        let certificate = Certificate::check(problem, self.costs(), &effects, &dual);
        let reached = certificate.gap() <= self.settings.gap;
        let status = if reached { Status::Certified } else { Status::GapNotReached };
        Solution { effects, dual, certificate, iterations, pivots: 0, status }
    }
}
