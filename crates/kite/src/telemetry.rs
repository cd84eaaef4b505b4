//! Logs and metrics of the process.

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Latencies from a tenth of a millisecond to ten seconds, in seconds.
const LATENCY_BUCKETS_S: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0];

/// Starts logging to standard error: text for a person, JSON for a machine. `KITE_LOG` says how much (`info`).
pub(crate) fn start_logging(default: &str) {
    let filter = EnvFilter::try_from_env("KITE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first.
    let _ = match std::io::stderr().is_terminal() {
        true => builder.try_init(),
        false => builder.json().try_init(),
    };
}

/// Starts collecting metrics; the handle renders them for `/metrics`.
///
/// # Errors
/// If this process collects metrics already.
pub(crate) fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS_S)?
        .install_recorder()
        .context("metrics cannot be collected")
}
