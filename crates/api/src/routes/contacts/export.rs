//! `GET /v1/contacts/export`

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use futures::FutureExt;
use kite_domain::slug::TenantId;
use kite_projections::{Contact, ContactFilter};
use serde::Deserialize;
use smol_str::SmolStr;
use std::collections::BTreeSet;
use utoipa::IntoParams;

use super::ContactView;
use super::list::ContactsQuery;
use crate::answer::Page;
use crate::auth::TenantAuth;
use crate::export::{Column, FileFormat, FileWord, turn, write};
use crate::extract::{ApiQuery, Wanted};
use crate::problem::Answer;
use crate::state::ApiState;

/// In which form, and from where on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ContactExportQuery {
    /// The `next` of a page of `GET /v1/contacts` without a filter; none: from the first contact on.
    pub cursor: Option<String>,
    /// `csv` or `ndjson`; none: as the header `accept` says, or else `csv`.
    pub format: Option<FileWord>,
}

/// Exports all contacts, or those from the cursor on, as CSV in the form that the import takes, or with
/// `format=ndjson` as one JSON object per line.
///
/// UTF-8 with a byte order mark, so that spreadsheets can read it. Custom fields are columns of their own. Values
/// that a spreadsheet would take for a formula get a leading apostrophe. A file has at most 1,000,000 rows and takes
/// half an hour at most; a longer one is broken off: get the rest with a cursor behind its last contact.
#[utoipa::path(
    get, path = "/v1/contacts/export", tag = "contacts", operation_id = "export_contacts", params(ContactExportQuery),
    responses((status = 200, description = "All contacts.", content(
        (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(query): ApiQuery<ContactExportQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let format = FileFormat::of(query.format.map(Into::into), &headers).unwrap_or(FileFormat::Csv);
    let begin = Wanted::piece(query.cursor.as_deref())?;
    // The first reading, for the names of the columns, is work for the file as well.
    let turn = turn(&state, Some(&auth.tenant))?;
    let fields = match format {
        FileFormat::Csv => field_names(&state, &auth.tenant, begin).await?,
        FileFormat::Ndjson => BTreeSet::new(),
    };
    let (source, tenant) = (state.0, auth.tenant);
    let pages = Box::new(move |cursor: Option<String>| {
        let (state, tenant) = (source.clone(), tenant.clone());
        async move {
            let contacts = contacts(&state, &tenant, Wanted::piece(cursor.as_deref())?).await?;
            Ok(contacts.map(Into::into))
        }
        .boxed()
    });
    write::<ContactView>(turn, "contacts", columns(fields), format, query.cursor, pages).await
}

/// The names of all custom fields in the file, for the header row.
async fn field_names(
    state: &ApiState,
    tenant: &TenantId,
    mut piece: Wanted<ContactsQuery>,
) -> Answer<BTreeSet<SmolStr>> {
    let mut names = BTreeSet::new();
    loop {
        let Page { items, next } = contacts(state, tenant, piece).await?;
        names.extend(items.into_iter().flat_map(|contact| contact.fields.into_keys()));
        if next.is_none() {
            return Ok(names);
        }
        piece = Wanted::piece(next.as_deref())?;
    }
}

async fn contacts(
    state: &ApiState,
    tenant: &TenantId,
    piece: Wanted<ContactsQuery>,
) -> Answer<Page<Contact>> {
    let tenant = tenant.clone();
    let everybody = ContactFilter::default();
    piece
        .read(state, move |models, after, limit| {
            models.address_book.contacts(&tenant, &everybody, after, limit)
        })
        .await
}

/// As the import takes them.
fn columns(fields: BTreeSet<SmolStr>) -> Vec<Column<ContactView>> {
    let mut columns = vec![
        Column::new("name", |contact: &ContactView| contact.name.clone()),
        Column::new("phone", |contact: &ContactView| contact.phone.as_deref().unwrap_or_default().to_owned()),
        Column::new("email", |contact: &ContactView| contact.email.as_deref().unwrap_or_default().to_owned()),
        Column::new("tags", |contact: &ContactView| contact.tags.join(";")),
    ];
    columns.extend(fields.into_iter().map(|name| {
        Column::new(name.to_string(), move |contact: &ContactView| {
            contact.fields.get(&name).cloned().unwrap_or_default()
        })
    }));
    columns
}
