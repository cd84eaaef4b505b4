//! `POST /v1/senders`

use axum::extract::State;
use kite_domain::address::{EmailAddress, SenderNumber};
use kite_domain::advertisement::RefusalNumber;
use kite_domain::sender::{SenderKind, SenderRegistered};
use kite_domain::slug::{RelayId, TenantId};
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

/// More relays are named by mistake only, and each is looked for among the others.
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
    /// The relays that it is registered with.
    #[schema(example = json!(["alpha", "beta"]), max_items = 100)]
    pub relays: Vec<String>,
}

/// Registers a sender identity, or replaces its registration.
///
/// Which relays carry its messages follows from `relays`: registration is compulsory per number and per relay.
#[utoipa::path(
    post, path = "/v1/senders", tag = "senders", operation_id = "register_sender", request_body = SenderBody,
    responses((status = 201, description = "The sender may send.", body = SenderView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiJson(body): ApiJson<SenderBody>,
) -> Answer<Written<SenderView>> {
    if let Some(brand) = &body.brand {
        let text = Text { field: "brand", text: brand, characters_max: NAME_CHARACTERS_MAX };
        check("The sender cannot be registered", &text)?;
    }
    let registered = body.check(&auth.tenant).map_err(|error| {
        Problem::new(Code::Refused, format!("The sender cannot be registered: {}.", error.detail)).at(error)
    })?;
    let done = state.manage.register_sender(&state.cause(&auth.actor), registered.clone()).await?;
    let location = format!("/v1/senders/{}", segment(&registered.address));
    Ok(Written::created(done.position, location, SenderView::from(&registered)))
}

impl SenderBody {
    fn check(self, tenant: &TenantId) -> Result<SenderRegistered, FieldError> {
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
        if self.relays.len() > RELAYS_MAX {
            return Err(FieldError::new(
                "relays",
                "too_many",
                format!("at most {RELAYS_MAX} relays can be named"),
            ));
        }
        let mut relays = Vec::with_capacity(self.relays.len());
        for (place, relay) in self.relays.iter().enumerate() {
            let field = || format!("relays[{place}]");
            let relay = RelayId::parse(relay)
                .map_err(|error| FieldError::new(field(), error.code(), error.to_string()))?;
            if relays.contains(&relay) {
                return Err(FieldError::new(
                    field(),
                    "relay_repeated",
                    format!("relay {relay} is named more than once"),
                ));
            }
            relays.push(relay);
        }
        Ok(SenderRegistered {
            tenant: tenant.clone(),
            address,
            kind,
            brand: self.brand.filter(|brand| !brand.trim().is_empty()),
            refusal_number: refusal_number.map(|number| SmolStr::from(number.as_str())),
            relays,
        })
    }
}
