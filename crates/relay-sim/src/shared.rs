//! What the listeners and tasks of a simulation share.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ledger::{Counters, more_than_once};
use crate::relay::Relay;
use crate::scenario::{RelayKind, Scenario};

/// How often a flush looks whether all is out.
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// What the parts of a simulation share.
pub(crate) struct Shared {
    pub(crate) scenario: Scenario,
    pub(crate) relays: Vec<Arc<Relay>>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) client: reqwest::Client,
    pub(crate) cancelled: CancellationToken,
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
