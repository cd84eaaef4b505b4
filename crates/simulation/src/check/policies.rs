//! Policies and advice by the log, and which of them may be followed at a time.

use chrono::{DateTime, Utc};
use kite_domain::policy::{PolicyDefined, PolicyObjective, RelayWeight, WEIGHT_SUM, WeightsAdvised};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use std::collections::BTreeMap;

use super::Checked;
use super::noted::{Noted, notice};

/// The policy of a tenant for a channel.
#[derive(Debug, Default)]
pub(super) struct Policy {
    versions: Vec<PolicyDefined>,
    /// The newest version; 0: there is none.
    newest: Noted<u32>,
    advice: Vec<(WeightsAdvised, DateTime<Utc>)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Policies(BTreeMap<(TenantId, Channel), Policy>);

/// What the shares of a split must be.
pub(super) enum Shares<'p> {
    /// Those of the policy or of an advice, as far as the relays are eligible.
    Of(&'p [RelayWeight]),
    /// The same for all.
    Even,
}

impl Shares<'_> {
    /// The share of a relay where `relays` are eligible.
    pub(super) fn of(&self, relay: &RelayId, relays: usize) -> u32 {
        match self {
            Self::Of(weights) => {
                weights.iter().find(|entry| &entry.relay == relay).map_or(0, |entry| entry.weight)
            }
            Self::Even => WEIGHT_SUM / (relays as u32).max(1),
        }
    }
}

impl Policies {
    pub(super) fn defined(&mut self, defined: &PolicyDefined, at: DateTime<Utc>) -> Checked {
        let policy = self.0.entry((defined.tenant.clone(), defined.channel)).or_default();
        if defined.version as usize != policy.versions.len() + 1 {
            return Err(format!("policy version {} follows {}", defined.version, policy.versions.len()));
        }
        policy.versions.push(defined.clone());
        policy.newest.set(defined.version, at);
        Ok(())
    }

    /// Advice counts up, follows the newest version, and gives everything away, to nobody twice.
    pub(super) fn advised(&mut self, advised: &WeightsAdvised, at: DateTime<Utc>) -> Checked {
        let policy = self.0.entry((advised.tenant.clone(), advised.channel)).or_default();
        if advised.advice as usize != policy.advice.len() + 1 || advised.version != *policy.newest.now() {
            let (known, version) = (policy.advice.len(), policy.newest.now());
            return Err(format!(
                "advice {} for version {} follows {known} for {version}",
                advised.advice, advised.version
            ));
        }
        let by_relay: BTreeMap<_, _> =
            advised.weights.iter().map(|entry| (&entry.relay, entry.weight)).collect();
        if by_relay.len() != advised.weights.len() || by_relay.values().sum::<u32>() != WEIGHT_SUM {
            return Err(format!("these are no weights: {:?}", advised.weights));
        }
        policy.advice.push((advised.clone(), at));
        Ok(())
    }

    /// Every policy version's failover terms for a tenant.
    pub(super) fn of_tenant(&self, tenant: &TenantId) -> impl Iterator<Item = &PolicyDefined> {
        let of_tenant = self.0.iter().filter(move |((whose, _), _)| whose == tenant);
        of_tenant.flat_map(|(_, policy)| &policy.versions)
    }

    /// Whether a relay has a share by what everybody must know, where it is eligible.
    pub(super) fn has_share(
        &self,
        tenant: &TenantId,
        channel: Channel,
        relay: &RelayId,
        at: DateTime<Utc>,
    ) -> bool {
        let Some(policy) = self.0.get(&(tenant.clone(), channel)) else { return true };
        if !policy.newest.must(at, |version| version == policy.newest.now()) {
            return false;
        }
        match policy.versions.last().map(|defined| &defined.objective) {
            Some(PolicyObjective::Ratio { weights }) => Shares::Of(weights).of(relay, 0) > 0,
            // Where nobody with a share is eligible, all get the same.
            _ => policy.newest_advice().is_none_or(|(advised, known_at)| {
                *known_at + notice() < at && Shares::Of(&advised.weights).of(relay, 0) > 0
            }),
        }
    }

    /// The shares under the name that a split is kept by, which is what follows tenant and channel: the version, and
    /// the advice where there is any. `used` are the relays that it goes over.
    pub(super) fn shares(
        &self,
        (tenant, channel): (&TenantId, Channel),
        (version, objective): (u32, &str),
        advice: Option<u32>,
        used: &[RelayWeight],
        at: DateTime<Utc>,
    ) -> Checked<Shares<'_>> {
        let none = Policy::default();
        let known = self.0.get(&(tenant.clone(), channel));
        if !known.unwrap_or(&none).newest.may(at, |newest| *newest == version) {
            return Err(format!("version {version} of {tenant} for {channel} is not in force"));
        }
        let defined = known.and_then(|policy| policy.versions.get((version as usize).checked_sub(1)?));
        let word = defined.map_or("recommended", |defined| defined.objective.word());
        if word != objective {
            return Err(format!("version {version} of {tenant} for {channel} is by {word}"));
        }
        match (defined.map(|defined| &defined.objective), advice) {
            (Some(PolicyObjective::Ratio { weights }), None) => Ok(Shares::Of(weights)),
            (Some(PolicyObjective::Ratio { .. }), Some(_)) => Err("a ratio takes no advice".to_owned()),
            (_, None) => Err(format!("it is not said by which advice {objective} goes")),
            (_, Some(0)) => match known.and_then(|policy| policy.known_advice(version, at)) {
                Some(advised)
                    if used.iter().any(|one| Shares::Of(&advised.weights).of(&one.relay, 0) > 0) =>
                {
                    Err(format!("even shares although there is advice {}", advised.advice))
                }
                _ => Ok(Shares::Even),
            },
            (_, Some(number)) => {
                let advised = known.and_then(|policy| policy.may_be_followed(version, number, at));
                let advised = advised.ok_or_else(|| format!("advice {number} is not in force"))?;
                Ok(Shares::Of(&advised.weights))
            }
        }
    }
}

impl Policy {
    fn newest_advice(&self) -> Option<&(WeightsAdvised, DateTime<Utc>)> {
        self.advice.last().filter(|(advised, _)| advised.version == *self.newest.now())
    }

    /// The newest advice for a version that everybody must know.
    fn known_advice(&self, version: u32, at: DateTime<Utc>) -> Option<&WeightsAdvised> {
        let newest = self.advice.iter().rfind(|(advised, _)| advised.version == version)?;
        // While it is new, none has to be known yet, or an older one may still be followed.
        (newest.1 + notice() < at).then_some(&newest.0)
    }

    fn may_be_followed(&self, version: u32, number: u32, at: DateTime<Utc>) -> Option<&WeightsAdvised> {
        let (advised, _) = self.advice.get((number as usize).checked_sub(1)?)?;
        let next = self.advice.get(number as usize).filter(|(next, _)| next.version == version);
        let is_old = next.is_some_and(|(_, since)| *since + notice() < at);
        (advised.version == version && !is_old).then_some(advised)
    }
}
