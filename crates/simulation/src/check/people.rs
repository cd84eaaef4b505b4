//! Who has refused advertisements, and since when everybody must know.

use chrono::{DateTime, Utc};
use kite_domain::slug::TenantId;
use kite_event_store::Position;
use std::collections::BTreeMap;

use super::noted::NOTICE;

/// One refusal.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    position: Position,
    /// When whoever recorded it was told that it is recorded.
    told_at: Option<DateTime<Utc>>,
    /// When it was taken back.
    withdrawn_at: Option<DateTime<Utc>>,
}

/// Everybody who ever refused.
#[derive(Debug, Default)]
pub(crate) struct People {
    refusals: BTreeMap<(TenantId, String), Refusal>,
}

impl People {
    pub(crate) fn refuses(&mut self, tenant: &TenantId, address: &str, position: Position) {
        let refusal = Refusal { position, told_at: None, withdrawn_at: None };
        self.refusals.insert((tenant.clone(), address.to_owned()), refusal);
    }

    pub(crate) fn agrees(&mut self, tenant: &TenantId, address: &str, at: DateTime<Utc>) {
        if let Some(refusal) = self.refusals.get_mut(&(tenant.clone(), address.to_owned())) {
            refusal.withdrawn_at = Some(at);
        }
    }

    /// The request that recorded it was answered.
    pub(crate) fn told(&mut self, tenant: &TenantId, address: &str, now: DateTime<Utc>) {
        if let Some(refusal) = self.refusals.get_mut(&(tenant.clone(), address.to_owned())) {
            refusal.told_at.get_or_insert(now);
        }
    }

    /// Whether somebody who decides at `time` in a process that began at `began_at` must know of a refusal.
    pub(crate) fn is_known(
        &self,
        tenant: &TenantId,
        address: &str,
        time: DateTime<Utc>,
        began_at: Position,
    ) -> bool {
        self.refusals.get(&(tenant.clone(), address.to_owned())).is_some_and(|refusal| {
            refusal.withdrawn_at.is_none()
                && (refusal.position <= began_at || refusal.told_at.is_some_and(|told_at| told_at < time))
        })
    }

    /// Whether somebody who decides at `time` may believe that there is a refusal.
    pub(crate) fn may_refuse(&self, tenant: &TenantId, address: &str, time: DateTime<Utc>) -> bool {
        let refusal = self.refusals.get(&(tenant.clone(), address.to_owned()));
        refusal.is_some_and(|refusal| refusal.withdrawn_at.is_none_or(|at| at + NOTICE >= time))
    }

    /// Whether the address ever was that of somebody who refused.
    pub(crate) fn ever_refused(&self, tenant: &TenantId, address: &str) -> bool {
        self.refusals.contains_key(&(tenant.clone(), address.to_owned()))
    }
}
