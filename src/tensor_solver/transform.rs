//! The subset transforms on tensors [2^n, B]: the batch is innermost, the row is the bitmask.
//!
//! Each is a Kronecker product of n matrices 2 × 2, here taken as two factors: one for the low and one
//! for the high half of the variables. A table is then a matrix [2^high, 2^low], multiplied from both
//! sides: two kernels in place of n, exact up to rounding. The naive forms stand in
//! [`crate::interaction::naive`].

use super::TensorError;
use crate::interaction::naive;
use tch::{Device, Tensor};

/// How the n variables fall into two halves: bits 0..low, and the `high` bits above them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halves {
    pub(super) low: usize,
    pub(super) high: usize,
}

impl Halves {
    pub(super) fn of(variables: usize) -> Self {
        Self { low: variables.div_ceil(2), high: variables / 2 }
    }

    /// (2^high, 2^low).
    pub(super) fn sizes(self) -> (i64, i64) {
        (1 << self.high, 1 << self.low)
    }
}

/// A transform that is the Kronecker product of two matrices.
pub(super) struct Transform {
    /// [2^high, 2^high].
    high: Tensor,
    /// [2^high, 2^low, 2^low], the same matrix everywhere (stride 0).
    low: Tensor,
}

impl Transform {
    fn new(
        halves: Halves,
        definition: fn(&[f64]) -> Vec<f64>,
        device: Device,
    ) -> Result<Self, TensorError> {
        let (high, low) = halves.sizes();
        let matrix = |bits| -> Result<Tensor, TensorError> {
            Ok(matrix_of(bits, definition)?.f_to_device(device)?)
        };
        Ok(Self {
            high: matrix(halves.high)?,
            low: matrix(halves.low)?.f_expand([high, low, low], false)?,
        })
    }

    fn apply(&self, table: &Tensor) -> Result<Tensor, TensorError> {
        let (high, low) = (self.high.size()[0], self.low.size()[1]);
        let rows = self.high.f_mm(&table.f_reshape([high, -1])?)?;
        Ok(self.low.f_bmm(&rows.f_view([high, low, -1])?)?.f_view([high * low, -1])?)
    }
}

/// The matrix of a transform over `bits` variables, from its definition, on the CPU.
pub(super) fn matrix_of(
    bits: usize,
    definition: fn(&[f64]) -> Vec<f64>,
) -> Result<Tensor, TensorError> {
    let length = 1usize << bits;
    let columns: Vec<f64> = (0..length)
        .flat_map(|column| {
            let mut unit = vec![0.0; length];
            unit[column] = 1.0;
            definition(&unit)
        })
        .collect();
    let columns = Tensor::f_from_slice(&columns)?.f_view([length as i64, length as i64])?;
    Ok(columns.f_transpose(0, 1)?.f_contiguous()?)
}

/// All transforms over n variables on one device.
pub(super) struct Transforms {
    zeta: Transform,
    moebius: Transform,
}

impl Transforms {
    pub(super) fn new(halves: Halves, device: Device) -> Result<Self, TensorError> {
        Ok(Self {
            zeta: Transform::new(halves, naive::zeta, device)?,
            moebius: Transform::new(halves, naive::moebius, device)?,
        })
    }

    /// `Σ_{T⊆S} a[T]`.
    pub(super) fn zeta(&self, table: &Tensor) -> Result<Tensor, TensorError> {
        self.zeta.apply(table)
    }

    /// `Σ_{L⊆T} (−1)^{|T|−|L|} a[L]`.
    pub(super) fn moebius(&self, table: &Tensor) -> Result<Tensor, TensorError> {
        self.moebius.apply(table)
    }

    /// `Σ_{T∩S≠∅} a[T]`.
    pub(super) fn or(&self, table: &Tensor) -> Result<Tensor, TensorError> {
        complement_from_total(&self.zeta(table)?)
    }

    /// Inverse of [`Self::or`] on tables with `a[∅] = 0`.
    pub(super) fn or_inverse(&self, table: &Tensor) -> Result<Tensor, TensorError> {
        self.moebius(&complement_from_total(table)?)
    }
}

/// `a[N] − a[N∖S]`: the complement of a bitmask is the row counted from the end.
fn complement_from_total(table: &Tensor) -> Result<Tensor, TensorError> {
    let total = table.f_narrow(0, table.size()[0] - 1, 1)?;
    Ok(total.f_sub(&table.f_flip([0])?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_transforms_equal_their_naive_oracles() {
        type Fast = fn(&Transforms, &Tensor) -> Result<Tensor, TensorError>;
        type Slow = fn(&[f64]) -> Vec<f64>;
        let pairs: [(&str, Fast, Slow); 3] = [
            ("zeta", Transforms::zeta, naive::zeta),
            ("moebius", Transforms::moebius, naive::moebius),
            ("or", Transforms::or, naive::or),
        ];
        let mut random = fastrand::Rng::with_seed(1);
        for variables in 2..=8 {
            let transforms = Transforms::new(Halves::of(variables), Device::Cpu).unwrap();
            let table = |random: &mut fastrand::Rng| -> Vec<f64> {
                (0..1 << variables).map(|_| 20.0 * random.f64() - 10.0).collect()
            };
            let tables = [table(&mut random), table(&mut random), table(&mut random)];
            let batch = batch_of(&tables);
            for (name, fast, slow) in pairs {
                let found = fast(&transforms, &batch).unwrap();
                for (lane, table) in tables.iter().enumerate() {
                    let found = column(&found, lane);
                    for (s, (a, b)) in found.iter().zip(slow(table)).enumerate() {
                        assert!(
                            (a - b).abs() < 1e-9,
                            "{name}, n = {variables}, S = {s:b}: {a}, {b}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn or_inverse_undoes_or() {
        for variables in 2..=10 {
            let transforms = Transforms::new(Halves::of(variables), Device::Cpu).unwrap();
            let mut table: Vec<f64> =
                (0..1u32 << variables).map(|s| f64::from(s * 37 % 101)).collect();
            table[0] = 0.0;
            let batch = batch_of(std::slice::from_ref(&table));
            let there = transforms.or(&batch).unwrap();
            let back = column(&transforms.or_inverse(&there).unwrap(), 0);
            for (a, b) in back.iter().zip(&table) {
                assert!((a - b).abs() < 1e-8, "n = {variables}: {a} is not {b}");
            }
        }
    }

    fn batch_of(tables: &[Vec<f64>]) -> Tensor {
        let rows: Vec<Tensor> = tables.iter().map(|table| Tensor::from_slice(table)).collect();
        Tensor::stack(&rows, 1)
    }

    fn column(batch: &Tensor, lane: usize) -> Vec<f64> {
        let column = batch.select(1, lane as i64).contiguous();
        Vec::try_from(column).unwrap()
    }
}
