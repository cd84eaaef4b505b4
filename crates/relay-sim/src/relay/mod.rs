//! One simulated carrier: its state, and what it does with a call. No I/O here; HTTP and SMTP are fronts to it.

pub(crate) mod limit;
pub(crate) mod push;
pub(crate) mod receipts;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::codes::is_for_now;
use crate::decide::{CallFate, CallFault, Decider, Delivery, Fate, Outcome, Subject, attempt_of};
use crate::ledger::{Counters, EntryStatus, HandOver, Ledger, LedgerEntry, hash_of};
use crate::scenario::{Behaviour, Channel, LedgerMode, Outage, ReceiptMode, RelayKind, RelayScenario};
use limit::Bucket;
use receipts::{Due, Gate, Leases, Receipt, Schedule, What};

/// A simulated carrier.
pub(crate) struct Relay {
    pub(crate) id: Arc<str>,
    pub(crate) scenario: RelayScenario,
    pub(crate) clock: Arc<Clock>,
    seed: u64,
    ledger_mode: LedgerMode,
    state: Mutex<State>,
    /// Wakes the receipt task when something is due at once or the behaviour changed.
    pub(crate) wake: Notify,
    /// Receipts taken from the state by the push task and not yet taken by the client.
    in_hand: AtomicUsize,
    last_push: Mutex<Option<SentPush>>,
}

/// A push that the client took, kept so that it can be replayed.
#[derive(Clone)]
pub(crate) struct SentPush {
    pub(crate) headers: [String; 3],
    pub(crate) body: Bytes,
}

struct State {
    decider: Arc<Decider>,
    ledger: Ledger,
    bucket: Bucket,
    /// How often a call with this first reference failed before acceptance.
    failed_leads: HashMap<u64, u32>,
    /// How often a recipient was put off.
    put_off: HashMap<u64, u32>,
    schedule: Schedule,
    ready: std::collections::VecDeque<Receipt>,
    leases: Leases,
    pushes: u64,
}

/// What becomes of a call.
pub(crate) enum CallOutcome {
    /// Not taken: too fast.
    RateLimited { retry_after_ms: u64 },
    /// Not taken: the connection is closed.
    Reset,
    /// Not taken: 503.
    Unavailable,
    /// Taken.
    Taken(Taken),
}

/// A call that was taken.
pub(crate) struct Taken {
    /// One a message, in order.
    pub(crate) answers: Vec<Answer>,
    pub(crate) latency_us: u64,
    pub(crate) answer_lost: bool,
    /// Opens when receipts that must come first have been accepted by the client.
    pub(crate) gate: Option<Arc<Gate>>,
}

/// What the relay says to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted { relay_reference: u64, duplicate: bool },
    Refused { code: Arc<str> },
    Deferred { code: Arc<str> },
}

/// What a relay says to a recipient before it has the message.
pub(crate) enum Objection {
    Refused(Arc<str>),
    NotNow,
}

/// Where a reference stands.
pub(crate) struct ReferenceStatus {
    pub(crate) status: EntryStatus,
    pub(crate) code: Arc<str>,
    pub(crate) relay_reference: u64,
    pub(crate) at_ms: Option<u64>,
}

impl Relay {
    pub(crate) fn new(
        seed: u64,
        scenario: RelayScenario,
        ledger_mode: LedgerMode,
        clock: Arc<Clock>,
    ) -> Self {
        let state = State::new(seed, &scenario, ledger_mode, clock.now_ms());
        Self {
            id: scenario.id.as_str().into(),
            scenario,
            clock,
            seed,
            ledger_mode,
            state: Mutex::new(state),
            wake: Notify::new(),
            in_hand: AtomicUsize::new(0),
            last_push: Mutex::new(None),
        }
    }

    /// Forgets everything and goes back to the scenario's behaviour.
    pub(crate) fn reset(&self) {
        *self.state.lock() = State::new(self.seed, &self.scenario, self.ledger_mode, self.clock.now_ms());
        *self.last_push.lock() = None;
        self.wake.notify_one();
    }

    pub(crate) fn decider(&self) -> Arc<Decider> {
        self.state.lock().decider.clone()
    }

    /// Takes on another behaviour; what is decided and scheduled already stays.
    ///
    /// # Errors
    /// When the behaviour is out of range; nothing is changed then.
    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) -> anyhow::Result<()> {
        behaviour.check()?;
        {
            let mut state = self.state.lock();
            state.bucket =
                Bucket::new(behaviour.rate_parts_per_second, self.scenario.batch_max, self.clock.now_ms());
            state.decider = Arc::new(Decider::new(self.seed, &self.id, self.scenario.codes, behaviour));
        }
        self.wake.notify_one();
        Ok(())
    }

    /// The outage that holds now; counts the call as unavailable when there is one.
    pub(crate) fn outage(&self) -> Option<Outage> {
        let mut state = self.state.lock();
        let outage = state.decider.behaviour.outage_at(self.clock.elapsed_ms())?;
        state.ledger.counters.calls += 1;
        state.ledger.counters.unavailable += 1;
        Some(outage)
    }

    /// Decides on a call and, when it is taken, on each of its messages.
    pub(crate) fn hand_over(&self, messages: &[HandOver<'_>]) -> CallOutcome {
        let now_ms = self.clock.now_ms();
        let mut state = self.state.lock();
        state.ledger.counters.calls += 1;
        if let Err(retry_after_ms) = state.bucket.take(messages.len(), now_ms) {
            state.ledger.counters.rate_limited += 1;
            return CallOutcome::RateLimited { retry_after_ms };
        }
        let fate = state.call_fate(messages);
        match fate.fault {
            Some(CallFault::Reset) => {
                state.count_failed_lead(messages);
                state.ledger.counters.resets += 1;
                CallOutcome::Reset
            }
            Some(CallFault::Unavailable) => {
                state.count_failed_lead(messages);
                state.ledger.counters.unavailable += 1;
                CallOutcome::Unavailable
            }
            fault @ (None | Some(CallFault::AnswerLost | CallFault::Slow(_))) => {
                let taken = state.take_all(messages, fate.latency_us, fault, now_ms);
                let wake = taken.gate.is_some() || state.schedule.is_earliest_new();
                drop(state);
                if wake {
                    self.wake.notify_one();
                }
                CallOutcome::Taken(taken)
            }
        }
    }

    /// For SMTP, where refusals come before the message: whether a recipient will be refused, and with which code.
    /// A refusal is recorded when the reference is known. Repeats that were accepted before are not refused.
    pub(crate) fn refusal_of(
        &self,
        reference: Option<&str>,
        recipient: &str,
        kind: Channel,
    ) -> Option<Objection> {
        let arrived_at_us = self.clock.now_us();
        let mut state = self.state.lock();
        let attempt = reference.map_or(1, attempt_of);
        let code = match state.decider.fate(Subject { recipient, attempt }) {
            Fate::Refused(code) => code,
            Fate::NotNow { times, .. } => {
                return state.puts_off(recipient, times).then_some(Objection::NotNow);
            }
            Fate::Accepted(_) => return None,
        };
        let counters = &mut state.ledger.counters;
        counters.calls += 1;
        counters.handovers += 1;
        let Some(reference) = reference else {
            counters.refused += 1;
            return Some(Objection::Refused(code));
        };
        match state.ledger.find(reference) {
            Some(position) => {
                state.repeat(position);
            }
            None => {
                state.ledger.counters.refused += 1;
                let hand_over = HandOver { reference, recipient, kind, arrived_at_us };
                state.ledger.add_refused(hand_over, &code);
            }
        }
        Some(Objection::Refused(code))
    }

    /// Where a reference stands; `None` when it never came in.
    pub(crate) fn statuses(&self, references: &[&str]) -> Vec<Option<ReferenceStatus>> {
        let state = self.state.lock();
        references.iter().map(|reference| state.status(reference)).collect()
    }

    /// Lets everything happen that is due; returns when the next thing is.
    pub(crate) fn advance(&self) -> Option<u64> {
        let now_ms = self.clock.now_ms();
        let reports = self.scenario.kind == RelayKind::Http;
        let mut state = self.state.lock();
        state.advance(now_ms, reports);
        state.schedule.next_ms()
    }

    /// Takes up to `limit` receipts for a push, with the number of the push.
    pub(crate) fn take_for_push(&self, limit: usize) -> Option<(u64, Vec<Receipt>)> {
        let mut state = self.state.lock();
        let receipts = &state.decider.behaviour.receipts;
        let pushes = receipts.mode == ReceiptMode::Push && receipts.callback_url.is_some();
        if !pushes || state.ready.is_empty() {
            return None;
        }
        let count = limit.min(state.ready.len());
        let taken: Vec<Receipt> = state.ready.drain(..count).collect();
        state.pushes += 1;
        self.in_hand.fetch_add(taken.len(), Ordering::Relaxed);
        Some((state.pushes, taken))
    }

    /// A push was taken by the client.
    pub(crate) fn push_taken(&self, count: usize, push: SentPush) {
        self.in_hand.fetch_sub(count, Ordering::Relaxed);
        self.state.lock().ledger.counters.receipts_sent += count as u64;
        *self.last_push.lock() = Some(push);
    }

    pub(crate) fn push_failed(&self) {
        self.state.lock().ledger.counters.push_failures += 1;
    }

    pub(crate) fn last_push(&self) -> Option<SentPush> {
        self.last_push.lock().clone()
    }

    /// Hands out up to `limit` receipts under a lease.
    pub(crate) fn pull(&self, limit: usize) -> (String, Vec<Receipt>) {
        let now_ms = self.clock.now_ms();
        let mut state = self.state.lock();
        state.advance(now_ms, true);
        let State { leases, ready, decider, .. } = &mut *state;
        let receipts = &decider.behaviour.receipts;
        if receipts.mode != ReceiptMode::Pull {
            return (leases.empty(), Vec::new());
        }
        leases.grant(ready, limit, now_ms, receipts.lease_ms)
    }

    /// Ends a lease; unknown leases are no error.
    pub(crate) fn acknowledge(&self, lease: &str) {
        let mut state = self.state.lock();
        let acknowledged = state.leases.acknowledge(lease);
        state.ledger.counters.receipts_sent += acknowledged as u64;
    }

    /// Makes everything scheduled due at once.
    pub(crate) fn hurry(&self) {
        self.state.lock().schedule.hurry();
        self.wake.notify_one();
    }

    /// Results and receipts that the client has not taken yet. Pulled receipts count until acknowledged.
    pub(crate) fn pending(&self) -> usize {
        let state = self.state.lock();
        state.schedule.len() + state.ready.len() + state.leases.len() + self.in_hand.load(Ordering::Relaxed)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.state.lock().ledger.counters
    }

    pub(crate) fn page(&self, after: usize, limit: usize) -> Vec<LedgerEntry> {
        self.state.lock().ledger.page(&self.id, after, limit)
    }

    pub(crate) fn ledger_len(&self) -> usize {
        self.state.lock().ledger.len()
    }

    pub(crate) fn find(&self, reference: &str) -> Option<LedgerEntry> {
        let state = self.state.lock();
        let position = state.ledger.find(reference)?;
        Some(state.ledger.show(&self.id, position))
    }

    pub(crate) fn delivered_messages(&self) -> Vec<u64> {
        self.state.lock().ledger.delivered_messages()
    }
}

impl State {
    fn new(seed: u64, scenario: &RelayScenario, ledger_mode: LedgerMode, now_ms: u64) -> Self {
        let behaviour = scenario.behaviour.clone();
        Self {
            bucket: Bucket::new(behaviour.rate_parts_per_second, scenario.batch_max, now_ms),
            decider: Arc::new(Decider::new(seed, &scenario.id, scenario.codes, behaviour)),
            ledger: Ledger::new(ledger_mode),
            failed_leads: HashMap::new(),
            put_off: HashMap::new(),
            schedule: Schedule::default(),
            ready: std::collections::VecDeque::new(),
            leases: Leases::default(),
            pushes: 0,
        }
    }

    /// How often a reference came in before, in calls taken or failed.
    fn earlier(&self, reference: &str) -> u32 {
        let taken =
            self.ledger.find(reference).map_or(0, |found| u32::from(self.ledger.entry(found).times_received));
        let failed = if self.failed_leads.is_empty() {
            0
        } else {
            self.failed_leads.get(&hash_of(reference)).copied().unwrap_or(0)
        };
        taken + failed
    }

    /// The leading message decides, unless a recipient anywhere in the call forces a fault.
    fn call_fate(&self, messages: &[HandOver<'_>]) -> CallFate {
        let forced = messages.iter().find_map(|message| {
            let fault = self.decider.forced_call_fault(message.recipient, 0)?;
            let earlier = self.earlier(message.reference);
            if earlier == 0 {
                Some(fault)
            } else {
                self.decider.forced_call_fault(message.recipient, earlier)
            }
        });
        let Some(leading) = messages.first() else { return CallFate { latency_us: 0, fault: None } };
        let subject = Subject { recipient: leading.recipient, attempt: attempt_of(leading.reference) };
        let drawn = self.decider.call_fate(subject, self.earlier(leading.reference));
        CallFate { fault: forced.or(drawn.fault), ..drawn }
    }

    /// Every message of a call that failed before acceptance counts as having come in.
    fn count_failed_lead(&mut self, messages: &[HandOver<'_>]) {
        for (position, message) in messages.iter().enumerate() {
            if position == 0 || self.decider.forced_call_fault(message.recipient, 0).is_some() {
                *self.failed_leads.entry(hash_of(message.reference)).or_insert(0) += 1;
            }
        }
    }

    fn take_all(
        &mut self,
        messages: &[HandOver<'_>],
        latency_us: u64,
        fault: Option<CallFault>,
        now_ms: u64,
    ) -> Taken {
        let slow_us = match fault {
            Some(CallFault::Slow(ms)) => ms * 1_000,
            _ => 0,
        };
        let answer_lost = fault == Some(CallFault::AnswerLost);
        self.ledger.counters.answers_lost += u64::from(answer_lost);
        self.ledger.counters.slow_answers += u64::from(slow_us > 0);
        let answered_at_ms = now_ms + latency_us / 1_000;
        let mut gate = None;
        let answers =
            messages.iter().map(|message| self.take(message, answered_at_ms, now_ms, &mut gate)).collect();
        Taken { answers, latency_us: latency_us + slow_us, answer_lost, gate }
    }

    fn take(
        &mut self,
        message: &HandOver<'_>,
        answered_at_ms: u64,
        now_ms: u64,
        gate: &mut Option<Arc<Gate>>,
    ) -> Answer {
        self.ledger.counters.handovers += 1;
        let known = self.ledger.find(message.reference);
        let pass = match known {
            Some(position) => self.repeat(position),
            None => 0,
        };
        if let (Some(position), true) = (known, self.decider.behaviour.dedupe) {
            return self.first_answer(position, message.reference);
        }
        let subject = Subject { recipient: message.recipient, attempt: attempt_of(message.reference) };
        let delivery = match self.decider.fate(subject) {
            Fate::Refused(code) => {
                // A mail that is refused for now may come again, and was never taken.
                if message.kind == Channel::Email && is_for_now(&code) {
                    self.ledger.counters.refused += 1;
                } else if known.is_none() {
                    self.ledger.counters.refused += 1;
                    self.ledger.add_refused(*message, &code);
                }
                return Answer::Refused { code };
            }
            Fate::NotNow { code, times, .. } if self.puts_off(message.recipient, times) => {
                return Answer::Deferred { code };
            }
            Fate::NotNow { then, .. } => then,
            Fate::Accepted(delivery) => delivery,
        };
        let position = known.unwrap_or_else(|| {
            self.ledger.counters.accepted += 1;
            self.ledger.add_accepted(*message)
        });
        let relay_reference = self.decider.relay_reference(message.reference, pass);
        let early = delivery.receipt.before_response && !delivery.receipt.never;
        let due_ms = if early { now_ms } else { answered_at_ms + delivery.after_ms };
        let gate = early.then(|| Gate::enter(gate));
        let result = What::Result { position, delivery };
        self.plan(due_ms, Due { reference: message.reference.into(), relay_reference, gate, what: result });
        Answer::Accepted { relay_reference, duplicate: false }
    }

    /// Whether a recipient is put off once more.
    fn puts_off(&mut self, recipient: &str, times_max: u32) -> bool {
        let times = self.put_off.entry(hash_of(recipient)).or_insert(0);
        let is_put_off = *times < times_max;
        *times += u32::from(is_put_off);
        is_put_off
    }

    /// Counts a repeat and returns its number.
    fn repeat(&mut self, position: u32) -> u16 {
        self.ledger.counters.duplicates += 1;
        let entry = self.ledger.entry_mut(position);
        entry.times_received = entry.times_received.saturating_add(1);
        entry.times_received - 1
    }

    fn first_answer(&self, position: u32, reference: &str) -> Answer {
        let entry = self.ledger.entry(position);
        match entry.status {
            EntryStatus::Refused => Answer::Refused { code: self.ledger.code(entry) },
            EntryStatus::Accepted | EntryStatus::Delivered | EntryStatus::Undelivered => Answer::Accepted {
                relay_reference: self.decider.relay_reference(reference, 0),
                duplicate: true,
            },
        }
    }

    fn status(&self, reference: &str) -> Option<ReferenceStatus> {
        let entry = self.ledger.entry(self.ledger.find(reference)?);
        Some(ReferenceStatus {
            status: entry.status,
            code: self.ledger.code(entry),
            relay_reference: self.decider.relay_reference(reference, 0),
            at_ms: entry.final_at_ms(),
        })
    }

    fn plan(&mut self, due_ms: u64, due: Due) {
        self.schedule.add(due_ms, self.decider.behaviour.receipts.flush_ms, due);
    }

    fn advance(&mut self, now_ms: u64, reports: bool) {
        while let Some((at_ms, due)) = self.schedule.take_due(now_ms) {
            for due in due {
                self.happen(at_ms.min(now_ms), due, reports);
            }
        }
    }

    fn happen(&mut self, at_ms: u64, due: Due, reports: bool) {
        let (position, delivery) = match due.what {
            What::Report(receipt) => return self.ready.push_back(receipt),
            What::Result { position, delivery } => (position, delivery),
        };
        self.ledger.finish(position, delivery.result, &delivery.code, at_ms);
        if reports && !delivery.receipt.never {
            self.report(at_ms, due.reference, due.relay_reference, due.gate, &delivery);
        }
    }

    fn report(
        &mut self,
        at_ms: u64,
        reference: Box<str>,
        relay_reference: u64,
        gate: Option<Arc<Gate>>,
        delivery: &Delivery,
    ) {
        let receipt = Receipt {
            reference,
            relay_reference,
            delivered: delivery.result == Outcome::Delivered,
            code: delivery.code.clone(),
            at_ms,
            gate,
        };
        if delivery.receipt.foreign {
            let reference = self.decider.foreign_reference(&receipt.reference).into_boxed_str();
            let relay_reference = self.decider.relay_reference(&reference, 0);
            self.ready.push_back(Receipt { reference, relay_reference, gate: None, ..receipt.clone() });
        }
        let flush_ms = self.decider.behaviour.receipts.flush_ms;
        if delivery.receipt.twice {
            let again = Receipt { gate: None, ..receipt.clone() };
            self.plan(at_ms + delivery.receipt.hold_back_ms + 2 * flush_ms, Due::report(again));
        }
        if delivery.receipt.hold_back_ms > 0 && receipt.gate.is_none() {
            return self.plan(at_ms + delivery.receipt.hold_back_ms, Due::report(receipt));
        }
        self.ready.push_back(receipt);
    }
}
