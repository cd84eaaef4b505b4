//! State is derived by rank, not by arrival (law 5).

use chrono::Duration;
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::lot::*;
use kite_domain::receipt::ReceiptStatus::{Delivered, Undelivered};
use proptest::prelude::*;

use crate::world::*;

const NO_CLASS: FailureClass = FailureClass::Unclassified;

#[test]
fn a_late_answer_never_undoes_a_receipt() {
    let mut case = Case::routed(terms(), 2);
    case.submit("alpha", 1, &[0, 1]);
    case.receive("alpha", &[receipt(0, 1, Delivered, NO_CLASS), receipt(1, 1, Delivered, NO_CLASS)]);
    case.respond("alpha", 1, accepted(&[0]));
    case.respond("alpha", 1, refused(&[1], FailureClass::RelayFault));
    case.respond("alpha", 1, unknown(&[0, 1], None));
    case.respond("alpha", 1, deferred(&[0, 1], noon()));
    for seq in [0, 1] {
        assert_eq!(case.attempts(seq), [("alpha".to_owned(), AttemptState::Delivered)]);
        assert_eq!(case.outcome(seq), Some(Outcome::Delivered));
    }
}

#[test]
fn a_late_receipt_after_a_failover_is_delivered_twice() {
    let mut case = Case::routed(terms(), 1);
    case.submit("alpha", 1, &[0]);
    case.receive("alpha", &[receipt(0, 1, Undelivered, FailureClass::RelayFault)]);
    case.submit("beta", 2, &[0]);
    case.receive("beta", &[receipt(0, 2, Delivered, NO_CLASS)]);
    assert!(!case.lot.message(0).unwrap().is_delivered_twice());
    case.receive("alpha", &[receipt(0, 1, Delivered, NO_CLASS)]);
    assert!(case.lot.message(0).unwrap().is_delivered_twice());
    assert_eq!(case.outcome(0), Some(Outcome::Delivered));
    assert_eq!(case.lot.counts().delivered, 1, "it is one message all the same");
}

#[test]
fn a_late_failure_of_an_older_attempt_leads_to_nothing() {
    let mut terms = terms();
    terms.failover.at_least_once = true;
    let mut case = Case::routed(terms, 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, unknown(&[0], None));
    case.submit("beta", 2, &[0]);
    case.receive("alpha", &[receipt(0, 1, Undelivered, FailureClass::RelayFault)]);
    case.respond("alpha", 1, refused(&[0], FailureClass::RelayFault));
    assert_eq!(case.attempts(0).len(), 2, "the second is in flight");
    assert_eq!(case.outcome(0), None);
}

#[test]
fn a_late_receipt_before_the_next_hand_over_saves_it() {
    let mut case = Case::routed(terms(), 1);
    case.submit("alpha", 1, &[0]);
    case.receive("alpha", &[receipt(0, 1, Undelivered, FailureClass::RelayFault)]);
    assert_eq!(case.last(0), ("beta".to_owned(), AttemptState::Routed));
    case.receive("alpha", &[receipt(0, 1, Delivered, NO_CLASS)]);
    assert_eq!(case.submit("beta", 2, &[0]), Vec::<u32>::new());
}

#[test]
fn a_receipt_after_the_deadline_still_counts() {
    for (status, outcome) in [(Delivered, Outcome::Delivered), (Undelivered, Outcome::Undelivered)] {
        let mut case = Case::routed(terms(), 1);
        case.submit("alpha", 1, &[0]);
        case.respond("alpha", 1, accepted(&[0]));
        case.world.now += Duration::hours(26);
        case.expire();
        assert_eq!(case.outcome(0), Some(Outcome::Expired));
        case.receive("alpha", &[receipt(0, 1, status, FailureClass::RelayFault)]);
        assert_eq!(case.outcome(0), Some(outcome));
        assert_eq!(case.lot.counts().total(), 1);
    }
}

#[test]
fn receipts_that_fit_nothing_are_given_back() {
    let mut case = Case::routed(terms(), 2);
    case.submit("alpha", 1, &[0]);
    let (events, strangers) = case.receive(
        "alpha",
        &[
            receipt(0, 1, Delivered, NO_CLASS),
            receipt(1, 1, Delivered, NO_CLASS),
            receipt(0, 2, Delivered, NO_CLASS),
            receipt(0, 0, Delivered, NO_CLASS),
            receipt(99, 1, Delivered, NO_CLASS),
            receipt(u32::MAX, u16::MAX, Delivered, NO_CLASS),
        ],
    );
    assert_eq!(strangers, [1, 2, 3, 4, 5]);
    assert_eq!(events.len(), 1);
    let (events, strangers) = case.receive("beta", &[receipt(0, 1, Undelivered, NO_CLASS)]);
    assert_eq!((events, strangers), (Vec::new(), vec![0]), "of another relay than the attempt's");
}

#[test]
fn a_receipt_that_says_nothing_new_gives_no_event() {
    let mut case = Case::routed(terms(), 1);
    case.submit("alpha", 1, &[0]);
    let one = receipt(0, 1, Delivered, NO_CLASS);
    let (events, _) = case.receive("alpha", &[one.clone(), one.clone()]);
    assert_eq!(events.len(), 1);
    assert_eq!(case.receive("alpha", &[one]), (Vec::new(), Vec::new()));
    assert_eq!(case.receive("alpha", &[receipt(0, 1, Undelivered, NO_CLASS)]), (Vec::new(), Vec::new()));
}

#[test]
fn of_two_receipts_in_one_delivery_the_better_counts() {
    for order in [[Delivered, Undelivered], [Undelivered, Delivered]] {
        let mut case = Case::routed(terms(), 1);
        case.submit("alpha", 1, &[0]);
        case.receive("alpha", &order.map(|status| receipt(0, 1, status, FailureClass::RelayFault)));
        assert_eq!(case.outcome(0), Some(Outcome::Delivered));
        assert_eq!(case.attempts(0).len(), 1, "no failover");
    }
}

#[test]
fn receipts_with_the_same_words_and_meaning_are_one_set() {
    use FailureClass::{Content, HandsetPermanent};
    let mut case = Case::routed(terms(), 6);
    case.submit("alpha", 1, &[0, 1, 2, 3, 4, 5]);
    let billable = Note { billable_failure: true, ..receipt(4, 1, Undelivered, Content) };
    let another = Note { code: "another".into(), ..receipt(5, 1, Undelivered, Content) };
    let notes = [
        receipt(0, 1, Undelivered, HandsetPermanent),
        receipt(1, 1, Undelivered, Content),
        receipt(2, 1, Undelivered, Content),
        receipt(3, 1, Delivered, Content),
        billable,
        another,
    ];
    let (events, _) = case.receive("alpha", &notes);
    let Event::ReceiptsRecorded(recorded) = &events[0] else { panic!("{events:?}") };
    let told: Vec<_> =
        recorded.sets.iter().map(|one| (one.status, one.class, one.messages.clone())).collect();
    assert_eq!(
        told,
        [
            (Undelivered, Some(HandsetPermanent), set([0])),
            (Undelivered, Some(Content), set([1, 2])),
            (Delivered, None, set([3])),
            (Undelivered, Some(Content), set([4])),
            (Undelivered, Some(Content), set([5])),
        ]
    );
}

/// What a relay says of one message, in whatever order it arrives.
#[derive(Debug, Clone)]
enum Saying {
    Accepted,
    AcceptedFinally,
    Refused,
    Unknown,
    Receipt(kite_domain::receipt::ReceiptStatus),
}

fn any_saying() -> impl Strategy<Value = Saying> {
    prop_oneof![
        Just(Saying::Accepted),
        Just(Saying::AcceptedFinally),
        Just(Saying::Refused),
        Just(Saying::Unknown),
        Just(Saying::Receipt(Delivered)),
        Just(Saying::Receipt(Undelivered)),
    ]
}

fn hear(case: &mut Case, saying: &Saying) {
    // A class that nothing follows, so that the same attempt is spoken of throughout.
    let class = FailureClass::Content;
    match saying {
        Saying::Accepted => drop(case.respond("alpha", 1, accepted(&[0]))),
        Saying::AcceptedFinally => {
            let note = ResponseNote { accepted_is_final: true, ..accepted(&[0]) };
            case.respond("alpha", 1, note);
        }
        Saying::Refused => drop(case.respond("alpha", 1, refused(&[0], class))),
        Saying::Unknown => drop(case.respond("alpha", 1, unknown(&[0], None))),
        Saying::Receipt(status) => drop(case.receive("alpha", &[receipt(0, 1, *status, class)])),
    }
}

proptest! {
    #[test]
    fn the_order_of_arrival_changes_nothing(
        (sayings, shuffled) in prop::collection::vec(any_saying(), 1..7)
            .prop_flat_map(|sayings| (Just(sayings.clone()), Just(sayings).prop_shuffle())),
    ) {
        let told = |sayings: &[Saying]| {
            let mut case = Case::routed(terms(), 1);
            case.submit("alpha", 1, &[0]);
            sayings.iter().for_each(|saying| hear(&mut case, saying));
            (case.attempts(0), case.outcome(0), case.lot.counts())
        };
        prop_assert_eq!(told(&sayings), told(&shuffled));
    }

    #[test]
    fn receipts_of_many_messages_and_attempts_come_in_any_order_and_any_portions(
        (notes, shuffled) in prop::collection::vec((0..6u32, any::<bool>()), 1..24).prop_flat_map(|notes| {
            (Just(notes.clone()), Just(notes).prop_shuffle())
        }),
        portion in 1..8usize,
    ) {
        // Messages 3 to 5 have failed over to beta; receipts come for the last attempt of each.
        let given = |notes: &[(u32, bool)], portion: usize| {
            let mut case = Case::routed(terms(), 6);
            case.submit("alpha", 1, &[0, 1, 2, 3, 4, 5]);
            case.respond("alpha", 1, refused(&[3, 4, 5], FailureClass::RelayFault));
            case.submit("beta", 2, &[3, 4, 5]);
            for some in notes.chunks(portion) {
                for (name, attempt, range) in [("alpha", 1, 0..3), ("beta", 2, 3..6)] {
                    let some: Vec<Note> = some
                        .iter()
                        .filter(|(seq, _)| range.contains(seq))
                        .map(|(seq, is_delivered)| {
                            let status = if *is_delivered { Delivered } else { Undelivered };
                            receipt(*seq, attempt, status, FailureClass::Content)
                        })
                        .collect();
                    let (_, strangers) = case.receive(name, &some);
                    assert_eq!(strangers, Vec::<usize>::new());
                }
            }
            (0..6).map(|seq| (case.attempts(seq), case.outcome(seq))).collect::<Vec<_>>()
        };
        prop_assert_eq!(given(&notes, notes.len()), given(&shuffled, portion));
    }
}
