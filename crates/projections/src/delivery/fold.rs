//! How an event changes the messages of its lot, and the counts.
//!
//! The states follow the rules of [`kite_domain::lot::Lot`] exactly (a test compares the two). Beyond them, this
//! model stores what people ask for afterwards: times, codes, words, money.

use kite_domain::failure::FailureClass;
use kite_domain::lot::{
    AttemptState, MessagesFinished, MessagesHeld, MessagesRouted, MessagesSubmitted, Outcome, ReceiptSet,
    ReceiptsRecorded, RelayResponded, RouteSet,
};
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::{BillingMoment, cost_milliwon};
use kite_domain::seq_set::SeqSet;
use kite_domain::text::MessageType;
use smol_str::SmolStr;
use std::sync::Arc;

use super::attempt::{Attempt, Lost};
use super::counters::{AttemptStanding, Counter, MessageStanding, PLANNED_UNIT};
use super::lot::Lot;
use super::statistics::Metric;
use super::tally::Tally;
use super::word_numbers::Words;
use crate::engine::{StorageError, Tables};

/// One event on its way into a lot.
pub(super) struct Fold<'f> {
    pub(super) tables: Tables<'f>,
    pub(super) lot: &'f mut Lot,
    pub(super) words: &'f mut Words,
    pub(super) tally: Tally<'f>,
    /// The event's time.
    pub(super) time_ms: i64,
    /// The time from which the wait for the first hand-over counts.
    pub(super) ready_ms: i64,
}

/// What a relay said of an attempt.
#[derive(Clone, Default)]
struct Told {
    code: u32,
    class: Option<FailureClass>,
    detail: Option<Arc<str>>,
    relay_reference: SmolStr,
    call_ms: Option<u32>,
    /// By the relay's clock; 0: it was no receipt.
    receipt_ms: i64,
    is_billable_failure: bool,
}

impl Fold<'_> {
    pub(super) fn routed(&mut self, routed: &MessagesRouted) -> Result<(), StorageError> {
        for split in &routed.splits {
            let total: u64 = split.weights.iter().map(|entry| u64::from(entry.weight)).sum();
            for entry in &split.weights {
                let relay = self.words.number(self.tables, entry.relay.as_str())?;
                let key = self.lot.key(split.channel, relay, split.channel);
                let share = u128::from(split.messages) * u128::from(entry.weight) * u128::from(PLANNED_UNIT);
                let planned = share.checked_div(total.into()).unwrap_or(0);
                let planned = i64::try_from(planned).unwrap_or(i64::MAX >> 16);
                self.tally.add(key, Counter::Planned, planned);
            }
        }
        routed.routes.iter().try_for_each(|route| self.route(route))
    }

    fn route(&mut self, route: &RouteSet) -> Result<(), StorageError> {
        let relay = self.words.number(self.tables, route.relay.as_str())?;
        let reason = self.words.number(self.tables, &route.reason)?;
        for seq in &route.messages {
            let Some(place) = self.lot.place(seq) else { continue };
            let message = &mut self.lot.messages[place];
            if message.attempts.len() + 1 != usize::from(route.attempt) {
                continue;
            }
            let before = MessageStanding::of(message);
            message.is_dirty = true;
            message.held_until_ms = 0;
            // Most messages have one attempt; by itself the list would begin with room for four.
            message.attempts.reserve_exact(1);
            message.attempts.push(Attempt {
                relay,
                reason,
                code: 0,
                call_ms: None,
                channel: route.channel,
                state: AttemptState::Routed,
                bills: route.bills,
                class: None,
                is_taken: false,
                is_billed: false,
                is_billable_failure: false,
                price_milliwon: route.price_milliwon,
                routed_ms: self.time_ms,
                submitted_ms: 0,
                responded_ms: 0,
                receipt_ms: 0,
                received_ms: 0,
                relay_reference: SmolStr::default(),
                detail: None,
                unknown: None,
            });
            let message_type = message.message_type;
            self.lot.is_dirty = true;
            self.tally.moved(self.lot, place, before);
            self.count_route(message_type, relay, route, before);
        }
        Ok(())
    }

    fn count_route(
        &mut self,
        message_type: MessageType,
        relay: u32,
        route: &RouteSet,
        before: MessageStanding,
    ) {
        let key = self.lot.key(message_type, relay, route.channel);
        self.tally.add(key, Counter::Attempts, 1);
        match before.relay {
            0 => self.tally.add(key, Counter::FirstRouted, 1),
            left => {
                let key = self.lot.key(message_type, left, before.channel);
                self.tally.add(key, Counter::Failovers, 1);
            }
        }
    }

    pub(super) fn submitted(&mut self, submitted: &MessagesSubmitted) {
        let time_ms = self.time_ms;
        for seq in &submitted.messages {
            let mut goes_out = false;
            self.change(seq, submitted.attempt, |attempt| {
                if matches!(attempt.state, AttemptState::Routed | AttemptState::Unknown) {
                    goes_out = true;
                    attempt.state = AttemptState::Submitted;
                    if attempt.submitted_ms == 0 {
                        attempt.submitted_ms = time_ms;
                    }
                }
            });
            if let Some(place) = self.lot.place(seq).filter(|_| goes_out) {
                self.lot.messages[place].held_until_ms = 0;
            }
        }
    }

    pub(super) fn responded(&mut self, responded: &RelayResponded) -> Result<(), StorageError> {
        let call_ms = responded.call_ms;
        if let Some(accepted) = &responded.accepted {
            let state = if accepted.is_final { AttemptState::Delivered } else { AttemptState::Accepted };
            for (place, seq) in accepted.messages.iter().enumerate() {
                let relay_reference = accepted.relay_references.get(place).cloned().unwrap_or_default();
                let told = Told { relay_reference, call_ms, ..Told::default() };
                self.raise(seq, responded.attempt, state, &told);
            }
        }
        for refused in &responded.refused {
            let told = Told {
                code: self.words.number(self.tables, &refused.code)?,
                class: Some(refused.class),
                detail: refused.text.as_deref().map(Arc::from),
                call_ms,
                ..Told::default()
            };
            for seq in &refused.messages {
                self.raise(seq, responded.attempt, AttemptState::Refused, &told);
            }
        }
        if let Some(unknown) = &responded.unknown {
            let detail: Arc<str> = unknown.reason.as_str().into();
            let since_ms = self.time_ms;
            for seq in &unknown.messages {
                self.change(seq, responded.attempt, |attempt| {
                    // The first loss is kept, whatever becomes known afterwards.
                    attempt.unknown.get_or_insert_with(|| Lost { since_ms, reason: detail.clone() });
                    if attempt.state <= AttemptState::Unknown {
                        attempt.state = AttemptState::Unknown;
                        attempt.detail = Some(detail.clone());
                    }
                });
            }
        }
        if let Some(deferred) = &responded.deferred {
            self.give_back(&deferred.messages, responded.attempt, deferred.reason.as_str().into());
        }
        for set in &responded.refused_for_now {
            let detail: Arc<str> = match &set.text {
                Some(text) => format!("refused for now ({}): {text}", set.code).into(),
                None => format!("refused for now ({})", set.code).into(),
            };
            self.give_back(&set.messages, responded.attempt, detail);
        }
        Ok(())
    }

    /// Certainly not accepted: back where they were before the call, with the reason.
    fn give_back(&mut self, messages: &SeqSet, attempt: u16, detail: Arc<str>) {
        for seq in messages {
            self.change(seq, attempt, |attempt| {
                if attempt.state <= AttemptState::Unknown {
                    attempt.state = AttemptState::Routed;
                    attempt.submitted_ms = 0;
                    attempt.detail = Some(detail.clone());
                }
            });
        }
    }

    pub(super) fn received(&mut self, recorded: &ReceiptsRecorded) -> Result<(), StorageError> {
        for set in &recorded.sets {
            let code = self.words.number(self.tables, &set.code)?;
            self.receipts(set, code);
        }
        Ok(())
    }

    fn receipts(&mut self, set: &ReceiptSet, code: u32) {
        let state = match set.status {
            ReceiptStatus::Delivered => AttemptState::Delivered,
            ReceiptStatus::Undelivered => AttemptState::Undelivered,
        };
        for (place, seq) in set.messages.iter().enumerate() {
            let told = Told {
                code,
                class: set.class,
                receipt_ms: set.at_ms.get(place).copied().unwrap_or(self.time_ms),
                is_billable_failure: set.billable_failure,
                ..Told::default()
            };
            self.raise(seq, set.attempt, state, &told);
        }
    }

    pub(super) fn held(&mut self, held: &MessagesHeld) {
        for (seq, until_ms) in held.messages.iter().zip(&held.until_ms) {
            let message = self.lot.place(seq).map(|place| &mut self.lot.messages[place]);
            if let Some(message) = message.filter(|message| message.outcome.is_none()) {
                message.held_until_ms = *until_ms;
                message.is_dirty = true;
                self.lot.is_dirty = true;
            }
        }
    }

    pub(super) fn finished(&mut self, finished: &MessagesFinished) -> Result<(), StorageError> {
        let reason = self.words.number(self.tables, &finished.reason)?;
        for seq in &finished.messages {
            if finished.outcome == Outcome::Expired {
                self.expire_attempt(seq);
            }
            self.finish(seq, finished.outcome, reason, finished.class);
        }
        Ok(())
    }

    fn expire_attempt(&mut self, seq: u32) {
        let Some(place) = self.lot.place(seq) else { return };
        let number = self.lot.messages[place].attempts.len() as u16;
        self.change(seq, number, |attempt| {
            if attempt.state.is_in_flight() {
                attempt.state = AttemptState::Expired;
            }
        });
    }

    /// Knowledge about an attempt only grows; an event that says less than is known changes nothing.
    fn raise(&mut self, seq: u32, number: u16, state: AttemptState, told: &Told) {
        let time_ms = self.time_ms;
        let mut is_known = false;
        let mut is_news = false;
        self.change(seq, number, |attempt| {
            is_known = true;
            is_news = state > attempt.state;
            listen(attempt, state, told, time_ms);
        });
        if is_news {
            self.measure(seq, number, state, told);
        }
        if is_known && state == AttemptState::Delivered {
            self.finish(seq, Outcome::Delivered, told.code, None);
        }
    }

    /// Times that are measured once for an attempt: its answer, and its delivery.
    fn measure(&mut self, seq: u32, number: u16, state: AttemptState, told: &Told) {
        let Some(place) = self.lot.place(seq) else { return };
        let message = &self.lot.messages[place];
        let Some(attempt) = message.attempts.get(usize::from(number).wrapping_sub(1)) else { return };
        let standing = AttemptStanding::of(attempt);
        if let Some(call_ms) = told.call_ms {
            self.tally.statistics.relay_time(standing, Metric::Call, i64::from(call_ms));
        }
        if state != AttemptState::Delivered {
            return;
        }
        let key = self.lot.key(message.message_type, attempt.relay, attempt.channel);
        if attempt.submitted_ms != 0 {
            let took_ms = delivery_ms(attempt, self.time_ms);
            self.tally.statistics.time(key, Metric::HandOverToDelivery, took_ms, 1);
            self.tally.statistics.relay_time(standing, Metric::HandOverToDelivery, took_ms);
        }
    }

    fn finish(&mut self, seq: u32, outcome: Outcome, reason: u32, class: Option<FailureClass>) {
        let Some(place) = self.lot.place(seq) else { return };
        let message = &mut self.lot.messages[place];
        if message.outcome >= Some(outcome) {
            return;
        }
        let before = MessageStanding::of(message);
        message.outcome = Some(outcome);
        message.reason = reason;
        message.class = class;
        message.final_ms = self.time_ms;
        message.held_until_ms = 0;
        message.is_dirty = true;
        self.lot.is_dirty = true;
        self.tally.moved(self.lot, place, before);
    }

    /// Changes an attempt and counts what that changes.
    fn change(&mut self, seq: u32, number: u16, change: impl FnOnce(&mut Attempt)) {
        let Some(place) = self.lot.place(seq) else { return };
        let Some(index) = usize::from(number).checked_sub(1) else { return };
        let message = &mut self.lot.messages[place];
        let stood = MessageStanding::of(message);
        let (message_type, parts) = (message.message_type, message.parts);
        let Some(attempt) = message.attempts.get_mut(index) else { return };
        let before = AttemptStanding::of(attempt);
        let submitted_ms = attempt.submitted_ms;
        change(attempt);
        let bill = bill(attempt, parts);
        let after = AttemptStanding::of(attempt);
        let handed_over_ms = attempt.submitted_ms.max(submitted_ms);
        let key = self.lot.key(message_type, before.relay, before.channel);
        let message = &mut self.lot.messages[place];
        message.is_dirty = true;
        self.lot.is_dirty = true;
        let stands = MessageStanding::of(message);
        self.tally.attempt(key, before, after);
        if bill != 0 {
            self.tally.add(key, Counter::CostMilliwon, bill);
        }
        if stood.is_handed_over != stands.is_handed_over {
            let sign = if stands.is_handed_over { 1 } else { -1 };
            let waited_ms = handed_over_ms.saturating_sub(self.ready_ms);
            self.tally.statistics.time(key, Metric::AcceptanceToHandOver, waited_ms, sign);
        }
        self.tally.moved(self.lot, place, stood);
    }
}

/// Takes over what an event says, as far as it adds to what is known.
fn listen(attempt: &mut Attempt, state: AttemptState, told: &Told, time_ms: i64) {
    let is_receipt = told.receipt_ms != 0;
    if !is_receipt && attempt.responded_ms == 0 {
        // The answer to the call may come after the receipt: its time and reference are news all the same.
        attempt.responded_ms = time_ms;
        attempt.call_ms = told.call_ms;
    }
    if attempt.relay_reference.is_empty() {
        attempt.relay_reference = told.relay_reference.clone();
    }
    if state <= attempt.state {
        return;
    }
    attempt.state = state;
    attempt.is_taken = state != AttemptState::Refused;
    attempt.code = told.code;
    attempt.class = told.class;
    attempt.detail = told.detail.clone();
    if is_receipt {
        attempt.receipt_ms = told.receipt_ms;
        attempt.received_ms = time_ms;
        attempt.is_billable_failure = told.is_billable_failure;
    }
}

/// Marks an attempt as charged for, when that is true for the first time; returns the amount. Never taken back.
fn bill(attempt: &mut Attempt, parts: u16) -> i64 {
    let is_due = match attempt.bills {
        BillingMoment::Accepted => attempt.is_taken,
        BillingMoment::Delivered => match attempt.state {
            AttemptState::Delivered => true,
            AttemptState::Undelivered => attempt.is_billable_failure,
            AttemptState::Routed
            | AttemptState::Submitted
            | AttemptState::Unknown
            | AttemptState::Accepted
            | AttemptState::Expired
            | AttemptState::Refused => false,
        },
    };
    if attempt.is_billed || !is_due {
        return 0;
    }
    attempt.is_billed = true;
    cost_milliwon(attempt.price_milliwon, parts)
}

/// The time from hand-over to delivery: by the relay's clock, unless that puts the delivery before the hand-over or
/// after the receipt; then by the time of the receipt.
fn delivery_ms(attempt: &Attempt, time_ms: i64) -> i64 {
    let is_plausible = (attempt.submitted_ms..=time_ms).contains(&attempt.receipt_ms);
    let delivered_ms = if is_plausible { attempt.receipt_ms } else { time_ms };
    delivered_ms.saturating_sub(attempt.submitted_ms)
}
