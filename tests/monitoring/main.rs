//! What Prometheus, Alertmanager and Grafana make of convergd: metrics of a running daemon, the alert rules, the
//! dashboard, and an alert on its way.
//!
//! Each needs `promtool`, `prometheus` or `prometheus-alertmanager` (of Debian's packages `prometheus` and
//! `prometheus-alertmanager`), and some the virtual environment; what is missing is said, and the test passes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    dead_code,
    missing_docs,
    unused_imports
)]

mod alerting;
#[path = "../bad_input/bench.rs"]
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod dashboard;
mod names;
mod programs;
#[path = "../control/receiver.rs"]
mod receiver;
mod rules;
mod scrape;
