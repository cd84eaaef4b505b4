//! `GET /v1/admin/instance`, `POST /v1/admin/instance/release`

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use kite_domain::instance::Originality;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Written;
use crate::auth::AdminAuth;
use crate::extract::ApiJson;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::lengths::{REASON_CHARACTERS_MAX, Text, check};
use crate::state::ApiState;

/// How an instance stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = InstanceStanding)]
pub enum StandingWord {
    /// It was never copied from another.
    Original,
    /// A copy whose original may still be in use: it accepts requests and shows messages, and hands nothing over.
    Copy,
    /// The original is dead, and what it may have handed over is being put in doubt.
    Released,
    /// It was a copy, and has taken the place of its original.
    Settled,
}

/// Whether this instance is a copy of another, and its state.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Instance)]
pub struct InstanceView {
    /// How it stands.
    pub standing: StandingWord,
    /// Whether messages are routed and handed over.
    pub hands_over: bool,
    /// For a copy: the position of the last event that it has from its original.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied_until: Option<u64>,
    /// For a copy: when the backup was taken that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_taken_at: Option<DateTime<Utc>>,
    /// For a copy that was released: the time from which on its original hands nothing over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_dead_since: Option<DateTime<Utc>>,
}

impl From<Originality> for InstanceView {
    fn from(standing: Originality) -> Self {
        let hands_over = standing.may_hand_over();
        let (word, of, original_dead_since) = match standing {
            Originality::Original => (StandingWord::Original, None, None),
            Originality::Copy { until, taken_at } => (StandingWord::Copy, Some((until, taken_at)), None),
            Originality::Released { until, taken_at, original_dead_since } => {
                (StandingWord::Released, Some((until, taken_at)), Some(original_dead_since))
            }
            Originality::Settled { until, taken_at, .. } => {
                (StandingWord::Settled, Some((until, taken_at)), None)
            }
        };
        Self {
            standing: word,
            hands_over,
            copied_until: of.map(|(until, _)| until),
            backup_taken_at: of.map(|(_, taken_at)| taken_at),
            original_dead_since,
        }
    }
}

/// The operator's confirmation that the original of this copy is dead.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseBody {
    /// `true`: the original hands nothing over any more and never will again. If it is still in use after all,
    /// messages are sent twice.
    pub original_is_dead: bool,
    /// Since when, if that is known: what was scheduled for later is certainly not with any relay. A time before the
    /// backup is refused. Left out: since now.
    #[serde(default)]
    pub original_dead_since: Option<DateTime<Utc>>,
    /// How you know.
    #[schema(example = "the machine was taken out of the rack", max_length = 500)]
    pub reason: String,
}

/// Shows whether this instance is a copy of another, and whether it hands messages over.
#[utoipa::path(
    get, path = "/v1/admin/instance", tag = "admin", operation_id = "get_instance",
    responses((status = 200, description = "How it stands.", body = InstanceView))
)]
pub async fn get(state: State<ApiState>, _auth: AdminAuth) -> Json<InstanceView> {
    Json(state.write_side.directory.snapshot().instance.into())
}

/// Lets a copy take the place of its original, which is dead.
///
/// Everything that was open in the copied part is put in doubt first: the original may have handed it over after the
/// backup was taken. A relay that answers status queries is asked, and a relay that drops repeats is handed the
/// message again under the same reference; otherwise the message waits for its receipt or its deadline. Then the copy
/// hands messages over. Repeating the call changes nothing.
#[utoipa::path(
    post, path = "/v1/admin/instance/release", tag = "admin", operation_id = "release_instance",
    request_body = ReleaseBody,
    responses((status = 200, description = "How it stands now.", body = InstanceView))
)]
pub async fn release(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiJson(body): ApiJson<ReleaseBody>,
) -> Answer<Written<InstanceView>> {
    const REFUSED: &str = "The copy cannot be released";
    let text = Text { field: "reason", text: &body.reason, characters_max: REASON_CHARACTERS_MAX };
    check(REFUSED, &text)?;
    let wrong = |field: &str, code: &str, detail: &str| {
        let error = FieldError::new(field, code, detail);
        Err(Problem::new(Code::Refused, format!("{REFUSED}: {field}: {detail}.")).at(error))
    };
    if !body.original_is_dead {
        return wrong(
            "original_is_dead",
            "must_be_true",
            "as long as the original may be alive, both would send",
        );
    }
    let now = state.write_side.journal.now();
    let dead_since = body.original_dead_since.unwrap_or(now);
    if dead_since > now {
        return wrong("original_dead_since", "in_the_future", "it is later than now");
    }
    if body.reason.trim().is_empty() {
        return wrong("reason", "missing", "say how you know");
    }
    let done =
        state.write_side.manage.release_instance(&state.cause(&auth.actor), dead_since, body.reason).await?;
    Ok(Written::changed(done.position, state.write_side.directory.snapshot().instance.into()))
}
