//! Shows the content of what was accepted, which no read model stores.

use kite_domain::ids::MessageId;
use kite_domain::lot::{Said, said};
use kite_domain::slug::TenantId;
use kite_domain::text::MessageType;

use super::Acceptance;
use crate::lots::LotsError;

impl Acceptance {
    /// What a message of this tenant says on a channel; none if there is no such message.
    pub async fn said(
        &self,
        tenant: &TenantId,
        id: MessageId,
        channel: MessageType,
    ) -> Result<Option<Said>, LotsError> {
        let looked = self.lots.read(id.lot(), |lot, sending| {
            let recipient = lot.recipient(id.seq).filter(|_| &lot.tenant == tenant)?;
            said(&sending.terms, recipient, channel)
        });
        match looked.await {
            Err(LotsError::NotFound(_)) => Ok(None),
            looked => looked,
        }
    }
}
