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

use crate::interaction::transform::{Row, or, single, zeta};

/// Diagonal of the metric by order 0..=n, one value a lane.
pub(super) struct Metric<const L: usize> {
    pub(super) and: Vec<Row<L>>,
    pub(super) or: Vec<Row<L>>,
    pub(super) noise: Vec<Row<L>>,
}

/// One rotation of the entries `up` and `down` inside each block of a stage.
struct Rotation {
    up: usize,
    down: usize,
    cos: f64,
    sin: f64,
}

/// A copy of the block k: the positions of its basis vectors, by ascending order k..=n−k.
#[derive(Clone)]
struct Path {
    k: usize,
    positions: Vec<usize>,
}

/// The change of basis for n variables and the blocks of Z and O in it.
pub(super) struct Symmetry {
    n: usize,
    stages: Vec<Vec<Rotation>>,
    paths: Vec<Path>,
    /// Blocks of Z, row-major, by k.
    zeta_blocks: Vec<Vec<f64>>,
    /// Blocks of O, row-major, by k.
    or_blocks: Vec<Vec<f64>>,
}

/// The inverse blocks of H, one matrix a lane, by k.
pub(super) struct Factor<const L: usize> {
    blocks: Vec<Vec<Row<L>>>,
}

impl Symmetry {
    pub(super) fn new(n: usize) -> Self {
        let mut paths = vec![Path { k: 0, positions: vec![0] }];
        let mut stages = Vec::with_capacity(n);
        for variable in 0..n {
            let mut rotations = Vec::new();
            let grown = paths.iter().flat_map(|path| couple(path, variable, &mut rotations));
            paths = grown.collect();
            stages.push(rotations);
        }
        let mut symmetry =
            Self { n, stages, paths, zeta_blocks: Vec::new(), or_blocks: Vec::new() };
        for k in 0..=n / 2 {
            let zeta_block = symmetry.block_of(k, zeta);
            let or_block = symmetry.block_of(k, or);
            symmetry.zeta_blocks.push(zeta_block);
            symmetry.or_blocks.push(or_block);
        }
        symmetry
    }

    fn size(&self, k: usize) -> usize {
        self.n - 2 * k + 1
    }

    /// The block k of a transform that commutes with permutations.
    fn block_of(&self, k: usize, transform: fn(&mut [Row<1>])) -> Vec<f64> {
        let Some(path) = self.paths.iter().find(|path| path.k == k) else { return Vec::new() };
        let size = self.size(k);
        let mut block = vec![0.0; size * size];
        for (column, &position) in path.positions.iter().enumerate() {
            let mut table = vec![0.0; 1 << self.n];
            table[position] = 1.0;
            self.from_spin_basis(single(&mut table));
            transform(single(&mut table));
            self.to_spin_basis(single(&mut table));
            for (row, &position) in path.positions.iter().enumerate() {
                block[row * size + column] = table[position];
            }
        }
        block
    }

    #[inline(always)]
    fn to_spin_basis<const L: usize>(&self, table: &mut [Row<L>]) {
        for (stage, rotations) in self.stages.iter().enumerate() {
            for block in table.chunks_exact_mut(2 << stage) {
                for &Rotation { up, down, cos, sin } in rotations {
                    let (a, b) = (block[up], block[down]);
                    for lane in 0..L {
                        block[up][lane] = cos * a[lane] + sin * b[lane];
                        block[down][lane] = cos * b[lane] - sin * a[lane];
                    }
                }
            }
        }
    }

    #[inline(always)]
    #[expect(clippy::wrong_self_convention, reason = "`from` names the basis, not a constructor")]
    fn from_spin_basis<const L: usize>(&self, table: &mut [Row<L>]) {
        for (stage, rotations) in self.stages.iter().enumerate().rev() {
            for block in table.chunks_exact_mut(2 << stage) {
                for &Rotation { up, down, cos, sin } in rotations {
                    let (a, b) = (block[up], block[down]);
                    for lane in 0..L {
                        block[up][lane] = cos * a[lane] - sin * b[lane];
                        block[down][lane] = cos * b[lane] + sin * a[lane];
                    }
                }
            }
        }
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
    pub(super) fn solve<const L: usize>(&self, factor: &Factor<L>, r: &mut [Row<L>]) {
        self.to_spin_basis(r);
        let mut entries = [[0.0; L]; crate::interaction::subset::MAX_VARIABLES + 1];
        for path in &self.paths {
            let (size, block) = (path.positions.len(), &factor.blocks[path.k]);
            for (entry, &position) in entries.iter_mut().zip(&path.positions) {
                *entry = r[position];
            }
            for (row, &position) in block.chunks_exact(size).zip(&path.positions) {
                let mut sum = [0.0; L];
                for (coefficient, entry) in row.iter().zip(&entries) {
                    for lane in 0..L {
                        sum[lane] += coefficient[lane] * entry[lane];
                    }
                }
                r[position] = sum;
            }
        }
        self.from_spin_basis(r);
    }
}

/// Couples one more variable to a path of spin J: gives the paths of spin J + ½ and J − ½.
fn couple(path: &Path, variable: usize, rotations: &mut Vec<Rotation>) -> Vec<Path> {
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
                rotations.push(Rotation { up, down, cos, sin });
                higher.push(up);
                lower.push(down);
            }
            (Some(only), None) | (None, Some(only)) => higher.push(only),
            (None, None) => {}
        }
    }
    let mut grown = vec![Path { k, positions: higher }];
    if !lower.is_empty() {
        grown.push(Path { k: k + 1, positions: lower });
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
