//! Who is asking: a tenant's API key, or the operator's admin key.
//!
//! A key is `kite_<key id>_<secret>`. The id finds the stored hash in the directory, which is memory; the whole key is
//! hashed and compared in constant time. Keys are 256 random bits, so a slow hash would add nothing.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use chrono::{DateTime, Utc};
use kite_domain::slug::TenantId;
use sha2::{Digest, Sha256};
use smol_str::{SmolStr, format_smolstr};
use std::fmt::Write;
use subtle::ConstantTimeEq;

use crate::clients::{Clients, Origin};
use crate::extract::Payer;
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;

/// A tenant, proven by one of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantAuth {
    /// Who.
    pub tenant: TenantId,
    /// Under which name it acts: `key:<id>`.
    pub actor: SmolStr,
}

/// The operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAuth {
    /// Under which name it acts: `admin`.
    pub actor: SmolStr,
}

/// Either of the two, for endpoints that show an operator everything and a tenant its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A tenant.
    Tenant(TenantAuth),
    /// The operator.
    Admin(AdminAuth),
}

impl Caller {
    /// Whose data may be seen; none: everybody's.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Tenant(auth) => Some(&auth.tenant),
            Self::Admin(_) => None,
        }
    }
}

impl Payer {
    fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Tenant(auth) => Self::Tenant(auth.tenant.clone()),
            Caller::Admin(_) => Self::Operator,
        }
    }
}

fn bearer(headers: &HeaderMap) -> Answer<&str> {
    let missing = |detail: &str| Problem::new(Code::KeyMissing, detail);
    let value =
        headers.get(header::AUTHORIZATION).ok_or_else(|| missing("The header Authorization is missing."))?;
    let text = value.to_str().map_err(|_| missing("The header Authorization is not plain text."))?;
    match text.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty() => {
            Ok(key.trim())
        }
        _ => Err(missing("The header Authorization is not of the form `Bearer <key>`.")),
    }
}

/// Who asks, before any byte of a body is looked at. Remembers with the request who pays for its body, and with its
/// connection that a genuine key came over it. A key that is not genuine counts against the address that it came from.
fn identify(parts: &mut Parts, state: &ApiState) -> Answer<Caller> {
    let origin = parts.extensions.get::<Origin>();
    match known(&parts.headers, state) {
        Ok(caller) => {
            if let Some(origin) = origin {
                origin.peer.prove();
            }
            parts.extensions.insert(Payer::of(&caller));
            Ok(caller)
        }
        Err(problem) => Err(counted(problem, origin, &state.clients, state.journal.now())),
    }
}

/// The refusal of a key or signature; another one if too many that were wrong have come from the same address.
pub(crate) fn counted(
    problem: Problem,
    origin: Option<&Origin>,
    clients: &Clients,
    now: DateTime<Utc>,
) -> Problem {
    let what = match problem.code() {
        Code::KeyInvalid => "key",
        Code::SignatureInvalid => "signature",
        _ => return problem,
    };
    let Some(client) = origin.map(|origin| &origin.client) else { return problem };
    metrics::counter!("kite_wrong_keys_total", "kind" => what).increment(1);
    if client.count_wrong_key(now) <= clients.rules().wrong_keys_per_address_max {
        return problem;
    }
    metrics::counter!("kite_wrong_keys_throttled_total", "kind" => what).increment(1);
    if let Some(occasions) = clients.wrong_keys().due(u64::try_from(now.timestamp_millis()).unwrap_or(0)) {
        tracing::warn!(last_from = %client.address(), occasions, "too many wrong keys or signatures");
    }
    Problem::new(Code::TooManyWrongKeys, "Too many wrong keys or signatures came from this address.")
}

/// Whose key it is, if it is genuine; nothing is counted.
pub(crate) fn payer(headers: &HeaderMap, state: &ApiState) -> Option<Payer> {
    known(headers, state).ok().as_ref().map(Payer::of)
}

fn known(headers: &HeaderMap, state: &ApiState) -> Answer<Caller> {
    let key = bearer(headers)?;
    let invalid = || Problem::new(Code::KeyInvalid, "The key is unknown or was revoked.");
    let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    if state.config.admin_key_hash.is_some_and(|admin| bool::from(admin.0.ct_eq(&digest))) {
        return Ok(Caller::Admin(AdminAuth { actor: SmolStr::new_static("admin") }));
    }
    let key_id = key.strip_prefix("kite_").and_then(|rest| rest.split_once('_')).ok_or_else(invalid)?.0;
    let directory = state.directory.snapshot();
    let issued = directory.api_keys.get(key_id).ok_or_else(invalid)?;
    if !bool::from(issued.hash.as_bytes().ct_eq(hexadecimal(&digest).as_bytes())) {
        return Err(invalid());
    }
    Ok(Caller::Tenant(TenantAuth { tenant: issued.tenant.clone(), actor: format_smolstr!("key:{key_id}") }))
}

/// Identifies, and counts the request of a tenant. Requests to send are counted when they are read: only then it is known
/// whether they are passwords, which count apart.
fn admit(parts: &mut Parts, state: &ApiState) -> Answer<Caller> {
    let caller = identify(parts, state)?;
    let is_to_send = parts.method == Method::POST && parts.uri.path() == "/v1/sendings";
    if let Caller::Tenant(auth) = &caller
        && !is_to_send
    {
        state.acceptance.count_request(&auth.tenant)?;
    }
    Ok(caller)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Answer<Self> {
        admit(parts, state)
    }
}

impl FromRequestParts<ApiState> for TenantAuth {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Answer<Self> {
        match admit(parts, state)? {
            Caller::Tenant(auth) => Ok(auth),
            Caller::Admin(_) => Err(Problem::new(
                Code::NotPermitted,
                "The admin key belongs to no tenant; this endpoint needs the key of one.",
            )),
        }
    }
}

impl FromRequestParts<ApiState> for AdminAuth {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Answer<Self> {
        match identify(parts, state)? {
            Caller::Admin(auth) => Ok(auth),
            Caller::Tenant(_) => {
                Err(Problem::new(Code::NotPermitted, "Only the admin key may use this endpoint."))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_and_nothing_else_is_taken_for_a_key() {
        let with = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        assert_eq!(bearer(&with("Bearer kite_1_2")), Ok("kite_1_2"));
        assert_eq!(bearer(&with("bearer  kite_1_2 ")), Ok("kite_1_2"));
        for wrong in ["", "Bearer", "Bearer ", "Basic a2l0ZQ==", "kite_1_2"] {
            assert_eq!(bearer(&with(wrong)).unwrap_err().code(), Code::KeyMissing, "{wrong:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()).unwrap_err().code(), Code::KeyMissing);
    }
}
