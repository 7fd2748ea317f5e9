//! What all tables of n variables share on one device: computed once, used by every batch.

use super::TensorError;
use super::projection::Projection;
use super::transform::{Halves, Transforms};
use crate::interaction::subset::order;
use crate::sparsify::problem::Costs;
use tch::{Device, Kind, Tensor};

/// Constant tensors, all float64 but for the indices.
pub(super) struct Plan {
    pub(super) variables: usize,
    pub(super) device: Device,
    pub(super) projection: Projection,
    pub(super) transforms: Transforms,
    /// Order of each subset, [2^n].
    pub(super) orders: Tensor,
    /// 1 where the subset of the column has the order of the row, [n + 1, 2^n].
    pub(super) by_order: Tensor,
    /// c, d and 1, [3, 2^n, 1].
    pub(super) costs: Tensor,
    /// 2, but 0 for the noise of ∅, [3, 2^n, 1].
    pub(super) twice_but_empty_noise: Tensor,
    /// ± the box that Kᵀp has to lie in: c, d, and no bound for p itself, [3, 2^n, 1].
    pub(super) dual_box: Tensor,
    pub(super) minus_dual_box: Tensor,
    /// 1/c and 1/d where an effect exists, else 0, [2, 2^n, 1].
    pub(super) dual_weights: Tensor,
    /// 1 where |S| ≥ n/2; where |S| = 1; [2^n, 1].
    pub(super) is_high: Tensor,
    pub(super) is_single: Tensor,
    /// −2, without dimensions.
    pub(super) minus_two: Tensor,
}

impl Plan {
    pub(super) fn new(costs: &Costs, device: Device) -> Result<Self, TensorError> {
        let length = costs.and.len();
        let variables = length.trailing_zeros() as usize;
        let halves = Halves::of(variables);
        let upload = |values: &[f64], rows: i64| -> Result<Tensor, TensorError> {
            let tensor = Tensor::f_from_slice(values)?.f_to_device(device)?;
            Ok(tensor.f_view([rows, length as i64, 1])?)
        };
        let of_subsets = |f: &dyn Fn(usize) -> bool| -> Vec<f64> {
            (0..length).map(|s| if f(s) { 1.0 } else { 0.0 }).collect()
        };
        let noise_box = vec![f64::INFINITY; length];
        let dual_box = upload(&[&costs.and[..], &costs.or, &noise_box].concat(), 3)?;
        let mut twice = vec![2.0; 3 * length];
        twice[2 * length] = 0.0;
        let weights = |costs: &[f64], first: usize| -> Vec<f64> {
            let weight = |s: usize| if order(s) < first { 0.0 } else { 1.0 / costs[s] };
            (0..length).map(weight).collect()
        };
        let weights = [weights(&costs.and, 1), weights(&costs.or, 2)].concat();
        let orders: Vec<i64> = (0..length).map(|s| order(s) as i64).collect();
        let indicators: Vec<f64> =
            (0..=variables).flat_map(|k| of_subsets(&|s| order(s) == k)).collect();
        Ok(Self {
            variables,
            device,
            projection: Projection::new(halves, device)?,
            transforms: Transforms::new(halves, device)?,
            orders: Tensor::f_from_slice(&orders)?.f_to_device(device)?,
            by_order: upload(&indicators, variables as i64 + 1)?.f_squeeze_dim(2)?,
            costs: upload(&[&costs.and[..], &costs.or, &vec![1.0; length]].concat(), 3)?,
            twice_but_empty_noise: upload(&twice, 3)?,
            minus_dual_box: dual_box.f_neg()?,
            dual_box,
            dual_weights: upload(&weights, 2)?,
            is_high: upload(&of_subsets(&|s| 2 * order(s) >= variables), 1)?.f_get(0)?,
            is_single: upload(&of_subsets(&|s| order(s) == 1), 1)?.f_get(0)?,
            minus_two: Tensor::f_full(&[] as &[i64], -2.0, (Kind::Double, device))?,
        })
    }

    /// 2^n.
    pub(super) fn length(&self) -> usize {
        1 << self.variables
    }

    /// A vector on the device.
    pub(super) fn upload(&self, values: &[f64]) -> Result<Tensor, TensorError> {
        Ok(Tensor::f_from_slice(values)?.f_to_device(self.device)?)
    }

    /// All numbers of a tensor, row-major; waits for the device.
    pub(super) fn download(&self, tensor: &Tensor) -> Result<Vec<f64>, TensorError> {
        let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut values = vec![0.0; tensor.numel()];
        let numbers = values.len();
        tensor.f_copy_data(&mut values, numbers)?;
        Ok(values)
    }
}
