//! Eq. 5–7 and the monitors against a direct, loop-by-loop oracle.

use super::*;
use crate::interaction::Interactions;
use proptest::prelude::*;

const N: usize = 4;
const SALIENCE: f64 = 0.1;

fn network(seed: u64, samples: usize) -> NetworkProbe {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut probe = NetworkProbe::default();
    for _ in 0..samples {
        let mut effects = || {
            (0..1 << N)
                .map(|t| match (t, random.u8(0..3)) {
                    (0, _) | (_, 0) => 0.0,
                    _ => random.f64() * 4.0 - 2.0,
                })
                .collect::<Vec<f64>>()
        };
        let (and, mut or) = (effects(), effects());
        (0..N).for_each(|i| or[1 << i] = 0.0);
        probe.interactions.push(Interactions { and, or });
        probe.outputs.push(random.f64() * 6.0 - 3.0);
        probe.losses.push(random.f64());
        probe.correct.push(random.bool());
        let p = random.f64();
        probe.probabilities.push(vec![p, 1.0 - p]);
    }
    probe
}

fn monitors(target: &NetworkProbe, baseline: &NetworkProbe) -> Monitors {
    compare(&Pair { target, baseline, salience: SALIENCE }).monitors
}

/// Eq. 5–7 written out: I and J of network `which`, by order and sign, summed over samples.
fn oracle(networks: [&NetworkProbe; 2], which: usize) -> Vec<[f64; 4]> {
    let tau = networks.map(|network| {
        let mut sum = 0.0;
        for output in &network.outputs {
            sum += output.abs();
        }
        SALIENCE * sum / network.outputs.len() as f64
    });
    let mut result = vec![[0.0; 4]; N + 1];
    for sample in 0..networks[0].outputs.len() {
        for or in [false, true] {
            for t in 1..1usize << N {
                let effect = |i: usize| {
                    let effects: &Interactions = &networks[i].interactions[sample];
                    if or { effects.or[t] } else { effects.and[t] }
                };
                let (mine, other) = (effect(which), effect(1 - which));
                if mine.abs() <= tau[which] {
                    continue;
                }
                let order = t.count_ones() as usize;
                let convergent = other.abs() > tau[1 - which] && mine * other > 0.0;
                result[order][0] += mine.max(0.0);
                result[order][1] -= mine.min(0.0);
                if convergent {
                    result[order][2] += mine.max(0.0);
                    result[order][3] -= mine.min(0.0);
                }
            }
        }
    }
    result
}

#[test]
fn strengths_equal_the_loop_by_loop_oracle() {
    let (target, baseline) = (network(1, 7), network(2, 7));
    let result = compare(&Pair { target: &target, baseline: &baseline, salience: SALIENCE });
    for which in 0..2 {
        let wanted = oracle([&target, &baseline], which);
        for (order, strength) in result.strengths[which].iter().enumerate() {
            let found = [
                strength.positive,
                strength.negative,
                strength.convergent_positive,
                strength.convergent_negative,
            ];
            for (found, wanted) in found.iter().zip(wanted[order]) {
                assert!((found - wanted / 7.0).abs() < 1e-12, "network {which}, order {order}");
            }
        }
    }
}

#[test]
fn ratios_equal_the_loop_by_loop_oracle() {
    let networks = [&network(3, 9), &network(4, 9)];
    let found = monitors(networks[0], networks[1]);
    let sum = |which: usize, low: bool, columns: [usize; 2]| -> f64 {
        let rows = oracle(networks, which).into_iter().enumerate();
        rows.filter(|(order, _)| !low || *order <= 2)
            .map(|(_, r)| r[columns[0]] + r[columns[1]])
            .sum()
    };
    let scale = |which: usize| networks[which].outputs.iter().map(|o| o.abs()).sum::<f64>();
    for (monitor, low) in [(Monitor::ConvergentRatio, false), (Monitor::ConvergentRatioLow, true)] {
        let top: f64 = (0..2).map(|i| sum(i, low, [2, 3]) / scale(i)).sum();
        let bottom: f64 = (0..2).map(|i| sum(i, low, [0, 1]) / scale(i)).sum();
        assert!((found[&monitor].value - top / bottom).abs() < 1e-12, "{monitor}");
    }
    let target = sum(0, false, [2, 3]) / sum(0, false, [0, 1]);
    assert!((found[&Monitor::ConvergentRatioTarget].value - target).abs() < 1e-12);
    let loss = (0..9).map(|i| networks[0].losses[i] + networks[1].losses[i]).sum::<f64>() / 18.0;
    assert!((found[&Monitor::ProbeLoss].value - loss).abs() < 1e-12);
    let score = -loss + 0.25 * found[&Monitor::ConvergentRatio].value.ln();
    assert!((found[&Monitor::ConvergenceScore].value - score).abs() < 1e-12);
}

#[test]
fn two_identical_networks_converge_fully() {
    let probe = network(5, 6);
    let found = monitors(&probe, &probe);
    for monitor in [
        Monitor::ConvergentRatio,
        Monitor::ConvergentRatioTarget,
        Monitor::ConvergentRatioLow,
        Monitor::InteractionCosine,
        Monitor::InteractionJaccard,
    ] {
        assert!((found[&monitor].value - 1.0).abs() < 1e-12, "{monitor}");
    }
    assert_eq!(found[&Monitor::NonconvergentStrength].value, 0.0);
    assert!(found[&Monitor::Disagreement].value.abs() < 1e-15);
}

#[test]
fn a_network_that_answers_nothing_has_no_ratio() {
    let mut silent = network(6, 4);
    silent.outputs.fill(0.0);
    silent.interactions.iter_mut().for_each(|sample| {
        sample.and.fill(0.0);
        sample.or.fill(0.0);
    });
    let found = monitors(&silent, &network(7, 4));
    assert!(!found.contains_key(&Monitor::ConvergentRatio));
    assert!(!found.contains_key(&Monitor::ConvergenceScore));
    assert!(found.contains_key(&Monitor::ProbeLoss));
}

#[test]
fn without_labels_loss_accuracy_and_score_are_absent() {
    let (mut target, baseline) = (network(8, 4), network(9, 4));
    target.losses.clear();
    let found = monitors(&target, &baseline);
    for monitor in [Monitor::ProbeLoss, Monitor::ProbeAccuracy, Monitor::ConvergenceScore] {
        assert!(!found.contains_key(&monitor), "{monitor}");
    }
    assert!(found.contains_key(&Monitor::Disagreement));
}

#[test]
fn the_standard_error_of_a_mean_is_the_known_one() {
    let (target, baseline) = (network(10, 400), network(11, 400));
    let found = monitors(&target, &baseline)[&Monitor::ProbeLossTarget].standard_error;
    let mean = target.losses.iter().sum::<f64>() / 400.0;
    let variance = target.losses.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / 399.0;
    let wanted = (variance / 400.0).sqrt();
    assert!((found / wanted - 1.0).abs() < 0.2, "{found} against {wanted}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn symmetric_monitors_are_symmetric(a in 0u64..1000, b in 0u64..1000) {
        let (a, b) = (network(a, 5), network(b, 5));
        let (there, back) = (monitors(&a, &b), monitors(&b, &a));
        for &monitor in Monitor::ALL {
            let one_sided = monitor.name().ends_with("_target") || monitor.name().ends_with("_baseline");
            if one_sided { continue }
            let pair = (there.get(&monitor), back.get(&monitor));
            match pair {
                (Some(x), Some(y)) => prop_assert!((x.value - y.value).abs() < 1e-12, "{monitor}"),
                (x, y) => prop_assert_eq!(x.is_some(), y.is_some()),
            }
        }
    }

    #[test]
    fn shares_stay_in_their_ranges(a in 0u64..1000, b in 0u64..1000) {
        let found = monitors(&network(a, 5), &network(b, 5));
        for monitor in [
            Monitor::ConvergentRatio, Monitor::InteractionJaccard, Monitor::HighOrderShare,
            Monitor::OffsettingShare,
        ] {
            let value = found[&monitor].value;
            prop_assert!((0.0..=1.0).contains(&value), "{monitor} is {value}");
        }
    }
}

#[test]
fn samples_give_the_monitors_back_and_are_stored_whole() {
    let (target, baseline) = (network(1, 9), network(2, 9));
    let Convergence { monitors, samples, .. } =
        compare(&Pair { target: &target, baseline: &baseline, salience: SALIENCE });
    assert_eq!(samples.count(), 9);
    for (&monitor, estimate) in &monitors {
        let value = samples.value(monitor).expect("defined");
        // The samples are float32.
        assert!((value - estimate.value).abs() < 1e-5, "{monitor}: {value} and {estimate:?}");
    }
    let bytes = samples.to_bytes();
    assert_eq!(Samples::from_bytes(&bytes), Some(samples.clone()));
    assert_eq!(Samples::from_bytes(&bytes[..bytes.len() - 1]), None);
    assert_eq!(Samples::from_bytes(b"{}"), None);
}

#[test]
fn deviations_are_as_wide_as_the_standard_error_and_cancel_in_equal_pairs() {
    let (target, baseline) = (network(3, 60), network(4, 60));
    let Convergence { monitors, samples, .. } =
        compare(&Pair { target: &target, baseline: &baseline, salience: SALIENCE });
    for monitor in [Monitor::ConvergentRatio, Monitor::ProbeLoss, Monitor::ConvergenceScore] {
        let deviations = samples.deviations(monitor, 4000).expect("enough samples");
        let mean = deviations.iter().sum::<f64>() / 4000.0;
        let squares: f64 = deviations.iter().map(|d| (d - mean).powi(2)).sum();
        let deviation = (squares / 3999.0).sqrt();
        let wanted = monitors[&monitor].standard_error * 60.0 / 58.0;
        assert!((deviation / wanted - 1.0).abs() < 0.15, "{monitor}: {deviation} and {wanted}");
        assert!(mean.abs() < 0.1 * deviation, "{monitor}: {mean}");
        assert_eq!(samples.deviations(monitor, 4000), Some(deviations), "the same resamples");
    }
    let few = compare(&Pair { target: &network(3, 2), baseline: &network(4, 2), salience: 0.1 });
    assert_eq!(few.samples.deviations(Monitor::ProbeLoss, 10), None);
}
