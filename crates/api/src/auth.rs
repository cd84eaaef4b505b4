//! Who is calling: a tenant's API key, or an operator's key; and whether the key may do what is requested.
//!
//! A key is `kite_<key id>_<secret>`, an operator's `kiteop_<key id>_<secret>`. The id finds the stored hash in the
//! directory, which is in memory; the whole key is hashed and compared in constant time. Keys are 256 random bits, so
//! a slow hash would add nothing. The operator's first key is the one in the configuration, and has the role
//! administrator.
//!
//! A caller with a complete key is told why it is not good: expired, or not allowed from this address. All other bad
//! keys, revoked ones included, get the same answer. What a key may do is in [`access`](crate::access).

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::WriteSide;
use kite_commands::directory::DirectoryState;
use kite_commands::manage::{API_KEY_PREFIX, OPERATOR_KEY_PREFIX, public_part};
use kite_domain::keys::{KeyBounds, KeyRefusal, Role, Scopes, operator_actor};
use kite_domain::slug::TenantId;
use sha2::{Digest, Sha256};
use smol_str::{SmolStr, format_smolstr};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use subtle::ConstantTimeEq;

use crate::access::{self, Access};
use crate::budget::Payer;
use crate::clients::{Clients, Origin};
use crate::own_writes::Writer;
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;
use crate::traced::note_tenant;

/// How long keys are checked against the last known state while the log cannot be read.
const KEYS_HOLD: TimeDelta = TimeDelta::minutes(1);

/// A tenant, proven by one of its keys, which may do what is requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantAuth {
    /// Who.
    pub tenant: TenantId,
    /// Under which name it acts: `key:<id>`.
    pub actor: SmolStr,
}

/// An operator, whose key may do what is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAuth {
    /// The actor's name: `operator:<name>`, or `admin` with the key of the configuration.
    pub actor: SmolStr,
}

/// Either of the two, for endpoints that show an operator everything and a tenant its own data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A tenant.
    Tenant(TenantAuth),
    /// An operator.
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

    fn writer(&self) -> Writer {
        match self {
            Self::Tenant(auth) => Writer::Tenant(auth.tenant.clone()),
            Self::Admin(auth) => Writer::Operator(auth.actor.clone()),
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

/// The listener that a request came in at, if administration has one of its own. Then it is an extension of every
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The public one: no operator's key is accepted.
    Public,
    /// The one for administration.
    Administration,
}

/// Tells the middleware who has called. An extension of every request that may write.
pub(crate) type WhoWrites = Arc<OnceLock<Writer>>;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    Tenant(Scopes),
    Operator(Role),
}

/// Somebody with a key that is good.
struct Known {
    caller: Caller,
    may: May,
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

/// Who is calling, before any byte of a body is read. Records with the request whose budget the body is counted
/// against, and with its connection that a genuine key came over it. A bad key counts against the address that it
/// came from.
async fn identify(parts: &mut Parts, state: &ApiState) -> Answer<Known> {
    let origin = parts.extensions.get::<Origin>();
    match known(&parts.headers, state, origin).await {
        Ok(known) => {
            if let Some(tenant) = known.caller.tenant() {
                note_tenant(tenant);
            }
            if let Some(origin) = origin {
                origin.peer.prove();
            }
            parts.extensions.insert(Payer::of(&known.caller));
            Ok(known)
        }
        Err(problem) => Err(counted_of(problem, &parts.headers, origin, state)),
    }
}

/// The refusal of the key in these headers.
fn counted_of(problem: Problem, headers: &HeaderMap, origin: Option<&Origin>, state: &ApiState) -> Problem {
    let key_id = bearer(headers).ok().and_then(public_part);
    counted_key(problem, key_id, origin, &state.clients, state.write_side.journal.now())
}

/// The refusal of a signature; or another one if too many wrong keys and signatures came from the same address.
pub(crate) fn counted(
    problem: Problem,
    origin: Option<&Origin>,
    clients: &Clients,
    now: DateTime<Utc>,
) -> Problem {
    counted_key(problem, None, origin, clients, now)
}

/// [`counted`] for a key whose public part is known, if it has the form of a key. The key itself is never logged.
fn counted_key(
    problem: Problem,
    key_id: Option<SmolStr>,
    origin: Option<&Origin>,
    clients: &Clients,
    now: DateTime<Utc>,
) -> Problem {
    let what = match problem.code() {
        Code::KeyInvalid => "key",
        Code::KeyExpired => "expired",
        Code::AddressNotAllowed => "address",
        Code::SignatureInvalid => "signature",
        _ => return problem,
    };
    let Some(client) = origin.map(|origin| &origin.client) else { return problem };
    metrics::counter!("kite_wrong_keys_total", "kind" => what).increment(1);
    let of_address = client.count_wrong_key(now);
    if clients.is_told(of_address, now) {
        let key_id = key_id.as_deref().unwrap_or("none");
        tracing::warn!(from = %client.address(), kind = what, key_id, "a wrong key or signature");
    }
    if of_address <= clients.rules().wrong_keys_per_address_max {
        return problem;
    }
    metrics::counter!("kite_wrong_keys_throttled_total", "kind" => what).increment(1);
    if let Some(occasions) = clients.wrong_keys().due(u64::try_from(now.timestamp_millis()).unwrap_or(0)) {
        tracing::warn!(last_from = %client.address(), occasions, "too many wrong keys or signatures");
    }
    Problem::new(Code::TooManyWrongKeys, "Too many wrong keys or signatures came from this address.")
}

/// Whose key it is, if it is good. A bad key is counted here, because the request goes no further.
pub(crate) async fn payer(headers: &HeaderMap, state: &ApiState, origin: &Origin) -> Option<Payer> {
    match known(headers, state, Some(origin)).await {
        Ok(known) => Some(Payer::of(&known.caller)),
        Err(problem) => {
            counted_of(problem, headers, Some(origin), state);
            None
        }
    }
}

async fn known(headers: &HeaderMap, state: &ApiState, origin: Option<&Origin>) -> Answer<Known> {
    let key = bearer(headers)?;
    // A caller with a complete key is told what is wrong with it; any other key may have been issued a moment ago.
    let look = |directory: &DirectoryState| match of_key(key, directory, state, origin) {
        Err(problem) if problem.code() == Code::KeyInvalid => None,
        known => Some(known),
    };
    let WriteSide { directory, journal, .. } = &state.write_side;
    let unknown = || Err(Problem::new(Code::KeyInvalid, "The key is unknown or was revoked."));
    match directory.find(journal, look).await {
        Ok(found) => found.unwrap_or_else(unknown),
        // While the log is away a key is good that was good a moment ago.
        Err(_) if directory.was_current_within(journal, KEYS_HOLD) => {
            look(&directory.snapshot()).unwrap_or_else(unknown)
        }
        Err(error) => Err(error.into()),
    }
}

fn of_key(key: &str, directory: &DirectoryState, state: &ApiState, origin: Option<&Origin>) -> Answer<Known> {
    let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    if state.config.admin_key_hash.is_some_and(|admin| bool::from(admin.0.ct_eq(&digest))) {
        let caller = Caller::Admin(AdminAuth { actor: SmolStr::new_static("admin") });
        return Ok(Known { caller, may: May::Operator(Role::Administrator) });
    }
    let id_after = |prefix: &str| Some(key.strip_prefix(prefix)?.split_once('_')?.0);
    let is_hash_of = |hash: &str| bool::from(hash.as_bytes().ct_eq(hex::encode(digest).as_bytes()));
    let now = state.write_side.journal.now();
    let from = origin.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |origin| origin.address);
    if let Some(issued) = id_after(API_KEY_PREFIX).and_then(|key_id| directory.api_keys.get(key_id))
        && is_hash_of(&issued.hash)
    {
        is_good(&issued.bounds, now, from)?;
        issued.note_use(now);
        let actor = format_smolstr!("key:{}", issued.key_id);
        let caller = Caller::Tenant(TenantAuth { tenant: issued.tenant.clone(), actor });
        return Ok(Known { caller, may: May::Tenant(issued.scopes) });
    }
    if let Some(issued) = id_after(OPERATOR_KEY_PREFIX).and_then(|key_id| directory.operator_keys.get(key_id))
        && is_hash_of(&issued.hash)
    {
        is_good(&issued.bounds, now, from)?;
        issued.note_use(now);
        let caller = Caller::Admin(AdminAuth { actor: operator_actor(&issued.name) });
        return Ok(Known { caller, may: May::Operator(issued.role) });
    }
    Err(Problem::new(Code::KeyInvalid, "The key is unknown or was revoked."))
}

/// Only a caller that has shown the complete key is told this.
fn is_good(bounds: &KeyBounds, now: DateTime<Utc>, from: IpAddr) -> Answer<()> {
    bounds.check(now, from).map_err(|refusal| match refusal {
        KeyRefusal::Expired(at) => {
            Problem::new(Code::KeyExpired, format!("The key has expired at {}.", at.to_rfc3339()))
        }
        KeyRefusal::Address => {
            Problem::new(Code::AddressNotAllowed, format!("The key may not be used from {from}."))
        }
    })
}

/// Whether the key may do what the endpoint does.
fn permit(may: May, access: Access, side: Option<Side>) -> Answer<()> {
    let refused = |detail: String| Err(Problem::new(Code::NotPermitted, detail));
    match may {
        May::Tenant(scopes) => match access.scope {
            None => refused("Only an operator's key may use this endpoint.".to_owned()),
            Some(scope) if scopes.contains(scope) => Ok(()),
            Some(scope) => refused(format!(
                "This endpoint needs a key with the scope {}; this one has: {scopes}.",
                scope.word()
            )),
        },
        May::Operator(_) if side == Some(Side::Public) => {
            refused("An operator's key is taken only at the listener for administration.".to_owned())
        }
        May::Operator(role) => match access.role {
            None => refused(
                "An operator's key belongs to no tenant; this endpoint needs the key of one.".to_owned(),
            ),
            Some(needed) if role >= needed => Ok(()),
            Some(needed) => {
                refused(format!("This endpoint needs the key of an {needed}; this one is an {role}'s."))
            }
        },
    }
}

/// Identifies, asks whether the key may do this, counts the request of a tenant, and lets a read wait for what the same
/// caller wrote and what its headers ask for. Requests to send are counted when they are read: only then it is known whether they are passwords, which
/// count apart. One that may not is never read.
async fn admit(parts: &mut Parts, state: &ApiState) -> Answer<Caller> {
    let Known { caller, may } = identify(parts, state).await?;
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let access = access::of(&parts.method, path);
    let permitted = permit(may, access, parts.extensions.get::<Side>().copied());
    let is_counted_later = parts.method == Method::POST && path == "/v1/sendings" && permitted.is_ok();
    if let Caller::Tenant(auth) = &caller
        && !is_counted_later
    {
        state.acceptance.count_request(&auth.tenant)?;
    }
    permitted?;
    if let Some(who) = parts.extensions.get::<WhoWrites>() {
        // A second extractor of the same request finds the same caller.
        let _ = who.set(caller.writer());
    }
    match access.model {
        Some(model) => state.freshness().wait_for(model, &caller.writer(), &parts.headers).await?,
        None if parts.method == Method::GET => state.know_what_is_asked_for(&parts.headers).await?,
        None => {}
    }
    Ok(caller)
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Answer<Self> {
        admit(parts, state).await
    }
}

impl FromRequestParts<ApiState> for TenantAuth {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Answer<Self> {
        match admit(parts, state).await? {
            Caller::Tenant(auth) => Ok(auth),
            Caller::Admin(_) => Err(Problem::new(
                Code::NotPermitted,
                "An operator's key belongs to no tenant; this endpoint needs the key of one.",
            )),
        }
    }
}

impl FromRequestParts<ApiState> for AdminAuth {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Answer<Self> {
        match admit(parts, state).await? {
            Caller::Admin(auth) => Ok(auth),
            Caller::Tenant(_) => {
                Err(Problem::new(Code::NotPermitted, "Only an operator's key may use this endpoint."))
            }
        }
    }
}

/// Whether the caller may see details of the process: it shows an operator's key, or comes by the listener for
/// administration. A bad key is counted as everywhere, but the request is not refused: whether the process is ready
/// must not depend on a key that a probe was given long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeesInside(pub(crate) bool);

impl FromRequestParts<ApiState> for SeesInside {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Infallible> {
        let side = parts.extensions.get::<Side>().copied();
        let has_key = parts.headers.contains_key(header::AUTHORIZATION);
        let is_operator =
            has_key && identify(parts, state).await.is_ok_and(|known| matches!(known.may, May::Operator(_)));
        Ok(Self(match side {
            Some(Side::Administration) => true,
            Some(Side::Public) => false,
            None => is_operator,
        }))
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
