//! What the outside sees: metrics, the HTTP server, the report.

pub mod chart;
mod control;
pub mod http;
pub mod metrics;
mod register;
pub mod report;
mod rules;
pub mod strength_chart;

pub use metrics::Metrics;
pub use register::Description;
