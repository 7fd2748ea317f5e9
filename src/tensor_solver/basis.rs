//! The spin basis of a few variables as a dense matrix.
//!
//! A table over m variables is m spins ½. Coupled one after the other with the Clebsch–Gordan
//! coefficients cos = √((J + M + ½)/(2J + 1)) and sin = √((J − M + ½)/(2J + 1)), they give paths: a path
//! of kind k has m − 2k + 1 vectors, one of each order k..=m − k, and a matrix that commutes with every
//! permutation of the variables acts on all paths of one kind by one and the same small block.

/// The orthogonal matrix of the basis; a row is a basis vector.
pub(super) struct SpinBasis {
    /// Row-major, 2^m × 2^m. Paths of one kind lie together, kinds ascend; so do orders in a path.
    pub(super) rows: Vec<f64>,
    pub(super) kinds: Vec<Kind>,
}

/// The paths of one kind k.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kind {
    /// k, which is also the order of a path's first vector.
    pub(super) k: usize,
    /// Vectors of a path: m − 2k + 1.
    pub(super) size: usize,
    /// Number of paths.
    pub(super) paths: usize,
    /// The first row.
    pub(super) start: usize,
}

struct Path {
    k: usize,
    vectors: Vec<Vec<f64>>,
}

impl SpinBasis {
    pub(super) fn new(variables: usize) -> Self {
        let mut paths = vec![Path { k: 0, vectors: vec![vec![1.0]] }];
        for variable in 0..variables {
            paths = paths.iter().flat_map(|path| path.couple(variable)).collect();
        }
        paths.sort_by_key(|path| path.k);
        let (mut kinds, mut start) = (Vec::new(), 0);
        for of_kind in paths.chunk_by(|a, b| a.k == b.k) {
            let (k, size) = (of_kind[0].k, of_kind[0].vectors.len());
            kinds.push(Kind { k, size, paths: of_kind.len(), start });
            start += size * of_kind.len();
        }
        let rows = paths.into_iter().flat_map(|path| path.vectors).flatten().collect();
        Self { rows, kinds }
    }
}

impl Path {
    /// Couples one more variable: the paths of spin J + ½ and, where there is one, J − ½.
    fn couple(&self, variable: usize) -> Vec<Self> {
        let spin = (variable as f64 - 2.0 * self.k as f64) / 2.0;
        let empty = vec![0.0; 1 << variable];
        let (mut higher, mut lower) = (Vec::new(), Vec::new());
        for order in self.k..=variable + 1 - self.k {
            // The two ways to reach this order: with the new variable absent, or present.
            let absent = self.vectors.get(order - self.k);
            let present = order.checked_sub(self.k + 1).and_then(|i| self.vectors.get(i));
            let join = |on_absent: f64, on_present: f64| -> Vec<f64> {
                let absent = absent.unwrap_or(&empty).iter().map(|x| on_absent * x);
                let present = present.unwrap_or(&empty).iter().map(|x| on_present * x);
                absent.chain(present).collect()
            };
            if absent.is_some() && present.is_some() {
                let m = order as f64 - (variable as f64 + 1.0) / 2.0;
                let cos = ((spin + m + 0.5) / (2.0 * spin + 1.0)).sqrt();
                let sin = ((spin - m + 0.5) / (2.0 * spin + 1.0)).sqrt();
                higher.push(join(sin, cos));
                lower.push(join(cos, -sin));
            } else {
                higher.push(join(1.0, 1.0));
            }
        }
        let lower = (!lower.is_empty()).then_some(Self { k: self.k + 1, vectors: lower });
        std::iter::once(Self { k: self.k, vectors: higher }).chain(lower).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::subset::order;

    #[test]
    fn the_basis_is_orthogonal_and_its_vectors_have_one_order_each() {
        for variables in 1..=6 {
            let (basis, length) = (SpinBasis::new(variables), 1usize << variables);
            let rows: Vec<&[f64]> = basis.rows.chunks_exact(length).collect();
            assert_eq!(rows.len(), length);
            for (i, a) in rows.iter().enumerate() {
                for (j, b) in rows.iter().enumerate() {
                    let product: f64 = a.iter().zip(*b).map(|(a, b)| a * b).sum();
                    let wanted = if i == j { 1.0 } else { 0.0 };
                    assert!((product - wanted).abs() < 1e-14, "rows {i} and {j}: {product}");
                }
            }
            for &Kind { k, size, paths, start } in &basis.kinds {
                for row in 0..size * paths {
                    let own = k + row % size;
                    let mut entries = rows[start + row].iter().enumerate();
                    assert!(entries.all(|(s, entry)| *entry == 0.0 || order(s) == own));
                }
            }
        }
    }
}
