//! `POST /v1/relays/{relay}/receipts`: delivery reports that a relay pushes.
//!
//! There is no bearer key: the relay signs each call by the rules of Standard Webhooks. What the headers alone show
//! to be wrong is refused before the body is read. The rest is read against a budget that cannot take what others
//! need. A call is answered only once its receipts are durable; a relay that gets no 2xx sends it again. A repeated
//! call is answered in the same way and does nothing. A receipt that cannot be read is kept as it came and named in
//! the answer, 422; the others of its call are recorded. If there is no room to keep it, the answer is 503, so that
//! the relay sends it again: nothing is acknowledged that is not kept. Nothing is kept before the signature was found
//! genuine.

pub(crate) mod read;
pub(crate) mod verify;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use chrono::{DateTime, Utc};
use kite_commands::vault::DecryptError;
use kite_domain::not_understood::{Misread, SaidHow};
use kite_domain::relay::Credential;
use kite_domain::slug::RelayId;
use serde::Deserialize;
use smol_str::SmolStr;
use std::sync::Arc;
use utoipa::ToSchema;

use crate::auth::counted;
use crate::budget::{HeldBody, RelayAt};
use crate::clients::Origin;
use crate::extract::{ApiPath, media_type_is, origin, read_unverified};
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;
use crate::vocabulary::ReceiptStatusWord;

/// If there is no room for unreadable receipts: the limit is that of a day, and an operator may fix the cause
/// earlier.
const FULL_RETRY_AFTER_SECONDS: u32 = 60;

/// Receipts. Unknown fields are ignored: the body is the relay's.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReceiptsBody {
    /// Up to 500 by the protocol; more than 5,000 are refused.
    pub receipts: Vec<ReceiptBody>,
}

/// What became of one attempt.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReceiptBody {
    /// Our reference, as it was handed over.
    #[schema(value_type = String, example = "0197c0de000070008000000000000004-17-1")]
    pub reference: SmolStr,
    /// The relay's own.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub relay_reference: Option<SmolStr>,
    /// What became of it.
    pub status: ReceiptStatusWord,
    /// The relay's code.
    #[serde(default)]
    #[schema(value_type = String)]
    pub code: SmolStr,
    /// When, by the relay's clock.
    pub at: DateTime<Utc>,
}

/// The address that receipts are pushed to, as the router knows it.
pub(crate) const RECEIPTS_PATH: &str = "/v1/relays/{relay}/receipts";

/// Takes receipts in. For relays.
#[utoipa::path(
    post, path = "/v1/relays/{relay}/receipts", tag = "relay receipts", operation_id = "push_receipts", security(()),
    params(
        ("relay" = String, Path, description = "The relay's id"),
        ("webhook-id" = String, Header, description = "The id of the call, the same when it is tried again"),
        ("webhook-timestamp" = i64, Header, description = "When it was signed, in seconds since 1970"),
        ("webhook-signature" = String, Header, description = "`v1,` and the signature in base64"),
    ),
    request_body = ReceiptsBody,
    responses((status = 204, description = "The receipts are recorded, now or before."))
)]
pub async fn handler(
    state: State<ApiState>,
    relay: ApiPath<String>,
    request: Request<Body>,
) -> Answer<StatusCode> {
    let unknown = || Problem::not_found("relay");
    let relay = RelayId::parse(&relay).map_err(|_| unknown())?;
    let profile =
        state.find("relay", |directory| Some(directory.relays.get(&relay)?.profile.clone())).await?;
    let secret = state.write_side.manage.vault().open_one(&profile, Credential::ReceiptSecret);
    let secret = secret.map_err(|error| locked(&relay, &error))?;
    let origin = origin(&state, &request);
    let now = state.write_side.journal.now();
    let envelope = verify::open(secret.as_deref(), request.headers(), now)
        .map_err(|problem| counted(problem, Some(&origin), &state.clients, now))?;
    let is_json = media_type_is(request.headers(), "application/json");
    let bytes_max = state.config.receipts_body_bytes_max;
    let held = Arc::new(read_unverified(&state, request, &origin, &relay, bytes_max).await?);
    let call = Call { relay, envelope, origin, is_json, held: held.clone() };
    let work = call.take(state.0.clone());
    state.by_size(&held, work).await
}

/// The secret that signs receipts cannot be decrypted. The relay has to send again: the operator can fix it.
fn locked(relay: &RelayId, error: &DecryptError) -> Problem {
    tracing::error!(%relay, %error, "receipts cannot be verified");
    Problem::new(Code::Unavailable, "Receipts of this relay cannot be verified at the moment.")
}

/// A call that has come in as a whole.
struct Call {
    relay: RelayId,
    envelope: verify::Envelope,
    origin: Origin,
    is_json: bool,
    held: Arc<HeldBody>,
}

impl Call {
    async fn take(self, state: ApiState) -> Answer<StatusCode> {
        let Self { relay, envelope, origin, is_json, held } = self;
        let now = state.write_side.journal.now();
        let call = envelope
            .verify(&held.bytes)
            .map_err(|problem| counted(problem, Some(&origin), &state.clients, now))?;
        origin.peer.prove();
        let place = RelayAt { relay: relay.clone(), address: origin.client.address() };
        state.budgets().note_genuine(place, now);
        let seen_calls = &state.shared().seen_calls;
        if seen_calls.has(&relay, &call) {
            return Ok(StatusCode::NO_CONTENT);
        }
        if !is_json {
            return Err(Problem::new(Code::UnsupportedMediaType, "The body must be application/json."));
        }
        let read::Understood { receipts, misread } = match read::read(&held.bytes) {
            Ok(understood) => understood,
            Err(problem) => {
                let whole = read::whole(&held.bytes, &problem).into_iter().collect();
                keep(&state, &relay, whole).await?;
                return Err(problem);
            }
        };
        let recorded = receipts.len();
        if misread.is_empty() {
            state.write_side.receipts.record(&relay, receipts).await?;
            seen_calls.remember(&relay, &call);
            return Ok(StatusCode::NO_CONTENT);
        }
        // It may come for ever, and its good receipts are recorded once, too. It may also come corrected under the same id:
        // that is another call.
        let call_as_it_is = format!("{call}/{}", read::digest(&held.bytes));
        if !seen_calls.has(&relay, &call_as_it_is) {
            state.write_side.receipts.record(&relay, receipts).await?;
        }
        let problem = read::not_understood(recorded, &misread);
        keep(&state, &relay, misread).await?;
        seen_calls.remember(&relay, &call_as_it_is);
        Err(problem)
    }
}

/// Keeps it. If there is no room for all of it, the relay has to send again.
async fn keep(state: &ApiState, relay: &RelayId, misread: Vec<Misread>) -> Answer<()> {
    let kept = state.write_side.receipts.keep_not_understood(relay, SaidHow::Pushed, misread).await?;
    if kept.beyond == 0 {
        return Ok(());
    }
    let detail = format!(
        "{} of the receipts are not understood, and as much as is kept of such in a day is kept. What is understood is \
         recorded. Push them again later.",
        kept.beyond
    );
    Err(Problem::new(Code::Unavailable, detail).retry_after(FULL_RETRY_AFTER_SECONDS))
}
