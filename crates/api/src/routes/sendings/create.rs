//! `POST /v1/sendings`
//!
//! The hot path. A short request is worked on where it arrives; a campaign's gives way to it. The body is hashed only
//! where an idempotency key needs it. Whether its request was accepted before is asked before anything else of it is
//! looked at: a group that is gone meanwhile does not stand in the way of that answer.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use kite_commands::accept::{Accepted, Earlier, Idempotency};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use utoipa::ToSchema;

use super::recipients::expand;
use super::{DuplicateRowView, RefusedRowView, SendingBody};
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::budget::HeldBody;
use crate::extract::{idempotency_key, media_type_is, read_body, read_loosely, refuse_inexact, refuse_zeros};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::{ApiState, has_room};

/// An accepted sending.
#[derive(Debug, Serialize, ToSchema)]
pub struct SendingAcceptedView {
    /// Its id: 32 hexadecimal digits.
    #[schema(example = "0197c0de000070008000000000000004")]
    pub id: String,
    /// How many messages; their ids are `<id>-0` and on, with gaps between thousands if lots end early.
    #[schema(example = 998)]
    pub accepted: u32,
    /// How many rows were refused.
    #[schema(example = 1)]
    pub refused_count: u32,
    /// The refused rows; not repeated when a request is repeated.
    pub refused: Vec<RefusedRowView>,
    /// Rows that were dropped because their address came before; not repeated when a request is repeated.
    pub duplicates: Vec<DuplicateRowView>,
    /// Not before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<DateTime<Utc>>,
    /// Where to look next.
    pub links: SendingLinks,
}

/// Where to look next.
#[derive(Debug, Serialize, ToSchema)]
pub struct SendingLinks {
    /// The sending.
    #[schema(example = "/v1/sendings/0197c0de000070008000000000000004")]
    pub sending: String,
    /// Its messages.
    #[schema(example = "/v1/sendings/0197c0de000070008000000000000004/messages")]
    pub messages: String,
}

/// Sends messages to one or many recipients.
///
/// Recipients are named one by one, by contact, or by group. A request that is answered with 202 is durable. Bad rows
/// are reported and do not affect good rows, unless `strict`. A request with an `Idempotency-Key` may be repeated for
/// ever: the same key and the same bytes give the same sending (`idempotent-replayed: true`).
#[utoipa::path(
    post, path = "/v1/sendings", tag = "sendings", operation_id = "create_sending",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]*$", description = "1 to 255 printable ASCII characters; names this request for ever")),
    request_body = SendingBody,
    responses((status = 202, description = "Accepted, and durable.", body = SendingAcceptedView))
)]
pub async fn handler(state: State<ApiState>, auth: TenantAuth, request: Request<Body>) -> Answer<Response> {
    let key = idempotency_key(request.headers())?;
    let held = Arc::new(sending_body(&state, request).await?);
    let work = create(state.0.clone(), auth, held.clone(), key);
    state.by_size(&held, work).await
}

async fn create(
    state: ApiState,
    auth: TenantAuth,
    held: Arc<HeldBody>,
    key: Option<String>,
) -> Answer<Response> {
    let body: SendingBody = read_loosely(&held.bytes)?;
    let cause = state.cause(&auth.actor);
    let key = match key {
        None => state.acceptance.without_key(&auth.tenant, body.class.into()).await?,
        Some(key) => {
            let body_hash = hex::encode(Sha256::digest(&held.bytes));
            let idempotency = Idempotency { key, body_hash };
            match state.acceptance.earlier(&cause, &auth.tenant, body.class.into(), idempotency).await? {
                Earlier::Accepted(accepted) => return Ok(respond(accepted)),
                Earlier::Nothing(key) => key,
            }
        }
    };
    has_room(&*state.readiness, "No new sendings are taken")?;
    refuse_zeros(&held.bytes)?;
    custom_is_object(&body)?;
    refuse_inexact(&held.bytes, "custom", body.custom.as_ref())?;
    let request = expand(&state, &auth.tenant, body).await?;
    let accepted = state.acceptance.accept(&cause, &auth.tenant, request, key).await?;
    Ok(respond(accepted))
}

/// What is given back must have the shape that the document gives it.
fn custom_is_object(body: &SendingBody) -> Answer<()> {
    match &body.custom {
        None => Ok(()),
        Some(custom) if custom.is_object() => Ok(()),
        Some(_) => {
            let error = FieldError::new("custom", "wrong_type", "it must be an object");
            Err(Problem::new(Code::InvalidBody, "`custom` must be an object.").at(error))
        }
    }
}

/// The body of a sending, of any size that is allowed.
pub(super) async fn sending_body(state: &ApiState, request: Request<Body>) -> Answer<HeldBody> {
    if !media_type_is(request.headers(), "application/json") {
        return Err(Problem::new(Code::UnsupportedMediaType, "The body must be application/json."));
    }
    read_body(state, request, state.config.sending_body_bytes_max).await
}

fn respond(accepted: Accepted) -> Response {
    let id = accepted.sending.to_string();
    let links = SendingLinks {
        sending: format!("/v1/sendings/{id}"),
        messages: format!("/v1/sendings/{id}/messages"),
    };
    let location = links.sending.clone();
    let view = SendingAcceptedView {
        id,
        accepted: accepted.messages,
        refused_count: accepted.refused_count,
        refused: accepted.refused.into_iter().map(Into::into).collect(),
        duplicates: accepted.duplicates.into_iter().map(Into::into).collect(),
        scheduled_at: accepted.scheduled_at,
        links,
    };
    let mut response = Written::accepted(accepted.position, location, view).into_response();
    if accepted.repeated {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}
