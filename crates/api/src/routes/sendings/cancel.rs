//! `POST /v1/sendings/{sending}/cancel`

use axum::extract::State;
use kite_commands::LotsError;
use kite_commands::accept::{CancelError, CancelOutcome};
use kite_domain::ids::SendingId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::{ApiPath, OptionalJson};
use crate::problem::{Answer, Code, Problem};
use crate::routes::lengths::{REASON_CHARACTERS_MAX, Text, check};
use crate::state::ApiState;

/// Why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CancelBody {
    /// In your own words; kept with the sending.
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

/// What a cancellation came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct CancelledView {
    /// Messages that were stopped.
    pub cancelled: u32,
    /// Messages that a relay already has, and that continue. At an instance that is a copy and not settled yet, all
    /// open messages: it is not known whether they were handed over.
    pub in_flight: u32,
    /// Messages that were final before.
    pub finished: u32,
}

/// Cancels a sending: what is not handed over yet never will be. Messages that a relay already has continue.
///
/// An instance that was restored from a backup and waits for its operator (`kite restore`) answers `cancelled: 0` for
/// a sending from before the backup, and counts what is open as `in_flight`: the original may have handed it over.
/// The sending is cancelled nevertheless, and the copy hands nothing of it over. Messages whose result cannot be
/// known end as `expired` with the reason `copied`.
#[utoipa::path(
    post, path = "/v1/sendings/{sending}/cancel", tag = "sendings", operation_id = "cancel_sending",
    params(("sending" = String, Path, description = "The sending's id")), request_body = Option<CancelBody>,
    responses((status = 200, description = "It is cancelled.", body = CancelledView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    sending: ApiPath<String>,
    OptionalJson(body): OptionalJson<CancelBody>,
) -> Answer<Written<CancelledView>> {
    let id: SendingId = sending.parse().map_err(|_| Problem::not_found("sending"))?;
    if let Some(reason) = &body.reason {
        let text = Text { field: "reason", text: reason, characters_max: REASON_CHARACTERS_MAX };
        check("The sending cannot be cancelled", &text)?;
    }
    let outcome = state.acceptance.cancel(&state.cause(&auth.actor), &auth.tenant, id, body.reason).await?;
    Ok(Written::changed(outcome.position, outcome.into()))
}

impl From<CancelOutcome> for CancelledView {
    fn from(outcome: CancelOutcome) -> Self {
        Self { cancelled: outcome.cancelled, in_flight: outcome.in_flight, finished: outcome.finished }
    }
}

impl From<CancelError> for Problem {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::NotFound(_) => Self::not_found("sending"),
            CancelError::Over(_) => Self::new(
                Code::NotPossibleNow,
                "The sending is over already: it was cancelled, or every message is final.",
            ),
            CancelError::Journal(error) => error.into(),
            CancelError::Lots(LotsError::Contended(_)) => Self::new(
                Code::Conflict,
                "The cancellation is recorded; some messages are being worked on and will be stopped shortly.",
            ),
            CancelError::Lots(error) => error.into(),
        }
    }
}
