//! `POST /v1/contacts/import`

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use kite_commands::address_book::ContactPlaces;
use kite_domain::ids::{ContactId, GroupId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

use super::csv_rows::{self, Rows};
use super::places;
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::{ApiQuery, media_type_is, read_body};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::csv_file::ERRORS_LISTED_MAX;
use crate::routes::groups;
use crate::state::{ApiState, has_room};

/// How to import.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// The group that the contacts join.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub group: Option<String>,
    /// Import nothing if any row is wrong.
    pub strict: bool,
}

/// What an import came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportReport {
    /// Good rows.
    #[schema(example = 998)]
    pub imported: u32,
    /// Contacts written; fewer than rows if rows share an address.
    #[schema(example = 997)]
    pub contacts: u32,
    /// Rows that were not imported.
    #[schema(example = 2)]
    pub refused: u32,
    /// What is wrong with them: row (the header is 1), field, code and detail.
    pub errors: Vec<FieldError>,
    /// Rows with the address of an earlier row: the later one counts.
    pub merged: Vec<u32>,
}

/// Imports contacts from CSV.
///
/// The first row names the columns: `name`, `phone`, `email`, `tags` (separated by `;`); any other column is a custom
/// field. UTF-8 or CP949, as Korean Excel saves. Good rows are imported, bad ones are reported, unless `strict`.
#[utoipa::path(
    post, path = "/v1/contacts/import", tag = "contacts", operation_id = "import_contacts", params(ImportQuery),
    request_body(content = String, content_type = "text/csv", example = json!("name,phone,tags\n홍길동,010-1234-5678,vip\n")),
    responses((status = 200, description = "A report of all rows.", body = ImportReport))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(query): ApiQuery<ImportQuery>,
    request: Request<Body>,
) -> Answer<Written<ImportReport>> {
    if !media_type_is(request.headers(), "text/csv") {
        return Err(Problem::new(Code::UnsupportedMediaType, "The body must be text/csv."));
    }
    has_room(&*state.readiness, "No contacts are imported")?;
    let group = match &query.group {
        Some(id) => Some(groups::own_group(&state, &auth.tenant, id).await?.id),
        None => None,
    };
    let body = Arc::new(read_body(&state, request, state.config.import_body_bytes_max).await?);
    let work = {
        let (state, body) = (state.0.clone(), body.clone());
        async move {
            let mut rows = csv_rows::read(&body.bytes, || ContactId(state.write_side.journal.next_id()))?;
            let (places, without) = places::reserve(&state, &auth.tenant, &rows.contacts).await?;
            rows.refuse(&without, &places::no_place());
            rows.errors.truncate(ERRORS_LISTED_MAX);
            if rows.contacts.is_empty() || (query.strict && rows.refused > 0) {
                let detail = format!("{} rows were refused; nothing was imported.", rows.refused);
                return Err(Problem::new(Code::RowsRefused, detail).with_errors(rows.errors));
            }
            save(&state, &auth, group, rows, places).await
        }
    };
    state.by_size(&body, work).await
}

async fn save(
    state: &ApiState,
    auth: &TenantAuth,
    group: Option<GroupId>,
    rows: Rows,
    places: ContactPlaces,
) -> Answer<Written<ImportReport>> {
    let contacts = rows.contacts.len() as u32;
    let is_refusing = state.somebody_refuses(&auth.tenant, &rows.contacts).await?;
    let cause = state.cause(&auth.actor);
    let position =
        state.write_side.address_book.save_contacts(&cause, &auth.tenant, group, rows.contacts).await?;
    places.are_written(position);
    state.note_contact_write(&auth.tenant, position);
    if is_refusing {
        state.extend_refusals(&auth.tenant, position).await;
    }
    let report = ImportReport {
        imported: rows.good,
        contacts,
        refused: rows.refused,
        errors: rows.errors,
        merged: rows.merged,
    };
    Ok(Written::changed(position, report))
}
