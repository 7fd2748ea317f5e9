//! The solver: splitting for all tables, crossover to a vertex, certificate.
//!
//! Every table gets the same number of iterations of the splitting (module `splitting`). Then its
//! near-optimal point is taken to an optimal vertex (module `crossover`), which is exact: the answer
//! does not depend on how the point was reached. Where there is no room for noise (ζ = 0), where the
//! basis is too large, or where the exchanges fail, the splitting goes on until the gap is proven.

use super::certificate::Certificate;
use super::crossover::Crossover;
use super::problem::{Costs, Problem};
use super::settings::Settings;
use super::splitting::{Best, LANES, Paused, Plan, Splitting};
use crate::interaction::Interactions;
use rayon::prelude::*;

/// What the history records as the solver of a run.
pub const SOLVER_NAME: &str = "halpern-peaceman-rachford, parametric simplex";
/// Raised whenever a change can move an answer beyond its stated tolerance.
pub const SOLVER_VERSION: u32 = 2;

/// A vertex whose certificate proves this gap is exact up to rounding.
pub const EXACT_GAP: f64 = 1e-9;
/// Beyond the common schedule a table is looked at again after 15 % more iterations.
const CHECK_GROWTH: f64 = 1.15;
/// Exchanges after which a crossover gives up; a hundred is usual.
const MOST_PIVOTS: usize = 5_000;

/// How a table ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// An optimal vertex: the certificate proves a gap of at most [`EXACT_GAP`].
    Exact,
    /// The certificate proves a gap of at most the wanted one.
    Certified,
    /// The iterations ran out first: the answer is feasible and carries its true gap, no more.
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
}

/// A table that needs more than the common schedule.
type Straggler<'p> = (Table<'p>, Paused);

/// What a check makes of a table: done, with its number, or paused.
type End<'p> = Result<(usize, Solution), Box<Straggler<'p>>>;

/// The buffers of one thread.
struct Work<'a> {
    splitting: Splitting<'a, LANES>,
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
        let mut check = self.settings.iterations.clamp(1, most);
        let tables = problems.iter().enumerate();
        let tables = tables.map(|(index, problem)| Table { index, problem, best: None, tried: 0 });
        let mut solutions: Vec<Option<Solution>> = problems.iter().map(|_| None).collect();
        let mut stragglers = self.for_groups(tables.collect(), &mut solutions, |work, tables| {
            let problems: Vec<&Problem> = tables.iter().map(|table| table.problem).collect();
            work.splitting.load(&problems);
            self.advance(work, tables, check)
        });
        while !stragglers.is_empty() {
            check = ((check as f64 * CHECK_GROWTH).ceil() as usize).min(most);
            stragglers = self.for_groups(stragglers, &mut solutions, |work, stragglers| {
                let resumed: Vec<(&Problem, &Paused)> =
                    stragglers.iter().map(|(table, paused)| (table.problem, paused)).collect();
                work.splitting.resume(&resumed);
                let tables = stragglers.into_iter().map(|(table, _)| table).collect();
                self.advance(work, tables, check)
            });
        }
        solutions.into_iter().flatten().collect()
    }

    /// Runs `advance` on groups of eight, keeps what is done and gives back the rest, in order.
    fn for_groups<'p, T: Send>(
        &self,
        mut items: Vec<T>,
        solutions: &mut [Option<Solution>],
        advance: impl Fn(&mut Work<'_>, Vec<T>) -> Vec<End<'p>> + Sync,
    ) -> Vec<Straggler<'p>> {
        let mut groups = Vec::with_capacity(items.len().div_ceil(LANES));
        while !items.is_empty() {
            let rest = items.split_off(items.len().min(LANES));
            groups.push(std::mem::replace(&mut items, rest));
        }
        let work = || Work {
            splitting: Splitting::new(&self.plan),
            crossover: Crossover::new(self.variables(), self.costs()),
        };
        let ended: Vec<_> =
            groups.into_par_iter().map_init(work, &advance).flatten_iter().collect();
        let mut stragglers = Vec::new();
        for end in ended {
            match end {
                Ok((index, solution)) => solutions[index] = Some(solution),
                Err(straggler) => stragglers.push(*straggler),
            }
        }
        stragglers
    }

    /// Iterates the loaded tables until `check` and looks at each: done, or paused.
    fn advance<'p>(
        &self,
        work: &mut Work<'_>,
        tables: Vec<Table<'p>>,
        check: usize,
    ) -> Vec<End<'p>> {
        let Work { splitting, crossover } = work;
        let problems: Vec<&Problem> = tables.iter().map(|table| table.problem).collect();
        splitting.iterate_until(check);
        let mut vertices: Vec<Option<Solution>> = Vec::with_capacity(tables.len());
        let mut lanes: Vec<Option<Table<'_>>> = Vec::with_capacity(tables.len());
        for (lane, mut table) in tables.into_iter().enumerate() {
            let due = check >= 2 * table.tried;
            let vertex = due.then(|| self.cross_over(splitting, crossover, lane, table.problem));
            table.tried = if due { check } else { table.tried };
            vertices.push(vertex.flatten());
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
                let Some(best) = best.filter(|_| problems[lane].zeta == 0.0) else { continue };
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
                (None, Some(best)) => Ok((table.index, self.certify(table.problem, best, check))),
                (None, None) => Err(Box::new((table, splitting.pause(lane)))),
            }
        })
        .collect()
    }

    /// An optimal vertex from where the splitting stands, if the certificate agrees that it is one.
    fn cross_over(
        &self,
        splitting: &Splitting<'_, LANES>,
        crossover: &mut Crossover,
        lane: usize,
        problem: &Problem,
    ) -> Option<Solution> {
        let near = splitting.iterate(lane);
        let tight = near.dual.iter().filter(|p| **p != 0.0).count();
        let active = near.effects.and.iter().chain(&near.effects.or).filter(|e| **e != 0.0).count();
        if tight.min(active) > self.settings.largest_basis {
            return None;
        }
        let vertex = crossover.solve(problem, &near.effects, &near.dual, MOST_PIVOTS)?;
        let certificate = Certificate::check(problem, self.costs(), &vertex.effects, &vertex.dual);
        (certificate.gap() <= EXACT_GAP).then_some(Solution {
            effects: vertex.effects,
            dual: vertex.dual,
            certificate,
            iterations: splitting.iteration(),
            pivots: vertex.pivots,
            status: Status::Exact,
        })
    }

    fn certify(&self, problem: &Problem, best: Best, iterations: usize) -> Solution {
        let Best { effects, dual, .. } = best;
        let certificate = Certificate::check(problem, self.costs(), &effects, &dual);
        let reached = certificate.gap() <= self.settings.gap;
        let status = if reached { Status::Certified } else { Status::GapNotReached };
        Solution { effects, dual, certificate, iterations, pivots: 0, status }
    }
}
