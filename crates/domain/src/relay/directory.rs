//! The current state of all relays, and which of them may carry what. Eligibility comes before any ratio.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{BreakerPhase, ClassedCodes, RelayProfile, RelayUnattended};
use crate::address::PhoneKind;
use crate::event::Event;
use crate::mutation::{self, Mutation};
use crate::slug::RelayId;
use crate::text::Channel;

/// Why a relay may not carry a message now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ineligible {
    /// Nobody has defined such a relay.
    NotDefined,
    /// It does not offer the channel.
    NoChannel,
    /// It does not deliver to this kind of number.
    OutOfReach,
    /// The sender is not registered with it.
    SenderNotRegistered,
    /// An operator took it out of use.
    Suspended,
    /// Nobody works for it.
    Unattended,
    /// Its circuit breaker is tripped.
    BreakerTripped,
    /// It is being probed, and enough is on its way.
    Probing,
    /// The policy gives it no share.
    NoShare,
}

impl Ineligible {
    /// Whether waiting may help, without a change of a registration.
    pub fn is_passing(self) -> bool {
        match self {
            Self::Suspended | Self::Unattended | Self::BreakerTripped | Self::Probing => true,
            Self::NotDefined
            | Self::NoChannel
            | Self::OutOfReach
            | Self::SenderNotRegistered
            | Self::NoShare => false,
        }
    }
}

impl fmt::Display for Ineligible {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotDefined => "no such relay",
            Self::NoChannel => "does not offer the channel",
            Self::OutOfReach => "does not deliver to this kind of number",
            Self::SenderNotRegistered => "the sender is not registered with it",
            Self::Suspended => "suspended by an operator",
            Self::Unattended => "nobody works for it",
            Self::BreakerTripped => "circuit breaker tripped",
            Self::Probing => "being probed after a trip",
            Self::NoShare => "has no share in the policy",
        })
    }
}

/// A relay as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayEntry {
    /// Its terms.
    pub profile: Arc<RelayProfile>,
    /// Why an operator took it out of use, if one did.
    pub suspended: Option<String>,
    /// Why nobody works for it, if nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattended: Option<RelayUnattended>,
    /// Where its breaker stands.
    pub breaker: BreakerPhase,
    /// What operators say of its codes.
    #[serde(default, skip_serializing_if = "ClassedCodes::is_empty")]
    pub classed: ClassedCodes,
}

impl RelayEntry {
    /// Why it takes no messages at the moment, of any kind; none: it does.
    pub fn closed(&self) -> Option<Ineligible> {
        if self.suspended.is_some() {
            return Some(Ineligible::Suspended);
        }
        if self.unattended.is_some() && !mutation::is_active(Mutation::UnusableStaysEligible) {
            return Some(Ineligible::Unattended);
        }
        match self.breaker {
            BreakerPhase::Passing | BreakerPhase::Probing => None,
            BreakerPhase::Tripped => Some(Ineligible::BreakerTripped),
        }
    }
}

/// All relays as they stand. Cheap to clone; read it as a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RelayDirectory {
    relays: BTreeMap<RelayId, RelayEntry>,
}

impl RelayDirectory {
    /// The relay.
    pub fn get(&self, relay: &RelayId) -> Option<&RelayEntry> {
        self.relays.get(relay)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&RelayId, &RelayEntry)> {
        self.relays.iter()
    }

    /// Puts a relay in as it was stored.
    pub fn insert(&mut self, entry: RelayEntry) {
        self.relays.insert(entry.profile.relay.clone(), entry);
    }

    /// Folds an event of any relay; others leave it as it is. Returns whether something changed.
    pub fn evolve(&mut self, event: &Event) -> bool {
        match event {
            Event::RelayDefined(defined) => self.define(Arc::new(defined.profile.clone())),
            Event::RelaySuspended(suspended) => {
                self.change(&suspended.relay, |entry| entry.suspended = Some(suspended.reason.clone()))
            }
            Event::RelayResumed(resumed) => self.change(&resumed.relay, |entry| entry.suspended = None),
            Event::RelayUnattended(left) => {
                self.change(&left.relay, |entry| entry.unattended = Some(left.clone()))
            }
            Event::RelayAttended(attended) => self.change(&attended.relay, |entry| entry.unattended = None),
            Event::RelayBreakerChanged(changed) => {
                self.change(&changed.relay, |entry| entry.breaker = changed.to)
            }
            Event::CodeClassed(classed) => self.change(&classed.relay, |entry| {
                entry.classed.insert(classed.code.clone(), classed.clone());
            }),
            Event::CodeUnclassed(unclassed) => self.change(&unclassed.relay, |entry| {
                entry.classed.remove(&unclassed.code);
            }),
            _ => false,
        }
    }

    fn define(&mut self, profile: Arc<RelayProfile>) -> bool {
        match self.relays.get_mut(&profile.relay) {
            Some(entry) => entry.profile = profile,
            None => self.insert(RelayEntry {
                profile,
                suspended: None,
                unattended: None,
                breaker: BreakerPhase::Passing,
                classed: ClassedCodes::new(),
            }),
        }
        true
    }

    fn change(&mut self, relay: &RelayId, change: impl FnOnce(&mut RelayEntry)) -> bool {
        self.relays.get_mut(relay).map(change).is_some()
    }

    /// Whether the relay may carry a message of this channel to this kind of number (none: an e-mail address) for
    /// a sender that is registered with `registered`.
    pub fn eligible(
        &self,
        relay: &RelayId,
        channel: Channel,
        reach: Option<PhoneKind>,
        registered: &[RelayId],
    ) -> Result<&RelayEntry, Ineligible> {
        let entry = self.relays.get(relay).ok_or(Ineligible::NotDefined)?;
        if !entry.profile.channels.contains_key(&channel) {
            return Err(Ineligible::NoChannel);
        }
        if reach.is_some_and(|kind| !entry.profile.reaches.contains(&kind)) {
            return Err(Ineligible::OutOfReach);
        }
        if !registered.contains(relay) && !mutation::is_active(Mutation::RegistrationNotAsked) {
            return Err(Ineligible::SenderNotRegistered);
        }
        entry.closed().map_or(Ok(entry), Err)
    }
}
