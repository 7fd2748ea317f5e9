//! Several policies side by side.

use super::{Candidate, say};
use crate::convergence::Monitor;
use crate::history::PairRow;

/// Monitors by which policies are compared, at the step that they name the best.
const COMPARED: [Monitor; 3] =
    [Monitor::ConvergenceScore, Monitor::ProbeLoss, Monitor::ProbeAccuracy];

/// One line a policy: where it ends, and what its best step is worth.
pub(super) fn print(pairs: &[PairRow], all: &[Candidate]) {
    let names: String = COMPARED.iter().map(|monitor| format!("{:>19}", monitor.name())).collect();
    say(format!("\n{:<28}{:>8}{:>8}{:>8}{names}", "policy", "action", "at", "best"));
    for candidate in all {
        let name = candidate.file.file_name().unwrap_or_default().to_string_lossy();
        // It ends the run, whatever was decided before.
        if let Some(missing) = &candidate.replayed.missing {
            let step = missing.step;
            say(format!("{name:<28}{:>8}{step:>8}", "error"));
            continue;
        }
        let Some(last) = candidate.last() else {
            say(format!("{name:<28}{:>8}", "none"));
            continue;
        };
        let best = candidate.best(pairs);
        let value = |monitor: &Monitor| {
            let estimate = best.and_then(|pair| pair.monitors.get(monitor));
            estimate.map_or_else(|| "-".to_owned(), |estimate| format!("{:.4}", estimate.value))
        };
        let values: String = COMPARED.iter().map(|m| format!("{:>19}", value(m))).collect();
        let step = last.best_step.map_or_else(|| "-".to_owned(), |step| step.to_string());
        say(format!("{name:<28}{:>8}{:>8}{step:>8}{values}", last.action, last.step));
    }
    say(
        "monitors at the best step of each; what would have come after another phase switch is not known",
    );
}
