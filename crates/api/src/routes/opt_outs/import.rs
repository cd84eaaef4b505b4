//! `POST /v1/opt-outs/import`

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use kite_commands::directory::DirectoryState;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

use super::details::Checks;
use super::import_rows::{self, Rows};
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::{ApiQuery, media_type_is, read_body};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::csv_file::ERRORS_LISTED_MAX;
use crate::state::{ApiState, has_room};

/// How to import.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OptOutImportQuery {
    /// Import nothing if any row is wrong.
    pub strict: bool,
}

/// What an import of refusals came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct OptOutImportReport {
    /// Refusals that are new.
    #[schema(example = 990)]
    pub recorded: u32,
    /// Good rows that were known before, or are in the file twice.
    #[schema(example = 8)]
    pub known: u32,
    /// Rows that were not taken.
    #[schema(example = 2)]
    pub refused: u32,
    /// What is wrong with them: row (the header is 1), field, code and detail.
    pub errors: Vec<FieldError>,
}

/// Imports refusals from CSV.
///
/// The first row names the columns: `address`, and optionally `brand`, `source` and `refused_at` (RFC 3339, or a date
/// in Seoul). UTF-8 or CP949, as Korean Excel saves. Good rows are recorded, bad ones are reported, unless `strict`.
/// Importing the same file again does no harm.
#[utoipa::path(
    post, path = "/v1/opt-outs/import", tag = "opt-outs", operation_id = "import_opt_outs",
    params(OptOutImportQuery),
    request_body(content = String, content_type = "text/csv", example = json!("address,brand,source,refused_at\n010-1234-5678,,080,2026-03-02\n")),
    responses((status = 200, description = "A report of all rows.", body = OptOutImportReport))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(query): ApiQuery<OptOutImportQuery>,
    request: Request<Body>,
) -> Answer<Written<OptOutImportReport>> {
    if !media_type_is(request.headers(), "text/csv") {
        return Err(Problem::new(Code::UnsupportedMediaType, "The body must be text/csv."));
    }
    has_room(&*state.readiness, "No refusals are imported")?;
    let body = Arc::new(read_body(&state, request, state.config.import_body_bytes_max).await?);
    let work = {
        let (state, body) = (state.0.clone(), body.clone());
        async move {
            let read = |directory: &Arc<DirectoryState>| {
                let mut checks = Checks::new(&auth.tenant, directory, state.write_side.journal.now());
                let rows = import_rows::read(&body.bytes, &mut checks);
                // A row that is refused is judged like a request.
                if rows.as_ref().is_ok_and(|rows| rows.refused == 0) { Ok(rows) } else { Err(rows) }
            };
            let judged = state.write_side.directory.judge(&state.write_side.journal, read).await?;
            let rows = judged.unwrap_or_else(|refused| refused)?;
            if rows.good.is_empty() || (query.strict && rows.refused > 0) {
                let detail = format!("{} rows were refused; nothing was imported.", rows.refused);
                let errors = rows.errors.into_iter().take(ERRORS_LISTED_MAX).collect();
                return Err(Problem::new(Code::RowsRefused, detail).with_errors(errors));
            }
            record(&state, &auth, rows).await
        }
    };
    state.by_size(&body, work).await
}

async fn record(state: &ApiState, auth: &TenantAuth, rows: Rows) -> Answer<Written<OptOutImportReport>> {
    let good = u32::try_from(rows.good.len()).unwrap_or(u32::MAX);
    let cause = state.cause(&auth.actor);
    let done = state.write_side.manage.record_opt_outs(&cause, &auth.tenant, rows.good).await?;
    state.extend_refusals(&auth.tenant, done.position).await;
    let mut errors = rows.errors;
    errors.truncate(ERRORS_LISTED_MAX);
    let report =
        OptOutImportReport { recorded: done.value, known: good - done.value, refused: rows.refused, errors };
    Ok(Written::changed(done.position, report))
}
