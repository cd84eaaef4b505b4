//! Sender identities.

use kite_domain::event::Event;
use kite_domain::sender::{self, SenderRegistered, SenderWithdrawn};
use kite_domain::slug::TenantId;

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::journal::Cause;

impl Manage {
    /// A sender may send through these relays from now on.
    pub async fn register_sender(
        &self,
        cause: &Cause,
        registered: SenderRegistered,
    ) -> Result<Done<()>, ManageError> {
        let directory = self.directory.snapshot();
        if let Some(relay) = registered.relays.iter().find(|relay| directory.relays.get(relay).is_none()) {
            return Err(ManageRefusal::NoRelay(relay.clone()).into());
        }
        let stream = sender::stream(&registered.tenant, &registered.address);
        self.decide(cause, Some(&registered.tenant), stream, |_| Ok((Some(registered.clone().into()), ())))
            .await
    }

    /// A sender may no longer send.
    pub async fn withdraw_sender(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), sender::stream(tenant, address), |events| {
            match events.last() {
                Some(Event::SenderRegistered(_)) => {}
                _ => return Err(ManageRefusal::NoSender(address.into())),
            }
            Ok((Some(SenderWithdrawn { tenant: tenant.clone(), address: address.into() }.into()), ()))
        })
        .await
    }
}
