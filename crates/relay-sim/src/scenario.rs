//! What a simulation is made of: the scenario file, and the part of it that can be changed while it runs.
//!
//! The format is documented in `docs/relay-sim.md`; an example is `infra/relay-sim/scenario.json`. Unknown
//! keys are errors, so that a misspelt fault is not silently absent.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::codes::CodeStyle;

/// A whole simulation: its seed, where it listens, and its relays.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Decides, with relay, recipient and attempt, everything that happens to a message.
    pub seed: u64,
    /// Address of the HTTP listener for all relays and the admin endpoints; port 0 picks a free one.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
    /// How much of each hand-over is remembered.
    #[serde(default)]
    pub ledger: LedgerMode,
    /// The carriers.
    pub relays: Vec<RelayScenario>,
}

/// How much of each hand-over the ledger remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerMode {
    /// Every hand-over with reference and recipient, about 110 bytes each.
    #[default]
    Full,
    /// Counters, de-duplication memory and status by a 64-bit hash of the reference; no texts, about 60 bytes each.
    Counts,
}

/// One carrier.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayScenario {
    /// Slug `[a-z0-9][a-z0-9-]{0,31}`; the path prefix is `/relays/{id}`.
    pub id: String,
    /// Which protocol it speaks.
    #[serde(default)]
    pub kind: RelayKind,
    /// The bearer key that a client must present; for SMTP the password of AUTH PLAIN, empty for no authentication.
    pub api_key: String,
    /// Dialect of its result codes.
    #[serde(default = "solapi")]
    pub codes: CodeStyle,
    /// Message types that it takes; a call with any other is refused with 400.
    pub channels: Vec<Channel>,
    /// Messages a call; more are answered with 413.
    #[serde(default = "hundred")]
    pub batch_max: usize,
    /// Where an SMTP relay listens; port 0 picks a free one. Only for `kind: smtp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp_listen: Option<SocketAddr>,
    /// Everything that can be changed while it runs.
    #[serde(default)]
    pub behaviour: Behaviour,
}

/// Protocol of a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayKind {
    /// The HTTP protocol of docs/relay-protocol.md.
    #[default]
    Http,
    /// An SMTP server.
    Smtp,
}

/// Type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Short text.
    Sms,
    /// Long text.
    Lms,
    /// E-mail.
    Email,
}

/// How a relay behaves. Merged at run time as an RFC 7396 JSON merge patch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// Time from call to answer.
    pub latency_ms: Distribution,
    /// Time from answer to delivery.
    pub delivery_ms: Distribution,
    /// Messages a second; `null` for no limit. The bucket holds one second's worth, at least one full batch.
    pub rate_parts_per_second: Option<f64>,
    /// Share of messages refused at hand-over, by code.
    pub refusals: BTreeMap<String, f64>,
    /// Share of accepted messages that end undelivered, by code.
    pub undelivered: BTreeMap<String, f64>,
    /// Mails that an SMTP relay takes over one connection; `null` for no limit.
    pub mails_per_connection_max: Option<u32>,
    /// Whether a repeated reference gives the first answer (true) or is sent again (false).
    pub dedupe: bool,
    /// Faults of whole calls.
    pub faults: Faults,
    /// Times at which the relay is out of service.
    pub outages: Vec<Outage>,
    /// How results are reported.
    pub receipts: Receipts,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency_ms: Distribution { p50: 0.0, spread: 1.0 },
            delivery_ms: Distribution { p50: 0.0, spread: 1.0 },
            rate_parts_per_second: None,
            refusals: BTreeMap::new(),
            undelivered: BTreeMap::new(),
            mails_per_connection_max: None,
            dedupe: true,
            faults: Faults::default(),
            outages: Vec::new(),
            receipts: Receipts::default(),
        }
    }
}

/// A log-logistic distribution of milliseconds: median `p50`, 99th percentile `p50 × spread`, cut off at the 99.9th.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Median in milliseconds.
    pub p50: f64,
    /// 99th percentile divided by the median; 1 for a constant.
    #[serde(default = "one")]
    pub spread: f64,
}

/// Shares of calls that fail as a whole; drawn from the call's leading message.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Everything is accepted, then the connection is closed without an answer.
    pub answer_lost: f64,
    /// Everything is accepted, the answer comes `ms` later.
    pub slow_answer: Slow,
    /// The connection is closed before anything is accepted.
    pub reset_before_acceptance: f64,
    /// 503 with Retry-After before anything is accepted.
    pub unavailable: f64,
}

/// A share and a delay.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slow {
    /// Share between 0 and 1.
    pub share: f64,
    /// Delay in milliseconds.
    pub ms: u64,
}

impl Default for Slow {
    fn default() -> Self {
        Self { share: 0.0, ms: 3_000 }
    }
}

/// A time out of service, in milliseconds since the start (or the last reset).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// First millisecond.
    pub start_ms: u64,
    /// First millisecond after it.
    pub end_ms: u64,
    /// What a caller sees.
    #[serde(default)]
    pub mode: OutageMode,
}

/// What a caller sees of an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutageMode {
    /// 503 with Retry-After (SMTP: greeting 421).
    #[default]
    Refuse,
    /// No answer until the outage ends, then the connection is closed.
    Hang,
    /// The connection is closed at once.
    Reset,
}

/// How results are reported.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receipts {
    /// Pushed to `callback_url`, or kept until pulled.
    pub mode: ReceiptMode,
    /// Where to push; receipts are kept while it is absent.
    pub callback_url: Option<String>,
    /// Standard Webhooks secret, `whsec_` + base64.
    pub secret: String,
    /// Receipts held back for a long time.
    pub late: Slow,
    /// Share reported twice.
    pub twice: f64,
    /// Receipts held back a little, so that they overtake each other.
    pub out_of_order: Slow,
    /// Share of accepted messages whose receipt is there before the call is answered.
    pub before_response: f64,
    /// Share never reported.
    pub never: f64,
    /// Share with which a receipt for an unknown reference goes along.
    pub foreign: f64,
    /// Receipts a push, at most 500.
    pub batch_max: usize,
    /// How long receipts are gathered before a push.
    pub flush_ms: u64,
    /// Pushes at a time.
    pub concurrency: usize,
    /// How long pulled receipts stay with the puller without an acknowledgement.
    pub lease_ms: u64,
    /// First and longest pause before a push is tried again; doubled in between.
    pub retry: Retry,
}

impl Default for Receipts {
    fn default() -> Self {
        Self {
            mode: ReceiptMode::Push,
            callback_url: None,
            secret: "whsec_cmVsYXktc2ltLXJlbGF5LXNpbS1zZWNyZXQ=".to_owned(),
            late: Slow { share: 0.0, ms: 5_000 },
            twice: 0.0,
            out_of_order: Slow { share: 0.0, ms: 200 },
            before_response: 0.0,
            never: 0.0,
            foreign: 0.0,
            batch_max: 500,
            flush_ms: 20,
            concurrency: 4,
            lease_ms: 120_000,
            retry: Retry { first_ms: 100, max_ms: 2_000 },
        }
    }
}

/// Push or pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptMode {
    /// Signed calls to the client.
    Push,
    /// Kept until the client asks.
    Pull,
}

/// Pauses between tries of a push.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Pause after the first failure, milliseconds.
    pub first_ms: u64,
    /// Longest pause, milliseconds.
    pub max_ms: u64,
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn solapi() -> CodeStyle {
    CodeStyle::Solapi
}

fn hundred() -> usize {
    100
}

fn one() -> f64 {
    1.0
}

impl Scenario {
    /// Reads and checks a scenario.
    ///
    /// # Errors
    /// When the text is not a scenario, or a value in it is out of range.
    pub fn from_json(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = serde_json::from_str(text).context("not a scenario")?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Checks ranges: ids, shares, limits, addresses, secrets.
    ///
    /// # Errors
    /// Names the relay and the value that is wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.relays.is_empty(), "a scenario needs at least one relay");
        for (position, relay) in self.relays.iter().enumerate() {
            relay.check().with_context(|| format!("relay {:?}", relay.id))?;
            let repeated = self.relays[..position].iter().any(|earlier| earlier.id == relay.id);
            ensure!(!repeated, "relay {:?}: the id is there twice", relay.id);
        }
        Ok(())
    }
}

impl RelayScenario {
    fn check(&self) -> anyhow::Result<()> {
        let slug = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let id_fits =
            (1..=32).contains(&self.id.len()) && self.id.bytes().all(slug) && !self.id.starts_with('-');
        ensure!(id_fits, "id must match [a-z0-9][a-z0-9-]{{0,31}}");
        ensure!((1..=10_000).contains(&self.batch_max), "batch_max must be between 1 and 10000");
        ensure!(!self.channels.is_empty(), "channels must name at least one");
        let listens = self.smtp_listen.is_some();
        ensure!(
            listens == (self.kind == RelayKind::Smtp),
            "smtp_listen belongs to kind smtp, and only there"
        );
        self.behaviour.check()
    }
}

impl Behaviour {
    /// Checks ranges of shares, times and limits.
    ///
    /// # Errors
    /// Names the value that is wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        let receipts = &self.receipts;
        for (name, share) in [
            ("refusals", self.refusals.values().sum()),
            ("undelivered", self.undelivered.values().sum()),
            ("faults", self.faults.sum()),
            ("receipts.late", receipts.late.share),
            ("receipts.twice", receipts.twice),
            ("receipts.out_of_order", receipts.out_of_order.share),
            ("receipts.before_response", receipts.before_response),
            ("receipts.never", receipts.never),
            ("receipts.foreign", receipts.foreign),
        ] {
            ensure!((0.0..=1.000_001).contains(&share), "{name}: shares must lie between 0 and 1 in all");
        }
        let shares = self.refusals.values().chain(self.undelivered.values());
        ensure!(shares.copied().all(|share| share >= 0.0), "a share must not be negative");
        for distribution in [self.latency_ms, self.delivery_ms] {
            ensure!((0.0..=86_400_000.0).contains(&distribution.p50), "p50 must lie between 0 and a day");
            ensure!((1.0..=1_000.0).contains(&distribution.spread), "spread must lie between 1 and 1000");
        }
        if let Some(rate) = self.rate_parts_per_second {
            ensure!(
                (0.001..=10_000_000.0).contains(&rate),
                "rate_parts_per_second must lie between 0.001 and 10000000"
            );
        }
        ensure!((1..=500).contains(&receipts.batch_max), "receipts.batch_max must lie between 1 and 500");
        ensure!((1..=60_000).contains(&receipts.flush_ms), "receipts.flush_ms must lie between 1 and 60000");
        ensure!((1..=64).contains(&receipts.concurrency), "receipts.concurrency must lie between 1 and 64");
        ensure!(receipts.retry.first_ms >= 1, "receipts.retry.first_ms must be at least 1");
        ensure!(
            standardwebhooks::Webhook::new(&receipts.secret).is_ok(),
            "receipts.secret must be whsec_ + base64"
        );
        Ok(())
    }

    /// The outage that holds at a time, if any.
    pub(crate) fn outage_at(&self, elapsed_ms: u64) -> Option<Outage> {
        self.outages.iter().copied().find(|outage| (outage.start_ms..outage.end_ms).contains(&elapsed_ms))
    }
}

impl Faults {
    fn sum(&self) -> f64 {
        self.answer_lost + self.slow_answer.share + self.reset_before_acceptance + self.unavailable
    }
}

impl Channel {
    /// Name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Lms => "lms",
            Self::Email => "email",
        }
    }
}
