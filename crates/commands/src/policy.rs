//! The policy in force for a channel and a set of eligible relays.

use kite_domain::lot::PolicyInForce;
use kite_domain::policy::{PolicyObjective, RelayWeight, WEIGHT_SUM, WeightsAdvised};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use smol_str::{SmolStr, format_smolstr};

use crate::directory::DirectoryState;

/// What the router follows for these relays. A tenant without a policy follows the recommendation.
pub fn policy_in_force(
    directory: &DirectoryState,
    tenant: &TenantId,
    channel: Channel,
    eligible: &[RelayId],
) -> PolicyInForce {
    let key = (tenant.clone(), channel);
    let Some(policy) = directory.policies.get(&key) else {
        return advised(
            name(tenant, channel, 0),
            0,
            "recommended",
            directory.default_advice.get(&key),
            eligible,
        );
    };
    let defined = &policy.defined;
    let name = name(tenant, channel, defined.version);
    match &defined.objective {
        PolicyObjective::Ratio { weights } => {
            let mut order: Vec<&RelayWeight> = weights.iter().collect();
            order.sort_by(|left, right| {
                right.weight.cmp(&left.weight).then_with(|| left.relay.cmp(&right.relay))
            });
            PolicyInForce {
                name,
                version: defined.version,
                objective: "ratio",
                order: order.into_iter().map(|entry| entry.relay.clone()).collect(),
                weights: weights.clone(),
            }
        }
        objective @ (PolicyObjective::Price | PolicyObjective::Speed | PolicyObjective::Recommended) => {
            advised(name, defined.version, objective.word(), policy.advised.as_ref(), eligible)
        }
    }
}

/// The names of the policies that the router may follow now for the tenant's messages: what their splits are kept under.
pub fn policy_names_in_force(directory: &DirectoryState, tenant: &TenantId) -> Vec<SmolStr> {
    let of_channel = |channel: Channel| {
        let key = (tenant.clone(), channel);
        let policy = directory.policies.get(&key);
        let version = policy.map_or(0, |policy| policy.defined.version);
        let name = name(tenant, channel, version);
        let advice = match policy {
            None => directory.default_advice.get(&key),
            Some(policy) if matches!(policy.defined.objective, PolicyObjective::Ratio { .. }) => {
                return vec![name];
            }
            Some(policy) => policy.advised.as_ref(),
        };
        let mut names = vec![name_under(&name, None)];
        names.extend(advice.map(|advice| name_under(&name, Some(advice))));
        names
    };
    Channel::ALL.iter().copied().flat_map(of_channel).collect()
}

/// The names of all policies that the router may follow now.
pub(crate) fn all_policy_names_in_force(directory: &DirectoryState) -> Vec<SmolStr> {
    directory.tenants.keys().flat_map(|tenant| policy_names_in_force(directory, tenant)).collect()
}

/// Whether a split belongs to a version or an advice that nobody follows any more. Not if the directory does not know
/// the version yet.
pub(crate) fn is_over(directory: &DirectoryState, split: &str) -> bool {
    let Some((tenant, channel, version, advice)) = parse(split) else { return false };
    let key = (TenantId::from_trusted(tenant), channel);
    let policy = directory.policies.get(&key);
    let newest = match policy {
        Some(policy) => policy.advised.as_ref(),
        None => directory.default_advice.get(&key),
    };
    let version_in_force = policy.map_or(0, |policy| policy.defined.version);
    let is_earlier = |advice: u32| newest.is_some_and(|newest| (1..newest.advice).contains(&advice));
    version < version_in_force || (version == version_in_force && advice.is_some_and(is_earlier))
}

/// Tenant, channel, version, and the number of the advice where there is one, of a split's key.
fn parse(split: &str) -> Option<(&str, Channel, u32, Option<u32>)> {
    let (policy, _) = split.split_once('|')?;
    let (rest, last) = policy.rsplit_once('-')?;
    let of_channel = |named: &str| -> Option<(usize, Channel)> {
        let (tenant, word) = named.rsplit_once('-')?;
        Some((tenant.len(), word.parse().ok()?))
    };
    if let Some((tenant, channel)) = of_channel(rest) {
        return Some((&rest[..tenant], channel, last.parse().ok()?, None));
    }
    let (named, version) = rest.rsplit_once('-')?;
    let (tenant, channel) = of_channel(named)?;
    Some((&named[..tenant], channel, version.parse().ok()?, Some(last.parse().ok()?)))
}

/// The name under an advice; none: evenly.
fn name_under(name: &SmolStr, advice: Option<&WeightsAdvised>) -> SmolStr {
    format_smolstr!("{name}-{}", advice.map_or(0, |advice| advice.advice))
}

fn name(tenant: &TenantId, channel: Channel, version: u32) -> SmolStr {
    format_smolstr!("{tenant}-{channel}-{version}")
}

/// By the newest advice; evenly, as long as there is none for any of these relays.
fn advised(
    name: SmolStr,
    version: u32,
    objective: &'static str,
    advice: Option<&WeightsAdvised>,
    eligible: &[RelayId],
) -> PolicyInForce {
    let has_share = |entry: &&RelayWeight| entry.weight > 0 && eligible.contains(&entry.relay);
    let advice = advice.filter(|advice| advice.weights.iter().any(|entry| has_share(&entry)));
    let name = name_under(&name, advice);
    match advice {
        Some(advice) => PolicyInForce {
            name,
            version,
            objective,
            weights: advice.weights.clone(),
            order: advice.order.clone(),
        },
        None => PolicyInForce { name, version, objective, weights: even(eligible), order: eligible.to_vec() },
    }
}

/// The same share for each. Any positive weight will do, because only the proportion counts.
fn even(relays: &[RelayId]) -> Vec<RelayWeight> {
    let weight = WEIGHT_SUM / (relays.len() as u32).max(1);
    relays.iter().map(|relay| RelayWeight { relay: relay.clone(), weight }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::PolicyState;
    use kite_domain::policy::{FailoverTerms, PolicyDefined};

    fn advised(version: u32, advice: u32) -> WeightsAdvised {
        WeightsAdvised {
            tenant: TenantId::from_trusted("acme"),
            channel: Channel::Sms,
            version,
            advice,
            weights: Vec::new(),
            order: Vec::new(),
            reasons: Vec::new(),
        }
    }

    fn defined(objective: PolicyObjective, version: u32) -> PolicyDefined {
        PolicyDefined {
            tenant: TenantId::from_trusted("acme"),
            channel: Channel::Sms,
            version,
            objective,
            failover: FailoverTerms::default(),
        }
    }

    #[test]
    fn a_split_is_over_when_a_later_version_or_advice_is_in_force() {
        let mut directory = DirectoryState::default();
        let key = (TenantId::from_trusted("acme"), Channel::Sms);
        let is_over =
            |directory: &DirectoryState, policy: &str| is_over(directory, &format!("{policy}|alpha:1"));
        for policy in ["acme-sms-0-0", "acme-sms-0-7", "acme-sms-3", "other-sms-1", "no name"] {
            assert!(!is_over(&directory, policy), "{policy}: nothing is known of it");
        }
        directory.default_advice.insert(key.clone(), advised(0, 3));
        assert!(is_over(&directory, "acme-sms-0-2"));
        for policy in ["acme-sms-0-0", "acme-sms-0-3", "acme-sms-0-4", "acme-lms-0-2", "acme-b-sms-0-2"] {
            assert!(!is_over(&directory, policy), "{policy}");
        }
        let advised = Some(advised(2, 9));
        let price = PolicyState { defined: defined(PolicyObjective::Price, 2), advised };
        directory.policies.insert(key.clone(), price);
        for policy in ["acme-sms-0-3", "acme-sms-1", "acme-sms-1-12", "acme-sms-2-8"] {
            assert!(is_over(&directory, policy), "{policy}");
        }
        // Where no relay of the advice is eligible the split is even, under the same version.
        for policy in ["acme-sms-2-0", "acme-sms-2-9", "acme-sms-3", "acme-sms-3-1"] {
            assert!(!is_over(&directory, policy), "{policy}");
        }
        let ratio = PolicyObjective::Ratio { weights: Vec::new() };
        directory.policies.insert(key, PolicyState { defined: defined(ratio, 3), advised: None });
        assert!(is_over(&directory, "acme-sms-2-9") && !is_over(&directory, "acme-sms-3"));
    }

    #[test]
    fn a_name_that_ends_like_another_is_told_from_it() {
        assert_eq!(parse("x-sms-1-sms-2|a:1"), Some(("x-sms-1", Channel::Sms, 2, None)));
        assert_eq!(parse("x-sms-3-4|a:1"), Some(("x", Channel::Sms, 3, Some(4))));
        assert_eq!(parse("x-sms-lms-3-4|a:1"), Some(("x-sms", Channel::Lms, 3, Some(4))));
    }
}
