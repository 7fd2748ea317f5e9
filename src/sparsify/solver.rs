//! The solver: splitting for all tables, crossover to a vertex, certificate.
//!
//! Every table gets the same number of iterations of the splitting (module `splitting`). Then its
//! near-optimal point is taken to an optimal vertex (module `crossover`), which is exact: the answer
//! does not depend on how the point was reached. Where there is no room for noise (ζ = 0), where the
//! basis is too large, or where the exchanges fail, the splitting goes on until the gap is proven.

use super::certificate::Certificate;
use super::crossover::{Crossover, Limits};
use super::problem::{Costs, Problem};
use super::settings::Settings;
use super::splitting::{Best, FEW_LANES, Iterate, LANES, Paused, Plan, Splitting};
use crate::interaction::Interactions;
use rayon::prelude::*;

/// What the history records as the solver of a run.
pub const SOLVER_NAME: &str = "halpern-peaceman-rachford, parametric simplex";
/// Raised whenever a change can move an answer beyond its stated tolerance.
pub const SOLVER_VERSION: u32 = 2;

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

/// The buffers of one thread.
struct Work<'a> {
    full: Splitting<'a, LANES>,
    few: Splitting<'a, FEW_LANES>,
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

    /// Bytes that each thread works with beside problems and answers: the batch of eight tables, and
    /// the crossover with its basis at the largest.
    pub fn batch_bytes(&self) -> usize {
        let largest = self.settings.largest_basis.min(1 << self.variables());
        self.plan.splitting_bytes() + Crossover::bytes(self.variables(), largest)
    }

    /// Solves all problems, in parallel over groups of eight on the current rayon pool. An answer
    /// depends on its table alone, not on its neighbours, its place or the number of threads.
    ///
    /// # Panics
    /// When a problem has another number of variables.
    pub fn solve(&self, problems: &[Problem]) -> Vec<Solution> {
        let fits = problems.iter().all(|problem| problem.variables == self.variables());
        assert!(fits, "every problem has {} variables", self.variables());
        let most = self.settings.most_iterations.max(1);
        let mut stragglers = Vec::new();
        let mut check = self.settings.iterations.clamp(1, most);
        let tables = problems.iter().enumerate();
        let fresh = |(index, problem)| Table { index, problem, best: None, tried: 0, paused: None };
        let mut solutions: Vec<Option<Solution>> = problems.iter().map(|_| None).collect();
        let mut open: Vec<Table<'_>> = tables.map(fresh).collect();
        while !open.is_empty() {
            for end in self.advance_all(open, check) {
                match end {
                    Ok((index, solution)) => solutions[index] = Some(solution),
                    Err(table) => stragglers.push(*table),
                }
            }
            open = std::mem::take(&mut stragglers);
            check = ((check as f64 * CHECK_GROWTH).ceil() as usize).min(most);
        }
        solutions.into_iter().flatten().collect()
    }

    /// Iterates tables, all equally far, until `check`, in groups of eight.
    fn advance_all<'p>(&self, mut tables: Vec<Table<'p>>, check: usize) -> Vec<End<'p>> {
        let mut groups = Vec::with_capacity(tables.len().div_ceil(LANES));
        while !tables.is_empty() {
            let rest = tables.split_off(tables.len().min(LANES));
            groups.push(std::mem::replace(&mut tables, rest));
        }
        let work = || Work {
            full: Splitting::new(&self.plan),
            few: Splitting::new(&self.plan),
            crossover: Crossover::new(self.variables(), self.costs()),
        };
        let advance = |Work { full, few, crossover }: &mut Work<'_>, group: Vec<Table<'p>>| {
            if group.len() <= FEW_LANES {
                self.advance(few, crossover, group, check)
            } else {
                self.advance(full, crossover, group, check)
            }
        };
        groups.into_par_iter().map_init(work, advance).flatten_iter().collect()
    }

    /// Iterates a group until `check` and looks at each table: done, or paused.
    fn advance<'p, const L: usize>(
        &self,
        splitting: &mut Splitting<'_, L>,
        crossover: &mut Crossover,
        tables: Vec<Table<'p>>,
        check: usize,
    ) -> Vec<End<'p>> {
        let problems: Vec<&Problem> = tables.iter().map(|table| table.problem).collect();
        let paused = tables.iter().map(|table| Some((table.problem, table.paused.as_ref()?)));
        match paused.collect::<Option<Vec<_>>>() {
            Some(paused) => splitting.resume(&paused),
            None => splitting.load(&problems),
        }
        splitting.iterate_until(check);
        let mut vertices: Vec<Option<Solution>> = Vec::with_capacity(tables.len());
        let mut lanes: Vec<Option<Table<'_>>> = Vec::with_capacity(tables.len());
        // All tables of a group are equally far.
        let due = tables.iter().any(|table| is_due(table.tried, check));
        for (lane, mut table) in tables.into_iter().enumerate() {
            let near = due.then(|| splitting.iterate(lane));
            let vertex = near.and_then(|near| {
                self.finish(crossover, table.problem, &near, splitting.iteration())
            });
            table.tried = if due { check } else { table.tried };
            vertices.push(vertex);
            lanes.push(Some(table));
        }
        if vertices.iter().any(Option::is_none) {
            let first_best = || Best::new(1 << self.variables());
            let open = lanes.iter_mut().zip(&vertices);
            let mut best: Vec<Option<&mut Best>> = open
                .map(|(table, vertex)| match (table, vertex) {
                    (Some(table), None) => Some(table.best.get_or_insert_with(first_best)),
                    _ => None,
                })
                .collect();
            splitting.improve(&mut best);
            for (lane, best) in best.into_iter().enumerate() {
                let wanted = problems[lane].zeta == 0.0 && self.settings.largest_basis > 0 && due;
                let Some(best) = best.filter(|_| wanted) else { continue };
                let near = splitting.iterate(lane).effects;
                if let Some(effects) = crossover.fit(problems[lane], &near) {
                    let cost = self.costs().objective(&effects.and, &effects.or);
                    best.offer(effects, cost, problems[lane].scale());
                }
            }
        }
        let last = check >= self.settings.most_iterations;
        let ends = lanes.into_iter().flatten().zip(vertices).enumerate();
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
