//! Tenants, and what they may have and do at once.

use kite_domain::event::Event;
use kite_domain::slug::TenantId;
use kite_domain::tenant::{self, TenantCreated, TenantLimits, TenantLimitsSet};

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::journal::Cause;

impl Manage {
    /// A new tenant.
    pub async fn create_tenant(
        &self,
        cause: &Cause,
        tenant: TenantId,
        name: String,
    ) -> Result<Done<()>, ManageError> {
        let stream = tenant::stream(&tenant);
        self.decide(cause, Some(&tenant), stream, |events| {
            if events.iter().any(|event| matches!(event, Event::TenantCreated(_))) {
                return Err(ManageRefusal::TenantExists(tenant.clone()));
            }
            Ok((Some(TenantCreated { tenant: tenant.clone(), name: name.clone() }.into()), ()))
        })
        .await
    }

    /// Sets all limits of a tenant; what is not named is as the configuration says.
    pub async fn set_tenant_limits(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        limits: TenantLimits,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), tenant::stream(tenant), |events| {
            if events.is_empty() {
                return Err(ManageRefusal::NoTenant(tenant.clone()));
            }
            let known = events.iter().rev().find_map(|event| match event {
                Event::TenantLimitsSet(set) => Some(set.limits),
                _ => None,
            });
            let is_news = known.unwrap_or_default() != limits;
            Ok((is_news.then(|| TenantLimitsSet { tenant: tenant.clone(), limits }.into()), ()))
        })
        .await
    }
}
