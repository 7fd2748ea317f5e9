//! Making metrics: each is registered once, and described as it is served.

use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use std::cell::RefCell;
use std::collections::HashMap;

/// Prefix of all names.
pub(super) const PREFIX: &str = "convergd";

/// A metric as it is served, with or without a series at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// With the prefix.
    pub name: String,
    /// `gauge`, `counter` or `histogram`.
    pub kind: &'static str,
    /// Sorted.
    pub labels: Vec<String>,
}

/// Makes and registers.
pub(super) struct New<'a> {
    registry: &'a Registry,
    pub(super) described: RefCell<Vec<Description>>,
}

impl<'a> New<'a> {
    pub(super) fn to(registry: &'a Registry) -> Self {
        Self { registry, described: RefCell::default() }
    }

    pub(super) fn register<C>(&self, metric: C) -> prometheus::Result<C>
    where
        C: Collector + Clone + 'static,
    {
        let families = metric.collect();
        for (family, description) in families.iter().zip(metric.desc()) {
            let mut labels = description.variable_labels.clone();
            labels.sort();
            let kind = match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::HISTOGRAM => "histogram",
                _ => "gauge",
            };
            let name = format!("{PREFIX}_{}", description.fq_name);
            self.described.borrow_mut().push(Description { name, kind, labels });
        }
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.register(Gauge::new(name, help)?)
    }

    pub(super) fn whole_gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help)?)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<GaugeVec> {
        self.register(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn whole_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(name, help)?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options)?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, labels)?)
    }
}

/// Sets these series and removes the others. A scrape in between sees none that stays vanish.
pub(super) fn show<const N: usize>(gauges: &GaugeVec, series: &[([&str; N], f64)]) {
    for (labels, value) in series {
        gauges.with_label_values(labels).set(*value);
    }
    let names: Vec<String> =
        gauges.desc().iter().flat_map(|about| about.variable_labels.clone()).collect();
    for metric in gauges.collect().iter().flat_map(|family| family.get_metric()) {
        let found: HashMap<&str, &str> =
            metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
        let is_of = |labels: &[&str; N]| {
            names.iter().zip(labels).all(|(name, value)| found.get(name.as_str()) == Some(value))
        };
        if !series.iter().any(|(labels, _)| is_of(labels)) {
            // It is there, since it was found.
            let _ = gauges.remove(&found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_that_are_not_shown_any_more_vanish_and_others_stay() {
        let registry = Registry::new();
        let gauges = New::to(&registry).gauges("g", "help", &["b", "a"]).expect("registered");
        let said = || {
            let families = registry.gather();
            let metrics = families.iter().flat_map(|family| family.get_metric());
            let mut said: Vec<String> = metrics
                .map(|metric| {
                    let labels = metric.get_label().iter();
                    let labels: Vec<&str> = labels.map(|label| label.value()).collect();
                    format!("{} {}", labels.join(" "), metric.get_gauge().get_value())
                })
                .collect();
            said.sort();
            said
        };
        show(&gauges, &[(["x", "y"], 1.0), (["y", "x"], 2.0)]);
        assert_eq!(said(), ["x y 2", "y x 1"]);
        show(&gauges, &[(["x", "y"], 3.0), (["x", "z"], 4.0)]);
        assert_eq!(said(), ["y x 3", "z x 4"]);
        show::<2>(&gauges, &[]);
        assert!(said().is_empty());
    }
}
