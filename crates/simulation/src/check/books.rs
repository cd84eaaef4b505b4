//! What the outside was told: answers to requests are promises.

use chrono::{DateTime, Utc};
use kite_domain::ids::{AttemptReference, SendingId};
use kite_domain::receipt::{RawReceipt, ReceiptStatus};
use kite_domain::slug::{RelayId, TenantId};
use kite_event_store::Position;
use std::collections::BTreeMap;

use super::{Checked, Checker, State};

/// A request was answered.
#[derive(Debug, Clone)]
pub(crate) enum Answered {
    /// 202.
    Accepted { sending: SendingId, messages: u32, key: Option<(TenantId, u8)>, body: String },
    /// The sending is cancelled.
    Cancelled(SendingId),
    /// The refusal is recorded.
    Refuses { tenant: TenantId, address: String },
    /// The relay need not say these again.
    Receipts { relay: RelayId, receipts: Vec<RawReceipt> },
}

/// Promises.
#[derive(Debug, Default)]
pub(crate) struct Books {
    accepted: Vec<SendingId>,
    keys: BTreeMap<(TenantId, u8), (String, SendingId)>,
    claims: BTreeMap<SendingId, String>,
    sealed_by_claim: BTreeMap<String, SendingId>,
    cancelled: BTreeMap<SendingId, DateTime<Utc>>,
}

impl Books {
    pub(super) fn claimed(&mut self, stream: &str, sending: SendingId) {
        self.claims.insert(sending, stream.to_owned());
    }

    pub(super) fn sealed(&mut self, sending: SendingId, _position: Position) -> Checked {
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

    pub(crate) fn accepted(&self) -> &[SendingId] {
        &self.accepted
    }
}

impl Checker {
    /// A request is answered now: what it says must be in the log.
    pub(crate) fn answered(&mut self, answered: Answered, now: DateTime<Utc>) -> Checked {
        match answered {
            Answered::Accepted { sending, messages, key, body } => {
                self.check_accepted(sending, messages)?;
                self.books.accepted.push(sending);
                let Some(key) = key else { return Ok(()) };
                let (known_body, known) =
                    self.books.keys.entry(key.clone()).or_insert((body.clone(), sending));
                if (known_body.as_str(), *known) != (body.as_str(), sending) {
                    return Err(format!(
                        "law 6: the key {key:?} with body {body} gave {sending}, before it gave {known} for {known_body}"
                    ));
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

    fn check_accepted(&self, sending: SendingId, messages: u32) -> Checked {
        let sealed = self.sendings.get(&sending).and_then(|sending| sending.terms.as_ref());
        match sealed {
            None => Err(format!("law 2: {sending} was answered with 202 and is not in the log")),
            Some(terms) if terms.messages != messages => {
                Err(format!("law 2: 202 for {messages} messages, the log has {}", terms.messages))
            }
            Some(_) => Ok(()),
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
