//! How often a flat curve is stopped, and how often a decline is found: `cargo bench -p convergd-analysis
//! --bench significance`. The table of docs/policy.md.

#![allow(clippy::expect_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/common/noisy_run.rs"]
mod noisy_run;

use convergd_analysis::convergence::Monitor;
use convergd_analysis::policy::Smooth;
use noisy_run::{Looks, run, stops_at};
use rayon::prelude::*;

const RUNS: u64 = 1000;
const CHECKS: usize = 40;

fn main() {
    println!("{RUNS} runs of {CHECKS} checks each; the decline begins at check {}", CHECKS / 2);
    println!(
        "{:>18} {:>8} {:>9} {:>12} {:>9} | {:>6} | {:>22} {:>22}",
        "monitor",
        "samples",
        "patience",
        "significance",
        "smooth",
        "flat",
        "decline 1 % a check",
        "3 % a check"
    );
    for metric in [Monitor::ConvergenceScore, Monitor::ConvergentRatio] {
        for samples in [8, 15, 30, 60] {
            for (patience, significance, smooth) in [
                (3, None, Smooth::Nothing),
                (3, Some(0.05), Smooth::Nothing),
                (3, Some(0.2), Smooth::Nothing),
                (3, Some(0.05), Smooth::Ema(0.5)),
            ] {
                row(samples, Looks { metric, smooth, patience, significance });
            }
        }
    }
    long();
}

/// How many flat runs are stopped that are much longer.
fn long() {
    const RUNS: u64 = 300;
    println!("\n{RUNS} flat runs of 60 samples, patience 3: stopped until then");
    for (metric, significance) in [
        (Monitor::ConvergenceScore, 0.01),
        (Monitor::ConvergentRatio, 0.01),
        (Monitor::ConvergentRatio, 0.05),
    ] {
        let looks = Looks {
            metric,
            smooth: Smooth::Nothing,
            patience: 3,
            significance: Some(significance),
        };
        let stops: Vec<u64> = (0..RUNS)
            .into_par_iter()
            .filter_map(|seed| stops_at(&run(seed, 60, 1000, 0.0), looks))
            .collect();
        let until = [40, 200, 1000].map(|checks| {
            let stopped = stops.iter().filter(|&&step| step < checks).count();
            format!("{checks} checks {:.1} %", 100.0 * stopped as f64 / RUNS as f64)
        });
        println!("{:>18} at {} %: {}", metric.name(), 100.0 * significance, until.join(", "));
    }
}

fn row(samples: usize, looks: Looks) {
    let Looks { metric, smooth, patience, significance } = looks;
    let smooth = match smooth {
        Smooth::Nothing => "-".to_owned(),
        Smooth::Ema(share) => format!("ema {share}"),
        Smooth::Median(count) => format!("median {count}"),
    };
    let level = significance.map_or("-".to_owned(), |level| format!("{} %", 100.0 * level));
    let flat = shares(samples, looks, 0.0);
    let declines = [0.01, 0.03].map(|rise| shares(samples, looks, rise));
    let [slow, fast] = declines
        .map(|Shares { early, late, delay }| format!("{late:.0} % ({early:.0} %) +{delay:.0}"));
    println!(
        "{:>18} {samples:>8} {patience:>9} {level:>12} {smooth:>9} | {:>4.1} % | {slow:>22} {fast:>22}",
        metric.name(),
        flat.early + flat.late
    );
}

/// In per cent of the runs.
struct Shares {
    /// Stopped before anything declined.
    early: f64,
    /// Stopped after it.
    late: f64,
    /// Checks from the begin of the decline to the stop, on average over those.
    delay: f64,
}

fn shares(samples: usize, looks: Looks, rise: f64) -> Shares {
    let begin = CHECKS as u64 / 2;
    let stops: Vec<Option<u64>> = (0..RUNS)
        .into_par_iter()
        .map(|seed| stops_at(&run(seed, samples, CHECKS, rise), looks))
        .collect();
    let percent = |count: usize| 100.0 * count as f64 / RUNS as f64;
    let late: Vec<u64> = stops.iter().flatten().copied().filter(|&step| step > begin).collect();
    let early = stops.iter().flatten().filter(|&&step| step <= begin).count();
    let delay =
        late.iter().map(|step| (step - begin) as f64).sum::<f64>() / late.len().max(1) as f64;
    Shares { early: percent(early), late: percent(late.len()), delay }
}
