//! The write side's view of the read models, on the one thread there is.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::open_work::{OpenWork, OpenWorkError, RouterMemory, Workload};
use kite_commands::refusal_keeper::{KnownPeople, Unextended};
use kite_domain::advice::RelayFigures;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::receipt::{ParkedReceipt, ParkedStretch};
use kite_domain::slug::RelayId;
use kite_domain::text::Channel;
use kite_projections::{Bond, QueryError, ReadModels};
use std::sync::Arc;

use crate::executor::Sim;

/// So small that there is often more than one.
const UNROUTED_PAGE: usize = 2;

/// Answers from the read models, after others have gone on.
pub(crate) struct SimOpenWork {
    pub(crate) sim: Arc<Sim>,
    pub(crate) models: ReadModels,
}

impl SimOpenWork {
    async fn ask<T>(
        &self,
        question: impl FnOnce(&ReadModels) -> Result<T, QueryError> + Send,
    ) -> Result<T, OpenWorkError> {
        self.sim.some_yields().await;
        let answer = question(&self.models).map_err(|error| OpenWorkError(error.to_string()));
        self.sim.some_yields().await;
        answer
    }
}

#[async_trait]
impl OpenWork for SimOpenWork {
    async fn router_memory(&self) -> Result<RouterMemory, OpenWorkError> {
        let place = self.ask(|models| models.router_place(UNROUTED_PAGE)).await?;
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
        self.ask(|models| models.work.due_scheduled(now, limit)).await
    }

    async fn due_lots(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        self.ask(|models| models.work.due_lots(now.timestamp_millis(), limit)).await
    }

    async fn lots_to_sweep(&self, after: Option<LotId>, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        let lots = self.ask(|models| models.work.lots_to_sweep(after, limit)).await?;
        Ok(lots.into_iter().map(|open| open.id).collect())
    }

    async fn cancelled_lots(&self, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        self.ask(|models| models.work.cancelled_lots(limit)).await
    }

    async fn finished_sendings(&self, limit: usize) -> Result<Vec<SendingId>, OpenWorkError> {
        self.ask(|models| models.work.completed_sendings(limit)).await
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
        self.ask(|models| models.work.parked_receipts(&stretch, limit)).await
    }

    async fn figures(
        &self,
        channel: Channel,
        now: DateTime<Utc>,
    ) -> Result<Vec<RelayFigures>, OpenWorkError> {
        self.ask(|models| models.routing.figures(channel, TimeDelta::minutes(15), now)).await
    }
}

#[async_trait]
impl KnownPeople for SimOpenWork {
    async fn unextended(&self, limit: usize) -> Result<Vec<Unextended>, OpenWorkError> {
        let bonds = self.ask(|models| models.address_book.unextended_refusals(None, limit)).await?;
        let unextended =
            |bond: Bond| Unextended { tenant: bond.tenant, address: bond.address, other: bond.other };
        Ok(bonds.into_iter().map(unextended).collect())
    }
}
