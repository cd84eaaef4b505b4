//! What can be done with a read model of unknown type.

use async_trait::async_trait;
use kite_event_store::EventStore;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::database::{self, Access, CHECKPOINT};
use crate::error::OpenError;
use crate::postgres::{self, Showing};
use crate::projector::{Projector, Runner};
use crate::read_model::ReadModel;
use crate::readers::Readers;
use crate::replay::{self, ModelReport, ParkedReport, ReplayError, RetryReport};
use crate::storage::{Storage, Writer};
use crate::table::{self, Table};

/// A read model in the list ([`crate::ReadModels::each`]).
#[async_trait]
pub(crate) trait Registered: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Of its tables.
    fn schema_version(&self) -> i64;

    /// All its tables.
    fn tables(&self) -> Vec<&'static Table>;

    /// Makes its tables in PostgreSQL, without the indexes that are for queries only.
    fn create_tables(&self) -> String {
        table::postgres::create_tables(self.tables().into_iter())
    }

    /// Makes the indexes that were left out.
    fn create_late_indexes(&self) -> String {
        table::create_indexes(self.tables().into_iter())
    }

    /// Shows the tables of this schema in the views for people.
    fn views(&self, schema: &str) -> String;

    /// Opens it. A file is created if need be; tables on a server are there.
    fn readers(&self, storage: &Storage) -> Result<Readers, OpenError>;

    /// What folds the log into it.
    fn projector(
        &self,
        store: Arc<dyn EventStore>,
        storage: &Storage,
        readers: &Readers,
    ) -> Result<Box<dyn Runner>, OpenError>;

    /// See [`replay::verify`].
    async fn verify(
        &self,
        store: &Arc<dyn EventStore>,
        storage: &Storage,
    ) -> Result<ModelReport, ReplayError>;

    /// See [`replay::rebuild`].
    async fn rebuild(
        &self,
        store: &Arc<dyn EventStore>,
        storage: &Storage,
    ) -> Result<ModelReport, ReplayError>;

    /// See [`replay::parked`].
    fn parked(&self, storage: &Storage) -> Result<ParkedReport, ReplayError>;

    /// See [`replay::retry_parked`]; none: nothing was parked.
    async fn retry_parked(
        &self,
        store: &Arc<dyn EventStore>,
        storage: &Storage,
    ) -> Result<Option<RetryReport>, ReplayError>;
}

/// A read model of this type.
pub(crate) struct Of<M>(PhantomData<fn() -> M>);

impl<M> Of<M> {
    pub(crate) const NEW: Self = Self(PhantomData);
}

#[async_trait]
impl<M: ReadModel> Registered for Of<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn schema_version(&self) -> i64 {
        M::SCHEMA_VERSION
    }

    fn tables(&self) -> Vec<&'static Table> {
        [&CHECKPOINT].into_iter().chain(database::tables::<M>()).collect()
    }

    fn views(&self, schema: &str) -> String {
        M::views(schema)
    }

    fn readers(&self, storage: &Storage) -> Result<Readers, OpenError> {
        match storage {
            Storage::Files(directory) => {
                let path = database::file::<M>(directory);
                drop(database::open_writer::<M>(&path, Access::Shared)?);
                Readers::of_file::<M>(path)
            }
            Storage::Postgres(postgres) => Ok(Readers::of_server::<M>(postgres)),
        }
    }

    fn projector(
        &self,
        store: Arc<dyn EventStore>,
        storage: &Storage,
        readers: &Readers,
    ) -> Result<Box<dyn Runner>, OpenError> {
        let writer = match storage {
            Storage::Files(directory) => {
                let path = database::file::<M>(directory);
                let connection = database::open_writer::<M>(&path, Access::Shared)?;
                database::upgrade::<M>(&connection).map_err(|source| OpenError::storage(M::NAME, source))?;
                Writer::Sqlite(connection)
            }
            Storage::Postgres(postgres) => {
                Writer::Postgres(postgres::Writer::new(postgres, &Self::NEW, Showing::Shown))
            }
        };
        let end = *store.head().borrow();
        let projector = Projector::<M>::new(store, writer, readers.position_sender())
            .map_err(|source| OpenError::storage(M::NAME, source))?;
        // It would wait for the log to come to where it stands, and show rows of another history until then.
        let live = projector.position();
        // The head of a log that is shared is known a moment later, and others may have projected more by now.
        if live > end && matches!(storage, Storage::Files(_)) {
            return Err(OpenError::AheadOfLog { model: M::NAME, live, end });
        }
        if live == 0 && end > 0 {
            tracing::warn!(
                model = M::NAME,
                end,
                "the read model is new or was lost: it is made from the log"
            );
        }
        Ok(Box::new(projector))
    }

    async fn verify(
        &self,
        store: &Arc<dyn EventStore>,
        storage: &Storage,
    ) -> Result<ModelReport, ReplayError> {
        replay::verify_model::<M>(store, storage).await
    }

    async fn rebuild(
        &self,
        store: &Arc<dyn EventStore>,
        storage: &Storage,
    ) -> Result<ModelReport, ReplayError> {
        replay::rebuild_model::<M>(store, storage).await
    }

    fn parked(&self, storage: &Storage) -> Result<ParkedReport, ReplayError> {
        replay::parked_of::<M>(storage)
    }

    async fn retry_parked(
        &self,
        store: &Arc<dyn EventStore>,
        storage: &Storage,
    ) -> Result<Option<RetryReport>, ReplayError> {
        replay::retry_model::<M>(store, storage).await
    }
}
