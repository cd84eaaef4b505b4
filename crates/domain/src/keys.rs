//! What keys allow: the roles of operators, the scopes of tenants, expiry and allowed addresses.
//!
//! A key is 256 random bits behind a public id. It is shown once; only a hash of it is stored, which cannot be used
//! to call.

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};
use std::fmt;
use std::net::IpAddr;
use strum::{IntoStaticStr, VariantArray};

use crate::slug::OperatorName;

/// What an operator's key may do. Each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Look at everything, change nothing.
    Auditor,
    /// Run the platform: relays, tenants' limits, pauses, approvals. No keys.
    Operator,
    /// Everything, tenants and keys too.
    Administrator,
}

impl Role {
    /// As it is written.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// What a tenant's key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    /// Ask for sendings, and pause, resume and cancel them.
    Send,
    /// Look at what the tenant has: sendings, messages, figures, the address book.
    Read,
    /// Change what sendings depend on: address book, templates, senders, refusals, policies.
    Manage,
}

/// Some of the three scopes. The set needs no heap memory, because it is checked with each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(u8);

impl Scope {
    /// All of them, as they are listed.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// As it is written.
    pub fn word(self) -> &'static str {
        self.into()
    }

    fn bit(self) -> u8 {
        match self {
            Self::Send => 1,
            Self::Read => 2,
            Self::Manage => 4,
        }
    }
}

impl Scopes {
    /// Everything that a tenant may do. A key from before scopes existed has it.
    pub const ALL: Self = Self(7);

    /// Whether this is one of them.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in their order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(scopes: Vec<Scope>) -> Self {
        scopes.into_iter().collect()
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.iter().collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, scope) in self.iter().enumerate() {
            let before = if place == 0 { "" } else { ", " };
            write!(formatter, "{before}{}", scope.word())?;
        }
        Ok(())
    }
}

/// Until when a key is good, and from where. What is not set is not restricted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyBounds {
    /// Good before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Good from these networks; none: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_addresses: Vec<IpNet>,
}

/// Why a key that is genuine is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRefusal {
    /// Its time is over since then.
    Expired(DateTime<Utc>),
    /// It is not to be used from there.
    Address,
}

impl KeyBounds {
    /// Whether its time is over.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Whether the key is good now, from there.
    ///
    /// # Errors
    /// Why not. An expired key is expired wherever it comes from.
    pub fn check(&self, now: DateTime<Utc>, from: IpAddr) -> Result<(), KeyRefusal> {
        if let Some(expires_at) = self.expires_at.filter(|expires_at| *expires_at <= now) {
            return Err(KeyRefusal::Expired(expires_at));
        }
        let from = from.to_canonical();
        let is_allowed = self.allowed_addresses.is_empty()
            || self.allowed_addresses.iter().any(|network| canonical(*network).contains(&from));
        is_allowed.then_some(()).ok_or(KeyRefusal::Address)
    }
}

/// A text is neither an address nor a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no address and no network such as 10.0.0.0/8")]
pub struct NetworkError;

/// Reads a network such as `10.0.0.0/8`, or a single address.
///
/// # Errors
/// It is neither.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let single = || text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    let network = text.parse::<IpNet>().or_else(|_| single()).map_err(|_| NetworkError)?;
    Ok(canonical(network.trunc()))
}

/// A network of IPv4 addresses in IPv6 form (`::ffff:10.0.0.0/104`) is the IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    /// The prefix of such an address, which marks it as IPv4.
    const MAPPED_BITS: u8 = 96;
    let IpNet::V6(mapped) = network else { return network };
    let length = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let within = mapped.addr().to_ipv4_mapped().zip(length);
    within.and_then(|(address, length)| IpNet::new(address.into(), length).ok()).unwrap_or(network)
}

/// A key may speak for an operator. The key itself is shown once and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorKeyIssued {
    /// The public part, by which the key is found.
    pub key_id: SmolStr,
    /// Whose it is: a person, or a program. It is the actor in the log. Only one active key may have a name.
    pub name: OperatorName,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the whole key, hexadecimal.
    pub hash: String,
    /// Until when, and from where.
    #[serde(flatten)]
    pub bounds: KeyBounds,
}

/// The key may no longer speak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorKeyRevoked {
    /// Which one.
    pub key_id: SmolStr,
    /// Whose it was.
    pub name: OperatorName,
}

/// When a key was last used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// Which one: a tenant's, or an operator's.
    pub key_id: SmolStr,
    /// When.
    pub at: DateTime<Utc>,
}

/// Keys were used. Written seldom, and for many keys at once: for a key when it is used for the first time, and then
/// about once a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysUsed {
    /// Which, and when.
    pub uses: Vec<KeyUse>,
}

/// The stream of all operators' keys. One stream, so that two keys cannot get the same name.
pub const OPERATOR_KEYS_STREAM: &str = "operator-keys";
/// The stream of the uses of all keys.
pub const KEY_USES_STREAM: &str = "key-uses";

/// The actor's name of an operator with a key of its own.
pub fn operator_actor(name: &OperatorName) -> SmolStr {
    format_smolstr!("operator:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn from(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_role_may_what_those_below_it_may() {
        assert!(Role::Administrator > Role::Operator && Role::Operator > Role::Auditor);
    }

    #[test]
    fn scopes_are_a_set_and_are_written_in_their_order() {
        let scopes: Scopes = [Scope::Manage, Scope::Send, Scope::Manage].into_iter().collect();
        assert_eq!(serde_json::to_string(&scopes).unwrap(), r#"["send","manage"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(r#"["manage","send"]"#).unwrap(), scopes);
        assert_eq!(scopes.to_string(), "send, manage");
        assert!(!scopes.contains(Scope::Read) && Scope::ALL.iter().all(|scope| Scopes::ALL.contains(*scope)));
        assert!(Scopes::from(Vec::new()).is_empty());
    }

    #[test]
    fn a_key_without_bounds_is_good_for_ever_and_from_everywhere() {
        assert_eq!(KeyBounds::default().check(at(i64::from(i32::MAX)), from("2001:db8::1")), Ok(()));
    }

    #[test]
    fn a_key_is_good_until_the_moment_before_it_expires() {
        let bounds = KeyBounds { expires_at: Some(at(10)), ..KeyBounds::default() };
        assert_eq!(bounds.check(at(9), from("192.0.2.1")), Ok(()));
        assert_eq!(bounds.check(at(10), from("192.0.2.1")), Err(KeyRefusal::Expired(at(10))));
    }

    #[test]
    fn a_key_is_good_from_its_networks_only_however_the_address_is_written() {
        let allowed_addresses =
            ["192.0.2.7", "10.1.2.3/8", "2001:db8::/32"].map(|text| parse_network(text).unwrap()).to_vec();
        let bounds = KeyBounds { allowed_addresses, ..KeyBounds::default() };
        for good in ["192.0.2.7", "::ffff:192.0.2.7", "10.255.0.1", "2001:db8:1::5"] {
            assert_eq!(bounds.check(at(0), from(good)), Ok(()), "{good}");
        }
        for other in ["192.0.2.8", "11.0.0.1", "2001:db9::1"] {
            assert_eq!(bounds.check(at(0), from(other)), Err(KeyRefusal::Address), "{other}");
        }
    }

    #[test]
    fn a_network_is_kept_without_what_is_beyond_its_length() {
        assert_eq!(parse_network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_network("::ffff:10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(parse_network("::ffff:10.1.2.3/104").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_network("::/64").unwrap().to_string(), "::/64");
        let of_before = KeyBounds {
            allowed_addresses: vec!["::ffff:10.0.0.0/104".parse().unwrap()],
            ..KeyBounds::default()
        };
        assert_eq!(of_before.check(at(0), from("10.9.9.9")), Ok(()));
        assert_eq!(of_before.check(at(0), from("11.9.9.9")), Err(KeyRefusal::Address));
        for wrong in ["", "10.0.0", "10.0.0.0/33", "relay.example"] {
            assert_eq!(parse_network(wrong), Err(NetworkError), "{wrong}");
        }
    }

    #[test]
    fn the_time_of_a_key_is_over_from_the_moment_it_expires_and_never_without_one() {
        let bounds = KeyBounds { expires_at: Some(at(10)), ..KeyBounds::default() };
        assert_eq!([9, 10, 11].map(|second| bounds.is_over(at(second))), [false, true, true]);
        assert!(!KeyBounds::default().is_over(at(i64::from(i32::MAX))));
    }
}
