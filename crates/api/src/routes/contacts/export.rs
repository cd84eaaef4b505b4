//! `GET /v1/contacts/export`

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use kite_domain::slug::TenantId;
use kite_projections::{Contact, ContactFilter, Cursor};
use smol_str::SmolStr;
use std::collections::BTreeSet;

use crate::auth::TenantAuth;
use crate::export::harmless;
use crate::problem::Answer;
use crate::routes::csv_file::BYTE_ORDER_MARK;
use crate::state::ApiState;

const PAGE: usize = 1_000;

/// Exports all contacts as CSV, in the form that the import takes.
///
/// UTF-8 with a byte order mark, so that spreadsheets read it. Custom fields are columns of their own. Values that a
/// spreadsheet would take for a formula are kept from it by a leading apostrophe.
#[utoipa::path(
    get, path = "/v1/contacts/export", tag = "contacts", operation_id = "export_contacts",
    responses((status = 200, description = "All contacts.", content_type = "text/csv", body = String))
)]
pub async fn handler(state: State<ApiState>, auth: TenantAuth, headers: HeaderMap) -> Answer<Response> {
    state.fresh_address_book(&headers).await?;
    let fields = field_names(&state, &auth.tenant).await?;
    let head = Export { state: state.0, tenant: auth.tenant, fields, place: Place::Begin };
    let pages = stream::try_unfold(head, |export| export.next());
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"contacts.csv\""),
    ];
    Ok((headers, Body::from_stream(pages)).into_response())
}

/// The names of all custom fields, for the header row.
async fn field_names(state: &ApiState, tenant: &TenantId) -> Answer<Vec<SmolStr>> {
    let mut names = BTreeSet::new();
    let mut after = None;
    loop {
        let page = contacts(state, tenant, after).await?;
        names.extend(page.items.into_iter().flat_map(|contact| contact.fields.into_keys()));
        after = page.next;
        if after.is_none() {
            return Ok(names.into_iter().collect());
        }
    }
}

async fn contacts(
    state: &ApiState,
    tenant: &TenantId,
    after: Option<Cursor>,
) -> Answer<kite_projections::Listing<Contact>> {
    let tenant = tenant.clone();
    state
        .query(move |models| {
            models.address_book.contacts(&tenant, &ContactFilter::default(), after.as_ref(), PAGE)
        })
        .await
}

enum Place {
    Begin,
    After(Cursor),
    End,
}

struct Export {
    state: ApiState,
    tenant: TenantId,
    fields: Vec<SmolStr>,
    place: Place,
}

impl Export {
    /// The next piece of the file.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        let mut bytes = Vec::new();
        let after = match std::mem::replace(&mut self.place, Place::End) {
            Place::Begin => {
                self.write_header(&mut bytes).map_err(std::io::Error::other)?;
                None
            }
            Place::After(cursor) => Some(cursor),
            Place::End => return Ok(None),
        };
        // The status line is out already: a break is all that can still tell of a failure.
        let page = contacts(&self.state, &self.tenant, after)
            .await
            .map_err(|_| std::io::Error::other("the export ended early"))?;
        self.write(&mut bytes, &page.items).map_err(std::io::Error::other)?;
        self.place = page.next.map_or(Place::End, Place::After);
        Ok(Some((bytes.into(), self)))
    }

    /// The byte order mark and the names of the columns.
    fn write_header(&self, bytes: &mut Vec<u8>) -> Result<(), csv::Error> {
        bytes.extend_from_slice(BYTE_ORDER_MARK);
        let mut writer = csv::Writer::from_writer(bytes);
        let names =
            ["name", "phone", "email", "tags"].into_iter().chain(self.fields.iter().map(SmolStr::as_str));
        writer.write_record(names.map(|cell| harmless(cell).into_owned()))?;
        writer.flush().map_err(Into::into)
    }

    fn write(&self, bytes: &mut Vec<u8>, contacts: &[Contact]) -> Result<(), csv::Error> {
        let mut writer = csv::Writer::from_writer(bytes);
        for contact in contacts {
            let tags = contact.tags.join(";");
            let fixed = [
                contact.name.as_str(),
                contact.phone.as_deref().unwrap_or_default(),
                contact.email.as_deref().unwrap_or_default(),
                tags.as_str(),
            ];
            let own = self.fields.iter().map(|name| contact.fields.get(name).map_or("", String::as_str));
            writer.write_record(fixed.into_iter().chain(own).map(|cell| harmless(cell).into_owned()))?;
        }
        writer.flush().map_err(Into::into)
    }
}
