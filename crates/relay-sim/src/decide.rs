//! What happens to a message and to a call: pure functions of seed, relay, recipient and attempt.
//!
//! No order, no wall time, no shared random generator: each decision draws from a hash of exactly those four and the
//! decision's own number, so that a message has the same result in two runs, batchings or orders. The result of a
//! whole call is drawn from the call's first message and how often its reference was received before, so that a
//! repeated call is a new chance.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use crate::codes::CodeStyle;
use crate::forced::{Forced, ForcedCall, ForcedReceipt, forced};
use crate::scenario::{Behaviour, Distribution};

/// The decisions that are drawn. Their numbers are part of the contract with recorded seeds: append only.
#[derive(Clone, Copy)]
enum Question {
    Refusal = 1,
    Undelivered = 2,
    DeliveryTime = 3,
    Late = 4,
    OutOfOrder = 5,
    HoldBack = 6,
    Twice = 7,
    BeforeResponse = 8,
    Never = 9,
    Foreign = 10,
    CallFault = 11,
    CallLatency = 12,
    Identity = 13,
}

/// Numbers drawn for one message at one relay.
#[derive(Clone, Copy)]
struct Draws(u64);

impl Draws {
    fn new(relay_key: (u64, u64), recipient: &str, attempt: u32) -> Self {
        let mut hasher = SipHasher13::new_with_keys(relay_key.0, relay_key.1);
        hasher.write(recipient.as_bytes());
        hasher.write(&attempt.to_le_bytes());
        Self(hasher.finish())
    }

    /// A number that belongs to a question (the finishing steps of splitmix64).
    fn number(self, question: Question) -> u64 {
        let mut mixed = self.0.wrapping_add((question as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in [0, 1).
    fn unit(self, question: Question) -> f64 {
        (self.number(question) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn strikes(self, question: Question, share: f64) -> bool {
        share > 0.0 && self.unit(question) < share
    }
}

/// A behaviour made ready for drawing.
#[derive(Debug)]
pub(crate) struct Decider {
    relay_key: (u64, u64),
    style: CodeStyle,
    delivered: Arc<str>,
    refusals: Vec<(f64, Arc<str>)>,
    undelivered: Vec<(f64, Arc<str>)>,
    pub(crate) behaviour: Behaviour,
}

/// What happens to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Refused at hand-over with this code.
    Refused(Arc<str>),
    /// Deferred with this code at the first so many hand-overs to the recipient, then accepted.
    NotNow { code: Arc<str>, times: u32, then: Delivery },
    /// Accepted.
    Accepted(Delivery),
}

/// What happens to an accepted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Whether it reaches its recipient.
    pub(crate) result: Outcome,
    /// The relay's code for that.
    pub(crate) code: Arc<str>,
    /// Milliseconds from the answer.
    pub(crate) after_ms: u64,
    pub(crate) receipt: ReceiptFate,
}

/// Final result of an accepted message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Undelivered,
}

/// How the receipt behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReceiptFate {
    pub(crate) never: bool,
    pub(crate) twice: bool,
    pub(crate) before_response: bool,
    pub(crate) foreign: bool,
    /// Milliseconds from the result to the report.
    pub(crate) hold_back_ms: u64,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallFate {
    pub(crate) latency_us: u64,
    pub(crate) fault: Option<CallFault>,
}

/// A fault of a call as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallFault {
    AnswerLost,
    Slow(u64),
    Reset,
    Unavailable,
}

/// What a message contributes to a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) recipient: &'a str,
    pub(crate) attempt: u32,
}

/// The attempt that a reference names: the digits after its last '-', 1 when there are none.
pub(crate) fn attempt_of(reference: &str) -> u32 {
    reference.rsplit_once('-').and_then(|(_, attempt)| attempt.parse().ok()).unwrap_or(1)
}

/// The message that a reference names: everything before its last '-'.
pub(crate) fn message_of(reference: &str) -> &str {
    reference.rsplit_once('-').map_or(reference, |(message, _)| message)
}

impl Decider {
    pub(crate) fn new(seed: u64, relay: &str, style: CodeStyle, behaviour: Behaviour) -> Self {
        let mut hasher = SipHasher13::new_with_keys(seed, 0);
        hasher.write(relay.as_bytes());
        Self {
            relay_key: (seed, hasher.finish()),
            style,
            delivered: style.delivered().into(),
            refusals: cumulative(&behaviour.refusals),
            undelivered: cumulative(&behaviour.undelivered),
            behaviour,
        }
    }

    /// What happens to a message, once its call is taken.
    pub(crate) fn fate(&self, subject: Subject<'_>) -> Fate {
        if let Some(forced) = forced(subject.recipient, self.style) {
            return self.forced_fate(forced, subject.attempt);
        }
        let draws = self.draws(subject);
        if let Some(code) = pick(&self.refusals, draws, Question::Refusal) {
            return Fate::Refused(code);
        }
        let (result, code) = match pick(&self.undelivered, draws, Question::Undelivered) {
            Some(code) => (Outcome::Undelivered, code),
            None => (Outcome::Delivered, self.delivered.clone()),
        };
        let receipt = self.receipt_fate(draws);
        let after_us = quantile_us(self.behaviour.delivery_ms, draws.unit(Question::DeliveryTime));
        let after_ms = if receipt.before_response { 0 } else { after_us / 1_000 };
        Fate::Accepted(Delivery { result, code, after_ms, receipt })
    }

    fn receipt_fate(&self, draws: Draws) -> ReceiptFate {
        let shares = &self.behaviour.receipts;
        let late = draws.strikes(Question::Late, shares.late.share);
        let disordered = draws.strikes(Question::OutOfOrder, shares.out_of_order.share);
        let held_ms = (draws.unit(Question::HoldBack) * shares.out_of_order.ms as f64) as u64;
        ReceiptFate {
            never: draws.strikes(Question::Never, shares.never),
            twice: draws.strikes(Question::Twice, shares.twice),
            before_response: draws.strikes(Question::BeforeResponse, shares.before_response),
            foreign: draws.strikes(Question::Foreign, shares.foreign),
            hold_back_ms: if late {
                shares.late.ms
            } else if disordered {
                held_ms
            } else {
                0
            },
        }
    }

    fn forced_fate(&self, forced: Forced, attempt: u32) -> Fate {
        let accepted =
            |result, code: Arc<str>, receipt| Fate::Accepted(Delivery { result, code, after_ms: 0, receipt });
        let delivered = |receipt| accepted(Outcome::Delivered, self.delivered.clone(), receipt);
        match forced {
            Forced::Refused(code) => Fate::Refused(code),
            Forced::RefusedFirst(code) if attempt <= 1 => Fate::Refused(code),
            Forced::Undelivered(code) => accepted(Outcome::Undelivered, code, ReceiptFate::default()),
            Forced::UndeliveredFirst(code) if attempt <= 1 => {
                accepted(Outcome::Undelivered, code, ReceiptFate::default())
            }
            Forced::NotNow { code, times } => {
                let (result, receipt) = (Outcome::Delivered, ReceiptFate::default());
                let then = Delivery { result, code: self.delivered.clone(), after_ms: 0, receipt };
                Fate::NotNow { code, times, then }
            }
            Forced::Receipt(fault) => delivered(self.forced_receipt(fault)),
            Forced::Delivered | Forced::RefusedFirst(_) | Forced::UndeliveredFirst(_) | Forced::Call(_) => {
                delivered(ReceiptFate::default())
            }
        }
    }

    fn forced_receipt(&self, fault: ForcedReceipt) -> ReceiptFate {
        let plain = ReceiptFate::default();
        let shares = &self.behaviour.receipts;
        match fault {
            ForcedReceipt::Never => ReceiptFate { never: true, ..plain },
            ForcedReceipt::Twice => ReceiptFate { twice: true, ..plain },
            ForcedReceipt::BeforeResponse => ReceiptFate { before_response: true, ..plain },
            ForcedReceipt::Late => ReceiptFate { hold_back_ms: shares.late.ms, ..plain },
            ForcedReceipt::Foreign => ReceiptFate { foreign: true, ..plain },
            ForcedReceipt::OutOfOrder => ReceiptFate { hold_back_ms: shares.out_of_order.ms, ..plain },
        }
    }

    /// What happens to a call with this first message, whose reference was received `earlier` times before.
    pub(crate) fn call_fate(&self, leading: Subject<'_>, earlier: u32) -> CallFate {
        if forced(leading.recipient, self.style).is_some() {
            return CallFate { latency_us: 0, fault: None };
        }
        let draws = Draws(self.draws(leading).0.rotate_left(17).wrapping_add(u64::from(earlier)));
        let latency_us = quantile_us(self.behaviour.latency_ms, draws.unit(Question::CallLatency));
        let faults = &self.behaviour.faults;
        let drawn = draws.unit(Question::CallFault);
        let mut reached = 0.0;
        for (share, fault) in [
            (faults.reset_before_acceptance, CallFault::Reset),
            (faults.unavailable, CallFault::Unavailable),
            (faults.answer_lost, CallFault::AnswerLost),
            (faults.slow_answer.share, CallFault::Slow(faults.slow_answer.ms)),
        ] {
            reached += share;
            if drawn < reached {
                return CallFate { latency_us, fault: Some(fault) };
            }
        }
        CallFate { latency_us, fault: None }
    }

    /// The call fault that a recipient forces, if its reference was received `earlier` times before.
    pub(crate) fn forced_call_fault(&self, recipient: &str, earlier: u32) -> Option<CallFault> {
        let Some(Forced::Call(fault)) = forced(recipient, self.style) else { return None };
        match fault {
            ForcedCall::AnswerLostAlways => Some(CallFault::AnswerLost),
            _ if earlier > 0 => None,
            ForcedCall::AnswerLostOnce => Some(CallFault::AnswerLost),
            ForcedCall::SlowOnce => Some(CallFault::Slow(self.behaviour.faults.slow_answer.ms)),
            ForcedCall::ResetOnce => Some(CallFault::Reset),
            ForcedCall::UnavailableOnce => Some(CallFault::Unavailable),
        }
    }

    /// The relay's own reference for a message: the same for the same reference, another for a second sending
    /// of it (`pass` from 0).
    pub(crate) fn relay_reference(&self, reference: &str, pass: u16) -> u64 {
        self.draws(Subject { recipient: reference, attempt: u32::from(pass) }).number(Question::Identity)
    }

    /// A reference of the usual form that no client ever gave, sent along with a message's receipt.
    pub(crate) fn foreign_reference(&self, reference: &str) -> String {
        let draws = self.draws(Subject { recipient: reference, attempt: u32::MAX });
        let (high, low) = (draws.number(Question::Foreign), draws.number(Question::Identity));
        format!("{high:016x}{low:016x}-0-1")
    }

    fn draws(&self, subject: Subject<'_>) -> Draws {
        Draws::new(self.relay_key, subject.recipient, subject.attempt)
    }
}

fn cumulative(mix: &BTreeMap<String, f64>) -> Vec<(f64, Arc<str>)> {
    let mut reached = 0.0;
    let step = |(code, share): (&String, &f64)| {
        reached += share;
        (reached, Arc::from(code.as_str()))
    };
    mix.iter().map(step).collect()
}

fn pick(mix: &[(f64, Arc<str>)], draws: Draws, question: Question) -> Option<Arc<str>> {
    if mix.is_empty() {
        return None;
    }
    let drawn = draws.unit(question);
    mix.iter().find(|(reached, _)| drawn < *reached).map(|(_, code)| code.clone())
}

/// A quantile of a distribution, in microseconds.
fn quantile_us(distribution: Distribution, unit: f64) -> u64 {
    let micros = distribution.p50 * 1_000.0;
    if distribution.spread <= 1.0 {
        return micros as u64;
    }
    let cut = unit.clamp(0.001, 0.999);
    let exponent = (cut / (1.0 - cut)).ln() / 99_f64.ln();
    (micros * distribution.spread.powf(exponent)) as u64
}
