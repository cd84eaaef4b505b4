//! Law 3 by its own arithmetic: after every first route, each relay's share is within one message of its target.
//!
//! Weights come from the policy as the tenant defined it, the set of eligible relays from the relays that were left
//! out, the order from the log and, within a lot, from the sequence numbers. The router's own carry is ignored, and
//! that a relay was left out is believed only if its breaker is tripped in the log.

use std::collections::{BTreeMap, HashMap};

use super::Checked;
use super::log::{Channel, MessagesRouted, PolicyDefined, Split};
use super::relays::Relays;

/// A policy version of a tenant's channel.
type PolicyName = (String, String, u32);

/// Who asks for a split, and when.
pub(super) struct Asked<'a> {
    pub(super) tenant: &'a str,
    pub(super) at_ms: i64,
    pub(super) relays: &'a Relays,
}

/// All splits of a log.
#[derive(Default)]
pub(super) struct Splits {
    policies: HashMap<PolicyName, BTreeMap<String, u64>>,
    counts: BTreeMap<SplitKey, Count>,
    /// First routes while a relay that has a share was left out.
    pub(super) with_left_out: u64,
}

/// A policy version and a set of eligible relays.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SplitKey {
    tenant: String,
    channel: String,
    version: u32,
    eligible: Vec<String>,
}

/// First routes of a split so far.
struct Count {
    weights: Vec<u64>,
    routed: Vec<u64>,
    messages: u64,
    /// How far a relay ever was from its target, in messages times the sum of the weights.
    off_max: u64,
}

/// How well a split was kept.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SplitKept {
    /// Tenant, channel, policy version and eligible relays.
    pub split: String,
    /// First routes.
    pub messages: u64,
    /// The greatest distance of a relay from its target after any of them, in messages. Law 3: below 1.
    pub off_max: f64,
    /// Whether it was below 1, told without rounding.
    pub is_exact: bool,
}

impl Splits {
    pub(super) fn define(&mut self, policy: PolicyDefined) {
        // Weights that follow live figures are not the tenant's own: a split under them is not found, and reported.
        if policy.objective != "ratio" {
            return;
        }
        let weights = policy.weights.into_iter().filter(|share| share.weight > 0);
        let weights = weights.map(|share| (share.relay, share.weight)).collect();
        self.policies.insert((policy.tenant, policy.channel, policy.version), weights);
    }

    /// Counts the first routes of an event.
    ///
    /// # Errors
    /// In words: what does not fit together in it.
    pub(super) fn routed(&mut self, asked: &Asked<'_>, event: &MessagesRouted) -> Checked {
        for (place, split) in event.splits.iter().enumerate() {
            if event.splits[..place].iter().any(|earlier| earlier.channel == split.channel) {
                return Err(format!(
                    "two splits of {:?} in one event: their routes cannot be told apart",
                    split.channel
                ));
            }
            self.count(asked, split, event)?;
        }
        let split: u64 = event.splits.iter().map(|split| split.messages).sum();
        let first = event.routes.iter().filter(|route| route.attempt == 1);
        let first: u64 = first.map(|route| route.messages.iter().count() as u64).sum();
        if split == first { Ok(()) } else { Err(format!("{first} first routes, and {split} of them split")) }
    }

    fn count(&mut self, asked: &Asked<'_>, split: &Split, event: &MessagesRouted) -> Checked {
        let tenant = asked.tenant;
        let name = (tenant.to_owned(), word(split.channel).to_owned(), split.version);
        let Some(policy) = self.policies.get(&name) else {
            return Err(format!("{tenant} has no ratio policy {} for {}", split.version, name.1));
        };
        let mut shares: Vec<(&String, u64)> = Vec::with_capacity(policy.len());
        for (relay, weight) in policy {
            match split.left_out.iter().find(|left| left.relay == *relay) {
                None => shares.push((relay, *weight)),
                Some(left) if left.reason == "breaker_tripped" => {
                    if !asked.relays.is_tripped(relay, asked.at_ms) {
                        return Err(format!("{relay} is left out as tripped, and its breaker was not"));
                    }
                }
                Some(left) => return Err(format!("{relay} is left out: {}", left.reason)),
            }
        }
        let mut routes: Vec<(u32, usize)> = Vec::new();
        for route in event.routes.iter().filter(|route| route.attempt == 1 && route.channel == split.channel)
        {
            let place = shares.iter().position(|(relay, _)| **relay == route.relay);
            let place = place.ok_or_else(|| format!("{} has no share in {name:?} here", route.relay))?;
            routes.extend(route.messages.iter().map(|seq| (seq, place)));
        }
        routes.sort_unstable();
        if routes.len() as u64 != split.messages {
            return Err(format!("a split of {} messages has {} first routes", split.messages, routes.len()));
        }
        if shares.len() < policy.len() {
            self.with_left_out += split.messages;
        }
        let key = SplitKey {
            tenant: name.0,
            channel: name.1,
            version: name.2,
            eligible: shares.iter().map(|(relay, _)| (*relay).clone()).collect(),
        };
        let weights: Vec<u64> = shares.iter().map(|(_, weight)| *weight).collect();
        let count = self.counts.entry(key).or_insert_with(|| Count {
            routed: vec![0; weights.len()],
            weights,
            messages: 0,
            off_max: 0,
        });
        routes.into_iter().for_each(|(_, place)| count.add(place));
        Ok(())
    }

    pub(super) fn kept(&self) -> Vec<SplitKept> {
        let kept = |(key, count): (&SplitKey, &Count)| SplitKept {
            split: format!("{}-{}-{} over {}", key.tenant, key.channel, key.version, key.eligible.join(", ")),
            messages: count.messages,
            off_max: count.off_max as f64 / count.weight_total() as f64,
            is_exact: count.off_max < count.weight_total(),
        };
        self.counts.iter().map(kept).collect()
    }
}

impl Count {
    fn weight_total(&self) -> u64 {
        self.weights.iter().sum()
    }

    fn add(&mut self, place: usize) {
        self.messages += 1;
        self.routed[place] += 1;
        let total = self.weight_total();
        for (routed, weight) in self.routed.iter().zip(&self.weights) {
            self.off_max = self.off_max.max((routed * total).abs_diff(self.messages * weight));
        }
    }
}

/// The word for it, as policies name it.
fn word(channel: Channel) -> &'static str {
    match channel {
        Channel::Sms => "sms",
        Channel::Lms => "lms",
        Channel::Mms => "mms",
        Channel::Email => "email",
        Channel::Alimtalk => "alimtalk",
    }
}
