//! Law 3: after n first routes |routed(relay) − n × weight| < 1, for every policy version and set of eligible relays.

use kite_domain::lot::{MessagesRouted, SplitRecord};
use kite_domain::policy::{PolicyDefined, PolicyObjective};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::Checked;

/// How often each relay was routed to first, by split.
#[derive(Debug, Default)]
pub(crate) struct Splits {
    counts: BTreeMap<String, (u64, BTreeMap<RelayId, u64>)>,
    policies: BTreeMap<(TenantId, Channel), Vec<PolicyDefined>>,
}

impl Splits {
    pub(crate) fn policy(&mut self, defined: &PolicyDefined) -> Checked {
        let versions = self.policies.entry((defined.tenant.clone(), defined.channel)).or_default();
        if defined.version as usize != versions.len() + 1 {
            return Err(format!("policy version {} follows {}", defined.version, versions.len()));
        }
        versions.push(defined.clone());
        Ok(())
    }

    /// First routes, message by message in the order of their numbers.
    pub(crate) fn routed(&mut self, tenant: &TenantId, routed: &MessagesRouted) -> Checked {
        let mut routes = routed.routes.iter().filter(|route| route.attempt == 1).peekable();
        for split in &routed.splits {
            self.fits_policy(tenant, split)?;
            let mut order: BTreeMap<u32, &RelayId> = BTreeMap::new();
            while let Some(route) = routes
                .next_if(|route| order.len() < split.messages as usize && route.channel == split.channel)
            {
                order.extend(route.messages.iter().map(|seq| (seq, &route.relay)));
            }
            if order.len() != split.messages as usize {
                return Err(format!("law 3: a split of {} routed {}", split.messages, order.len()));
            }
            for relay in order.into_values() {
                self.count(split, relay)?;
            }
        }
        match routes.next() {
            Some(route) => Err(format!("law 3: a first route to {} outside of any split", route.relay)),
            None => Ok(()),
        }
    }

    fn count(&mut self, split: &SplitRecord, relay: &RelayId) -> Checked {
        let (routed, by_relay) = self.counts.entry(split.key.to_string()).or_default();
        *routed += 1;
        *by_relay.entry(relay.clone()).or_default() += 1;
        let total: u64 = split.weights.iter().map(|entry| u64::from(entry.weight)).sum();
        if !split.weights.iter().any(|entry| &entry.relay == relay) {
            return Err(format!("law 3: {relay} has no share in {}", split.key));
        }
        for entry in &split.weights {
            let got = by_relay.get(&entry.relay).copied().unwrap_or(0) * total;
            let due = *routed * u64::from(entry.weight);
            if got.abs_diff(due) >= total {
                let mut diagnosis = format!("law 3: after {routed} first routes of {}:", split.key);
                for entry in &split.weights {
                    let got = by_relay.get(&entry.relay).copied().unwrap_or(0);
                    let due = (*routed * u64::from(entry.weight)) as f64 / total as f64;
                    let _ = write!(diagnosis, " {} got {got} of {due:.3},", entry.relay);
                }
                return Err(diagnosis);
            }
        }
        Ok(())
    }

    /// The key says what it is kept by, and the weights are those of the policy.
    fn fits_policy(&self, tenant: &TenantId, split: &SplitRecord) -> Checked {
        let weights: Vec<String> =
            split.weights.iter().map(|entry| format!("{}:{}", entry.relay, entry.weight)).collect();
        let Some((name, listed)) = split.key.split_once('|') else {
            return Err(format!("law 3: {} is no key", split.key));
        };
        let expected = format!("{tenant}-{}-{}", split.channel, split.version);
        let is_named = name == expected || name.starts_with(&format!("{expected}-"));
        if !is_named || listed != weights.join(",") {
            return Err(format!("law 3: the key {} is not that of {expected} over {weights:?}", split.key));
        }
        if split.version == 0 {
            return Ok(());
        }
        let versions = self.policies.get(&(tenant.clone(), split.channel));
        let policy = versions.and_then(|versions| versions.get(split.version as usize - 1));
        let Some(policy) = policy else {
            return Err(format!("law 3: there is no policy version {} of {tenant}", split.version));
        };
        if policy.objective.word() != split.objective {
            return Err(format!("law 3: version {} is not by {}", split.version, split.objective));
        }
        if let PolicyObjective::Ratio { weights } = &policy.objective {
            for entry in &split.weights {
                if !weights.contains(entry) {
                    return Err(format!("law 3: {entry:?} is not in policy version {}", split.version));
                }
            }
            for weight in weights.iter().filter(|weight| weight.weight > 0) {
                let is_used = split.weights.contains(weight);
                let is_left_out = split.left_out.iter().any(|left| left.relay == weight.relay);
                if !is_used && !is_left_out {
                    return Err(format!("law 3: {} is neither used nor left out for a reason", weight.relay));
                }
            }
        }
        Ok(())
    }
}
