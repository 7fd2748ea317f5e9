//! What `convergd doctor` says of libtorch and of the networks.

use super::of_network;
use crate::config::Config;
use crate::evaluation::{Priority, ValueCache};
use crate::network::{Evaluator, Source, device, memory};
use crate::priority;
use crate::role::Role;
use convergd_core::cli::Exit;
use convergd_core::cli::doctor::{Findings, Networks};
use std::path::PathBuf;

/// libtorch is in this program.
pub(super) struct Here;

impl Networks for Here {
    fn libtorch(&self, findings: &mut Findings) {
        match (device::self_test(), device::libtorch_path()) {
            (true, Some(path)) => findings.good("libtorch", &path.display().to_string()),
            (true, None) => findings.good("libtorch", "linked"),
            (false, _) => findings.bad("libtorch", "1.5 + 2.5 is not 4", Exit::Device),
        }
        match device::cuda_devices() {
            0 => findings.warn("CUDA", "libtorch sees no device"),
            count => {
                let s = if count == 1 { "" } else { "s" };
                findings.good("CUDA", &format!("{count} device{s}"));
            }
        }
    }

    fn fit(&self, config: &Config, newest: [Option<PathBuf>; 2], findings: &mut Findings) {
        let what = "networks";
        // Nothing is evaluated, so nothing is cached.
        let evaluator =
            match Evaluator::start(config.network.clone(), ValueCache::new(PathBuf::new(), 0)) {
                Ok(evaluator) => evaluator,
                Err(error) => return findings.bad(what, &error.to_string(), of_network(&error)),
            };
        let (devices, samples) = (device::names(&evaluator.devices()), evaluator.samples());
        findings.good(
            what,
            &format!("programs and {samples} probe samples fit each other on {devices}"),
        );
        let [target, baseline] = evaluator.batches();
        let free = memory::free(evaluator.device()).map_or_else(
            || "what is free is not told".to_owned(),
            |free| format!("{:.1} GiB are free", free as f64 / f64::from(1 << 30)),
        );
        let share = percent(config.network.memory);
        findings.good(
            what,
            &format!("up to {target} and {baseline} masked inputs at a time, fewer where they need more than {share} of what is free; {free}"),
        );
        let Priority { nice, io } = config.network.priority;
        let nice = priority::niceness(nice);
        let within = if is_shared_by_session() {
            " within this session (the kernel shares among sessions first: `sched_autogroup_enabled` is 1)"
        } else {
            ""
        };
        findings
            .good(what, &format!("their threads have nice {nice} and io {}{within}", io.name()));
        let [Some(target), Some(baseline)] = newest else { return };
        let source = |role, file: PathBuf| Source { role, name: file.clone(), file };
        let pair = [source(Role::Target, target), source(Role::Baseline, baseline)];
        match evaluator.choose(pair).wait() {
            Ok(Some(_)) => findings.good(what, "the newest checkpoints load and give outputs"),
            Ok(None) => findings.warn(what, "the outputs of the newest checkpoints are not finite"),
            Err(error) => findings.bad(what, &error.to_string(), of_network(&error)),
        }
    }
}

/// A share, for people.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 0.01 {
        format!("{percent:.0e}%")
    } else {
        format!("{}%", (percent * 1e4).round() / 1e4)
    }
}

/// Whether niceness counts among the processes of one session alone.
fn is_shared_by_session() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled")
        .is_ok_and(|text| text.trim() == "1")
}
