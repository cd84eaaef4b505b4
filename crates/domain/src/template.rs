//! A stored message template: a text with `#{variables}` that sendings refer to by id.

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use crate::ids::TemplateId;
use crate::slug::TenantId;

/// A template is new or changed. A sending keeps the text that it was accepted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSaved {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub template: TemplateId,
    /// For people.
    pub name: String,
    /// For lms and e-mail.
    pub subject: Option<String>,
    /// With `#{variables}`.
    pub text: String,
}

/// A template is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateDeleted {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub template: TemplateId,
}

/// The stream of a template: `template-<tenant>-<id>`.
pub fn stream(tenant: &TenantId, template: TemplateId) -> SmolStr {
    format_smolstr!("template-{tenant}-{template}")
}
