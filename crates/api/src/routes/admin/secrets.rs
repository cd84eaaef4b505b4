//! `POST /v1/admin/secrets/rotate`: encrypts the relays' credentials with the newest key.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Written;
use crate::auth::AdminAuth;
use crate::problem::Answer;
use crate::state::ApiState;

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct SecretsRotated {
    /// The relays whose credentials were encrypted again; those of the others were already.
    pub relays: Vec<String>,
    /// Those whose credentials cannot be decrypted: they stay as they were. Define them again, or start Kite with the key.
    pub locked: Vec<LockedRelay>,
}

/// A relay whose credentials cannot be decrypted.
#[derive(Debug, Serialize, ToSchema)]
pub struct LockedRelay {
    /// Which.
    #[schema(example = "alpha")]
    pub relay: String,
    /// Which credential, and why.
    pub reason: String,
}

/// Encrypts the credentials of every relay with the newest key of this process, if they are not. What was in the log
/// before stays there: credentials that were ever stored unencrypted should be changed at the relay.
#[utoipa::path(
    post, path = "/v1/admin/secrets/rotate", tag = "admin", operation_id = "rotate_secrets",
    responses((status = 200, description = "Every credential is encrypted with the newest key.", body = SecretsRotated))
)]
pub async fn rotate(state: State<ApiState>, auth: AdminAuth) -> Answer<Written<SecretsRotated>> {
    let done = state.write_side.manage.rotate_secrets(&state.cause(&auth.actor)).await?;
    let relays = done.value.relays.iter().map(ToString::to_string).collect();
    let locked = done.value.locked.iter();
    let locked = locked.map(|(relay, why)| LockedRelay { relay: relay.to_string(), reason: why.to_string() });
    Ok(Written::changed(done.position, SecretsRotated { relays, locked: locked.collect() }))
}
