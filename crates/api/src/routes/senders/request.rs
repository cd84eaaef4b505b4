//! `POST /v1/senders`

use axum::extract::State;
use kite_commands::manage::{ManageError, ManageRefusal};
use kite_domain::address::{EmailAddress, SenderNumber};
use kite_domain::advertisement::RefusalNumber;
use kite_domain::sender::{SenderKind, SenderTerms};
use kite_domain::slug::RelayId;
use serde::Deserialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

use super::SenderView;
use crate::answer::{Written, segment};
use crate::auth::TenantAuth;
use crate::extract::ApiJson;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::lengths::{NAME_CHARACTERS_MAX, Text, check};
use crate::state::ApiState;

/// More relays than this are certainly a mistake, and each is searched for among the others.
const RELAYS_MAX: usize = 100;

/// A sender identity as a caller writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SenderBody {
    /// A phone number, or an e-mail address.
    #[schema(example = "02-1234-5678")]
    pub address: String,
    /// The name that an advertisement must carry (상호).
    #[serde(default)]
    #[schema(example = "카이트", max_length = 100)]
    pub brand: Option<String>,
    /// The free number for refusing advertisements (080…).
    #[serde(default)]
    #[schema(example = "080-123-4567")]
    pub refusal_number: Option<String>,
    /// The relays that it should be registered with; none: the operator chooses.
    #[serde(default)]
    #[schema(example = json!(["alpha", "beta"]), max_items = 100)]
    pub relays: Vec<String>,
}

/// Asks for a sender identity, for the first time or with other terms.
///
/// It can be used once the operator has approved it. Until then an earlier approval, if there is one, stays valid.
#[utoipa::path(
    post, path = "/v1/senders", tag = "senders", operation_id = "request_sender", request_body = SenderBody,
    responses((status = 201, description = "The operator is asked.", body = SenderView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiJson(body): ApiJson<SenderBody>,
) -> Answer<Written<SenderView>> {
    if let Some(brand) = &body.brand {
        let text = Text { field: "brand", text: brand, characters_max: NAME_CHARACTERS_MAX };
        check("The sender cannot be asked for", &text)?;
    }
    let terms = body.check().map_err(|error| {
        Problem::new(Code::Refused, format!("The sender cannot be asked for: {}.", error.detail)).at(error)
    })?;
    let cause = state.cause(&auth.actor);
    let relays = terms.relays.clone();
    let done = state.write_side.manage.request_sender(&cause, &auth.tenant, terms).await;
    let done = done.map_err(|error| unknown_relay(error, &relays))?;
    let location = format!("/v1/senders/{}", segment(&done.value.terms.address));
    let view = SenderView::at(state.write_side.journal.now(), &done.value);
    Ok(Written::created(done.position, location, view))
}

impl SenderBody {
    fn check(self) -> Result<SenderTerms, FieldError> {
        let (kind, address) = match self.address.contains('@') {
            true => {
                let address = EmailAddress::parse(&self.address)
                    .map_err(|error| FieldError::new("address", error.code(), error.to_string()))?;
                (SenderKind::Email, SmolStr::from(address.as_str()))
            }
            false => {
                let number = SenderNumber::parse(&self.address)
                    .map_err(|error| FieldError::new("address", error.code(), error.to_string()))?;
                (SenderKind::Phone, SmolStr::from(number.as_str()))
            }
        };
        let refusal_number = self.refusal_number.as_deref().map(RefusalNumber::parse).transpose();
        let refusal_number = refusal_number.map_err(|error| {
            FieldError::new("refusal_number", "refusal_number_invalid", error.to_string())
        })?;
        Ok(SenderTerms {
            address,
            kind,
            brand: self.brand.filter(|brand| !brand.trim().is_empty()),
            refusal_number: refusal_number.map(|number| SmolStr::from(number.as_str())),
            relays: relays_of(&self.relays)?,
        })
    }
}

/// The refusal of a relay that is not there names its place in the list.
pub(crate) fn unknown_relay(error: ManageError, relays: &[RelayId]) -> Problem {
    let place = match &error {
        ManageError::Refused(ManageRefusal::NoRelay(relay)) => relays.iter().position(|one| one == relay),
        _ => None,
    };
    Problem::from(error).in_field(place.map(|place| format!("relays[{place}]")))
}

/// Relays as a caller names them.
pub(crate) fn relays_of(names: &[String]) -> Result<Vec<RelayId>, FieldError> {
    if names.len() > RELAYS_MAX {
        let detail = format!("at most {RELAYS_MAX} relays can be named");
        return Err(FieldError::new("relays", "too_many", detail));
    }
    let mut relays = Vec::with_capacity(names.len());
    for (place, relay) in names.iter().enumerate() {
        let field = || format!("relays[{place}]");
        let relay = RelayId::parse(relay)
            .map_err(|error| FieldError::new(field(), error.code(), error.to_string()))?;
        if relays.contains(&relay) {
            let detail = format!("relay {relay} is named more than once");
            return Err(FieldError::new(field(), "relay_repeated", detail));
        }
        relays.push(relay);
    }
    Ok(relays)
}
