//! What follows a failed attempt (대체발송): another relay of the channel, then e-mail, or the end.
//!
//! The failure class says what may be tried, the sending's terms narrow that, and the current state of the relays
//! decides which one is left.

use chrono::{DateTime, Utc};
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::copied::in_doubt;
use super::doubt::unknown_at;
use super::message::{Attempt, Message, Outcome};
use super::{Lot, MessagesFinished, MessagesRouted, RouteSet, UnknownSet};
use crate::address::PhoneKind;
use crate::event::Event;
use crate::failure::{ChannelFailover, FailureClass, RelayFailover};
use crate::mutation::{self, Mutation};
use crate::policy::FailoverTerms;
use crate::relay::{RelayDirectory, RelayEntry};
use crate::sending::SendingAccepted;
use crate::seq_set::SeqSet;
use crate::slug::RelayId;
use crate::text::MessageType;

/// What is known outside the lot when it decides.
#[derive(Debug, Clone, Copy)]
pub struct RoutingContext<'c> {
    /// All relays as they stand.
    pub directory: &'c RelayDirectory,
    /// The relays that the sending's phone number is registered with.
    pub phone_relays: &'c [RelayId],
    /// The relays that the sending's e-mail address is registered with.
    pub email_relays: &'c [RelayId],
    /// The time.
    pub now: DateTime<Utc>,
}

impl RoutingContext<'_> {
    /// The relays that the sending's sender is registered with on a channel.
    pub fn registered(&self, channel: MessageType) -> &[RelayId] {
        match channel {
            MessageType::Email => self.email_relays,
            MessageType::Sms | MessageType::Lms | MessageType::Mms | MessageType::Alimtalk => {
                self.phone_relays
            }
        }
    }
}

/// Why the last attempt is over.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) class: FailureClass,
    pub(super) code: SmolStr,
    /// How the message ends if nobody is left to try.
    pub(super) outcome: Outcome,
}

/// Collects what follows from failures, so that messages with the same result share one event. Each message has one
/// result: the first that is decided.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    routes: BTreeMap<RouteKey, RouteSet>,
    finished: Vec<MessagesFinished>,
    /// The routes that the original of this log may have made, too.
    doubts: Vec<(RelayId, u16, UnknownSet)>,
    decided: SeqSet,
}

/// What messages that continue together have in common.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RouteKey {
    relay: RelayId,
    channel: MessageType,
    attempt: u16,
    fallbacks: Vec<RelayId>,
    reason: String,
}

impl Aftermath {
    /// Decides what follows the failure of a message's newest attempt: the next attempt, or the end.
    pub(super) fn follow(
        &mut self,
        lot: &Lot,
        seq: u32,
        failure: &Failure,
        terms: &SendingAccepted,
        context: &RoutingContext<'_>,
    ) {
        let Some((message, last)) = newest_attempt(lot, seq) else { return };
        let next = may_go_on(message, terms, context)
            .then(|| {
                let policy = &terms.failover;
                another_relay(lot, message, last, failure.class, policy, context).or_else(|| {
                    let has_address = lot.recipient(seq).is_some_and(|recipient| recipient.email.is_some());
                    let may_change = has_address && last.channel != MessageType::Email;
                    another_channel(failure.class, policy, context).filter(|_| may_change)
                })
            })
            .flatten();
        match next {
            Some(next) => self.route(lot, seq, next, failure, terms, context.now),
            None => self.finish(seq, failure.outcome, failure.code.clone(), Some(failure.class)),
        }
    }

    /// Decides what follows an answer that was lost and will not be asked for: another relay, if sending twice was
    /// allowed. Otherwise nothing: the receipt may still come, and the deadline decides about another channel.
    pub(super) fn follow_unknown(
        &mut self,
        lot: &Lot,
        seq: u32,
        terms: &SendingAccepted,
        context: &RoutingContext<'_>,
    ) {
        let Some((message, last)) = newest_attempt(lot, seq) else { return };
        let failure =
            Failure { class: FailureClass::Unknown, code: "no_answer".into(), outcome: Outcome::Expired };
        if !may_go_on(message, terms, context) {
            return;
        }
        if let Some(next) = another_relay(lot, message, last, failure.class, &terms.failover, context) {
            self.route(lot, seq, next, &failure, terms, context.now);
        }
    }

    /// Moves messages that were never handed over away from a relay that takes nothing at the moment. Messages that
    /// no other relay can carry stay.
    pub(super) fn take_away(
        &mut self,
        lot: &Lot,
        seq: u32,
        reason: &str,
        terms: &SendingAccepted,
        context: &RoutingContext<'_>,
    ) {
        let Some((message, last)) = newest_attempt(lot, seq) else { return };
        if !may_go_on(message, terms, context) {
            return;
        }
        let failure =
            Failure { class: FailureClass::RelayFault, code: reason.into(), outcome: Outcome::Undelivered };
        if let Some(next) = another_relay(lot, message, last, failure.class, &terms.failover, context) {
            self.route(lot, seq, next, &failure, terms, context.now);
        }
    }

    /// Moves a message that was never handed over to a relay at which its sender is registered, because it no longer
    /// is at the relay that the message waits for. Returns whether it keeps waiting, for such a relay that takes
    /// nothing at the moment.
    pub(super) fn take_to_registered(
        &mut self,
        lot: &Lot,
        seq: u32,
        code: SmolStr,
        terms: &SendingAccepted,
        context: &RoutingContext<'_>,
    ) -> bool {
        let Some((message, last)) = newest_attempt(lot, seq) else { return false };
        let failure = Failure { class: FailureClass::Sender, code, outcome: Outcome::Refused };
        if terms.failover.relays && may_go_on(message, terms, context) {
            let left = registered_and_untried(lot, message, last, context);
            if let Some(next) = first_of(left.clone(), message, last, context) {
                self.route(lot, seq, next, &failure, terms, context.now);
                return false;
            }
            let reach = reach_of(message, last);
            let registered = context.registered(last.channel);
            let is_closed = |relay| {
                let found = context.directory.eligible(relay, last.channel, reach, registered);
                found.is_err_and(|why| why.is_passing())
            };
            if left.iter().any(is_closed) {
                return true;
            }
        }
        self.finish(seq, failure.outcome, failure.code, Some(failure.class));
        false
    }

    /// Ends a message.
    pub(super) fn finish(
        &mut self,
        seq: u32,
        outcome: Outcome,
        reason: SmolStr,
        class: Option<FailureClass>,
    ) {
        if !self.decide(seq) {
            return;
        }
        let same = |set: &&mut MessagesFinished| {
            set.outcome == outcome && set.reason == reason && set.class == class
        };
        match self.finished.iter_mut().find(same) {
            Some(set) => set.messages.push(seq),
            None => self.finished.push(MessagesFinished {
                messages: std::iter::once(seq).collect(),
                outcome,
                reason,
                class,
            }),
        }
    }

    /// The events, routes first, then what is in doubt about them.
    pub(super) fn into_events(self) -> impl Iterator<Item = Event> {
        let routed = (!self.routes.is_empty())
            .then(|| MessagesRouted { routes: self.routes.into_values().collect(), splits: Vec::new() });
        let doubts =
            self.doubts.into_iter().map(|(relay, attempt, unknown)| unknown_at(relay, attempt, unknown));
        let finished = self.finished.into_iter().map(Event::from);
        routed.map(Event::from).into_iter().chain(doubts).chain(finished)
    }

    fn route(
        &mut self,
        lot: &Lot,
        seq: u32,
        next: Next<'_>,
        failure: &Failure,
        terms: &SendingAccepted,
        now: DateTime<Utc>,
    ) {
        if !self.decide(seq) {
            return;
        }
        let attempt = lot.message(seq).map_or(1, |message| message.attempts_made() + 1);
        // What may be sent twice continues at once.
        if lot.doubted.contains(seq) && !terms.failover.at_least_once {
            self.doubt(seq, attempt, &next, terms, now);
        }
        let key = RouteKey {
            relay: next.entry.profile.relay.clone(),
            channel: next.channel,
            attempt,
            fallbacks: next.fallbacks,
            reason: format!("{} after {} ({})", next.why, failure.class.as_str(), failure.code),
        };
        let set = self.routes.entry(key).or_insert_with_key(|key| {
            let terms = next.entry.profile.channels.get(&key.channel);
            RouteSet {
                relay: key.relay.clone(),
                channel: key.channel,
                attempt: key.attempt,
                messages: SeqSet::default(),
                fallbacks: key.fallbacks.clone(),
                price_milliwon: terms.map_or(0, |terms| terms.price_milliwon),
                bills: terms.map(|terms| terms.bills).unwrap_or_default(),
                reason: key.reason.clone(),
            }
        });
        set.messages.push(seq);
    }

    /// The next attempt begins in doubt.
    fn doubt(
        &mut self,
        seq: u32,
        attempt: u16,
        next: &Next<'_>,
        terms: &SendingAccepted,
        now: DateTime<Utc>,
    ) {
        let profile = &next.entry.profile;
        let unknown = in_doubt(std::iter::once(seq).collect(), next.channel, Some(profile), terms, now);
        let same = |(relay, number, set): &&mut (RelayId, u16, UnknownSet)| {
            *relay == profile.relay && *number == attempt && set.receipt_by == unknown.receipt_by
        };
        match self.doubts.iter_mut().find(same) {
            Some((_, _, set)) => set.messages.push(seq),
            None => self.doubts.push((profile.relay.clone(), attempt, unknown)),
        }
    }

    /// Whether nothing was decided about the message yet; from now on something is.
    fn decide(&mut self, seq: u32) -> bool {
        let is_new = !self.decided.contains(seq);
        self.decided.push(seq);
        is_new
    }
}

fn newest_attempt(lot: &Lot, seq: u32) -> Option<(&Message, &Attempt)> {
    let message = lot.message(seq)?;
    Some((message, message.attempts.last()?))
}

fn may_go_on(message: &Message, terms: &SendingAccepted, context: &RoutingContext<'_>) -> bool {
    message.attempts_made() < terms.failover.attempts_max && context.now < terms.expires_at
}

struct Next<'c> {
    entry: &'c RelayEntry,
    channel: MessageType,
    fallbacks: Vec<RelayId>,
    why: &'static str,
}

/// The next of the relays that the first route named. A relay is named once, so none is tried twice.
fn another_relay<'c>(
    lot: &Lot,
    message: &Message,
    last: &Attempt,
    class: FailureClass,
    terms: &FailoverTerms,
    context: &RoutingContext<'c>,
) -> Option<Next<'c>> {
    let allowed = match class.another_relay() {
        RelayFailover::AtOnce | RelayFailover::OnlyWhereRegistered => terms.relays,
        RelayFailover::OnlyAtLeastOnce => {
            terms.relays && (terms.at_least_once || mutation::is_active(Mutation::FailoverFromUnknown))
        }
        RelayFailover::Never => false,
    };
    if !allowed || mutation::is_active(Mutation::FailoverForgotten) {
        return None;
    }
    let left = lot.fallbacks[usize::from(last.fallbacks)].to_vec();
    first_of(left, message, last, context)
}

/// The first of these relays that can carry the message now; the others are its fallbacks.
fn first_of<'c>(
    mut left: Vec<RelayId>,
    message: &Message,
    last: &Attempt,
    context: &RoutingContext<'c>,
) -> Option<Next<'c>> {
    let (reach, registered) = (reach_of(message, last), context.registered(last.channel));
    let can_carry =
        |relay: &RelayId| context.directory.eligible(relay, last.channel, reach, registered).is_ok();
    let chosen = left.iter().position(can_carry)?;
    let entry = context.directory.get(&left[chosen])?;
    left.remove(chosen);
    mutation::bug!(FallbackKept, left.insert(chosen, entry.profile.relay.clone()));
    Some(Next { entry, channel: last.channel, fallbacks: left, why: "next relay" })
}

/// The relays that the first route named, and then those at which the sender was registered since, by id. None that
/// was tried.
fn registered_and_untried(
    lot: &Lot,
    message: &Message,
    last: &Attempt,
    context: &RoutingContext<'_>,
) -> Vec<RelayId> {
    let named = &lot.fallbacks[usize::from(last.fallbacks)];
    let is_tried = |relay: &RelayId| {
        message.attempts.iter().any(|one| one.channel == last.channel && lot.relay_of(one) == relay)
    };
    let registered = context.registered(last.channel).iter();
    let mut since: Vec<&RelayId> =
        registered.filter(|relay| !named.contains(relay) && !is_tried(relay)).collect();
    since.sort_unstable();
    since.dedup();
    named.iter().chain(since).cloned().collect()
}

/// The kind of phone that a relay has to reach; none for an e-mail.
fn reach_of(message: &Message, last: &Attempt) -> Option<PhoneKind> {
    message.reach.filter(|_| last.channel != MessageType::Email)
}

/// By e-mail, the cheapest relay first.
fn another_channel<'c>(
    class: FailureClass,
    terms: &FailoverTerms,
    context: &RoutingContext<'c>,
) -> Option<Next<'c>> {
    let allowed = match class.another_channel() {
        ChannelFailover::AfterRelays | ChannelFailover::EmailOnly => {
            terms.email || mutation::is_active(Mutation::EmailWithoutLeave)
        }
        ChannelFailover::ByPolicy => terms.email && terms.email_after_temporary,
        ChannelFailover::AfterWait => terms.email && terms.at_least_once,
        ChannelFailover::TextMessageOnly | ChannelFailover::Never => false,
    };
    if !allowed {
        return None;
    }
    let channel = MessageType::Email;
    let mut eligible: Vec<&RelayEntry> = context
        .email_relays
        .iter()
        .filter_map(|relay| context.directory.eligible(relay, channel, None, context.email_relays).ok())
        .collect();
    eligible
        .sort_by_key(|entry| (entry.profile.channels[&channel].price_milliwon, entry.profile.relay.clone()));
    let (entry, rest) = eligible.split_first()?;
    Some(Next {
        entry,
        channel,
        fallbacks: rest.iter().map(|entry| entry.profile.relay.clone()).collect(),
        why: "e-mail",
    })
}
