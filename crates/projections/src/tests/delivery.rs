//! Sendings, messages, search, statistics.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::{LotId, MessageId, SendingId};
use kite_domain::lot::{
    AcceptedSet, AttemptState, MessagesFinished, MessagesHeld, MessagesRouted, MessagesSubmitted, Outcome,
    ReceiptSet, ReceiptsRecorded, RefusedSet, RelayResponded, SplitRecord, UnknownSet,
};
use kite_domain::policy::RelayWeight;
use kite_domain::receipt::ReceiptStatus;
use kite_domain::sending::{MessageClass, SendingCancelled, SendingCompleted};
use kite_domain::slug::TenantId;
use kite_domain::split::{Carry, WeightedRelays};
use kite_domain::text::MessageType;

use super::{Bench, at, lot_accepted, relay, route, run, sending_accepted, sending_id, seqs, tenant};
use crate::delivery::{
    Dimension, MessageFilter, MessageSearch, MessageStatus, SendingFilter, SendingState, StatisticsQuery,
};
use crate::error::QueryError;
use crate::replay;

fn to(address: &str) -> MessageSearch {
    MessageSearch { to: Some(address.to_owned()), ..MessageSearch::default() }
}

pub(super) fn routed(routes: Vec<kite_domain::lot::RouteSet>) -> Event {
    MessagesRouted { routes, splits: vec![] }.into()
}

pub(super) fn submitted(to: &str, attempt: u16, messages: kite_domain::seq_set::SeqSet, time: i64) -> Event {
    MessagesSubmitted {
        relay: relay(to),
        attempt,
        messages,
        receipt_by: at(time + 3_600_000),
        answer_by: None,
        holder: None,
    }
    .into()
}

pub(super) fn answered(to: &str, attempt: u16, accepted: Vec<u32>, refused: Vec<u32>) -> Event {
    let references = accepted.iter().map(|seq| format!("{to}-{seq}").into()).collect();
    let accepted = (!accepted.is_empty()).then(|| AcceptedSet {
        messages: seqs(accepted),
        relay_references: references,
        is_final: false,
    });
    let refused = (!refused.is_empty()).then(|| RefusedSet {
        messages: seqs(refused),
        code: "3056".into(),
        class: FailureClass::RelayFault,
        text: Some("no route".to_owned()),
    });
    RelayResponded {
        relay: relay(to),
        attempt,
        call_ms: Some(20),
        accepted,
        refused: refused.into_iter().collect(),
        unknown: None,
        deferred: None,
        refused_for_now: Vec::new(),
    }
    .into()
}

pub(super) fn receipts(from: &str, attempt: u16, delivered: Vec<u32>, time: i64) -> Event {
    let set = ReceiptSet {
        attempt,
        status: ReceiptStatus::Delivered,
        code: "4000".into(),
        class: None,
        billable_failure: false,
        at_ms: delivered.iter().map(|_| at(time).timestamp_millis()).collect(),
        messages: seqs(delivered),
    };
    ReceiptsRecorded { relay: relay(from), sets: vec![set] }.into()
}

/// Four messages: 0 and 1 by alpha, 2 and 3 by beta; alpha refuses 1, which continues to beta; all are delivered.
fn life(bench: &mut Bench) -> SendingId {
    let id = bench.accept(1, 4, MessageClass::Notice);
    let stream = LotId { sending: id, number: 0 }.stream();
    let weights = vec![
        RelayWeight { relay: relay("alpha"), weight: 5_000 },
        RelayWeight { relay: relay("beta"), weight: 5_000 },
    ];
    let both = WeightedRelays::new(vec![(relay("alpha"), 5_000), (relay("beta"), 5_000)]).unwrap();
    let split = SplitRecord {
        key: "acme-sms-1|alpha:5000,beta:5000".into(),
        channel: MessageType::Sms,
        version: 1,
        objective: "ratio".into(),
        weights,
        messages: 4,
        carry: Carry::new(&both),
        left_out: vec![],
    };
    let routes = vec![route("alpha", 1, seqs([0, 1])), route("beta", 1, seqs([2, 3]))];
    bench.append(&stream, at(10), vec![MessagesRouted { routes, splits: vec![split] }.into()]);
    bench.append(&stream, at(20), vec![submitted("alpha", 1, seqs([0, 1]), 20)]);
    bench.append(&stream, at(21), vec![submitted("beta", 1, seqs([2, 3]), 21)]);
    let failover = routed(vec![route("beta", 2, seqs([1]))]);
    bench.append(&stream, at(40), vec![answered("alpha", 1, vec![0], vec![1]), failover]);
    bench.append(&stream, at(50), vec![submitted("beta", 2, seqs([1]), 50)]);
    // A receipt before the answer.
    bench.append(&stream, at(60), vec![receipts("beta", 1, vec![2], 55)]);
    bench.append(&stream, at(61), vec![answered("beta", 1, vec![2, 3], vec![])]);
    bench.append(&stream, at(62), vec![answered("beta", 2, vec![1], vec![])]);
    bench.append(&stream, at(1_020), vec![receipts("alpha", 1, vec![0], 1_015)]);
    bench.append(&stream, at(1_021), vec![receipts("beta", 1, vec![3], 1_020)]);
    bench.append(&stream, at(1_022), vec![receipts("beta", 2, vec![1], 1_021)]);
    id
}

#[test]
fn a_message_shows_every_attempt_with_its_times_codes_and_cost() {
    let mut bench = Bench::new();
    let id = life(&mut bench);
    bench.project();
    let message = MessageId { sending: id, seq: 1 };
    let view = bench.models.delivery.message(&tenant(), message).unwrap().unwrap();
    assert_eq!((view.status, view.outcome), (MessageStatus::Delivered, Some(Outcome::Delivered)));
    assert_eq!((view.cost_milliwon, view.relay.clone()), (9_000, Some(relay("beta"))));
    assert_eq!((view.first_submitted_at, view.final_at), (Some(at(20)), Some(at(1_022))));
    let [first, second] = view.attempts.as_slice() else { panic!("{view:?}") };
    assert_eq!((first.state, first.code.as_deref()), (AttemptState::Refused, Some("3056")));
    assert_eq!(
        (first.failure_class, first.detail.as_deref()),
        (Some(FailureClass::RelayFault), Some("no route"))
    );
    assert_eq!(
        (first.submitted_at, first.responded_at, first.call_ms),
        (Some(at(20)), Some(at(40)), Some(20))
    );
    assert_eq!((second.state, second.relay_reference.as_deref()), (AttemptState::Delivered, Some("beta-1")));
    assert_eq!((second.receipt_at, second.receipt_received_at), (Some(at(1_021)), Some(at(1_022))));
    assert_eq!(second.reference.to_string(), format!("{message}-2"));
    // The answer after the receipt still brings its time and reference.
    let early = bench.models.delivery.message(&tenant(), MessageId { sending: id, seq: 2 }).unwrap().unwrap();
    assert_eq!(early.status, MessageStatus::Delivered);
    assert_eq!((early.attempts[0].responded_at, early.attempts[0].receipt_at), (Some(at(61)), Some(at(55))));
    assert_eq!(early.attempts[0].relay_reference.as_deref(), Some("beta-2"));
}

#[test]
fn a_sending_adds_up_and_belongs_to_its_tenant_alone() {
    let mut bench = Bench::new();
    let id = life(&mut bench);
    bench.append(&id.stream(), at(2_000), vec![SendingCompleted { sending: id }.into()]);
    bench.project();
    let delivery = &bench.models.delivery;
    let view = delivery.sending(&tenant(), id).unwrap().unwrap();
    assert_eq!((view.state, view.counts.messages, view.counts.delivered), (SendingState::Completed, 4, 4));
    let counts = view.counts;
    assert_eq!((counts.routed, counts.handed_over, counts.attempts, counts.failovers), (4, 4, 5, 1));
    assert_eq!((counts.cost_milliwon, view.text.as_str()), (36_000, "hello"));
    let other = TenantId::parse("other").unwrap();
    assert_eq!(delivery.sending(&other, id).unwrap(), None);
    assert_eq!(delivery.message(&other, MessageId { sending: id, seq: 0 }).unwrap(), None);
    assert!(delivery.messages(&other, id, &MessageFilter::default(), None, 9).unwrap().items.is_empty());
    assert!(delivery.search(&other, &to("01000000001"), None, 9).unwrap().items.is_empty());
    assert_eq!(delivery.message(&tenant(), MessageId { sending: id, seq: 4 }).unwrap(), None);
    let totals = delivery.totals().unwrap().counts;
    assert_eq!((totals.messages, totals.delivered, totals.open, totals.failovers), (4, 4, 0, 1));
}

#[test]
fn a_second_delivery_is_counted_once_and_shown() {
    let mut bench = Bench::new();
    let id = life(&mut bench);
    let stream = LotId { sending: id, number: 0 }.stream();
    bench.append(&stream, at(5_000), vec![receipts("alpha", 1, vec![1], 4_000)]);
    bench.append(&stream, at(5_001), vec![receipts("alpha", 1, vec![1], 4_000)]);
    bench.project();
    let view = bench.models.delivery.sending(&tenant(), id).unwrap().unwrap();
    assert_eq!((view.counts.delivered_twice, view.counts.delivered), (1, 4));
    let message =
        bench.models.delivery.message(&tenant(), MessageId { sending: id, seq: 1 }).unwrap().unwrap();
    assert!(message.delivered_twice);
    assert_eq!(message.final_at, Some(at(1_022)), "the first end stays");
}

#[test]
fn statistics_by_relay_show_plan_routes_results_times_and_cost() {
    let mut bench = Bench::new();
    life(&mut bench);
    bench.project();
    let by_relay = StatisticsQuery { group_by: vec![Dimension::Relay], ..StatisticsQuery::default() };
    let rows = bench.models.delivery.statistics(&by_relay).unwrap();
    let of = |name: &str| rows.iter().find(|row| row.relay == Some(relay(name))).unwrap();
    let (alpha, beta) = (of("alpha"), of("beta"));
    let (one, two) = (alpha.counts, beta.counts);
    assert_eq!((one.planned_messages(), one.first_routed, one.attempts, one.failovers), (2.0, 2, 2, 1));
    assert_eq!((one.attempts_handed_over, one.attempts_accepted, one.attempts_refused), (2, 1, 1));
    assert_eq!((one.attempts_delivered, one.cost_milliwon), (1, 9_000));
    assert_eq!((one.attempt_success_rate(), one.failover_rate()), (Some(0.5), Some(0.5)));
    assert_eq!(alpha.failures.get(&FailureClass::RelayFault), Some(&1));
    assert_eq!((two.first_routed, two.attempts, two.attempts_delivered), (2, 3, 3));
    assert_eq!(two.cost_milliwon, 27_000);
    let delivery = alpha.hand_over_to_delivery_ms.unwrap();
    assert!(delivery.p50_ms.abs_diff(995) <= 16 && delivery.samples == 1, "{delivery:?}");
    assert_eq!(alpha.acceptance_to_hand_over_ms.unwrap().p50_ms, 19);
    // A message is at the relay of its newest attempt, so the rows add up to the messages there are.
    assert_eq!((one.messages, one.routed, one.delivered, one.success_rate()), (1, 1, 1, Some(1.0)));
    assert_eq!((two.messages, two.routed, two.delivered, two.handed_over), (3, 3, 3, 3));
    assert!(rows.iter().all(|row| row.relay.is_some()), "no message is without a relay");
    let all = bench.models.delivery.statistics(&StatisticsQuery::default()).unwrap();
    let counts = all[0].counts;
    assert_eq!((all.len(), counts.messages, counts.delivered, counts.cost_milliwon), (1, 4, 4, 36_000));
    let elsewhere = StatisticsQuery { tenant: Some(TenantId::parse("other").unwrap()), ..by_relay };
    assert_eq!(bench.models.delivery.statistics(&elsewhere).unwrap(), []);
}

#[test]
fn search_finds_the_newest_first_by_number_and_by_failover_address() {
    let mut bench = Bench::new();
    for number in 1..=5 {
        bench.accept(number, 3, MessageClass::Notice);
    }
    let unsealed = sending_id(9);
    let lot = LotId { sending: unsealed, number: 0 };
    bench.append(&lot.stream(), at(9), vec![lot_accepted(unsealed, 0, 3, MessageClass::Notice).into()]);
    bench.project();
    let delivery = &bench.models.delivery;
    let first = delivery.search(&tenant(), &to("01000000002"), None, 2).unwrap();
    let sendings: Vec<SendingId> = first.items.iter().map(|view| view.id.sending).collect();
    assert_eq!(sendings, [sending_id(5), sending_id(4)]);
    let second = delivery.search(&tenant(), &to("01000000002"), first.next.as_ref(), 9).unwrap();
    let sendings: Vec<SendingId> = second.items.iter().map(|view| view.id.sending).collect();
    assert_eq!((sendings, second.next), (vec![sending_id(3), sending_id(2), sending_id(1)], None));
    let by_email = delivery.search(&tenant(), &to("p2@example.com"), None, 9).unwrap();
    assert_eq!(by_email.items.len(), 5);
    assert!(delivery.search(&tenant(), &to("01099999999"), None, 9).unwrap().items.is_empty());
}

#[test]
fn lists_are_paged_and_filtered() {
    let mut bench = Bench::new();
    for number in 1..=4 {
        bench.accept(number, 1, if number == 2 { MessageClass::Otp } else { MessageClass::Notice });
    }
    let cancelled = SendingCancelled { sending: sending_id(3), reason: None };
    bench.append(&sending_id(3).stream(), at(50), vec![cancelled.into()]);
    bench.project();
    let list = |filter: SendingFilter| {
        let listing = bench.models.delivery.sendings(Some(&tenant()), &filter, None, 10).unwrap();
        listing.items.into_iter().map(|view| view.id).collect::<Vec<_>>()
    };
    let all = SendingFilter::default();
    assert_eq!(list(all.clone()), [4, 3, 2, 1].map(sending_id));
    assert_eq!(list(SendingFilter { class: Some(MessageClass::Otp), ..all.clone() }), [sending_id(2)]);
    assert_eq!(list(SendingFilter { state: Some(SendingState::Cancelled), ..all.clone() }), [sending_id(3)]);
    assert_eq!(list(SendingFilter { client_reference: Some("order-8".into()), ..all.clone() }), []);
    assert_eq!(list(SendingFilter { client_reference: Some("order-7".into()), ..all.clone() }).len(), 4);
    assert_eq!(list(SendingFilter { from: Some(at(2)), ..all.clone() }), []);
    let page = bench.models.delivery.sendings(Some(&tenant()), &all, None, 3).unwrap();
    let rest = bench.models.delivery.sendings(Some(&tenant()), &all, page.next.as_ref(), 3).unwrap();
    assert_eq!((page.items.len(), rest.items[0].id, rest.next), (3, sending_id(1), None));
}

#[test]
fn messages_of_several_lots_are_paged_and_filtered() {
    let mut bench = Bench::new();
    let id = sending_id(1);
    for number in [0, 2] {
        let lot = LotId { sending: id, number };
        bench.append(&lot.stream(), at(0), vec![lot_accepted(id, number, 3, MessageClass::Notice).into()]);
    }
    bench.append(&id.stream(), at(1), vec![sending_accepted(id, 2, 6, MessageClass::Notice).into()]);
    let finished = MessagesFinished {
        messages: seqs([2_001]),
        outcome: Outcome::Refused,
        reason: "opt_out".into(),
        class: None,
    };
    let lot = LotId { sending: id, number: 2 };
    bench.append(&lot.stream(), at(5), vec![finished.into()]);
    bench.project();
    let delivery = &bench.models.delivery;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = delivery.messages(&tenant(), id, &MessageFilter::default(), after.as_ref(), 2).unwrap();
        seen.extend(page.items.iter().map(|view| view.id.seq));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [0, 1, 2, 2_000, 2_001, 2_002]);
    let refused = MessageFilter { status: Some(MessageStatus::Refused), ..MessageFilter::default() };
    let found = delivery.messages(&tenant(), id, &refused, None, 9).unwrap();
    assert_eq!((found.items.len(), found.items[0].id.seq), (1, 2_001));
    assert_eq!(found.items[0].reason.as_deref(), Some("opt_out"));
    let elsewhere = MessageFilter { relay: Some(relay("nobody")), ..MessageFilter::default() };
    assert!(delivery.messages(&tenant(), id, &elsewhere, None, 9).unwrap().items.is_empty());
}

#[test]
fn a_small_cache_gives_the_same_rows() {
    use crate::delivery::DeliveryModel;
    use crate::postgres::Written;
    use crate::read_model::ReadModel;
    let mut bench = Bench::new();
    life(&mut bench);
    for number in 2..=4 {
        bench.accept(number, 5, MessageClass::Ad);
    }
    // Everything is let go of after every event, in the middle of the transaction.
    let mut writer = bench.writer::<DeliveryModel>();
    let mut model = DeliveryModel::with_capacity(0);
    let page = run(kite_event_store::EventStore::read_all(
        &*bench.store,
        0,
        1_000,
        &<DeliveryModel as ReadModel>::filter(),
    ))
    .unwrap();
    let decoded: Vec<_> = page
        .events
        .into_iter()
        .map(|recorded| {
            let event = Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data).unwrap();
            (recorded, event)
        })
        .collect();
    let written = writer.write(0, page.next, |tables| model.apply(tables, &decoded)).unwrap().unwrap();
    assert!(matches!(written, Written::Done));
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    // The other models have read nothing here.
    let delivery = report.models.iter().find(|model| model.name == "delivery").unwrap();
    assert!(!delivery.has_read_nothing && delivery.differences_total == 0, "{report}");
    assert_eq!(bench.models.delivery.totals().unwrap().counts.messages, 19);
}

/// Nobody seals twice; if a log says so all the same, the rows are the same wherever its pages end.
#[test]
fn a_lot_that_comes_after_a_second_seal_has_the_senders_of_the_first() {
    let mut bench = Bench::new();
    let id = bench.accept(1, 2, MessageClass::Notice);
    bench.project();
    let mut again = sending_accepted(id, 2, 4, MessageClass::Notice);
    again.from_phone = Some("0298765432".into());
    bench.append(&id.stream(), at(2), vec![again.into()]);
    let late = LotId { sending: id, number: 1 };
    bench.append(&late.stream(), at(3), vec![lot_accepted(id, 1, 2, MessageClass::Notice).into()]);
    bench.project();
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "{report}");
}

fn lost(by: &str, messages: kite_domain::seq_set::SeqSet, reason: &str) -> Event {
    let unknown = UnknownSet {
        messages,
        reason: reason.to_owned(),
        inquire_at: None,
        round: 0,
        duplicate_code: None,
        refusal: None,
        receipt_by: None,
    };
    RelayResponded {
        relay: relay(by),
        attempt: 1,
        call_ms: None,
        accepted: None,
        refused: Vec::new(),
        unknown: Some(unknown),
        deferred: None,
        refused_for_now: Vec::new(),
    }
    .into()
}

#[test]
fn an_attempt_keeps_that_its_answer_was_lost() {
    let mut bench = Bench::new();
    let id = bench.accept(1, 2, MessageClass::Notice);
    let stream = LotId { sending: id, number: 0 }.stream();
    bench.append(&stream, at(10), vec![routed(vec![route("alpha", 1, seqs([0, 1]))])]);
    bench.append(&stream, at(20), vec![submitted("alpha", 1, seqs([0, 1]), 20)]);
    bench.append(&stream, at(30), vec![lost("alpha", seqs([0, 1]), "connection reset")]);
    bench.append(&stream, at(40), vec![lost("alpha", seqs([0]), "asked again in vain")]);
    bench.append(&stream, at(50), vec![receipts("alpha", 1, vec![0], 45)]);
    bench.project();
    let attempt = |bench: &Bench, seq| {
        let message =
            bench.models.delivery.message(&tenant(), MessageId { sending: id, seq }).unwrap().unwrap();
        message.attempts[0].clone()
    };
    let told = attempt(&bench, 0);
    assert_eq!((told.state, told.detail.as_deref()), (AttemptState::Delivered, None));
    assert_eq!(
        (told.unknown_since, told.unknown_reason.as_deref()),
        (Some(at(30)), Some("connection reset"))
    );
    // A lot that is read back from its rows keeps it too.
    bench.restart();
    bench.append(&stream, at(60), vec![receipts("alpha", 1, vec![1], 55)]);
    bench.project();
    assert_eq!(attempt(&bench, 1).unknown_since, Some(at(30)));
    assert_eq!(attempt(&bench, 0).unknown_reason.as_deref(), Some("connection reset"));
}

#[test]
fn what_waits_for_its_window_is_held_and_is_so_no_longer_when_it_goes_or_ends() {
    let mut bench = Bench::new();
    let id = bench.accept(1, 3, MessageClass::Ad);
    let stream = LotId { sending: id, number: 0 }.stream();
    let held = |messages: [u32; 3]| MessagesHeld {
        messages: seqs(messages),
        reason: "night window".to_owned(),
        until_ms: vec![at(1_000).timestamp_millis(); 3],
    };
    bench.append(&stream, at(10), vec![routed(vec![route("alpha", 1, seqs([0, 1, 2]))])]);
    bench.append(&stream, at(20), vec![held([0, 1, 2]).into()]);
    bench.project();
    let standing = |bench: &Bench| {
        let view =
            |seq| bench.models.delivery.message(&tenant(), MessageId { sending: id, seq }).unwrap().unwrap();
        [0, 1, 2].map(|seq| (view(seq).status, view(seq).held_until))
    };
    assert_eq!(standing(&bench), [(MessageStatus::Held, Some(at(1_000))); 3]);
    let filter = MessageFilter { status: Some(MessageStatus::Held), ..MessageFilter::default() };
    let listed = bench.models.delivery.messages(&tenant(), id, &filter, None, 10).unwrap();
    assert_eq!(listed.items.len(), 3);
    bench.append(&stream, at(1_000), vec![submitted("alpha", 1, seqs([0]), 1_000)]);
    let cancelled = MessagesFinished {
        messages: seqs([1]),
        outcome: Outcome::Cancelled,
        reason: "cancelled".into(),
        class: None,
    };
    bench.append(&stream, at(1_001), vec![cancelled.into()]);
    bench.project();
    let expected = [
        (MessageStatus::Submitted, None),
        (MessageStatus::Cancelled, None),
        (MessageStatus::Held, Some(at(1_000))),
    ];
    assert_eq!(standing(&bench), expected);
}

#[test]
fn a_day_of_the_statistics_is_one_of_seoul() {
    let mut bench = Bench::new();
    let midnight: DateTime<Utc> = "2025-10-09T15:00:00Z".parse().unwrap();
    let times = [TimeDelta::seconds(-1), TimeDelta::zero(), TimeDelta::hours(23)];
    for (number, time) in (1..).zip(times.map(|offset| midnight + offset)) {
        let id = sending_id(number);
        let lot = LotId { sending: id, number: 0 };
        bench.append(&lot.stream(), time, vec![lot_accepted(id, 0, 1, MessageClass::Notice).into()]);
        bench.append(&id.stream(), time, vec![sending_accepted(id, 1, 1, MessageClass::Notice).into()]);
    }
    bench.project();
    let by = |group_by: Vec<Dimension>| {
        let query = StatisticsQuery { group_by, ..StatisticsQuery::default() };
        let rows = bench.models.delivery.statistics(&query).unwrap();
        rows.iter().map(|row| (row.day.unwrap().to_string(), row.counts.messages)).collect::<Vec<_>>()
    };
    let days = [("2025-10-09".to_owned(), 1), ("2025-10-10".to_owned(), 2)];
    assert_eq!(by(vec![Dimension::Day]), days);
    let by_hour = by(vec![Dimension::Hour, Dimension::Day]);
    assert_eq!(by_hour.iter().map(|(day, _)| &day[8..]).collect::<Vec<_>>(), ["09", "10", "10"]);
    let hours = StatisticsQuery { group_by: vec![Dimension::Hour], ..StatisticsQuery::default() };
    let within = |groups_max| bench.models.delivery.statistics_within(&hours, groups_max);
    assert_eq!(within(3).unwrap().len(), 3);
    assert!(matches!(within(2), Err(QueryError::TooManyGroups(2))));
}
