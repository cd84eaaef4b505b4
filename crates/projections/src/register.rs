//! What can be done with a read model of unknown type.

use async_trait::async_trait;
use kite_event_store::EventStore;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use crate::database::{self, Access};
use crate::error::OpenError;
use crate::projector::{Projector, Runner};
use crate::read_model::ReadModel;
use crate::readers::Readers;
use crate::replay::{self, ModelReport, ParkedReport, ReplayError, RetryReport};

/// A read model in the list ([`crate::ReadModels::each`]).
#[async_trait]
pub(crate) trait Registered: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Opens its file, and creates it if need be.
    fn readers(&self, data_dir: &Path) -> Result<Readers, OpenError>;

    /// What folds the log into its file.
    fn projector(
        &self,
        store: Arc<dyn EventStore>,
        data_dir: &Path,
        readers: &Readers,
    ) -> Result<Box<dyn Runner>, OpenError>;

    /// See [`replay::verify`].
    async fn verify(&self, store: &Arc<dyn EventStore>, data_dir: &Path) -> Result<ModelReport, ReplayError>;

    /// See [`replay::rebuild`].
    async fn rebuild(&self, store: &Arc<dyn EventStore>, data_dir: &Path)
    -> Result<ModelReport, ReplayError>;

    /// See [`replay::parked`].
    fn parked(&self, data_dir: &Path) -> Result<ParkedReport, ReplayError>;

    /// See [`replay::retry_parked`]; none: nothing was parked.
    async fn retry_parked(
        &self,
        store: &Arc<dyn EventStore>,
        data_dir: &Path,
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

    fn readers(&self, data_dir: &Path) -> Result<Readers, OpenError> {
        let path = database::file::<M>(data_dir);
        drop(database::open_writer::<M>(&path, Access::Shared)?);
        Readers::new::<M>(path)
    }

    fn projector(
        &self,
        store: Arc<dyn EventStore>,
        data_dir: &Path,
        readers: &Readers,
    ) -> Result<Box<dyn Runner>, OpenError> {
        let connection = database::open_writer::<M>(&database::file::<M>(data_dir), Access::Shared)?;
        database::upgrade::<M>(&connection).map_err(|source| OpenError::storage(M::NAME, source))?;
        let end = *store.head().borrow();
        let projector = Projector::<M>::new(store, connection, readers.position_sender())
            .map_err(|source| OpenError::storage(M::NAME, source))?;
        // It would wait for the log to come to where it stands, and show rows of another history until then.
        let live = projector.position();
        if live > end {
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

    async fn verify(&self, store: &Arc<dyn EventStore>, data_dir: &Path) -> Result<ModelReport, ReplayError> {
        replay::verify_model::<M>(store, data_dir).await
    }

    async fn rebuild(
        &self,
        store: &Arc<dyn EventStore>,
        data_dir: &Path,
    ) -> Result<ModelReport, ReplayError> {
        replay::rebuild_model::<M>(store, data_dir).await
    }

    fn parked(&self, data_dir: &Path) -> Result<ParkedReport, ReplayError> {
        replay::parked_of::<M>(data_dir)
    }

    async fn retry_parked(
        &self,
        store: &Arc<dyn EventStore>,
        data_dir: &Path,
    ) -> Result<Option<RetryReport>, ReplayError> {
        replay::retry_model::<M>(store, data_dir).await
    }
}
