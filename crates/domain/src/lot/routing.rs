//! First routes: which relay carries what, in exactly the weights asked for.
//!
//! Eligibility comes first, then the weights of the relays that are left, then the split, which keeps its position in
//! the sequence from lot to lot ([`SplitLedger`](super::SplitLedger)).

use smol_str::SmolStr;

use super::events::LeftOut;
use super::failover::RoutingContext;
use super::{LedgerAhead, Lot, MessagesRouted, RouteSet, SplitRecord};
use crate::address::PhoneKind;
use crate::mutation;
use crate::policy::RelayWeight;
use crate::relay::Ineligible;
use crate::seq_set::SeqSet;
use crate::slug::RelayId;
use crate::split::{SplitKey, WeightedRelays};
use crate::text::MessageType;

/// The policy that a split follows, for one set of eligible relays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInForce {
    /// Names policy, version and advice, such as `acme-sms-3`; part of what the carry is kept by.
    pub name: SmolStr,
    /// The policy version; 0: the tenant has none.
    pub version: u32,
    /// ratio, price, speed or recommended.
    pub objective: &'static str,
    /// Shares of the eligible relays; a relay that is missing has none.
    pub weights: Vec<RelayWeight>,
    /// Who is tried after the first, best first; eligible relays without a share may be among them.
    pub order: Vec<RelayId>,
}

/// No relay can take these messages now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingBlocked {
    /// On which channel.
    pub channel: MessageType,
    /// Why each relay was left out.
    pub left_out: Vec<LeftOut>,
}

impl RoutingBlocked {
    /// In words, for people.
    pub fn reason(&self) -> String {
        let reasons: Vec<String> =
            self.left_out.iter().map(|left| format!("{}: {}", left.relay, left.reason)).collect();
        match reasons.is_empty() {
            true => "there is no relay".to_owned(),
            false => reasons.join("; "),
        }
    }
}

/// The relays of a channel, divided by whether they may carry a message to this kind of number now.
fn eligible_relays(
    channel: MessageType,
    reach: Option<PhoneKind>,
    context: &RoutingContext<'_>,
) -> (Vec<RelayId>, Vec<LeftOut>) {
    let mut eligible = Vec::new();
    let mut left_out = Vec::new();
    for (relay, entry) in context.directory.iter() {
        if !entry.profile.channels.contains_key(&channel) {
            continue;
        }
        match context.directory.eligible(relay, channel, reach, context.registered(channel)) {
            Ok(_) => eligible.push(relay.clone()),
            Err(reason) => left_out.push(LeftOut { relay: relay.clone(), reason }),
        }
    }
    (eligible, left_out)
}

impl Lot {
    /// Routes every message that has no route yet. `policy` names the policy in force for a channel and a set of
    /// eligible relays. The first part of the result is the event to append, if anything could be routed; the second
    /// is what could not. The ledger behind `ledger` is not changed: fold the event once it is in the log.
    pub fn route(
        &self,
        ledger: &mut LedgerAhead<'_>,
        context: &RoutingContext<'_>,
        mut policy: impl FnMut(MessageType, &[RelayId]) -> PolicyInForce,
    ) -> (Option<MessagesRouted>, Vec<RoutingBlocked>) {
        let mut routed = MessagesRouted { routes: Vec::new(), splits: Vec::new() };
        let mut blocked = Vec::new();
        for (channel, reach, seqs) in self.unrouted_groups() {
            let (eligible, mut left_out) = eligible_relays(channel, reach, context);
            let in_force = policy(channel, &eligible);
            let shares: Vec<(RelayId, u32)> = in_force
                .weights
                .iter()
                .filter(|share| share.weight > 0 && eligible.contains(&share.relay))
                .map(|share| (share.relay.clone(), share.weight))
                .collect();
            left_out.extend(
                eligible
                    .iter()
                    .filter(|relay| !shares.iter().any(|(with_share, _)| with_share == *relay))
                    .map(|relay| LeftOut { relay: relay.clone(), reason: Ineligible::NoShare }),
            );
            let Ok(weights) = WeightedRelays::new(shares) else {
                blocked.push(RoutingBlocked { channel, left_out });
                continue;
            };
            let name = &in_force.name;
            mutation::bug!(SplitKeptByLot, let name = &format!("{name}-{}", self.id).into());
            let key = SmolStr::from(SplitKey::new(name, &weights).to_string());
            let mut carry = ledger.carry(&key, &weights);
            mutation::bug!(RoundingPerLot, carry = crate::split::Carry::new(&weights));
            let taken =
                carry.take(&weights, seqs.len()).expect("the carry was checked against these weights");
            ledger.record(key.clone(), carry.clone());
            routed.routes.extend(route_sets(channel, &seqs, &taken, &weights, &in_force, &eligible, context));
            routed.splits.push(SplitRecord {
                key,
                channel,
                version: in_force.version,
                objective: in_force.objective.into(),
                weights: weights
                    .entries()
                    .iter()
                    .map(|(relay, weight)| RelayWeight { relay: relay.clone(), weight: *weight })
                    .collect(),
                messages: seqs.len() as u32,
                carry,
                left_out,
            });
        }
        ((!routed.routes.is_empty()).then_some(routed), blocked)
    }

    fn unrouted_groups(&self) -> Vec<(MessageType, Option<PhoneKind>, Vec<u32>)> {
        let mut groups: Vec<(MessageType, Option<PhoneKind>, Vec<u32>)> = Vec::new();
        for (seq, message) in self.messages() {
            if message.outcome.is_some() || !message.attempts.is_empty() {
                continue;
            }
            let same = |group: &&mut (MessageType, Option<PhoneKind>, Vec<u32>)| {
                group.0 == message.message_type && group.1 == message.reach
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.2.push(seq),
                None => groups.push((message.message_type, message.reach, vec![seq])),
            }
        }
        groups
    }
}

fn route_sets(
    channel: MessageType,
    seqs: &[u32],
    taken: &[u16],
    weights: &WeightedRelays,
    in_force: &PolicyInForce,
    eligible: &[RelayId],
    context: &RoutingContext<'_>,
) -> Vec<RouteSet> {
    let mut sets: Vec<RouteSet> = Vec::with_capacity(weights.len());
    let mut place_of: Vec<Option<usize>> = vec![None; weights.len()];
    for (seq, index) in seqs.iter().zip(taken) {
        let index = usize::from(*index);
        let place = *place_of[index].get_or_insert_with(|| {
            let (relay, weight) = &weights.entries()[index];
            let terms = context.directory.get(relay).and_then(|entry| entry.profile.channels.get(&channel));
            sets.push(RouteSet {
                relay: relay.clone(),
                channel,
                attempt: 1,
                messages: SeqSet::default(),
                fallbacks: fallbacks(relay, in_force, eligible),
                price_milliwon: terms.map_or(0, |terms| terms.price_milliwon),
                bills: terms.map(|terms| terms.bills).unwrap_or_default(),
                reason: format!(
                    "{} {}: {} of {}",
                    in_force.objective,
                    in_force.name,
                    weight,
                    weights.weight_total()
                ),
            });
            sets.len() - 1
        });
        sets[place].messages.push(*seq);
    }
    sets
}

/// The others, in the policy's order; those it does not name come last, by id.
fn fallbacks(first: &RelayId, in_force: &PolicyInForce, eligible: &[RelayId]) -> Vec<RelayId> {
    let named = in_force.order.iter().filter(|relay| eligible.contains(relay));
    let others = eligible.iter().filter(|relay| !in_force.order.contains(relay));
    named.chain(others).filter(|relay| *relay != first).cloned().collect()
}
