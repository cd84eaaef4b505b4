//! Simulated relays: what they accepted, what they will report, and when. They survive a crash of the process.
//!
//! A relay here is truthful unless told to lie: it delivers what it says it delivers, and knows what it accepted. The
//! platform's own statements are compared with its ledger.

mod calls;
mod client;
mod receipts;

pub(crate) use client::{Acknowledged, SimConnector};
pub(crate) use receipts::LEASE_MS;

use chrono::{DateTime, Utc};
use kite_domain::ids::AttemptReference;
use kite_domain::receipt::{RawReceipt, ReceiptStatus};
use kite_domain::relay::ReceiptMode;
use kite_domain::slug::RelayId;
use kite_relay::client::OutgoingMessage;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::case::Case;
use crate::executor::Sim;
use crate::faults::Armed;
use crate::reach::Situation;
use crate::setting::LATE_MS;
use calls::Calls;
use kite_testkit::dice::hash_of;

/// How a relay is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It works.
    Up,
    /// No connection can be made.
    Dead,
    /// It takes what it is given, or not, and never answers.
    Stalled,
    /// It says that it is out of service.
    OutOfService,
    /// Dead and up in turn, a few seconds each.
    Flapping,
    /// Too many messages: later.
    RateLimited,
    /// It refuses every message with a fault of its own.
    Faulting,
    /// A worker that hands it messages panics. The relay itself accepts them, or not.
    Baffling,
}

/// The words of the panics that belong to a simulation.
pub(crate) const SIMULATED_PANIC: &str = "a simulated panic";

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallFault {
    /// It never arrives, and nobody says so.
    RequestLost,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// The same, and the next call is one too many. Often that is the repeat: the relay has the message, and does not
    /// take it.
    AnswerLostThenTooMany,
    /// It arrives after the caller has given up.
    ArrivesLate,
    /// There is no connection.
    NoConnection,
    /// One too many; how long to wait is said.
    RateLimited,
}

/// What Kite asks a relay beside handing over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// What has become of messages.
    Standing,
    /// For receipts.
    Pull,
    /// Not to say receipts again, because they were stored.
    Acknowledgement,
}

/// What happens to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuestionFault {
    /// It never arrives, or it is done and the answer is lost. Nobody says so.
    Unanswered,
    /// The answer takes as long as anybody waits for it.
    AnsweredLate,
    /// There is no connection.
    NoConnection,
    /// One too many; how long to wait is said.
    RateLimited,
}

/// What happens to the next receipts of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptFault {
    /// Before the answer to the hand-over.
    Early,
    /// Hours later.
    Late,
    /// Twice.
    Twice,
    /// Not at all.
    Never,
    /// First that it failed, later that it was delivered.
    Corrected,
}

/// What never changes about a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits {
    pub(crate) deduplicates: bool,
    /// A repeat is refused as such; otherwise it is accepted and said to be one.
    pub(crate) refuses_repeats: bool,
    pub(crate) answers_status: bool,
    pub(crate) receipts: ReceiptMode,
    pub(crate) is_mail: bool,
}

/// What will become of a message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Failed(SmolStr),
}

/// A message as the relay knows it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) refused: Option<SmolStr>,
    pub(crate) fate: Fate,
    /// How often it was taken; more than once only where repeats are not dropped.
    pub(crate) taken: u32,
    /// The receipt, once it is out.
    pub(crate) over: Option<RawReceipt>,
    /// A receipt said something else before.
    pub(crate) was_corrected: bool,
    /// With what it was refused for now, and how often.
    pub(crate) put_off: Option<(SmolStr, u32)>,
}

/// A message came in.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) relay: RelayId,
    pub(crate) message: OutgoingMessage,
    pub(crate) at_ms: i64,
}

/// Messages that somebody begins to call a relay with.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) relay: RelayId,
    pub(crate) references: Vec<AttemptReference>,
    pub(crate) at_ms: i64,
    /// How many the relay has in progress with this one, those that nobody waits for any more aside.
    pub(crate) at_once: usize,
}

impl Call {
    pub(crate) fn at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.at_ms).unwrap_or_default()
    }
}

/// Calls that begin, in their order.
pub(crate) type Begun = Arc<Mutex<Vec<Call>>>;

/// What a relay does by itself.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// A call that nobody waits for any more comes in.
    Arrive(Vec<OutgoingMessage>),
    /// Receipts are pushed, or put where they are asked for.
    Report(Vec<RawReceipt>),
}

#[derive(Debug, Default)]
struct Inner {
    ledger: BTreeMap<AttemptReference, Entry>,
    actions: BTreeMap<(i64, u64), Action>,
    actions_made: u64,
    inbox: VecDeque<RawReceipt>,
    leases: BTreeMap<String, (i64, Vec<RawReceipt>)>,
    leases_made: u64,
    receipt_faults: VecDeque<ReceiptFault>,
    /// References that it was told to speak of, whatever it knows.
    lies: BTreeSet<SmolStr>,
    /// It asked not to be called before.
    rests_until_ms: i64,
    /// When it last answered anything.
    answered_ms: i64,
    calls: Calls,
    /// Messages whose newest call is over for whoever called.
    over: BTreeSet<AttemptReference>,
}

/// One relay.
pub(crate) struct SimRelay {
    pub(crate) id: RelayId,
    pub(crate) traits: Traits,
    seed: u64,
    /// How long the receipt of a message takes at most when all is well.
    receipt_ms_max: u64,
    greylisted_per_cent: u64,
    sim: Arc<Sim>,
    mode: Mutex<Mode>,
    /// With the fault of the question that follows.
    pub(crate) call_faults: Armed<(CallFault, Option<QuestionFault>)>,
    question_faults: [Armed<QuestionFault>; 3],
    inner: Mutex<Inner>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    calls: Begun,
}

/// What a relay says to one message of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    Accepted {
        is_repeat: bool,
    },
    Refused(SmolStr),
    /// Not now: this one is to come again.
    ForNow(SmolStr),
}

impl SimRelay {
    pub(crate) fn new(
        id: RelayId,
        traits: Traits,
        case: &Case,
        sim: Arc<Sim>,
        arrivals: Arc<Mutex<Vec<Arrival>>>,
        calls: Begun,
    ) -> Self {
        Self {
            seed: hash_of(case.seed, id.as_str()),
            receipt_ms_max: case.setup.receipt_ms_max.into(),
            greylisted_per_cent: case.setup.greylisted_per_cent.into(),
            id,
            traits,
            sim,
            mode: Mutex::new(Mode::Up),
            call_faults: Armed::default(),
            question_faults: Default::default(),
            inner: Mutex::default(),
            arrivals,
            calls,
        }
    }

    /// Somebody begins to call it, and waits so long. Answers the number of the call.
    fn is_called(&self, messages: &[OutgoingMessage], timeout_ms: i64) -> u64 {
        let references: Vec<AttemptReference> = messages.iter().map(|message| message.reference).collect();
        let at_ms = self.sim.now_ms();
        let mut inner = self.inner.lock();
        references.iter().for_each(|reference| {
            inner.over.remove(reference);
        });
        let number = inner.calls.begin(at_ms, timeout_ms);
        let at_once = inner.calls.at_once(at_ms);
        self.calls.lock().push(Call { relay: self.id.clone(), references, at_ms, at_once });
        number
    }

    /// Whoever called has an answer, or has given it up.
    fn is_answered(&self, messages: &[OutgoingMessage]) {
        self.inner.lock().over.extend(messages.iter().map(|message| message.reference));
    }

    /// Whether the newest call with this message is over for whoever called.
    pub(crate) fn call_is_over(&self, reference: AttemptReference) -> bool {
        self.inner.lock().over.contains(&reference)
    }

    /// The faults that wait for questions of a kind.
    pub(crate) fn question_faults(&self, question: Question) -> &Armed<QuestionFault> {
        let [standing, pull, acknowledgement] = &self.question_faults;
        match question {
            Question::Standing => standing,
            Question::Pull => pull,
            Question::Acknowledgement => acknowledgement,
        }
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    pub(crate) fn mode(&self) -> Mode {
        match *self.mode.lock() {
            Mode::Flapping if (self.sim.now_ms() / 4_000) % 2 == 0 => Mode::Dead,
            Mode::Flapping => Mode::Up,
            mode => mode,
        }
    }

    /// No more faults from here on; what has been said stays said.
    /// When it last answered anything.
    pub(crate) fn answered_ms(&self) -> i64 {
        self.inner.lock().answered_ms
    }

    fn note_answer(&self) {
        self.inner.lock().answered_ms = self.sim.now_ms();
    }

    pub(crate) fn heal(&self) {
        self.set_mode(Mode::Up);
        self.call_faults.disarm();
        self.question_faults.iter().for_each(Armed::disarm);
        self.inner.lock().receipt_faults.clear();
    }

    /// How much later than the caller waits for it a call comes in.
    fn late_ms(&self) -> i64 {
        let chance = hash_of(self.seed, &format_smolstr!("late {}", self.sim.now_ms()));
        if chance.is_multiple_of(2) { 0 } else { (chance / 2 % LATE_MS) as i64 }
    }

    /// For how long it refuses one call too many: mostly a short time, sometimes more than the pauses between two
    /// questions.
    fn asks_to_wait(&self) -> Duration {
        let now_ms = self.sim.now_ms();
        let pause_ms = match hash_of(self.seed, &format_smolstr!("wait {now_ms}")) % 10 {
            0 => 45_000,
            1 | 2 => 8_000,
            _ => 1_500,
        };
        let mut inner = self.inner.lock();
        inner.rests_until_ms = inner.rests_until_ms.max(now_ms + pause_ms);
        Duration::from_millis(pause_ms as u64)
    }

    /// The call of this number is over, or its caller is no more.
    fn call_ends(&self, number: u64) {
        let now_ms = self.sim.now_ms();
        self.inner.lock().calls.end(number, now_ms);
    }

    /// How long it was called up to now, all calls together.
    pub(crate) fn called_ms(&self) -> i64 {
        let now_ms = self.sim.now_ms();
        let mut inner = self.inner.lock();
        inner.calls.count(0, now_ms);
        inner.calls.total_ms
    }

    /// It asked not to be called before.
    pub(crate) fn rests_until_ms(&self) -> i64 {
        self.inner.lock().rests_until_ms
    }

    pub(crate) fn entry(&self, reference: AttemptReference) -> Option<Entry> {
        self.inner.lock().ledger.get(&reference).cloned()
    }

    /// References of one message that were taken, over all its attempts.
    pub(crate) fn taken(&self) -> Vec<(AttemptReference, Entry)> {
        let inner = self.inner.lock();
        let taken = inner.ledger.iter().filter(|(_, entry)| entry.taken > 0);
        taken.map(|(reference, entry)| (*reference, entry.clone())).collect()
    }

    /// How many messages ever came in.
    pub(crate) fn known(&self) -> usize {
        self.inner.lock().ledger.len()
    }

    fn chance(&self, what: &str, reference: AttemptReference) -> u64 {
        hash_of(self.seed, &format_smolstr!("{what} {reference}")) % 100
    }

    /// What the relay would say to a message that it has never seen.
    fn verdict(&self, reference: AttemptReference, mode: Mode) -> Option<SmolStr> {
        if mode == Mode::Faulting {
            return Some(if self.traits.is_mail { "451".into() } else { "3053".into() });
        }
        let mail = [("550", 4), ("451", 4), ("5.7.1", 2)];
        let text =
            [("3032", 3), ("3053", 5), ("2254", 2), ("1062", 2), ("1030", 2), ("1026", 2), ("9999", 1)];
        let codes: &[(&str, u64)] = if self.traits.is_mail { &mail } else { &text };
        pick(codes, self.chance("verdict", reference))
    }

    /// What the relay says to a message that is to come again, after so many times.
    fn not_now(&self, reference: AttemptReference, times: u32) -> Option<SmolStr> {
        if self.chance("greylisted", reference) >= self.greylisted_per_cent {
            return None;
        }
        let times_max = match self.chance("how often", reference) {
            0..=59 => 1,
            60..=84 => 3,
            _ => u32::MAX,
        };
        let mail = [("450", 40), ("4.7.1", 40), ("451", 20)];
        let text = [("3043", 60), ("3053", 40)];
        let codes: &[(&str, u64)] = if self.traits.is_mail { &mail } else { &text };
        pick(codes, self.chance("with what", reference)).filter(|_| times < times_max)
    }

    /// How many messages of a call it comes to, before it ends the conversation.
    fn comes_to(&self, count: usize) -> usize {
        let ends = self.traits.is_mail && self.greylisted_per_cent > 0 && self.sim.per_cent(10);
        if ends { 1 + self.sim.below(count as u64) as usize } else { count }
    }

    fn fate(&self, reference: AttemptReference) -> Fate {
        let text = [("3043", 4), ("3032", 4), ("3012", 5), ("3054", 2), ("7777", 1)];
        let mail = [("550", 5), ("4.4.5", 4)];
        let codes: &[(&str, u64)] = if self.traits.is_mail { &mail } else { &text };
        match pick(codes, self.chance("fate", reference)) {
            Some(_) if self.traits.receipts == ReceiptMode::None => Fate::Delivered,
            Some(code) => Fate::Failed(code),
            None => Fate::Delivered,
        }
    }

    /// A call comes in. One word a message.
    pub(crate) fn arrive(&self, messages: &[OutgoingMessage]) -> Vec<Word> {
        let mode = self.mode();
        let mut arrivals = self.arrivals.lock();
        let now_ms = self.sim.now_ms();
        let mut words = Vec::with_capacity(messages.len());
        for message in messages {
            words.push(self.take(message, mode, now_ms));
            arrivals.push(Arrival { relay: self.id.clone(), message: message.clone(), at_ms: now_ms });
        }
        words
    }

    fn take(&self, message: &OutgoingMessage, mode: Mode, now_ms: i64) -> Word {
        let reference = message.reference;
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.ledger.get_mut(&reference).filter(|entry| entry.taken > 0) {
            if self.traits.deduplicates {
                if self.traits.refuses_repeats {
                    self.sim.reach(Situation::RepeatRefused);
                    return Word::Refused("1026".into());
                }
                self.sim.reach(Situation::RepeatDropped);
                return Word::Accepted { is_repeat: true };
            }
            entry.taken += 1;
            return Word::Accepted { is_repeat: false };
        }
        let times =
            inner.ledger.get(&reference).and_then(|entry| entry.put_off.as_ref()).map_or(0, |put| put.1);
        let put_off = self.not_now(reference, times).map(|code| (code, times + 1));
        let refused = if put_off.is_some() { None } else { self.verdict(reference, mode) };
        let is_taken = refused.is_none() && put_off.is_none();
        let entry = Entry {
            refused: refused.clone(),
            fate: self.fate(reference),
            taken: u32::from(is_taken),
            over: None,
            was_corrected: false,
            put_off: put_off.clone(),
        };
        inner.ledger.insert(reference, entry);
        if let Some((code, _)) = put_off {
            return Word::ForNow(code);
        }
        match refused {
            Some(code) => Word::Refused(code),
            None => {
                self.plan_receipts(&mut inner, reference, now_ms);
                Word::Accepted { is_repeat: false }
            }
        }
    }

    pub(crate) fn act_at(&self, at_ms: i64, action: Action) {
        self.inner.lock().act_at(at_ms, action);
    }

    /// When it next does something by itself, and whether that is an arrival.
    pub(crate) fn next_action(&self) -> Option<i64> {
        self.inner.lock().actions.first_key_value().map(|((at, _), _)| *at)
    }

    /// When a call that nobody waits for comes in next.
    pub(crate) fn next_arrival(&self) -> Option<i64> {
        let inner = self.inner.lock();
        let mut actions = inner.actions.iter();
        actions.find(|(_, action)| matches!(action, Action::Arrive(_))).map(|((at, _), _)| *at)
    }

    /// Whether a call with this reference that nobody waits for is still to come in.
    pub(crate) fn is_on_its_way(&self, reference: AttemptReference) -> bool {
        let inner = self.inner.lock();
        inner.actions.values().any(|action| match action {
            Action::Arrive(messages) => messages.iter().any(|message| message.reference == reference),
            _ => false,
        })
    }

    pub(crate) fn due_action(&self) -> Option<Action> {
        let mut inner = self.inner.lock();
        let now_ms = self.sim.now_ms();
        let entry = inner.actions.first_entry().filter(|entry| entry.key().0 <= now_ms)?;
        Some(entry.remove())
    }

    fn relay_reference(&self, reference: AttemptReference) -> SmolStr {
        let short = hash_of(self.seed, &reference.to_string()) % 1_000_000;
        format_smolstr!("{}{short:06}", self.id)
    }
}

impl Inner {
    fn act_at(&mut self, at_ms: i64, action: Action) {
        self.actions_made += 1;
        self.actions.insert((at_ms, self.actions_made), action);
    }
}

/// The code whose share the number falls into; none: past all of them.
fn pick(codes: &[(&str, u64)], mut number: u64) -> Option<SmolStr> {
    for (code, share) in codes {
        if number < *share {
            return Some(SmolStr::from(*code));
        }
        number -= share;
    }
    None
}

/// All relays.
pub(crate) struct SimRelays {
    pub(crate) relays: BTreeMap<RelayId, Arc<SimRelay>>,
    pub(crate) arrivals: Arc<Mutex<Vec<Arrival>>>,
    pub(crate) calls: Begun,
}

impl SimRelays {
    pub(crate) fn get(&self, relay: &RelayId) -> Option<&Arc<SimRelay>> {
        self.relays.get(relay)
    }

    pub(crate) fn next_action(&self) -> Option<i64> {
        self.relays.values().filter_map(|relay| relay.next_action()).min()
    }

    pub(crate) fn next_arrival(&self) -> Option<i64> {
        self.relays.values().filter_map(|relay| relay.next_arrival()).min()
    }

    /// Messages that will reach their recipient more than once: by which references.
    pub(crate) fn delivered_twice(&self) -> Vec<Vec<(RelayId, AttemptReference)>> {
        let mut by_message: BTreeMap<_, Vec<(RelayId, AttemptReference)>> = BTreeMap::new();
        for relay in self.relays.values() {
            for (reference, entry) in relay.taken() {
                if entry.fate == Fate::Delivered && !entry.was_corrected {
                    let all = by_message.entry(reference.message).or_default();
                    (0..entry.taken).for_each(|_| all.push((relay.id.clone(), reference)));
                }
            }
        }
        by_message.into_values().filter(|all| all.len() > 1).collect()
    }
}

fn status_of(fate: &Fate) -> (ReceiptStatus, SmolStr) {
    match fate {
        Fate::Delivered => (ReceiptStatus::Delivered, "4000".into()),
        Fate::Failed(code) => (ReceiptStatus::Undelivered, code.clone()),
    }
}
