//! All read models of a data directory.

use kite_domain::ids::SendingId;
use kite_domain::mutation::{self, Mutation};
use kite_domain::split::Carry;
use kite_event_store::{EventStore, Position};
use smol_str::SmolStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::address_book::{AddressBookModel, AddressBookQueries};
use crate::database::{self, Indexes};
use crate::delivery::{DeliveryModel, DeliveryQueries};
use crate::error::{OpenError, QueryError};
use crate::parked::{self, ParkedEvent};
use crate::projector::{Projector, ReadModel, Runner};
use crate::readers::Readers;
use crate::routing::{RoutingModel, RoutingQueries};
use crate::work::{WorkModel, WorkQueries};

/// What a router needs to go on after a restart.
#[derive(Debug, Clone)]
pub struct RouterPlace {
    /// Everything up to here is in the rest.
    pub position: Position,
    /// The carries are those of here; before `position` where routes are parked.
    pub carries_position: Position,
    /// Where each split stands.
    pub carries: Vec<(SmolStr, Carry)>,
    /// Sealed, released sendings with messages that have no route.
    pub unrouted: Vec<SendingId>,
    /// Sendings of which the model does not know how they stand.
    pub parked: Vec<SendingId>,
}

/// The questions that can be asked. Cheap to clone.
#[derive(Clone)]
pub struct ReadModels {
    /// Contacts, groups, senders, opt-outs, templates, tenants.
    pub address_book: AddressBookQueries,
    /// Relays, policies, splits, live figures.
    pub routing: RoutingQueries,
    /// Sendings, messages, statistics.
    pub delivery: DeliveryQueries,
    /// What the write side looks through.
    pub work: WorkQueries,
    data_dir: PathBuf,
}

impl ReadModels {
    /// Opens the files in `data_dir`, and creates what is missing.
    ///
    /// # Errors
    /// See [`OpenError`]; a file of another schema version has to be rebuilt ([`crate::replay::rebuild`]).
    pub fn open(data_dir: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(data_dir)?;
        let delivery = readers::<DeliveryModel>(data_dir)?;
        Ok(Self {
            address_book: AddressBookQueries::new(readers::<AddressBookModel>(data_dir)?),
            routing: RoutingQueries::new(readers::<RoutingModel>(data_dir)?, delivery.clone()),
            delivery: DeliveryQueries::new(delivery),
            work: WorkQueries::new(readers::<WorkModel>(data_dir)?),
            data_dir: data_dir.to_owned(),
        })
    }

    /// Where a router goes on that has lost its memory: all in one question, so that nobody puts it together wrongly. The
    /// unrouted sendings are read in pages of this size, so that no read keeps the file from being tidied for long; none
    /// is left out.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn router_place(&self, page_max: usize) -> Result<RouterPlace, QueryError> {
        // The position is taken before the rows: the rows may know more, never less. What changes between two pages is
        // told by events after the position.
        let work_position = self.work.position();
        let mut unrouted = Vec::new();
        let mut last = None;
        loop {
            let mut page = self.work.unrouted_sendings(last.as_ref(), page_max.max(1))?;
            unrouted.extend(page.iter().map(|open| open.id));
            match page.pop() {
                Some(open) => last = Some(open),
                None => break,
            }
        }
        let (routing_position, carries_position, carries) = self.routing.carries()?;
        let position = match mutation::is_active(Mutation::RouterPlaceTooFar) {
            true => work_position.max(routing_position),
            false => work_position.min(routing_position),
        };
        let carries_position = carries_position.min(position);
        let parked = self.work.parked_sendings(None, usize::MAX)?;
        Ok(RouterPlace { position, carries_position, carries, unrouted, parked })
    }

    /// How many events each model has parked, by its name.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn parked_counts(&self) -> Result<Vec<(&'static str, u64)>, QueryError> {
        let count = |(name, readers): (&'static str, &Readers)| {
            Ok((name, readers.ask(|connection| Ok(parked::count(connection)?))?))
        };
        self.named_readers().into_iter().map(count).collect()
    }

    /// The first events that each model has parked, by its name and in the order of the log; those that come after this
    /// position.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn parked(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<(&'static str, Vec<ParkedEvent>)>, QueryError> {
        let list = |(name, readers): (&'static str, &Readers)| {
            Ok((name, readers.ask(|connection| parked::list(connection, after, limit))?))
        };
        self.named_readers().into_iter().map(list).collect()
    }

    fn named_readers(&self) -> [(&'static str, &Readers); 4] {
        [
            (AddressBookModel::NAME, self.address_book.readers()),
            (RoutingModel::NAME, self.routing.readers()),
            (DeliveryModel::NAME, self.delivery.readers()),
            (WorkModel::NAME, self.work.readers()),
        ]
    }

    /// One projector for each model. Only one set of them may be at work on a data directory.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn projectors(&self, store: Arc<dyn EventStore>) -> Result<Vec<Box<dyn Runner>>, OpenError> {
        Ok(vec![
            Box::new(self.projector::<AddressBookModel>(store.clone(), self.address_book.readers())?),
            Box::new(self.projector::<RoutingModel>(store.clone(), self.routing.readers())?),
            Box::new(self.projector::<DeliveryModel>(store.clone(), self.delivery.readers())?),
            Box::new(self.projector::<WorkModel>(store, self.work.readers())?),
        ])
    }

    fn projector<M: ReadModel>(
        &self,
        store: Arc<dyn EventStore>,
        readers: &Readers,
    ) -> Result<Projector<M>, OpenError> {
        let connection = database::open_writer::<M>(&database::file::<M>(&self.data_dir), Indexes::Now)?;
        let end = *store.head().borrow();
        let projector = Projector::new(store, connection, readers.position_sender())
            .map_err(|source| OpenError::storage(M::NAME, source))?;
        // It would wait for the log to come to where it stands, and show rows of another history until then.
        match projector.position() {
            live if live > end => Err(OpenError::AheadOfLog { model: M::NAME, live, end }),
            0 if end > 0 => {
                tracing::warn!(
                    model = M::NAME,
                    end,
                    "the read model is new or was lost: it is made from the log"
                );
                Ok(projector)
            }
            _ => Ok(projector),
        }
    }
}

fn readers<M: ReadModel>(data_dir: &Path) -> Result<Readers, OpenError> {
    let path = database::file::<M>(data_dir);
    drop(database::open_writer::<M>(&path, Indexes::Now)?);
    Readers::new::<M>(path)
}
