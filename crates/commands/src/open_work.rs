//! What the write side asks a read model for: where to continue after a restart, and what may be due.
//!
//! The answers may lag and need not be complete at any moment: each is only a hint to look at a stream, which then
//! decides. What is missing now will be there at the next scan.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_domain::advice::RelayFigures;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::load::Load;
use kite_domain::receipt::{ParkedReceipt, ParkedStretch};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::split::Carry;
use kite_domain::text::Channel;
use kite_event_store::Position;
use smol_str::SmolStr;
use std::collections::BTreeSet;

use crate::failure::Failure;

/// The read model could not answer.
#[derive(Debug, thiserror::Error)]
#[error("the read models do not say")]
pub struct OpenWorkError(#[source] Failure);

impl OpenWorkError {
    /// For this reason.
    pub fn new(reason: impl Into<Failure>) -> Self {
        Self(reason.into())
    }
}

/// Where the router continues.
#[derive(Debug, Clone, Default)]
pub struct RouterMemory {
    /// Everything up to here is in the rest; what comes after is read from the log.
    pub position: Position,
    /// What comes after this in `carries` is read from the log; it is `position`, or before it.
    pub carries_position: Position,
    /// Where each split stands.
    pub carries: Vec<(SmolStr, Carry)>,
    /// Sealed sendings with messages that have no route yet; scheduled ones only once they are released.
    pub unrouted: Vec<SendingId>,
    /// Sendings whose state the read model does not know: they may be unrouted, too.
    pub parked: Vec<SendingId>,
}

/// What is accepted and not final.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// Up to where in the log it is counted.
    pub position: Position,
    /// By tenant; those that have nothing may be missing.
    pub loads: Vec<(TenantId, Load)>,
}

/// See the module.
#[async_trait]
pub trait OpenWork: Send + Sync + 'static {
    /// Where the router continues. `policies` names the policies in force, as the router names them; splits of other
    /// policies may be left out.
    async fn router_memory(&self, policies: Vec<SmolStr>) -> Result<RouterMemory, OpenWorkError>;
    /// What is accepted and not final.
    async fn workload(&self) -> Result<Workload, OpenWorkError>;
    /// Scheduled sendings whose time has come and that are not released.
    async fn due_sendings(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<SendingId>, OpenWorkError>;
    /// Lots with a deadline, a lifetime or a hold that is over.
    async fn due_lots(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<LotId>, OpenWorkError>;
    /// Lots with something for a relay worker to do, in the order of their ids, after this one.
    async fn lots_to_sweep(&self, after: Option<LotId>, limit: usize) -> Result<Vec<LotId>, OpenWorkError>;
    /// Lots of cancelled sendings with messages that are not final.
    async fn cancelled_lots(&self, limit: usize) -> Result<Vec<LotId>, OpenWorkError>;
    /// Sealed sendings whose messages are all final and that are not completed.
    async fn finished_sendings(&self, limit: usize) -> Result<Vec<SendingId>, OpenWorkError>;
    /// Sendings of which the read model could not store something, in the order of their ids, after this one.
    /// Whatever it says about them may be wrong: their streams have to be read.
    async fn parked_sendings(
        &self,
        after: Option<SendingId>,
        limit: usize,
    ) -> Result<Vec<SendingId>, OpenWorkError>;
    /// Relays with receipts that wait for their message.
    async fn parked_relays(&self) -> Result<Vec<RelayId>, OpenWorkError>;
    /// Receipts that wait for their message, the longest parked first.
    async fn parked_receipts(
        &self,
        stretch: ParkedStretch,
        limit: usize,
    ) -> Result<Vec<ParkedReceipt>, OpenWorkError>;
    /// Live figures of these channels, of every relay that offers one.
    async fn figures(
        &self,
        channels: BTreeSet<Channel>,
        now: DateTime<Utc>,
    ) -> Result<Vec<RelayFigures>, OpenWorkError>;
}
