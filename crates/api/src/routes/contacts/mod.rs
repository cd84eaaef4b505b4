//! Contacts: the people and addresses of a tenant's address book.

pub mod create;
pub(crate) mod csv_rows;
pub mod delete;
mod details;
pub mod export;
pub mod get;
pub mod import;
pub mod list;
mod places;
pub mod update;

use chrono::{DateTime, Utc};
use kite_domain::ids::ContactId;
use kite_projections::Contact;
use serde::Serialize;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use utoipa::ToSchema;

pub use details::ContactBody;
pub(crate) use details::check_length;

/// A contact.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContactView {
    /// Its id: 32 hexadecimal digits.
    #[schema(value_type = String, example = "0197c0de000070008000000000000001")]
    pub id: ContactId,
    /// Its name.
    #[schema(example = "홍길동")]
    pub name: String,
    /// Its phone number in canonical form.
    #[schema(value_type = Option<String>, example = "01012345678")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<SmolStr>,
    /// Its e-mail address in canonical form.
    #[schema(value_type = Option<String>, example = "hong@example.com")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<SmolStr>,
    /// Free words to find it by.
    #[schema(value_type = Vec<String>)]
    pub tags: Vec<SmolStr>,
    /// Custom fields; they fill `#{variables}` of their names.
    #[schema(value_type = BTreeMap<String, String>)]
    pub fields: BTreeMap<SmolStr, String>,
    /// The groups that it is in; only when one contact is asked for.
    #[schema(value_type = Vec<String>)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<kite_domain::ids::GroupId>,
    /// The person refuses advertisements, at one of these addresses or at another known address of theirs.
    pub opted_out: bool,
    /// The brands whose advertisements are refused; absent: those of all brands, if any are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused_brands: Vec<String>,
    /// Since when it is there.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<Contact> for ContactView {
    fn from(contact: Contact) -> Self {
        Self {
            id: contact.id,
            name: contact.name,
            phone: contact.phone,
            email: contact.email,
            tags: contact.tags,
            fields: contact.fields,
            groups: contact.groups,
            opted_out: contact.opted_out,
            refused_brands: contact.refused_brands,
            created_at: contact.created_at,
            updated_at: contact.updated_at,
        }
    }
}

/// The id of something that was just saved.
#[derive(Debug, Serialize, ToSchema)]
pub struct Saved {
    /// Its id: 32 hexadecimal digits.
    #[schema(example = "0197c0de000070008000000000000001")]
    pub id: String,
}
