//! Sender identities: numbers and addresses that may stand as the sender, registered relay by relay.

pub mod get;
pub mod list;
pub mod register;
pub mod withdraw;

use kite_domain::address::{EmailAddress, PhoneNumber};
use kite_domain::sender::SenderRegistered;
use serde::Serialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

use crate::words::SenderKindWord;

/// A sender identity.
#[derive(Debug, Serialize, ToSchema)]
pub struct SenderView {
    /// The number or address in canonical form.
    #[schema(value_type = String, example = "0212345678")]
    pub address: SmolStr,
    /// Which of the two.
    pub kind: SenderKindWord,
    /// The name that an advertisement must carry.
    #[schema(example = "카이트")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// The free number for refusing advertisements.
    #[schema(value_type = Option<String>, example = "0801234567")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal_number: Option<SmolStr>,
    /// The relays that it is registered with; no other relay carries its messages.
    #[schema(value_type = Vec<String>, example = json!(["alpha", "beta"]))]
    pub relays: Vec<kite_domain::slug::RelayId>,
}

impl From<&SenderRegistered> for SenderView {
    fn from(sender: &SenderRegistered) -> Self {
        Self {
            address: sender.address.clone(),
            kind: sender.kind.into(),
            brand: sender.brand.clone(),
            refusal_number: sender.refusal_number.clone(),
            relays: sender.relays.clone(),
        }
    }
}

/// The address as it is stored, of one that may be written differently.
pub(super) fn canonical(raw: &str) -> SmolStr {
    let text = match raw.contains('@') {
        true => EmailAddress::parse(raw).ok().map(|address| SmolStr::from(address.as_str())),
        false => PhoneNumber::parse(raw).ok().map(|number| SmolStr::from(number.as_str())),
    };
    text.unwrap_or_else(|| raw.into())
}
