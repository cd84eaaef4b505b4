//! Who refuses advertisements.

use kite_domain::event::Event;
use kite_domain::opt_out::{self, OptOutPerson, OptOutRecorded, OptOutWithdrawn};
use kite_domain::slug::TenantId;

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::journal::Cause;

impl Manage {
    /// An address refuses the tenant's advertisements; nothing happens if it does already.
    pub async fn record_opt_out(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
        source: String,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), opt_out::stream(tenant, address), |events| {
            if matches!(events.last(), Some(Event::OptOutRecorded(_))) {
                return Ok((None, ()));
            }
            let personal = OptOutPerson { address: address.into() };
            Ok((Some(OptOutRecorded { tenant: tenant.clone(), source: source.clone(), personal }.into()), ()))
        })
        .await
    }

    /// The address agrees to advertisements again.
    pub async fn withdraw_opt_out(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), opt_out::stream(tenant, address), |events| {
            if !matches!(events.last(), Some(Event::OptOutRecorded(_))) {
                return Err(ManageRefusal::NoOptOut);
            }
            let personal = OptOutPerson { address: address.into() };
            Ok((Some(OptOutWithdrawn { tenant: tenant.clone(), personal }.into()), ()))
        })
        .await
    }
}
