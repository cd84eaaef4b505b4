//! A running simulation: the handle that tests and the demo hold, and what its parts share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::forge::{ForgeRequest, forge};
use crate::ledger::{Counters, LedgerEntry, deliveries_by_message, more_than_once};
use crate::relay::{Relay, push};
use crate::scenario::{Behaviour, Outage, OutageMode, RelayKind, Scenario};
use crate::{http, smtp};

/// How often a flush looks whether all is out.
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// A running simulation. Dropping it stops its tasks; [`RelaySim::shutdown`] waits for them.
pub struct RelaySim {
    shared: Arc<Shared>,
    address: SocketAddr,
    smtp_addresses: Vec<(Arc<str>, SocketAddr)>,
    tasks: TaskTracker,
}

/// What the parts of a simulation share.
pub(crate) struct Shared {
    pub(crate) scenario: Scenario,
    pub(crate) relays: Vec<Arc<Relay>>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) client: reqwest::Client,
    pub(crate) cancelled: CancellationToken,
}

/// Read access to every relay's ledger, for tests in the same process.
#[derive(Clone)]
pub struct LedgerView {
    shared: Arc<Shared>,
}

/// What all relays believe.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// One a relay, in the scenario's order.
    pub relays: Vec<RelaySummary>,
    /// Messages delivered more than once, over all attempts at all relays.
    pub delivered_more_than_once: u64,
}

/// What one relay believes.
#[derive(Clone, Debug, Serialize)]
pub struct RelaySummary {
    /// The relay.
    pub id: Arc<str>,
    /// Its counters.
    #[serde(flatten)]
    pub counters: Counters,
    /// Results and receipts that the client has not taken yet.
    pub pending: usize,
    /// Messages that this relay delivered more than once, over all attempts.
    pub delivered_more_than_once: u64,
}

impl RelaySim {
    /// Binds all listeners and starts.
    ///
    /// # Errors
    /// When the scenario is out of range or an address cannot be bound.
    pub async fn start(scenario: Scenario) -> anyhow::Result<Self> {
        scenario.check()?;
        let listen = scenario.listen;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let clock = Arc::new(Clock::start());
        let relays = scenario
            .relays
            .iter()
            .map(|relay| Arc::new(Relay::new(scenario.seed, relay.clone(), scenario.ledger, clock.clone())))
            .collect();
        let client = reqwest::Client::builder().no_proxy().build().context("no HTTP client for pushes")?;
        let cancelled = CancellationToken::new();
        let shared = Arc::new(Shared { scenario, relays, clock, client, cancelled: cancelled.clone() });
        let tasks = TaskTracker::new();
        let smtp_addresses = start_smtp(&shared, &tasks).await?;
        tasks.spawn(http::serve(listener, shared.clone(), tasks.clone(), cancelled.clone()));
        for relay in &shared.relays {
            tasks.spawn(push::run(relay.clone(), shared.client.clone(), cancelled.clone()));
        }
        Ok(Self { shared, address, smtp_addresses, tasks })
    }

    /// Base URL of an HTTP relay, `http://host:port/relays/{id}`.
    #[must_use]
    pub fn base_url(&self, relay: &str) -> String {
        format!("http://{}/relays/{relay}", self.address)
    }

    /// Address of an SMTP relay; `None` for other relays.
    #[must_use]
    pub fn smtp_address(&self, relay: &str) -> Option<SocketAddr> {
        self.smtp_addresses.iter().find(|(id, _)| **id == *relay).map(|(_, address)| *address)
    }

    /// Base URL of the admin endpoints, `http://host:port/admin`.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}/admin", self.address)
    }

    /// Address of the HTTP listener.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the relays believe.
    #[must_use]
    pub fn ledger(&self) -> LedgerView {
        LedgerView { shared: self.shared.clone() }
    }

    /// Merges an RFC 7396 patch into a relay's behaviour.
    ///
    /// # Errors
    /// When there is no such relay, or the result is out of range; nothing is changed then.
    pub fn set_behaviour(&self, relay: &str, patch: &serde_json::Value) -> anyhow::Result<()> {
        merge_behaviour(&*self.relay(relay)?, patch)
    }

    /// Where a relay pushes its receipts, and the Standard Webhooks secret that it signs them with.
    ///
    /// # Errors
    /// When there is no such relay or the secret is not `whsec_` + base64.
    pub fn set_callback(&self, relay: &str, url: &str, secret: &str) -> anyhow::Result<()> {
        let receipts = serde_json::json!({ "mode": "push", "callback_url": url, "secret": secret });
        self.set_behaviour(relay, &serde_json::json!({ "receipts": receipts }))
    }

    /// Puts a relay out of service from now on; a zero duration ends every outage.
    ///
    /// # Errors
    /// When there is no such relay.
    pub fn set_outage(&self, relay: &str, duration: Duration, mode: OutageMode) -> anyhow::Result<()> {
        set_outage(&*self.relay(relay)?, duration, mode)
    }

    /// Makes one push that is wrong on purpose; returns the HTTP status of the client's answer.
    ///
    /// # Errors
    /// When there is no such relay or no callback, nothing to replay, or no answer.
    pub async fn forge(&self, relay: &str, request: ForgeRequest) -> anyhow::Result<u16> {
        forge(&self.shared, &*self.relay(relay)?, request).await
    }

    /// Forgets everything and goes back to the scenario's behaviour. Pushes under way are still made.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Lets everything scheduled happen now and waits until the client has taken it; returns what is left.
    pub async fn flush_receipts(&self, timeout: Duration) -> usize {
        self.shared.flush(timeout).await
    }

    /// Stops listening, ends connections after their current answer and waits for all tasks. Receipts that were
    /// not taken are lost: call [`RelaySim::flush_receipts`] first to keep them.
    pub async fn shutdown(self) {
        self.shared.cancelled.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn relay(&self, id: &str) -> anyhow::Result<Arc<Relay>> {
        self.shared.relay(id).with_context(|| format!("no relay {id:?}"))
    }
}

impl Drop for RelaySim {
    fn drop(&mut self) {
        self.shared.cancelled.cancel();
    }
}

async fn start_smtp(
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
) -> anyhow::Result<Vec<(Arc<str>, SocketAddr)>> {
    let mut addresses = Vec::new();
    for relay in &shared.relays {
        let Some(listen) = relay.scenario.smtp_listen else { continue };
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        addresses.push((relay.id.clone(), listener.local_addr()?));
        tasks.spawn(smtp::serve(listener, relay.clone(), tasks.clone(), shared.cancelled.clone()));
    }
    Ok(addresses)
}

impl Shared {
    pub(crate) fn relay(&self, id: &str) -> Option<Arc<Relay>> {
        self.relays.iter().find(|relay| *relay.id == *id).cloned()
    }

    pub(crate) fn http_relay(&self, id: &str) -> Option<Arc<Relay>> {
        self.relay(id).filter(|relay| relay.scenario.kind == RelayKind::Http)
    }

    /// Waits; a shutdown ends the wait.
    pub(crate) async fn wait(&self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        tokio::select! {
            () = self.clock.wait(duration) => {}
            () = self.cancelled.cancelled() => {}
        }
    }

    pub(crate) fn reset(&self) {
        self.clock.restart();
        self.relays.iter().for_each(|relay| relay.reset());
    }

    pub(crate) async fn flush(&self, timeout: Duration) -> usize {
        let deadline_us = self.clock.now_us().saturating_add(timeout.as_micros() as u64);
        loop {
            self.relays.iter().for_each(|relay| relay.hurry());
            let pending = self.relays.iter().map(|relay| relay.pending()).sum();
            if pending == 0 || self.clock.now_us() >= deadline_us {
                return pending;
            }
            self.clock.wait(FLUSH_LOOK).await;
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        let mut everywhere = Vec::new();
        let mut relays = Vec::with_capacity(self.relays.len());
        for relay in &self.relays {
            let delivered = relay.delivered_messages();
            everywhere.extend_from_slice(&delivered);
            relays.push(RelaySummary {
                id: relay.id.clone(),
                counters: relay.counters(),
                pending: relay.pending(),
                delivered_more_than_once: more_than_once(delivered),
            });
        }
        Summary { relays, delivered_more_than_once: more_than_once(everywhere) }
    }
}

impl LedgerView {
    /// Counters of every relay, and the messages delivered more than once.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.shared.summary()
    }

    /// Counters of one relay, without the walk over its ledger that a summary takes.
    #[must_use]
    pub fn counters(&self, relay: &str) -> Option<Counters> {
        self.shared.relay(relay).map(|relay| relay.counters())
    }

    /// A page of one relay's hand-overs from position `after`; empty for unknown relays and in counts mode.
    #[must_use]
    pub fn entries(&self, relay: &str, after: usize, limit: usize) -> Vec<LedgerEntry> {
        self.shared.relay(relay).map(|relay| relay.page(after, limit)).unwrap_or_default()
    }

    /// All hand-overs of all relays, relay by relay.
    #[must_use]
    pub fn all_entries(&self) -> Vec<LedgerEntry> {
        self.shared.relays.iter().flat_map(|relay| relay.page(0, usize::MAX)).collect()
    }

    /// The hand-over of a reference at a relay.
    #[must_use]
    pub fn find(&self, relay: &str, reference: &str) -> Option<LedgerEntry> {
        self.shared.relay(relay)?.find(reference)
    }

    /// How many times each message was delivered, over all attempts at all relays; undelivered ones count 0.
    #[must_use]
    pub fn deliveries_by_message(&self) -> std::collections::HashMap<String, u32> {
        deliveries_by_message(&self.all_entries())
    }
}

/// Merges a patch into a relay's behaviour.
pub(crate) fn merge_behaviour(relay: &Relay, patch: &serde_json::Value) -> anyhow::Result<()> {
    anyhow::ensure!(patch.is_object(), "a patch is a JSON object");
    let mut merged = serde_json::to_value(&relay.decider().behaviour)?;
    merge(&mut merged, patch);
    let behaviour: Behaviour = serde_json::from_value(merged).context("not a behaviour")?;
    relay.set_behaviour(behaviour)
}

/// RFC 7396.
fn merge(target: &mut serde_json::Value, patch: &serde_json::Value) {
    let serde_json::Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = serde_json::json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().map(|object| object.remove(key));
        } else {
            merge(&mut target[key], change);
        }
    }
}

/// Adds an outage from now on, or with a zero duration ends all of them.
pub(crate) fn set_outage(relay: &Relay, duration: Duration, mode: OutageMode) -> anyhow::Result<()> {
    let mut behaviour = relay.decider().behaviour.clone();
    if duration.is_zero() {
        behaviour.outages.clear();
    } else {
        let start_ms = relay.clock.elapsed_ms();
        let end_ms = start_ms + duration.as_millis() as u64;
        behaviour.outages.insert(0, Outage { start_ms, end_ms, mode });
    }
    relay.set_behaviour(behaviour)
}
