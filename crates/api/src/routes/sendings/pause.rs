//! `POST /v1/sendings/{sending}/pause` and `/resume`

use axum::extract::State;
use kite_commands::accept::{PauseError, PauseOutcome};
use kite_domain::ids::SendingId;
use kite_domain::sending::PauseBy;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PauseView;
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::{ApiPath, OptionalJson};
use crate::problem::{Answer, Code, Problem};
use crate::routes::lengths::{REASON_CHARACTERS_MAX, Text, check};
use crate::state::ApiState;

/// Why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PauseBody {
    /// In your own words; kept with the sending.
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl PauseBody {
    /// The reason, if it is not too long.
    pub(crate) fn check(self, what: &str) -> Answer<Option<String>> {
        if let Some(reason) = &self.reason {
            check(what, &Text { field: "reason", text: reason, characters_max: REASON_CHARACTERS_MAX })?;
        }
        Ok(self.reason)
    }
}

/// The state of a sending after it was paused or resumed.
#[derive(Debug, Serialize, ToSchema)]
pub struct PausedView {
    /// Whether it is paused.
    pub is_paused: bool,
    /// Since when, by whom and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<PauseView>,
}

impl From<PauseOutcome> for PausedView {
    fn from(outcome: PauseOutcome) -> Self {
        let paused = outcome.paused.map(PauseView::from);
        Self { is_paused: paused.is_some(), paused }
    }
}

pub(crate) fn id_of(text: &str) -> Answer<SendingId> {
    text.parse().map_err(|_| Problem::not_found("sending"))
}

/// Pauses a sending: nothing of it is handed over until it is resumed.
///
/// Messages that a relay already has continue. Lifetimes continue, too: messages whose time is over expire. A paused
/// sending can be cancelled. A sending that is already paused stays paused.
#[utoipa::path(
    post, path = "/v1/sendings/{sending}/pause", tag = "sendings", operation_id = "pause_sending",
    params(("sending" = String, Path, description = "The sending's id")), request_body = Option<PauseBody>,
    responses((status = 200, description = "It is paused.", body = PausedView))
)]
pub async fn pause(
    state: State<ApiState>,
    auth: TenantAuth,
    sending: ApiPath<String>,
    OptionalJson(body): OptionalJson<PauseBody>,
) -> Answer<Written<PausedView>> {
    let (id, reason) = (id_of(&sending)?, body.check("The sending cannot be paused")?);
    let cause = state.cause(&auth.actor);
    let outcome = state.acceptance.pause(&cause, &auth.tenant, id, PauseBy::Tenant, reason).await?;
    Ok(Written::changed(outcome.position, outcome.into()))
}

/// Resumes a paused sending. One that is not paused is left as it is.
///
/// What the operator of the platform has paused, only the operator can resume.
#[utoipa::path(
    post, path = "/v1/sendings/{sending}/resume", tag = "sendings", operation_id = "resume_sending",
    params(("sending" = String, Path, description = "The sending's id")), request_body = Option<PauseBody>,
    responses((status = 200, description = "It goes on.", body = PausedView))
)]
pub async fn resume(
    state: State<ApiState>,
    auth: TenantAuth,
    sending: ApiPath<String>,
    OptionalJson(body): OptionalJson<PauseBody>,
) -> Answer<Written<PausedView>> {
    let (id, reason) = (id_of(&sending)?, body.check("The sending cannot be resumed")?);
    let cause = state.cause(&auth.actor);
    let outcome = state.acceptance.resume(&cause, &auth.tenant, id, PauseBy::Tenant, reason).await?;
    Ok(Written::changed(outcome.position, outcome.into()))
}

impl From<PauseError> for Problem {
    fn from(error: PauseError) -> Self {
        match error {
            PauseError::NotFound(_) => Self::not_found("sending"),
            PauseError::Over(_) => Self::new(
                Code::NotPossibleNow,
                "The sending is over already: it was cancelled, or every message is final.",
            ),
            PauseError::PausedByOperator(_) => {
                Self::new(Code::PausedByOperator, "The operator has paused the sending.")
            }
            PauseError::Journal(error) => error.into(),
        }
    }
}
