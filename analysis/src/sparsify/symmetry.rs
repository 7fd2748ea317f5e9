//! Exact solution of H p = r with H = Z D_x Zᵀ + O D_y Oᵀ + D_δ, where Z is the zeta and O the OR
//! transform and every D depends on the order of a subset alone.
//!
//! H commutes with every permutation of the variables. The space of tables over subsets of n
//! variables is n spins ½ (absent or present); by Schur–Weyl duality an H that commutes with all
//! permutations is, in the basis of total spin, block-diagonal: for each k ≤ n/2 one block of size
//! n − 2k + 1, the same for every path that leads to spin J = n/2 − k. The change of basis adds one
//! variable at a time, a rotation of two entries with the Clebsch–Gordan coefficients
//! cos = √((J + M + ½)/(2J + 1)), sin = √((J − M + ½)/(2J + 1)); a rotation keeps the number of
//! present variables, so each basis vector has an order, on which the D act as scalars.
//! Cost O(n·2^n) for the rotations.
//!
//! A rotation costs two products instead of four: cos is taken out of both rows, so that row e stands
//! for scale_e times what is stored, and the scales are made good where the blocks are applied.

use super::metric::Metric;
use super::rotations::{Order, Rotation, Rotations};
use crate::interaction::real::Real;
use crate::interaction::transform::{Row, or, single, zeta};

/// What couples one more variable to the paths, with the coefficients still as an angle.
struct Coupling {
    up: usize,
    down: usize,
    cos: f64,
    sin: f64,
}

/// A copy of the block k: the positions of its basis vectors, by ascending order k..=n−k, and the
/// scales of what is stored there.
#[derive(Clone)]
struct Path<T = f64> {
    k: usize,
    positions: Vec<usize>,
    scales: Vec<T>,
}

/// The change of basis for n variables and the blocks of Z and O in it.
pub(super) struct Symmetry<T> {
    n: usize,
    into: Rotations<T>,
    back: Rotations<T>,
    paths: Vec<Path<T>>,
    /// Blocks of Z, row-major, by k.
    zeta_blocks: Vec<Vec<f64>>,
    /// Blocks of O, row-major, by k.
    or_blocks: Vec<Vec<f64>>,
}

/// The inverse blocks of H, one matrix a lane, by k. They are applied in double precision whatever
/// the table is in: a product with an inverse in single precision would be off, after H, by its
/// rounding times the condition of H, and where there is little noise the splitting would diverge.
pub(super) struct Factor<const L: usize> {
    blocks: Vec<Vec<Row<L>>>,
}

impl Symmetry<f64> {
    pub(super) fn new(n: usize) -> Self {
        let mut paths = vec![Path { k: 0, positions: vec![0], scales: Vec::new() }];
        let mut stages = Vec::with_capacity(n);
        for variable in 0..n {
            let mut couplings = Vec::new();
            let grown = paths.iter().flat_map(|path| couple(path, variable, &mut couplings));
            paths = grown.collect();
            stages.push(couplings);
        }
        let (into, scales) = rotations_into(&stages);
        let back = rotations_back(&stages, &scales);
        for path in &mut paths {
            path.scales = path.positions.iter().map(|&position| scales[position]).collect();
        }
        let mut symmetry = Self {
            n,
            into: Rotations::new(&into, Order::Ascending),
            back: Rotations::new(&back, Order::Descending),
            paths,
            zeta_blocks: Vec::new(),
            or_blocks: Vec::new(),
        };
        for k in 0..=n / 2 {
            let zeta_block = symmetry.block_of(k, zeta);
            let or_block = symmetry.block_of(k, or);
            symmetry.zeta_blocks.push(zeta_block);
            symmetry.or_blocks.push(or_block);
        }
        symmetry
    }

    /// The block k of a transform that commutes with permutations.
    fn block_of(&self, k: usize, transform: fn(&mut [Row<1>])) -> Vec<f64> {
        let Some(path) = self.paths.iter().find(|path| path.k == k) else { return Vec::new() };
        let size = self.size(k);
        let mut block = vec![0.0; size * size];
        for (column, (&position, scale)) in path.positions.iter().zip(&path.scales).enumerate() {
            let mut table = vec![0.0; 1 << self.n];
            table[position] = *scale;
            self.from_spin_basis(single(&mut table));
            transform(single(&mut table));
            self.to_spin_basis(single(&mut table));
            for (row, (&position, scale)) in path.positions.iter().zip(&path.scales).enumerate() {
                block[row * size + column] = table[position] * scale;
            }
        }
        block
    }

    /// The same with rounded coefficients.
    pub(super) fn rounded<T: Real>(&self) -> Symmetry<T> {
        let path = |path: &Path| Path {
            k: path.k,
            positions: path.positions.clone(),
            scales: path.scales.iter().map(|&scale| T::of(scale)).collect(),
        };
        Symmetry {
            n: self.n,
            into: self.into.rounded(),
            back: self.back.rounded(),
            paths: self.paths.iter().map(path).collect(),
            zeta_blocks: self.zeta_blocks.clone(),
            or_blocks: self.or_blocks.clone(),
        }
    }
}

impl<T: Real> Symmetry<T> {
    fn size(&self, k: usize) -> usize {
        self.n - 2 * k + 1
    }

    /// Afterwards entry e of the spin basis is scale_e times row e.
    #[inline(always)]
    fn to_spin_basis<const L: usize>(&self, table: &mut [Row<L, T>]) {
        self.into.apply(table);
    }

    /// Expects row e to hold scale_e times entry e of the spin basis.
    #[inline(always)]
    #[expect(clippy::wrong_self_convention, reason = "`from` names the basis, not a constructor")]
    fn from_spin_basis<const L: usize>(&self, table: &mut [Row<L, T>]) {
        self.back.apply(table);
    }

    /// Inverts the blocks of H for the lanes' metrics.
    pub(super) fn factor<const L: usize>(&self, metric: &Metric<L>) -> Factor<L> {
        let blocks = (0..=self.n / 2).map(|k| self.inverse_blocks(k, metric)).collect();
        Factor { blocks }
    }

    fn inverse_blocks<const L: usize>(&self, k: usize, metric: &Metric<L>) -> Vec<Row<L>> {
        let size = self.size(k);
        let (z, o) = (&self.zeta_blocks[k], &self.or_blocks[k]);
        let mut inverse = vec![[0.0; L]; size * size];
        for lane in 0..L {
            let mut h = vec![0.0; size * size];
            for i in 0..size {
                for j in 0..size {
                    h[i * size + j] = (0..size)
                        .map(|t| {
                            let (x, y) = (metric.and[k + t][lane], metric.or[k + t][lane]);
                            z[i * size + t] * x * z[j * size + t]
                                + o[i * size + t] * y * o[j * size + t]
                        })
                        .sum();
                }
                h[i * size + i] += metric.noise[k + i][lane];
            }
            for (entry, value) in inverse.iter_mut().zip(invert(h, size)) {
                entry[lane] = value;
            }
        }
        inverse
    }

    /// `r ← H⁻¹ r`.
    #[inline(always)]
    pub(super) fn solve<const L: usize>(&self, factor: &Factor<L>, r: &mut [Row<L, T>]) {
        self.to_spin_basis(r);
        let mut entries = [[0.0; L]; crate::interaction::subset::MAX_VARIABLES + 1];
        for path in &self.paths {
            let (size, block) = (path.positions.len(), &factor.blocks[path.k]);
            let places = || path.positions.iter().zip(&path.scales);
            for (entry, (&position, scale)) in entries.iter_mut().zip(places()) {
                for lane in 0..L {
                    entry[lane] = (*scale * r[position][lane]).wide();
                }
            }
            for (row, (&position, scale)) in block.chunks_exact(size).zip(places()) {
                let mut sum = [0.0; L];
                for (coefficient, entry) in row.iter().zip(&entries) {
                    for lane in 0..L {
                        sum[lane] += coefficient[lane] * entry[lane];
                    }
                }
                for lane in 0..L {
                    r[position][lane] = *scale * T::of(sum[lane]);
                }
            }
        }
        self.from_spin_basis(r);
    }
}

/// The rotations into the spin basis without their cosines, and the scales that these add up to.
fn rotations_into(stages: &[Vec<Coupling>]) -> (Vec<Vec<Rotation>>, Vec<f64>) {
    let mut scales = vec![1.0];
    let mut into = Vec::with_capacity(stages.len());
    for couplings in stages {
        scales.extend_from_within(..);
        let rotation = |coupling: &Coupling| {
            let &Coupling { up, down, cos, sin } = coupling;
            let ratio = scales[down] / scales[up];
            let (on_up, on_down) = (sin / cos * ratio, -sin / cos / ratio);
            (scales[up], scales[down]) = (cos * scales[up], cos * scales[down]);
            Rotation { p: up as u32, q: down as u32, on_p: on_up, on_q: on_down }
        };
        into.push(couplings.iter().map(rotation).collect());
    }
    (into, scales)
}

/// The rotations back, such that the scales they start from are the inverses of `scales` and the
/// scales they end with are 1.
fn rotations_back(stages: &[Vec<Coupling>], scales: &[f64]) -> Vec<Vec<Rotation>> {
    let mut scales: Vec<f64> = scales.iter().map(|scale| 1.0 / scale).collect();
    let mut back: Vec<Vec<Rotation>> = Vec::with_capacity(stages.len());
    for couplings in stages.iter().rev() {
        let rotation = |coupling: &Coupling| {
            let &Coupling { up, down, cos, sin } = coupling;
            let ratio = scales[down] / scales[up];
            let (on_up, on_down) = (-sin / cos * ratio, sin / cos / ratio);
            (scales[up], scales[down]) = (cos * scales[up], cos * scales[down]);
            Rotation { p: up as u32, q: down as u32, on_p: on_up, on_q: on_down }
        };
        back.push(couplings.iter().map(rotation).collect());
        // Both halves have gone the same way from here on: they end with the same scales.
        scales.truncate(scales.len() / 2);
    }
    back.reverse();
    back
}

/// Couples one more variable to a path of spin J: gives the paths of spin J + ½ and J − ½.
fn couple(path: &Path, variable: usize, couplings: &mut Vec<Coupling>) -> Vec<Path> {
    let (k, present) = (path.k, 1 << variable);
    let spin = (variable as f64 - 2.0 * k as f64) / 2.0;
    let (mut higher, mut lower) = (Vec::new(), Vec::new());
    for weight in k..=variable + 1 - k {
        // The two ways to reach this order: with the new variable present, or absent.
        let up = (weight > k).then(|| path.positions[weight - 1 - k] + present);
        let down = path.positions.get(weight - k).copied();
        match (up, down) {
            (Some(up), Some(down)) => {
                let m = weight as f64 - (variable as f64 + 1.0) / 2.0;
                let width = 2.0 * spin + 1.0;
                let cos = ((spin + m + 0.5) / width).sqrt();
                let sin = ((spin - m + 0.5) / width).sqrt();
                couplings.push(Coupling { up, down, cos, sin });
                higher.push(up);
                lower.push(down);
            }
            (Some(only), None) | (None, Some(only)) => higher.push(only),
            (None, None) => {}
        }
    }
    let path = |k, positions| Path { k, positions, scales: Vec::new() };
    let mut grown = vec![path(k, higher)];
    if !lower.is_empty() {
        grown.push(path(k + 1, lower));
    }
    grown
}

/// The inverse of a symmetric positive definite matrix, by Cholesky.
fn invert(mut matrix: Vec<f64>, size: usize) -> Vec<f64> {
    for column in 0..size {
        for t in 0..column {
            let factor = matrix[column * size + t];
            for row in column..size {
                matrix[row * size + column] -= factor * matrix[row * size + t];
            }
        }
        let diagonal = matrix[column * size + column].sqrt();
        for row in column..size {
            matrix[row * size + column] /= diagonal;
        }
    }
    let mut inverse = vec![0.0; size * size];
    for column in 0..size {
        let mut x = vec![0.0; size];
        x[column] = 1.0;
        for i in 0..size {
            let known: f64 = (0..i).map(|t| matrix[i * size + t] * x[t]).sum();
            x[i] = (x[i] - known) / matrix[i * size + i];
        }
        for i in (0..size).rev() {
            let known: f64 = (i + 1..size).map(|t| matrix[t * size + i] * x[t]).sum();
            x[i] = (x[i] - known) / matrix[i * size + i];
        }
        for (row, value) in x.into_iter().enumerate() {
            inverse[row * size + column] = value;
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::subset::order;
    use crate::interaction::transform::zeta_adjoint;

    /// H applied by its definition.
    fn apply(n: usize, metric: &Metric<2>, p: &[Row<2>]) -> Vec<Row<2>> {
        let (mut x, mut y) = (p.to_vec(), p.to_vec());
        zeta_adjoint(&mut x);
        or(&mut y);
        for s in 0..1 << n {
            for lane in 0..2 {
                x[s][lane] *= metric.and[order(s)][lane];
                y[s][lane] *= metric.or[order(s)][lane];
            }
        }
        zeta(&mut x);
        or(&mut y);
        (0..1usize << n)
            .map(|s| {
                std::array::from_fn(|lane| {
                    x[s][lane] + y[s][lane] + metric.noise[order(s)][lane] * p[s][lane]
                })
            })
            .collect()
    }

    #[test]
    fn single_precision_solves_to_its_rounding() {
        for n in [6, 10, 11] {
            let symmetry = Symmetry::new(n);
            let metric = Metric::<2>::start(n, &[0.0, 0.01]);
            // As in the splitting, r is much larger than p.
            let p: Vec<Row<2>> = (0..1u32 << n)
                .map(|s| [f64::from(s * 37 % 101) / 101.0, f64::from(s * 53 % 97) / 97.0])
                .collect();
            let wanted = apply(n, &metric, &p);
            let mut rough: Vec<Row<2, f32>> = wanted.iter().map(|r| r.map(|x| x as f32)).collect();
            let rounded = symmetry.rounded::<f32>();
            rounded.solve(&rounded.factor(&metric), &mut rough);
            let found: Vec<Row<2>> = rough.iter().map(|p| p.map(f64::from)).collect();
            let found = apply(n, &metric, &found);
            for lane in 0..2 {
                let largest = wanted.iter().fold(0.0f64, |most, row| most.max(row[lane].abs()));
                for (s, (found, wanted)) in found.iter().zip(&wanted).enumerate().skip(1) {
                    let error = (found[lane] - wanted[lane]).abs() / largest;
                    assert!(error < 1e-5, "n = {n}, S = {s:b}: off by {error} of {largest}");
                }
            }
        }
    }

    #[test]
    fn solving_undoes_applying() {
        for n in 2..=10 {
            let symmetry = Symmetry::new(n);
            let total: usize = symmetry.paths.iter().map(|path| path.positions.len()).sum();
            assert_eq!(total, 1 << n);
            let by_order = |f: &dyn Fn(f64) -> Row<2>| (0..=n).map(|o| f(o as f64)).collect();
            let mut metric = Metric {
                and: by_order(&|o| [0.03 / (1.0 + o), 0.02]),
                or: by_order(&|o| [0.02, 0.04 - 0.002 * o]),
                noise: by_order(&|o| [0.01, 0.001 * (1.0 + o)]),
            };
            (metric.and[0], metric.noise[0]) = ([0.0; 2], [1.0; 2]);
            (metric.or[0], metric.or[1]) = ([0.0; 2], [0.0; 2]);
            let p: Vec<Row<2>> = (0..1u32 << n)
                .map(|s| [f64::from(s * 37 % 101) - 50.0, f64::from(s * 53 % 97) - 48.0])
                .collect();
            let mut r = apply(n, &metric, &p);
            symmetry.solve(&symmetry.factor(&metric), &mut r);
            for (s, (found, wanted)) in r.iter().zip(&p).enumerate() {
                for lane in 0..2 {
                    let error = (found[lane] - wanted[lane]).abs();
                    assert!(error < 1e-6, "n = {n}, S = {s:b}: off by {error}");
                }
            }
        }
    }
}
