//! `POST /v1/opt-outs`

use axum::extract::State;
use chrono::{DateTime, Utc};
use kite_commands::directory::DirectoryState;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

use super::details::Checks;
use crate::answer::{Written, segment};
use crate::auth::TenantAuth;
use crate::extract::ApiJson;
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;

/// A refusal as a caller records it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OptOutBody {
    /// A phone number or an e-mail address.
    #[schema(example = "010-1234-5678")]
    pub address: String,
    /// The brand whose advertisements are refused, as one of the senders has it; none: those of all brands.
    #[serde(default)]
    #[schema(max_length = 100)]
    pub brand: Option<String>,
    /// How the refusal came, in the caller's words.
    #[serde(default)]
    #[schema(example = "080", max_length = 100)]
    pub source: String,
    /// When the refusal came; none: now.
    #[serde(default)]
    pub refused_at: Option<DateTime<Utc>>,
}

/// An address that refuses from now on.
#[derive(Debug, Serialize, ToSchema)]
pub struct OptOutRecordedView {
    /// In canonical form.
    #[schema(example = "01012345678")]
    pub address: String,
}

/// Records that an address refuses the tenant's advertisements, on all channels and relays.
///
/// The refusal applies to every spelling of the address (letter case, punycode, full-width forms), and to the other
/// addresses of the same person that the address book knows.
#[utoipa::path(
    post, path = "/v1/opt-outs", tag = "opt-outs", operation_id = "record_opt_out", request_body = OptOutBody,
    responses((status = 201, description = "The address gets no advertisements any more.", body = OptOutRecordedView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiJson(body): ApiJson<OptOutBody>,
) -> Answer<Written<OptOutRecordedView>> {
    let check = |directory: &Arc<DirectoryState>| {
        let mut checks = Checks::new(&auth.tenant, directory, state.write_side.journal.now());
        checks.check(&body.address, body.brand.as_deref(), &body.source, body.refused_at)
    };
    let refusal =
        state.write_side.directory.judge(&state.write_side.journal, check).await?.map_err(|errors| {
            let first = errors.first().map_or_else(String::new, |error| error.detail.clone());
            Problem::new(Code::Refused, format!("The refusal cannot be recorded: {first}."))
                .with_errors(errors)
        })?;
    let address = refusal.address.to_string();
    let done =
        state.write_side.manage.record_opt_out(&state.cause(&auth.actor), &auth.tenant, refusal).await?;
    state.extend_refusals(&auth.tenant, done.position).await;
    Ok(Written::created(
        done.position,
        format!("/v1/opt-outs/{}", segment(&address)),
        OptOutRecordedView { address },
    ))
}
