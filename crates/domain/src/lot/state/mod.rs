//! The state of a lot, folded from its events. No stored event can make the fold fail: what does not fit (a message
//! that is not there, an attempt that was never routed) is ignored.

use chrono::{DateTime, Utc};
use std::sync::Arc;

use super::message::{Attempt, AttemptState, Doubt, Message, Outcome, OutcomeCounts};
use super::retry::Waits;
use super::{LotAccepted, Recipient, Refusal, RelayResponded, RouteSet};
use crate::event::Event;
use crate::ids::{LotId, MessageId, SendingId};
use crate::mutation::{self, Mutation};
use crate::receipt::ReceiptStatus;
use crate::sending::MessageClass;
use crate::seq_set::SeqSet;
use crate::slug::{RelayId, TenantId};

/// Never asked about: there is no use in it.
pub(super) const NEVER_MS: i64 = i64::MAX;

/// A lot as it stands.
#[derive(Debug, Clone)]
pub struct Lot {
    /// Which lot.
    pub id: LotId,
    /// Whose.
    pub tenant: TenantId,
    /// How urgent.
    pub class: MessageClass,
    /// One a message, by place in the lot.
    pub recipients: Arc<[Recipient]>,
    pub(super) messages: Vec<Message>,
    pub(super) relays: Vec<RelayId>,
    pub(super) fallbacks: Vec<Arc<[RelayId]>>,
    pub(super) held_until_ms: Vec<i64>,
    /// Refusals of repeats that do not count yet, by message and attempt. They are few.
    pub(super) refusals: Vec<(u32, u16, Refusal)>,
    /// What relays have refused for now.
    pub(super) waits: Waits,
    /// Messages that were open when the log was copied.
    pub(super) doubted: SeqSet,
    counts: OutcomeCounts,
}

/// Messages that a relay worker has something to do with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingHandover {
    /// Which relay.
    pub relay: RelayId,
    /// Which attempt.
    pub attempt: u16,
    /// Routed: hand over. Submitted: the answer is missing. Unknown: ask, or hand over again.
    pub state: AttemptState,
    /// Not before this time, in milliseconds since 1970; 0: at once. Submitted: when the caller must have its answer.
    pub not_before_ms: i64,
    /// Which messages.
    pub messages: SeqSet,
}

impl Lot {
    /// The lot as it was accepted.
    pub fn new(accepted: &LotAccepted) -> Self {
        let id = LotId { sending: accepted.sending, number: accepted.number };
        let recipients: Arc<[Recipient]> = accepted.personal.recipients.clone().into();
        let mut messages = Vec::with_capacity(recipients.len());
        for group in &accepted.groups {
            for seq in &group.messages {
                messages.push((
                    seq,
                    Message {
                        message_type: group.message_type,
                        parts: group.parts,
                        reach: group.reach,
                        attempts: Vec::new(),
                        outcome: None,
                    },
                ));
            }
        }
        if !messages.is_sorted_by_key(|(seq, _)| *seq) {
            messages.sort_by_key(|(seq, _)| *seq);
        }
        let messages: Vec<Message> =
            messages.into_iter().map(|(_, message)| message).take(recipients.len()).collect();
        let counts = OutcomeCounts { open: messages.len() as u32, ..OutcomeCounts::default() };
        Self {
            id,
            tenant: accepted.tenant.clone(),
            class: accepted.class,
            recipients,
            messages,
            relays: Vec::new(),
            fallbacks: Vec::new(),
            held_until_ms: Vec::new(),
            refusals: Vec::new(),
            waits: Waits::default(),
            doubted: SeqSet::default(),
            counts,
        }
    }

    /// The lot of a stream whose first event is a [`LotAccepted`].
    pub fn fold<'e>(events: impl IntoIterator<Item = &'e Event>) -> Option<Self> {
        let mut events = events.into_iter();
        let Event::LotAccepted(accepted) = events.next()? else { return None };
        let mut lot = Self::new(accepted);
        events.for_each(|event| lot.evolve(event));
        Some(lot)
    }

    /// The lot without its recipients: much smaller, and enough for a reader that only follows the results of the
    /// messages.
    #[must_use]
    pub fn without_recipients(self) -> Self {
        Self { recipients: Arc::default(), ..self }
    }

    /// Its size in memory, in bytes, about. A message that has no attempt yet counts with the one that it will have.
    pub fn memory_bytes(&self) -> usize {
        let attempts: usize = self.messages.iter().map(|message| message.attempts.capacity().max(1)).sum();
        size_of::<Self>()
            + self.recipients.iter().map(Recipient::memory_bytes).sum::<usize>()
            + self.messages.capacity() * size_of::<Message>()
            + attempts * size_of::<Attempt>()
            + self.held_until_ms.capacity() * size_of::<i64>()
            + self.refusals.capacity() * size_of::<(u32, u16, Refusal)>()
            + self.waits.memory_bytes()
            + size_of_val(self.doubted.as_slice())
    }

    /// How many messages ended how.
    pub fn counts(&self) -> OutcomeCounts {
        self.counts
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The message of this sequence number.
    pub fn message(&self, seq: u32) -> Option<&Message> {
        self.messages.get(self.place(seq)?)
    }

    /// The recipient of the message of this sequence number.
    pub fn recipient(&self, seq: u32) -> Option<&Recipient> {
        self.recipients.get(self.place(seq)?)
    }

    /// The relay of an attempt.
    pub fn relay_of(&self, attempt: &Attempt) -> &RelayId {
        &self.relays[usize::from(attempt.relay)]
    }

    /// All messages with their sequence numbers.
    pub fn messages(&self) -> impl Iterator<Item = (u32, &Message)> {
        let first = self.id.first_seq();
        self.messages
            .iter()
            .enumerate()
            .map(move |(place, message)| (first.saturating_add(place as u32), message))
    }

    /// The id of the message of this sequence number.
    pub fn message_id(&self, seq: u32) -> MessageId {
        MessageId { sending: self.id.sending, seq }
    }

    /// The sending that it is a slice of.
    pub fn sending(&self) -> SendingId {
        self.id.sending
    }

    /// Whether a message has no route yet.
    pub fn has_unrouted(&self) -> bool {
        self.messages.iter().any(|message| message.outcome.is_none() && message.attempts.is_empty())
    }

    pub(super) fn place(&self, seq: u32) -> Option<usize> {
        let place = seq.checked_sub(self.id.first_seq())? as usize;
        (place < self.messages.len()).then_some(place)
    }

    /// Until when the message is held, in milliseconds since 1970; 0: it is not.
    pub(super) fn held_until_ms(&self, seq: u32) -> i64 {
        self.place(seq).and_then(|place| self.held_until_ms.get(place).copied()).unwrap_or(0)
    }

    /// Its newest attempt is not handed over or asked about before this time, in milliseconds since 1970; 0: it waits
    /// for nothing.
    pub fn waits_until_ms(&self, seq: u32) -> i64 {
        let newest = self.message(seq).and_then(|message| message.attempts.last());
        newest.map_or(0, |attempt| attempt.not_before_ms).max(self.held_until_ms(seq))
    }

    /// Until when the answer to the newest call for this attempt is due, in milliseconds since 1970, as its intent
    /// says; 0: it does not say. None: there is no call without an answer.
    pub fn answer_by_ms(&self, seq: u32, attempt: u16) -> Option<i64> {
        let attempt = self.message(seq)?.attempt(attempt)?;
        (attempt.state == AttemptState::Submitted).then_some(attempt.not_before_ms)
    }

    /// What relay workers have to do with this lot: everything that is routed and not handed over, handed over and
    /// not answered, or unknown and worth asking about.
    pub fn pending(&self) -> Vec<PendingHandover> {
        let mut pending: Vec<PendingHandover> = Vec::new();
        for (seq, message) in self.messages() {
            let Some(attempt) = message.attempts.last().filter(|_| message.outcome.is_none()) else {
                continue;
            };
            let waits = match attempt.state {
                AttemptState::Routed => attempt.not_before_ms.max(self.held_until_ms(seq)),
                AttemptState::Submitted => attempt.not_before_ms,
                AttemptState::Unknown if attempt.not_before_ms != NEVER_MS => {
                    attempt.not_before_ms.max(self.held_until_ms(seq))
                }
                AttemptState::Unknown
                | AttemptState::Accepted
                | AttemptState::Expired
                | AttemptState::Refused
                | AttemptState::Undelivered
                | AttemptState::Delivered => continue,
            };
            let relay = self.relay_of(attempt);
            let number = message.attempts_made();
            let found = pending.iter_mut().find(|set| {
                set.attempt == number
                    && set.state == attempt.state
                    && set.not_before_ms == waits
                    && &set.relay == relay
            });
            match found {
                Some(set) => set.messages.push(seq),
                None => pending.push(PendingHandover {
                    relay: relay.clone(),
                    attempt: number,
                    state: attempt.state,
                    not_before_ms: waits,
                    messages: std::iter::once(seq).collect(),
                }),
            }
        }
        pending
    }

    fn forget_refusals(&mut self, messages: &SeqSet, attempt: u16) {
        if !self.refusals.is_empty() {
            self.refusals.retain(|(seq, number, _)| *number != attempt || !messages.contains(*seq));
        }
    }

    /// The next time at which something is due for the lot without a call: a deadline, the end of its lifetime, the
    /// end of a hold. None: nothing will be.
    pub fn next_due_ms(&self, expires_at: DateTime<Utc>) -> Option<i64> {
        let expires_ms = expires_at.timestamp_millis();
        self.messages()
            .filter(|(_, message)| message.outcome.is_none())
            .map(|(seq, message)| match message.attempts.last() {
                None => expires_ms,
                Some(attempt) => match attempt.state {
                    AttemptState::Routed => {
                        let held = attempt.not_before_ms.max(self.held_until_ms(seq));
                        if held > 0 { held.min(expires_ms) } else { expires_ms }
                    }
                    AttemptState::Unknown => {
                        attempt.receipt_by_ms.min(attempt.not_before_ms.max(self.held_until_ms(seq)))
                    }
                    AttemptState::Submitted
                    | AttemptState::Accepted
                    | AttemptState::Expired
                    | AttemptState::Refused
                    | AttemptState::Undelivered
                    | AttemptState::Delivered => attempt.receipt_by_ms,
                },
            })
            .min()
    }

    /// The next time at which a message ends without a call: its lifetime, or the deadline of its receipt.
    /// [`Lot::next_due_ms`] without what only waits to be handed over. None: nothing is open.
    pub fn next_end_ms(&self, expires_at: DateTime<Utc>) -> Option<i64> {
        let expires_ms = expires_at.timestamp_millis();
        let open = self.messages().filter(|(_, message)| message.outcome.is_none());
        open.map(|(_, message)| match message.attempts.last() {
            Some(attempt) if attempt.state != AttemptState::Routed => attempt.receipt_by_ms,
            _ => expires_ms,
        })
        .min()
    }

    /// Folds one of the lot's events; any other leaves it as it is.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::MessagesRouted(routed) => routed.routes.iter().for_each(|route| self.routed(route)),
            Event::MessagesSubmitted(submitted) => {
                let receipt_by_ms = submitted.receipt_by.timestamp_millis();
                let answer_by_ms = submitted.answer_by.map_or(0, |by| by.timestamp_millis());
                self.forget_refusals(&submitted.messages, submitted.attempt);
                for seq in &submitted.messages {
                    self.change(seq, submitted.attempt, |attempt| {
                        if matches!(attempt.state, AttemptState::Routed | AttemptState::Unknown) {
                            if attempt.state == AttemptState::Unknown {
                                attempt.doubt = attempt.doubt.max(Doubt::NoAnswer);
                            }
                            attempt.state = AttemptState::Submitted;
                            attempt.receipt_by_ms = receipt_by_ms;
                            attempt.not_before_ms = answer_by_ms;
                        }
                    });
                }
            }
            Event::RelayResponded(responded) => self.responded(responded),
            Event::ReceiptsRecorded(recorded) => {
                for set in &recorded.sets {
                    let state = match set.status {
                        ReceiptStatus::Delivered => AttemptState::Delivered,
                        ReceiptStatus::Undelivered => AttemptState::Undelivered,
                    };
                    set.messages.iter().for_each(|seq| self.raise(seq, set.attempt, state));
                }
            }
            Event::MessagesDoubted(doubted) => doubted.messages.iter().for_each(|seq| self.doubted.push(seq)),
            Event::MessagesHeld(held) => {
                self.held_until_ms.resize(self.messages.len(), 0);
                for (seq, until_ms) in held.messages.iter().zip(&held.until_ms) {
                    if let Some(place) = self.place(seq) {
                        self.held_until_ms[place] = *until_ms;
                    }
                }
            }
            Event::MessagesFinished(finished) => {
                for seq in &finished.messages {
                    if finished.outcome == Outcome::Expired {
                        self.expire_attempt(seq);
                    }
                    self.finish(seq, finished.outcome);
                }
            }
            _ => {}
        }
    }

    fn routed(&mut self, route: &RouteSet) {
        let relay = self.intern(&route.relay);
        let fallbacks = self.intern_fallbacks(&route.fallbacks);
        for seq in &route.messages {
            let Some(place) = self.place(seq) else { continue };
            let message = &mut self.messages[place];
            if message.attempts.len() + 1 == usize::from(route.attempt) {
                // Most messages have one attempt; by itself the list would begin with room for four.
                message.attempts.reserve_exact(1);
                message.attempts.push(Attempt {
                    relay,
                    fallbacks,
                    channel: route.channel,
                    state: AttemptState::Routed,
                    receipt_by_ms: 0,
                    not_before_ms: 0,
                    doubt: Doubt::None,
                    round: 0,
                });
            }
        }
    }

    fn responded(&mut self, responded: &RelayResponded) {
        let number = responded.attempt;
        if let Some(accepted) = &responded.accepted {
            let state = if accepted.is_final { AttemptState::Delivered } else { AttemptState::Accepted };
            accepted.messages.iter().for_each(|seq| self.raise(seq, number, state));
        }
        for refused in &responded.refused {
            refused.messages.iter().for_each(|seq| self.raise(seq, number, AttemptState::Refused));
        }
        if let Some(unknown) = &responded.unknown {
            let inquire_ms = unknown.inquire_at.map_or(NEVER_MS, |at| at.timestamp_millis());
            if let Some(refusal) = &unknown.refusal {
                self.forget_refusals(&unknown.messages, number);
                let refused = unknown.messages.iter().map(|seq| (seq, number, refusal.clone()));
                self.refusals.extend(refused);
            }
            for seq in &unknown.messages {
                self.change(seq, number, |attempt| {
                    if attempt.state <= AttemptState::Unknown {
                        attempt.state = AttemptState::Unknown;
                        attempt.not_before_ms = inquire_ms;
                        attempt.round = unknown.round;
                        if let Some(receipt_by) = unknown.receipt_by {
                            attempt.receipt_by_ms = attempt.receipt_by_ms.max(receipt_by.timestamp_millis());
                        }
                        if unknown.duplicate_code.is_some() {
                            attempt.doubt = Doubt::Duplicate;
                        }
                    }
                });
            }
        }
        if let Some(deferred) = &responded.deferred {
            self.give_back(&deferred.messages, number, deferred.until);
        }
        for set in &responded.refused_for_now {
            let waiting = self.give_back(&set.messages, number, set.until);
            self.waits.record(waiting, number, set);
        }
    }

    /// The relay certainly did not accept these: they are where they were before the call, and are handed over again.
    /// Returns them; of the others more is known.
    fn give_back(&mut self, messages: &SeqSet, number: u16, until: DateTime<Utc>) -> SeqSet {
        let mut given_back = SeqSet::default();
        for seq in messages {
            self.change(seq, number, |attempt| {
                if attempt.state <= AttemptState::Unknown {
                    attempt.state = AttemptState::Routed;
                    attempt.doubt = Doubt::None;
                    attempt.round = 0;
                    attempt.not_before_ms = until.timestamp_millis();
                    given_back.push(seq);
                }
            });
        }
        given_back
    }

    fn change(&mut self, seq: u32, number: u16, change: impl FnOnce(&mut Attempt)) {
        let Some(place) = self.place(seq) else { return };
        let Some(index) = usize::from(number).checked_sub(1) else { return };
        if let Some(attempt) = self.messages[place].attempts.get_mut(index) {
            change(attempt);
        }
    }

    /// What is known of an attempt only grows.
    fn raise(&mut self, seq: u32, number: u16, state: AttemptState) {
        let mut is_known = false;
        self.change(seq, number, |attempt| {
            if state > attempt.state || mutation::is_active(Mutation::ReceiptByArrival) {
                attempt.state = state;
            }
            is_known = true;
        });
        if is_known && state == AttemptState::Delivered {
            self.finish(seq, Outcome::Delivered);
        }
    }

    fn expire_attempt(&mut self, seq: u32) {
        let Some(place) = self.place(seq) else { return };
        if let Some(attempt) = self.messages[place].attempts.last_mut()
            && attempt.state.is_in_flight()
        {
            attempt.state = AttemptState::Expired;
        }
    }

    fn finish(&mut self, seq: u32, outcome: Outcome) {
        let Some(place) = self.place(seq) else { return };
        let message = &mut self.messages[place];
        let before = message.outcome;
        let after = before.max(Some(outcome));
        if before != after {
            message.outcome = after;
            *self.counts.of(before) -= 1;
            *self.counts.of(after) += 1;
        }
    }

    fn intern(&mut self, relay: &RelayId) -> u16 {
        let place = self.relays.iter().position(|known| known == relay).unwrap_or_else(|| {
            self.relays.push(relay.clone());
            self.relays.len() - 1
        });
        place as u16
    }

    fn intern_fallbacks(&mut self, fallbacks: &[RelayId]) -> u16 {
        let place = self.fallbacks.iter().position(|known| known[..] == *fallbacks).unwrap_or_else(|| {
            self.fallbacks.push(fallbacks.into());
            self.fallbacks.len() - 1
        });
        place as u16
    }
}

#[cfg(test)]
mod tests;
