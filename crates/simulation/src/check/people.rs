//! Who has refused advertisements, and since when everybody must know.

use chrono::{DateTime, Utc};
use kite_domain::slug::TenantId;
use kite_event_store::Position;
use std::collections::BTreeMap;

/// One refusal.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    position: Position,
    /// When whoever recorded it was told that it is recorded.
    told_at: Option<DateTime<Utc>>,
}

/// Refusals that stand.
#[derive(Debug, Default)]
pub(crate) struct People {
    refusals: BTreeMap<(TenantId, String), Refusal>,
}

impl People {
    pub(crate) fn refuses(&mut self, tenant: &TenantId, address: &str, position: Position) {
        self.refusals.insert((tenant.clone(), address.to_owned()), Refusal { position, told_at: None });
    }

    pub(crate) fn agrees(&mut self, tenant: &TenantId, address: &str) {
        self.refusals.remove(&(tenant.clone(), address.to_owned()));
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
            refusal.position <= began_at || refusal.told_at.is_some_and(|told_at| told_at < time)
        })
    }
}
