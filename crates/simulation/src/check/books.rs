//! What callers were told: answers to requests are promises.

use chrono::{DateTime, Utc};
use kite_domain::ids::{AttemptReference, SendingId};
use kite_domain::receipt::{RawReceipt, ReceiptStatus};
use kite_domain::slug::{RelayId, TenantId};
use kite_event_store::Position;
use std::collections::BTreeMap;

use super::{Checked, Checker, Limited, State};
use crate::operation::SendOrder;

/// A request was answered, or is worked on.
#[derive(Debug, Clone)]
pub(crate) enum Answered {
    /// Somebody works on it from now on.
    Asked(SendOrder),
    /// Nobody does any more.
    Settled(SendOrder),
    /// 409: another request under the same key is in progress.
    InProgress(SendOrder),
    /// 202.
    Accepted { sending: SendingId, messages: u32, order: SendOrder, asked_at: DateTime<Utc> },
    /// 422 for where the sender stands.
    Unapproved { order: SendOrder, asked_at: DateTime<Utc> },
    /// 429, or 422 for the same reason.
    Limited { order: SendOrder, why: Limited },
    /// The sending is paused, up to here in the log.
    Paused { sending: SendingId, position: Position },
    /// The sending is cancelled.
    Cancelled(SendingId),
    /// The refusal is recorded.
    Refuses { tenant: TenantId, address: String },
    /// The relay need not say these again.
    Receipts { relay: RelayId, receipts: Vec<RawReceipt> },
}

/// Requests under one key since nobody worked on one.
#[derive(Debug, Default)]
struct Working {
    now: u32,
    most: u32,
}

/// Promises.
#[derive(Debug, Default)]
pub(crate) struct Books {
    accepted: Vec<SendingId>,
    /// What was requested under a key, and the result.
    keys: BTreeMap<(u8, u8), (SendOrder, SendingId)>,
    /// The keys of requests that are in progress at the moment.
    working: BTreeMap<(u8, u8), Working>,
    claims: BTreeMap<SendingId, String>,
    sealed_by_claim: BTreeMap<String, SendingId>,
    cancelled: BTreeMap<SendingId, DateTime<Utc>>,
    /// The time at which a pause was confirmed, by its position in the log.
    paused: BTreeMap<(SendingId, Position), DateTime<Utc>>,
}

impl Books {
    /// Whoever worked on a request is gone.
    pub(super) fn process_begins(&mut self) {
        self.working.clear();
    }

    fn asked(&mut self, order: &SendOrder) {
        if let Some(key) = order.key {
            let working = self.working.entry((order.tenant, key)).or_default();
            working.now += 1;
            working.most = working.most.max(working.now);
        }
    }

    fn settled(&mut self, order: &SendOrder) {
        let Some(key) = order.key.map(|key| (order.tenant, key)) else { return };
        if let Some(working) = self.working.get_mut(&key) {
            working.now -= 1;
            if working.now == 0 {
                self.working.remove(&key);
            }
        }
    }

    /// Whether two requests under the key were worked on at once.
    fn are_several(&self, order: &SendOrder) -> bool {
        let working = order.key.and_then(|key| self.working.get(&(order.tenant, key)));
        working.is_some_and(|working| working.most > 1)
    }

    pub(super) fn claimed(&mut self, stream: &str, sending: SendingId) {
        self.claims.insert(sending, stream.to_owned());
    }

    pub(super) fn sealed(&mut self, sending: SendingId) -> Checked {
        let Some(stream) = self.claims.get(&sending) else { return Ok(()) };
        match self.sealed_by_claim.insert(stream.clone(), sending) {
            Some(other) => Err(format!("law 6: {other} and {sending} were sealed under the same key")),
            None => Ok(()),
        }
    }

    /// Whether everybody must know at `time` that the sending is cancelled.
    pub(super) fn is_cancelled_before(&self, sending: SendingId, time: DateTime<Utc>) -> bool {
        self.cancelled.get(&sending).is_some_and(|told_at| *told_at < time)
    }

    /// Whether everybody must know at `time` of this pause.
    pub(super) fn is_paused_before(&self, sending: SendingId, pause: Position, time: DateTime<Utc>) -> bool {
        self.paused.get(&(sending, pause)).is_some_and(|told_at| *told_at < time)
    }

    pub(crate) fn accepted(&self) -> &[SendingId] {
        &self.accepted
    }
}

impl Checker {
    /// A request is answered now: what it says must be in the log.
    pub(crate) fn answered(&mut self, answered: Answered, now: DateTime<Utc>) -> Checked {
        match answered {
            Answered::Asked(order) => {
                self.books.asked(&order);
                self.limits.asked(order, now);
                Ok(())
            }
            Answered::Settled(order) => {
                self.books.settled(&order);
                Ok(())
            }
            Answered::InProgress(order) if self.books.are_several(&order) => Ok(()),
            Answered::InProgress(order) => {
                Err(format!("law 6: {order:?} is said to be in progress, and nobody works on it"))
            }
            Answered::Unapproved { order, asked_at } => self.senders.may_be_refused(&order, asked_at, now),
            Answered::Limited { order, why } => self.is_limited(&order, why, now),
            Answered::Paused { sending, position } => {
                let paused = self.sendings.get(&sending).and_then(|sending| sending.paused);
                if let Some((since, _)) = paused.filter(|(since, _)| *since <= position) {
                    self.books.paused.entry((sending, since)).or_insert(now);
                }
                Ok(())
            }
            Answered::Accepted { sending, messages, order, asked_at } => {
                self.check_accepted(sending, messages, &order)?;
                self.had_room(sending, messages, asked_at, now)?;
                self.books.accepted.push(sending);
                let Some(key) = order.key else { return Ok(()) };
                let known = self.books.keys.entry((order.tenant, key)).or_insert((order, sending));
                if *known != (order, sending) {
                    return Err(format!("law 6: {order:?} gave {sending}, before the key gave {known:?}"));
                }
                Ok(())
            }
            Answered::Cancelled(sending) => {
                if self.sendings.get(&sending).is_none_or(|sending| sending.cancelled.is_none()) {
                    return Err(format!("sending {sending} is said to be cancelled and is not"));
                }
                self.books.cancelled.insert(sending, now);
                Ok(())
            }
            Answered::Refuses { tenant, address } => {
                self.people.told(&tenant, &address, now);
                Ok(())
            }
            Answered::Receipts { relay, receipts } => {
                receipts.iter().try_for_each(|receipt| self.check_receipt(&relay, receipt))
            }
        }
    }

    fn check_accepted(&self, id: SendingId, messages: u32, order: &SendOrder) -> Checked {
        let sealed = self.sendings.get(&id).and_then(|sending| Some((sending, sending.terms.as_ref()?)));
        match sealed {
            None => Err(format!("law 2: {id} was answered with 202 and is not in the log")),
            Some((_, terms)) if terms.messages != messages => {
                Err(format!("law 2: 202 for {messages} messages, the log has {}", terms.messages))
            }
            Some((sending, _)) => self.is_as_ordered(sending, order),
        }
    }

    /// A receipt that was taken over must be in the log, or say less than what is known.
    fn check_receipt(&self, relay: &RelayId, receipt: &RawReceipt) -> Checked {
        let is_parked = self
            .relays
            .get(relay)
            .is_some_and(|one| one.parked.contains(&(receipt.reference.to_string(), receipt.status)));
        if is_parked {
            return Ok(());
        }
        let state = match receipt.status {
            ReceiptStatus::Delivered => State::Delivered,
            ReceiptStatus::Undelivered => State::Undelivered,
        };
        let attempt = receipt.reference.parse::<AttemptReference>().ok().and_then(|reference| {
            let message = self.message(reference.message)?;
            message.attempts.get(usize::from(reference.attempt).checked_sub(1)?)
        });
        match attempt.filter(|attempt| &attempt.relay == relay) {
            Some(attempt) if attempt.state >= state => Ok(()),
            Some(attempt) => Err(format!(
                "law 5: the receipt {} ({:?}) of {relay} was taken over and its attempt is {:?}",
                receipt.reference, receipt.status, attempt.state
            )),
            // One that fits nobody may have been given up when it came before.
            None if self.given_up.contains(receipt.reference.as_str()) => Ok(()),
            None => {
                Err(format!("the receipt {} of {relay} was taken over and is nowhere", receipt.reference))
            }
        }
    }
}
