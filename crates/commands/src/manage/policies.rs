//! Policies, and the advice that follows from them.

use kite_domain::event::Event;
use kite_domain::policy::{
    self, FailoverTerms, PolicyDefined, PolicyObjective, WeightsAdvised, check_weights,
};
use kite_domain::slug::TenantId;
use kite_domain::text::Channel;

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::journal::Cause;

impl Manage {
    /// A new version of a tenant's policy for a channel.
    pub async fn define_policy(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        channel: Channel,
        objective: PolicyObjective,
        failover: FailoverTerms,
    ) -> Result<Done<PolicyDefined>, ManageError> {
        let directory = self.directory.snapshot();
        if let PolicyObjective::Ratio { weights } = &objective {
            check_weights(weights).map_err(ManageRefusal::from)?;
            for weight in weights {
                let relay = &weight.relay;
                let entry =
                    directory.relays.get(relay).ok_or_else(|| ManageRefusal::NoRelay(relay.clone()))?;
                if !entry.profile.channels.contains_key(&channel) {
                    return Err(ManageRefusal::NoChannel { relay: relay.clone(), channel }.into());
                }
            }
        }
        self.decide(cause, Some(tenant), policy::stream(tenant, channel), |events| {
            let version =
                events.iter().filter(|event| matches!(event, Event::PolicyDefined(_))).count() as u32 + 1;
            let defined = PolicyDefined {
                tenant: tenant.clone(),
                channel,
                version,
                objective: objective.clone(),
                failover: failover.clone(),
            };
            Ok((Some(defined.clone().into()), defined))
        })
        .await
    }

    /// New weights from live figures. Nothing happens if the policy has moved on.
    pub async fn advise_weights(
        &self,
        cause: &Cause,
        advised: WeightsAdvised,
    ) -> Result<Done<()>, ManageError> {
        self.decide(
            cause,
            Some(&advised.tenant),
            policy::stream(&advised.tenant, advised.channel),
            |events| {
                let version =
                    events.iter().filter(|event| matches!(event, Event::PolicyDefined(_))).count() as u32;
                let advice = events.iter().filter(|event| matches!(event, Event::WeightsAdvised(_))).count()
                    as u32
                    + 1;
                let event = WeightsAdvised { advice, ..advised.clone() };
                Ok(((version == advised.version).then(|| event.into()), ()))
            },
        )
        .await
    }
}
