//! `GET /v1/relays`: what a tenant may know of the relays.

use axum::Json;
use axum::extract::State;
use kite_domain::relay::{ChannelTerms, RelayEntry};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::auth::TenantAuth;
use crate::state::ApiState;
use crate::vocabulary::{BillingWord, BreakerWord, ChannelWord, PhoneKindWord};

/// What a relay offers on one channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct RelayChannel {
    /// The price of a message part in thousandths of a won.
    #[schema(example = 8900)]
    pub price_milliwon: i64,
    /// When that is due.
    pub bills: BillingWord,
}

impl From<&ChannelTerms> for RelayChannel {
    fn from(terms: &ChannelTerms) -> Self {
        Self { price_milliwon: terms.price_milliwon, bills: terms.bills.into() }
    }
}

/// A relay.
#[derive(Debug, Serialize, ToSchema)]
pub struct RelaySummary {
    /// Its id.
    #[schema(example = "alpha")]
    pub relay: String,
    /// Its name.
    pub name: String,
    /// What it offers, and for how much.
    #[schema(value_type = BTreeMap<String, RelayChannel>)]
    pub channels: BTreeMap<ChannelWord, RelayChannel>,
    /// The kinds of phone number that it delivers to.
    pub reaches: Vec<PhoneKindWord>,
    /// An operator took it out of use.
    pub is_suspended: bool,
    /// It has workers; a relay without workers is given nothing.
    pub is_attended: bool,
    /// Where its circuit breaker stands.
    pub breaker: BreakerWord,
}

impl From<&RelayEntry> for RelaySummary {
    fn from(entry: &RelayEntry) -> Self {
        let profile = &entry.profile;
        Self {
            relay: profile.relay.to_string(),
            name: profile.name.clone(),
            channels: profile
                .channels
                .iter()
                .map(|(channel, terms)| ((*channel).into(), terms.into()))
                .collect(),
            reaches: profile.reaches.iter().map(|kind| (*kind).into()).collect(),
            is_suspended: entry.suspended.is_some(),
            is_attended: entry.unattended.is_none(),
            breaker: entry.breaker.into(),
        }
    }
}

/// All relays.
#[derive(Debug, Serialize, ToSchema)]
pub struct Relays {
    /// By id.
    pub items: Vec<RelaySummary>,
}

/// Lists all relays with their prices.
#[utoipa::path(
    get, path = "/v1/relays", tag = "relays", operation_id = "list_relays",
    responses((status = 200, description = "All relays.", body = Relays))
)]
pub async fn list(state: State<ApiState>, _auth: TenantAuth) -> Json<Relays> {
    let directory = state.write_side.directory.snapshot();
    Json(Relays { items: directory.relays.iter().map(|(_, entry)| entry.into()).collect() })
}
