//! Policies, and the advice that follows from them.

use kite_domain::event::Event;
use kite_domain::policy::{
    self, FailoverTerms, PolicyDefined, PolicyObjective, RelayWeight, WeightsAdvised, check_weights,
};
use kite_domain::slug::TenantId;
use kite_domain::text::Channel;
use kite_event_store::{AppendError, Expected};

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::directory::DirectoryState;
use crate::journal::{Cause, Entry, JournalError};

/// What came of advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advised {
    /// It is in the log.
    Written,
    /// It is not: the policy is another, or other advice was given on it.
    OthersWereFaster,
}

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
        if let PolicyObjective::Ratio { weights } = &objective {
            check_weights(weights).map_err(ManageRefusal::from)?;
            self.directory.judge(&self.journal, |known| can_be_shared(known, channel, weights)).await??;
        }
        self.decide(cause, Some(tenant), policy::stream(tenant, channel), |events| {
            let newest = events.iter().rev().find_map(|event| match event {
                Event::PolicyDefined(defined) => Some(defined.version),
                _ => None,
            });
            let version = newest.unwrap_or(0) + 1;
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

    /// New weights from live figures, decided on the version `known` of the policy's stream. If somebody else was
    /// faster nothing is written: the directory has the change by then, and the adviser judges again.
    pub async fn advise_weights(
        &self,
        cause: &Cause,
        advised: WeightsAdvised,
        known: u64,
    ) -> Result<Advised, JournalError> {
        let entry = Entry {
            stream: policy::stream(&advised.tenant, advised.channel),
            expected: Expected::Version(known),
            tenant: Some(advised.tenant.clone()),
            cause: cause.clone(),
            events: vec![advised.into()],
        };
        let answer = match self.journal.append_one(entry).await {
            Ok(_) => Advised::Written,
            Err(AppendError::Conflict { .. }) => Advised::OthersWereFaster,
            Err(error) => return Err(error.into()),
        };
        self.directory.catch_up(&self.journal).await?;
        Ok(answer)
    }
}

/// Each relay is there, and offers the channel.
fn can_be_shared(
    directory: &DirectoryState,
    channel: Channel,
    weights: &[RelayWeight],
) -> Result<(), ManageRefusal> {
    for RelayWeight { relay, .. } in weights {
        let entry = directory.relays.get(relay).ok_or_else(|| ManageRefusal::NoRelay(relay.clone()))?;
        if !entry.profile.channels.contains_key(&channel) {
            return Err(ManageRefusal::NoChannel { relay: relay.clone(), channel });
        }
    }
    Ok(())
}
