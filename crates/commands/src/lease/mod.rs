//! Leases: which of several processes does what, so that two do not do the same work.
//!
//! A lease is a hint. Two processes may hold one at the same time: a holder that stood still does not know yet that
//! it has lost it. So nothing is correct because of a lease; the expected versions in the log decide (law 12).
//!
//! Times are given as durations from the request, never as moments, so that the clocks of holders and of the lease
//! store need not agree.

pub mod contract;
mod holder;
mod in_process;
mod postgres;

use async_trait::async_trait;
use chrono::TimeDelta;
use kite_event_store::SharedError;
use smol_str::SmolStr;

use crate::worker::Failure;
pub use holder::{Claim, LeaseHolder, Tenure};
pub use in_process::InProcessLeases;
pub use postgres::{PostgresLeases, SCHEMA as POSTGRES_SCHEMA};

/// How long a lease lasts without being renewed, if several processes share the work.
pub const TERM: TimeDelta = TimeDelta::seconds(6);

/// The lease store cannot be reached. A holder keeps its lease until its time is over.
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
    /// Grows whenever the lease is taken. If it is the same as before, nobody else had the lease in between.
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
    /// For how long, if it is not renewed; zero or less: its time is over.
    pub ends_in: TimeDelta,
}

/// Leases by name. A holder is the name of one life of a process: no other one ever had it.
///
/// What has been over for a day may be forgotten, its epoch with it.
#[async_trait]
pub trait Leases: Send + Sync + 'static {
    /// Takes a lease for a term: one that nobody holds, that was given back, or that expired at least `after` ago.
    /// Its own holder gets it again, under its epoch.
    async fn acquire(&self, lease: &str, holder: &str, after: TimeDelta) -> Result<Acquired, LeaseError>;

    /// Holds it for another term from now, even if its time was over and nobody has taken it.
    async fn renew(&self, lease: &str, holder: &str, epoch: u64) -> Result<Renewed, LeaseError>;

    /// Gives it back, so that anybody may take it at once. If it is lost already, nothing happens.
    async fn release(&self, lease: &str, holder: &str, epoch: u64) -> Result<(), LeaseError>;

    /// The holders of all leases whose names begin like this, by name, even if their time is over. Leases that were
    /// given back are left out.
    async fn held(&self, prefix: &str) -> Result<Vec<HeldBy>, LeaseError>;
}
