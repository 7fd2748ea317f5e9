//! Prometheus metrics (DESIGN section 10), prefix `convergd_`. Labels are never a step or a path. docs/metrics.md
//! lists them all.

use super::control::{ACTIONS, ControlMetrics};
use super::register::{Description, New, PREFIX, show};
use super::rules::RuleMetrics;
use crate::checkpoint::{Cause, Mode};
use crate::convergence::{Monitors, Strength};
use crate::evaluation::Cached;
use crate::history::Outcome;
use crate::role::Role;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Registry, TextEncoder,
};
use std::sync::Arc;
use std::time::Duration;

/// Seconds; from a cached pair to a long one.
const STAGE_BUCKETS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
/// Seconds; from a local disk to shards that must stand unchanged for two minutes.
const READY_BUCKETS: [f64; 10] = [0.1, 0.2, 0.4, 0.8, 2.0, 5.0, 10.0, 30.0, 60.0, 150.0];
const STAGES: [&str; 3] = ["values", "extraction", "commit"];

/// All metrics, registered.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    described: Arc<[Description]>,
    monitor_value: GaugeVec,
    monitor_stderr: GaugeVec,
    strength: GaugeVec,
    /// Step of the last pair.
    pub pair_step: IntGauge,
    /// Whether outputs of the last pair are not finite.
    pub pair_not_finite: IntGauge,
    /// Pairs evaluated by this process.
    pub pairs_total: IntCounter,
    checkpoints_total: IntCounterVec,
    decisions_total: IntCounterVec,
    deliveries_total: IntCounterVec,
    forward_rows_total: IntCounterVec,
    errors_total: IntCounterVec,
    cache_bytes: IntGauge,
    cache_evictions_total: IntCounter,
    cache_lookups_total: IntCounterVec,
    watcher_mode: IntGaugeVec,
    pair_stale: IntGaugeVec,
    watch_rescans_total: IntCounterVec,
    stage_duration: HistogramVec,
    ready_delay: Histogram,
    phase: GaugeVec,
    /// λ of the phase.
    pub lambda: Gauge,
    /// Largest gap of the last pair's extractions.
    pub solver_gap_max: Gauge,
    noise_floor: GaugeVec,
    device_memory: GaugeVec,
    devices: IntGauge,
    checkpoint_last_seen: GaugeVec,
    evaluation_lag: IntGaugeVec,
    /// Checkpoints that wait for their partner or their evaluation.
    pub queue_length: IntGauge,
    /// When the last pair was stored.
    pub evaluation_last_success: Gauge,
    /// 1 when the run is over and this is what it left.
    pub run_ended: IntGauge,
    /// What the rules remember and say.
    pub rules: RuleMetrics,
    /// What trainers are told and how they answer.
    pub control: ControlMetrics,
}

impl Metrics {
    /// Registers everything; counters start at 0.
    ///
    /// # Errors
    /// A name that is registered twice.
    pub fn new(device: &str) -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some(PREFIX.to_owned()), None)?;
        let new = New::to(&registry);
        let build = new.gauges(
            "build_info",
            "Always 1; the labels tell version and device",
            &["version", "device"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), device]).set(1.0);
        let metrics = Self {
            monitor_value: new.gauges("monitor_value", "Monitor of the last pair", &["monitor"])?,
            monitor_stderr: new.gauges(
                "monitor_stderr",
                "Standard error of the monitor over probe samples",
                &["monitor"],
            )?,
            strength: new.gauges(
                "strength",
                "Mean strength of interactions of the last pair in log-odds",
                &["network", "kind", "sign", "order"],
            )?,
            pair_step: new.whole_gauge("pair_step", "Training step of the last pair")?,
            pair_not_finite: new.whole_gauge(
                "pair_not_finite",
                "1 where outputs of a network at the last pair are not finite",
            )?,
            pairs_total: new.counter("pairs_total", "Pairs evaluated")?,
            checkpoints_total: new.counters(
                "checkpoints_total",
                "Checkpoints dealt with, by how they ended",
                &["network", "outcome"],
            )?,
            decisions_total: new.counters("decisions_total", "Decisions made", &["action"])?,
            deliveries_total: new.counters(
                "control_deliveries_total",
                "Attempts to tell the trainers",
                &["channel", "outcome"],
            )?,
            forward_rows_total: new.counters(
                "forward_rows_total",
                "Masked inputs that went through the network",
                &["network"],
            )?,
            errors_total: new.counters(
                "errors_total",
                "Errors that did not end the run",
                &["stage"],
            )?,
            cache_bytes: new
                .whole_gauge("value_cache_bytes", "Bytes of the cached value tables")?,
            cache_evictions_total: new.counter(
                "value_cache_evictions_total",
                "Value tables that went from the cache to make room",
            )?,
            cache_lookups_total: new.counters(
                "value_cache_lookups_total",
                "Checkpoints that were looked up in the cache, by what was found",
                &["outcome"],
            )?,
            watcher_mode: new.whole_gauges(
                "watcher_mode",
                "1 for the way in which a directory is watched",
                &["network", "mode"],
            )?,
            pair_stale: new.whole_gauges(
                "pair_stale",
                "1 for a network that is silent while the other goes on",
                &["network"],
            )?,
            watch_rescans_total: new.counters(
                "watch_rescans_total",
                "Scans of checkpoint directories, by what caused them",
                &["reason"],
            )?,
            stage_duration: new.histograms(
                "stage_duration_seconds",
                "Time a pair spends in a stage",
                &["stage"],
                &STAGE_BUCKETS,
            )?,
            ready_delay: new.histogram(
                "checkpoint_ready_delay_seconds",
                "Time from when a checkpoint is first seen as it is until it is ready",
                &READY_BUCKETS,
            )?,
            phase: new.gauges("phase", "1 for the phase that the training is in", &["phase"])?,
            lambda: new.gauge("lambda", "Weight of the interaction loss")?,
            solver_gap_max: new
                .gauge("solver_gap_max", "Largest relative gap of the last pair")?,
            noise_floor: new.gauges(
                "precision_noise_floor",
                "Largest difference from float32 of an effect of the last pair, as a share of the output",
                &["network"],
            )?,
            device_memory: new.gauges(
                "device_memory_bytes",
                "Memory of the GPUs that was held for the last pair, given back since; none on a CPU",
                &[],
            )?,
            devices: new.whole_gauge(
                "devices",
                "Devices in use; one that fails is given up until the next start",
            )?,
            checkpoint_last_seen: new.gauges(
                "checkpoint_last_seen_timestamp_seconds",
                "When the last checkpoint became ready",
                &["network"],
            )?,
            evaluation_lag: new.whole_gauges(
                "evaluation_lag_steps",
                "Steps from the last pair to the newest checkpoint",
                &["network"],
            )?,
            queue_length: new
                .whole_gauge("queue_length", "Checkpoints that wait to be evaluated")?,
            evaluation_last_success: new.gauge(
                "evaluation_last_success_timestamp_seconds",
                "When the last pair was stored; 0 before the first",
            )?,
            run_ended: new.whole_gauge(
                "run_ended",
                "1 once the run is over, while telemetry.grace still serves what it left",
            )?,
            rules: RuleMetrics::new(&new)?,
            control: ControlMetrics::new(&new)?,
            described: new.described.take().into(),
            registry: registry.clone(),
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// What is served, in the order of registration; some of it has no series at times.
    pub fn described(&self) -> &[Description] {
        &self.described
    }

    fn start_at_zero(&self) {
        for role in Role::BOTH {
            for outcome in Outcome::FINAL {
                self.checkpoints_total.with_label_values(&[role.name(), outcome.name()]);
            }
            self.forward_rows_total.with_label_values(&[role.name()]);
            self.pair_stale.with_label_values(&[role.name()]);
        }
        for cause in Cause::ALL {
            self.watch_rescans_total.with_label_values(&[cause.name()]);
        }
        for action in ACTIONS {
            self.decisions_total.with_label_values(&[action]);
        }
        for outcome in ["success", "failure"] {
            self.deliveries_total.with_label_values(&["file", outcome]);
            self.deliveries_total.with_label_values(&["webhook", outcome]);
        }
        self.deliveries_total.with_label_values(&["webhook", "given_up"]);
        for stage in STAGES {
            self.stage_duration.with_label_values(&[stage]);
        }
        for stage in STAGES.into_iter().chain(["history", "cache", "device", "tensorboard"]) {
            self.errors_total.with_label_values(&[stage]);
        }
        for outcome in ["hit", "miss", "damaged"] {
            self.cache_lookups_total.with_label_values(&[outcome]);
        }
    }

    /// Everything in the text format of Prometheus.
    ///
    /// # Errors
    /// An encoder that fails.
    pub fn encode(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }

    /// Shows a pair's monitors; those that it lacks vanish.
    pub fn show_monitors(&self, monitors: &Monitors) {
        let of = |what: fn(&crate::convergence::Estimate) -> f64| -> Vec<([&str; 1], f64)> {
            monitors.iter().map(|(monitor, estimate)| ([monitor.name()], what(estimate))).collect()
        };
        show(&self.monitor_value, &of(|estimate| estimate.value));
        show(&self.monitor_stderr, &of(|estimate| estimate.standard_error));
    }

    /// Shows a pair's strengths by order.
    pub fn show_strengths(&self, strengths: &[Vec<Strength>; 2]) {
        let most = strengths.iter().map(Vec::len).max().unwrap_or_default();
        let orders: Vec<String> = (0..most).map(|order| order.to_string()).collect();
        let mut series = Vec::new();
        for (role, of_role) in Role::BOTH.into_iter().zip(strengths) {
            for (order, strength) in orders.iter().zip(of_role).skip(1) {
                for (kind, sign, value) in [
                    ("all", "positive", strength.positive),
                    ("all", "negative", strength.negative),
                    ("convergent", "positive", strength.convergent_positive),
                    ("convergent", "negative", strength.convergent_negative),
                ] {
                    series.push(([role.name(), kind, sign, order], value));
                }
            }
        }
        show(&self.strength, &series);
    }

    /// Shows what the precision does to effects; in float32 there is nothing to show.
    pub fn show_noise_floor(&self, floor: Option<[f64; 2]>) {
        let floors = Role::BOTH.into_iter().zip(floor.into_iter().flatten());
        let series: Vec<_> = floors.map(|(role, floor)| ([role.name()], floor)).collect();
        show(&self.noise_floor, &series);
    }

    /// Shows how many devices are in use, and gives how many it showed before.
    pub fn show_devices(&self, count: usize) -> usize {
        let before = usize::try_from(self.devices.get()).unwrap_or(0);
        self.devices.set(i64::try_from(count).unwrap_or(i64::MAX));
        before
    }

    /// Shows the memory that is held on devices; a CPU has none of its own.
    pub fn show_device_memory(&self, bytes: Option<u64>) {
        let series: Vec<_> = bytes.map(|bytes| ([], bytes as f64)).into_iter().collect();
        show(&self.device_memory, &series);
    }

    /// Shows the phase and its λ.
    pub fn show_phase(&self, phase: &str, lambda: f64) {
        show(&self.phase, &[([phase], 1.0)]);
        self.lambda.set(lambda);
    }

    /// Counts a checkpoint.
    pub fn count_checkpoint(&self, role: Role, outcome: Outcome) {
        self.checkpoints_total.with_label_values(&[role.name(), outcome.name()]).inc();
    }

    /// Counts a decision.
    pub fn count_decision(&self, action: &str) {
        self.decisions_total.with_label_values(&[action]).inc();
    }

    /// Counts an attempt to write the control file.
    pub fn count_delivery(&self, succeeded: bool) {
        let outcome = if succeeded { "success" } else { "failure" };
        self.deliveries_total.with_label_values(&["file", outcome]).inc();
    }

    /// Counts attempts to tell a webhook.
    pub fn count_webhook(&self, succeeded: bool, failures: u32) {
        let of = |outcome| self.deliveries_total.with_label_values(&["webhook", outcome]);
        of("success").inc_by(u64::from(succeeded));
        of("failure").inc_by(u64::from(failures));
    }

    /// Counts what a webhook is not told any more.
    pub fn count_given_up(&self) {
        self.deliveries_total.with_label_values(&["webhook", "given_up"]).inc();
    }

    /// Counts masked inputs.
    pub fn count_rows(&self, role: Role, rows: u64) {
        self.forward_rows_total.with_label_values(&[role.name()]).inc_by(rows);
    }

    /// Counts what an evaluation found in the cache, and shows what the cache holds now.
    pub fn show_cache(&self, cached: &Cached) {
        self.cache_lookups_total.with_label_values(&[cached.lookup]).inc();
        self.cache_evictions_total.inc_by(cached.evicted);
        self.cache_bytes.set(i64::try_from(cached.bytes).unwrap_or(i64::MAX));
        if !cached.is_kept {
            self.count_error("cache");
        }
    }

    /// Counts an error of a stage.
    pub fn count_error(&self, stage: &str) {
        self.errors_total.with_label_values(&[stage]).inc();
    }

    /// Shows how a directory is watched.
    pub fn show_mode(&self, role: Role, mode: Mode) {
        for other in Mode::ALL {
            let is_it = i64::from(other == mode);
            self.watcher_mode.with_label_values(&[role.name(), other.name()]).set(is_it);
        }
    }

    /// Shows whether a network is silent while the other goes on.
    pub fn show_stale(&self, role: Role, is_stale: bool) {
        self.pair_stale.with_label_values(&[role.name()]).set(i64::from(is_stale));
    }

    /// Counts scans.
    pub fn count_scans(&self, cause: Cause, scans: u64) {
        self.watch_rescans_total.with_label_values(&[cause.name()]).inc_by(scans);
    }

    /// Records how long a stage took, in seconds.
    pub fn observe_stage(&self, stage: &str, seconds: f64) {
        self.stage_duration.with_label_values(&[stage]).observe(seconds);
    }

    /// Records how long a checkpoint was waited for after it was seen.
    pub fn observe_ready(&self, delay: Duration) {
        self.ready_delay.observe(delay.as_secs_f64());
    }

    /// Shows when a checkpoint of a network became ready.
    pub fn show_checkpoint(&self, role: Role, now: f64) {
        self.checkpoint_last_seen.with_label_values(&[role.name()]).set(now);
    }

    /// Shows how far a network's newest checkpoint is ahead of the last pair.
    pub fn show_lag(&self, role: Role, steps: u64) {
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        self.evaluation_lag.with_label_values(&[role.name()]).set(steps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convergence::{Estimate, Monitor};

    /// The rows of the table of docs/metrics.md.
    fn documented() -> Vec<Description> {
        let text = include_str!("../../../docs/metrics.md");
        let rows = text.lines().filter(|line| line.starts_with("| `convergd_"));
        rows.map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, kind, labels, unit, meaning] = cells[..] else { panic!("cells of {row}") };
            assert!(!unit.is_empty() && !meaning.is_empty(), "{row}");
            let quoted = |cell: &str| -> Vec<String> {
                cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
            };
            let kinds = ["gauge", "counter", "histogram"];
            let kind = kinds.into_iter().find(|known| *known == kind);
            Description {
                name: quoted(name).remove(0),
                kind: kind.unwrap_or_else(|| panic!("kind of {row}")),
                labels: quoted(labels),
            }
        })
        .collect()
    }

    fn sorted(mut all: Vec<Description>) -> Vec<Description> {
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    #[test]
    fn the_documentation_lists_what_is_served() {
        let served = Metrics::new("cpu").expect("registered").described().to_vec();
        assert!(served.len() > 35, "{served:?}");
        for (documented, served) in sorted(documented()).iter().zip(sorted(served.clone())) {
            assert_eq!(*documented, served);
        }
        assert_eq!(documented().len(), served.len());
    }

    #[test]
    fn labels_are_those_of_the_design() {
        let general = [
            "network", "monitor", "phase", "rule", "action", "reason", "channel", "stage",
            "outcome",
        ];
        let own: &[(&str, &[&str])] = &[
            ("convergd_build_info", &["device", "version"]),
            ("convergd_strength", &["kind", "sign", "order"]),
            ("convergd_watcher_mode", &["mode"]),
            ("convergd_rule_alert", &["severity"]),
        ];
        for Description { name, labels, .. } in Metrics::new("cpu").expect("registered").described()
        {
            let own = own.iter().find(|(of, _)| of == name).map_or(&[][..], |(_, own)| own);
            for label in labels {
                assert!(
                    general.iter().chain(own).any(|allowed| allowed == label),
                    "{name} {label}"
                );
            }
        }
    }

    #[test]
    fn counters_and_histograms_start_at_zero() {
        let metrics = Metrics::new("cpu").expect("registered");
        let text = metrics.encode().expect("encoded");
        for Description { name, kind, .. } in metrics.described() {
            let part = match *kind {
                "counter" => name.clone(),
                "histogram" => format!("{name}_count"),
                _ => continue,
            };
            let lines = text.lines().filter(|line| {
                line.strip_prefix(&part).is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            let lines: Vec<&str> = lines.collect();
            assert!(!lines.is_empty(), "{part} has no series");
            assert!(lines.iter().all(|line| line.ends_with(" 0")), "{lines:?}");
        }
    }

    #[test]
    fn what_a_pair_lacks_vanishes() {
        let metrics = Metrics::new("cuda:0").expect("registered");
        let has = |part: &str| metrics.encode().expect("encoded").contains(part);
        let estimate = Estimate { value: 0.5, standard_error: 0.25 };
        let some = Strength { positive: 1.5, ..Strength::default() };
        metrics.show_monitors(&[(Monitor::ProbeLoss, estimate)].into());
        metrics.show_strengths(&[vec![some; 3], vec![some; 2]]);
        metrics.show_device_memory(Some(1 << 20));
        let lines = [
            "convergd_monitor_value{monitor=\"probe_loss\"} 0.5\n",
            "convergd_monitor_stderr{monitor=\"probe_loss\"} 0.25\n",
            "convergd_strength{kind=\"all\",network=\"target\",order=\"2\",sign=\"positive\"} 1.5\n",
            "convergd_device_memory_bytes 1048576\n",
        ];
        assert!(lines.iter().all(|line| has(line)), "{}", metrics.encode().expect("encoded"));
        assert!(!has("network=\"baseline\",order=\"2\"") && !has("order=\"0\""));
        metrics.show_monitors(&Monitors::new());
        metrics.show_strengths(&[Vec::new(), Vec::new()]);
        metrics.show_device_memory(None);
        assert!(!lines.iter().any(|line| has(line)));
    }
}
