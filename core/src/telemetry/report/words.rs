//! What monitors, values and reasons are in words.

use super::super::chart::number;
use crate::convergence::{Estimate, Goal, Monitor};
use maud::{Markup, html};

/// What a monitor tells, in a few words with its unit.
pub(crate) fn meaning(monitor: Monitor) -> &'static str {
    match monitor {
        Monitor::ConvergentRatio => {
            "share of the interaction strength on which both networks agree"
        }
        Monitor::ConvergentRatioTarget => "the same share for the target network alone",
        Monitor::ConvergentRatioLow => "the same share over orders up to 2",
        Monitor::ConvergentStrength => {
            "strength on which both networks agree, in units of the output"
        }
        Monitor::NonconvergentStrength => {
            "strength that one network has alone, in units of the output"
        }
        Monitor::InteractionCosine => "cosine between the effects of the two networks",
        Monitor::InteractionJaccard => "overlap of the signed effects, 0 to 1",
        Monitor::HighOrderShare => "share of the strength at order 5 and above",
        Monitor::OffsettingShare => "share of the strength in which positive and negative cancel",
        Monitor::OutputScaleTarget => "mean |v(N) − v(∅)| of the target, in log-odds",
        Monitor::OutputScaleBaseline => "mean |v(N) − v(∅)| of the baseline, in log-odds",
        Monitor::ProbeLoss => "cross-entropy on the probe in nats, mean of the networks",
        Monitor::ProbeLossTarget => "cross-entropy of the target on the probe, in nats",
        Monitor::ProbeLossBaseline => "cross-entropy of the baseline on the probe, in nats",
        Monitor::ProbeAccuracy => "accuracy on the probe, mean of the networks",
        Monitor::ProbeAccuracyTarget => "accuracy of the target on the probe",
        Monitor::ProbeAccuracyBaseline => "accuracy of the baseline on the probe",
        Monitor::ConvergenceScore => "−probe_loss + 0.25 · ln(convergent_ratio)",
        Monitor::Disagreement => "Jensen–Shannon divergence of the predictions, in nats",
    }
}

/// Which direction is better; nothing for a scale, which is neither good nor bad.
pub(crate) fn direction(monitor: Monitor) -> &'static str {
    match (monitor, monitor.goal()) {
        (Monitor::OutputScaleTarget | Monitor::OutputScaleBaseline, _) => "",
        (_, Goal::Max) => "; higher is better",
        (_, Goal::Min) => "; lower is better",
    }
}

/// Value and standard error, with the digits that the error allows. A line may break before the ±.
pub(crate) fn estimate_text(estimate: &Estimate) -> String {
    let Estimate { value, standard_error: error } = *estimate;
    if error <= 0.0 {
        return number(value);
    }
    let size = value.abs().max(error);
    if !(1e-3..1e6).contains(&size) {
        return format!("{} ±\u{a0}{}", number(value), number(error));
    }
    let digits = (1 - error.log10().floor() as i32).clamp(0, 5) as usize;
    format!("{value:.digits$} ±\u{a0}{error:.digits$}").replace('-', "−")
}

pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A sentence whose `names` are code and whose negative numbers have a minus.
pub(crate) fn prose(text: &str) -> Markup {
    let minus = |text: &str| text.replace(" -", " −").replace("(-", "(−");
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (minus(part)) }
        }
    }
}
