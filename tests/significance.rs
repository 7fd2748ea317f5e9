//! `significance` on runs of which the truth is known. The whole table: `cargo bench -p convergd-analysis --bench
//! significance`, in docs/policy.md.
#![allow(clippy::expect_used, missing_docs)]

#[path = "common/noisy_run.rs"]
mod noisy_run;

use convergd::convergence::Monitor;
use convergd::policy::Smooth;
use noisy_run::{Looks, run, stops_at};
use rayon::prelude::*;

const RUNS: u64 = 300;
const CHECKS: usize = 40;

/// The share of runs that are stopped, and that are stopped in their second half.
fn stopped(samples: usize, rise: f64, looks: Looks) -> (f64, f64) {
    let stops = stops(RUNS, samples, CHECKS, rise, looks);
    let late = stops.iter().filter(|&&step| step > CHECKS as u64 / 2).count();
    (stops.len() as f64 / RUNS as f64, late as f64 / RUNS as f64)
}

fn stops(runs: u64, samples: usize, checks: usize, rise: f64, looks: Looks) -> Vec<u64> {
    let seeds = (0..runs).into_par_iter();
    seeds.filter_map(|seed| stops_at(&run(seed, samples, checks, rise), looks)).collect()
}

fn looks(metric: Monitor, significance: Option<f64>) -> Looks {
    Looks { metric, smooth: Smooth::Nothing, patience: 3, significance }
}

#[test]
fn a_flat_curve_is_stopped_no_more_often_than_the_level_says() {
    for metric in [Monitor::ConvergenceScore, Monitor::ConvergentRatio] {
        for samples in [8, 20] {
            for level in [0.05, 0.2] {
                let (found, _) = stopped(samples, 0.0, looks(metric, Some(level)));
                assert!(found <= level, "{metric} of {samples} samples: {found} at {level}");
            }
        }
        let (without, _) = stopped(20, 0.0, looks(metric, None));
        assert!(without > 0.9, "patience alone stops nearly every flat run: {without}");
    }
}

#[test]
fn the_level_holds_with_any_patience_and_smoothing() {
    let base = looks(Monitor::ConvergentRatio, Some(0.1));
    for changed in [
        Looks { patience: 1, ..base },
        Looks { patience: 6, ..base },
        Looks { smooth: Smooth::Median(3), ..base },
        Looks { smooth: Smooth::Ema(0.3), patience: 1, ..base },
    ] {
        let (found, _) = stopped(20, 0.0, changed);
        assert!(found <= 0.1, "{found} with patience {}, {:?}", changed.patience, changed.smooth);
    }
}

#[test]
fn a_decline_is_found_and_smoothing_helps() {
    let score = looks(Monitor::ConvergenceScore, Some(0.05));
    let (_, plain) = stopped(60, 0.03, score);
    assert!(plain > 0.9, "{plain}");
    let (_, of_few) = stopped(15, 0.03, score);
    let (_, smoothed) = stopped(15, 0.03, Looks { smooth: Smooth::Ema(0.5), ..score });
    assert!(of_few > 0.15 && smoothed > of_few, "{of_few} and {smoothed}");
}

#[test]
fn a_long_run_does_not_spend_more_than_a_short_one_may() {
    let looks = looks(Monitor::ConvergentRatio, Some(0.05));
    let found = stops(120, 40, 400, 0.0, looks).len();
    assert!(found <= 6, "{found} of 120 flat runs of 400 checks");
}
