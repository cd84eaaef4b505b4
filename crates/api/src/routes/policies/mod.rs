//! Policies: how a tenant wants the messages of a channel split over the relays, and what happens when one fails.

pub mod define;
pub mod get;
pub mod list;
pub mod versions;

use chrono::{DateTime, Utc};
use kite_domain::policy::{FailoverTerms, PolicyObjective, RelayWeight};
use kite_domain::slug::RelayId;
use kite_domain::text::Channel;
use kite_projections::{KnownAdvice, KnownPolicy};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::{Answer, Problem};
use crate::vocabulary::ChannelWord;

/// What the split aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveWord {
    /// Exactly the shares that are given.
    Ratio,
    /// The least expected cost of a delivered message.
    Price,
    /// The shortest measured time to delivery.
    Speed,
    /// Success, price and speed weighed together.
    Recommended,
}

/// A relay and its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightView {
    /// The relay.
    #[schema(example = "alpha")]
    pub relay: String,
    /// Its share in hundredths of a per cent: 5000 is one half. All shares sum to 10000.
    #[schema(example = 5000)]
    pub weight: u32,
}

impl From<&RelayWeight> for WeightView {
    fn from(weight: &RelayWeight) -> Self {
        Self { relay: weight.relay.to_string(), weight: weight.weight }
    }
}

/// What happens when a relay or a channel fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FailoverBody {
    /// Try another relay of the same channel where the failure allows it.
    #[schema(default = true)]
    pub relays: bool,
    /// Try e-mail after the relays, where the recipient has an address.
    pub email: bool,
    /// Let e-mail follow a temporary failure of the handset too.
    pub email_after_temporary: bool,
    /// Fail over when it is not known whether the message was accepted. Risks a second delivery.
    pub at_least_once: bool,
    /// How long to wait for a receipt before the outcome counts as unknown, in seconds; none: as long as the relay says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2_592_000)]
    pub wait_seconds: Option<u32>,
    /// How long a relay is tried again with a message that it refuses for now (greylisting, a full mailbox), in seconds from
    /// the first such refusal; none: as long as the message lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_seconds: Option<u32>,
    /// The most attempts at one message, the first included.
    #[schema(default = 4, minimum = 1, maximum = 20)]
    pub attempts_max: u16,
}

impl Default for FailoverBody {
    fn default() -> Self {
        FailoverTerms::default().into()
    }
}

impl From<FailoverTerms> for FailoverBody {
    fn from(terms: FailoverTerms) -> Self {
        Self {
            relays: terms.relays,
            email: terms.email,
            email_after_temporary: terms.email_after_temporary,
            at_least_once: terms.at_least_once,
            wait_seconds: terms.wait_s,
            retry_seconds: terms.retry_s,
            attempts_max: terms.attempts_max,
        }
    }
}

impl From<FailoverBody> for FailoverTerms {
    fn from(body: FailoverBody) -> Self {
        Self {
            relays: body.relays,
            email: body.email,
            email_after_temporary: body.email_after_temporary,
            at_least_once: body.at_least_once,
            wait_s: body.wait_seconds,
            retry_s: body.retry_seconds,
            attempts_max: body.attempts_max,
        }
    }
}

/// Weights that an objective led to, from live figures.
#[derive(Debug, Serialize, ToSchema)]
pub struct WeightsAdvisedView {
    /// Counts up within the channel.
    pub advice: u32,
    /// The weights.
    pub weights: Vec<WeightView>,
    /// Who is tried after whom.
    #[schema(value_type = Vec<String>)]
    pub order: Vec<RelayId>,
    /// Why, with figures.
    pub reasons: Vec<String>,
    /// Since when.
    pub advised_at: DateTime<Utc>,
}

impl From<KnownAdvice> for WeightsAdvisedView {
    fn from(advice: KnownAdvice) -> Self {
        Self {
            advice: advice.advice,
            weights: advice.weights.iter().map(Into::into).collect(),
            order: advice.order,
            reasons: advice.reasons,
            advised_at: advice.advised_at,
        }
    }
}

/// A version of a policy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policy)]
pub struct PolicyVersion {
    /// For which channel.
    pub channel: ChannelWord,
    /// Counts up from 1.
    pub version: u32,
    /// What the split aims at.
    pub objective: ObjectiveWord,
    /// The shares, for `ratio`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<WeightView>,
    /// What happens on failure.
    pub failover: FailoverBody,
    /// Since when.
    pub defined_at: DateTime<Utc>,
    /// By whom.
    #[schema(example = "key:0197c0de")]
    pub actor: String,
    /// The newest weights from live figures, for objectives other than `ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<WeightsAdvisedView>,
}

impl From<KnownPolicy> for PolicyVersion {
    fn from(policy: KnownPolicy) -> Self {
        let (objective, weights) = in_words(&policy.objective);
        Self {
            channel: policy.channel.into(),
            version: policy.version,
            objective,
            weights,
            failover: policy.failover.into(),
            defined_at: policy.defined_at,
            actor: policy.actor.to_string(),
            advice: policy.advice.map(Into::into),
        }
    }
}

/// An objective in the words of the API.
pub(super) fn in_words(objective: &PolicyObjective) -> (ObjectiveWord, Vec<WeightView>) {
    match objective {
        PolicyObjective::Ratio { weights } => {
            (ObjectiveWord::Ratio, weights.iter().map(Into::into).collect())
        }
        PolicyObjective::Price => (ObjectiveWord::Price, Vec::new()),
        PolicyObjective::Speed => (ObjectiveWord::Speed, Vec::new()),
        PolicyObjective::Recommended => (ObjectiveWord::Recommended, Vec::new()),
    }
}

fn channel_of(word: &str) -> Answer<Channel> {
    word.parse().map_err(|_| Problem::not_found("channel"))
}
