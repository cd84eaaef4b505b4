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
    Channel::ALL.into_iter().flat_map(of_channel).collect()
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

/// The same share for each. Any positive weight does where only the proportion counts.
fn even(relays: &[RelayId]) -> Vec<RelayWeight> {
    let weight = WEIGHT_SUM / (relays.len() as u32).max(1);
    relays.iter().map(|relay| RelayWeight { relay: relay.clone(), weight }).collect()
}
