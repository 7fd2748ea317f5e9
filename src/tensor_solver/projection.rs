//! K, Kᵀ and H⁻¹ in the spin basis of the two halves, for metrics that differ from table to table.
//!
//! H = K D Kᵀ commutes with the permutations of the low variables and with those of the high ones. In
//! the product of the two spin bases, Q = Q_high ⊗ Q_low, it is therefore block-diagonal: for each pair
//! of kinds (k, k′) one block, the same for every pair of paths, at most 36 × 36 at n = 10 and 81 × 81
//! at n = 16. (The full spin basis would have smaller blocks, but it is dense: 2^n × 2^n against two
//! factors of 2^(n/2) × 2^(n/2), which is 16 times the arithmetic at n = 10.)
//!
//! Z, the identity and W a[S] = Σ_{T∩S=∅} a[T] are Kronecker products as well, so Q K and Kᵀ Qᵀ cost two
//! matrix products each, and no transform is computed by itself.
//!
//! The OR transform is O a = Σ a − W a. Row ∅ of W is that sum, and so is the column of ∅ in reverse:
//! O a = W (a with −Σ a at ∅), negated. With q = Q·1 and A = 1 − q e_∅ᵀ both corrections are one factor
//! on either side of the one block that holds ∅: it stores Aᵀ H⁻¹ A. So a residual carries Σ y at ∅
//! where it should carry 0, a dual −Σ p, and nobody but this block needs to know; the metric of δ is 0
//! at ∅, which keeps it out of the state.

use super::TensorError;
use super::basis::{Kind, SpinBasis};
use super::transform::{Halves, matrix_of};
use crate::interaction::naive;
use tch::{Device, Tensor};

/// What all tables of n variables share.
pub(super) struct Projection {
    halves: Halves,
    /// Q Z, Q W and Q of the high half, [3, 2^high, 2^high], and transposed.
    high: Tensor,
    high_adjoint: Tensor,
    /// −Q Z | Q W | −Q of the low half, [2^high, 2^low, 3·2^low] with stride 0.
    low: Tensor,
    /// (Q Z)ᵀ, −(Q W)ᵀ, Qᵀ of the low half, one above the other, [2^high, 3·2^low, 2^low] with stride 0.
    low_adjoint: Tensor,
    groups: Vec<Group>,
    /// Rows of the spin basis in the order of the groups, and the way back.
    gather: Tensor,
    scatter: Tensor,
}

/// All pairs of paths that share one block.
struct Group {
    start: i64,
    pairs: i64,
    size: i64,
    /// Order of each entry of a pair, [size].
    orders: Tensor,
    /// Blocks of Z and O, [size, size].
    zeta: Tensor,
    or: Tensor,
    /// A, where the block holds ∅ (its entry 0).
    correction: Option<Tensor>,
}

/// Buffers of the products, for B tables.
pub(super) struct Work {
    /// [2^high, 3, 2^low, B]: between the two products.
    between: Tensor,
    /// [2^n, B]: a residual or a dual in the spin basis.
    spin: Tensor,
    /// [B, 2^n], by groups: before and after the blocks.
    gathered: Tensor,
    solved: Tensor,
    /// Kᵀ p, [3, 2^n, B].
    pub(super) adjoint: Tensor,
}

impl Projection {
    pub(super) fn new(halves: Halves, device: Device) -> Result<Self, TensorError> {
        let (high, low) = (Half::new(halves.high)?, Half::new(halves.low)?);
        let (rows, columns) = halves.sizes();
        let of_high = Tensor::f_stack(&[&high.zeta, &high.disjoint, &high.basis], 0)?;
        let factors = [&low.zeta.f_neg()?, &low.disjoint, &low.basis.f_neg()?];
        let of_low = Tensor::f_cat(&factors, 1)?;
        let factors = [&low.zeta, &low.disjoint.f_neg()?, &low.basis];
        let adjoint = Tensor::f_stack(&factors, 0)?.f_transpose(1, 2)?;
        let adjoint = adjoint.f_reshape([3 * columns, columns])?;
        let (groups, order) = groups(&high, &low, halves, device)?;
        let mut back = vec![0; order.len()];
        for (position, &row) in order.iter().enumerate() {
            back[row as usize] = position as i64;
        }
        Ok(Self {
            halves,
            high_adjoint: of_high.f_transpose(1, 2)?.f_contiguous()?.f_to_device(device)?,
            high: of_high.f_to_device(device)?,
            low: of_low.f_to_device(device)?.f_expand([rows, columns, 3 * columns], false)?,
            low_adjoint: adjoint
                .f_to_device(device)?
                .f_expand([rows, 3 * columns, columns], false)?,
            groups,
            gather: Tensor::f_from_slice(&order)?.f_to_device(device)?,
            scatter: Tensor::f_from_slice(&back)?.f_to_device(device)?,
        })
    }

    /// Buffers for `tables` tables.
    pub(super) fn work(&self, tables: i64, device: Device) -> Result<Work, TensorError> {
        let (high, low) = self.halves.sizes();
        let empty = |size: &[i64]| Tensor::f_zeros(size, (tch::Kind::Double, device));
        Ok(Work {
            between: empty(&[high, 3, low, tables])?,
            spin: empty(&[high * low, tables])?,
            gathered: empty(&[tables, high * low])?,
            solved: empty(&[tables, high * low])?,
            adjoint: empty(&[3, high * low, tables])?,
        })
    }

    /// Q v, for values with v(∅) = 0: [2^high, 2^low, B].
    pub(super) fn values(&self, values: &Tensor, work: &Work) -> Result<Tensor, TensorError> {
        let zeros = values.f_zeros_like()?;
        let point = Tensor::f_stack(&[&zeros, &zeros, &values.f_neg()?], 0)?;
        let (high, low) = self.halves.sizes();
        self.residual(&point, &zeros.f_view([high, low, -1])?, work)?;
        let mut spin_values = work.spin.f_empty_like()?;
        spin_values.f_copy_(&work.spin)?;
        Ok(spin_values.f_view([high, low, -1])?)
    }

    /// work.adjoint ← Kᵀ H⁻¹ (v − K·point), from Q v and a point [3, 2^n, B]; its noise part is p.
    pub(super) fn adjoint_of_solved(
        &self,
        point: &Tensor,
        spin_values: &Tensor,
        blocks: &[Tensor],
        work: &Work,
    ) -> Result<(), TensorError> {
        self.residual(point, spin_values, work)?;
        self.solve(blocks, work)?;
        self.adjoint(work)
    }

    /// work.spin ← Q (v − K·point).
    fn residual(&self, point: &Tensor, values: &Tensor, work: &Work) -> Result<(), TensorError> {
        let (high, low) = self.halves.sizes();
        let by_high = work.between.f_permute([1, 0, 2, 3])?.f_view([3, high, -1])?;
        self.high.f_bmm_out(&by_high, &point.f_view([3, high, -1])?).map(drop)?;
        let spin = work.spin.f_view([high, low, -1])?;
        let between = work.between.f_view([high, 3 * low, -1])?;
        values.f_baddbmm_out(&spin, &self.low, &between).map(drop)?;
        Ok(())
    }

    /// work.spin ← blocks · work.spin.
    fn solve(&self, blocks: &[Tensor], work: &Work) -> Result<(), TensorError> {
        work.spin
            .f_transpose(0, 1)?
            .f_index_select_out(&work.gathered, 1, &self.gather)
            .map(drop)?;
        for (group, block) in self.groups.iter().zip(blocks) {
            let of_group = |tensor: &Tensor| {
                let own = tensor.f_narrow(1, group.start, group.pairs * group.size)?;
                own.f_view([-1, group.pairs, group.size])
            };
            of_group(&work.gathered)?.f_bmm_out(&of_group(&work.solved)?, block).map(drop)?;
        }
        work.solved
            .f_transpose(0, 1)?
            .f_index_select_out(&work.spin, 0, &self.scatter)
            .map(drop)?;
        Ok(())
    }

    /// work.adjoint ← Kᵀ Qᵀ · work.spin.
    fn adjoint(&self, work: &Work) -> Result<(), TensorError> {
        let (high, low) = self.halves.sizes();
        let between = work.between.f_view([high, 3 * low, -1])?;
        self.low_adjoint.f_bmm_out(&between, &work.spin.f_view([high, low, -1])?).map(drop)?;
        let by_high = work.between.f_permute([1, 0, 2, 3])?.f_view([3, high, -1])?;
        self.high_adjoint.f_bmm_out(&work.adjoint.f_view([3, high, -1])?, &by_high).map(drop)?;
        Ok(())
    }

    /// The inverse blocks of H, [B, size, size] each, for metrics [3, n + 1, B] by order.
    pub(super) fn factor(&self, metric: &Tensor) -> Result<Vec<Tensor>, TensorError> {
        self.groups.iter().map(|group| group.factor(metric)).collect()
    }
}

impl Group {
    fn factor(&self, metric: &Tensor) -> Result<Tensor, TensorError> {
        let diagonals = metric.f_index_select(1, &self.orders)?.f_transpose(1, 2)?;
        let of_block = |block: &Tensor, diagonal: &Tensor| {
            block.f_mul(&diagonal.f_unsqueeze(1)?)?.f_matmul(&block.f_transpose(0, 1)?)
        };
        let h = of_block(&self.zeta, &diagonals.f_get(0)?)?
            .f_add(&of_block(&self.or, &diagonals.f_get(1)?)?)?
            .f_add(&diagonals.f_get(2)?.f_diag_embed(0, -2, -1)?)?;
        let inverse = Tensor::f_linalg_inv(&h)?;
        let Some(correction) = &self.correction else { return Ok(inverse.f_contiguous()?) };
        let corrected = correction.f_transpose(0, 1)?.f_matmul(&inverse)?.f_matmul(correction)?;
        Ok(corrected.f_contiguous()?)
    }
}

/// One half of the variables, on the CPU.
struct Half {
    kinds: Vec<Kind>,
    /// Q, Q Z and Q W.
    basis: Tensor,
    zeta: Tensor,
    disjoint: Tensor,
}

impl Half {
    fn new(bits: usize) -> Result<Self, TensorError> {
        let SpinBasis { rows, kinds } = SpinBasis::new(bits);
        let basis = Tensor::f_from_slice(&rows)?.f_view([1i64 << bits, 1 << bits])?;
        let zeta = matrix_of(bits, naive::zeta)?;
        // W is the zeta transform read at the complement.
        let disjoint = basis.f_mm(&zeta.f_flip([0])?)?;
        Ok(Self { kinds, zeta: basis.f_mm(&zeta)?, basis, disjoint })
    }

    /// The block of a transform on the paths of one kind.
    fn block(&self, transform: &Tensor, kind: &Kind) -> Result<Tensor, TensorError> {
        let (start, size) = (kind.start as i64, kind.size as i64);
        let columns = self.basis.f_narrow(0, start, size)?.f_transpose(0, 1)?;
        Ok(transform.f_narrow(0, start, size)?.f_mm(&columns)?)
    }
}

/// The groups, and the rows of the spin basis in their order. Equal halves give equal blocks for
/// (k, k′) and (k′, k), which then form one group.
fn groups(
    high: &Half,
    low: &Half,
    halves: Halves,
    device: Device,
) -> Result<(Vec<Group>, Vec<i64>), TensorError> {
    let alike = halves.high == halves.low;
    let (mut groups, mut order): (Vec<Group>, Vec<i64>) = (Vec::new(), Vec::new());
    for first in &high.kinds {
        for second in low.kinds.iter().filter(|second| !alike || second.k >= first.k) {
            let start = order.len() as i64;
            let row = |high: usize, low: usize| (high << halves.low | low) as i64;
            push_rows(&mut order, first, second, row);
            if alike && first.k != second.k {
                push_rows(&mut order, first, second, |first, second| row(second, first));
            }
            let size = (first.size * second.size) as i64;
            let pairs = (order.len() as i64 - start) / size;
            groups.push(Group { start, pairs, size, ..block(high, low, first, second, device)? });
        }
    }
    Ok((groups, order))
}

/// Appends the rows of all pairs of paths, pair by pair.
fn push_rows(order: &mut Vec<i64>, first: &Kind, second: &Kind, row: impl Fn(usize, usize) -> i64) {
    let paths = |kind: &Kind| (0..kind.paths).map(|path| kind.start + path * kind.size).collect();
    let (of_first, of_second): (Vec<usize>, Vec<usize>) = (paths(first), paths(second));
    for a in of_first {
        for &b in &of_second {
            for i in 0..first.size {
                order.extend((0..second.size).map(|j| row(a + i, b + j)));
            }
        }
    }
}

fn block(
    high: &Half,
    low: &Half,
    first: &Kind,
    second: &Kind,
    device: Device,
) -> Result<Group, TensorError> {
    let zeta = high.block(&high.zeta, first)?.f_kron(&low.block(&low.zeta, second)?)?;
    let disjoint = high.block(&high.disjoint, first)?.f_kron(&low.block(&low.disjoint, second)?)?;
    let orders: Vec<i64> = (0..first.size)
        .flat_map(|i| (0..second.size).map(move |j| (first.k + i + second.k + j) as i64))
        .collect();
    let (or, correction) = if first.k + second.k == 0 {
        // Row ∅ of W is the sum: q = Q·1, which has no part in the other groups.
        let q = disjoint.f_get(0)?;
        let or = q.f_outer(&q)?.f_sub(&disjoint)?;
        let size = orders.len() as i64;
        let identity = Tensor::f_eye(size, (tch::Kind::Double, Device::Cpu))?;
        let correction = identity.f_sub(&q.f_outer(&identity.f_get(0)?)?)?;
        (or, Some(correction.f_to_device(device)?))
    } else {
        (disjoint.f_neg()?, None)
    };
    Ok(Group {
        start: 0,
        pairs: 0,
        size: 0,
        orders: Tensor::f_from_slice(&orders)?.f_to_device(device)?,
        zeta: zeta.f_to_device(device)?,
        or: or.f_to_device(device)?,
        correction,
    })
}
