//! Law 3: after n first routes |routed(relay) − n × weight| < 1, for every policy version and set of eligible relays.
//!
//! The counts are kept by the terms of the law, never by the key under which the platform keeps its carry.

use chrono::{DateTime, Utc};
use kite_domain::lot::{MessagesRouted, RouteSet, SplitRecord};
use kite_domain::relay::Ineligible;
use kite_domain::sending::SendingAccepted;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::split::Carry;
use kite_domain::text::Channel;
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::relays::Carriage;
use super::{Checked, Checker, Told};

/// What a split is: shares of relays, under a version of a policy and an advice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Split {
    tenant: TenantId,
    channel: Channel,
    version: u32,
    advice: Option<u32>,
    weights: Vec<(RelayId, u32)>,
}

/// How often each relay was routed to first, in the order of the weights.
#[derive(Debug)]
struct Count {
    key: SmolStr,
    routed: u64,
    by_relay: Vec<u64>,
}

/// All splits.
#[derive(Debug, Default)]
pub(super) struct Splits(BTreeMap<Split, Count>);

impl Checker {
    /// First routes, message by message in the order of their numbers.
    pub(super) fn split(
        &mut self,
        routed: &MessagesRouted,
        told: &Told<'_>,
        terms: &SendingAccepted,
    ) -> Checked {
        let mut routes = routed.routes.iter().filter(|route| route.attempt == 1).peekable();
        for record in &routed.splits {
            let split = self.recorded_split(record, told.time(), terms)?;
            let mut order: BTreeMap<u32, &RelayId> = BTreeMap::new();
            while let Some(route) = routes
                .next_if(|route| order.len() < record.messages as usize && route.channel == record.channel)
            {
                self.stands_by(record, route)?;
                order.extend(route.messages.iter().map(|seq| (seq, &route.relay)));
            }
            if order.len() != record.messages as usize {
                return Err(format!("law 3: a split of {} routed {}", record.messages, order.len()));
            }
            let first = order.keys().next().copied().unwrap_or_default();
            let reach = self.message_at(told, first)?.reach;
            self.left_out(record, Carriage { terms, channel: record.channel, reach }, told.time())?;
            self.splits.count(split, record, order.into_values())?;
        }
        match routes.next() {
            Some(route) => Err(format!("law 3: a first route to {} outside of any split", route.relay)),
            None => Ok(()),
        }
    }

    /// The key says what it is kept by, and the weights are those that are in force.
    fn recorded_split(
        &self,
        record: &SplitRecord,
        at: DateTime<Utc>,
        terms: &SendingAccepted,
    ) -> Checked<Split> {
        let (tenant, channel, version) = (&terms.tenant, record.channel, record.version);
        let listed: Vec<String> =
            record.weights.iter().map(|entry| format!("{}:{}", entry.relay, entry.weight)).collect();
        let policy = format!("{tenant}-{channel}-{version}");
        let suffix = record.key.strip_suffix(&format!("|{}", listed.join(",")));
        let suffix = suffix.and_then(|name| name.strip_prefix(policy.as_str()));
        let advice = suffix.and_then(|suffix| match suffix.strip_prefix('-') {
            Some(number) => number.parse().ok().map(Some),
            None => suffix.is_empty().then_some(None),
        });
        let Some(advice) = advice else {
            return Err(format!("law 3: the key {} is not that of {policy} over {listed:?}", record.key));
        };
        let followed = (version, record.objective.as_str());
        let shares = self
            .policies
            .shares((tenant, channel), followed, advice, &record.weights, at)
            .map_err(|what| format!("law 3: {what} ({})", record.key))?;
        for entry in &record.weights {
            if entry.weight == 0 || entry.weight != shares.of(&entry.relay, record.weights.len()) {
                return Err(format!("law 3: {entry:?} is not the share in force ({})", record.key));
            }
        }
        for left in record.left_out.iter().filter(|left| left.reason == Ineligible::NoShare) {
            if shares.of(&left.relay, record.weights.len()) > 0 {
                return Err(format!("law 3: {} has a share ({})", left.relay, record.key));
            }
        }
        let weights: Vec<_> =
            record.weights.iter().map(|entry| (entry.relay.clone(), entry.weight)).collect();
        if !weights.is_sorted_by(|left, right| left.0 < right.0) {
            return Err(format!("law 3: {} names its relays in no order", record.key));
        }
        Ok(Split { tenant: tenant.clone(), channel, version, advice, weights })
    }

    /// Every relay that offers the channel is used, or is left out for a reason that holds.
    fn left_out(&self, record: &SplitRecord, carriage: Carriage<'_>, at: DateTime<Utc>) -> Checked {
        for entry in &record.weights {
            self.may_carry(&entry.relay, carriage, at)?;
        }
        for (relay, state) in &self.relays {
            let is_used = record.weights.iter().any(|entry| &entry.relay == relay);
            let reasons: Vec<Ineligible> =
                record.left_out.iter().filter(|left| &left.relay == relay).map(|left| left.reason).collect();
            match (is_used, reasons.as_slice()) {
                (true, []) => {}
                (false, []) if !state.offers(record.channel) => {}
                (false, [Ineligible::NoShare]) => self.may_carry(relay, carriage, at)?,
                (false, [reason]) if self.may_be_left_out(relay, *reason, carriage, at) => {}
                _ => return Err(format!("law 3: {relay} is used: {is_used}, left out: {reasons:?}")),
            }
        }
        Ok(())
    }

    /// After the first relay come all the others that can carry it, each once.
    fn stands_by(&self, record: &SplitRecord, route: &RouteSet) -> Checked {
        let idle = record.left_out.iter().filter(|left| left.reason == Ineligible::NoShare);
        let able = record.weights.iter().map(|entry| &entry.relay).chain(idle.map(|left| &left.relay));
        let others: BTreeSet<&RelayId> = able.filter(|relay| **relay != route.relay).collect();
        let named: BTreeSet<&RelayId> = route.fallbacks.iter().collect();
        if named != others || named.len() != route.fallbacks.len() {
            return Err(format!("after {} come {:?}, not {others:?}", route.relay, route.fallbacks));
        }
        Ok(())
    }
}

impl Splits {
    fn count<'r>(
        &mut self,
        split: Split,
        record: &SplitRecord,
        relays: impl Iterator<Item = &'r RelayId>,
    ) -> Checked {
        let weights = split.weights.clone();
        let start = || Count { key: record.key.clone(), routed: 0, by_relay: vec![0; weights.len()] };
        let count = self.0.entry(split).or_insert_with(start);
        let total: u64 = weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
        for relay in relays {
            let Some(place) = weights.iter().position(|(with_share, _)| with_share == relay) else {
                return Err(format!("law 3: {relay} has no share in {}", record.key));
            };
            count.routed += 1;
            count.by_relay[place] += 1;
            let is_due = |((_, weight), got): (&(RelayId, u32), &u64)| {
                (got * total).abs_diff(count.routed * u64::from(*weight)) < total
            };
            if !weights.iter().zip(&count.by_relay).all(is_due) {
                return Err(count.diagnosis(&weights, total));
            }
        }
        let (slot, places) = count.carry(&weights, total);
        if record.carry.slot() != slot || record.carry.routed() != places {
            return Err(format!("law 3: the carry {:?} is not {slot}, {places:?}", record.carry));
        }
        Ok(())
    }

    /// What the router continues with after a restart is what the log comes to.
    pub(super) fn carries_agree(&self, carries: &BTreeMap<SmolStr, Carry>) -> Checked {
        for (split, count) in &self.0 {
            let total = split.weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
            let (slot, places) = count.carry(&split.weights, total);
            match carries.get(&count.key) {
                Some(carry) if carry.slot() == slot && carry.routed() == places => {}
                carry => {
                    let key = &count.key;
                    return Err(format!("law 3: {key} is kept as {carry:?} and is {slot}, {places:?}"));
                }
            }
        }
        Ok(())
    }
}

impl Count {
    /// The place in the sequence, which repeats once every relay has exactly its share.
    fn carry(&self, weights: &[(RelayId, u32)], total: u64) -> (u64, Vec<u64>) {
        let divisor =
            weights.iter().fold(0, |divisor, (_, weight)| common_divisor(divisor, (*weight).into()));
        let periods = self.routed / (total / divisor);
        let rest = |((_, weight), got): (&(RelayId, u32), &u64)| got - periods * u64::from(*weight) / divisor;
        (self.routed % (total / divisor), weights.iter().zip(&self.by_relay).map(rest).collect())
    }

    fn diagnosis(&self, weights: &[(RelayId, u32)], total: u64) -> String {
        let mut words = format!("law 3: after {} first routes of {}:", self.routed, self.key);
        for ((relay, weight), got) in weights.iter().zip(&self.by_relay) {
            let due = (self.routed * u64::from(*weight)) as f64 / total as f64;
            let _ = write!(words, " {relay} got {got} of {due:.3},");
        }
        words
    }
}

fn common_divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}
