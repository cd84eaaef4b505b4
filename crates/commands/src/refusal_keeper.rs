//! The refusal keeper. A refusal is a person's, whichever address it came by. The address book's read model knows
//! which addresses belong to one person; the log says which addresses a refusal applies to. The keeper brings the one
//! into the other.
//!
//! The read model is its work list: it has every address to which a refusal should apply and for which the log does
//! not say so yet. So nothing is forgotten over a crash, two keepers do no harm, and refusals from before the keeper
//! existed are handled, too. A request that records a refusal or saves a contact does not wait for the keeper's next
//! look, but calls it at once ([`extend`]).

use async_trait::async_trait;
use std::sync::Arc;
use uuid::Uuid;

use crate::journal::Cause;
use crate::manage::{Manage, ManageError, Unextended};
use crate::open_work::OpenWorkError;
use crate::worker::{Step, Worker, WorkerError};

/// How many are taken at once.
const PORTION: usize = 1_000;

/// What the address book's read model knows of people who refused.
#[async_trait]
pub trait KnownPeople: Send + Sync + 'static {
    /// Addresses to which a refusal should apply and for which the log does not say so, as far as the read model has
    /// read it.
    async fn unextended(&self, limit: usize) -> Result<Vec<Unextended>, OpenWorkError>;
}

/// See the module.
pub struct RefusalKeeper {
    manage: Manage,
    people: Arc<dyn KnownPeople>,
}

impl RefusalKeeper {
    /// Writes what these people's refusals bind.
    pub fn new(manage: Manage, people: Arc<dyn KnownPeople>) -> Self {
        Self { manage, people }
    }
}

#[async_trait]
impl Worker for RefusalKeeper {
    fn name(&self) -> &str {
        "refusal-keeper"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let unextended = self.people.unextended(PORTION).await;
        let unextended = unextended.map_err(WorkerError::retry)?;
        match extend(&self.manage, unextended).await {
            // The read model learns of it in a moment; asked before, it would answer the same.
            Ok(0) => Ok(Step::Idle(None)),
            Ok(_) => Ok(Step::Worked),
            Err(ManageError::Journal(error)) => Err(error.into()),
            Err(ManageError::Refused(refusal)) => Err(WorkerError::retry(refusal)),
        }
    }
}

/// Writes into the log that these refusals apply to these addresses. Returns for how many refusals that is new; known
/// ones are left alone.
///
/// # Errors
/// See [`ManageError`]. What was not written comes with the keeper's next look.
pub async fn extend(manage: &Manage, unextended: Vec<Unextended>) -> Result<u32, ManageError> {
    if unextended.is_empty() {
        return Ok(0);
    }
    let cause = Cause::new("refusal-keeper", Uuid::nil());
    Ok(manage.extend_opt_outs(&cause, unextended).await?.value)
}
