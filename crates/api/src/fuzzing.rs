//! The readers of outside input, for the fuzz targets (crate `kite-fuzz-targets`) and nobody else: no other caller
//! needs anything in here.

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use kite_commands::accept::{AcceptLimits, SendRequest};
use kite_domain::contact::ContactDetails;
use kite_domain::ids::ContactId;
use kite_domain::not_understood::Misread;
use kite_domain::receipt::RawReceipt;

use crate::extract::{idempotency_key, read_json};
use crate::problem::{Answer, FieldError};
use crate::routes::contacts::csv_rows;
use crate::routes::receipts::{read, verify};
use crate::routes::sendings::SendingBody;

/// The body of a sending, of a tenant without an address book.
pub fn sending(body: &[u8], limits: &AcceptLimits) -> Answer<SendRequest> {
    read_json::<SendingBody>(body).map(|body| body.without_book(limits))
}

/// The key of a request that may be repeated.
pub fn idempotency(headers: &HeaderMap) -> Answer<Option<String>> {
    idempotency_key(headers)
}

/// The id of a pushed call, if it is genuine.
pub fn genuine_call(secret: &str, headers: &HeaderMap, body: &[u8], now: DateTime<Utc>) -> Answer<String> {
    verify::open(Some(secret), headers, now)?.verify(body)
}

/// The receipts of a pushed call, and the part of it that could not be read.
pub fn pushed_receipts(body: &[u8]) -> Answer<(Vec<RawReceipt>, Vec<Misread>)> {
    read::read(body).map(|understood| (understood.receipts, understood.misread))
}

/// A file of contacts, as the import reads it.
#[derive(Debug)]
pub struct ContactRows {
    /// One a contact.
    pub contacts: Vec<ContactDetails>,
    /// Good rows.
    pub good: u32,
    /// Good rows with the address of an earlier one.
    pub merged: Vec<u32>,
    /// Bad rows.
    pub refused: u32,
    /// What is wrong with them.
    pub errors: Vec<FieldError>,
}

/// A file of contacts.
pub fn contact_rows(bytes: &[u8], next_id: impl FnMut() -> ContactId) -> Answer<ContactRows> {
    let rows = csv_rows::read(bytes, next_id)?;
    let csv_rows::Rows { rows_of: _, contacts, good, merged, errors, refused } = rows;
    Ok(ContactRows { contacts, good, merged, refused, errors })
}
