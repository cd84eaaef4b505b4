//! Relays and senders by the log, and which relay may carry what.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::address::PhoneKind;
use kite_domain::failure::FailureClass;
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::{BreakerPhase, Ineligible, RelayProfile};
use kite_domain::sending::SendingAccepted;
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;
use std::collections::BTreeSet;

use super::failures::class_of;
use super::noted::Noted;
use super::pace::Pace;
use super::{Checked, Checker};

/// A relay that takes nothing call after call gets longer pauses than it asks for, at most this long; workers that
/// wait for it look every second.
const PATIENT_AFTER: u32 = 8;
const PATIENCE_MS_MAX: i64 = 66_000;
const LOOK_MS: i64 = 2_000;
/// How long after a relay was back it may be handed over again what waited for that.
const BACK_MS: i64 = 3_600_000;

/// A relay as the log tells of it.
#[derive(Debug, Default)]
pub(crate) struct RelayState {
    pub(crate) profile: Noted<Option<RelayProfile>>,
    pub(crate) is_suspended: Noted<bool>,
    /// Nobody works for it.
    pub(crate) is_unattended: Noted<bool>,
    pub(crate) phase: Noted<BreakerPhase>,
    /// Answers in a row by which it took nothing, and the time of the last.
    pub(super) took_nothing: (u32, i64),
    /// Until when it asked not to be called. It tells Kite, and the log does not store it.
    pub(super) rests_until_ms: i64,
    /// How many calls were in progress in the last calm, on average and in hundredths.
    calls_percent: i64,
    pub(super) pace: Pace,
    /// Until when two may hold the same share of it.
    pub(super) shares_unsure_until_ms: i64,
    /// Parked receipts: reference and what they say.
    pub(crate) parked: BTreeSet<(String, ReceiptStatus)>,
}

impl RelayState {
    /// Another answer of it.
    pub(super) fn answered(&mut self, took_something: bool, at_ms: i64) {
        self.took_nothing = if took_something { (0, 0) } else { (self.took_nothing.0 + 1, at_ms) };
    }

    /// Whether it asked for it, or took nothing so often, that it need not be called for now. A worker that waited
    /// for the end of the pause looks again within a second or two.
    pub(super) fn may_be_left_alone(&self, now_ms: i64) -> bool {
        let (answers, last_ms) = self.took_nothing;
        let is_patience = answers >= PATIENT_AFTER && last_ms + PATIENCE_MS_MAX > now_ms;
        is_patience || self.rests_until_ms + LOOK_MS > now_ms
    }

    /// Whether all calls that it may be given at once were in progress nearly all the time of the last calm.
    pub(super) fn is_busy(&self) -> bool {
        self.profile()
            .is_some_and(|profile| self.calls_percent >= 90 * i64::from(profile.calls_in_flight_max))
    }

    /// Whether it takes messages as fast as it can.
    pub(crate) fn works(&self) -> bool {
        *self.phase.now() == BreakerPhase::Passing && !self.is_suspended.now() && !self.is_unattended.now()
    }

    /// Whether it is in use and workers of it can be there.
    pub(super) fn is_in_use(&self) -> bool {
        !self.is_suspended.now() && !self.is_unattended.now()
    }

    /// Whether no client can be built from its definition, by all that is known for a while.
    fn is_unusable(&self, since: DateTime<Utc>) -> bool {
        let is_so = |profile: &Option<RelayProfile>| {
            profile.as_ref().is_some_and(|profile| !profile.unusable().is_empty())
        };
        self.profile.throughout(since, is_so)
    }

    pub(super) fn profile(&self) -> Option<&RelayProfile> {
        self.profile.now().as_ref()
    }

    /// Whether there is any use in asking about a message whose answer was lost.
    pub(super) fn can_be_asked(&self) -> bool {
        self.profile().is_some_and(|profile| profile.answers_status || profile.deduplicates)
    }

    pub(super) fn offers(&self, channel: MessageType) -> bool {
        self.profile().is_some_and(|profile| profile.channels.contains_key(&channel))
    }

    pub(super) fn reaches(&self, reach: Option<PhoneKind>) -> bool {
        self.profile().is_some_and(|profile| reach.is_none_or(|kind| profile.reaches.contains(&kind)))
    }
}

impl Checker {
    /// How many calls the relay had in progress in a calm that is over, and until when it asked to have none.
    pub(crate) fn was_called(&mut self, relay: &RelayId, calls_percent: i64, until_ms: i64) {
        let state = self.relays.entry(relay.clone()).or_default();
        state.rests_until_ms = until_ms;
        state.calls_percent = calls_percent;
    }
}

impl Checker {
    /// Whether the relay answered something a while ago, so that what waited for that is looked at before its time.
    /// Only the relay knows: the log does not contain questions without a result.
    pub(super) fn is_back(&self, relay: &RelayId, at: DateTime<Utc>) -> bool {
        let ledger = self.ledgers.as_ref().and_then(|ledgers| ledgers.get(relay));
        ledger.is_some_and(|relay| relay.answered_ms() + BACK_MS > at.timestamp_millis())
    }

    /// Whether the relay is defined so that nobody can call it, neither to hand over nor to fetch receipts.
    pub(crate) fn cannot_be_called(&self, relay: &RelayId) -> bool {
        let profile = self.relays.get(relay).and_then(RelayState::profile);
        profile.is_some_and(|profile| !profile.unusable().is_empty())
    }

    /// After a calm: a relay that nobody can call is known as such, and one that can be called is not.
    pub(crate) fn the_unusable_are_known(&self, now: DateTime<Utc>, calm: TimeDelta) -> Checked {
        for (id, relay) in &self.relays {
            let is_unattended = *relay.is_unattended.now();
            if relay.is_unusable(now - calm) && !is_unattended {
                return Err(format!("nobody can call {id}, and nobody says so"));
            }
        }
        Ok(())
    }
}

/// What is to be carried: for a sending, over a channel, to a kind of number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carriage<'c> {
    pub(super) terms: &'c SendingAccepted,
    pub(super) channel: MessageType,
    pub(super) reach: Option<PhoneKind>,
}

impl Checker {
    /// What a relay's code means.
    pub(super) fn class_told(&self, relay: &RelayId, code: &str) -> FailureClass {
        let profile = self.relays.get(relay).and_then(RelayState::profile);
        class_of(profile.map_or("", |profile| profile.codes.as_str()), code)
    }

    /// Whether somebody who decides at this time may believe that the relay can carry it.
    pub(super) fn may_carry(&self, relay: &RelayId, carriage: Carriage<'_>, at: DateTime<Utc>) -> Checked {
        let Some(state) = self.relays.get(relay).filter(|state| state.profile().is_some()) else {
            return Err(format!("{relay} is not defined"));
        };
        let Carriage { terms, channel, reach } = carriage;
        let why_not = if !state.offers(channel) {
            format!("does not offer {channel}")
        } else if !state.reaches(reach) {
            format!("does not reach {reach:?}")
        } else if !self.senders.may_send(terms, channel, Some(relay), at) {
            format!("does not know the sender of {}", terms.sending)
        } else if !state.is_suspended.may(at, |is_suspended| !is_suspended) {
            "is suspended".to_owned()
        } else if !state.is_unattended.may(at, |is_unattended| !is_unattended) {
            "has nobody who works for it".to_owned()
        } else if !state.phase.may(at, |phase| *phase != BreakerPhase::Tripped) {
            "is tripped".to_owned()
        } else {
            return Ok(());
        };
        Err(format!("{relay} is routed to and {why_not} ({})", terms.sending))
    }

    /// Whether whoever decides at this time must know that the relay can carry it.
    pub(super) fn must_carry(&self, relay: &RelayId, carriage: Carriage<'_>, at: DateTime<Utc>) -> bool {
        let Some(state) = self.relays.get(relay) else { return false };
        let Carriage { terms, channel, reach } = carriage;
        state.offers(channel)
            && state.reaches(reach)
            && self.senders.must_send(terms, channel, relay, at)
            && state.is_suspended.must(at, |is_suspended| !is_suspended)
            && state.is_unattended.must(at, |is_unattended| !is_unattended)
            && state.phase.must(at, |phase| *phase != BreakerPhase::Tripped)
    }

    /// Whether somebody who decides at this time may give this reason for leaving the relay out.
    pub(super) fn may_be_left_out(
        &self,
        relay: &RelayId,
        reason: Ineligible,
        carriage: Carriage<'_>,
        at: DateTime<Utc>,
    ) -> bool {
        let Some(state) = self.relays.get(relay) else { return reason == Ineligible::NotDefined };
        let Carriage { terms, channel, reach } = carriage;
        match reason {
            Ineligible::OutOfReach => !state.reaches(reach),
            Ineligible::SenderNotRegistered => !self.senders.must_send(terms, channel, relay, at),
            Ineligible::Suspended => state.is_suspended.may(at, |is_suspended| *is_suspended),
            Ineligible::Unattended => state.is_unattended.may(at, |is_unattended| *is_unattended),
            Ineligible::BreakerTripped => state.phase.may(at, |phase| *phase == BreakerPhase::Tripped),
            // Those who do not offer the channel are not spoken of, and a relay that is probed is routed to.
            Ineligible::NotDefined | Ineligible::NoChannel | Ineligible::Probing | Ineligible::NoShare => {
                false
            }
        }
    }
}
