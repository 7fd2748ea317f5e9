//! Runs of which the truth is known: monitors of simulated probe samples around a true curve.
//!
//! Samples differ from each other for good (some are hard), and each of them goes up and down for itself from
//! check to check, more alike at checks that follow each other, as samples of a probe do while a network trains.

use convergd_analysis::convergence::{Estimate, Monitor, Samples, Strength, Totals};
use convergd_analysis::policy::{
    Action, Condition, Followed, Margin, Observation, Patience, Peaked, Policy, Rule, Smooth,
    Warmup, replay,
};

/// How alike a sample is at two checks that follow each other.
const MEMORY: f64 = 0.7;
/// How far samples lie apart, in units of their logarithms.
const BETWEEN: f64 = 0.7;
/// How far a sample goes up and down for itself.
const WITHIN: f64 = 0.3;
/// Mean loss of a sample in nats.
const LOSS: f64 = 0.4;

/// A run of `checks` checks on `samples` samples. After half of the run the losses of all samples rise by
/// `rise` (a share of what they were) a check, and the convergent shares of their strength fall as
/// 1/(1 + rise·checks); until then the curve is flat.
pub(crate) fn run(seed: u64, samples: usize, checks: usize, rise: f64) -> Vec<Samples> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut normal = || {
        let (u, v) = (1.0 - random.f64(), random.f64());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let lasting: Vec<[f64; 3]> = (0..samples).map(|_| [normal(), normal(), normal()]).collect();
    let mut passing: Vec<[f64; 3]> = (0..samples).map(|_| [normal(), normal(), normal()]).collect();
    let mut run = Vec::with_capacity(checks);
    for check in 0..checks {
        let late = check.saturating_sub(checks / 2) as f64;
        for state in passing.iter_mut().flatten() {
            *state = MEMORY * *state + (1.0 - MEMORY * MEMORY).sqrt() * normal();
        }
        let all = lasting.iter().zip(&passing);
        let totals: Vec<Totals> =
            all.map(|(lasting, passing)| sample(lasting, passing, 1.0 + rise * late)).collect();
        run.push(Samples::of(&totals));
    }
    run
}

fn sample(lasting: &[f64; 3], passing: &[f64; 3], factor: f64) -> Totals {
    let at = |i: usize| (BETWEEN * lasting[i] + WITHIN * passing[i]).exp();
    let (strength, loss) = (2.0 * at(0), LOSS * at(1) * factor);
    let share = 1.0 / (1.0 + (-0.5 - WITHIN * passing[2] - BETWEEN * lasting[2]).exp()) / factor;
    let part = |share: f64| Strength {
        positive: 0.6 * strength,
        negative: 0.4 * strength,
        convergent_positive: 0.6 * share * strength,
        convergent_negative: 0.4 * share * strength,
    };
    let mut totals = Totals::zero(3);
    totals.samples = 1.0;
    totals.output = [1.5 * at(0); 2];
    totals.strength = [vec![Strength::default(), part(share), part(0.8 * share)], Vec::new()];
    totals.strength[1] = totals.strength[0].clone();
    (totals.loss, totals.correct) = (Some([loss, 1.1 * loss]), Some([1.0; 2]));
    totals
}

/// How a rule looks for a peak.
#[derive(Clone, Copy)]
pub(crate) struct Looks {
    pub metric: Monitor,
    pub smooth: Smooth,
    pub patience: u32,
    pub significance: Option<f64>,
}

/// The check, from 0, at which the rule stops the run.
pub(crate) fn stops_at(run: &[Samples], looks: Looks) -> Option<u64> {
    let followed =
        Followed { metric: looks.metric, goal: looks.metric.goal(), smooth: looks.smooth };
    let peaked = Peaked {
        followed,
        patience: Patience::Checks(looks.patience),
        min_drop: Margin::NONE,
        significance: looks.significance,
    };
    let rule = Rule {
        id: "peak".to_owned(),
        when: Condition::Peaked(peaked),
        then: Action::Stop,
        warmup: Warmup::default(),
        cooldown: None,
        phase: None,
    };
    let policy = Policy { rules: vec![rule], ..Policy::default() };
    let observe = |(step, samples): (usize, &Samples)| {
        let value = samples.value(looks.metric).expect("defined");
        let monitors = [(looks.metric, Estimate { value, standard_error: 0.0 })].into();
        Observation { step: step as u64, monitors, finite: true, samples: Some(samples.clone()) }
    };
    let observations: Vec<Observation> = run.iter().enumerate().map(observe).collect();
    let replayed = replay(&policy, observations.iter().map(|observation| (observation, 0.0)));
    replayed.decisions.first().map(|decision| decision.step)
}
