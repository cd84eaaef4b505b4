//! After a calm, a time without new faults: nothing waits that is due.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::failure::FailureClass;
use kite_domain::ids::MessageId;
use kite_domain::relay::BreakerPhase;
use kite_domain::sending::{MessageClass, SendingAccepted};

use super::message::{AttemptState, MessageState, NEVER_MS, State};
use super::relays::Carriage;
use super::routes::carriage;
use super::{Checked, Checker, RelayState, SendingState};

/// An undisturbed call takes less than this, with the appends before and after it.
const CALL_MS_MAX: i64 = 500;
/// A worker that has started at a relay has looked at what waits there after this long.
const BEGUN_MS_MAX: i64 = 5_000;
/// For a password with at most this lifetime, a relay in trouble is tried every five seconds.
const PASSWORD_LIFETIME_MAX: TimeDelta = TimeDelta::seconds(600);

/// A calm that is over.
#[derive(Clone, Copy)]
struct Calm {
    now: DateTime<Utc>,
    now_ms: i64,
    ms: i64,
}

impl Calm {
    /// Whether what was due then was due all the while.
    fn is_longer_than_since(self, due_ms: i64) -> bool {
        due_ms.saturating_add(self.ms) < self.now_ms
    }
}

impl Checker {
    /// After a calm: what has been due for longer than this is done.
    pub(crate) fn nothing_waits(&self, now_ms: i64, calm_ms: i64) -> Checked {
        let now = DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        let calm = Calm { now, now_ms, ms: calm_ms };
        for (id, sending) in &self.sendings {
            let Some(terms) = &sending.terms else { continue };
            for (seq, message) in sending.messages.iter().filter(|(_, message)| message.outcome.is_none()) {
                let id = MessageId { sending: *id, seq: *seq };
                self.is_not_waiting(id, message, (sending, terms), calm)?;
            }
        }
        Ok(())
    }

    fn is_not_waiting(
        &self,
        id: MessageId,
        message: &MessageState,
        (sending, terms): (&SendingState, &SendingAccepted),
        calm: Calm,
    ) -> Checked {
        is_not_late(id, message, sending, terms, calm)?;
        let ready_at = terms.scheduled_at.map_or(sending.sealed_at, |at| at.max(sending.sealed_at));
        let ready_at = sending.resumed_at.map_or(ready_at, |at| at.max(ready_at));
        let ready_ms = ready_at.timestamp_millis();
        if sending.paused.is_some() {
            return Ok(());
        }
        if sending.cancelled.is_some() || !calm.is_longer_than_since(ready_ms) {
            return Ok(());
        }
        let Some(newest) = message.newest() else {
            return match self.must_be_routed(message, terms, calm.now) {
                true => Err(format!("message {id} has no route although all is calm")),
                false => Ok(()),
            };
        };
        let relay = self.relays.get(&newest.relay);
        self.is_looked_at(id, newest, terms, calm)?;
        let is_unlimited = relay
            .and_then(RelayState::profile)
            .is_some_and(|profile| profile.rate_parts_per_second.is_none());
        // Somebody has just begun to work for it: what waited is looked at now.
        let since = calm.now - TimeDelta::milliseconds(BEGUN_MS_MAX);
        let is_attended =
            relay.is_some_and(|relay| relay.is_unattended.throughout(since, |is_unattended| !is_unattended));
        let works = relay.is_some_and(RelayState::works) && is_attended && is_unlimited;
        let is_called =
            works && !relay.is_some_and(|relay| relay.may_be_left_alone(calm.now_ms) || relay.is_busy());
        let since_ms = newest.not_before_ms.max(message.held_until_ms).max(newest.routed_at_ms).max(ready_ms);
        let is_due = calm.is_longer_than_since(since_ms);
        let is_stuck = match newest.state {
            State::Submitted => works && newest.submitted_at_ms + CALL_MS_MAX < calm.now_ms,
            State::Routed => {
                let is_for_here = !self.waits_for_another(newest, message, terms, calm.now);
                is_due
                    && ((is_called && is_for_here)
                        || self.must_be_taken_away(newest, message, terms, calm.now))
            }
            State::Unknown => is_due && is_called && newest.not_before_ms != NEVER_MS,
            _ => false,
        };
        match is_stuck {
            true => Err(format!(
                "message {id} is {:?} at {} for {} s although all is calm",
                newest.state,
                newest.relay,
                (calm.now_ms - since_ms) / 1_000
            )),
            false => Ok(()),
        }
    }

    /// A password that waits for a tripped relay makes it be tried every five seconds, and less often only if its
    /// lifetime is long; a relay that is tried in a calm works.
    fn is_looked_at(
        &self,
        id: MessageId,
        newest: &AttemptState,
        terms: &SendingAccepted,
        calm: Calm,
    ) -> Checked {
        let Some(relay) = self.relays.get(&newest.relay).filter(|relay| relay.is_in_use()) else {
            return Ok(());
        };
        let is_short = terms.expires_at - calm.now <= PASSWORD_LIFETIME_MAX && terms.expires_at > calm.now;
        let waits = newest.state == State::Routed && calm.is_longer_than_since(newest.routed_at_ms);
        let since = calm.now - TimeDelta::milliseconds(calm.ms);
        let is_tripped = relay.phase.throughout(since, |phase| *phase == BreakerPhase::Tripped);
        match terms.class == MessageClass::Otp && is_short && waits && is_tripped {
            true => Err(format!("password {id} waits for {}, which nobody looks at", newest.relay)),
            false => Ok(()),
        }
    }

    /// Somebody with a share can carry it.
    fn must_be_routed(&self, message: &MessageState, terms: &SendingAccepted, now: DateTime<Utc>) -> bool {
        let carriage = Carriage { terms, channel: message.channel, reach: message.reach };
        self.relays.keys().any(|relay| {
            self.must_carry(relay, carriage, now)
                && self.policies.has_share(&terms.tenant, message.channel, relay, now)
        })
    }

    /// Its sender is not registered with the relay any more; it is with another one, and that takes nothing now.
    fn waits_for_another(
        &self,
        newest: &AttemptState,
        message: &MessageState,
        terms: &SendingAccepted,
        now: DateTime<Utc>,
    ) -> bool {
        let carriage = carriage(terms, newest.channel, message);
        let others = self.registered_and_untried(message, terms, now);
        !self.senders.must_send(terms, newest.channel, &newest.relay, now)
            && !others.is_empty()
            && !others.iter().any(|relay| self.must_carry(relay, carriage, now))
    }

    /// It waits for a relay that is taken out of use, and another can carry it.
    fn must_be_taken_away(
        &self,
        newest: &AttemptState,
        message: &MessageState,
        terms: &SendingAccepted,
        now: DateTime<Utc>,
    ) -> bool {
        let is_suspended = self.relays.get(&newest.relay).is_some_and(|relay| {
            relay.is_suspended.must(now, |is_suspended| *is_suspended)
                || relay.is_unattended.must(now, |is_unattended| *is_unattended)
        });
        is_suspended && self.owed_relay(message, FailureClass::RelayFault, terms, now).is_some()
    }
}

/// Time alone ends a message: the end of its lifetime while it was not handed over, the deadline of its receipt once
/// it was. A cancellation ends what was not handed over at once.
fn is_not_late(
    id: MessageId,
    message: &MessageState,
    sending: &SendingState,
    terms: &SendingAccepted,
    calm: Calm,
) -> Checked {
    let expires_ms = terms.expires_at.timestamp_millis();
    let ends_ms = match (message.newest(), sending.cancelled) {
        (Some(newest), _) if newest.state.is_in_flight() => newest.receipt_by_ms,
        (_, Some((_, cancelled_at))) => expires_ms.min(cancelled_at.timestamp_millis()),
        (_, None) => expires_ms,
    };
    match calm.is_longer_than_since(ends_ms) {
        true => Err(format!(
            "message {id} is open {} s after its end ({:?})",
            (calm.now_ms - ends_ms) / 1_000,
            message.newest()
        )),
        false => Ok(()),
    }
}
