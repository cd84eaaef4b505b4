//! `GET /v1/admin/relays/{relay}/not-understood`: answers of a relay that Kite could not read

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use kite_domain::slug::RelayId;
use kite_projections::{NotUnderstood, NotUnderstoodCount, QueryError, UnclassifiedCode};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use utoipa::{IntoParams, ToSchema};

use super::relay_of;
use crate::answer::Page;
use crate::auth::AdminAuth;
use crate::extract::{ApiPath, List, PageOf};
use crate::problem::Answer;
use crate::state::ApiState;
use crate::vocabulary::{MisreadReasonWord, SaidHowWord};

/// Something that a relay said and Kite could not read. Nothing followed from it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotUnderstood)]
pub struct NotUnderstoodView {
    /// When it came for the first time.
    pub at: DateTime<Utc>,
    /// How it came.
    pub how: SaidHowWord,
    /// Why it is not understood.
    pub reason: MisreadReasonWord,
    /// Its place in the list that it came in, from 0; left out: it is the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u32>,
    /// Which field of it.
    #[schema(value_type = Option<String>, example = "status")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<SmolStr>,
    /// As it came, cut to 2,048 bytes.
    #[schema(example = "{\"reference\":\"…\",\"status\":\"lost somewhere\"}")]
    pub raw: String,
    /// How long it was, in bytes.
    pub raw_bytes: u32,
    /// Where in the log it is kept.
    pub position: u64,
}

impl From<NotUnderstood> for NotUnderstoodView {
    fn from(said: NotUnderstood) -> Self {
        let NotUnderstood { position, kept_at, how, reason, row, field, raw, raw_bytes } = said;
        Self { at: kept_at, how: how.into(), reason: reason.into(), row, field, raw, raw_bytes, position }
    }
}

/// How much of a relay was not understood.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotUnderstoodCount)]
pub struct NotUnderstoodCountView {
    /// How many are kept; each of the same words counts once.
    pub kept: u64,
    /// When the newest was kept.
    pub newest_at: DateTime<Utc>,
    /// The limit of a day (1,000) is reached: before this time nothing more is kept, and what comes is not
    /// acknowledged, so that the relay sends it again. Left out: there is room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_until: Option<DateTime<Utc>>,
}

impl NotUnderstoodCountView {
    pub(super) fn of(
        NotUnderstoodCount { kept, newest_at }: NotUnderstoodCount,
        full_until: Option<DateTime<Utc>>,
    ) -> Self {
        Self { kept, newest_at, full_until }
    }
}

/// What asks for an operator at a relay.
#[derive(Debug, Default)]
pub(super) struct Strange {
    pub(super) not_understood: Option<NotUnderstoodCount>,
    pub(super) codes: Vec<UnclassifiedCode>,
    /// Until when nothing more of this relay is kept.
    pub(super) full_until: Option<DateTime<Utc>>,
}

/// What needs an operator at these relays, in their order.
pub(super) async fn strange(state: &ApiState, relays: Vec<RelayId>) -> Answer<Vec<Strange>> {
    let mut found = from_models(state, relays.clone()).await?;
    for (strange, relay) in found.iter_mut().zip(&relays) {
        if strange.not_understood.is_some() {
            strange.full_until = state.write_side.receipts.not_understood_full_until(relay).await?;
        }
    }
    Ok(found)
}

async fn from_models(state: &ApiState, relays: Vec<RelayId>) -> Answer<Vec<Strange>> {
    state
        .query(move |models| {
            let one = |relay: &RelayId| -> Result<Strange, QueryError> {
                let not_understood = models.work.not_understood_count(relay)?;
                Ok(Strange {
                    not_understood,
                    codes: models.work.unclassified_codes(relay)?,
                    full_until: None,
                })
            };
            relays.iter().map(one).collect()
        })
        .await
}

/// All of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct NotUnderstoodQuery {}

impl List for NotUnderstoodQuery {
    const NAME: &'static str = "not-understood";
}

/// Lists what a relay said and Kite did not understand, the newest first. The same words are listed once.
#[utoipa::path(
    get, path = "/v1/admin/relays/{relay}/not-understood", tag = "admin", operation_id = "list_not_understood",
    params(("relay" = String, Path, description = "The relay's id"), PageOf<NotUnderstoodQuery>),
    responses((status = 200, description = "A page of what was not understood.", body = Page<NotUnderstoodView>))
)]
pub async fn list(
    state: State<ApiState>,
    _auth: AdminAuth,
    relay: ApiPath<String>,
    list: PageOf<NotUnderstoodQuery>,
) -> Answer<Json<Page<NotUnderstoodView>>> {
    let relay = relay_of(&relay)?;
    state.find("relay", |directory| directory.relays.get(&relay).map(drop)).await?;
    let said = list
        .page
        .read(&state, move |models, before, limit| models.work.not_understood(&relay, before, limit));
    Ok(Json(said.await?.map(Into::into)))
}
