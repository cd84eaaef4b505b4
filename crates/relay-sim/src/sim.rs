//! A running simulation: the handle that tests and the demo hold, and what its parts share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::behaviour_change::{merge_behaviour, set_outage};
use crate::clock::Clock;
use crate::forge::{ForgeRequest, forge};
use crate::ledger::{Counters, LedgerEntry, deliveries_by_message};
use crate::relay::{Relay, push};
use crate::scenario::{OutageMode, Scenario};
use crate::shared::{Shared, Summary};
use crate::{http, smtp};

/// A running simulation. Dropping it stops its tasks; [`RelaySim::shutdown`] waits for them.
pub struct RelaySim {
    shared: Arc<Shared>,
    address: SocketAddr,
    smtp_addresses: Vec<(Arc<str>, SocketAddr)>,
    tasks: TaskTracker,
}

/// Read access to every relay's ledger, for tests in the same process.
#[derive(Clone)]
pub struct LedgerView {
    shared: Arc<Shared>,
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

    /// Forgets everything and goes back to the scenario's behaviour. Pushes in progress are still made.
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
