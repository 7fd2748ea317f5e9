//! Prometheus metrics (DESIGN section 10), prefix `convergd_`. Labels are never a step or a path.

use super::control::ControlMetrics;
use crate::checkpoint::{Cause, Mode};
use crate::convergence::{Monitors, Strength};
use crate::evaluation::Cached;
use crate::history::Outcome;
use crate::policy::{Action, Policy, PolicyState};
use crate::role::Role;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Seconds; from a cached pair to a long one.
const STAGE_BUCKETS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
const STAGES: [&str; 3] = ["values", "extraction", "commit"];
const ACTIONS: [&str; 3] = ["stop", "phase", "continue"];
const NOTICES: [&str; 3] = ["mark_best", "notify", "alert"];

/// All metrics, registered.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    monitor_value: GaugeVec,
    monitor_stderr: GaugeVec,
    strength: GaugeVec,
    /// Step of the last pair.
    pub pair_step: IntGauge,
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
    phase: IntGaugeVec,
    /// λ of the phase.
    pub lambda: Gauge,
    /// Largest gap of the last pair's extractions.
    pub solver_gap_max: Gauge,
    rule_alert: IntGaugeVec,
    notices_total: IntCounterVec,
    noise_floor: GaugeVec,
    checkpoint_last_seen: GaugeVec,
    evaluation_lag: IntGaugeVec,
    /// Checkpoints that wait for their partner or their evaluation.
    pub queue_length: IntGauge,
    /// When the last pair was stored.
    pub evaluation_last_success: Gauge,
    /// What trainers are told and how they answer.
    pub control: ControlMetrics,
}

impl Metrics {
    /// Registers everything; counters start at 0.
    ///
    /// # Errors
    /// A name that is registered twice.
    pub fn new(device: &str) -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("convergd".to_owned()), None)?;
        let build = GaugeVec::new(
            Opts::new("build_info", "Always 1; the labels tell version and device"),
            &["version", "device"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), device]).set(1.0);
        registry.register(Box::new(build))?;
        let new = New { registry: &registry };
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
            pair_step: new
                .register(IntGauge::new("pair_step", "Training step of the last pair")?)?,
            pairs_total: new.register(IntCounter::new("pairs_total", "Pairs evaluated")?)?,
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
            cache_bytes: new.register(IntGauge::new(
                "value_cache_bytes",
                "Bytes of the cached value tables",
            )?)?,
            cache_evictions_total: new.register(IntCounter::new(
                "value_cache_evictions_total",
                "Value tables that went from the cache to make room",
            )?)?,
            cache_lookups_total: new.counters(
                "value_cache_lookups_total",
                "Checkpoints that were looked up in the cache, by what was found",
                &["outcome"],
            )?,
            watcher_mode: new.register(IntGaugeVec::new(
                Opts::new("watcher_mode", "1 for the way in which a directory is watched"),
                &["network", "mode"],
            )?)?,
            pair_stale: new.register(IntGaugeVec::new(
                Opts::new("pair_stale", "1 for a network that is silent while the other goes on"),
                &["network"],
            )?)?,
            watch_rescans_total: new.counters(
                "watch_rescans_total",
                "Scans of checkpoint directories, by what caused them",
                &["reason"],
            )?,
            stage_duration: new.register(HistogramVec::new(
                HistogramOpts::new("stage_duration_seconds", "Time a pair spends in a stage")
                    .buckets(STAGE_BUCKETS.to_vec()),
                &["stage"],
            )?)?,
            phase: new.register(IntGaugeVec::new(
                Opts::new("phase", "1 for the phase that the training is in"),
                &["phase"],
            )?)?,
            lambda: new.register(Gauge::new("lambda", "Weight of the interaction loss")?)?,
            solver_gap_max: new.register(Gauge::new(
                "solver_gap_max",
                "Largest relative gap of the last pair",
            )?)?,
            rule_alert: new.register(IntGaugeVec::new(
                Opts::new("rule_alert", "1 while the condition of a rule with an alert holds"),
                &["rule", "severity"],
            )?)?,
            notices_total: new.counters(
                "notices_total",
                "What rules had to say beside decisions",
                &["action"],
            )?,
            noise_floor: new.gauges(
                "precision_noise_floor",
                "Largest difference from float32 of an effect of the last pair, as a share of the output",
                &["network"],
            )?,
            checkpoint_last_seen: new.gauges(
                "checkpoint_last_seen_timestamp_seconds",
                "When the last checkpoint became ready",
                &["network"],
            )?,
            evaluation_lag: new.register(IntGaugeVec::new(
                Opts::new(
                    "evaluation_lag_steps",
                    "Steps from the last pair to the newest checkpoint",
                ),
                &["network"],
            )?)?,
            queue_length: new.register(IntGauge::new(
                "queue_length",
                "Checkpoints that wait to be evaluated",
            )?)?,
            evaluation_last_success: new.register(Gauge::new(
                "evaluation_last_success_timestamp_seconds",
                "When the last pair was stored",
            )?)?,
            control: ControlMetrics::new(&new)?,
            registry: registry.clone(),
        };
        metrics.start_at_zero();
        Ok(metrics)
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
        for action in NOTICES {
            self.notices_total.with_label_values(&[action]);
        }
        for outcome in ["success", "failure"] {
            self.deliveries_total.with_label_values(&["file", outcome]);
            self.deliveries_total.with_label_values(&["webhook", outcome]);
        }
        self.deliveries_total.with_label_values(&["webhook", "given_up"]);
        for stage in STAGES {
            self.stage_duration.with_label_values(&[stage]);
        }
        for stage in STAGES.into_iter().chain(["history", "cache"]) {
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
        self.monitor_value.reset();
        self.monitor_stderr.reset();
        for (monitor, estimate) in monitors {
            self.monitor_value.with_label_values(&[monitor.name()]).set(estimate.value);
            self.monitor_stderr.with_label_values(&[monitor.name()]).set(estimate.standard_error);
        }
    }

    /// Shows a pair's strengths by order.
    pub fn show_strengths(&self, strengths: &[Vec<Strength>; 2]) {
        self.strength.reset();
        for (role, orders) in Role::BOTH.into_iter().zip(strengths) {
            for (order, strength) in orders.iter().enumerate().skip(1) {
                let order = order.to_string();
                for (kind, sign, value) in [
                    ("all", "positive", strength.positive),
                    ("all", "negative", strength.negative),
                    ("convergent", "positive", strength.convergent_positive),
                    ("convergent", "negative", strength.convergent_negative),
                ] {
                    self.strength.with_label_values(&[role.name(), kind, sign, &order]).set(value);
                }
            }
        }
    }

    /// Shows what the precision does to effects; in float32 there is nothing to show.
    pub fn show_noise_floor(&self, floor: Option<[f64; 2]>) {
        self.noise_floor.reset();
        for (role, floor) in Role::BOTH.into_iter().zip(floor.into_iter().flatten()) {
            self.noise_floor.with_label_values(&[role.name()]).set(floor);
        }
    }

    /// Shows the phase and its λ.
    pub fn show_phase(&self, phase: &str, lambda: f64) {
        self.phase.reset();
        self.phase.with_label_values(&[phase]).set(1);
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

    /// Counts a notice.
    pub fn count_notice(&self, action: &str) {
        self.notices_total.with_label_values(&[action]).inc();
    }

    /// Shows which rules with an alert hold.
    pub fn show_alerts(&self, policy: &Policy, state: &PolicyState) {
        self.rule_alert.reset();
        for rule in &policy.rules {
            let Action::Alert { severity, .. } = rule.then else { continue };
            let holds = state.rules.get(&rule.id).is_some_and(|memory| memory.holds);
            let gauge = self.rule_alert.with_label_values(&[rule.id.as_str(), severity.name()]);
            gauge.set(i64::from(holds));
        }
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

    /// Shows the newest checkpoint of a network and how far it is ahead of the last pair.
    pub fn show_checkpoint(&self, role: Role, now: f64) {
        self.checkpoint_last_seen.with_label_values(&[role.name()]).set(now);
    }

    /// Shows how far a network's newest checkpoint is ahead of the last pair.
    pub fn show_lag(&self, role: Role, steps: u64) {
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        self.evaluation_lag.with_label_values(&[role.name()]).set(steps);
    }
}

/// Makes and registers.
pub(super) struct New<'a> {
    registry: &'a Registry,
}

impl New<'_> {
    pub(super) fn register<C>(&self, metric: C) -> prometheus::Result<C>
    where
        C: prometheus::core::Collector + Clone + 'static,
    {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.register(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }
}
