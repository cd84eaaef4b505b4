//! Law 8 over random histories, most of which no decision would ever lead to: whatever the order of events, the places
//! where pages end and the moments of a crash, the tables are those of a rebuild, and the states are those of the
//! domain's own fold.

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::{LotId, MessageId};
use kite_domain::lot::{
    AcceptedSet, DeferredSet, Lot, MessagesFinished, MessagesHeld, MessagesRouted, MessagesSubmitted,
    Outcome, ReceiptSet, ReceiptsRecorded, RefusedForNowSet, RefusedSet, RelayResponded, UnknownSet,
};
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::BillingMoment;
use kite_domain::sending::{
    MessageClass, SendingAbandoned, SendingCancelled, SendingCompleted, SendingReleased,
};
use kite_domain::seq_set::SeqSet;
use kite_domain::text::MessageType;
use proptest::prelude::*;
use std::collections::BTreeMap;

use super::counting::counted;
use super::{Bench, at, lot_accepted, relay, route, run, sending_accepted, sending_id, tenant};
use crate::delivery::{Counter, MessageStatus};
use crate::{Projected, ReadModels, replay};

pub(super) const SENDINGS: u128 = 3;
const LOTS: u32 = 2;
const MESSAGES: u32 = 4;

#[derive(Debug, Clone)]
pub(super) enum Act {
    /// An event of a lot.
    Lot(u128, u32, LotEvent),
    /// An event of a sending.
    Sending(u128, u8),
    /// A projector takes a step.
    Step(usize),
    Restart,
}

#[derive(Debug, Clone)]
pub(super) enum LotEvent {
    Accepted,
    Routed {
        attempt: u16,
        relay: u8,
        messages: Vec<u32>,
        bills_accepted: bool,
    },
    Submitted {
        attempt: u16,
        messages: Vec<u32>,
    },
    Answered {
        attempt: u16,
        accepted: Vec<u32>,
        refused: Vec<u32>,
        unknown: Vec<u32>,
        deferred: Vec<u32>,
        for_now: Vec<u32>,
        is_final: bool,
    },
    Receipts {
        attempt: u16,
        delivered: Vec<u32>,
        undelivered: Vec<u32>,
        billable: bool,
    },
    Held(Vec<u32>),
    Finished(usize, Vec<u32>),
}

fn some_messages() -> impl Strategy<Value = Vec<u32>> {
    // One more than there are, so that strangers come too.
    proptest::sample::subsequence((0..=MESSAGES).collect::<Vec<_>>(), 0..=MESSAGES as usize)
}

fn lot_event() -> impl Strategy<Value = LotEvent> {
    let attempt = 1u16..4;
    prop_oneof![
        2 => Just(LotEvent::Accepted),
        4 => (attempt.clone(), 0u8..3, some_messages(), any::<bool>()).prop_map(
            |(attempt, relay, messages, bills_accepted)| LotEvent::Routed { attempt, relay, messages, bills_accepted }),
        3 => (attempt.clone(), some_messages())
            .prop_map(|(attempt, messages)| LotEvent::Submitted { attempt, messages }),
        4 => (attempt.clone(), proptest::array::uniform5(some_messages()), any::<bool>()).prop_map(
            |(attempt, [accepted, refused, unknown, deferred, for_now], is_final)| LotEvent::Answered {
                attempt, accepted, refused, unknown, deferred, for_now, is_final }),
        3 => (attempt, some_messages(), some_messages(), any::<bool>()).prop_map(
            |(attempt, delivered, undelivered, billable)| LotEvent::Receipts {
                attempt, delivered, undelivered, billable }),
        1 => some_messages().prop_map(LotEvent::Held),
        1 => (0usize..5, some_messages()).prop_map(|(outcome, messages)| LotEvent::Finished(outcome, messages)),
    ]
}

/// An event of a lot or of a sending.
fn told() -> impl Strategy<Value = Act> {
    act().prop_filter("something is told", |act| matches!(act, Act::Lot(..) | Act::Sending(..)))
}

/// How projectors are driven between two events: which of them takes a step, or all are started again, at what time.
fn drive() -> impl Strategy<Value = Vec<(Act, DateTime<Utc>)>> {
    let step =
        prop_oneof![8 => (0..ReadModels::names().count()).prop_map(Act::Step), 1 => Just(Act::Restart)];
    proptest::collection::vec((step, any_time()), 0..3)
}

fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    prop_oneof![
        Just(DateTime::<Utc>::MIN_UTC),
        Just(DateTime::UNIX_EPOCH),
        Just(DateTime::<Utc>::MAX_UTC),
        (-100_000_000_000i64..100_000_000_000).prop_map(at),
    ]
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0..SENDINGS, 0..LOTS, lot_event()).prop_map(|(sending, lot, event)| Act::Lot(sending, lot, event)),
        2 => (0..SENDINGS, 0u8..9).prop_map(|(sending, kind)| Act::Sending(sending, kind)),
        4 => (0..ReadModels::names().count()).prop_map(Act::Step),
        1 => Just(Act::Restart),
    ]
}

fn set(lot: u32, places: &[u32]) -> SeqSet {
    places.iter().map(|place| lot * 1_000 + place).collect()
}

fn event_of(sending: u128, lot: u32, event: &LotEvent, time: i64) -> Event {
    let names = ["alpha", "beta", "gamma"];
    match event {
        LotEvent::Accepted => lot_accepted(sending_id(sending), lot, MESSAGES, class_of(sending)).into(),
        LotEvent::Routed { attempt, relay, messages, bills_accepted } => {
            let mut set = route(names[usize::from(*relay)], *attempt, set(lot, messages));
            if *bills_accepted {
                set.bills = BillingMoment::Accepted;
            }
            if *relay == 2 {
                set.channel = MessageType::Email;
            }
            MessagesRouted { routes: vec![set], splits: vec![] }.into()
        }
        LotEvent::Submitted { attempt, messages } => MessagesSubmitted {
            relay: relay("alpha"),
            attempt: *attempt,
            messages: set(lot, messages),
            receipt_by: at(time + 100_000),
            answer_by: None,
            holder: None,
        }
        .into(),
        LotEvent::Answered { attempt, accepted, refused, unknown, deferred, for_now, is_final } => {
            RelayResponded {
                relay: relay("alpha"),
                attempt: *attempt,
                call_ms: Some(time as u32),
                accepted: Some(AcceptedSet {
                    messages: set(lot, accepted),
                    relay_references: accepted.iter().map(|place| format!("ref-{place}").into()).collect(),
                    is_final: *is_final,
                }),
                refused: vec![RefusedSet {
                    messages: set(lot, refused),
                    code: "3056".into(),
                    class: FailureClass::RelayFault,
                    text: Some("no route".to_owned()),
                }],
                unknown: Some(UnknownSet {
                    messages: set(lot, unknown),
                    reason: "no answer".to_owned(),
                    inquire_at: None,
                    round: 0,
                    duplicate_code: None,
                    refusal: None,
                    receipt_by: None,
                }),
                deferred: Some(DeferredSet {
                    messages: set(lot, deferred),
                    reason: "busy".to_owned(),
                    until: at(time + 50),
                }),
                refused_for_now: vec![RefusedForNowSet {
                    messages: set(lot, for_now),
                    code: "4.7.1".into(),
                    class: FailureClass::Reputation,
                    text: Some("greylisted".to_owned()),
                    times: 1,
                    since: at(time),
                    until: at(time + 60),
                }],
            }
            .into()
        }
        LotEvent::Receipts { attempt, delivered, undelivered, billable } => {
            let receipts = |status, class, code: &str, places: &[u32], billable_failure| ReceiptSet {
                attempt: *attempt,
                status,
                code: code.into(),
                class,
                billable_failure,
                messages: set(lot, places),
                at_ms: places
                    .iter()
                    .map(|place| at(time - i64::from(*place) * 40).timestamp_millis())
                    .collect(),
            };
            let class = Some(FailureClass::HandsetTemporary);
            let sets = vec![
                receipts(ReceiptStatus::Delivered, None, "4000", delivered, false),
                receipts(ReceiptStatus::Undelivered, class, "3041", undelivered, *billable),
            ];
            ReceiptsRecorded { relay: relay("alpha"), sets }.into()
        }
        LotEvent::Held(messages) => MessagesHeld {
            messages: set(lot, messages),
            reason: "night window".to_owned(),
            until_ms: messages.iter().map(|_| at(time + 9_000).timestamp_millis()).collect(),
        }
        .into(),
        LotEvent::Finished(outcome, messages) => MessagesFinished {
            messages: set(lot, messages),
            outcome: Outcome::ALL[*outcome],
            reason: "lifetime".into(),
            class: None,
        }
        .into(),
    }
}

fn class_of(sending: u128) -> MessageClass {
    [MessageClass::Otp, MessageClass::Notice, MessageClass::Ad][sending as usize % 3]
}

fn sending_event(sending: u128, kind: u8) -> Event {
    let id = sending_id(sending);
    match kind {
        0 => SendingReleased { sending: id }.into(),
        1 => SendingCancelled { sending: id, reason: None }.into(),
        2 => SendingCompleted { sending: id }.into(),
        3 => SendingAbandoned { sending: id }.into(),
        _ => {
            let mut accepted = sending_accepted(id, LOTS, LOTS * MESSAGES, class_of(sending));
            accepted.client_reference = Some(format!("order-{}", sending % 2));
            accepted.from_email = Some(format!("{}@example.com", sending % 2).into());
            accepted.into()
        }
    }
}

/// Steps all projectors at this time until there is nothing left.
fn project_at(bench: &mut Bench, now: DateTime<Utc>) {
    for runner in bench.runners() {
        while let Projected::Advanced { .. } = run(runner.step(now)).unwrap() {}
    }
}

/// Appends what is told by an act that is not a step.
fn tell(bench: &mut Bench, act: &Act, time: i64) -> Option<(LotId, Event)> {
    match act {
        Act::Lot(sending, lot, event) => {
            let id = LotId { sending: sending_id(*sending), number: *lot };
            let event = event_of(*sending, *lot, event, time);
            bench.append(&id.stream(), at(time), vec![event.clone()]);
            Some((id, event))
        }
        Act::Sending(sending, kind) => {
            let event = sending_event(*sending, *kind);
            bench.append(&sending_id(*sending).stream(), at(time), vec![event]);
            None
        }
        Act::Step(_) | Act::Restart => None,
    }
}

/// Plays the history; the domain's own fold of every lot.
pub(super) fn play(bench: &mut Bench, acts: &[Act]) -> BTreeMap<LotId, Lot> {
    let mut lots: BTreeMap<LotId, Lot> = BTreeMap::new();
    for (time, act) in (0..).map(|tick: i64| tick * 37).zip(acts) {
        match act {
            Act::Step(place) => drop(bench.step(*place)),
            Act::Restart => bench.restart(),
            Act::Lot(..) | Act::Sending(..) => {
                let Some((id, event)) = tell(bench, act, time) else { continue };
                match (&event, lots.get_mut(&id)) {
                    (Event::LotAccepted(accepted), None) => drop(lots.insert(id, Lot::new(accepted))),
                    (event, Some(lot)) => lot.evolve(event),
                    _ => {}
                }
            }
        }
    }
    bench.project();
    lots
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_rebuilt_model_equals_the_live_one(acts in proptest::collection::vec(act(), 1..90)) {
        let mut bench = Bench::new();
        play(&mut bench, &acts);
        let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
        prop_assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn states_are_those_of_the_domain_and_sums_are_those_of_the_messages(
        acts in proptest::collection::vec(act(), 1..90),
    ) {
        let mut bench = Bench::new();
        let seals = (0..SENDINGS).map(|sending| Act::Sending(sending, 4));
        let acts: Vec<Act> = acts.into_iter().chain(seals).collect();
        let lots = play(&mut bench, &acts);
        let delivery = &bench.models.delivery;
        for (id, lot) in &lots {
            for (seq, message) in lot.messages() {
                let view = delivery.message(&tenant(), MessageId { sending: id.sending, seq }).unwrap().unwrap();
                let newest = message.attempts.last().map(|attempt| attempt.state);
                let standing = MessageStatus::of(message.outcome, newest);
                let expected = if view.held_until.is_some() { standing.held() } else { standing };
                prop_assert_eq!(view.status, expected);
                prop_assert!(view.held_until.is_none() || message.outcome.is_none());
                prop_assert_eq!(view.attempts.len(), message.attempts.len());
                for (shown, attempt) in view.attempts.iter().zip(&message.attempts) {
                    prop_assert_eq!((shown.state, &shown.relay), (attempt.state, lot.relay_of(attempt)));
                }
                prop_assert_eq!(view.delivered_twice, message.is_delivered_twice());
                let cost: i64 = view.attempts.iter().map(|attempt| attempt.cost_milliwon).sum();
                prop_assert_eq!(view.cost_milliwon, cost);
            }
        }
        for sending in (0..SENDINGS).map(sending_id) {
            let view = delivery.sending(&tenant(), sending).unwrap().unwrap();
            let mut ends = [0; 6];
            for (_, lot) in lots.range(LotId { sending, number: 0 }..=LotId { sending, number: LOTS }) {
                let counts = lot.counts();
                let of_lot = [
                    counts.open,
                    counts.delivered,
                    counts.undelivered,
                    counts.expired,
                    counts.cancelled,
                    counts.refused,
                ];
                ends.iter_mut().zip(of_lot).for_each(|(end, count)| *end += i64::from(count));
            }
            prop_assert_eq!(Counter::STANDINGS.map(|counter| view.counts.get(counter)), ends);
            let messages = delivery.messages(&tenant(), sending, &Default::default(), None, 100).unwrap().items;
            prop_assert_eq!(view.counts, counted(&messages));
        }
    }
}

proptest! {
    // Every case opens the files of two benches and compares both.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Law 7. The same history at any time of day, cut into other pages: every row of every table is that of the one
    /// rebuild, which takes everything in as few pages as it can at a third time.
    ///
    /// That no relay is called needs no run: nothing here could call one, because this crate does not depend on
    /// kite-relay nor on anything that does. The workspace test of kite-testkit holds the dependencies to that.
    #[test]
    fn neither_the_time_of_a_replay_nor_its_pages_are_in_any_row(
        history in proptest::collection::vec((told(), drive(), drive()), 1..90),
        ends in (any_time(), any_time()),
    ) {
        let (mut first, mut second) = (Bench::new(), Bench::new());
        for (time, (told, to_first, to_second)) in (0..).map(|tick: i64| tick * 37).zip(&history) {
            for (bench, drive) in [(&mut first, to_first), (&mut second, to_second)] {
                tell(bench, told, time);
                for (act, now) in drive {
                    match act {
                        Act::Step(place) => drop(run(bench.runners()[*place].step(*now)).unwrap()),
                        _ => bench.restart(),
                    }
                }
            }
        }
        project_at(&mut first, ends.0);
        project_at(&mut second, ends.1);
        // Both against the log of the first, so that both are compared with the same rows.
        let of_first = run(replay::verify(first.store.clone(), first.storage())).unwrap();
        let of_second = run(replay::verify(first.store.clone(), second.storage())).unwrap();
        prop_assert!(of_first.is_clean() && of_second.is_clean(), "{of_first}\n{of_second}");
        for (left, right) in of_first.models.iter().zip(&of_second.models) {
            let end = history.len() as u64;
            prop_assert_eq!((left.name, left.position, left.rows), (right.name, right.position, right.rows));
            prop_assert_eq!((left.position, left.name), (end, right.name));
        }
    }
}
