//! Log lines with the monitors of a pair.

/// An event at `info` that has, beside its own fields, each monitor as a field of its name, where it is defined.
macro_rules! tell_with_monitors {
    ($monitors:expr, { $($fields:tt)* } $($message:tt)+) => {{
        let monitors: &crate::convergence::Monitors = $monitors;
        let value = |monitor| monitors.get(&monitor).map(|estimate| estimate.value);
        tracing::info!(
            $($fields)*
            convergence_score = value(Monitor::ConvergenceScore),
            convergent_ratio = value(Monitor::ConvergentRatio),
            convergent_ratio_target = value(Monitor::ConvergentRatioTarget),
            convergent_ratio_low = value(Monitor::ConvergentRatioLow),
            convergent_strength = value(Monitor::ConvergentStrength),
            nonconvergent_strength = value(Monitor::NonconvergentStrength),
            interaction_cosine = value(Monitor::InteractionCosine),
            interaction_jaccard = value(Monitor::InteractionJaccard),
            high_order_share = value(Monitor::HighOrderShare),
            offsetting_share = value(Monitor::OffsettingShare),
            output_scale_target = value(Monitor::OutputScaleTarget),
            output_scale_baseline = value(Monitor::OutputScaleBaseline),
            probe_loss = value(Monitor::ProbeLoss),
            probe_loss_target = value(Monitor::ProbeLossTarget),
            probe_loss_baseline = value(Monitor::ProbeLossBaseline),
            probe_accuracy = value(Monitor::ProbeAccuracy),
            probe_accuracy_target = value(Monitor::ProbeAccuracyTarget),
            probe_accuracy_baseline = value(Monitor::ProbeAccuracyBaseline),
            disagreement = value(Monitor::Disagreement),
            $($message)+
        )
    }};
}

pub(super) use tell_with_monitors;
