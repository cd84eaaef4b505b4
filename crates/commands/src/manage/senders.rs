//! Sender identities: requested by tenants, answered by the operator.
//!
//! Decisions are made on the address with all tenants that have it, as folded in the directory, and on the number of
//! its events that are folded there. An event is appended right after exactly those, or the decision is made again.
//! So of two approvals of one address for two tenants at once, the later one knows of the earlier, in whatever
//! process each is made.

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::sender::{self, Approval, SenderAddress, SenderIdentity, SenderRefusal, SenderTerms};
use kite_domain::slug::{RelayId, TenantId};
use kite_event_store::{AppendError, Expected};
use std::sync::Arc;

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::directory::{Directory, DirectoryState};
use crate::journal::{Cause, Entry, Journal, JournalError};
use crate::tries::Tries;

/// The most requests of a tenant that may wait for the operator at once.
pub const WAITING_REQUESTS_MAX: usize = 1_000;

/// The most addresses that a tenant may ever have asked for. What was withdrawn counts: it is kept, with its history.
pub const ADDRESSES_MAX: usize = 10_000;

/// Why nothing was appended.
pub(crate) enum SenderError {
    Refused(SenderRefusal),
    Journal(JournalError),
}

impl From<JournalError> for SenderError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<SenderError> for ManageError {
    fn from(error: SenderError) -> Self {
        match error {
            SenderError::Refused(refusal) => ManageRefusal::Sender(refusal).into(),
            SenderError::Journal(error) => error.into(),
        }
    }
}

/// Decides on an address as the log has it, and appends; again on a conflict. Returns what the address is to the
/// tenant afterwards.
pub(crate) async fn change(
    journal: &Journal,
    directory: &Directory,
    (cause, tenant, address): (&Cause, &TenantId, &str),
    decide: impl Fn(&SenderAddress, DateTime<Utc>) -> Result<Option<Event>, SenderRefusal>,
) -> Result<Done<SenderIdentity>, SenderError> {
    let mut tries = Tries::of(journal);
    loop {
        directory.catch_up(journal).await?;
        let known = directory.snapshot().senders.address(address);
        let decided = decide(&known, journal.now()).map_err(SenderError::Refused)?;
        let Some(event) = decided else { return done(&directory.snapshot(), tenant, address, 0) };
        let entry = Entry {
            stream: sender::stream(address),
            expected: Expected::Version(known.version),
            tenant: Some(tenant.clone()),
            cause: cause.clone(),
            events: vec![event],
        };
        match journal.append_one(entry).await {
            Ok(appended) => {
                directory.catch_up(journal).await?;
                return done(&directory.snapshot(), tenant, address, appended.position);
            }
            // Others may be faster, and a log may show an event a moment after it was taken.
            Err(AppendError::Conflict { .. }) if tries.again().await => {}
            Err(error) => return Err(JournalError::from(error).into()),
        }
    }
}

/// The current state. Others may have changed it again already.
fn done(
    directory: &DirectoryState,
    tenant: &TenantId,
    address: &str,
    position: u64,
) -> Result<Done<SenderIdentity>, SenderError> {
    let identity = directory.senders.identity(tenant, address).cloned();
    let value = identity.ok_or(SenderError::Refused(SenderRefusal::NotFound))?;
    Ok(Done { value, position })
}

impl Manage {
    /// A tenant asks to send with an address. It may not before the operator has approved it.
    pub async fn request_sender(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        terms: SenderTerms,
    ) -> Result<Done<SenderIdentity>, ManageError> {
        let can_be_asked_for = |directory: &Arc<DirectoryState>| {
            relays_are_there(directory, &terms.relays)?;
            has_room_for(directory, tenant, &terms.address)
        };
        self.directory.judge(&self.journal, can_be_asked_for).await??;
        let address = terms.address.clone();
        self.change_sender(cause, tenant, &address, |known, _| Ok(known.request(tenant, terms.clone()))).await
    }

    /// The operator approves what a tenant has asked for, or renews it.
    pub async fn approve_sender(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
        approval: Approval,
    ) -> Result<Done<SenderIdentity>, ManageError> {
        self.directory.judge(&self.journal, |known| relays_are_there(known, &approval.relays)).await??;
        self.change_sender(cause, tenant, address, |known, now| known.approve(tenant, approval.clone(), now))
            .await
    }

    /// The operator refuses what a tenant has asked for.
    pub async fn refuse_sender(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
        reason: String,
        requested_at: Option<DateTime<Utc>>,
    ) -> Result<Done<SenderIdentity>, ManageError> {
        let decide = |known: &SenderAddress, now| known.refuse(tenant, reason.clone(), requested_at, now);
        self.change_sender(cause, tenant, address, decide).await
    }

    /// A sender may no longer send. Nothing happens if it could not.
    pub async fn withdraw_sender(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
        reason: Option<String>,
    ) -> Result<Done<SenderIdentity>, ManageError> {
        self.change_sender(cause, tenant, address, |known, _| known.withdraw(tenant, reason.clone())).await
    }

    async fn change_sender(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
        decide: impl Fn(&SenderAddress, DateTime<Utc>) -> Result<Option<Event>, SenderRefusal>,
    ) -> Result<Done<SenderIdentity>, ManageError> {
        Ok(change(&self.journal, &self.directory, (cause, tenant, address), decide).await?)
    }
}

fn relays_are_there(directory: &DirectoryState, relays: &[RelayId]) -> Result<(), ManageRefusal> {
    match relays.iter().find(|relay| directory.relays.get(relay).is_none()) {
        Some(relay) => Err(ManageRefusal::NoRelay(relay.clone())),
        None => Ok(()),
    }
}

/// A tenant may ask for another address.
fn has_room_for(directory: &DirectoryState, tenant: &TenantId, address: &str) -> Result<(), ManageRefusal> {
    let asked_for = kite_domain::address::identity(address);
    let senders = directory.senders.iter();
    let others = senders.filter(|(address, holder, _)| *holder == tenant && *address != asked_for);
    let (mut known, mut waiting) = (0, 0);
    for (_, _, identity) in others {
        known += 1;
        waiting += usize::from(identity.request.is_some());
    }
    if waiting >= WAITING_REQUESTS_MAX {
        return Err(ManageRefusal::TooManyRequests);
    }
    if known >= ADDRESSES_MAX {
        return Err(ManageRefusal::TooManyAddresses);
    }
    Ok(())
}
