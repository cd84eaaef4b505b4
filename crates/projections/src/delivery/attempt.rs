//! One attempt and its stored form.
//!
//! A column of bytes has a message's attempts one after the other. Numbers are variable-length (seven bits per byte),
//! times are relative to the lot's acceptance and one more than that, so that 0 means "none".

use kite_domain::failure::FailureClass;
use kite_domain::lot::AttemptState;
use kite_domain::relay::BillingMoment;
use kite_domain::text::MessageType;
use smol_str::SmolStr;
use std::sync::Arc;

use super::codes::Coded;

/// An attempt. A time of 0 is none; words are places in the table `words`, 0 is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) relay: u32,
    pub(super) reason: u32,
    pub(super) code: u32,
    pub(super) call_ms: Option<u32>,
    pub(super) channel: MessageType,
    pub(super) state: AttemptState,
    pub(super) bills: BillingMoment,
    pub(super) class: Option<FailureClass>,
    /// The relay has it, or had it.
    pub(super) is_taken: bool,
    /// The relay charges for it.
    pub(super) is_billed: bool,
    /// The relay charges for it although it failed.
    pub(super) is_billable_failure: bool,
    pub(super) price_milliwon: i64,
    pub(super) routed_ms: i64,
    pub(super) submitted_ms: i64,
    pub(super) responded_ms: i64,
    /// By the relay's clock.
    pub(super) receipt_ms: i64,
    pub(super) received_ms: i64,
    pub(super) relay_reference: SmolStr,
    pub(super) detail: Option<Arc<str>>,
    /// That the answer to it was lost at some time.
    pub(super) unknown: Option<Lost>,
}

/// The answer of a relay that was lost, for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) since_ms: i64,
    pub(super) reason: Arc<str>,
}

impl Attempt {
    /// What it takes in memory beside itself, in bytes, about. A text that attempts share counts in parts.
    pub(super) fn heap_bytes(&self) -> usize {
        let shared = |text: &Arc<str>| text.len().div_ceil(Arc::strong_count(text));
        let reference = &self.relay_reference;
        let reference = if reference.is_heap_allocated() { reference.len() } else { 0 };
        reference
            + self.detail.as_ref().map_or(0, shared)
            + self.unknown.as_ref().map_or(0, |lost| shared(&lost.reason))
    }
}

const TAKEN: u64 = 1;
const BILLED: u64 = 2;
const BILLABLE_FAILURE: u64 = 4;
/// Two more fields follow.
const LOST: u64 = 8;

/// Appends the stored form.
pub(super) fn encode(attempts: &[Attempt], origin_ms: i64, out: &mut Vec<u8>) {
    for attempt in attempts {
        let flags = [
            (attempt.is_taken, TAKEN),
            (attempt.is_billed, BILLED),
            (attempt.is_billable_failure, BILLABLE_FAILURE),
            (attempt.unknown.is_some(), LOST),
        ];
        let flags: u64 = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum();
        put(out, flags);
        put(out, u64::from(attempt.relay));
        put(out, u64::from(attempt.reason));
        put(out, u64::from(attempt.code));
        put(out, attempt.call_ms.map_or(0, |ms| u64::from(ms) + 1));
        put(out, attempt.channel.code() as u64);
        put(out, attempt.state.code() as u64);
        put(out, attempt.bills.code() as u64);
        put(out, attempt.class.map_or(0, |class| class.code() as u64 + 1));
        put(out, zigzag(attempt.price_milliwon));
        for time in [
            attempt.routed_ms,
            attempt.submitted_ms,
            attempt.responded_ms,
            attempt.receipt_ms,
            attempt.received_ms,
        ] {
            put_time(out, time, origin_ms);
        }
        put_text(out, &attempt.relay_reference);
        put_text(out, attempt.detail.as_deref().unwrap_or_default());
        if let Some(lost) = &attempt.unknown {
            put_time(out, lost.since_ms, origin_ms);
            put_text(out, &lost.reason);
        }
    }
}

fn put_time(out: &mut Vec<u8>, time_ms: i64, origin_ms: i64) {
    put(out, if time_ms == 0 { 0 } else { zigzag(time_ms.wrapping_sub(origin_ms)).wrapping_add(1) });
}

/// Reads the stored form; none if it is damaged.
pub(super) fn decode(mut bytes: &[u8], origin_ms: i64) -> Option<Vec<Attempt>> {
    let mut attempts = Vec::new();
    let input = &mut bytes;
    while !input.is_empty() {
        let flags = take(input)?;
        let word = |input: &mut &[u8]| u32::try_from(take(input)?).ok();
        let (relay, reason, code) = (word(input)?, word(input)?, word(input)?);
        let call_ms = take(input)?.checked_sub(1).and_then(|ms| u32::try_from(ms).ok());
        let channel = MessageType::from_code(take(input)? as i64)?;
        let state = AttemptState::from_code(take(input)? as i64)?;
        let bills = BillingMoment::from_code(take(input)? as i64)?;
        let class = match take(input)?.checked_sub(1) {
            None => None,
            Some(class) => Some(FailureClass::from_code(class as i64)?),
        };
        let price_milliwon = unzigzag(take(input)?);
        let time = |input: &mut &[u8]| {
            let stored = take(input)?;
            Some(match stored {
                0 => 0,
                stored => origin_ms.wrapping_add(unzigzag(stored.wrapping_sub(1))),
            })
        };
        attempts.reserve_exact(1);
        attempts.push(Attempt {
            relay,
            reason,
            code,
            call_ms,
            channel,
            state,
            bills,
            class,
            is_taken: flags & TAKEN != 0,
            is_billed: flags & BILLED != 0,
            is_billable_failure: flags & BILLABLE_FAILURE != 0,
            price_milliwon,
            routed_ms: time(input)?,
            submitted_ms: time(input)?,
            responded_ms: time(input)?,
            receipt_ms: time(input)?,
            received_ms: time(input)?,
            relay_reference: SmolStr::new(take_text(input)?),
            detail: Some(take_text(input)?).filter(|text| !text.is_empty()).map(Arc::from),
            unknown: match flags & LOST {
                0 => None,
                _ => Some(Lost { since_ms: time(input)?, reason: take_text(input)?.into() }),
            },
        });
    }
    Some(attempts)
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn take_text<'i>(input: &mut &'i [u8]) -> Option<&'i str> {
    let length = usize::try_from(take(input)?).ok()?;
    let (text, rest) = input.split_at_checked(length)?;
    *input = rest;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_attempt() -> impl Strategy<Value = Attempt> {
        let words = (any::<u32>(), any::<u32>(), any::<u32>(), any::<Option<u32>>(), any::<i64>());
        let enums = (0i64..5, 0i64..8, 0i64..2, proptest::option::of(0i64..12), any::<[bool; 3]>());
        let times = proptest::array::uniform5(prop_oneof![Just(0), 1_700_000_000_000i64..1_800_000_000_000]);
        let lost = proptest::option::of((1_700_000_000_000i64..1_800_000_000_000, ".{0,20}"));
        let texts = ("[a-z0-9-]{0,40}", proptest::option::of(".{1,20}"), lost);
        (words, enums, times, texts).prop_map(|(words, enums, times, texts)| Attempt {
            relay: words.0,
            reason: words.1,
            code: words.2,
            call_ms: words.3,
            price_milliwon: words.4,
            channel: MessageType::from_code(enums.0).unwrap(),
            state: AttemptState::from_code(enums.1).unwrap(),
            bills: BillingMoment::from_code(enums.2).unwrap(),
            class: enums.3.map(|class| FailureClass::from_code(class).unwrap()),
            is_taken: enums.4[0],
            is_billed: enums.4[1],
            is_billable_failure: enums.4[2],
            routed_ms: times[0],
            submitted_ms: times[1],
            responded_ms: times[2],
            receipt_ms: times[3],
            received_ms: times[4],
            relay_reference: texts.0.into(),
            detail: texts.1.map(Arc::from),
            unknown: texts.2.map(|(since_ms, reason)| Lost { since_ms, reason: reason.into() }),
        })
    }

    fn an_attempt(detail: Option<Arc<str>>) -> Attempt {
        Attempt {
            relay: 1,
            reason: 1,
            code: 0,
            call_ms: None,
            channel: MessageType::Sms,
            state: AttemptState::Routed,
            bills: BillingMoment::Delivered,
            class: None,
            is_taken: false,
            is_billed: false,
            is_billable_failure: false,
            price_milliwon: 9_000,
            routed_ms: 1,
            submitted_ms: 0,
            responded_ms: 0,
            receipt_ms: 0,
            received_ms: 0,
            relay_reference: SmolStr::default(),
            detail,
            unknown: None,
        }
    }

    #[test]
    fn one_attempt_is_read_back_into_room_for_one() {
        let mut bytes = Vec::new();
        encode(&[an_attempt(None)], 0, &mut bytes);
        assert_eq!(decode(&bytes, 0).unwrap().capacity(), 1);
    }

    #[test]
    fn what_a_relay_says_counts_once_however_many_attempts_share_it() {
        let said: Arc<str> = "x".repeat(1_000).into();
        let attempts: Vec<Attempt> = (0..10).map(|_| an_attempt(Some(said.clone()))).collect();
        drop(said);
        assert_eq!(attempts.iter().map(Attempt::heap_bytes).sum::<usize>(), 1_000);
        assert_eq!(an_attempt(Some("y".repeat(70).into())).heap_bytes(), 70);
        assert_eq!(an_attempt(None).heap_bytes(), 0);
    }

    proptest! {
        #[test]
        fn attempts_read_back_as_they_were_written(
            attempts in proptest::collection::vec(any_attempt(), 0..4),
            origin_ms in 1_700_000_000_000i64..1_800_000_000_000,
        ) {
            let mut bytes = Vec::new();
            encode(&attempts, origin_ms, &mut bytes);
            prop_assert_eq!(decode(&bytes, origin_ms), Some(attempts));
        }

        #[test]
        fn damaged_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes, 0);
        }
    }
}
