//! What a read model keeps of the directory, so that no process reads the whole log for it.

use async_trait::async_trait;
use kite_domain::opt_out::Refusals;
use kite_domain::slug::TenantId;
use kite_event_store::Position;
use smol_str::SmolStr;

use crate::open_work::OpenWorkError;

/// Where the events in force are in the log ([`kite_domain::in_force`]), as of a position.
#[derive(Debug, Clone, Default)]
pub struct InForce {
    /// Everything up to here is in it.
    pub position: Position,
    /// Stream and version of each, in the order of the log.
    pub events: Vec<(SmolStr, u64)>,
}

/// What is kept of the refusals that concern some addresses, as of a position.
#[derive(Debug, Clone, Default)]
pub struct StoredRefusals {
    /// Everything up to here is in it.
    pub position: Position,
    /// What these addresses, and those of the same people, refused.
    pub refusals: Refusals,
    /// Streams that are not, or not completely, included: the read model could not store something of them.
    pub parked: Vec<SmolStr>,
}

/// See the module. Whatever it returns is completed from the log, so it may lag.
#[async_trait]
pub trait StoredDirectory: Send + Sync + 'static {
    /// The events in force; none: it does not know all of them.
    async fn in_force(&self) -> Result<Option<InForce>, OpenWorkError>;

    /// The versions of those of one stream, ascending; none: it does not know all of them.
    async fn in_force_of(&self, stream: SmolStr) -> Result<Option<Vec<u64>>, OpenWorkError>;

    /// What is refused that concerns these addresses of the tenant's recipients, given as their identities.
    async fn refusals(
        &self,
        tenant: TenantId,
        identities: Vec<SmolStr>,
    ) -> Result<StoredRefusals, OpenWorkError>;

    /// Up to here every answer about refusals will know the log.
    fn refusals_position(&self) -> Position;
}
