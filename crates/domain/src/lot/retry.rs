//! What a relay refuses for now, for a reason of the message's own: it is handed over to the same relay again, with
//! growing pauses, until the message's lifetime or the policy's limit is over. Then the refusal counts like any
//! other.
//!
//! Mail servers greylist strangers for some minutes and let a full mailbox wait for hours, so the pauses grow as
//! those of mail servers do (RFC 5321, section 4.5.4.1).

use chrono::{DateTime, TimeDelta, Utc};
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::respond::{RefusedForNowMessage, RefusedMessage};
use super::{Lot, RefusedForNowSet};
use crate::failure::FailureClass;
use crate::mutation::{self, Mutation};
use crate::sending::SendingAccepted;
use crate::seq_set::SeqSet;

/// The word for a connection that ended at this message, which is then tried like one that was refused for now.
pub const CONNECTION_LOST: &str = "connection_lost";

/// The pause after the first refusal, the second, and so on; the last one repeats.
const PAUSES: [TimeDelta; 7] = [
    TimeDelta::minutes(1),
    TimeDelta::minutes(5),
    TimeDelta::minutes(10),
    TimeDelta::minutes(30),
    TimeDelta::hours(1),
    TimeDelta::hours(2),
    TimeDelta::hours(4),
];
/// No pause of a message is longer, whatever the relay asks for.
const PAUSE_MAX: TimeDelta = PAUSES[PAUSES.len() - 1];

/// What relays have refused for now in a lot, by message and attempt. They are few.
#[derive(Debug, Clone, Default)]
pub(super) struct Waits(BTreeMap<(u32, u16), Wait>);

/// What a relay has refused for now.
#[derive(Debug, Clone)]
pub(super) struct Wait {
    /// How often.
    times: u16,
    since: DateTime<Utc>,
    /// The relay's newest word.
    pub(super) code: SmolStr,
    pub(super) class: FailureClass,
}

impl Waits {
    /// These messages were refused for now.
    pub(super) fn record(&mut self, messages: SeqSet, attempt: u16, set: &RefusedForNowSet) {
        for seq in &messages {
            let wait = Wait { times: set.times, since: set.since, code: set.code.clone(), class: set.class };
            self.0.insert((seq, attempt), wait);
        }
    }

    pub(super) fn get(&self, seq: u32, attempt: u16) -> Option<&Wait> {
        self.0.get(&(seq, attempt))
    }

    /// What it takes in memory, in bytes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.0.len() * size_of::<((u32, u16), Wait)>()
    }
}

/// When a message is tried again, how often it was, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Again {
    times: u16,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Again {
    /// Whether there is time for it: the message lives, and the policy's limit is not over.
    pub(super) fn is_in_time(&self, terms: &SendingAccepted) -> bool {
        let limit = terms.failover.retry_s.map(|retry_s| self.since + TimeDelta::seconds(retry_s.into()));
        let is_over = self.until >= terms.expires_at || limit.is_some_and(|limit| self.until > limit);
        !is_over || mutation::is_active(Mutation::RetriedBeyondLimit)
    }
}

impl Lot {
    /// When the same relay would be tried again with a message that it has refused for now.
    pub(super) fn again(&self, message: &RefusedForNowMessage, attempt: u16, now: DateTime<Utc>) -> Again {
        let before = self.waits.get(message.refused.seq, attempt);
        let times = before.map_or(0, |wait| wait.times);
        let pause = PAUSES[usize::from(times).min(PAUSES.len() - 1)];
        let asked = message.retry_after.unwrap_or_default().min(PAUSE_MAX);
        Again {
            times: times.saturating_add(1),
            since: before.map_or(now, |wait| wait.since),
            until: now + pause.max(asked),
        }
    }

    /// Whether the relay of this attempt has refused the message for now before.
    pub fn was_put_off(&self, seq: u32, attempt: u16) -> bool {
        self.waits.get(seq, attempt).is_some()
    }

    /// The reason and class with which a message ends whose lifetime is over before it was taken: the relay's newest word, if
    /// it refused the message for now.
    pub(super) fn end_of_life(&self, seq: u32) -> (SmolStr, Option<FailureClass>) {
        let attempt = self.message(seq).map_or(0, super::Message::attempts_made);
        match self.waits.get(seq, attempt) {
            Some(wait) => (wait.code.clone(), Some(wait.class)),
            None => ("lifetime".into(), None),
        }
    }
}

/// Puts messages with the same fate into one set.
pub(super) fn collect(sets: &mut Vec<RefusedForNowSet>, message: RefusedMessage, again: Again) {
    let Again { times, since, until } = again;
    let RefusedMessage { seq, code, class, text } = message;
    let is_same = |set: &&mut RefusedForNowSet| {
        (set.times, set.since, set.until) == (times, since, until) && set.code == code && set.class == class
    };
    match sets.iter_mut().find(is_same) {
        Some(set) => set.messages.push(seq),
        None => sets.push(RefusedForNowSet {
            messages: std::iter::once(seq).collect(),
            code,
            class,
            text,
            times,
            since,
            until,
        }),
    }
}
