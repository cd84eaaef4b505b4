//! What the read model knows, as its queries answer.

use chrono::{DateTime, Utc};
use kite_domain::ids::{ContactId, GroupId, TemplateId};
use kite_domain::slug::TenantId;
use serde::Serialize;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// A contact.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contact {
    /// Which one.
    pub id: ContactId,
    /// Name; may be empty.
    pub name: String,
    /// Canonical number.
    pub phone: Option<SmolStr>,
    /// Canonical address.
    pub email: Option<SmolStr>,
    /// In order.
    pub tags: Vec<SmolStr>,
    /// Custom fields.
    pub fields: BTreeMap<SmolStr, String>,
    /// When it was first saved.
    pub created_at: DateTime<Utc>,
    /// When it was last saved.
    pub updated_at: DateTime<Utc>,
    /// The groups that it is in; empty in lists.
    pub groups: Vec<GroupId>,
    /// Whoever it is has refused advertisements, by whichever address.
    pub opted_out: bool,
    /// The brands whose advertisements are refused, in order; empty: all of them, where any are.
    pub refused_brands: Vec<String>,
}

/// A group of contacts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Which one.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// How many contacts.
    pub members: u64,
    /// When it was first saved.
    pub created_at: DateTime<Utc>,
}

/// A refusal of advertisements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OptOut {
    /// The number or address, as it was recorded.
    pub address: SmolStr,
    /// Of which brand; none: of all.
    pub brand: Option<String>,
    /// How the refusal came.
    pub source: String,
    /// When it was recorded.
    pub since: DateTime<Utc>,
    /// When it came.
    pub refused_at: DateTime<Utc>,
}

/// An address that a refusal should bind, and the log does not say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bond {
    /// Whose advertisements are refused.
    pub tenant: TenantId,
    /// The identity of the address that refused.
    pub address: SmolStr,
    /// The identity of another address of the same person.
    pub other: SmolStr,
}

/// A message template.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Template {
    /// Which one.
    pub id: TemplateId,
    /// For people.
    pub name: String,
    /// For lms and e-mail.
    pub subject: Option<String>,
    /// With `#{variables}`.
    pub text: String,
    /// When it was last saved.
    pub updated_at: DateTime<Utc>,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
}
