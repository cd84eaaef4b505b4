//! How new a read is. A read model follows the log a moment later, so a read of one waits for what its caller wrote through this
//! process, and for what the header `kite-min-position` asks for.
//!
//! Which read model an endpoint answers from stands in its row ([`access`](crate::access)), and the waiting is done where the
//! key is read ([`auth`](crate::auth)): no handler waits by itself, and none can forget to.

use axum::http::HeaderMap;
use kite_commands::event_store::{EventStore, Filter};
use kite_projections::ReadModels;
use std::sync::Arc;
use std::time::Duration;

use crate::own_writes::{OwnWrites, Writer};
use crate::problem::{Answer, Code, Problem};

/// Asks to be answered only from data at least as new as a position: the value of an earlier `kite-position`.
pub(crate) const MIN_POSITION: &str = "kite-min-position";

/// A read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    /// Contacts, groups, templates, refusals, keys.
    AddressBook,
    /// Sendings and messages.
    Delivery,
    /// Policies and advice.
    Routing,
}

/// What reads wait for.
pub(crate) struct Freshness {
    models: ReadModels,
    store: Arc<dyn EventStore>,
    /// How long at most.
    wait: Duration,
    /// Writes of any kind.
    writes: OwnWrites,
    /// Writes to address books.
    contact_writes: OwnWrites,
}

impl Freshness {
    pub(crate) fn new(models: ReadModels, store: Arc<dyn EventStore>, wait: Duration) -> Self {
        let (writes, contact_writes) = (OwnWrites::default(), OwnWrites::default());
        Self { models, store, wait, writes, contact_writes }
    }

    /// Waits until a read model holds everything that the reader wrote through this process, and what the headers ask for. Who
    /// did not ask is answered from what there is when it takes too long: a list that is a moment old is of more use than none.
    pub(crate) async fn wait_for(&self, model: Model, reader: &Writer, headers: &HeaderMap) -> Answer<()> {
        let asked = self.asked(headers).await?;
        if self.reached(model, self.writes.of(reader)).await.is_err() {
            metrics::counter!("kite_own_writes_not_awaited_total").increment(1);
        }
        self.reached(model, asked).await
    }

    /// What the header `kite-min-position` asks for. What nothing was ever written at is waited for in vain.
    pub(crate) async fn asked(&self, headers: &HeaderMap) -> Answer<u64> {
        let Some(position) = min_position(headers)? else { return Ok(0) };
        let head = *self.store.head().borrow();
        // The head is told a moment after an event can be read.
        let is_beyond = position > head
            && self.store.read_all(position - 1, 1, &Filter::everything()).await?.events.is_empty();
        if is_beyond {
            let detail =
                format!("The header kite-min-position names position {position}; the log ends at {head}.");
            return Err(Problem::new(Code::InvalidParameter, detail));
        }
        Ok(position)
    }

    /// Waits until a read model is at a position, or says that it is not.
    pub(crate) async fn reached(&self, model: Model, position: u64) -> Answer<()> {
        if self.position(model) >= position {
            return Ok(());
        }
        let is_there = match model {
            Model::AddressBook => self.models.address_book.wait_for(position, self.wait).await,
            Model::Delivery => self.models.delivery.wait_for(position, self.wait).await,
            Model::Routing => self.models.routing.wait_for(position, self.wait).await,
        };
        is_there.then_some(()).ok_or_else(|| lagging(model, position))
    }

    /// Up to where a read model has come.
    pub(crate) fn position(&self, model: Model) -> u64 {
        match model {
            Model::AddressBook => self.models.address_book.position(),
            Model::Delivery => self.models.delivery.position(),
            Model::Routing => self.models.routing.position(),
        }
    }

    /// Up to where all read models have come that reads wait for.
    fn read_everywhere(&self) -> u64 {
        let models = [Model::AddressBook, Model::Delivery, Model::Routing];
        models.map(|model| self.position(model)).into_iter().min().unwrap_or(0)
    }

    /// Remembers that somebody has written.
    pub(crate) fn note(&self, writer: Writer, position: u64) {
        self.writes.note(writer, position, || self.read_everywhere());
    }

    /// Remembers that somebody has written to its address book.
    pub(crate) fn note_contacts(&self, writer: Writer, position: u64) {
        self.contact_writes.note(writer, position, || self.position(Model::AddressBook));
    }

    /// Where the last write of somebody is.
    pub(crate) fn written(&self, writer: &Writer) -> u64 {
        self.writes.of(writer)
    }

    /// Waits until the address book holds everything that somebody wrote to it through this process, or says that it does not.
    pub(crate) async fn own_contacts(&self, writer: &Writer) -> Answer<()> {
        self.reached(Model::AddressBook, self.contact_writes.of(writer)).await
    }
}

fn lagging(model: Model, position: u64) -> Problem {
    let name = match model {
        Model::AddressBook => "address book",
        Model::Delivery => "delivery read model",
        Model::Routing => "routing read model",
    };
    Problem::new(Code::NotCaughtUp, format!("The {name} has not reached position {position} yet."))
}

fn min_position(headers: &HeaderMap) -> Answer<Option<u64>> {
    let Some(value) = headers.get(MIN_POSITION) else { return Ok(None) };
    // The document gives positions the range of its integers, which is that of the stores too.
    let position = value.to_str().ok().and_then(|text| text.parse::<i64>().ok());
    let position = position.and_then(|position| u64::try_from(position).ok());
    position.map(Some).ok_or_else(|| {
        Problem::new(
            Code::InvalidParameter,
            "The header kite-min-position must be a position: a whole number.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use kite_commands::event_store::{
        Batch, BatchMode, Expected, GappyEventStore, Gaps, MemoryEventStore, Metadata, NewEvent, StreamAppend,
    };
    use uuid::Uuid;

    #[tokio::test]
    async fn a_position_that_can_be_read_is_not_beyond_a_log_that_tells_its_end_late() {
        // It tells its end when it is asked to, and it is not.
        let store = GappyEventStore::new(Arc::new(MemoryEventStore::new()), Gaps::Absent);
        let id = Uuid::from_u128(1);
        let events =
            vec![NewEvent { id, kind: "test".into(), schema_version: 1, data: b"{}".to_vec().into() }];
        let metadata = Metadata {
            time: chrono::DateTime::UNIX_EPOCH,
            tenant: None,
            correlation: id,
            causation: None,
            actor: "test".into(),
            traceparent: None,
        };
        let append = StreamAppend { stream: "test".into(), expected: Expected::Any, metadata, events };
        store.append(Batch::new(BatchMode::Independent, vec![append])).await;
        let files = tempfile::TempDir::new().unwrap();
        let models = ReadModels::open(files.path()).unwrap();
        let freshness = Freshness::new(models, Arc::new(store), Duration::ZERO);
        let asked = async |position: &'static str| {
            let headers =
                HeaderMap::from_iter([(MIN_POSITION.parse().unwrap(), HeaderValue::from_static(position))]);
            freshness.asked(&headers).await.map_err(|problem| problem.code())
        };
        assert_eq!(asked("0").await, Ok(0));
        assert_eq!(asked("1").await, Ok(1));
        assert_eq!(asked("2").await, Err(Code::InvalidParameter));
    }
}
