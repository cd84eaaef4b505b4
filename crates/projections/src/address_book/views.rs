//! What the queries answer with.

use chrono::{DateTime, Utc};
use kite_domain::ids::{ContactId, GroupId, TemplateId};
use kite_domain::sender::SenderKind;
use kite_domain::slug::{RelayId, TenantId};
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
    /// Its number or its address has refused advertisements.
    pub opted_out: bool,
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

/// A sender identity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sender {
    /// The canonical number or address.
    pub address: SmolStr,
    /// Which of the two.
    pub kind: SenderKind,
    /// The name that an advertisement must carry.
    pub brand: Option<String>,
    /// The free number for refusing advertisements.
    pub refusal_number: Option<SmolStr>,
    /// The relays that it is registered with.
    pub relays: Vec<RelayId>,
    /// When it was last registered.
    pub registered_at: DateTime<Utc>,
}

/// A refusal of advertisements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OptOut {
    /// The canonical number or address.
    pub address: SmolStr,
    /// How the refusal came.
    pub source: String,
    /// Since when.
    pub since: DateTime<Utc>,
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
