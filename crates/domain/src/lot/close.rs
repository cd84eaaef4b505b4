//! What ends or moves messages without an answer of a relay: time, a cancellation, a relay that takes nothing.

use chrono::{DateTime, Utc};

use super::Lot;
use super::copied::COPIED;
use super::failover::{Aftermath, Failure, RoutingContext};
use super::message::{AttemptState, Message, Outcome};
use crate::event::Event;
use crate::failure::FailureClass;
use crate::mutation;
use crate::sending::SendingAccepted;
use crate::seq_set::SeqSet;
use crate::slug::RelayId;

impl Lot {
    /// What time alone decides: lifetimes that are over, receipts that did not come. Once the lifetime and every
    /// receipt deadline are over, nothing stays open.
    pub fn expire(&self, terms: &SendingAccepted, context: &RoutingContext<'_>) -> Vec<Event> {
        let mut aftermath = Aftermath::default();
        for (seq, message) in self.messages().filter(|(_, message)| message.outcome.is_none()) {
            if message.is_not_handed_over() {
                if terms.expires_at <= context.now {
                    let (reason, class) = self.end_of_life(seq);
                    aftermath.finish(seq, Outcome::Expired, reason, class);
                }
            } else if is_overdue(message, context.now) {
                aftermath.follow(self, seq, &Failure::no_receipt(), terms, context);
            }
        }
        aftermath.into_events().collect()
    }

    /// Ends what was never handed over.
    pub fn cancel(&self) -> Vec<Event> {
        let mut aftermath = Aftermath::default();
        for (seq, message) in self.messages() {
            if message.outcome.is_none() && message.is_not_handed_over() {
                self.finish_cancelled(seq, &mut aftermath);
            }
        }
        aftermath.into_events().collect()
    }

    /// Like [`Lot::expire`], for a cancelled sending: messages that were not handed over are cancelled, the others
    /// wait for their receipt until the deadline, and nothing is tried again.
    pub fn expire_cancelled(&self, now: DateTime<Utc>) -> Vec<Event> {
        let mut aftermath = Aftermath::default();
        for (seq, message) in self.messages().filter(|(_, message)| message.outcome.is_none()) {
            if message.is_not_handed_over() {
                self.finish_cancelled(seq, &mut aftermath);
            } else if is_overdue(message, now) {
                let Failure { class, code, outcome } = Failure::no_receipt();
                aftermath.finish(seq, outcome, code, Some(class));
            }
        }
        aftermath.into_events().collect()
    }

    /// Ends what was not handed over, for a cancellation. A cancellation did not stop what the original of a copy may
    /// have given to any relay, wherever the copy has routed it since.
    pub(super) fn finish_cancelled(&self, seq: u32, aftermath: &mut Aftermath) {
        if self.doubted.contains(seq) {
            aftermath.finish(seq, Outcome::Expired, COPIED.into(), Some(FailureClass::Unknown));
        } else {
            aftermath.finish(seq, Outcome::Cancelled, "cancelled".into(), None);
        }
    }

    /// Moves messages that wait for a relay which takes nothing at the moment to another relay, if there is one.
    pub fn take_away(
        &self,
        terms: &SendingAccepted,
        relay: &RelayId,
        candidates: &SeqSet,
        reason: &str,
        context: &RoutingContext<'_>,
    ) -> Vec<Event> {
        let mut aftermath = Aftermath::default();
        for seq in candidates {
            let Some(message) = self.message(seq).filter(|message| message.outcome.is_none()) else {
                continue;
            };
            let waits_there = message
                .attempts
                .last()
                .is_some_and(|last| last.state == AttemptState::Routed && self.relay_of(last) == relay);
            if waits_there {
                aftermath.take_away(self, seq, reason, terms, context);
            }
        }
        aftermath.into_events().collect()
    }

    /// The state of an attempt, if it was at this relay.
    pub(super) fn attempt_at(&self, seq: u32, relay: &RelayId, number: u16) -> Option<AttemptState> {
        let attempt = self.message(seq)?.attempt(number)?;
        (self.relay_of(attempt) == relay).then_some(attempt.state)
    }

    /// Whether reaching `state` ends the newest attempt of an open message, so that something must follow.
    pub(super) fn fails_now(&self, seq: u32, number: u16, state: AttemptState) -> bool {
        self.message(seq).is_some_and(|message| {
            message.outcome.is_none()
                && message.attempts_made() == number
                && message.attempts.last().is_some_and(|last| {
                    last.state < state || (state == AttemptState::Unknown && last.state == state)
                })
        })
    }
}

/// Whether the newest attempt has had its time. An attempt that is known to have failed while its message is still
/// open cannot come from these decisions; if it is in the log nevertheless, it ends here, too.
fn is_overdue(message: &Message, now: DateTime<Utc>) -> bool {
    let now_ms = now.timestamp_millis();
    mutation::bug!(DeadlineForgotten, return false);
    message.attempts.last().is_some_and(|last| last.receipt_by_ms <= now_ms)
}

impl Failure {
    /// The outcome is not known, and nobody will say.
    fn no_receipt() -> Self {
        Self { class: FailureClass::Unknown, code: "no_receipt".into(), outcome: Outcome::Expired }
    }
}
