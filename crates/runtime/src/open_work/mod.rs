//! The write side's view of the read models: a thin adapter, because the two do not know each other.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::directory::{InForce, StoredDirectory, StoredRefusals};
use kite_commands::manage::Unextended;
use kite_commands::open_work::{OpenWork, OpenWorkError, RouterMemory, Workload};
use kite_commands::refusal_keeper::KnownPeople;
use kite_domain::advice::RelayFigures;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::receipt::{ParkedReceipt, ParkedStretch};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use kite_event_store::Position;
use kite_projections::{Bond, QueryError, ReadModels};
use smol_str::SmolStr;
use std::collections::BTreeSet;

use crate::host::Host;

/// How the read models are asked.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Figures of relays are over so long.
    pub figures_window: TimeDelta,
    /// So many unrouted sendings are read at once.
    pub unrouted_page: usize,
}

/// Reads the read models, away from threads that must not block.
pub(crate) struct OpenWorkReader<H> {
    host: H,
    models: ReadModels,
    reading: Reading,
}

impl<H: Host> OpenWorkReader<H> {
    pub(crate) fn new(host: H, models: ReadModels, reading: Reading) -> Self {
        Self { host, models: models.of_write_side(), reading }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&ReadModels) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, OpenWorkError> {
        let models = self.models.clone();
        let answer = self.host.read(move || question(&models)).await.map_err(OpenWorkError::new)?;
        answer.map_err(OpenWorkError::new)
    }
}

#[async_trait]
impl<H: Host> OpenWork for OpenWorkReader<H> {
    async fn router_memory(&self, policies: Vec<SmolStr>) -> Result<RouterMemory, OpenWorkError> {
        let page = self.reading.unrouted_page;
        let place = self.ask(move |models| models.router_place(page, Some(&policies))).await?;
        Ok(RouterMemory {
            position: place.position,
            carries_position: place.carries_position,
            carries: place.carries,
            unrouted: place.unrouted,
            parked: place.parked,
        })
    }

    async fn workload(&self) -> Result<Workload, OpenWorkError> {
        let workload = self.ask(|models| models.work.workload()).await?;
        Ok(Workload { position: workload.position, loads: workload.loads })
    }

    async fn due_sendings(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<SendingId>, OpenWorkError> {
        self.ask(move |models| models.work.due_scheduled(now, limit)).await
    }

    async fn due_lots(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        self.ask(move |models| models.work.due_lots(now.timestamp_millis(), limit)).await
    }

    async fn lots_to_sweep(&self, after: Option<LotId>, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        self.ask(move |models| models.work.lots_to_sweep(after, limit))
            .await
            .map(|lots| lots.into_iter().map(|open| open.id).collect())
    }

    async fn cancelled_lots(&self, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        self.ask(move |models| models.work.cancelled_lots(limit)).await
    }

    async fn finished_sendings(&self, limit: usize) -> Result<Vec<SendingId>, OpenWorkError> {
        self.ask(move |models| models.work.completed_sendings(limit)).await
    }

    async fn parked_sendings(
        &self,
        after: Option<SendingId>,
        limit: usize,
    ) -> Result<Vec<SendingId>, OpenWorkError> {
        self.ask(move |models| models.work.parked_sendings(after, limit)).await
    }

    async fn parked_relays(&self) -> Result<Vec<RelayId>, OpenWorkError> {
        self.ask(|models| models.work.parked_relays()).await
    }

    async fn parked_receipts(
        &self,
        stretch: ParkedStretch,
        limit: usize,
    ) -> Result<Vec<ParkedReceipt>, OpenWorkError> {
        self.ask(move |models| models.work.parked_receipts(&stretch, limit)).await
    }

    async fn figures(
        &self,
        channels: BTreeSet<Channel>,
        now: DateTime<Utc>,
    ) -> Result<Vec<RelayFigures>, OpenWorkError> {
        let window = self.reading.figures_window;
        self.ask(move |models| models.routing.figures(&channels, window, now)).await
    }
}

#[async_trait]
impl<H: Host> KnownPeople for OpenWorkReader<H> {
    async fn unextended(&self, limit: usize) -> Result<Vec<Unextended>, OpenWorkError> {
        let bonds = self.ask(move |models| models.address_book.unextended_refusals(None, limit)).await?;
        let unextended =
            |bond: Bond| Unextended { tenant: bond.tenant, address: bond.address, other: bond.other };
        Ok(bonds.into_iter().map(unextended).collect())
    }
}

#[async_trait]
impl<H: Host> StoredDirectory for OpenWorkReader<H> {
    async fn in_force(&self) -> Result<Option<InForce>, OpenWorkError> {
        let in_force = self.ask(|models| models.directory.in_force()).await?;
        Ok(in_force.map(|known| InForce { position: known.position, events: known.events }))
    }

    async fn in_force_of(&self, stream: SmolStr) -> Result<Option<Vec<u64>>, OpenWorkError> {
        self.ask(move |models| models.directory.in_force_of(&stream)).await
    }

    async fn refusals(
        &self,
        tenant: TenantId,
        identities: Vec<SmolStr>,
    ) -> Result<StoredRefusals, OpenWorkError> {
        let stored = self.ask(move |models| models.address_book.refusals(&tenant, &identities)).await?;
        Ok(StoredRefusals { position: stored.position, refusals: stored.refusals, parked: stored.parked })
    }

    fn refusals_position(&self) -> Position {
        self.models.address_book.position()
    }
}

#[cfg(test)]
mod tests;
