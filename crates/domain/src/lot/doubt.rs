//! What becomes of the messages of a log that is a copy: the original may have handed over, after the copy was taken,
//! everything that is open in it (law 4).
//!
//! - What has a route is unknown at that relay, as if its answer had been lost, and is asked about, handed over again under
//!   the same reference, or left to its receipt and deadline, as that relay allows.
//! - What has no route may be with any relay. Nobody can be asked, so it has ended, unless the sending may be sent twice.
//! - A later attempt of such a message may have been made by the original, too, and begins in doubt (`failover.rs`).

use chrono::{DateTime, TimeDelta, Utc};

use super::failover::{Aftermath, RoutingContext};
use super::message::{AttemptState, Outcome};
use super::{Lot, MessagesDoubted, RelayResponded, UnknownSet};
use crate::event::Event;
use crate::failure::FailureClass;
use crate::relay::RelayProfile;
use crate::sending::SendingAccepted;
use crate::seq_set::SeqSet;
use crate::slug::RelayId;
use crate::text::MessageType;

/// Why the answer is not known.
const REASON: &str = "this log is a copy: the original may have handed it over after the copy was taken";
/// How messages end that may be with any relay.
const COPIED: &str = "copied";
/// A channel that the relay no longer offers has no deadline of its own.
const RECEIPT_DEADLINE: TimeDelta = TimeDelta::days(3);

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
    /// Puts everything in doubt that is open and that the original may have handed over. The same once more changes
    /// nothing: no message is put in doubt twice.
    pub fn put_in_doubt(
        &self,
        terms: &SendingAccepted,
        is_cancelled: bool,
        context: &RoutingContext<'_>,
    ) -> Doubted {
        let mut doubted = SeqSet::default();
        let mut given_up = SeqSet::default();
        let mut groups: Vec<(RelayId, u16, MessageType, SeqSet)> = Vec::new();
        for (seq, message) in self.messages() {
            if message.outcome.is_some() || self.doubted.contains(seq) {
                continue;
            }
            let attempt = message.attempts.last();
            // The original knew of the cancellation, and hands nothing over after it.
            if is_cancelled && attempt.is_none_or(|attempt| attempt.state == AttemptState::Routed) {
                continue;
            }
            doubted.push(seq);
            let Some(attempt) = attempt else {
                if !terms.failover.at_least_once {
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
            if unknown.inquire_at.is_none() {
                messages.iter().for_each(|seq| aftermath.follow_unknown(self, seq, terms, context));
            }
            events.push(not_known(relay, attempt, unknown));
        }
        events.extend(aftermath.into_events());
        Doubted { events, messages_in_doubt, messages_given_up }
    }
}

/// Messages of which it is not known whether the relay has them.
pub(super) fn in_doubt(
    messages: SeqSet,
    channel: MessageType,
    profile: Option<&RelayProfile>,
    terms: &SendingAccepted,
    now: DateTime<Utc>,
) -> UnknownSet {
    let can_ask = profile.is_some_and(|profile| profile.answers_status || profile.deduplicates);
    let of_channel = profile.and_then(|profile| profile.channels.get(&channel));
    let deadline = match (terms.failover.wait_s, of_channel) {
        (Some(wait_s), _) => TimeDelta::seconds(wait_s.into()),
        (None, Some(terms)) => TimeDelta::seconds(terms.receipt_deadline_s.into()),
        (None, None) => RECEIPT_DEADLINE,
    };
    UnknownSet {
        messages,
        reason: REASON.to_owned(),
        inquire_at: can_ask.then_some(now),
        round: 0,
        duplicate_code: None,
        refusal: None,
        receipt_by: Some(now + deadline),
    }
}

pub(super) fn not_known(relay: RelayId, attempt: u16, unknown: UnknownSet) -> Event {
    RelayResponded {
        relay,
        attempt,
        call_ms: None,
        accepted: None,
        refused: Vec::new(),
        unknown: Some(unknown),
        deferred: None,
        refused_for_now: Vec::new(),
    }
    .into()
}
