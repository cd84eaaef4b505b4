//! Events that cannot be applied: parked with what hangs on them, and nobody else is held up.

use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{MessagesRouted, SplitRecord};
use kite_domain::policy::RelayWeight;
use kite_domain::receipt::{RawReceipt, ReceiptStatus, ReceiptsParked, parked_stream};
use kite_domain::sending::MessageClass;
use kite_domain::split::{Carry, WeightedRelays};
use kite_domain::text::MessageType;

use super::delivery::{answered, routed, submitted};
use super::{Bench, at, relay, route, run, sending_id, seqs, tenant};
use crate::replay::{self, Report};
use crate::{Cause, MessageStatus, ParkedEvent, ProjectError, Projected};

/// From now on no row of this sending can be written into the table.
fn break_rows(bench: &Bench, model: &str, table: &str, column: &str, id: SendingId) {
    let condition = format!("lower(hex(NEW.{column})) = '{id}'");
    bench.refuse(model, "INSERT", table, &condition, "this row cannot be written");
}

fn lot(sending: SendingId) -> LotId {
    LotId { sending, number: 0 }
}

/// What a model has parked.
fn parked(bench: &Bench, model: &str) -> Vec<ParkedEvent> {
    let all = bench.models.parked(0, 1_000).unwrap();
    all.into_iter().find(|(name, _)| *name == model).unwrap().1
}

fn places(parked: &[ParkedEvent]) -> Vec<(u64, Cause)> {
    parked.iter().map(|event| (event.position, event.cause)).collect()
}

fn verify(bench: &Bench) -> Report {
    run(replay::verify(bench.store.clone(), bench.storage())).unwrap()
}

fn total_messages(bench: &Bench) -> i64 {
    bench.models.delivery.totals().unwrap().counts.messages
}

#[test]
fn a_row_that_cannot_be_written_is_parked_with_its_reason_and_the_others_go_on() {
    let mut bench = Bench::new();
    break_rows(&bench, "delivery", "lots", "sending", sending_id(2));
    for number in 1..=3 {
        bench.accept(number, 5, MessageClass::Notice);
    }
    bench.project();
    let parked = parked(&bench, "delivery");
    assert_eq!(places(&parked), [(3, Cause::Unwritable)]);
    assert_eq!(
        (parked[0].stream.as_str(), parked[0].kind.as_str()),
        (&*lot(sending_id(2)).stream(), "lot-accepted")
    );
    assert_eq!((parked[0].version, parked[0].time), (1, at(0)));
    let reason = &parked[0].reason;
    assert!(
        reason.starts_with("the tables cannot be written: ") && reason.contains("this row cannot be written"),
        "{reason}"
    );
    assert_eq!(total_messages(&bench), 10);
    for number in [1, 3] {
        assert!(bench.models.delivery.sending(&tenant(), sending_id(number)).unwrap().is_some());
    }
    let counts = bench.models.parked_counts().unwrap();
    assert_eq!(counts, [("address_book", 0), ("routing", 0), ("delivery", 1), ("work", 0), ("directory", 0)]);
}

#[test]
fn what_comes_later_in_the_stream_waits_behind_it_in_order_also_after_a_restart() {
    let mut bench = Bench::new();
    let (bad, good) = (bench.accept(1, 1, MessageClass::Notice), bench.accept(2, 1, MessageClass::Notice));
    bench.project();
    // A message that has a route cannot be written any more, of one lot.
    bench.refuse("delivery", "UPDATE", "messages", "NEW.id = 1", "never");
    for id in [bad, good] {
        bench.append(&lot(id).stream(), at(2), vec![routed(vec![route("alpha", 1, seqs([0]))])]);
        bench.append(&lot(id).stream(), at(3), vec![submitted("alpha", 1, seqs([0]), 3)]);
    }
    bench.project();
    bench.restart();
    bench.append(&lot(bad).stream(), at(4), vec![answered("alpha", 1, vec![0], vec![])]);
    bench.append(&lot(good).stream(), at(4), vec![answered("alpha", 1, vec![0], vec![])]);
    bench.project();
    let behind = [(5, Cause::Unwritable), (6, Cause::Behind), (9, Cause::Behind)];
    assert_eq!(places(&parked(&bench, "delivery")), behind);
    let status = |id: SendingId| {
        let message = kite_domain::ids::MessageId { sending: id, seq: 0 };
        bench.models.delivery.message(&tenant(), message).unwrap().unwrap().status
    };
    assert_eq!(status(bad), MessageStatus::Open, "as it was before");
    assert_eq!(status(good), MessageStatus::Accepted);
}

#[test]
fn where_a_piece_of_the_log_ends_changes_nothing_of_what_is_parked() {
    let run_in_pieces = |piece: usize| {
        let mut bench = Bench::new();
        break_rows(&bench, "delivery", "lots", "sending", sending_id(4));
        for number in 1..=9 {
            bench.accept(number, 3, MessageClass::Otp);
            bench.append(
                &lot(sending_id(number)).stream(),
                at(2),
                vec![routed(vec![route("alpha", 1, seqs(0..3))])],
            );
            if (number as usize).is_multiple_of(piece) {
                bench.project();
            }
        }
        bench.project();
        (places(&parked(&bench, "delivery")), total_messages(&bench))
    };
    let together = run_in_pieces(9);
    assert_eq!(together, (vec![(10, Cause::Unwritable), (12, Cause::Behind)], 24));
    for piece in [1, 2, 4] {
        assert_eq!(run_in_pieces(piece), together, "in pieces of {piece}");
    }
}

#[test]
fn once_it_can_be_written_it_is_taken_in_again_and_equals_a_rebuild() {
    let mut bench = Bench::new();
    break_rows(&bench, "delivery", "lots", "sending", sending_id(1));
    for number in 1..=2 {
        let id = bench.accept(number, 4, MessageClass::Notice);
        bench.append(&lot(id).stream(), at(2), vec![routed(vec![route("alpha", 1, seqs(0..4))])]);
    }
    bench.project();
    assert!(!verify(&bench).is_clean(), "where the row can be written it is missing");
    bench.runners().clear();
    let retried = run(replay::retry_parked(bench.store.clone(), bench.storage())).unwrap();
    let [delivery] = &retried[..] else { panic!("only one has something parked: {retried:?}") };
    assert_eq!((delivery.model.name, delivery.parked_before, delivery.model.parked), ("delivery", 2, 0));
    bench.restart();
    bench.project();
    assert!(verify(&bench).is_clean());
    assert_eq!(total_messages(&bench), 8);
    assert!(run(replay::retry_parked(bench.store.clone(), bench.storage())).unwrap().is_empty());
}

#[test]
fn a_rebuilt_model_parks_the_same_events_and_the_comparison_says_how_many() {
    let mut bench = Bench::new();
    let id = bench.accept(1, 2, MessageClass::Notice);
    bench.append_raw(&lot(id).stream(), at(2), vec![("messages-routed", 1, b"{\"routes\":7}".to_vec())]);
    bench.append(&lot(id).stream(), at(3), vec![submitted("alpha", 1, seqs(0..2), 3)]);
    bench.accept(2, 2, MessageClass::Notice);
    bench.project();
    assert_eq!(places(&parked(&bench, "delivery")), [(3, Cause::Unreadable), (4, Cause::Behind)]);
    let report = verify(&bench);
    assert!(report.is_clean(), "{report}");
    let counts: Vec<_> = report.models.iter().map(|model| (model.name, model.parked)).collect();
    assert_eq!(counts, [("address_book", 0), ("routing", 1), ("delivery", 2), ("work", 2), ("directory", 0)]);
    bench.execute("delivery", "DELETE FROM parked WHERE position = 4");
    assert!(!verify(&bench).is_clean());
    let retried = run(replay::retry_parked(bench.store.clone(), bench.storage())).unwrap();
    assert_eq!(retried.len(), 3);
    assert!(retried.iter().all(|model| model.model.parked > 0), "it still cannot be read");
    let shown = replay::parked(bench.storage()).unwrap();
    let events: Vec<_> = shown.iter().map(|model| model.events.len()).collect();
    assert_eq!(events, [0, 1, 2, 2, 0]);
}

#[test]
fn a_disk_without_room_is_no_events_fault_and_parks_nothing() {
    let mut bench = Bench::new();
    bench.accept(1, 1, MessageClass::Notice);
    bench.refuse("delivery", "UPDATE", "checkpoint", "NEW.id = 1", "no room");
    assert!(matches!(bench.step_at(2, at(0)), Err(ProjectError::Apply { .. })));
    bench.refuse_no_more("delivery", "checkpoint");
    bench.execute("delivery", "DROP TABLE search");
    assert!(matches!(bench.step_at(2, at(0)), Err(ProjectError::Apply { .. })), "nor is a missing table");
    assert!(parked(&bench, "delivery").is_empty());
}

#[test]
fn the_alarm_counts_parked_events_also_after_a_restart() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let mut bench = metrics::with_local_recorder(&recorder, Bench::new);
    break_rows(&bench, "delivery", "lots", "sending", sending_id(1));
    bench.accept(1, 1, MessageClass::Notice);
    bench.step(2);
    let shown = || metrics.render().contains("kite_projection_parked_rows{read_model=\"delivery\"} 1\n");
    assert!(shown(), "{}", metrics.render());
    metrics::with_local_recorder(&recorder, || bench.restart());
    assert!(shown() && bench.runners()[2].parked() == 1);
}

#[test]
fn a_price_beyond_all_bounds_in_an_old_log_overflows_nothing() {
    let mut bench = Bench::new();
    for number in 1..=3 {
        let id = bench.accept(number, 2, MessageClass::Notice);
        let mut dear = route("alpha", 1, seqs(0..2));
        dear.price_milliwon = if number == 3 { i64::MIN } else { i64::MAX };
        dear.bills = kite_domain::relay::BillingMoment::Accepted;
        bench.append(&lot(id).stream(), at(2), vec![routed(vec![dear])]);
        bench.append(&lot(id).stream(), at(3), vec![submitted("alpha", 1, seqs(0..2), 3)]);
        bench.append(&lot(id).stream(), at(4), vec![answered("alpha", 1, vec![0, 1], vec![])]);
        bench.project();
    }
    assert!(parked(&bench, "delivery").is_empty());
    assert_eq!(
        bench.models.delivery.totals().unwrap().counts.cost_milliwon,
        4 * kite_domain::relay::PRICE_MILLIWON_MAX
    );
    assert!(verify(&bench).is_clean());
}

/// Routes of a lot of two, with their split.
fn routed_by_split(key: &str) -> Event {
    let weights = vec![RelayWeight { relay: relay("alpha"), weight: 1 }];
    let split = SplitRecord {
        key: key.into(),
        channel: MessageType::Sms,
        version: 1,
        objective: "ratio".into(),
        carry: Carry::new(&WeightedRelays::new(vec![(relay("alpha"), 1)]).unwrap()),
        weights,
        messages: 2,
        left_out: Vec::new(),
    };
    MessagesRouted { routes: vec![route("alpha", 1, seqs(0..2))], splits: vec![split] }.into()
}

#[test]
fn receipts_that_wait_for_their_message_do_not_wait_for_each_other() {
    let mut bench = Bench::new();
    bench.refuse("work", "INSERT", "parked_receipts", "NEW.reference = 'bad'", "never");
    for reference in ["bad", "good"] {
        let receipt = RawReceipt {
            reference: reference.into(),
            relay_reference: None,
            status: ReceiptStatus::Delivered,
            code: "0".into(),
            at: at(0),
        };
        let parked = ReceiptsParked { relay: relay("alpha"), receipts: vec![receipt] };
        bench.append(&parked_stream(&relay("alpha")), at(1), vec![parked.into()]);
    }
    bench.project();
    assert_eq!(places(&parked(&bench, "work")), [(1, Cause::Unwritable)]);
    assert_eq!(bench.models.work.parked_relays().unwrap(), [relay("alpha")]);
}

#[test]
fn a_sending_of_which_something_is_parked_is_named_to_the_write_side_and_not_called_finished() {
    let mut bench = Bench::new();
    break_rows(&bench, "work", "unsealed_lots", "sending", sending_id(1));
    break_rows(&bench, "work", "open_sendings", "id", sending_id(3));
    for number in 1..=3 {
        bench.accept(number, 1, MessageClass::Notice);
    }
    bench.project();
    let work = &bench.models.work;
    assert_eq!(work.parked_sendings(None, 9).unwrap(), [sending_id(1), sending_id(3)]);
    assert_eq!(work.parked_sendings(Some(sending_id(1)), 9).unwrap(), [sending_id(3)]);
    // The model knows no lot of the first, so that nothing of it seems to be open.
    assert_eq!(work.completed_sendings(9).unwrap(), []);
    let place = bench.models.router_place(1, None).unwrap();
    assert_eq!(place.parked, [sending_id(1), sending_id(3)]);
    assert_eq!(place.unrouted, [sending_id(2)]);
}

#[test]
fn the_router_reads_carries_from_before_the_first_parked_route() {
    let mut bench = Bench::new();
    let id = bench.accept(1, 2, MessageClass::Notice);
    bench.refuse("routing", "INSERT", "splits", "NEW.key = 'bad'", "never");
    bench.append(&lot(id).stream(), at(2), vec![routed_by_split("bad")]);
    let other = bench.accept(2, 2, MessageClass::Notice);
    bench.append(&lot(other).stream(), at(3), vec![routed_by_split("good")]);
    bench.project();
    let place = bench.models.router_place(1, None).unwrap();
    assert_eq!((place.position, place.carries_position), (6, 2));
    assert!(matches!(bench.step(1), Projected::Idle { position: 6 }));
}
