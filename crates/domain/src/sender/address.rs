//! All sender identities, by address: which tenant has it, and which asks for it.

use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::identity::{SaidBy, SenderIdentity};
use super::stream;
use crate::address;
use crate::event::Event;
use crate::slug::TenantId;

/// What is known about a stored event besides its content.
#[derive(Debug, Clone)]
pub struct Envelope<'e> {
    /// The stream that it is in.
    pub stream: &'e str,
    /// Its place there, from 1.
    pub version: u64,
    /// By whom and when.
    pub by: SaidBy,
}

/// One address, with all tenants that have it or asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SenderAddress {
    /// How many events of its stream are folded here: a decision on this is appended right after them, or not at all.
    pub version: u64,
    pub(super) holders: BTreeMap<TenantId, SenderIdentity>,
}

impl SenderAddress {
    /// What it is to a tenant.
    pub fn of(&self, tenant: &TenantId) -> Option<&SenderIdentity> {
        self.holders.get(tenant)
    }

    /// Every tenant that has, had or asked for it.
    pub fn holders(&self) -> impl Iterator<Item = (&TenantId, &SenderIdentity)> {
        self.holders.iter()
    }
}

/// The tenant and address that an event is about; none: it is not about a sender.
pub fn about(event: &Event) -> Option<(&TenantId, &str)> {
    match event {
        Event::SenderRegistered(registered) => Some((&registered.tenant, &registered.address)),
        Event::SenderRequested(requested) => Some((&requested.tenant, &requested.terms.address)),
        Event::SenderApproved(approved) => Some((&approved.tenant, &approved.terms.address)),
        Event::SenderRefused(refused) => Some((&refused.tenant, &refused.address)),
        Event::SenderExpired(expired) => Some((&expired.tenant, &expired.address)),
        Event::SenderWithdrawn(withdrawn) => Some((&withdrawn.tenant, &withdrawn.address)),
        _ => None,
    }
}

/// All addresses. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Senders {
    addresses: BTreeMap<SmolStr, Arc<SenderAddress>>,
    approvals: u64,
}

impl Senders {
    /// Folds an event; those of other things leave it as it is. Returns whether it was about a sender.
    pub fn evolve(&mut self, event: &Event, envelope: Envelope<'_>) -> bool {
        let Some((tenant, address)) = about(event) else { return false };
        let known = self.addresses.entry(SmolStr::from(address::identity(address))).or_default();
        let known = Arc::make_mut(known);
        let identity = SenderIdentity::evolve(known.holders.remove(tenant), event, envelope.by);
        known.holders.extend(identity.map(|identity| (tenant.clone(), identity)));
        self.approvals += u64::from(matches!(event, Event::SenderApproved(_) | Event::SenderRegistered(_)));
        // What is in a stream of the time before is older than all of this one, and is not counted.
        if envelope.stream == stream(address) {
            known.version = known.version.max(envelope.version);
        }
        true
    }

    /// How often something was approved. When this number grows, messages that found no relay before may find one.
    pub fn approvals(&self) -> u64 {
        self.approvals
    }

    /// An address, in any spelling; one that nobody ever asked for is empty.
    pub fn address(&self, address: &str) -> Arc<SenderAddress> {
        self.addresses.get(&*address::identity(address)).cloned().unwrap_or_default()
    }

    /// What an address, in any spelling, is to a tenant.
    pub fn identity(&self, tenant: &TenantId, address: &str) -> Option<&SenderIdentity> {
        self.addresses.get(&*address::identity(address))?.of(tenant)
    }

    /// Every identity, by address and tenant.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TenantId, &SenderIdentity)> {
        self.addresses.iter().flat_map(of_address)
    }

    /// [`Senders::iter`] after one of them.
    pub fn iter_after<'s>(
        &'s self,
        after: Option<(&'s str, &'s str)>,
    ) -> impl Iterator<Item = (&'s str, &'s TenantId, &'s SenderIdentity)> {
        let from = after.map_or(Bound::Unbounded, |(address, _)| Bound::Included(address));
        let is_later = move |address: &str, tenant: &TenantId| {
            after.is_none_or(|after| (address, tenant.as_str()) > after)
        };
        self.addresses
            .range::<str, _>((from, Bound::Unbounded))
            .flat_map(of_address)
            .filter(move |(address, tenant, _)| is_later(address, tenant))
    }
}

fn of_address<'s>(
    (address, known): (&'s SmolStr, &'s Arc<SenderAddress>),
) -> impl Iterator<Item = (&'s str, &'s TenantId, &'s SenderIdentity)> {
    known.holders().map(move |(tenant, identity)| (address.as_str(), tenant, identity))
}
