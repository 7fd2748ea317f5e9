//! Settings of the solver. One schedule holds for both networks and a whole run.

/// More noise than this share of |v(N) − v(∅)| leaves nothing to explain, and a wider relative gap nothing
/// that is known.
pub const LARGEST_SHARE: f64 = 0.5;

/// How long the solver works and when it is content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Relative gap at which an answer counts as certified. Default 1e-3.
    pub gap: f64,
    /// Iterations of the splitting that every table gets, whatever its gap: a stop that depends on
    /// rounding noise of v would make the salient set depend on it too. Default 600.
    pub iterations: usize,
    /// Iterations after which a table is given back uncertified. Default 20,000.
    pub most_iterations: usize,
    /// Tight rows up to which a table is taken from its near-optimal point to an optimal vertex, which
    /// is exact. The time of that grows with their third power. 0 keeps every near-optimal answer as
    /// it is. Default 384, where the time is of the order of the schedule's: no table of up to 8
    /// variables is too large, and not many of trained networks at 10.
    pub largest_basis: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { gap: 1e-3, iterations: 600, most_iterations: 20_000, largest_basis: 384 }
    }
}
