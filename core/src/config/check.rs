//! Loose types → [`Config`]: the one place where ranges are checked and defaults are set.

mod checkpoints;
mod compute;
mod condition;
mod control;
mod notify;
mod policy;

use self::checkpoints::Origin;
use self::compute::Compute;
use super::yaml::Checked;
use super::{Config, End, Interactions, Problems, Written, file};
use crate::checkpoint::Watching;
use crate::evaluation::VariableRule;
use crate::layout::{Layout, Limits, Reading, Steps};
use crate::policy::Policy;
use crate::role::Role;
use crate::{checkpoint, evaluation, sparsify};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

const DEFAULT_NOISE: f64 = 0.01;
/// A run compares networks by their interactions, and near-optimal ones shift that: so no table of up
/// to 10 variables is too large for an exact answer.
const RUN_LARGEST_BASIS: usize = 1023;
/// More is not worth its time: a basis of 4,096 takes minutes and a gigabyte.
const LARGEST_BASIS: usize = 4096;
const DEFAULT_SALIENCE: f64 = 0.02;
const DEFAULT_SELECT: usize = 10;
const DEFAULT_GRID: usize = 5;
const DEFAULT_STALE: Duration = Duration::from_secs(600);
/// Long enough for a training that is started again after a crash.
const DEFAULT_PROCESSES: Duration = Duration::from_secs(300);
const DEFAULT_IDLE: Duration = Duration::from_secs(3600);

/// `has_environment` where the file is to be run here, so that variables that it names must be set.
pub(super) fn check(
    path: &Path,
    file: file::File,
    checked: Checked,
    has_environment: bool,
) -> Result<Config, Problems> {
    let base = base(path);
    let mut check = Check { base, checked, has_environment, steps_per_epoch: None };
    let config = check.config(path, file);
    check.checked.finish(config)
}

/// The directory of a file. Absolute, so that messages and the history hold paths that mean the same everywhere.
fn base(path: &Path) -> PathBuf {
    let base = path.parent().map(Path::to_owned).unwrap_or_default();
    let base = std::path::absolute(Path::new(".").join(&base)).unwrap_or(base);
    std::fs::canonicalize(&base).unwrap_or(base)
}

/// The state directory alone.
pub(super) fn check_state(path: &Path, file: file::File) -> Option<PathBuf> {
    file.state.filter(|state| !state.as_os_str().is_empty()).map(|state| join(&base(path), &state))
}

/// The policy alone: of the other mistakes of the file only those that serde finds are said.
pub(super) fn check_policy(file: file::File, checked: Checked) -> Result<Policy, Problems> {
    let base = PathBuf::new();
    let mut check = Check { base, checked, has_environment: false, steps_per_epoch: None };
    let policy = check.policy(file.policy.unwrap_or_default());
    check.checked.finish(policy)
}

/// `base/path` without `.` and `..`; `base` holds no links.
fn join(base: &Path, path: &Path) -> PathBuf {
    let mut joined = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::ParentDir => {
                joined.pop();
            }
            Component::CurDir => {}
            component => joined.push(component),
        }
    }
    joined
}

fn layout(layout: Option<file::Layout>) -> Layout {
    match layout {
        None | Some(file::Layout::Safetensors) => Layout::Safetensors,
        Some(file::Layout::Torch) => Layout::Torch,
        Some(file::Layout::Lightning) => Layout::Lightning,
        Some(file::Layout::Hf) => Layout::Hf,
        Some(file::Layout::Torchscript) => Layout::Torchscript,
    }
}

struct Check {
    base: PathBuf,
    checked: Checked,
    has_environment: bool,
    /// Of the policy.
    steps_per_epoch: Option<u64>,
}

impl Check {
    fn config(&mut self, source: &Path, file: file::File) -> Option<Config> {
        let stem = source.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let state =
            self.path("state", file.state, "the directory of the history, such as `run/state`");
        let networks = file.networks.unwrap_or_default();
        let pid_files = self.pid_files(&networks);
        let limits = self.limits(file.limits.unwrap_or_default());
        let watching = self.watching(file.watch.unwrap_or_default());
        let common = file.program.as_ref();
        let target = self.network(Role::Target, networks.target, common, limits, watching);
        let baseline = self.network(Role::Baseline, networks.baseline, common, limits, watching);
        let pairing = file.pairing.unwrap_or_default();
        let order = self.pairing(&pairing);
        let probe = self.probe(file.probe.unwrap_or_default());
        let compute = file.compute.unwrap_or_default();
        let compute = self.compute(compute);
        let interactions = self.interactions(file.interactions.unwrap_or_default());
        let policy = self.policy(file.policy.unwrap_or_default());
        let notify = self.notify(file.notify.unwrap_or_default());
        let webhooks = notify.as_deref().map(|all| all.iter().map(|w| w.name.clone()).collect());
        let control = self.control(file.control.unwrap_or_default(), pid_files, webhooks);
        let telemetry = file.telemetry.unwrap_or_default();
        let listen = self.listen(telemetry.listen);
        let tensorboard = match telemetry.tensorboard {
            None => Some(None),
            given => {
                let what = "a directory for event files, such as `run/events`, or leave it out";
                self.path("telemetry.tensorboard", given, what).map(Some)
            }
        };
        let end = file.end.unwrap_or_default();
        let cache_size = file.cache.unwrap_or_default().size;
        let cache_size = cache_size.map_or(evaluation::cache::DEFAULT_SIZE, |size| size.0);
        let (target, target_program, target_reading) = target?;
        let (baseline, baseline_program, baseline_reading) = baseline?;
        let (watch, fixed) = self.sources(target, baseline)?;
        let Compute { devices, precision, threads, batch, memory, priority } = compute?;
        let (probe_file, samples, variables, baseline_value) = probe?;
        Some(Config {
            source: source.to_owned(),
            name: file.name.or(stem).unwrap_or_default(),
            state: state?,
            cache_size,
            watch,
            fixed,
            stale: pairing.stale.map_or(DEFAULT_STALE, |stale| stale.0),
            pairing: order?,
            network: evaluation::Settings {
                programs: [target_program, baseline_program],
                reading: [target_reading, baseline_reading],
                probe: probe_file,
                samples,
                variables,
                baseline: baseline_value,
                devices,
                precision,
                threads,
                batch,
                memory,
                priority,
            },
            interactions: interactions?,
            policy: policy?,
            control: control?,
            notify: notify?,
            listen: listen?,
            grace: telemetry.grace.map_or(std::time::Duration::ZERO, |grace| grace.0),
            tensorboard: tensorboard?,
            end: End {
                idle: end.idle.map_or(DEFAULT_IDLE, |idle| idle.0),
                is_idle_chosen: end.idle.is_some(),
                processes: end.processes.map_or(DEFAULT_PROCESSES, |gone| gone.0),
                max_step: end.max_step,
            },
            written: Written::default(),
        })
    }

    fn path(&mut self, at: &str, path: Option<PathBuf>, what: &str) -> Option<PathBuf> {
        match path {
            Some(path) if !path.as_os_str().is_empty() => Some(join(&self.base, &path)),
            _ => {
                self.checked.report(at, format!("is missing: give {what}"));
                None
            }
        }
    }

    fn network(
        &mut self,
        role: Role,
        network: Option<file::Network>,
        common: Option<&PathBuf>,
        limits: Option<Limits>,
        watching: Option<Watching>,
    ) -> Option<(Origin, PathBuf, Reading)> {
        let network = network.unwrap_or_default();
        let at = |field: &str| format!("networks.{role}.{field}");
        let has_both = network.fixed.is_some() && network.checkpoints.is_some();
        if network.fixed.is_some() && (has_both || role == Role::Target) {
            let message = match has_both {
                true => "is one checkpoint instead of a training; leave `checkpoints` or this out",
                false => "is for the baseline alone: the target is the training that is stopped",
            };
            self.checked.report(&at("fixed"), message);
            return None;
        }
        let is_fixed = network.fixed.is_some();
        let directory = match network.fixed {
            Some(fixed) => self.path(&at("fixed"), Some(fixed), "the checkpoint"),
            None => self.path(
                &at("checkpoints"),
                network.checkpoints,
                "the directory that this training writes its checkpoints to",
            ),
        };
        let program = self.path(
            &at("program"),
            network.program.or_else(|| common.cloned()),
            "the TorchScript file of the network here, or `program` at the top for both",
        );
        let layout = layout(network.layout);
        let steps = self.steps(&at("steps"), network.steps, layout);
        let marker = network.ready.unwrap_or_default().marker;
        let marker = self.marker(&at("ready.marker"), marker);
        let (directory, limits) = (directory?, limits?);
        let settings = checkpoint::Settings {
            role,
            directory,
            layout,
            steps: steps?,
            limits,
            marker: marker?,
            watching: watching?,
        };
        let origin = match is_fixed {
            true => Origin::Fixed(settings.directory),
            false => Origin::Training(settings),
        };
        Some((origin, program?, Reading { layout, weights: network.weights, limits }))
    }

    fn steps(&mut self, at: &str, steps: Option<String>, layout: Layout) -> Option<Steps> {
        let Some(text) = steps else { return Some(Steps::Default) };
        let refusal = match text.parse() {
            Ok(Steps::Inside) if !layout.tells_its_step() => format!(
                "is `inside`, but checkpoints of `layout: {}` do not tell their step; leave it out or \
                 write a pattern such as `model_{{step}}.pt`",
                layout.name()
            ),
            Ok(steps) => return Some(steps),
            Err(message) => format!("is `{text}`, which {message}"),
        };
        self.checked.report(at, refusal);
        None
    }

    fn limits(&mut self, file: file::Limits) -> Option<Limits> {
        let defaults = Limits::default();
        let size = |size: Option<file::Size>, default| size.map_or(default, |size| size.0);
        let limits = Limits {
            checkpoint: size(file.checkpoint, defaults.checkpoint),
            header: size(file.header, defaults.header),
            objects: file.objects.unwrap_or(defaults.objects),
        };
        let all = [
            ("checkpoint", limits.checkpoint),
            ("header", limits.header),
            ("objects", limits.objects),
        ];
        let zero = all.iter().find(|(_, limit)| *limit == 0);
        if let Some((name, _)) = zero {
            let message = "is 0, so that every checkpoint would be refused; leave it out";
            self.checked.report(&format!("limits.{name}"), message);
        }
        zero.is_none().then_some(limits)
    }

    fn probe(
        &mut self,
        probe: file::Probe,
    ) -> Option<(PathBuf, Option<usize>, Option<VariableRule>, evaluation::Baseline)> {
        let file = self.path("probe.file", probe.file, "the safetensors file of the probe");
        if probe.samples == Some(0) {
            self.checked.report("probe.samples", "is 0, but at least 1 sample is needed");
        }
        let variables = match probe.variables {
            None => Some(None),
            Some(rule) => self.variables(rule).map(Some),
        };
        let baseline = match probe.baseline {
            None | Some(file::Baseline::Zero) => evaluation::Baseline::Zero,
            Some(file::Baseline::Mean) => evaluation::Baseline::Mean,
            Some(file::Baseline::File) => evaluation::Baseline::File,
        };
        Some((file?, probe.samples, variables?, baseline))
    }

    fn variables(&mut self, rule: file::Variables) -> Option<VariableRule> {
        match rule {
            file::Variables::ImagePatches(file::ImagePatches { grid, margin, select }) => {
                let at = "probe.variables.image_patches";
                let grid = self.count(&format!("{at}.grid"), grid, 1..=64, DEFAULT_GRID)?;
                let margin = margin.unwrap_or(0);
                let select = self.count(&format!("{at}.select"), select, 2..=16, DEFAULT_SELECT)?;
                let inner = grid.saturating_sub(2 * margin);
                if inner * inner < select {
                    self.checked.report(
                        &format!("{at}.select"),
                        format!(
                            "is {select}, but a grid of {grid} with a margin of {margin} has only {} \
                             patches; select fewer or take a finer grid",
                            inner * inner
                        ),
                    );
                }
                Some(VariableRule::ImagePatches { grid, margin, select })
            }
            file::Variables::Tokens(file::Tokens { select, exclude_ids }) => {
                let at = "probe.variables.tokens.select";
                let select = self.count(at, select, 2..=16, DEFAULT_SELECT)?;
                Some(VariableRule::Tokens { select, exclude_ids: exclude_ids.unwrap_or_default() })
            }
            file::Variables::Columns(file::Columns { groups }) => {
                let at = "probe.variables.columns.groups";
                let groups = self.count(at, groups, 2..=16, DEFAULT_SELECT)?;
                Some(VariableRule::Columns { groups })
            }
        }
    }

    fn count(
        &mut self,
        at: &str,
        value: Option<usize>,
        range: std::ops::RangeInclusive<usize>,
        default: usize,
    ) -> Option<usize> {
        let value = value.unwrap_or(default);
        if range.contains(&value) {
            return Some(value);
        }
        let (least, most) = range.into_inner();
        self.checked.report(at, format!("is {value}, but must lie between {least} and {most}"));
        None
    }

    fn number(
        &mut self,
        at: &str,
        value: Option<f64>,
        range: std::ops::RangeInclusive<f64>,
        default: f64,
    ) -> Option<f64> {
        let value = value.unwrap_or(default);
        if range.contains(&value) {
            return Some(value);
        }
        let (least, most) = range.into_inner();
        let range = match (least, most) {
            (f64::MIN, f64::MAX) => "must be a number".to_owned(),
            (_, f64::MAX) => format!("must be a number of {least} or more"),
            (f64::MIN_POSITIVE, _) => format!("must lie above 0, at most {most}"),
            _ => format!("must lie between {least} and {most}"),
        };
        self.checked.report(at, format!("is {value}, but {range}"));
        None
    }

    fn interactions(&mut self, file: file::Interactions) -> Option<Interactions> {
        let defaults = sparsify::Settings::default();
        let noise = self.number(
            "interactions.noise",
            file.noise.map(|file::Factor(factor)| factor),
            0.0..=sparsify::LARGEST_SHARE,
            DEFAULT_NOISE,
        );
        let salience = self.number(
            "interactions.salience",
            file.salience.map(|file::Factor(factor)| factor),
            0.0..=1.0,
            DEFAULT_SALIENCE,
        );
        let gap = self.number(
            "interactions.gap",
            file.gap.map(|file::Factor(factor)| factor),
            sparsify::EXACT_GAP..=sparsify::LARGEST_SHARE,
            defaults.gap,
        );
        let at = "interactions.largest_basis";
        let largest_basis =
            self.count(at, file.largest_basis, 0..=LARGEST_BASIS, RUN_LARGEST_BASIS);
        let solver = sparsify::Settings { gap: gap?, largest_basis: largest_basis?, ..defaults };
        Some(Interactions { noise: noise?, salience: salience?, solver })
    }

    fn listen(&mut self, listen: Option<String>) -> Option<Option<std::net::SocketAddr>> {
        let Some(listen) = listen else { return Some(None) };
        match listen.parse() {
            Ok(address) => Some(Some(address)),
            Err(_) => {
                let message = format!(
                    "is `{listen}`, which is no address; write one such as `127.0.0.1:9464`"
                );
                self.checked.report("telemetry.listen", message);
                None
            }
        }
    }
}
