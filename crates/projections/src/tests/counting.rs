//! Messages as they are shown, counted one by one: what every view has to come to. Shares nothing with the fold.

use kite_domain::failure::FailureClass;
use kite_domain::lot::{AttemptState, Outcome};
use kite_domain::slug::RelayId;
use kite_domain::text::Channel;
use std::collections::BTreeMap;

use crate::delivery::{Counts, KnownAttempt, KnownMessage};

/// Where something is counted.
pub(super) type Group = (Option<RelayId>, Channel);

/// What these messages come to.
pub(super) fn counted(messages: &[KnownMessage]) -> Counts {
    let mut all = Counts::default();
    by_relay(messages).into_values().for_each(|counts| all += counts);
    all
}

/// The same by relay and channel: messages at their newest attempt, attempts at their own.
pub(super) fn by_relay(messages: &[KnownMessage]) -> BTreeMap<Group, Counts> {
    let mut groups: BTreeMap<Group, Counts> = BTreeMap::new();
    for message in messages {
        let newest = message.attempts.last();
        let group = newest.map_or((None, message.message_type), group);
        count_message(message, groups.entry(group).or_default());
        for attempt in &message.attempts {
            let counts = groups.entry(self::group(attempt)).or_default();
            counts.failovers += i64::from(usize::from(attempt.attempt) < message.attempts.len());
            count_attempt(attempt, counts);
        }
    }
    groups
}

fn group(attempt: &KnownAttempt) -> Group {
    (Some(attempt.relay.clone()), attempt.channel)
}

fn count_message(message: &KnownMessage, counts: &mut Counts) {
    counts.messages += 1;
    match message.outcome {
        None => counts.open += 1,
        Some(Outcome::Delivered) => counts.delivered += 1,
        Some(Outcome::Undelivered) => counts.undelivered += 1,
        Some(Outcome::Expired) => counts.expired += 1,
        Some(Outcome::Cancelled) => counts.cancelled += 1,
        Some(Outcome::Refused) => counts.refused += 1,
    }
    counts.routed += i64::from(!message.attempts.is_empty());
    counts.handed_over += i64::from(message.first_submitted_at.is_some());
    counts.delivered_twice += i64::from(message.delivered_twice);
}

fn count_attempt(attempt: &KnownAttempt, counts: &mut Counts) {
    counts.attempts += 1;
    counts.first_routed += i64::from(attempt.attempt == 1);
    counts.attempts_handed_over += i64::from(attempt.submitted_at.is_some());
    counts.attempts_accepted += i64::from(attempt.is_taken);
    match attempt.state {
        AttemptState::Unknown => counts.attempts_unknown += 1,
        AttemptState::Refused => counts.attempts_refused += 1,
        AttemptState::Delivered => counts.attempts_delivered += 1,
        AttemptState::Undelivered => counts.attempts_undelivered += 1,
        AttemptState::Expired => counts.attempts_expired += 1,
        AttemptState::Routed | AttemptState::Submitted | AttemptState::Accepted => {}
    }
    counts.cost_milliwon += attempt.cost_milliwon;
}

/// The failures that relays told, by class.
pub(super) fn failures(messages: &[KnownMessage]) -> BTreeMap<FailureClass, u64> {
    let mut failures = BTreeMap::new();
    for attempt in messages.iter().flat_map(|message| &message.attempts) {
        let is_told = matches!(attempt.state, AttemptState::Refused | AttemptState::Undelivered);
        if let Some(class) = attempt.failure_class.filter(|_| is_told) {
            *failures.entry(class).or_default() += 1;
        }
    }
    failures
}
