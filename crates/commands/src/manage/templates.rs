//! Stored texts.

use kite_domain::event::Event;
use kite_domain::ids::TemplateId;
use kite_domain::slug::TenantId;
use kite_domain::template::{self, TemplateDeleted, TemplateSaved};

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::journal::Cause;

impl Manage {
    /// A template is new or changed.
    pub async fn save_template(&self, cause: &Cause, saved: TemplateSaved) -> Result<Done<()>, ManageError> {
        let stream = template::stream(&saved.tenant, saved.template);
        self.decide(cause, Some(&saved.tenant), stream, |_| Ok((Some(saved.clone().into()), ()))).await
    }

    /// A template is gone.
    pub async fn delete_template(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        template: TemplateId,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), template::stream(tenant, template), |events| match events.last() {
            Some(Event::TemplateSaved(_)) => {
                Ok((Some(TemplateDeleted { tenant: tenant.clone(), template }.into()), ()))
            }
            _ => Err(ManageRefusal::NoTemplate(template)),
        })
        .await
    }
}
