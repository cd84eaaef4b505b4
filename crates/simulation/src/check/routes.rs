//! Routes: whether there may be another attempt, at which relay, and whether one is due.

use chrono::{DateTime, Utc};
use kite_domain::failure::FailureClass;
use kite_domain::ids::MessageId;
use kite_domain::lot::{MessagesRouted, RouteSet};
use kite_domain::relay::BreakerPhase;
use kite_domain::sending::SendingAccepted;
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;

use super::failures::{may_change_channel, may_change_relay};
use super::message::{AttemptState, MessageState, NEVER_MS, State};
use super::noted::notice;
use super::relays::Carriage;
use super::{Checked, Checker, RelayState, Told};

impl Checker {
    pub(super) fn routed(&mut self, routed: &MessagesRouted, told: &Told<'_>) -> Checked {
        let terms = self.terms_of(told)?;
        let sending = self.sending(terms.sending)?;
        let is_first = routed.routes.iter().any(|route| route.attempt == 1);
        let claimed_at = self.claim_of(routed, told)?;
        let decided_at = claimed_at.unwrap_or_else(|| told.time());
        let is_early = terms.scheduled_at.is_some_and(|at| at > decided_at) && !sending.released;
        if is_first && is_early {
            return Err("routed before its time".to_owned());
        }
        if is_first && self.is_known_to_be_paused(terms.sending, decided_at)? {
            return Err("routed although its sending is paused".to_owned());
        }
        if is_first && claimed_at.is_none() {
            self.split(routed, told, &terms)?;
        }
        for route in &routed.routes {
            for seq in &route.messages {
                self.check_route(route, seq, told, decided_at, &terms)?;
                self.message_mut(told, seq)?.attempts.push(new_attempt(route, told));
            }
        }
        Ok(())
    }

    fn check_route(
        &self,
        route: &RouteSet,
        seq: u32,
        told: &Told<'_>,
        decided_at: DateTime<Utc>,
        terms: &SendingAccepted,
    ) -> Checked {
        let message = self.message_at(told, seq)?;
        if message.outcome.is_some() {
            return Err(format!("message {seq} is routed although it is {:?}", message.outcome));
        }
        if route.attempt != message.attempts_made() + 1 {
            return Err(format!(
                "attempt {} of message {seq} follows {}",
                route.attempt,
                message.attempts_made()
            ));
        }
        self.may_carry(&route.relay, carriage(terms, route.channel, message), decided_at)?;
        self.check_price(route, decided_at)?;
        match message.newest() {
            None if route.channel == message.channel => Ok(()),
            None => Err(format!("message {seq} is {} and goes as {}", message.channel, route.channel)),
            Some(before) => {
                let class = self.check_over(before, seq, told, terms)?;
                self.check_failover(route, told.message(seq)?, class, told, terms)
            }
        }
    }

    fn check_price(&self, route: &RouteSet, at: DateTime<Utc>) -> Checked {
        let is_price = |profile: &Option<kite_domain::relay::RelayProfile>| {
            let terms = profile.as_ref().and_then(|profile| profile.channels.get(&route.channel));
            terms.is_some_and(|terms| terms.price_milliwon == route.price_milliwon)
        };
        match self.relays.get(&route.relay).is_some_and(|relay| relay.profile.may(at, is_price)) {
            true => Ok(()),
            false => Err(format!("{} is not the price of {}", route.price_milliwon, route.relay)),
        }
    }

    /// Law 4: the attempt before is over, in a way that allows another. Returns why it is over.
    fn check_over(
        &self,
        before: &AttemptState,
        seq: u32,
        told: &Told<'_>,
        terms: &SendingAccepted,
    ) -> Checked<FailureClass> {
        let at = told.time();
        let is_overdue = before.receipt_by_ms <= at.timestamp_millis();
        let may_be_closed = || {
            self.relays.get(&before.relay).is_some_and(|relay| {
                relay.is_suspended.may(at, |is_suspended| *is_suspended)
                    || relay.is_unattended.may(at, |is_unattended| *is_unattended)
                    || relay.phase.may(at, |phase| *phase == BreakerPhase::Tripped)
            })
        };
        match before.state {
            State::Refused | State::Undelivered => {
                Ok(before.failure.as_ref().map_or(FailureClass::Unclassified, |(_, class)| *class))
            }
            State::Routed if may_be_closed() => Ok(FailureClass::RelayFault),
            State::Routed if !self.senders.must_send(terms, before.channel, &before.relay, at) => {
                Ok(FailureClass::Sender)
            }
            State::Routed => Err(format!("message {seq} is taken from {}, which works", before.relay)),
            state if !terms.failover.at_least_once => {
                Err(format!("law 4: message {seq} fails over from {state:?}"))
            }
            State::Unknown if before.not_before_ms == NEVER_MS => Ok(FailureClass::Unknown),
            state if state.is_in_flight() && is_overdue => Ok(FailureClass::Unknown),
            state => Err(format!("law 4: message {seq} fails over from {state:?}, which it may still leave")),
        }
    }

    fn check_failover(
        &self,
        route: &RouteSet,
        id: MessageId,
        class: FailureClass,
        told: &Told<'_>,
        terms: &SendingAccepted,
    ) -> Checked {
        let at = told.time();
        let message = self.message_at(told, id.seq)?;
        let Some(before) = message.newest() else { return Ok(()) };
        let words = format!("message {} goes to {} after {class} at {}", id.seq, route.relay, before.relay);
        if route.attempt > terms.failover.attempts_max || at >= terms.expires_at + notice() {
            return Err(format!("{words}: too often, or too late"));
        }
        let is_same = |one: &AttemptState| one.relay == route.relay && one.channel == route.channel;
        if message.attempts.iter().any(is_same) {
            return Err(format!("{words}: it was there before"));
        }
        if route.channel == before.channel {
            return self.check_next_relay(
                route,
                before,
                class,
                carriage(terms, route.channel, message),
                at,
                &words,
            );
        }
        let can_change = route.channel == MessageType::Email && self.has_email(id);
        if !can_change || !may_change_channel(class, &terms.failover) {
            return Err(format!("{words}: the channel may not change"));
        }
        match self.owed_relay(message, class, terms, at) {
            Some(relay) => Err(format!("{words}: {relay} is left on {}", before.channel)),
            None => Ok(()),
        }
    }

    /// The first of those that the route before named and that can carry it.
    fn check_next_relay(
        &self,
        route: &RouteSet,
        before: &AttemptState,
        class: FailureClass,
        carriage: Carriage<'_>,
        at: DateTime<Utc>,
        words: &str,
    ) -> Checked {
        if !may_change_relay(class, &carriage.terms.failover) {
            return Err(format!("{words}: the relay may not change"));
        }
        // Whom the sender was registered with since may come after them.
        let mut fallbacks = before.fallbacks.clone();
        if before.state == State::Routed && class == FailureClass::Sender {
            let since =
                route.fallbacks.iter().chain([&route.relay]).filter(|relay| !fallbacks.contains(relay));
            let mut since: Vec<RelayId> = since.cloned().collect();
            since.sort_unstable();
            fallbacks.extend(since);
        }
        let Some(place) = fallbacks.iter().position(|relay| *relay == route.relay) else {
            return Err(format!("{words}: that is none of {fallbacks:?}"));
        };
        let (passed_over, rest) = fallbacks.split_at(place);
        if let Some(better) = passed_over.iter().find(|relay| self.must_carry(relay, carriage, at)) {
            return Err(format!("{words}: {better} comes first"));
        }
        if !passed_over.iter().chain(&rest[1..]).eq(&route.fallbacks) {
            return Err(format!("{words}: then {:?}, before {fallbacks:?}", route.fallbacks));
        }
        Ok(())
    }

    fn has_email(&self, id: MessageId) -> bool {
        let recipients = self.sendings.get(&id.sending).map(|sending| &sending.recipients);
        let recipient = recipients.and_then(|recipients| recipients.get(&id.seq));
        recipient.is_some_and(|recipient| recipient.email.is_some())
    }

    /// The relay that must be tried next on the same channel after such a failure, if anybody.
    pub(super) fn owed_relay(
        &self,
        message: &MessageState,
        class: FailureClass,
        terms: &SendingAccepted,
        at: DateTime<Utc>,
    ) -> Option<RelayId> {
        let newest = message.newest()?;
        if is_over(message, terms, at) || !may_change_relay(class, &terms.failover) {
            return None;
        }
        let carriage = carriage(terms, newest.channel, message);
        newest.fallbacks.iter().find(|relay| self.must_carry(relay, carriage, at)).cloned()
    }

    /// The relays that the sender is registered with, that can carry the message and were not tried, open or not; none where
    /// it may go to no other.
    pub(super) fn registered_and_untried(
        &self,
        message: &MessageState,
        terms: &SendingAccepted,
        at: DateTime<Utc>,
    ) -> Vec<RelayId> {
        let Some(newest) = message.newest() else { return Vec::new() };
        if is_over(message, terms, at) || !terms.failover.relays {
            return Vec::new();
        }
        let Carriage { channel, reach, .. } = carriage(terms, newest.channel, message);
        let is_tried = |relay: &RelayId| {
            message.attempts.iter().any(|attempt| attempt.relay == *relay && attempt.channel == channel)
        };
        let can_carry = |(relay, state): &(&RelayId, &RelayState)| {
            state.offers(channel)
                && state.reaches(reach)
                && !is_tried(relay)
                && self.senders.must_send(terms, channel, relay, at)
        };
        self.relays.iter().filter(can_carry).map(|(relay, _)| relay.clone()).collect()
    }

    /// Whoever must be tried next after such a failure, on the same channel or by e-mail, if anybody.
    pub(super) fn owed(
        &self,
        id: MessageId,
        class: FailureClass,
        terms: &SendingAccepted,
        at: DateTime<Utc>,
    ) -> Option<RelayId> {
        let message = self.message(id)?;
        let newest = message.newest()?;
        let by_email = || {
            let can_change = newest.channel != MessageType::Email && self.has_email(id);
            if is_over(message, terms, at) || !can_change || !may_change_channel(class, &terms.failover) {
                return None;
            }
            let carriage = Carriage { terms, channel: MessageType::Email, reach: None };
            self.relays.keys().find(|relay| self.must_carry(relay, carriage, at)).cloned()
        };
        self.owed_relay(message, class, terms, at).or_else(by_email)
    }
}

/// No attempt may follow any more.
fn is_over(message: &MessageState, terms: &SendingAccepted, at: DateTime<Utc>) -> bool {
    message.attempts_made() >= terms.failover.attempts_max || at >= terms.expires_at
}

pub(super) fn carriage<'c>(
    terms: &'c SendingAccepted,
    channel: MessageType,
    message: &MessageState,
) -> Carriage<'c> {
    Carriage { terms, channel, reach: message.reach.filter(|_| channel != MessageType::Email) }
}

fn new_attempt(route: &RouteSet, told: &Told<'_>) -> AttemptState {
    AttemptState {
        relay: route.relay.clone(),
        channel: route.channel,
        state: State::Routed,
        intents: 0,
        first_submitted_at_ms: 0,
        submitted_at_ms: 0,
        answer_by_ms: 0,
        arrivals: 0,
        is_in_doubt: false,
        round: 0,
        receipt_by_ms: 0,
        not_before_ms: 0,
        failure: None,
        put_off: None,
        routed_at_ms: told.time().timestamp_millis(),
        fallbacks: route.fallbacks.clone(),
    }
}
