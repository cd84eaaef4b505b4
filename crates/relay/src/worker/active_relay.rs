//! What the workers of one relay share.

use chrono::{DateTime, Utc};
use kite_commands::{Cause, WorkerError, describe};
use kite_domain::codes::CodeDictionary;
use kite_domain::failure::FailureClass;
use kite_domain::lot::{Asking, CONNECTION_LOST};
use kite_domain::mutation;
use kite_domain::relay::{ReceiptMode, RelayProfile};
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use smol_str::{SmolStr, format_smolstr};
use std::sync::Arc;

use crate::breaker::BreakerGuard;
use crate::client::RelayClient;
use crate::content::Texts;
use crate::limits::Pace;
use crate::metrics;
use crate::parts::RelayParts;
use crate::queue::{Job, Lease, WorkQueue};
use crate::shares::Shares;

/// One relay under one definition.
pub struct ActiveRelay {
    pub(crate) profile: RelayProfile,
    pub(crate) client: Arc<dyn RelayClient>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) shares: Arc<Shares>,
    pub(crate) breaker: Arc<BreakerGuard>,
    pub(crate) texts: Arc<Texts>,
    pub(crate) parts: Arc<RelayParts>,
    pub(crate) actor: SmolStr,
}

impl ActiveRelay {
    /// The workers' common ground for this definition of a relay.
    pub(crate) fn new(
        profile: RelayProfile,
        client: Arc<dyn RelayClient>,
        (pace, shares): (Arc<Pace>, Arc<Shares>),
        breaker: Arc<BreakerGuard>,
        texts: Arc<Texts>,
        parts: Arc<RelayParts>,
    ) -> Self {
        if CodeDictionary::named(&profile.codes).is_none() {
            tracing::error!(relay = %profile.relay, codes = %profile.codes, "no such code dictionary: every code is unclassified");
        }
        let actor = format_smolstr!("worker:{}", profile.relay);
        Self { profile, client, pace, shares, breaker, texts, parts, actor }
    }

    pub(crate) fn relay(&self) -> &RelayId {
        &self.profile.relay
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.parts.lots.journal().now()
    }

    pub(crate) fn cause(&self) -> Cause {
        Cause::new(self.actor.clone(), self.parts.lots.journal().next_id())
    }

    /// What a relay's code means now, or the more general code if the first is unknown.
    pub(crate) fn class_of(&self, code: &str, general: Option<&str>) -> FailureClass {
        if code == CONNECTION_LOST {
            return FailureClass::RelayFault;
        }
        let directory = self.parts.directory.snapshot();
        let meaning = directory.relays.get(self.relay()).map(|entry| match general {
            Some(general) => entry.meaning(&[code, general]),
            None => entry.meaning(&[code]),
        });
        let class = meaning.and_then(|meaning| meaning.failure()).unwrap_or(FailureClass::Unclassified);
        if class == FailureClass::Unclassified {
            metrics::unclassified(self.relay());
        }
        mutation::bug!(CodeGuessed if class == FailureClass::Unclassified, let class = FailureClass::RelayFault);
        class
    }

    /// A call takes time, and what follows from its answer must be based on the log as it is by then. If the log
    /// cannot be read, the answer is recorded nevertheless.
    pub(crate) async fn catch_up(&self) {
        if let Err(error) = self.parts.directory.stay_current(self.parts.lots.journal()).await {
            tracing::warn!(relay = %self.relay(), error = describe(&error), "an answer is judged by what was known before");
        }
    }

    /// How the relay can be asked about messages without an answer.
    pub(crate) fn asking(&self) -> Asking {
        Asking::of(&self.profile)
    }

    /// Whether acceptance is the last that is heard.
    pub(crate) fn accepted_is_final(&self) -> bool {
        self.profile.receipts == ReceiptMode::None
    }
}

/// A lease in a worker. If the worker is dropped in the middle, what it held is looked at again.
pub(crate) struct Held {
    pub(super) queue: Arc<dyn WorkQueue>,
    pub(super) relay: RelayId,
    /// The class of the messages in it.
    pub(super) class: MessageClass,
    /// What came with it beyond what was wanted.
    pub(super) surplus: Vec<Job>,
    lease: Option<u64>,
}

impl Held {
    pub(crate) fn new(active: &ActiveRelay, lease: &Lease, surplus: Vec<Job>) -> Self {
        Self {
            queue: active.parts.queue.clone(),
            relay: active.relay().clone(),
            class: lease.class,
            surplus,
            lease: Some(lease.id),
        }
    }

    /// Done except for `rest`.
    pub(crate) async fn settle(mut self, mut rest: Vec<Job>) -> Result<(), WorkerError> {
        rest.append(&mut self.surplus);
        if let Some(lease) = self.lease {
            let settled = self.queue.settle(&self.relay, lease, rest).await;
            settled.map_err(WorkerError::retry)?;
            self.lease = None;
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.queue.abandon(&self.relay, lease);
        }
    }
}
