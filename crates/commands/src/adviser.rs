//! The adviser: turns live figures into weights for every policy that follows them. A change is an event with its
//! reasons; the router follows the newest. Small movements change nothing, so that shares do not flap.
//!
//! Advice is written only if the policy and the advice that it is based on are still the newest. If there are two
//! advisers over one log, or one was paused, the slower judges again at its next look.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::advice::{Advice, AdviceSettings, RelayFigures, advise, should_replace};
use kite_domain::policy::{PolicyObjective, RelayWeight, WeightsAdvised};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::directory::{Directory, DirectoryState, PolicyTail};
use crate::journal::{Cause, Journal};
use crate::manage::{Advised, Manage};
use crate::open_work::OpenWork;
use crate::worker::{Step, Worker, WorkerError};

/// How often the figures are looked at.
const INTERVAL: TimeDelta = TimeDelta::seconds(2);

/// See the module.
pub struct Adviser {
    journal: Journal,
    directory: Directory,
    manage: Manage,
    open_work: Arc<dyn OpenWork>,
    settings: AdviceSettings,
    looked_at: Option<DateTime<Utc>>,
}

/// What one tenant's channel follows.
struct Follower {
    tenant: TenantId,
    channel: Channel,
    version: u32,
    tail: PolicyTail,
    objective: PolicyObjective,
    previous: Vec<RelayWeight>,
    relays: BTreeSet<RelayId>,
}

impl Adviser {
    /// Advises by these figures.
    pub fn new(
        journal: Journal,
        directory: Directory,
        manage: Manage,
        open_work: Arc<dyn OpenWork>,
        settings: AdviceSettings,
    ) -> Self {
        Self { journal, directory, manage, open_work, settings, looked_at: None }
    }

    /// When to look at the figures next, if not now. A clock that was set back makes nobody wait.
    fn rests_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let looked_at = self.looked_at.filter(|looked_at| *looked_at <= now)?;
        Some(looked_at + INTERVAL).filter(|due| *due > now)
    }

    async fn advise(&self, follower: &Follower, figures: &[RelayFigures]) -> Result<(), WorkerError> {
        let is_of_interest =
            |one: &&RelayFigures| one.channel == follower.channel && follower.relays.contains(&one.relay);
        let of_interest: Vec<RelayFigures> = figures.iter().filter(is_of_interest).cloned().collect();
        let advice = advise(&follower.objective, &of_interest, &follower.previous, &self.settings);
        let Some(why) = should_replace(&follower.previous, &advice, &self.settings) else { return Ok(()) };
        let cause = Cause::new("adviser", self.journal.next_id());
        let advised = advised(follower, advice, why);
        match self.manage.advise_weights(&cause, advised, follower.tail.version).await? {
            Advised::Written => {}
            Advised::OthersWereFaster => {
                tracing::info!(tenant = %follower.tenant, channel = %follower.channel, "advised by others meanwhile");
            }
        }
        Ok(())
    }
}

fn advised(follower: &Follower, advice: Advice, why: String) -> WeightsAdvised {
    // Those without a share stay listed: a relay that is not in the list counts as new the next time.
    let weights = advice.weights();
    let told = advice
        .entries
        .iter()
        .flat_map(|entry| entry.reasons.iter().map(move |reason| format!("{}: {reason}", entry.relay)));
    let reasons = [why, advice.reason.clone()].into_iter().chain(told).collect();
    WeightsAdvised {
        tenant: follower.tenant.clone(),
        channel: follower.channel,
        version: follower.version,
        advice: follower.tail.advices + 1,
        weights,
        order: advice.order,
        reasons,
    }
}

/// Every tenant's channel that follows figures: by its policy, or because it has none and a sender to send with. In the
/// order of the tenants, so that the same figures lead to the same log.
fn followers(directory: &DirectoryState, now: DateTime<Utc>) -> Vec<Follower> {
    let mut registered: BTreeMap<&TenantId, BTreeSet<RelayId>> = BTreeMap::new();
    for (_, tenant, identity) in directory.senders.iter() {
        if let Ok(terms) = identity.sends_with(now) {
            registered.entry(tenant).or_default().extend(terms.relays.iter().cloned());
        }
    }
    let mut followers = Vec::new();
    for (tenant, relays) in registered {
        for channel in [Channel::Sms, Channel::Lms, Channel::Email] {
            let key = (tenant.clone(), channel);
            let policy = directory.policies.get(&key);
            let objective = match policy.map(|policy| &policy.defined.objective) {
                Some(PolicyObjective::Ratio { .. }) => continue,
                Some(objective) => objective.clone(),
                None => PolicyObjective::Recommended,
            };
            let offering: BTreeSet<RelayId> = relays
                .iter()
                .filter(|relay| {
                    directory
                        .relays
                        .get(relay)
                        .is_some_and(|entry| entry.profile.channels.contains_key(&channel))
                })
                .cloned()
                .collect();
            // One relay is no choice.
            if offering.len() < 2 {
                continue;
            }
            let newest = match policy {
                Some(policy) => policy.advised.as_ref(),
                None => directory.default_advice.get(&key),
            };
            followers.push(Follower {
                tenant: tenant.clone(),
                channel,
                version: policy.map_or(0, |policy| policy.defined.version),
                tail: directory.policy_tails.get(&key).copied().unwrap_or_default(),
                objective,
                previous: newest.map(|advised| advised.weights.clone()).unwrap_or_default(),
                relays: offering,
            });
        }
    }
    followers
}

#[async_trait]
impl Worker for Adviser {
    fn name(&self) -> &str {
        "adviser"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        // A copy whose original may still be in use decides nothing about messages that both logs contain.
        if !self.directory.snapshot().instance.may_hand_over() {
            return Ok(Step::Idle(None));
        }
        let now: DateTime<Utc> = self.journal.now();
        if let Some(due) = self.rests_until(now) {
            return Ok(Step::Idle(Some(due)));
        }
        let followers = followers(&self.directory.snapshot(), now);
        let channels: BTreeSet<Channel> = followers.iter().map(|follower| follower.channel).collect();
        if !channels.is_empty() {
            let figures = self.open_work.figures(channels, now).await;
            let figures = figures.map_err(WorkerError::retry)?;
            for follower in &followers {
                self.advise(follower, &figures).await?;
            }
        }
        self.looked_at = Some(now);
        Ok(Step::Idle(Some(now + INTERVAL)))
    }
}
