//! Logs, metrics and spans of the process.

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::runtime::{Supervisor, pause};
use crate::spans::{self, Exporter, TracingSettings};

/// Latencies from a tenth of a millisecond to ten seconds, in seconds.
const LATENCY_BUCKETS_S: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0];

/// How often samples are counted into their buckets: at some thousands a second those in between take about 100 KB.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts logging to standard error: text for a person, JSON for a machine. `KITE_LOG` sets the level (`info`).
pub(crate) fn start_logging(default: &str) {
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(lines(default)).try_init();
}

/// Lines only: a span that nobody exports is not made.
fn lines<S>(default: &str) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let lines = fmt::layer().with_writer(std::io::stderr);
    let shown = lines_shown(default).and(filter_fn(|metadata| metadata.is_event()));
    match std::io::stderr().is_terminal() {
        true => lines.with_filter(shown).boxed(),
        false => lines.json().with_filter(shown).boxed(),
    }
}

/// As [`start_logging`], and spans go where the settings say, if they say so. What is answered exports them until it is ended.
///
/// # Errors
/// Names the key of the configuration.
pub(crate) fn start(
    default: &str,
    settings: &TracingSettings,
    runtime: &Handle,
) -> anyhow::Result<Option<Exporter>> {
    if !settings.is_on() {
        start_logging(default);
        return Ok(None);
    }
    let (spans, exporter) = spans::layer(settings, runtime)?;
    let _ = tracing_subscriber::registry().with(spans).with(lines(default)).try_init();
    Ok(Some(exporter))
}

fn lines_shown(default: &str) -> EnvFilter {
    EnvFilter::try_from_env("KITE_LOG").unwrap_or_else(|_| EnvFilter::new(default))
}

/// Starts collecting metrics; the handle renders them for `/metrics`. They are kept small on `runtime` until the
/// supervisor's stop, whether anybody asks for them or not.
///
/// # Errors
/// If this process collects metrics already.
pub(crate) fn start_metrics(supervisor: &Supervisor, runtime: &Handle) -> anyhow::Result<PrometheusHandle> {
    let metrics = collector()?.install_recorder().context("metrics cannot be collected")?;
    supervisor.start_on(runtime, keep_small(metrics.clone(), UPKEEP_INTERVAL, supervisor.stop().clone()));
    Ok(metrics)
}

fn collector() -> anyhow::Result<PrometheusBuilder> {
    let latencies = Matcher::Suffix("_seconds".to_owned());
    Ok(PrometheusBuilder::new().set_buckets_for_metric(latencies, &LATENCY_BUCKETS_S)?)
}

/// Counts samples into their buckets. Until then each sample is kept, and if nobody asks for `/metrics` nothing else
/// would ever count them.
async fn keep_small(metrics: PrometheusHandle, interval: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = pause(interval) => metrics.run_upkeep(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_testkit::wait::wait_until;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// How many samples have been counted into buckets, read from the collector's debug output, because asking for
    /// the metrics themselves would count them.
    fn counted(metrics: &PrometheusHandle) -> Option<u64> {
        let inside = format!("{metrics:?}");
        let (_, count) = inside.split_once("Histogram { count: ")?;
        count.split_once(',')?.0.parse().ok()
    }

    #[tokio::test]
    async fn samples_are_counted_again_and_again_although_nobody_asks_for_metrics() {
        let recorder = collector().unwrap().build_recorder();
        let metrics = recorder.handle();
        let histogram =
            ::metrics::with_local_recorder(&recorder, || ::metrics::histogram!("kite_test_seconds"));
        let supervisor = Supervisor::new();
        let stop = supervisor.stop().clone();

        // Given samples that nobody asks for: they are all kept.
        (0..1_000).for_each(|_| histogram.record(0.001));
        assert_eq!(counted(&metrics), None);

        // When the metrics are kept small, then they are counted, and so are those that come later.
        supervisor.start(keep_small(metrics.clone(), Duration::from_millis(1), stop));
        for all in [1_000, 3_000] {
            wait_until("samples to be counted", PATIENCE, async || counted(&metrics) == Some(all))
                .await
                .unwrap();
            (0..2_000).for_each(|_| histogram.record(0.001));
        }
        assert!(supervisor.shut_down(PATIENCE).await);
    }
}
