//! What the read model knows, as its queries answer.

use chrono::{DateTime, Utc};
use kite_domain::lot::LeftOut;
use kite_domain::policy::{FailoverTerms, PolicyObjective, RelayWeight};
use kite_domain::relay::{BreakerPhase, RelayProfile, RelayUnattended};
use kite_domain::slug::RelayId;
use kite_domain::split::Carry;
use kite_domain::text::Channel;
use serde::Serialize;
use smol_str::SmolStr;

/// A relay as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnownRelay {
    /// Its terms; the credentials are empty, because they are not kept here.
    pub profile: RelayProfile,
    /// Why an operator took it out of use, if one did.
    pub suspended: Option<String>,
    /// Why nobody works for it, if nobody does.
    pub unattended: Option<RelayUnattended>,
    /// Where its breaker stands.
    pub breaker: BreakerPhase,
    /// Why, if it ever changed.
    pub breaker_reason: Option<String>,
    /// Since when.
    pub breaker_since: Option<DateTime<Utc>>,
    /// When tripped: not to be probed before.
    pub breaker_until: Option<DateTime<Utc>>,
    /// When its terms were last set.
    pub defined_at: DateTime<Utc>,
}

/// One version of a policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnownPolicy {
    /// For which channel.
    pub channel: Channel,
    /// Counts up from 1.
    pub version: u32,
    /// What the split aims at.
    pub objective: PolicyObjective,
    /// What happens on failure.
    pub failover: FailoverTerms,
    /// Since when.
    pub defined_at: DateTime<Utc>,
    /// Who set it.
    pub actor: SmolStr,
    /// The newest advice for this version.
    pub advice: Option<KnownAdvice>,
}

/// Weights that were advised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnownAdvice {
    /// The policy version that it follows.
    pub version: u32,
    /// Counts up from 1 within the channel.
    pub advice: u32,
    /// The shares.
    pub weights: Vec<RelayWeight>,
    /// Who is tried after the first.
    pub order: Vec<RelayId>,
    /// Why, in words with figures.
    pub reasons: Vec<String>,
    /// When.
    pub advised_at: DateTime<Utc>,
}

/// A split: what was planned, and what was routed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnownSplit {
    /// Policy, version, relays and weights.
    pub key: SmolStr,
    /// The channel.
    pub channel: Channel,
    /// The policy version; 0: the tenant has none.
    pub version: u32,
    /// ratio, price, speed or recommended.
    pub objective: SmolStr,
    /// First routes made.
    pub messages: u64,
    /// Where it continues.
    pub carry: Carry,
    /// When it last made a route.
    pub updated_at: DateTime<Utc>,
    /// Who was left out then, and why.
    pub left_out: Vec<LeftOut>,
    /// By relay.
    pub relays: Vec<SplitShare>,
}

/// A relay's part of a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitShare {
    /// Which relay.
    pub relay: RelayId,
    /// Its weight.
    pub weight: u32,
    /// Its share of the messages so far.
    pub planned: f64,
    /// What it got: within one message of that.
    pub routed: u64,
}
