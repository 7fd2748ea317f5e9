//! What the outside sees: metrics, the HTTP server, the report.

pub mod chart;
mod control;
pub mod http;
pub mod metrics;
pub mod report;
pub mod strength_chart;

pub use metrics::Metrics;
