//! Leases: who does what of several processes, so that two do not do the same work.
//!
//! A lease is a hint. Two may hold one at the same time: a holder that stood still does not know yet that it has lost it.
//! So nothing is correct because of a lease; expected versions in the log are what decides (law 12).
//!
//! Times are told as spans from when the question was asked, never as moments, so that the clocks of holders and of
//! whoever keeps the leases need not agree.

pub mod contract;
mod holder;
mod in_process;

use async_trait::async_trait;
use chrono::TimeDelta;
use kite_event_store::SharedError;
use smol_str::SmolStr;

use crate::worker::Failure;
pub use holder::{Claim, LeaseHolder, Tenure};
pub use in_process::InProcessLeases;

/// How long a lease lasts without being renewed, where several processes share the work.
pub const TERM: TimeDelta = TimeDelta::seconds(6);

/// The leases cannot be asked. Whoever holds one holds it until its time is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Nobody knows whether the question has come in.
    #[error("the leases cannot be reached")]
    Unavailable(#[source] SharedError),
}

impl LeaseError {
    /// They cannot be reached, for this reason.
    pub fn unavailable(reason: impl Into<Failure>) -> Self {
        Self::Unavailable(SharedError::new(reason))
    }
}

/// A lease that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Grows whenever the lease is taken. Whoever finds the same one as before knows that nobody else had it in between.
    pub epoch: u64,
    /// How long it is held, from before it was asked for.
    pub lasts: TimeDelta,
}

/// What became of a wish for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// It is held.
    Granted(Granted),
    /// Somebody else holds it.
    Taken {
        /// Who.
        by: SmolStr,
        /// For how long, if it is not renewed, and until another may take it.
        ends_in: TimeDelta,
    },
}

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// It lasts for another term.
    Granted(Granted),
    /// It was taken by somebody else, or given back.
    Lost,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBy {
    /// Its name.
    pub lease: SmolStr,
    /// Who took it last, and has not given it back.
    pub holder: SmolStr,
    /// For how long, if it is not renewed; not above zero: its time is over.
    pub ends_in: TimeDelta,
}

/// Leases by name. A holder is the name of one life of a process: no other one ever had it.
///
/// What has been over for a day may be forgotten, its epoch with it.
#[async_trait]
pub trait Leases: Send + Sync + 'static {
    /// Takes a lease for a term: one that nobody holds, that was given back, or that has been over for `after`. Whoever has
    /// it gets it again, under its epoch.
    async fn acquire(&self, lease: &str, holder: &str, after: TimeDelta) -> Result<Acquired, LeaseError>;

    /// Holds it for another term from now, also if its time was over and nobody has taken it.
    async fn renew(&self, lease: &str, holder: &str, epoch: u64) -> Result<Renewed, LeaseError>;

    /// Gives it back, so that anybody may take it at once. Nothing happens if it is lost.
    async fn release(&self, lease: &str, holder: &str, epoch: u64) -> Result<(), LeaseError>;

    /// Who holds those whose names begin so, by name, also if their time is over. Nothing of those that were given back.
    async fn held(&self, prefix: &str) -> Result<Vec<HeldBy>, LeaseError>;
}
