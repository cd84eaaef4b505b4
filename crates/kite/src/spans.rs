//! Spans on their way to an OpenTelemetry collector (OTLP over HTTP), where the configuration names one.
//!
//! A collector that is away costs spans and nothing else: those that wait are bounded, a thread of its own sends them, and what
//! does not fit is dropped. Where none is named there is no layer, and no span is made for it.

use anyhow::{Context, ensure};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::clock::SystemClock;
use kite_commands::{Clock, describe};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, ShouldSample,
};
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

/// Where OTLP takes spans, below the endpoint.
const TRACES_PATH: &str = "v1/traces";
/// How long an export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long spans come together before they are exported.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Spans of one export.
const EXPORT_SPANS: usize = 512;
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How often it is said that exports fail.
const TOLD_AGAIN: TimeDelta = TimeDelta::minutes(1);

/// Where spans go, and how many of them.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracingSettings {
    /// The collector; empty: nothing is exported.
    pub otlp_endpoint: String,
    /// Headers of the exports, `name=value`, separated by commas.
    pub otlp_headers: String,
    /// The share of traces that is exported, 0 to 1.
    pub sampling_ratio: f64,
    /// What this installation is called there.
    pub service_name: String,
    /// Which spans.
    pub filter: String,
    /// Spans that may wait to be exported.
    pub queue_spans_max: usize,
}

impl Default for TracingSettings {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            otlp_headers: String::new(),
            sampling_ratio: 1.0,
            service_name: "kite".to_owned(),
            filter: "kite=debug".to_owned(),
            queue_spans_max: 8_192,
        }
    }
}

impl TracingSettings {
    /// Whether spans are exported.
    pub fn is_on(&self) -> bool {
        !self.otlp_endpoint.is_empty()
    }

    /// Whether they can be, if they are to be.
    ///
    /// # Errors
    /// Names the key, and never a header.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!((0.0..=1.0).contains(&self.sampling_ratio), "tracing.sampling_ratio: it is not 0 to 1");
        ensure!(!self.service_name.trim().is_empty(), "tracing.service_name: is missing");
        ensure!(self.queue_spans_max > 0, "tracing.queue_spans_max: 0 would drop every span");
        self.spans()?;
        self.headers()?;
        if self.is_on() {
            self.endpoint()?;
        }
        Ok(())
    }

    fn spans(&self) -> anyhow::Result<EnvFilter> {
        EnvFilter::builder().parse(&self.filter).context("tracing.filter")
    }

    fn endpoint(&self) -> anyhow::Result<Url> {
        let wrong = "tracing.otlp_endpoint: it is no address such as http://127.0.0.1:4318";
        let mut url = Url::parse(&self.otlp_endpoint).context(wrong)?;
        ensure!(matches!(url.scheme(), "http" | "https") && url.has_host(), "{wrong}");
        let path = url.path().trim_end_matches('/');
        if !path.ends_with(TRACES_PATH) {
            let path = format!("{path}/{TRACES_PATH}");
            url.set_path(&path);
        }
        Ok(url)
    }

    fn headers(&self) -> anyhow::Result<HashMap<String, String>> {
        let headers = self.otlp_headers.split(',').map(str::trim).filter(|header| !header.is_empty());
        headers
            .enumerate()
            .map(|(place, header)| {
                let place = place + 1;
                let (name, value) =
                    header
                        .split_once('=')
                        .map(|(name, value)| (name.trim(), value.trim()))
                        .with_context(|| format!("tracing.otlp_headers: header {place} is not name=value"))?;
                let is_good = name.parse::<HeaderName>().is_ok() && value.parse::<HeaderValue>().is_ok();
                ensure!(is_good, "tracing.otlp_headers: header {place} holds what a header cannot");
                Ok((name.to_owned(), value.to_owned()))
            })
            .collect()
    }

    /// Of traces that begin here, and of those that callers say they record, the same share. It is told from the trace's id, so
    /// that the same trace is exported whole, or not at all, by every process. A caller who makes up ids can have more of its own
    /// exported: what that costs is bounded by the queue.
    fn sampler(&self) -> impl ShouldSample + 'static {
        let share = || Sampler::TraceIdRatioBased(self.sampling_ratio);
        Sampler::parent_based(share()).with_remote_parent_sampled(share())
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("kite")
}

/// What exports spans until the end of the process.
pub(crate) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Exports what waits, and no more. Blocks for at most that long.
    pub(crate) fn end(self, timeout: Duration) {
        if let Err(error) = self.0.shutdown_with_timeout(timeout) {
            tracing::warn!(error = describe(&error), "the last spans were not exported");
        }
    }
}

/// The layer that makes spans of ours into those of the collector, and what exports them from `runtime`.
///
/// # Errors
/// Names the key of the configuration.
pub(crate) fn layer<S>(
    settings: &TracingSettings,
    runtime: &Handle,
) -> anyhow::Result<(impl Layer<S> + Send + Sync + 'static, Exporter)>
where
    S: tracing::Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
{
    let client = reqwest::Client::builder()
        .timeout(EXPORT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .context("no client for exports")?;
    let post = Post { client, runtime: runtime.clone(), trouble: Mutex::default() };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(post)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_TIMEOUT)
        .with_endpoint(settings.endpoint()?)
        .with_headers(settings.headers()?)
        .build()
        .context("tracing.otlp_endpoint")?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(settings.queue_spans_max)
        .with_max_export_batch_size(EXPORT_SPANS.min(settings.queue_spans_max))
        .with_scheduled_delay(EXPORT_INTERVAL)
        .build();
    let resource = Resource::builder_empty()
        .with_service_name(settings.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
        .with_sampler(settings.sampler())
        .with_resource(resource)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("kite"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        // Lines of the log stay in the house, and so do the spans of libraries: those of the export itself among them.
        .with_filter(settings.spans()?.and(filter_fn(is_ours)));
    Ok((layer, Exporter(provider)))
}

/// Why exports fail, as far as somebody was told.
#[derive(Debug, Default)]
struct Trouble {
    told_at: Option<DateTime<Utc>>,
}

/// Sends what is exported from the runtime of the process: whoever exports has a thread without one.
#[derive(Debug)]
struct Post {
    client: reqwest::Client,
    runtime: Handle,
    trouble: Mutex<Trouble>,
}

impl Post {
    /// Says that exports fail when that begins, and then now and then.
    fn note(&self, failure: Option<String>) {
        let mut trouble = self.trouble.lock();
        let Some(reason) = failure else {
            if trouble.told_at.take().is_some() {
                tracing::info!("spans are exported again");
            }
            return;
        };
        metrics::counter!("kite_span_exports_failed_total").increment(1);
        let now = SystemClock.now();
        if trouble.told_at.is_none_or(|told_at| now - told_at >= TOLD_AGAIN) {
            trouble.told_at = Some(now);
            tracing::warn!(reason, "spans cannot be exported and are dropped; nothing else is held up");
        }
    }
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, opentelemetry_http::HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let sent = self.runtime.spawn(send(self.client.clone(), request)).await?;
        self.note(match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector answers {}", response.status())),
            Err(error) => Some(describe(&**error)),
        });
        sent
    }
}

async fn send(
    client: reqwest::Client,
    request: reqwest::Request,
) -> Result<Response<Bytes>, opentelemetry_http::HttpError> {
    let mut response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the collector's answer is too large".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response::builder().status(response.status()).body(body.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: &str, headers: &str) -> TracingSettings {
        TracingSettings {
            otlp_endpoint: endpoint.to_owned(),
            otlp_headers: headers.to_owned(),
            ..TracingSettings::default()
        }
    }

    #[test]
    fn the_path_of_traces_is_added_unless_it_is_there() {
        for (endpoint, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://otlp.example/", "https://otlp.example/v1/traces"),
            ("https://otlp.example/tenant", "https://otlp.example/tenant/v1/traces"),
            ("https://otlp.example/v1/traces", "https://otlp.example/v1/traces"),
        ] {
            assert_eq!(settings(endpoint, "").endpoint().unwrap().as_str(), url);
        }
    }

    #[test]
    fn headers_are_read_and_one_that_is_wrong_is_named_by_its_place_and_not_shown() {
        let read = settings("", "authorization=Bearer a=b, x-tenant = kite").headers().unwrap();
        assert_eq!(read["authorization"], "Bearer a=b");
        assert_eq!((read["x-tenant"].as_str(), read.len()), ("kite", 2));
        for wrong in ["a=b,s3cret", "a=b,s3 cret=x", "a=b,c=s3cret\u{7}"] {
            let told = format!("{:#}", settings("", wrong).check().unwrap_err());
            assert!(told.contains("tracing.otlp_headers: header 2") && !told.contains("s3"), "{told}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = TracingSettings::default;
        good().check().unwrap();
        for (wrong, key) in [
            (settings("collector:4318", ""), "otlp_endpoint"),
            (settings("ftp://collector", ""), "otlp_endpoint"),
            (settings("nowhere", ""), "otlp_endpoint"),
            (TracingSettings { sampling_ratio: 1.5, ..good() }, "sampling_ratio"),
            (TracingSettings { sampling_ratio: f64::NAN, ..good() }, "sampling_ratio"),
            (TracingSettings { service_name: " ".to_owned(), ..good() }, "service_name"),
            (TracingSettings { filter: "kite=loud".to_owned(), ..good() }, "filter"),
            (TracingSettings { queue_spans_max: 0, ..good() }, "queue_spans_max"),
        ] {
            let told = format!("{:#}", wrong.check().unwrap_err());
            assert!(told.starts_with(&format!("tracing.{key}")), "{told}");
        }
    }
}
