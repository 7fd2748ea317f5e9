//! How strongly two networks agree (paper Eq. 5–7) and the monitors of one pair.
//!
//! An effect is *salient* when |effect| > τ, τ = salience·E_x|v(N) − v(∅)| of its network, and
//! *convergent* (G_T = 1, Eq. 5) when it is salient in both networks with the same sign. I^(k) is the
//! strength of all salient effects of order k, J^(k) that of the convergent ones (Eq. 6, 7), by sign
//! and network, averaged over the probe samples.

mod bootstrap;
mod monitor;
mod samples;
mod totals;

pub use bootstrap::{RESAMPLES, bootstrap};
pub use monitor::{Estimate, Goal, Monitor, Monitors};
pub use samples::Samples;
pub use totals::{Agreement, NetworkProbe, Pair, Strength, Totals};

/// Monitors with standard errors, and strengths by order, of one pair.
#[derive(Clone, Debug)]
pub struct Convergence {
    /// Every monitor that is defined for this pair.
    pub monitors: Monitors,
    /// Mean strengths by order, 0..=n, for (target, baseline), in units of v.
    pub strengths: [Vec<Strength>; 2],
    /// What every sample adds to it.
    pub samples: Samples,
}

/// Compares the two networks of a pair on the probe.
pub fn compare(pair: &Pair<'_>) -> Convergence {
    let samples = pair.per_sample();
    let total = samples.iter().fold(Totals::zero(pair.orders()), |sum, sample| sum.plus(sample));
    let estimates = bootstrap(&samples, monitor::values);
    let count = samples.len().max(1) as f64;
    let strengths = total
        .strength
        .clone()
        .map(|network| network.into_iter().map(|strength| strength.scaled(1.0 / count)).collect());
    let monitors = monitor::estimates(&total, &estimates);
    Convergence { monitors, strengths, samples: Samples::of(&samples) }
}

#[cfg(test)]
mod tests;
