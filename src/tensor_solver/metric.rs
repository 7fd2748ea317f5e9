//! The metric D of a batch: where it starts, what the iteration derives from it, how it adapts.

use super::TensorError;
use super::plan::Plan;
use crate::sparsify::metric::{
    BY_ORDER as ADAPT_BY_ORDER, DAMPING as ADAPT_DAMPING, DECAY as METRIC_DECAY,
    FACTOR as ADAPT_FACTOR, LEAST_NOISE as LEAST_NOISE_METRIC, SHRINK as ADAPT_SHRINK,
    START as METRIC_START,
};
use tch::Tensor;

/// The first order of the AND, OR and noise block that the metric acts on.
const FIRST_ORDERS: [usize; 3] = [1, 2, 1];

/// D of B tables by order, row-major [3, n + 1, B], starting as the solver on the CPU does.
pub(super) fn start(variables: usize, zetas: &[f64]) -> Vec<f64> {
    let mut metric = Vec::with_capacity(3 * (variables + 1) * zetas.len());
    for (block, first) in FIRST_ORDERS.into_iter().enumerate() {
        for order in 0..=variables {
            let from_middle = order as f64 - variables as f64 / 2.0;
            metric.extend(zetas.iter().map(|zeta| match block {
                // ∅ is no constraint: H is 1 there and decouples.
                2 if order == 0 => 1.0,
                2 => zeta.max(LEAST_NOISE_METRIC),
                _ if order < first => 0.0,
                0 => METRIC_START * f64::powf(2.0, -METRIC_DECAY * from_middle),
                _ => METRIC_START,
            }));
        }
    }
    metric
}

/// What the iteration needs of the metric.
pub(super) struct Steps {
    /// c·D for x, d·D for y and ζ for δ: t is clipped to ± this. [3, 2^n, B].
    pub(super) bound: Tensor,
    pub(super) minus_bound: Tensor,
    /// 2 D, but 0 for δ at ∅. [3, 2^n, B].
    pub(super) twice: Tensor,
}

impl Steps {
    pub(super) fn new(plan: &Plan, metric: &Tensor, zeta: &Tensor) -> Result<Self, TensorError> {
        let metric = metric.f_index_select(1, &plan.orders)?;
        let bound = metric.f_mul(&plan.costs)?;
        bound.f_get(2)?.f_copy_(&zeta.f_expand_as(&bound.f_get(2)?)?)?;
        let twice = metric.f_mul(&plan.twice_but_empty_noise)?;
        Ok(Self { minus_bound: bound.f_neg()?, bound, twice })
    }
}

/// Moves D, by order and block, towards the ratio of the sizes of z and of its dual, and `state` with
/// it so that both stay where they are.
pub(super) fn adapt(
    plan: &Plan,
    metric: &mut Tensor,
    state: &mut Tensor,
    steps: &Steps,
    zetas: &[f64],
) -> Result<(), TensorError> {
    let clipped = state.f_clamp_tensor(Some(&steps.minus_bound), Some(&steps.bound))?;
    let rest = state.f_sub(&clipped)?;
    // Of x and y the clipped part is the dual, times D; of δ it is the primal.
    let primal = Tensor::f_cat(&[rest.f_narrow(0, 0, 2)?, clipped.f_narrow(0, 2, 1)?], 0)?;
    let dual = Tensor::f_cat(&[clipped.f_narrow(0, 0, 2)?, rest.f_narrow(0, 2, 1)?], 0)?;
    // Where D is 0 so is the dual.
    let expanded = metric.f_index_select(1, &plan.orders)?.f_clamp_min(f64::MIN_POSITIVE)?;
    let dual = dual.f_div(&expanded)?;
    let sizes = |part: &Tensor| plan.download(&plan.by_order.f_matmul(&part.f_square()?)?);
    let (primal_sizes, dual_sizes) = (sizes(&primal)?, sizes(&dual)?);
    let mut host = plan.download(metric)?;
    adapt_on_host(plan.variables, &mut host, &primal_sizes, &dual_sizes, zetas);
    *metric = plan.upload(&host)?.f_view_as(metric)?;
    let expanded = metric.f_index_select(1, &plan.orders)?;
    *state = primal.f_addcmul(&dual, &expanded)?;
    Ok(())
}

/// The same for the numbers alone: metric and squared sizes, all [3, n + 1, B].
fn adapt_on_host(n: usize, metric: &mut [f64], primal: &[f64], dual: &[f64], zetas: &[f64]) {
    let tables = zetas.len();
    let counts = binomials(n);
    let subsets = f64::powi(2.0, n as i32);
    for (block, first) in FIRST_ORDERS.into_iter().enumerate() {
        for (table, zeta) in zetas.iter().enumerate() {
            if block == 2 && *zeta == 0.0 {
                continue;
            }
            let at = |order: usize| (block * (n + 1) + order) * tables + table;
            let total = |sizes: &[f64]| (0..=n).map(|order| sizes[at(order)]).sum::<f64>();
            let (all_primal, all_dual) = (total(primal), total(dual));
            let of_block = (all_primal / all_dual.max(1e-30)).sqrt();
            for order in first..=n {
                let share = ADAPT_SHRINK * counts[order] / subsets;
                let own = (primal[at(order)] + share * all_primal)
                    / (dual[at(order)] + share * all_dual).max(1e-30);
                let target =
                    of_block.ln() * (1.0 - ADAPT_BY_ORDER) + own.sqrt().ln() * ADAPT_BY_ORDER;
                let step = (ADAPT_FACTOR * target.exp() / metric[at(order)]).powf(ADAPT_DAMPING);
                if step.is_finite() {
                    metric[at(order)] *= step.clamp(0.1, 10.0);
                }
            }
        }
    }
}

/// Number of subsets of each order.
fn binomials(n: usize) -> Vec<f64> {
    let mut row = vec![1.0];
    for order in 0..n {
        row.push(row[order] * (n - order) as f64 / (order + 1) as f64);
    }
    row
}
