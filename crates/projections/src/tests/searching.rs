//! Search over more messages than one piece, or one block, of the numbers holds.

use chrono::TimeDelta;
use kite_domain::event::Event;
use kite_domain::ids::{LotId, MessageId, SendingId};
use kite_domain::lot::{MessagesFinished, Outcome};
use kite_domain::sending::MessageClass;
use kite_domain::slug::TenantId;

use super::delivery::{answered, receipts, routed, submitted};
use super::views::all;
use super::{Bench, at, lot_accepted, route, run, sending_accepted, sending_id, seqs, tenant};
use crate::delivery::{KnownMessage, MessageSearch, MessageStatus, SendingFilter, StatisticsQuery};
use crate::replay;

const LOTS: u128 = 36;

fn finished(outcome: Outcome, reason: &str, messages: Vec<u32>) -> Event {
    MessagesFinished { messages: seqs(messages), outcome, reason: reason.into(), class: None }.into()
}

/// Thirty-six full lots, each of a sending of its own: more than a block. Some messages of few of them have ended.
fn many() -> Bench {
    let mut bench = Bench::new();
    for number in 1..=LOTS {
        let id = sending_id(number);
        let stream = LotId { sending: id, number: 0 }.stream();
        let time = at(number as i64 * 1_000);
        bench.append(&stream, time, vec![lot_accepted(id, 0, 1_000, MessageClass::Notice).into()]);
        let mut seal = sending_accepted(id, 1, 1_000, MessageClass::Notice);
        seal.client_reference = Some(format!("order-{}", number % 12));
        if number == 3 {
            seal.from_phone = Some("0299998888".into());
        }
        bench.append(&id.stream(), time, vec![seal.into()]);
    }
    for (number, seq) in [(1, 0), (1, 999), (2, 500), (20, 7), (36, 999)] {
        let stream = LotId { sending: sending_id(number), number: 0 }.stream();
        bench.append(&stream, at(90_000), vec![finished(Outcome::Refused, "opted_out", vec![seq])]);
    }
    let stream = LotId { sending: sending_id(30), number: 0 }.stream();
    bench.append(&stream, at(90_001), vec![routed(vec![route("alpha", 1, seqs([3, 4, 5]))])]);
    bench.append(&stream, at(90_002), vec![submitted("alpha", 1, seqs([3, 4, 5]), 90_002)]);
    bench.append(&stream, at(90_003), vec![answered("alpha", 1, vec![3, 4], vec![5])]);
    bench.append(&stream, at(90_004), vec![receipts("alpha", 1, vec![3], 90_004)]);
    bench.project();
    bench
}

fn places(messages: &[KnownMessage]) -> Vec<(u128, u32)> {
    let number = |sending: SendingId| sending.0.as_u128() - sending_id(0).0.as_u128();
    messages.iter().map(|message| (number(message.id.sending), message.id.seq)).collect()
}

fn found(bench: &Bench, search: &MessageSearch, limit: usize) -> Vec<(u128, u32)> {
    places(&all(|after| bench.models.delivery.search(&tenant(), search, after, limit).unwrap()))
}

#[test]
fn few_among_many_are_found_newest_first_over_pieces_and_blocks() {
    let bench = many();
    let any = MessageSearch::default();
    let refused = MessageSearch { status: Some(MessageStatus::Refused), ..any.clone() };
    let expected = [(36, 999), (20, 7), (2, 500), (1, 999), (1, 0)];
    for limit in [1, 2, 5, 50] {
        assert_eq!(found(&bench, &refused, limit), expected, "{limit} a page");
    }
    let by_reason = MessageSearch { reason: Some("opted_out".to_owned()), ..any.clone() };
    assert_eq!(found(&bench, &by_reason, 3), expected);
    let from = MessageSearch { from: Some(at(2_000)), until: Some(at(36_000)), ..refused.clone() };
    assert_eq!(found(&bench, &from, 50), [(20, 7), (2, 500)]);
    let by_relay = MessageSearch { relay: Some(super::relay("alpha")), ..any.clone() };
    assert_eq!(found(&bench, &by_relay, 50), [(30, 5), (30, 4), (30, 3)], "ended or not");
    let accepted = MessageSearch { status: Some(MessageStatus::Accepted), ..by_relay };
    assert_eq!(found(&bench, &accepted, 50), [(30, 4)]);
    let of_sender = MessageSearch { sender: Some("0299998888".to_owned()), ..any.clone() };
    assert_eq!(found(&bench, &of_sender, 200).len(), 1_000);
    let both = MessageSearch { reason: Some("opted_out".to_owned()), ..of_sender };
    assert_eq!(found(&bench, &both, 50), []);
    let of_order = MessageSearch { client_reference: Some("order-1".to_owned()), ..refused };
    assert_eq!(found(&bench, &of_order, 1), [(1, 999), (1, 0)], "of the sendings 25, 13 and 1");
    assert_eq!(
        found(&bench, &MessageSearch { client_reference: Some("order-99".to_owned()), ..any.clone() }, 9),
        []
    );
    assert_eq!(found(&bench, &any, 200).len(), 36_000);
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_page_that_has_looked_at_enough_says_where_to_go_on() {
    let mut bench = many();
    // Lots 37 to 80: nothing of theirs is what is looked for, but it might be, because nothing of them has ended.
    for number in 37..=80 {
        let id = sending_id(number);
        let stream = LotId { sending: id, number: 0 }.stream();
        bench.append(&stream, at(99_000), vec![lot_accepted(id, 0, 1_000, MessageClass::Notice).into()]);
        bench.append(
            &id.stream(),
            at(99_000),
            vec![sending_accepted(id, 1, 1_000, MessageClass::Notice).into()],
        );
    }
    bench.project();
    let accepted = MessageSearch { status: Some(MessageStatus::Accepted), ..MessageSearch::default() };
    let first = bench.models.delivery.search(&tenant(), &accepted, None, 50).unwrap();
    assert_eq!((first.items.len(), first.next.is_some()), (0, true));
    let second = bench.models.delivery.search(&tenant(), &accepted, first.next.as_ref(), 50).unwrap();
    assert_eq!(places(&second.items), [(30, 4)]);
    assert_eq!(found(&bench, &accepted, 50), [(30, 4)]);
}

#[test]
fn nobody_finds_messages_of_another_tenant() {
    let mut bench = Bench::new();
    let other = TenantId::parse("other").unwrap();
    for (number, owner) in [(1, tenant()), (2, other.clone()), (3, tenant()), (4, other.clone())] {
        let id = sending_id(number);
        let mut lot = lot_accepted(id, 0, 3, MessageClass::Notice);
        lot.tenant = owner.clone();
        let mut seal = sending_accepted(id, 1, 3, MessageClass::Notice);
        seal.tenant = owner;
        bench.append(&LotId { sending: id, number: 0 }.stream(), at(1), vec![lot.into()]);
        bench.append(&id.stream(), at(1), vec![seal.into()]);
    }
    bench.project();
    let searches = [
        MessageSearch::default(),
        MessageSearch { to: Some("01000000001".to_owned()), ..MessageSearch::default() },
        MessageSearch { client_reference: Some("order-7".to_owned()), ..MessageSearch::default() },
        MessageSearch { sender: Some("0212345678".to_owned()), ..MessageSearch::default() },
        MessageSearch { status: Some(MessageStatus::Open), ..MessageSearch::default() },
    ];
    for search in searches {
        let ours: Vec<(u128, u32)> = found(&bench, &search, 1);
        assert!(!ours.is_empty() && ours.iter().all(|(sending, _)| [1, 3].contains(sending)), "{search:?}");
        let theirs = all(|after| bench.models.delivery.search(&other, &search, after, 2).unwrap());
        assert_eq!(theirs.len(), ours.len());
        let is_theirs = |message: &KnownMessage| [2, 4].map(sending_id).contains(&message.id.sending);
        assert!(theirs.iter().all(is_theirs), "{search:?}");
    }
    let id = MessageId { sending: sending_id(2), seq: 0 };
    assert_eq!(bench.models.delivery.message(&tenant(), id).unwrap(), None);
}

#[test]
fn what_others_have_in_between_takes_no_place_on_a_page() {
    let mut bench = Bench::new();
    let other = TenantId::parse("other").unwrap();
    for number in 1..=4 {
        for (number, owner, messages) in [(number * 2, tenant(), 1), (number * 2 + 1, other.clone(), 100)] {
            let id = sending_id(number);
            let mut lot = lot_accepted(id, 0, messages, MessageClass::Notice);
            lot.tenant = owner.clone();
            let mut seal = sending_accepted(id, 1, messages, MessageClass::Notice);
            seal.tenant = owner;
            bench.append(&LotId { sending: id, number: 0 }.stream(), at(1), vec![lot.into()]);
            bench.append(&id.stream(), at(1), vec![seal.into()]);
        }
    }
    bench.project();
    for limit in 1..=5 {
        assert_eq!(
            found(&bench, &MessageSearch::default(), limit),
            [(8, 0), (6, 0), (4, 0), (2, 0)],
            "{limit}"
        );
    }
}

/// Page two, too, belongs to who asks, whatever the filter.
#[test]
fn every_page_of_a_list_of_sendings_is_the_tenants_own() {
    let mut bench = Bench::new();
    let other = TenantId::parse("other").unwrap();
    for number in 1..=8 {
        let id = sending_id(number);
        let owner = if number % 2 == 0 { other.clone() } else { tenant() };
        let mut lot = lot_accepted(id, 0, 1, MessageClass::Notice);
        lot.tenant = owner.clone();
        let mut seal = sending_accepted(id, 1, 1, MessageClass::Notice);
        seal.tenant = owner;
        bench.append(&LotId { sending: id, number: 0 }.stream(), at(1), vec![lot.into()]);
        bench.append(&id.stream(), at(1), vec![seal.into()]);
    }
    bench.project();
    let filters = [
        crate::delivery::SendingFilter::default(),
        crate::delivery::SendingFilter {
            client_reference: Some("order-7".to_owned()),
            ..crate::delivery::SendingFilter::default()
        },
    ];
    for filter in filters {
        let pages = |owner: &TenantId| {
            all(|after| bench.models.delivery.sendings(Some(owner), &filter, after, 1).unwrap())
        };
        let ids = |owner: &TenantId| pages(owner).into_iter().map(|view| view.id).collect::<Vec<_>>();
        assert_eq!(ids(&tenant()), [7, 5, 3, 1].map(sending_id));
        assert_eq!(ids(&other), [8, 6, 4, 2].map(sending_id));
    }
}

/// Law 11 in time: lots of a large sending come some moments before its seal, and an hour or a day may end in between.
#[test]
fn the_messages_of_a_sending_were_accepted_when_it_was() {
    let hour = TimeDelta::hours(1).num_milliseconds();
    for is_projected_between in [false, true] {
        let mut bench = Bench::new();
        let id = sending_id(1);
        let lot = LotId { sending: id, number: 0 };
        bench.append(&lot.stream(), at(hour - 1), vec![lot_accepted(id, 0, 3, MessageClass::Notice).into()]);
        if is_projected_between {
            bench.project();
            bench.restart();
        }
        bench.append(&id.stream(), at(hour), vec![sending_accepted(id, 1, 3, MessageClass::Notice).into()]);
        bench.append(&lot.stream(), at(hour + 5), vec![routed(vec![route("alpha", 1, seqs([0]))])]);
        bench.project();
        bench.restart();
        let delivery = &bench.models.delivery;
        let seen = |from, until| {
            let window = MessageSearch { from: Some(from), until: Some(until), ..MessageSearch::default() };
            let of_window =
                SendingFilter { from: Some(from), until: Some(until), ..SendingFilter::default() };
            let by_hour =
                StatisticsQuery { from: Some(from), until: Some(until), ..StatisticsQuery::default() };
            (
                found(&bench, &window, 9).len(),
                delivery.sendings(Some(&tenant()), &of_window, None, 9).unwrap().items.len(),
                delivery.statistics(&by_hour).unwrap().iter().map(|row| row.counts.messages).sum::<i64>(),
            )
        };
        assert_eq!(seen(at(0), at(hour)), (0, 0, 0));
        assert_eq!(seen(at(hour), at(2 * hour)), (3, 1, 3));
        let message = delivery.message(&tenant(), MessageId { sending: id, seq: 0 }).unwrap().unwrap();
        assert_eq!(message.accepted_at, at(hour));
        assert_eq!(message.attempts[0].routed_at, at(hour + 5));
        let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
        assert!(report.is_clean(), "{report}");
    }
}

#[test]
fn an_address_is_found_in_every_spelling() {
    let mut bench = Bench::new();
    let id = sending_id(1);
    let mut lot = lot_accepted(id, 0, 2, MessageClass::Notice);
    lot.personal.recipients[0].to = "Case@Example.com".into();
    lot.personal.recipients[0].email = None;
    lot.personal.recipients[1].email = Some("가나@한국.example".into());
    let mut seal = sending_accepted(id, 1, 2, MessageClass::Notice);
    seal.from_email = Some("Shop@Example.com".into());
    bench.append(&LotId { sending: id, number: 0 }.stream(), at(1), vec![lot.into()]);
    bench.append(&id.stream(), at(1), vec![seal.into()]);
    bench.project();
    let any = MessageSearch::default();
    let to = |address: &str| found(&bench, &MessageSearch { to: Some(address.to_owned()), ..any.clone() }, 9);
    for spelling in ["Case@Example.com", "case@example.com", "CASE@EXAMPLE.COM"] {
        assert_eq!(to(spelling), [(1, 0)], "{spelling}");
    }
    assert_eq!(to("가나@xn--3e0b707e.example"), [(1, 1)]);
    assert_eq!(to("other@example.com"), []);
    for spelling in ["Shop@Example.com", "shop@example.com"] {
        let from = MessageSearch { sender: Some(spelling.to_owned()), ..any.clone() };
        assert_eq!(found(&bench, &from, 9).len(), 2, "{spelling}");
    }
}
