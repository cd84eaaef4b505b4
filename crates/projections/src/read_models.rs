//! All read models of an instance, and the list of them: the one place that a new one is added to.

use kite_domain::ids::SendingId;
use kite_domain::mutation;
use kite_domain::split::Carry;
use kite_event_store::{EventStore, Position};
use smol_str::SmolStr;
use std::sync::Arc;

use crate::address_book::{AddressBookModel, AddressBookQueries};
use crate::delivery::{DeliveryModel, DeliveryQueries};
use crate::directory::{DirectoryModel, DirectoryQueries};
use crate::error::{OpenError, QueryError};
use crate::files::Files;
use crate::parked::{self, ParkedEvent};
use crate::projector::Runner;
use crate::readers::Readers;
use crate::register::{Of, Registered};
use crate::routing::{RoutingModel, RoutingQueries};
use crate::storage::Storage;
use crate::work::{WorkModel, WorkQueries};

/// What a router needs to continue after a restart.
#[derive(Debug, Clone)]
pub struct RouterPlace {
    /// Everything up to here is in the rest.
    pub position: Position,
    /// The carries include the log up to here; this is before `position` if routes are parked.
    pub carries_position: Position,
    /// Where each split that was asked for stands.
    pub carries: Vec<(SmolStr, Carry)>,
    /// Sealed, released sendings with messages that have no route.
    pub unrouted: Vec<SendingId>,
    /// Sendings whose state the model does not know.
    pub parked: Vec<SendingId>,
}

/// The list. Fields, files and schemas, projectors, replays, and what is shown of parked events all come from it.
macro_rules! read_models {
    ($($(#[doc = $what:literal])+ $field:ident: $model:ty => $queries:ty,)*) => {
        /// The queries of all models. Cheap to clone.
        #[derive(Clone)]
        pub struct ReadModels {
            $($(#[doc = $what])+ pub $field: $queries,)*
            files: Files,
            storage: Storage,
        }

        impl ReadModels {
            /// Every model there is, in the order in which they are shown.
            pub(crate) fn each() -> &'static [&'static dyn Registered] {
                &[$(&Of::<$model>::NEW),*]
            }

            /// Opens them, and creates files that are missing, if they are in files.
            ///
            /// # Errors
            /// See [`OpenError`]; a model of another schema version has to be rebuilt ([`crate::replay::rebuild`]).
            pub fn open(storage: impl Into<Storage>) -> Result<Self, OpenError> {
                let storage = storage.into();
                if let Storage::Files(directory) = &storage {
                    std::fs::create_dir_all(directory)?;
                }
                let open = |model: &&dyn Registered| Ok((model.name(), model.readers(&storage)?));
                let files = Files::new(Self::each().iter().map(open).collect::<Result<_, OpenError>>()?);
                Ok(Self::over(files, storage))
            }

            fn over(files: Files, storage: Storage) -> Self {
                Self { $($field: <$queries>::new(&files),)* files, storage }
            }
        }
    };
}

read_models! {
    /// Contacts, groups, senders, opt-outs, templates, tenants.
    address_book: AddressBookModel => AddressBookQueries,
    /// Relays, policies, splits, live figures.
    routing: RoutingModel => RoutingQueries,
    /// Sendings, messages, statistics.
    delivery: DeliveryModel => DeliveryQueries,
    /// What the write side looks through.
    work: WorkModel => WorkQueries,
    /// Where in the log the events in force are, from which relays, policies, senders and keys follow.
    directory: DirectoryModel => DirectoryQueries,
}

impl ReadModels {
    /// Their names, in the order of the list.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::each().iter().map(|model| model.name())
    }

    /// The same, asked by the write side and its loops: they have turns that users cannot take, so that no slow question of a
    /// user keeps them from an answer.
    #[must_use]
    pub fn of_write_side(&self) -> Self {
        Self::over(self.files.of_write_side(), self.storage.clone())
    }

    /// The position up to which this process has seen the log projected, by each model.
    pub fn positions(&self) -> impl Iterator<Item = (&'static str, Position)> + '_ {
        self.files.each().map(|(name, readers)| (*name, readers.position()))
    }

    /// Where a router continues that has lost its memory, as one query, so that nobody combines it wrongly. The
    /// unrouted sendings are read in pages of this size, so that no read keeps the write-ahead log from being copied
    /// for long; none is left out. Carries are those of the splits of these policies, or of all.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn router_place(
        &self,
        page_max: usize,
        policies: Option<&[SmolStr]>,
    ) -> Result<RouterPlace, QueryError> {
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
        let (routing_position, carries_position, carries) = self.routing.carries(policies)?;
        let position = work_position.min(routing_position);
        mutation::bug!(RouterPlaceTooFar, let position = work_position.max(routing_position));
        let carries_position = carries_position.min(position);
        let parked = self.work.parked_sendings(None, usize::MAX)?;
        Ok(RouterPlace { position, carries_position, carries, unrouted, parked })
    }

    /// How many events each model has parked, by its name.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn parked_counts(&self) -> Result<Vec<(&'static str, u64)>, QueryError> {
        let count = |(name, readers): &(&'static str, Readers)| {
            Ok((*name, readers.ask(|connection| Ok(parked::count(connection)?))?))
        };
        self.files.each().map(count).collect()
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
        let list = |(name, readers): &(&'static str, Readers)| {
            Ok((*name, readers.ask(|connection| parked::list(connection, after, limit))?))
        };
        self.files.each().map(list).collect()
    }

    /// Whether other processes share them: then each model has one projector among all.
    pub fn are_shared(&self) -> bool {
        matches!(self.storage, Storage::Postgres(_))
    }

    /// One projector for each model. Only one set of them may work on files; on a server more cost time, and do no harm.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn projectors(&self, store: Arc<dyn EventStore>) -> Result<Vec<Box<dyn Runner>>, OpenError> {
        let files = Self::each().iter().zip(self.files.each());
        files.map(|(model, (_, readers))| model.projector(store.clone(), &self.storage, readers)).collect()
    }
}
