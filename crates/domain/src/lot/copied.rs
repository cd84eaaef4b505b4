//! What happens to the messages of a log that is a copy: the original may have handed over everything that is open in
//! it, after the copy was taken (law 4).
//!
//! - What has a route is unknown at that relay, as if its answer had been lost. It is asked about, handed over again
//!   under the same reference, or left to its receipt and deadline, as that relay allows.
//! - What has no route may be with any relay, and there is none to ask. So it has ended, unless the sending may be
//!   sent twice.
//! - A later attempt of such a message may have been made by the original, too, and begins in doubt (`failover.rs`).
//! - This log knows nothing of an attempt that the original made after the copy was taken, until its receipt comes.
//!   The receipt shows that it was made, and by which relay, so the attempt is added to the log with it.

use chrono::{DateTime, TimeDelta, Utc};

use super::doubt::{Asking, not_known, unknown_at};
use super::failover::{Aftermath, RoutingContext};
use super::message::{AttemptState, Message, Outcome};
use super::{Lot, MessagesDoubted, MessagesRouted, Note, RouteSet, UnknownSet};
use crate::event::Event;
use crate::failure::FailureClass;
use crate::instance;
use crate::mutation::{self, Mutation};
use crate::receipt::ReceiptStatus;
use crate::relay::RelayProfile;
use crate::sending::SendingAccepted;
use crate::seq_set::SeqSet;
use crate::slug::RelayId;
use crate::text::MessageType;

/// Why the answer is not known.
const REASON: &str = "this log is a copy: the original may have handed it over after the copy was taken";
/// Why a message went to a relay to which this log never sent it.
const TOLD: &str = "its receipt says that the original of this copy handed it over";
/// How messages end that may be with any relay.
pub(super) const COPIED: &str = "copied";
/// A channel that the relay no longer offers has no deadline of its own.
const RECEIPT_DEADLINE: TimeDelta = TimeDelta::days(3);

/// Whether the sending of a copied lot was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It was not.
    No,
    /// Before the copy was taken: the original knew about it, and handed nothing over after it.
    BeforeTheCopy,
    /// At the copy. That says nothing of what the original had handed over by then.
    AtTheCopy,
}

/// What putting a lot in doubt came to.
#[derive(Debug, Default)]
pub struct Doubted {
    /// To be appended.
    pub events: Vec<Event>,
    /// Messages that the original may have handed over.
    pub messages_in_doubt: u64,
    /// Messages that have ended because they had no route.
    pub messages_given_up: u64,
}

impl Lot {
    /// Puts everything in doubt that is open and that the original, dead since then, may have handed over. Calling it
    /// again changes nothing: no message is put in doubt twice.
    pub fn put_in_doubt(
        &self,
        terms: &SendingAccepted,
        cancelled: Cancelled,
        dead_since: DateTime<Utc>,
        context: &RoutingContext<'_>,
    ) -> Doubted {
        // What is cancelled by now is not sent twice, whatever its terms say.
        let goes_on = cancelled == Cancelled::No;
        let mut doubted = SeqSet::default();
        let mut given_up = SeqSet::default();
        let mut groups: Vec<(RelayId, u16, MessageType, SeqSet)> = Vec::new();
        for (seq, message) in self.messages() {
            if message.outcome.is_some() || self.doubted.contains(seq) {
                continue;
            }
            let attempt = message.attempts.last();
            let is_certain = cancelled == Cancelled::BeforeTheCopy || self.outlasts(seq, dead_since);
            if is_certain && message.is_not_handed_over() {
                continue;
            }
            doubted.push(seq);
            let Some(attempt) = attempt else {
                if !(terms.failover.at_least_once && goes_on) {
                    given_up.push(seq);
                }
                continue;
            };
            if attempt.state > AttemptState::Unknown {
                continue;
            }
            let (relay, number) = (self.relay_of(attempt), message.attempts_made());
            let same = |group: &&mut (RelayId, u16, MessageType, SeqSet)| {
                (&group.0, group.1, group.2) == (relay, number, attempt.channel)
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.3.push(seq),
                None => groups.push((relay.clone(), number, attempt.channel, std::iter::once(seq).collect())),
            }
        }
        if doubted.is_empty() {
            return Doubted::default();
        }
        let mut aftermath = Aftermath::default();
        for seq in &given_up {
            aftermath.finish(seq, Outcome::Expired, COPIED.into(), Some(FailureClass::Unknown));
        }
        let (messages_in_doubt, messages_given_up) = (doubted.len() as u64, given_up.len() as u64);
        let mut events = vec![MessagesDoubted { messages: doubted }.into()];
        for (relay, attempt, channel, messages) in groups {
            let profile = context.directory.get(&relay).map(|entry| &*entry.profile);
            let unknown = in_doubt(messages.clone(), channel, profile, terms, context.now);
            if unknown.inquire_at.is_none() && goes_on {
                messages.iter().for_each(|seq| aftermath.follow_unknown(self, seq, terms, context));
            }
            events.push(unknown_at(relay, attempt, unknown));
        }
        events.extend(aftermath.into_events());
        Doubted { events, messages_in_doubt, messages_given_up }
    }

    /// Whether the message is held for the night, and was held when the original died, because the window opens
    /// later.
    fn outlasts(&self, seq: u32, dead_since: DateTime<Utc>) -> bool {
        let held_until = DateTime::from_timestamp_millis(self.held_until_ms(seq));
        self.held_until_ms(seq) != 0 && !instance::may_have_been_due(held_until, dead_since)
    }

    /// Attempts that only these receipts show: the original made them after the copy was taken. Each belongs to a
    /// message in doubt, and is the next after the known attempts.
    ///
    /// If the attempt is not the first, its receipt is believed only if it says "delivered". Otherwise the attempt
    /// before may be in progress here, and nothing may follow from the end of another attempt beside it.
    pub(super) fn attempts_of_the_original(
        &self,
        terms: &SendingAccepted,
        relay: &RelayId,
        notes: &[Note],
        context: &RoutingContext<'_>,
    ) -> Vec<Event> {
        if self.doubted.is_empty() || mutation::is_active(Mutation::OriginalsReceiptDropped) {
            return Vec::new();
        }
        let Some(profile) = context.directory.get(relay).map(|entry| &*entry.profile) else {
            return Vec::new();
        };
        let mut routes: Vec<RouteSet> = Vec::new();
        for note in notes.iter().filter(|note| note.attempt <= terms.failover.attempts_max) {
            let Some((channel, fallbacks)) = self.told_by(note, profile) else { continue };
            let same = |set: &&mut RouteSet| {
                set.channel == channel && set.attempt == note.attempt && set.fallbacks == fallbacks
            };
            match routes.iter_mut().find(same) {
                Some(set) => set.messages.push(note.seq),
                None => routes.push(RouteSet {
                    relay: relay.clone(),
                    channel,
                    attempt: note.attempt,
                    messages: std::iter::once(note.seq).collect(),
                    fallbacks,
                    price_milliwon: profile.channels[&channel].price_milliwon,
                    bills: profile.channels[&channel].bills,
                    reason: TOLD.to_owned(),
                }),
            }
        }
        if routes.is_empty() {
            return Vec::new();
        }
        let unknown = |set: &RouteSet| {
            let unknown = in_doubt(set.messages.clone(), set.channel, Some(profile), terms, context.now);
            unknown_at(relay.clone(), set.attempt, UnknownSet { inquire_at: None, ..unknown })
        };
        let doubts: Vec<Event> = routes.iter().map(unknown).collect();
        std::iter::once(MessagesRouted { routes, splits: Vec::new() }.into()).chain(doubts).collect()
    }

    /// The channel of the attempt that this receipt shows, and the relays left to try after it; none: the receipt is
    /// not believed of an unknown attempt.
    fn told_by(&self, note: &Note, profile: &RelayProfile) -> Option<(MessageType, Vec<RelayId>)> {
        let message = self.message(note.seq).filter(|_| self.doubted.contains(note.seq))?;
        let is_next = message.attempts_made().checked_add(1) == Some(note.attempt);
        if !is_next || self.has_tried(message, &profile.relay) {
            return None;
        }
        let offers = |channel: &MessageType| profile.channels.contains_key(channel);
        let Some(last) = message.attempts.last() else {
            return Some(message.message_type).filter(offers).map(|channel| (channel, Vec::new()));
        };
        let by_email = self.recipient(note.seq).and_then(|to| to.email.as_ref()).map(|_| MessageType::Email);
        let channel = Some(last.channel).filter(offers).or(by_email.filter(offers))?;
        let left = self.fallbacks[usize::from(last.fallbacks)].iter();
        let fallbacks = left.filter(|id| **id != profile.relay).cloned().collect();
        (note.status == ReceiptStatus::Delivered).then_some((channel, fallbacks))
    }

    fn has_tried(&self, message: &Message, relay: &RelayId) -> bool {
        message.attempts.iter().any(|attempt| self.relay_of(attempt) == relay)
    }
}

/// Messages for which it is not known whether the relay has them.
pub(super) fn in_doubt(
    messages: SeqSet,
    channel: MessageType,
    profile: Option<&RelayProfile>,
    terms: &SendingAccepted,
    now: DateTime<Utc>,
) -> UnknownSet {
    let can_ask = profile.is_some_and(|profile| Asking::of(profile).can_ask());
    let of_channel = profile.and_then(|profile| profile.channels.get(&channel));
    let deadline = match (terms.failover.wait_s, of_channel) {
        (Some(wait_s), _) => TimeDelta::seconds(wait_s.into()),
        (None, Some(terms)) => TimeDelta::seconds(terms.receipt_deadline_s.into()),
        (None, None) => RECEIPT_DEADLINE,
    };
    UnknownSet {
        inquire_at: can_ask.then_some(now),
        receipt_by: Some(now + deadline),
        ..not_known(messages, REASON.to_owned())
    }
}
