//! `POST /v1/opt-outs`

use axum::extract::State;
use kite_domain::address::Address;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::{Written, segment};
use crate::auth::TenantAuth;
use crate::extract::ApiJson;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::contacts::check_length;
use crate::state::ApiState;

/// A refusal as a caller records it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OptOutBody {
    /// A phone number or an e-mail address.
    #[schema(example = "010-1234-5678")]
    pub address: String,
    /// How the refusal came, in the caller's words.
    #[serde(default)]
    #[schema(example = "080", max_length = 100)]
    pub source: String,
}

/// An address that refuses from now on.
#[derive(Debug, Serialize, ToSchema)]
pub struct OptOutRecordedView {
    /// In canonical form.
    #[schema(example = "01012345678")]
    pub address: String,
}

const SOURCE_CHARACTERS_MAX: usize = 100;

/// Records that an address refuses the tenant's advertisements, on all channels and relays.
#[utoipa::path(
    post, path = "/v1/opt-outs", tag = "opt-outs", operation_id = "record_opt_out", request_body = OptOutBody,
    responses((status = 201, description = "The address gets no advertisements any more.", body = OptOutRecordedView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiJson(body): ApiJson<OptOutBody>,
) -> Answer<Written<OptOutRecordedView>> {
    let mut errors = Vec::new();
    check_length("source", &body.source, SOURCE_CHARACTERS_MAX, &mut errors);
    let address = Address::parse(&body.address)
        .map_err(|error| FieldError::new("address", error.code(), error.to_string()));
    let address = match (address, errors.pop()) {
        (Ok(address), None) => address.as_str().to_owned(),
        (Err(error), _) | (Ok(_), Some(error)) => {
            return Err(Problem::new(
                Code::Refused,
                format!("The refusal cannot be recorded: {}.", error.detail),
            )
            .at(error));
        }
    };
    let done =
        state.manage.record_opt_out(&state.cause(&auth.actor), &auth.tenant, &address, body.source).await?;
    state.note_write(&auth.tenant, done.position);
    Ok(Written::created(
        done.position,
        format!("/v1/opt-outs/{}", segment(&address)),
        OptOutRecordedView { address },
    ))
}
