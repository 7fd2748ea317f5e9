//! B tables on their way; what they share beside the plan is the number of the iteration.

use super::TensorError;
use super::metric::{self, Steps};
use super::plan::Plan;
use super::projection::Work;
use crate::interaction::Interactions;
use crate::sparsify::Problem;
use crate::sparsify::solver::{CHECK_GROWTH, is_due};
use crate::sparsify::splitting::{
    ADAPT_AT, ANCHOR_AGE_SHARE, DUAL_ROUNDS, Iterate, LEAST_ANCHOR_AGE,
};
use tch::{Kind, Tensor};

/// The best feasible answer that was found for one table, in its own units.
pub(super) struct Answer {
    /// Index of the problem.
    pub(super) index: usize,
    pub(super) effects: Interactions,
    pub(super) dual: Vec<f64>,
}

/// How long a batch works.
#[derive(Clone, Copy)]
pub(super) struct Schedule {
    pub(super) gap: f64,
    pub(super) most_iterations: usize,
}

/// A table on the host.
#[derive(Clone, Copy)]
struct Table {
    index: usize,
    scale: f64,
    zeta: f64,
    /// Iterations after which a crossover failed last; 0 before the first.
    tried: usize,
}

pub(super) struct Batch<'a> {
    plan: &'a Plan,
    tables: Vec<Table>,
    columns: Columns,
    blocks: Vec<Tensor>,
    anchored: bool,
    anchor_age: usize,
    /// Iterations done; the next check takes place after `next_check` of them.
    iteration: usize,
    next_check: usize,
}

/// What each table has of its own on the device; the batch is the last dimension.
struct Columns {
    /// v(S) − v(∅), scaled, [2^n, B], and the same in the spin basis, [2^high, 2^low, B].
    values: Tensor,
    spin_values: Tensor,
    /// [1, B].
    zeta: Tensor,
    /// [3, n + 1, B].
    metric: Tensor,
    /// t = (x, y, δ), [3, 2^n, B].
    state: Tensor,
    anchor: Tensor,
    /// The best so far: x and y [2, 2^n, B], p [2^n, B], Σ c|x| + Σ d|y| and the bound, [B].
    effects: Tensor,
    dual: Tensor,
    objective: Tensor,
    bound: Tensor,
}

/// What a batch needs only while it iterates.
struct Workspace {
    steps: Steps,
    clipped: Tensor,
    /// 2z − t.
    reflected: Tensor,
    work: Work,
}

impl Workspace {
    fn new(plan: &Plan, columns: &Columns) -> Result<Self, TensorError> {
        Ok(Self {
            steps: Steps::new(plan, &columns.metric, &columns.zeta)?,
            clipped: columns.state.f_zeros_like()?,
            reflected: columns.state.f_zeros_like()?,
            work: plan.projection.work(columns.state.size()[2], plan.device)?,
        })
    }
}

impl Columns {
    fn new(plan: &Plan, problems: &[Problem], tables: &[Table]) -> Result<Self, TensorError> {
        let (length, count) = (plan.length() as i64, tables.len() as i64);
        let scaled = |(problem, table): (&Problem, &Table)| -> Vec<f64> {
            problem.values.iter().map(|v| v / table.scale).collect()
        };
        let rows: Vec<f64> = problems.iter().zip(tables).flat_map(scaled).collect();
        let values =
            plan.upload(&rows)?.f_view([count, length])?.f_transpose(0, 1)?.f_contiguous()?;
        let zetas: Vec<f64> = tables.iter().map(|table| table.zeta).collect();
        let metric = plan.upload(&metric::start(plan.variables, &zetas))?;
        let zeros = |size: &[i64]| Tensor::f_zeros(size, (Kind::Double, plan.device));
        let work = plan.projection.work(count, plan.device)?;
        Ok(Self {
            spin_values: plan.projection.values(&values, &work)?,
            values,
            zeta: plan.upload(&zetas)?.f_unsqueeze(0)?,
            metric: metric.f_view([3, plan.variables as i64 + 1, count])?,
            state: zeros(&[3, length, count])?,
            anchor: zeros(&[3, length, count])?,
            effects: zeros(&[2, length, count])?,
            dual: zeros(&[length, count])?,
            objective: Tensor::f_full([count], f64::INFINITY, (Kind::Double, plan.device))?,
            bound: zeros(&[count])?,
        })
    }

    /// The same of other tables, each tensor made from the two that correspond.
    fn zip(
        &self,
        other: &Self,
        f: impl Fn(&Tensor, &Tensor) -> Result<Tensor, tch::TchError>,
    ) -> Result<Self, TensorError> {
        Ok(Self {
            values: f(&self.values, &other.values)?,
            spin_values: f(&self.spin_values, &other.spin_values)?,
            zeta: f(&self.zeta, &other.zeta)?,
            metric: f(&self.metric, &other.metric)?,
            state: f(&self.state, &other.state)?,
            anchor: f(&self.anchor, &other.anchor)?,
            effects: f(&self.effects, &other.effects)?,
            dual: f(&self.dual, &other.dual)?,
            objective: f(&self.objective, &other.objective)?,
            bound: f(&self.bound, &other.bound)?,
        })
    }
}

impl<'a> Batch<'a> {
    /// Starts tables; `first` is the index of the first problem.
    pub(super) fn new(
        plan: &'a Plan,
        problems: &[Problem],
        first: usize,
        first_check: usize,
    ) -> Result<Self, TensorError> {
        let table = |(i, problem): (usize, &Problem)| {
            let scale = if problem.scale() == 0.0 { 1.0 } else { problem.scale() };
            Table { index: first + i, scale, zeta: problem.zeta / scale, tried: 0 }
        };
        let tables: Vec<Table> = problems.iter().enumerate().map(table).collect();
        let columns = Columns::new(plan, problems, &tables)?;
        Ok(Self {
            blocks: plan.projection.factor(&columns.metric)?,
            plan,
            tables,
            columns,
            anchored: false,
            anchor_age: 0,
            iteration: 0,
            next_check: first_check,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.tables.len()
    }

    /// How many iterations are done.
    pub(super) fn iteration(&self) -> usize {
        self.iteration
    }

    /// The iteration at which it is looked at again.
    pub(super) fn next_check(&self) -> usize {
        self.next_check
    }

    /// Whether both stand at the same iteration, so that they can go on together.
    pub(super) fn keeps_step_with(&self, other: &Self) -> bool {
        self.iteration == other.iteration && self.next_check == other.next_check
    }

    /// Both batches as one; they keep step.
    pub(super) fn join(self, other: Self) -> Result<Self, TensorError> {
        let columns = self.columns.zip(&other.columns, |a, b| Tensor::f_cat(&[a, b], -1))?;
        let pairs = self.blocks.iter().zip(&other.blocks);
        let blocks: Result<_, _> = pairs.map(|(a, b)| Tensor::f_cat(&[a, b], 0)).collect();
        let tables = [&self.tables[..], &other.tables].concat();
        Ok(Self { tables, columns, blocks: blocks?, ..self })
    }

    /// Iterates up to the next check.
    pub(super) fn iterate(&mut self) -> Result<(), TensorError> {
        let mut workspace = Workspace::new(self.plan, &self.columns)?;
        while self.iteration < self.next_check {
            self.advance(&mut workspace)?;
        }
        Ok(())
    }

    /// Where the tables stand that are due for a crossover, which they count as tried from now on:
    /// the index of the problem, the prox of the state, which is exactly sparse, and the dual of δ.
    pub(super) fn due(&mut self) -> Result<Vec<(usize, Iterate)>, TensorError> {
        let iteration = self.iteration;
        let is_due = |&table: &usize| is_due(self.tables[table].tried, iteration);
        let due: Vec<usize> = (0..self.len()).filter(is_due).collect();
        due.iter().for_each(|&table| self.tables[table].tried = iteration);
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let Columns { state, metric, zeta, .. } = &self.columns;
        let Steps { bound, minus_bound, .. } = Steps::new(self.plan, metric, zeta)?;
        // Of x and y this is z, of δ the dual times D.
        let rest = state.f_sub(&state.f_clamp_tensor(Some(&minus_bound), Some(&bound))?)?;
        let of_noise = metric.f_get(2)?.f_index_select(0, &self.plan.orders)?;
        let and = self.rows(&rest.f_get(0)?, &due, |table| table.scale)?;
        let or = self.rows(&rest.f_get(1)?, &due, |table| table.scale)?;
        let dual = self.rows(&rest.f_get(2)?.f_div(&of_noise)?, &due, |_| 1.0)?;
        let iterate = |(and, (or, dual))| Iterate { effects: Interactions { and, or }, dual };
        let iterates = and.into_iter().zip(or.into_iter().zip(dual)).map(iterate);
        Ok(due.iter().map(|&table| self.tables[table].index).zip(iterates).collect())
    }

    /// The batch without the tables that `is_done` says are done with, by the index of the problem.
    pub(super) fn without(
        self,
        is_done: impl Fn(usize) -> bool,
    ) -> Result<Option<Self>, TensorError> {
        let left: Vec<usize> =
            (0..self.len()).filter(|&table| !is_done(self.tables[table].index)).collect();
        if left.is_empty() {
            return Ok(None);
        }
        Ok(Some(if left.len() == self.len() { self } else { self.narrow(&left)? }))
    }

    /// Improves the best answers and sets the next check. Gives those that are good enough, or that
    /// the iterations have run out for, and what is left.
    pub(super) fn check(
        mut self,
        schedule: Schedule,
    ) -> Result<(Vec<Answer>, Option<Self>), TensorError> {
        let workspace = Workspace::new(self.plan, &self.columns)?;
        self.evaluate_dual(&workspace)?;
        let z = workspace.reflected.f_add(&self.columns.state)?.f_mul_scalar(0.5)?;
        self.improve_dual(&workspace)?;
        self.repair_primal(&z, &workspace)?;
        drop(workspace);
        let is_done = self.done(schedule)?;
        let (done, left): (Vec<usize>, _) = (0..self.len()).partition(|&table| is_done[table]);
        let answers = self.answers(&done)?;
        let next_check = (self.next_check as f64 * CHECK_GROWTH).ceil() as usize;
        self.next_check = next_check.min(schedule.most_iterations);
        let rest = match (left.is_empty(), done.is_empty()) {
            (true, _) => None,
            (false, true) => Some(self),
            (false, false) => Some(self.narrow(&left)?),
        };
        Ok((answers, rest))
    }

    fn advance(&mut self, workspace: &mut Workspace) -> Result<(), TensorError> {
        self.iteration += 1;
        self.evaluate_dual(workspace)?;
        self.reflect(workspace)?;
        self.pull_to_anchor()?;
        if ADAPT_AT.contains(&self.iteration) {
            self.adapt_metric(workspace)?;
        }
        Ok(())
    }

    /// reflected ← 2z − t = t − 2·clip(t) for x and y, 2·clip(t) − t for δ; then
    /// p = H⁻¹ (v − K(2z − t)) and adjoint ← Kᵀ p.
    fn evaluate_dual(&self, workspace: &Workspace) -> Result<(), TensorError> {
        let Workspace { steps, clipped, reflected, work } = workspace;
        let state = &self.columns.state;
        state
            .f_clamp_tensor_out(clipped, Some(&steps.minus_bound), Some(&steps.bound))
            .map(drop)?;
        let effects = |tensor: &Tensor| tensor.f_narrow(0, 0, 2);
        let noise = |tensor: &Tensor| tensor.f_get(2);
        let minus_two = &self.plan.minus_two;
        effects(state)?
            .f_addcmul_out(&effects(reflected)?, &effects(clipped)?, minus_two)
            .map(drop)?;
        noise(state)?.f_lerp_scalar_out(&noise(reflected)?, &noise(clipped)?, 2.0).map(drop)?;
        let projection = &self.plan.projection;
        projection.adjoint_of_solved(reflected, &self.columns.spin_values, &self.blocks, work)
    }

    /// t ← T(t) = 2z − t + 2 D Kᵀ p.
    fn reflect(&self, workspace: &Workspace) -> Result<(), TensorError> {
        let Workspace { steps, reflected, work, .. } = workspace;
        reflected.f_addcmul_out(&self.columns.state, &work.adjoint, &steps.twice).map(drop)?;
        Ok(())
    }

    /// t ← t₀/(h+1) + h/(h+1)·t, with a new anchor t₀ when the old one has aged.
    fn pull_to_anchor(&mut self) -> Result<(), TensorError> {
        let Columns { state, anchor, .. } = &mut self.columns;
        if !self.anchored {
            anchor.f_copy_(state)?;
            (self.anchored, self.anchor_age) = (true, 0);
            return Ok(());
        }
        self.anchor_age += 1;
        state.f_lerp_(anchor, 1.0 / (self.anchor_age as f64 + 1.0)).map(drop)?;
        let oldest = (self.iteration as f64 * ANCHOR_AGE_SHARE) as usize;
        self.anchored = self.anchor_age < oldest.max(LEAST_ANCHOR_AGE);
        Ok(())
    }

    fn adapt_metric(&mut self, workspace: &mut Workspace) -> Result<(), TensorError> {
        self.anchored = false;
        let Columns { metric, state, zeta, .. } = &mut self.columns;
        let zetas: Vec<f64> = self.tables.iter().map(|table| table.zeta).collect();
        metric::adapt(self.plan, metric, state, &workspace.steps, &zetas)?;
        workspace.steps = Steps::new(self.plan, metric, zeta)?;
        self.blocks = self.plan.projection.factor(metric)?;
        Ok(())
    }

    /// Keeps the best dual of each table, first as it is, then after rounds that alternately clip Kᵀp
    /// into the feasible box and project back onto the range of Kᵀ in the metric.
    fn improve_dual(&mut self, workspace: &Workspace) -> Result<(), TensorError> {
        let (plan, Workspace { steps, work, .. }) = (self.plan, workspace);
        let no_values = self.columns.spin_values.f_zeros_like()?;
        for round in 0..=DUAL_ROUNDS {
            self.keep_better_dual(&work.adjoint)?;
            if round == DUAL_ROUNDS {
                break;
            }
            // v − K·point is K D clip(Kᵀp) for v = 0 and this point.
            let clipped =
                work.adjoint.f_clamp_tensor(Some(&plan.minus_dual_box), Some(&plan.dual_box))?;
            let point = clipped.f_mul(&steps.twice)?.f_mul_scalar(-0.5)?;
            plan.projection.adjoint_of_solved(&point, &no_values, &self.blocks, work)?;
        }
        Ok(())
    }

    /// Compares the dual in `adjoint` with the best bound of each table.
    fn keep_better_dual(&mut self, adjoint: &Tensor) -> Result<(), TensorError> {
        let (plan, Columns { values, zeta, dual, bound, .. }) = (self.plan, &mut self.columns);
        let of_effects = adjoint.f_narrow(0, 0, 2)?.f_abs()?.f_mul(&plan.dual_weights)?;
        let excess = of_effects.f_amax([0, 1].as_slice(), false)?;
        let p = adjoint.f_get(2)?;
        let gain = p.f_mul(values)?.f_sub(&p.f_abs()?.f_mul(zeta)?)?;
        // The entry of ∅ carries a sum (see the projection).
        let gain = gain.f_narrow(0, 1, plan.length() as i64 - 1)?;
        let found = gain.f_sum_dim_intlist([0].as_slice(), false, Kind::Double)?.f_div(&excess)?;
        let better = found.f_gt_tensor(bound)?;
        *dual = p.f_where_self(&better, dual)?;
        *bound = found.f_where_self(&better, bound)?;
        Ok(())
    }

    /// Makes z feasible: one projection onto K w = v in the metric, then what still exceeds ζ goes into
    /// AND effects where |S| ≥ n/2 and into OR effects below. Keeps the best of each table.
    fn repair_primal(&mut self, z: &Tensor, workspace: &Workspace) -> Result<(), TensorError> {
        let (plan, Columns { values, spin_values, zeta, .. }) = (self.plan, &self.columns);
        let Workspace { steps, work, .. } = workspace;
        plan.projection.adjoint_of_solved(z, spin_values, &self.blocks, work)?;
        let step = work.adjoint.f_mul(&steps.twice)?.f_mul_scalar(0.5)?;
        let point = z.f_add(&step)?;
        let (x, y) = (point.f_get(0)?, point.f_get(1)?);
        let explained = plan.transforms.zeta(&x)?.f_add(&plan.transforms.or(&y)?)?;
        let residual = values.f_sub(&explained)?;
        let excess = residual.f_sub(&residual.f_clamp_tensor(Some(&zeta.f_neg()?), Some(zeta))?)?;
        let high = excess.f_mul(&plan.is_high)?;
        let into_and = plan.transforms.moebius(&high)?;
        let into_or = plan.transforms.or_inverse(&excess.f_sub(&high)?)?;
        // An OR of order 1 is an AND.
        let singles = into_or.f_mul(&plan.is_single)?;
        let x = x.f_add(&into_and)?.f_add(&singles)?;
        let y = y.f_add(&into_or.f_sub(&singles)?)?;
        self.keep_better_primal(&Tensor::f_stack(&[x, y], 0)?)
    }

    fn keep_better_primal(&mut self, found: &Tensor) -> Result<(), TensorError> {
        let Columns { effects, objective, .. } = &mut self.columns;
        let costs = found.f_abs()?.f_mul(&self.plan.costs.f_narrow(0, 0, 2)?)?;
        let cost = costs.f_sum_dim_intlist([0, 1].as_slice(), false, Kind::Double)?;
        let better = cost.f_lt_tensor(objective)?;
        *effects = found.f_where_self(&better, effects)?;
        *objective = cost.f_where_self(&better, objective)?;
        Ok(())
    }

    /// Whether each table's gap is reached; all are done when the iterations have run out.
    fn done(&self, schedule: Schedule) -> Result<Vec<bool>, TensorError> {
        let Columns { objective, bound, .. } = &self.columns;
        let (objective, bound) = (self.plan.download(objective)?, self.plan.download(bound)?);
        let ends = self.next_check >= schedule.most_iterations;
        let reached = |(cost, bound): (f64, f64)| cost - bound <= schedule.gap * cost;
        Ok(objective.into_iter().zip(bound).map(|pair| ends || reached(pair)).collect())
    }

    fn answers(&self, done: &[usize]) -> Result<Vec<Answer>, TensorError> {
        if done.is_empty() {
            return Ok(Vec::new());
        }
        let Columns { effects, dual, .. } = &self.columns;
        let and = self.rows(&effects.f_get(0)?, done, |table| table.scale)?;
        let or = self.rows(&effects.f_get(1)?, done, |table| table.scale)?;
        let dual = self.rows(dual, done, |_| 1.0)?;
        let indices = done.iter().map(|&table| self.tables[table].index);
        let rows = and.into_iter().zip(or.into_iter().zip(dual));
        let answer = |(index, (and, (or, dual)))| {
            let effects = Interactions { and, or };
            Answer { index, effects, dual }
        };
        Ok(indices.zip(rows).map(answer).collect())
    }

    /// What a tensor [2^n, B] holds of each of these tables, times `scale`.
    fn rows(
        &self,
        tensor: &Tensor,
        tables: &[usize],
        scale: impl Fn(&Table) -> f64,
    ) -> Result<Vec<Vec<f64>>, TensorError> {
        let columns = tensor.f_index_select(-1, &self.index(tables)?)?;
        let rows = self.plan.download(&columns.f_transpose(0, 1)?)?;
        let row = |(row, &table): (&[f64], &usize)| {
            let scale = scale(&self.tables[table]);
            let mut row: Vec<f64> = row.iter().map(|x| x * scale).collect();
            // ∅ has no effect and no constraint; there stands at most a sum.
            row[0] = 0.0;
            row
        };
        Ok(rows.chunks_exact(self.plan.length()).zip(tables).map(row).collect())
    }

    /// The batch with the tables `left` only.
    fn narrow(self, left: &[usize]) -> Result<Self, TensorError> {
        let index = self.index(left)?;
        let columns = self.columns.zip(&self.columns, |a, _| a.f_index_select(-1, &index))?;
        let blocks = self.blocks.iter().map(|block| block.f_index_select(0, &index));
        let blocks: Result<_, _> = blocks.collect();
        let tables = left.iter().map(|&table| self.tables[table]).collect();
        Ok(Self { tables, columns, blocks: blocks?, ..self })
    }

    fn index(&self, tables: &[usize]) -> Result<Tensor, TensorError> {
        let tables: Vec<i64> = tables.iter().map(|&table| table as i64).collect();
        Ok(Tensor::f_from_slice(&tables)?.f_to_device(self.plan.device)?)
    }
}
