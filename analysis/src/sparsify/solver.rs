//! The solver: splitting for all tables, crossover to a vertex, certificate.
//!
//! Every table gets the same number of iterations of the splitting (module `splitting`), in single
//! precision: they only have to find out which effects take part. Then its near-optimal point is taken
//! to an optimal vertex (module `crossover`), which is exact: the answer does not depend on how the
//! point was reached. Where there is no room for noise (ζ = 0), where the basis is too large, or where
//! the exchanges fail, a feasible answer and a bound are made from the point in double precision, and
//! while they do not prove the gap the splitting goes on so.

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
/// Tables that are on their way at once, for each thread: those without a vertex are kept meanwhile.
const TABLES_A_THREAD: usize = 64;
/// Tables of numbers that are kept of each: three of its point, three of its anchor, and the best
/// answer with its dual.
const TABLES_KEPT: usize = 9;
/// Beyond the common schedule a table is looked at again after 15 % more iterations.
#[doc(hidden)]
pub const CHECK_GROWTH: f64 = 1.15;
/// Exchanges after which a crossover gives up: a hundred is usual, 600 the most on golden tables; games
/// that are symmetric in all variables take thousands from n = 9 on.
const MOST_PIVOTS: usize = 5_000;

/// Whether a crossover is worth a try: at first, and each time that the iterations have doubled.
#[doc(hidden)]
pub fn is_due(tried: usize, iterations: usize) -> bool {
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
    /// Iterations after which a crossover, or a fit where there is no noise, was tried last.
    tried: usize,
    /// Where it stands.
    paused: Paused,
}

/// A fresh table, and its number.
type Fresh<'p> = (usize, &'p Problem);

/// Effects that give every value exactly.
#[doc(hidden)]
pub struct Fit {
    /// They.
    pub effects: Interactions,
    /// What they cost.
    pub cost: f64,
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

    /// Bytes that each thread works with beside problems and answers: a group of tables, the crossover
    /// with its basis at the largest, and the tables that have not found a vertex.
    pub fn batch_bytes(&self) -> usize {
        let largest = self.settings.largest_basis.min(1 << self.variables());
        let kept = (TABLES_A_THREAD * TABLES_KEPT * size_of::<f64>()) << self.variables();
        self.plan.splitting_bytes() + Crossover::bytes(self.variables(), largest) + kept
    }

    /// Solves all problems, in parallel over groups on the current rayon pool. An answer depends on its
    /// table alone, not on its neighbours, its place or the number of threads.
    ///
    /// # Panics
    /// When a problem has another number of variables.
    pub fn solve(&self, problems: &[Problem]) -> Vec<Solution> {
        self.solve_from::<ROUGH_LANES, { ROUGH_LANES / 2 }, _>(&self.plan.rough, problems)
    }

    /// The same with all iterations in double precision, as on a device.
    #[doc(hidden)]
    pub fn solve_in_double(&self, problems: &[Problem]) -> Vec<Solution> {
        self.solve_from::<LANES, { LANES / 2 }, _>(&self.plan.exact, problems)
    }

    fn solve_from<const FULL: usize, const HALF: usize, T: Real>(
        &self,
        numbers: &Numbers<T>,
        problems: &[Problem],
    ) -> Vec<Solution> {
        let fits = problems.iter().all(|problem| problem.variables == self.variables());
        assert!(fits, "every problem has {} variables", self.variables());
        let at_once = TABLES_A_THREAD * rayon::current_num_threads();
        let solve = |problems| self.solve_some::<FULL, HALF, T>(numbers, problems);
        problems.chunks(at_once).flat_map(solve).collect()
    }

    fn solve_some<const FULL: usize, const HALF: usize, T: Real>(
        &self,
        numbers: &Numbers<T>,
        problems: &[Problem],
    ) -> Vec<Solution> {
        let most = self.settings.most_iterations.max(1);
        let mut check = self.settings.iterations.clamp(1, most);
        let mut solutions: Vec<Option<Solution>> = problems.iter().map(|_| None).collect();
        let fresh: Vec<Fresh<'_>> = problems.iter().enumerate().collect();
        let mut ends = self.start_all::<FULL, HALF, T>(numbers, &fresh, check);
        self.start_diverged_again(&mut ends, check);
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

    /// A table that left the range of single precision starts again in double precision.
    fn start_diverged_again<'p>(&self, ends: &mut [End<'p>], check: usize) {
        let diverged = |(place, end): (usize, &End<'p>)| match end {
            Err(table) if !table.paused.is_finite() => Some((place, table.problem)),
            _ => None,
        };
        let places: Vec<Fresh<'p>> = ends.iter().enumerate().filter_map(diverged).collect();
        for end in self.start_all::<LANES, { LANES / 2 }, _>(&self.plan.exact, &places, check) {
            // What a fresh table is numbered by is its place here.
            match end {
                Ok((place, solution)) => {
                    if let Err(table) = &ends[place] {
                        ends[place] = Ok((table.index, solution));
                    }
                }
                Err(again) => {
                    if let Err(table) = &mut ends[again.index] {
                        **table = Table { index: table.index, ..*again };
                    }
                }
            }
        }
    }

    /// Iterates fresh tables until `check` and takes to a vertex what it can.
    fn start_all<'p, const FULL: usize, const HALF: usize, T: Real>(
        &self,
        numbers: &Numbers<T>,
        tables: &[Fresh<'p>],
        check: usize,
    ) -> Vec<End<'p>> {
        // A row that is not full costs as much as one that is; a thread without work costs more.
        let most = tables.len().div_ceil(rayon::current_num_threads()).clamp(HALF, FULL);
        let start = |work: &mut Work<'_, FULL, HALF, T>, group: &[Fresh<'p>]| {
            if group.len() <= HALF {
                self.start(&mut work.half, &mut work.crossover, group, check)
            } else {
                self.start(&mut work.full, &mut work.crossover, group, check)
            }
        };
        tables.par_chunks(most).map_init(|| self.work(numbers), start).flatten_iter().collect()
    }

    /// Iterates paused tables, all equally far, until `check`.
    fn advance_all<'p>(&self, mut tables: Vec<Table<'p>>, check: usize) -> Vec<End<'p>> {
        let mut groups = Vec::with_capacity(tables.len().div_ceil(LANES));
        while !tables.is_empty() {
            let rest = tables.split_off(tables.len().min(LANES));
            groups.push(std::mem::replace(&mut tables, rest));
        }
        let work = || self.work::<LANES, { LANES / 2 }, _>(&self.plan.exact);
        let advance = |work: &mut Work<'_, _, _, f64>, group: Vec<Table<'p>>| {
            if group.len() <= LANES / 2 {
                self.advance(&mut work.half, &mut work.crossover, group, check)
            } else {
                self.advance(&mut work.full, &mut work.crossover, group, check)
            }
        };
        groups.into_par_iter().map_init(work, advance).flatten_iter().collect()
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
    fn start<'p, const L: usize, T: Real>(
        &self,
        splitting: &mut Splitting<'_, L, T>,
        crossover: &mut Crossover,
        tables: &[Fresh<'p>],
        check: usize,
    ) -> Vec<End<'p>> {
        let problems: Vec<&Problem> = tables.iter().map(|(_, problem)| *problem).collect();
        splitting.load(&problems);
        splitting.iterate_until(check);
        let mut look = |(lane, &(index, problem)): (usize, &Fresh<'p>)| {
            // Without noise there is no vertex to go to, but perhaps a fit, when it goes on.
            let is_noisy = problem.zeta > 0.0;
            let near = is_noisy.then(|| splitting.iterate(lane));
            let vertex = near.and_then(|near| self.finish(crossover, problem, &near, check));
            vertex.map(|vertex| (index, vertex)).ok_or_else(|| {
                let tried = if is_noisy { check } else { 0 };
                let paused = splitting.pause(lane);
                Box::new(Table { index, problem, best: None, tried, paused })
            })
        };
        tables.iter().enumerate().map(&mut look).collect()
    }

    /// Iterates a paused group until `check` and looks at each table: done, or paused again.
    fn advance<'p, const L: usize>(
        &self,
        splitting: &mut Splitting<'_, L, f64>,
        crossover: &mut Crossover,
        mut tables: Vec<Table<'p>>,
        check: usize,
    ) -> Vec<End<'p>> {
        let paused = tables.iter().map(|table| (table.problem, &table.paused));
        splitting.resume(&paused.collect::<Vec<_>>());
        splitting.iterate_until(check);
        let vertices: Vec<Option<Solution>> = tables
            .iter_mut()
            .enumerate()
            .map(|(lane, table)| self.try_again(splitting, crossover, lane, table))
            .collect();
        if vertices.iter().any(Option::is_none) {
            self.improve(splitting, crossover, &mut tables, &vertices);
        }
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
                    table.paused = splitting.pause(lane);
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
            if table.problem.zeta > 0.0 || !is_due(table.tried, splitting.iteration()) {
                continue;
            }
            table.tried = splitting.iteration();
            let near = splitting.iterate(lane).effects;
            let fitted = self.fit(crossover, table.problem, &near);
            if let (Some(Fit { effects, cost }), Some(best)) = (fitted, &mut table.best) {
                best.offer(effects, cost, table.problem.scale());
            }
        }
    }

    /// Optimal vertices from where a splitting stands after so many iterations, in parallel on the
    /// current rayon pool; `None` where none is found.
    #[doc(hidden)]
    pub fn finish_all(
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

    /// Where there is no noise, effects on the support where a splitting stands that give every value
    /// exactly, with their cost, in parallel; `None` where there are none such.
    #[doc(hidden)]
    pub fn fit_all(&self, tables: Vec<(&Problem, Iterate)>) -> Vec<Option<Fit>> {
        let crossover = || Crossover::new(self.variables(), self.costs());
        let fit = |crossover: &mut Crossover, (problem, near): (&Problem, Iterate)| {
            self.fit(crossover, problem, &near.effects)
        };
        tables.into_par_iter().map_init(crossover, fit).collect()
    }

    fn fit(
        &self,
        crossover: &mut Crossover,
        problem: &Problem,
        near: &Interactions,
    ) -> Option<Fit> {
        if problem.zeta > 0.0 || self.settings.largest_basis == 0 {
            return None;
        }
        let effects = crossover.fit(problem, near)?;
        let cost = self.costs().objective(&effects.and, &effects.or);
        Some(Fit { effects, cost })
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
    #[doc(hidden)]
    pub fn certify(
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables of a smooth game with some noise of their own.
    fn problems(variables: usize, count: usize) -> Vec<Problem> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut value = |s: usize| (s.count_ones() as f64).sqrt() + 0.1 * random.f64();
        let mut table = || (0..1 << variables).map(&mut value).collect::<Vec<f64>>();
        (0..count).map(|_| Problem::new(&table(), 0.01).expect("a good table")).collect()
    }

    /// No table is known that leaves the range of single precision, so here one is put there.
    #[test]
    fn a_table_that_diverged_is_solved_as_in_double_precision() {
        let settings = Settings { largest_basis: 0, ..Settings::default() };
        let solver = Solver::new(5, settings);
        let problems = problems(5, 3);
        let fresh: Vec<Fresh<'_>> = problems.iter().enumerate().collect();
        let rough = &solver.plan.rough;
        let mut ends = solver.start_all::<ROUGH_LANES, { ROUGH_LANES / 2 }, _>(rough, &fresh, 50);
        let state = |end: &End<'_>| match end {
            Err(table) => (table.index, table.paused.clone_state()),
            Ok(_) => unreachable!("without a basis there is no vertex"),
        };
        let before: Vec<_> = ends.iter().map(state).collect();
        if let Err(table) = &mut ends[1] {
            table.paused.spoil();
        }
        solver.start_diverged_again(&mut ends, 50);
        let exact = &solver.plan.exact;
        let double = solver.start_all::<LANES, { LANES / 2 }, _>(exact, &fresh[1..2], 50);
        for (index, end) in ends.iter().enumerate() {
            let wanted = if index == 1 { state(&double[0]) } else { before[index].clone() };
            assert_eq!(state(end), wanted, "table {index}");
        }
    }
}
