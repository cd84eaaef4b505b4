//! The address book: contacts with their addresses, and groups of them.
//!
//! Contacts are written in sets, so that an import of ten thousand rows is ten events. A contact with the address
//! of another of the same tenant is the same contact: the read model merges them in the order of the log.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};
use std::collections::BTreeMap;

use crate::ids::{ContactId, GroupId};
use crate::slug::TenantId;

/// What is kept of one contact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactDetails {
    /// Which contact.
    pub contact: ContactId,
    /// Name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Canonical phone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<SmolStr>,
    /// Canonical e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<SmolStr>,
    /// Free words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<SmolStr>,
    /// Custom fields, which also fill `#{variables}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<SmolStr, String>,
}

/// The personal part of [`ContactsSaved`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactsPersonal {
    /// Each as it is from now on.
    pub contacts: Vec<ContactDetails>,
}

/// Contacts are new or changed: from now on they are as written here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactsSaved {
    /// Whose.
    pub tenant: TenantId,
    /// The group that they join by this, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// Who.
    pub personal: ContactsPersonal,
}

/// A contact is gone, from all its groups too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactDeleted {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub contact: ContactId,
}

/// A group is new or renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSaved {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub group: GroupId,
    /// Its name, one of a kind within the tenant.
    pub name: String,
}

/// A group is gone; its contacts are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDeleted {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub group: GroupId,
}

/// Contacts joined or left a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMembersChanged {
    /// Whose.
    pub tenant: TenantId,
    /// Which group.
    pub group: GroupId,
    /// Who joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<ContactId>,
    /// Who left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<ContactId>,
}

/// The stream for contacts that are written at this time: `contact-book-<tenant>-<year><month>`. Months keep streams
/// short; which month an event is in has no meaning.
pub fn stream(tenant: &TenantId, time: DateTime<Utc>) -> SmolStr {
    format_smolstr!("contact-book-{tenant}-{}", time.format("%Y%m"))
}
