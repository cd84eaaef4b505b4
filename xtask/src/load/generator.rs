//! Requests at a given rate, or as many as are answered.
//!
//! *Open loop*: each request has a time at which it is due, and its latency counts from that time, sent or not. So a
//! server that stalls is charged for everything that should have been sent meanwhile (no coordinated omission).
//! *Closed loop*: each connection sends its next request when the one before is answered: the most that the server
//! can do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Most latency that a histogram tells apart, in microseconds.
const LATENCY_MAX_US: u64 = 600_000_000;

/// Where sendings go.
#[derive(Clone)]
pub(crate) struct Target {
    /// Kite's listeners; connections are divided among them.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The tenant's key.
    pub(crate) key: String,
}

/// How fast, and how long.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// At these times, whatever the server does.
    Open {
        /// Requests a second.
        per_second: f64,
        /// Requests in all.
        requests: u64,
    },
    /// As soon as the one before is answered.
    Closed {
        /// For how long.
        duration: Duration,
    },
}

/// One request and its answer.
pub(crate) struct Sent {
    /// Its number, from 0.
    pub(crate) number: u64,
    /// When it was due (open loop) or was sent (closed loop), microseconds since the Unix epoch.
    pub(crate) intended_us: u64,
    /// From then until its answer was read, in microseconds.
    pub(crate) latency_us: u64,
    status: StatusCode,
    answer: Bytes,
}

/// The part of the answer to a sending that is looked at.
#[derive(Deserialize)]
pub(crate) struct Accepted {
    /// The sending.
    pub(crate) id: String,
    /// Messages.
    #[serde(rename = "accepted")]
    pub(crate) messages: u64,
}

impl Sent {
    /// What was accepted; `None` if nothing was.
    ///
    /// # Errors
    /// When the answer is neither an acceptance nor "too busy".
    pub(crate) fn accepted(&self) -> anyhow::Result<Option<Accepted>> {
        match self.status {
            StatusCode::ACCEPTED => Ok(Some(serde_json::from_slice(&self.answer)?)),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Ok(None),
            status => bail!("answered {status}: {}", String::from_utf8_lossy(&self.answer)),
        }
    }
}

/// What came of a run.
pub(crate) struct Run {
    /// Every request, in no order.
    pub(crate) sent: Vec<Sent>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
}

impl Run {
    /// Messages accepted, and requests refused as too many.
    pub(crate) fn count(&self) -> anyhow::Result<Count> {
        let mut count = Count { messages: 0, refused_requests: 0 };
        for sent in &self.sent {
            match sent.accepted()? {
                Some(accepted) => count.messages += accepted.messages,
                None => count.refused_requests += 1,
            }
        }
        Ok(count)
    }

    /// Latencies of all requests.
    pub(crate) fn latencies(&self) -> anyhow::Result<Histogram<u64>> {
        histogram_of(self.sent.iter().map(|sent| sent.latency_us))
    }
}

/// Sums over a run.
pub(crate) struct Count {
    /// Messages accepted.
    pub(crate) messages: u64,
    /// Requests answered with "too busy".
    pub(crate) refused_requests: u64,
}

/// A histogram of microseconds.
pub(crate) fn histogram_of(values_us: impl IntoIterator<Item = u64>) -> anyhow::Result<Histogram<u64>> {
    let mut histogram = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?;
    values_us.into_iter().for_each(|value_us| histogram.saturating_record(value_us));
    Ok(histogram)
}

/// A value of a histogram of microseconds, in milliseconds.
pub(crate) fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}

/// The real time, on both clocks at once.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    /// For spans.
    pub(crate) instant: Instant,
    epoch_us: u64,
}

impl Start {
    /// Now.
    #[expect(clippy::disallowed_methods, reason = "a load generator measures real time")]
    pub(crate) fn now() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), epoch_us: epoch.as_micros() as u64 }
    }

    /// In microseconds since 1970.
    pub(crate) fn epoch_us(&self) -> u64 {
        self.epoch_us
    }

    fn epoch_us_at(&self, offset: Duration) -> u64 {
        self.epoch_us + offset.as_micros() as u64
    }
}

/// Sends over this many connections; request `n` has the body `bodies[n % bodies.len()]`.
///
/// # Errors
/// When a connection fails. Answers of any status are not errors here.
pub(crate) async fn send(
    target: &Target,
    pace: Pace,
    connections: usize,
    bodies: Vec<Bytes>,
) -> anyhow::Result<Run> {
    let bodies: Arc<[Bytes]> = bodies.into();
    let next = Arc::new(AtomicU64::new(0));
    let mut opened = Vec::with_capacity(connections);
    for address in target.addresses.iter().cycle().take(connections) {
        opened.push(Connection::open(*address, &target.key).await?);
    }
    let start = Start::now();
    let mut workers = JoinSet::new();
    for connection in opened {
        workers.spawn(work(connection, pace, start, Arc::clone(&next), Arc::clone(&bodies)));
    }
    let mut sent = Vec::new();
    while let Some(worker) = workers.join_next().await {
        sent.append(&mut worker??);
    }
    Ok(Run { sent, elapsed: start.instant.elapsed() })
}

/// One connection: takes the number of the next request, waits for its time, sends, waits for the answer.
async fn work(
    mut connection: Connection,
    pace: Pace,
    start: Start,
    next: Arc<AtomicU64>,
    bodies: Arc<[Bytes]>,
) -> anyhow::Result<Vec<Sent>> {
    let mut sent = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let intended = match pace {
            Pace::Open { requests, .. } if number >= requests => return Ok(sent),
            Pace::Open { per_second, .. } => {
                let intended = Duration::from_secs_f64(number as f64 / per_second);
                tokio::time::sleep_until((start.instant + intended).into()).await;
                intended
            }
            Pace::Closed { duration } if start.instant.elapsed() >= duration => return Ok(sent),
            Pace::Closed { .. } => start.instant.elapsed(),
        };
        let (status, answer) =
            connection.post(bodies[(number % bodies.len() as u64) as usize].clone()).await?;
        let latency_us = (start.instant.elapsed() - intended).as_micros() as u64;
        sent.push(Sent { number, intended_us: start.epoch_us_at(intended), latency_us, status, answer });
    }
}

/// A connection that is kept, without a pool around it: this is to cost as little as it can.
struct Connection {
    requests: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    authorization: HeaderValue,
    /// Drives the connection; ends with it.
    _driver: JoinSet<()>,
}

impl Connection {
    async fn open(address: SocketAddr, key: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("Kite does not listen")?;
        stream.set_nodelay(true)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // A broken connection shows in the request that was on it.
            let _ = connection.await;
        });
        Ok(Self {
            requests,
            host: address.to_string().parse()?,
            authorization: format!("Bearer {key}").parse()?,
            _driver: driver,
        })
    }

    async fn post(&mut self, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::post("/v1/sendings")
            .header(HOST, self.host.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(body))?;
        self.requests.ready().await?;
        let response = self.requests.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
