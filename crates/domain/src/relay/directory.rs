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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureClass;
    use crate::relay::access::tests::http;
    use crate::relay::{
        CodeClassed, CodeUnclassed, RelayAttended, RelayBreakerChanged, RelayDefined, RelayResumed,
        RelaySuspended, UnattendedCause,
    };
    use chrono::DateTime;

    fn alpha() -> RelayId {
        RelayId::from_trusted("alpha")
    }

    fn defined() -> Event {
        let mut profile = http("https://x", None);
        let terms = serde_json::json!({"price_milliwon": 1, "receipt_deadline_s": 60});
        profile.channels.insert(Channel::Sms, serde_json::from_value(terms).unwrap());
        profile.reaches = vec![PhoneKind::KoreanMobile];
        RelayDefined { profile }.into()
    }

    fn tripped(to: BreakerPhase) -> Event {
        let (from, reason) = (BreakerPhase::Passing, "test".to_owned());
        RelayBreakerChanged { relay: alpha(), from, to, reason, until: None }.into()
    }

    fn unattended() -> Event {
        let (cause, since) = (UnattendedCause::Unusable, DateTime::UNIX_EPOCH);
        RelayUnattended { relay: alpha(), cause, reason: "test".to_owned(), since }.into()
    }

    fn closed(directory: &RelayDirectory) -> Option<Ineligible> {
        directory.get(&alpha()).unwrap().closed()
    }

    #[test]
    fn a_relay_takes_nothing_while_one_thing_or_another_is_in_the_way() {
        let mut directory = RelayDirectory::default();
        assert!(directory.evolve(&defined()));
        assert_eq!(closed(&directory), None);
        let suspended = RelaySuspended { relay: alpha(), reason: "test".to_owned() };
        // The first of them is the one that is told.
        for (event, reason) in [
            (tripped(BreakerPhase::Tripped), Ineligible::BreakerTripped),
            (unattended(), Ineligible::Unattended),
            (suspended.into(), Ineligible::Suspended),
        ] {
            assert!(directory.evolve(&event));
            assert_eq!(closed(&directory), Some(reason));
            assert!(reason.is_passing());
        }
        for (event, left) in [
            (RelayResumed { relay: alpha() }.into(), Some(Ineligible::Unattended)),
            (RelayAttended { relay: alpha() }.into(), Some(Ineligible::BreakerTripped)),
            (tripped(BreakerPhase::Probing), None),
        ] {
            assert!(directory.evolve(&event));
            assert_eq!(closed(&directory), left);
        }
    }

    #[test]
    fn a_new_definition_changes_the_terms_and_nothing_else() {
        let mut directory = RelayDirectory::default();
        directory.evolve(&defined());
        directory.evolve(&unattended());
        directory.evolve(&tripped(BreakerPhase::Tripped));
        let known = directory.get(&alpha()).unwrap().clone();
        assert!(directory.evolve(&RelayDefined { profile: http("https://y", None) }.into()));
        let now = directory.get(&alpha()).unwrap();
        assert_ne!(now.profile, known.profile);
        assert_eq!(*now, RelayEntry { profile: now.profile.clone(), ..known });
    }

    #[test]
    fn what_an_operator_says_of_a_code_holds_until_it_is_taken_back() {
        let mut directory = RelayDirectory::default();
        directory.evolve(&defined());
        let classed = CodeClassed {
            relay: alpha(),
            code: "9876".into(),
            class: FailureClass::Content,
            billable: false,
            text: None,
        };
        assert!(directory.evolve(&classed.clone().into()));
        assert_eq!(directory.get(&alpha()).unwrap().classed.get("9876"), Some(&classed));
        assert!(directory.evolve(&CodeUnclassed { relay: alpha(), code: "9876".into() }.into()));
        assert!(directory.get(&alpha()).unwrap().classed.is_empty());
    }

    #[test]
    fn what_is_said_of_a_relay_that_nobody_has_defined_changes_nothing() {
        let mut directory = RelayDirectory::default();
        assert!(!directory.evolve(&unattended()) && !directory.evolve(&tripped(BreakerPhase::Tripped)));
        assert_eq!(directory, RelayDirectory::default());
    }

    #[test]
    fn who_may_carry_a_message_is_asked_before_any_ratio() {
        let mut directory = RelayDirectory::default();
        let registered = [alpha()];
        let mobile = Some(PhoneKind::KoreanMobile);
        let eligible = |directory: &RelayDirectory, channel, reach, registered: &[RelayId]| {
            directory.eligible(&alpha(), channel, reach, registered).map(|entry| entry.profile.relay.clone())
        };
        let sms = Channel::Sms;
        assert_eq!(eligible(&directory, sms, mobile, &registered), Err(Ineligible::NotDefined));
        directory.evolve(&defined());
        assert_eq!(eligible(&directory, sms, mobile, &registered), Ok(alpha()));
        assert_eq!(eligible(&directory, sms, None, &registered), Ok(alpha()));
        assert_eq!(eligible(&directory, Channel::Lms, mobile, &registered), Err(Ineligible::NoChannel));
        let abroad = Some(PhoneKind::International);
        assert_eq!(eligible(&directory, sms, abroad, &registered), Err(Ineligible::OutOfReach));
        assert_eq!(eligible(&directory, sms, mobile, &[]), Err(Ineligible::SenderNotRegistered));
        directory.evolve(&unattended());
        assert_eq!(eligible(&directory, sms, mobile, &registered), Err(Ineligible::Unattended));
    }
}
