//! Who refuses advertisements.
//!
//! Decisions are based on what was folded of every spelling of an address in the order of the log, also from streams
//! of an earlier version ([`crate::directory::Directory::refusals_of`]). The stream of the address only keeps two
//! writers from conflicting.

use chrono::{DateTime, Utc};
use kite_domain::address::identity;
use kite_domain::event::Event;
use kite_domain::opt_out::{
    self, ExtendedPerson, OptOutExtended, OptOutPerson, OptOutRecorded, OptOutWithdrawn, Refusals,
    brand_identity,
};
use kite_domain::slug::TenantId;
use kite_event_store::{AppendError, BatchMode, Expected, Position};
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashSet};

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::journal::{Cause, Entry, JournalError};
use crate::tries::Tries;

/// How many are written at once.
const ENTRIES_PER_BATCH: usize = 500;

/// An address that a refusal should bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unextended {
    /// Whose advertisements are refused.
    pub tenant: TenantId,
    /// The address that refused.
    pub address: SmolStr,
    /// Another one of the same person.
    pub other: SmolStr,
}

/// A refusal as it is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOptOut {
    /// The number or address, checked.
    pub address: SmolStr,
    /// Of which brand; none: of all.
    pub brand: Option<String>,
    /// How it came.
    pub source: String,
    /// When it came; none: now.
    pub refused_at: Option<DateTime<Utc>>,
}

impl NewOptOut {
    /// A refusal of everything that comes now.
    pub fn of(address: impl Into<SmolStr>, source: impl Into<String>) -> Self {
        Self { address: address.into(), brand: None, source: source.into(), refused_at: None }
    }

    fn is_known(&self, refusals: &Refusals) -> bool {
        refusals.has(&self.address, self.brand.as_deref())
    }

    fn into_event(self, tenant: &TenantId) -> Event {
        OptOutRecorded {
            tenant: tenant.clone(),
            brand: self.brand,
            source: self.source,
            refused_at: self.refused_at,
            personal: OptOutPerson { address: self.address },
        }
        .into()
    }
}

impl Manage {
    /// An address refuses the tenant's advertisements; nothing happens if it does already. Returns whether it is new.
    pub async fn record_opt_out(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        refusal: NewOptOut,
    ) -> Result<Done<bool>, ManageError> {
        let address = refusal.address.clone();
        self.decide_refusal(cause, tenant, &address, |refusals| {
            Ok((!refusal.is_known(refusals)).then(|| refusal.clone().into_event(tenant)))
        })
        .await
    }

    /// Many at once; those that are known already are left out. Returns how many are new. If it fails half-way, some are
    /// recorded: to do it again does no harm.
    pub async fn record_opt_outs(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        refusals: Vec<NewOptOut>,
    ) -> Result<Done<u32>, ManageError> {
        self.directory.catch_up(&self.journal).await?;
        let addresses: Vec<SmolStr> = refusals.iter().map(|refusal| refusal.address.clone()).collect();
        let mut seen = HashSet::new();
        let mut is_new = |known: &Refusals, refusal: &NewOptOut| {
            let brand = refusal.brand.as_deref().map(brand_identity);
            !refusal.is_known(known) && seen.insert((identity(&refusal.address).into_owned(), brand))
        };
        let fresh = self.known_refusals(tenant, &addresses, |known| {
            refusals.into_iter().filter(|refusal| is_new(known, refusal)).collect::<Vec<_>>()
        });
        let fresh = fresh.await?;
        let count = u32::try_from(fresh.len()).unwrap_or(u32::MAX);
        // A refusal that two record at once is one refusal: nothing has to be kept from anything.
        let entries = fresh.into_iter().map(|refusal| Entry {
            stream: opt_out::stream(tenant, &refusal.address),
            expected: Expected::Any,
            tenant: Some(tenant.clone()),
            cause: cause.clone(),
            events: vec![refusal.into_event(tenant)],
        });
        let position = self.append_in_batches(entries.collect()).await?;
        Ok(Done { value: count, position })
    }

    /// The address agrees to advertisements again: to those of this brand, or to whatever it refused.
    pub async fn withdraw_opt_out(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
        brand: Option<&str>,
    ) -> Result<Done<bool>, ManageError> {
        self.decide_refusal(cause, tenant, address, |refusals| {
            let is_known = match brand {
                None => refusals.has_any(address),
                Some(_) => refusals.has(address, brand),
            };
            if !is_known {
                return Err(ManageRefusal::NoOptOut);
            }
            let personal = OptOutPerson { address: address.into() };
            let brand = brand.map(str::to_owned);
            Ok(Some(OptOutWithdrawn { tenant: tenant.clone(), brand, personal }.into()))
        })
        .await
    }

    /// The refusals of these addresses also apply to others of the same person. What is known is left out, and so are
    /// addresses that no longer refuse. Returns for how many addresses that is new.
    pub async fn extend_opt_outs(
        &self,
        cause: &Cause,
        unextended: Vec<Unextended>,
    ) -> Result<Done<u32>, ManageError> {
        self.directory.catch_up(&self.journal).await?;
        let mut of_tenants: BTreeMap<TenantId, Vec<(SmolStr, SmolStr)>> = BTreeMap::new();
        for Unextended { tenant, address, other } in unextended {
            of_tenants.entry(tenant).or_default().push((address, other));
        }
        let mut fresh: BTreeMap<(TenantId, SmolStr), Vec<SmolStr>> = BTreeMap::new();
        for (tenant, bonds) in of_tenants {
            let addresses: Vec<SmolStr> = bonds.iter().map(|(address, _)| address.clone()).collect();
            let new = self.known_refusals(&tenant, &addresses, |known| {
                let is_new = |(address, other): &(SmolStr, SmolStr)| {
                    known.has_any(address) && !known.is_extended(address, other)
                };
                bonds.into_iter().filter(is_new).collect::<Vec<_>>()
            });
            for (address, other) in new.await? {
                fresh.entry((tenant.clone(), address)).or_default().push(other);
            }
        }
        let count = u32::try_from(fresh.len()).unwrap_or(u32::MAX);
        // Said twice it is as if it was said once, and after a withdrawal it means nothing.
        let entries = fresh.into_iter().map(|((tenant, address), also)| Entry {
            stream: opt_out::stream(&tenant, &address),
            expected: Expected::Any,
            tenant: Some(tenant.clone()),
            cause: cause.clone(),
            events: vec![OptOutExtended { tenant, personal: ExtendedPerson { address, also } }.into()],
        });
        let position = self.append_in_batches(entries.collect()).await?;
        Ok(Done { value: count, position })
    }

    /// Appends entries that are as good alone, and reads the directory on. Returns where the last of them is.
    async fn append_in_batches(&self, entries: Vec<Entry>) -> Result<Position, ManageError> {
        let mut position = None;
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let batch = entries.by_ref().take(ENTRIES_PER_BATCH).collect();
            for appended in self.journal.append(BatchMode::Independent, batch).await {
                position = position.max(Some(appended?.position));
            }
        }
        // What is already the case is in the log by then.
        let known = self.directory.read_until(&self.journal).await?;
        Ok(position.unwrap_or(known))
    }

    /// Decides on the refusals of an address, appends with the version of its stream; again on a conflict. Returns
    /// whether anything was appended.
    async fn decide_refusal(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
        decide: impl Fn(&Refusals) -> Result<Option<Event>, ManageRefusal>,
    ) -> Result<Done<bool>, ManageError> {
        let stream = opt_out::stream(tenant, address);
        let mut tries = Tries::of(&self.journal);
        loop {
            let version = self.journal.count(&stream).await?;
            // After the version: whatever it counts is known.
            let known = self.directory.read_until(&self.journal).await?;
            let address = [SmolStr::new(address)];
            let Some(event) = self.known_refusals(tenant, &address, &decide).await?? else {
                return Ok(Done { value: false, position: known });
            };
            let entry = Entry {
                stream: stream.clone(),
                expected: Expected::Version(version),
                tenant: Some(tenant.clone()),
                cause: cause.clone(),
                events: vec![event],
            };
            match self.journal.append_one(entry).await {
                Ok(appended) => {
                    self.directory.catch_up(&self.journal).await?;
                    return Ok(Done { value: true, position: appended.position });
                }
                Err(AppendError::Conflict { .. }) if tries.again().await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Looks something up in what these addresses refuse.
    async fn known_refusals<T>(
        &self,
        tenant: &TenantId,
        addresses: &[SmolStr],
        look: impl FnOnce(&Refusals) -> T,
    ) -> Result<T, JournalError> {
        let addresses = addresses.iter().map(SmolStr::as_str);
        self.directory.look_at_refusals(&self.journal, tenant, addresses, look).await
    }
}
