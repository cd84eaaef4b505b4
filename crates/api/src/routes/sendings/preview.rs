//! `POST /v1/sendings/preview`

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use chrono::{DateTime, Utc};
use kite_commands::accept::Preview;
use kite_commands::policy::policy_names_in_force;
use serde::Serialize;
use smol_str::SmolStr;
use std::sync::Arc;
use utoipa::ToSchema;

use super::create::sending_body;
use super::recipients::expand;
use super::{DuplicateRowView, RefusedRowView, SendingBody};
use crate::auth::TenantAuth;
use crate::budget::HeldBody;
use crate::extract::read_json;
use crate::problem::Answer;
use crate::state::ApiState;
use crate::vocabulary::ChannelWord;

/// What would become of a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewView {
    /// How many messages.
    pub messages: u32,
    /// By type and number of parts.
    pub types: Vec<PreviewType>,
    /// By relay and channel: the first routes, split as they would be if this were the next sending to be routed.
    pub relays: Vec<PreviewShare>,
    /// What the first routes cost if all is delivered, in thousandths of a won.
    pub cost_milliwon: i64,
    /// What it costs if every message fails over to the most expensive relay that it may use.
    pub cost_max_milliwon: i64,
    /// Why a part cannot be routed at the moment.
    pub blocked: Vec<String>,
    /// The first recipients one by one.
    pub rows: Vec<PreviewMessage>,
    /// Rows that would become no message.
    pub refused: Vec<RefusedRowView>,
    /// Rows that would be dropped.
    pub duplicates: Vec<DuplicateRowView>,
    /// After this nothing would be handed over.
    pub expires_at: DateTime<Utc>,
    /// Text messages would wait until then at least, because advertisements may not go out at night.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<DateTime<Utc>>,
}

/// Messages of one type.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewType {
    /// The type.
    #[serde(rename = "type")]
    pub message_type: ChannelWord,
    /// Message parts each.
    pub parts: u16,
    /// How many.
    pub messages: u32,
}

/// The share of one relay.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewShare {
    /// Which relay.
    #[schema(example = "alpha")]
    pub relay: String,
    /// On which channel.
    pub channel: ChannelWord,
    /// How many first routes.
    pub messages: u32,
    /// What they cost if all are delivered, in thousandths of a won.
    pub cost_milliwon: i64,
    /// Who is tried next.
    pub fallbacks: Vec<String>,
    /// Why.
    pub reason: String,
}

/// One recipient.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewMessage {
    /// The address in canonical form.
    #[schema(value_type = String)]
    pub to: SmolStr,
    /// The type that the text needs.
    #[serde(rename = "type")]
    pub message_type: ChannelWord,
    /// The text as it would go out.
    pub text: String,
    /// The relay, if one can be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// What it costs if it is delivered, in thousandths of a won.
    pub cost_milliwon: i64,
}

/// Shows what a request would do: types, costs, split, refused rows. Nothing is sent and nothing is written.
///
/// The split continues from the tenant's current splits. Sendings that are routed in between, and new advice, move
/// it: then the relay of a single message may differ from the one shown here, and each relay's share by one message.
#[utoipa::path(
    post, path = "/v1/sendings/preview", tag = "sendings", operation_id = "preview_sending", request_body = SendingBody,
    responses((status = 200, description = "What it would come to.", body = PreviewView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    request: Request<Body>,
) -> Answer<Json<PreviewView>> {
    let held = Arc::new(sending_body(&state, request).await?);
    let work = preview(state.0.clone(), auth, held.clone());
    state.by_size(&held, work).await.map(Json)
}

async fn preview(state: ApiState, auth: TenantAuth, held: Arc<HeldBody>) -> Answer<PreviewView> {
    let request = expand(&state, &auth.tenant, read_json(&held.bytes)?).await?;
    let policies = policy_names_in_force(&state.write_side.directory.snapshot(), &auth.tenant);
    let carries = state.query(move |models| models.routing.carries_of(&policies)).await?;
    let ledger = carries.into_iter().collect();
    let preview = state.acceptance.preview(&auth.tenant, &request, &ledger).await?;
    Ok(preview.into())
}

impl From<Preview> for PreviewView {
    fn from(preview: Preview) -> Self {
        let types = preview.groups.into_iter().map(|group| PreviewType {
            message_type: group.message_type.into(),
            parts: group.parts,
            messages: group.messages,
        });
        let relays = preview.relays.into_iter().map(|share| PreviewShare {
            relay: share.relay.to_string(),
            channel: share.channel.into(),
            messages: share.messages,
            cost_milliwon: share.cost_milliwon,
            fallbacks: share.fallbacks.iter().map(ToString::to_string).collect(),
            reason: share.reason,
        });
        let rows = preview.rows.into_iter().map(|row| PreviewMessage {
            to: row.to,
            message_type: row.message_type.into(),
            text: row.text,
            relay: row.relay.map(|relay| relay.to_string()),
            cost_milliwon: row.cost_milliwon,
        });
        Self {
            messages: preview.messages,
            types: types.collect(),
            relays: relays.collect(),
            cost_milliwon: preview.cost_milliwon,
            cost_max_milliwon: preview.cost_max_milliwon,
            blocked: preview.blocked,
            rows: rows.collect(),
            refused: preview.refused.into_iter().map(Into::into).collect(),
            duplicates: preview.duplicates.into_iter().map(Into::into).collect(),
            expires_at: preview.expires_at,
            held_until: preview.held_until,
        }
    }
}
