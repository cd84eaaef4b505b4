//! No stored event can make a fold fail (law 1): any events, in any order, of any lot, also damaged ones.

use chrono::DateTime;
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::lot::*;
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::{BillingMoment, RelayDirectory};
use kite_domain::sender::{Envelope, SaidBy, Senders};
use kite_domain::sending::Sending;
use kite_domain::seq_set::SeqSet;
use kite_domain::text::MessageType;
use proptest::prelude::*;
use serde_json::Value;

use crate::samples;
use crate::world::*;

fn any_seq() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..6u32, 1 => 990..1_010u32, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn any_set() -> impl Strategy<Value = SeqSet> {
    prop::collection::vec(any_seq(), 0..6).prop_map(|seqs| seqs.into_iter().collect())
}

fn any_attempt() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 0..4u16, 1 => Just(u16::MAX)]
}

fn any_ms() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), Just(1_772_420_400_000)]
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(["alpha", "beta", "gamma", "nobody"].as_slice())
}

fn any_class() -> impl Strategy<Value = FailureClass> {
    prop::sample::select(FailureClass::ALL)
}

fn any_lot_event() -> impl Strategy<Value = Event> {
    let routed = (any_name(), any_attempt(), any_set(), prop::collection::vec(any_name(), 0..3)).prop_map(
        |(name, attempt, messages, fallbacks)| {
            let route = RouteSet {
                relay: relay(name),
                channel: if attempt % 2 == 0 { MessageType::Email } else { MessageType::Sms },
                attempt,
                messages,
                fallbacks: relays(&fallbacks),
                price_milliwon: i64::MAX,
                bills: BillingMoment::Accepted,
                reason: String::new(),
            };
            MessagesRouted { routes: vec![route.clone(), route], splits: Vec::new() }.into()
        },
    );
    let submitted =
        (any_name(), any_attempt(), any_set(), any_ms()).prop_map(|(name, attempt, messages, ms)| {
            let receipt_by = DateTime::from_timestamp_millis(ms).unwrap_or_default();
            MessagesSubmitted {
                relay: relay(name),
                attempt,
                messages,
                receipt_by,
                answer_by: None,
                holder: None,
            }
            .into()
        });
    let responded =
        (any_name(), any_attempt(), [any_set(), any_set(), any_set(), any_set()], any_class(), any::<bool>())
            .prop_map(|(name, attempt, [taken, refused, unknown, later], class, is_final)| {
                RelayResponded {
                    relay: relay(name),
                    attempt,
                    call_ms: None,
                    accepted: Some(AcceptedSet {
                        messages: taken,
                        relay_references: vec!["one".into()],
                        is_final,
                    }),
                    refused: vec![RefusedSet { messages: refused, code: "code".into(), class, text: None }],
                    unknown: Some(UnknownSet {
                        messages: unknown,
                        reason: String::new(),
                        inquire_at: is_final.then(noon),
                        round: 0,
                        duplicate_code: is_final.then(|| "1026".into()),
                        refusal: None,
                        receipt_by: None,
                    }),
                    refused_for_now: vec![RefusedForNowSet {
                        messages: later.clone(),
                        code: "451".into(),
                        class,
                        text: None,
                        times: 1,
                        since: noon(),
                        until: noon(),
                    }],
                    deferred: Some(DeferredSet { messages: later, reason: String::new(), until: noon() }),
                }
                .into()
            });
    let received = (any_name(), any_attempt(), any_set(), any::<bool>(), any_class()).prop_map(
        |(name, attempt, messages, is_delivered, class)| {
            let status = if is_delivered { ReceiptStatus::Delivered } else { ReceiptStatus::Undelivered };
            let set = ReceiptSet {
                attempt,
                status,
                code: "code".into(),
                class: Some(class),
                billable_failure: true,
                messages,
                at_ms: Vec::new(),
            };
            ReceiptsRecorded { relay: relay(name), sets: vec![set] }.into()
        },
    );
    let held = (any_set(), prop::collection::vec(any_ms(), 0..6))
        .prop_map(|(messages, until_ms)| MessagesHeld { messages, reason: String::new(), until_ms }.into());
    let finished = (any_set(), prop::sample::select(Outcome::ALL)).prop_map(|(messages, outcome)| {
        MessagesFinished { messages, outcome, reason: "reason".into(), class: None }.into()
    });
    prop_oneof![routed, submitted, responded, received, held, finished]
}

/// A number generator that needs no state of its own beside a seed.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// Changes about one value in eight: another number, text, an end of a list, a field less.
fn damage(value: &mut Value, seed: &mut u64) {
    let is_hit = next(seed).is_multiple_of(8);
    match value {
        Value::Number(_) if is_hit => {
            let numbers = [0, 1, -1, 999, 1_000, i64::from(u32::MAX), i64::MAX, i64::MIN, 4_294_968];
            *value = numbers[next(seed) as usize % numbers.len()].into();
        }
        Value::String(text) if is_hit => *text = "beta".to_owned(),
        Value::Bool(flag) if is_hit => *flag = !*flag,
        Value::Array(items) => {
            if is_hit && !items.is_empty() {
                let copy = items[next(seed) as usize % items.len()].clone();
                items.push(copy);
            }
            items.iter_mut().for_each(|item| damage(item, seed));
        }
        Value::Object(fields) => {
            if is_hit {
                let names: Vec<String> = fields.keys().cloned().collect();
                if !names.is_empty() {
                    fields.remove(&names[next(seed) as usize % names.len()]);
                }
            }
            fields.values_mut().for_each(|field| damage(field, seed));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Everything that is asked of a lot, without a panic, and what always holds.
fn look_at(lot: &Lot) {
    let mut counted = OutcomeCounts::default();
    lot.messages().for_each(|(_, message)| *counted.of(message.outcome) += 1);
    assert_eq!(lot.counts(), counted);
    let world = Registered::everywhere();
    let terms = terms();
    let all: SeqSet = lot.messages().map(|(seq, _)| seq).collect();
    let _ = lot.pending();
    let _ = lot.next_due_ms(terms.expires_at);
    let _ = lot.cancel();
    let _ = lot.expire(&terms, &world.context());
    let _ = lot.route(&mut SplitLedger::default().ahead(), &world.context(), |_, _| policy(&[("alpha", 1)]));
    for attempt in 0..3 {
        let _ = lot.respond(
            &terms,
            &relay("alpha"),
            attempt,
            refused(all.as_slice(), FailureClass::RelayFault),
            &world.context(),
        );
        let notes: Vec<Note> = all
            .iter()
            .map(|seq| receipt(seq, attempt, ReceiptStatus::Undelivered, FailureClass::RelayFault))
            .collect();
        let _ = lot.receive(&terms, &relay("alpha"), &notes, &world.context());
        let _ = lot.take_away(&terms, &relay("alpha"), &all, "reason", &world.context());
    }
}

proptest! {
    #[test]
    fn a_lot_folds_any_events_in_any_order(events in prop::collection::vec(any_lot_event(), 0..40)) {
        let mut lot = Lot::new(&lot_accepted(&terms(), 0, 5));
        for event in &events {
            lot.evolve(event);
            prop_assert_eq!(lot.counts().total(), 5);
        }
        look_at(&lot);
    }

    #[test]
    fn whatever_can_be_decoded_can_be_folded(seed: u64) {
        let mut seed = seed;
        let mut lot = Lot::new(&lot_accepted(&terms(), 0, 5));
        let (mut sending, mut relays, mut ledger) = (Sending::default(), RelayDirectory::default(), SplitLedger::default());
        let mut senders = Senders::default();
        for sample in samples::all() {
            let mut value: Value = serde_json::from_slice(&sample.to_json()).unwrap();
            damage(&mut value, &mut seed);
            let text = serde_json::to_vec(&value).unwrap();
            let Ok(event) = Event::from_json(sample.kind(), sample.schema_version(), &text) else { continue };
            if let Event::LotAccepted(accepted) = &event {
                lot = Lot::new(accepted);
            }
            if let Event::MessagesRouted(routed) = &event {
                ledger.evolve(routed);
            }
            lot.evolve(&event);
            sending.evolve(&event, noon());
            relays.evolve(&event);
            let by = SaidBy { actor: "anybody".into(), at: noon() };
            senders.evolve(&event, Envelope { stream: "identity-025550100", version: seed, by });
            senders.iter().for_each(|(_, _, identity)| { let _ = identity.status(noon()); });
            let _ = sending.is_due(noon());
        }
        look_at(&lot);
        let _ = lot.route(&mut ledger.ahead(), &Registered::everywhere().context(), |_, _| policy(&[("alpha", 1)]));
    }
}

/// However damaged the history, time ends every message.
#[test]
fn a_lot_that_says_nothing_sensible_still_ends() {
    let mut runner = proptest::test_runner::TestRunner::default();
    runner
        .run(&prop::collection::vec(any_lot_event(), 0..40), |events| {
            let terms = terms();
            let mut lot = Lot::new(&lot_accepted(&terms, 0, 5));
            // Deadlines in the next 200,000 years are not waited for.
            let is_sane = |event: &&Event| !matches!(event, Event::MessagesSubmitted(submitted) if submitted.receipt_by > noon());
            events.iter().filter(is_sane).for_each(|event| lot.evolve(event));
            let world = Registered { now: terms.expires_at, ..Registered::everywhere() };
            lot.expire(&terms, &world.context()).iter().for_each(|event| lot.evolve(event));
            prop_assert_eq!(lot.counts().open, 0);
            Ok(())
        })
        .unwrap();
}
