//! A log that is a copy: what the original may have handed over since is in doubt (law 4).

use chrono::Duration;
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::lot::*;
use kite_domain::policy::FailoverTerms;
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::{RelayDefined, RelayProfile};

use crate::world::*;

/// The original died now.
fn doubt(case: &mut Case) -> Doubted {
    doubt_of(case, Cancelled::No)
}

fn doubt_of(case: &mut Case, cancelled: Cancelled) -> Doubted {
    let doubted = case.lot.put_in_doubt(&case.terms, cancelled, case.world.now, &case.world.context());
    case.fold(doubted.events.clone());
    doubted
}

/// A lot of which nothing was routed when the copy was taken.
fn unrouted(terms: kite_domain::sending::SendingAccepted, messages: u32) -> Case {
    let mut case = Case::routed(terms, messages);
    case.lot = Lot::new(&lot_accepted(&case.terms, 0, messages));
    case
}

fn delivered(seq: u32, attempt: u16) -> Note {
    receipt(seq, attempt, ReceiptStatus::Delivered, FailureClass::Unclassified)
}

fn undelivered(seq: u32, attempt: u16) -> Note {
    receipt(seq, attempt, ReceiptStatus::Undelivered, FailureClass::HandsetPermanent)
}

/// Relays that can neither be asked nor called again.
fn mute(case: &mut Case, names: &[&str]) {
    for name in names {
        let known = case.world.directory.get(&relay(name)).unwrap().profile.clone();
        let profile = RelayProfile { deduplicates: false, answers_status: false, ..(*known).clone() };
        case.world.directory.evolve(&RelayDefined { profile }.into());
    }
}

fn at_least_once() -> kite_domain::sending::SendingAccepted {
    let terms = terms();
    let failover = FailoverTerms { at_least_once: true, ..terms.failover.clone() };
    kite_domain::sending::SendingAccepted { failover, ..terms }
}

#[test]
fn what_has_a_route_is_unknown_at_its_relay_and_asked_about_at_once() {
    let mut case = Case::routed(terms(), 3);
    case.submit("alpha", 1, &[1]);
    let now = case.world.now;
    let doubted = doubt(&mut case);
    assert_eq!((doubted.messages_in_doubt, doubted.messages_given_up), (3, 0));
    for seq in 0..3 {
        assert_eq!(case.attempts(seq), [("alpha".to_owned(), AttemptState::Unknown)]);
    }
    let pending = case.lot.pending();
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].state, pending[0].not_before_ms), (AttemptState::Unknown, now.timestamp_millis()));
    assert_eq!(case.expire(), [], "it has its time, although no call is in the log");
    assert_eq!(case.lot.cancel(), [], "and is not cancelled as never handed over");
}

#[test]
fn the_same_once_more_changes_nothing() {
    let mut case = Case::routed(terms(), 2);
    doubt(&mut case);
    assert_eq!(doubt(&mut case).events, []);
}

#[test]
fn what_is_final_is_not_in_doubt() {
    let mut case = Case::routed(terms(), 2);
    case.submit("alpha", 1, &[0]);
    case.receive("alpha", &[receipt(0, 1, ReceiptStatus::Delivered, FailureClass::Unclassified)]);
    assert_eq!(doubt(&mut case).messages_in_doubt, 1);
    assert_eq!(case.outcome(0), Some(Outcome::Delivered));
    assert_eq!(case.last(0).1, AttemptState::Delivered);
}

#[test]
fn at_a_relay_that_can_neither_be_asked_nor_called_again_it_waits_for_its_receipt_or_deadline() {
    let mut case = Case::routed(terms(), 2);
    mute(&mut case, &["alpha"]);
    doubt(&mut case);
    assert_eq!(case.lot.pending(), []);
    assert_eq!(case.submit("alpha", 1, &[0, 1]), Vec::<u32>::new());
    case.receive("alpha", &[receipt(0, 1, ReceiptStatus::Delivered, FailureClass::Unclassified)]);
    assert_eq!(case.outcome(0), Some(Outcome::Delivered), "the original had handed it over");
    case.world.now += Duration::seconds(90_000);
    case.expire();
    assert_eq!(case.outcome(1), Some(Outcome::Expired), "nobody knows, and nobody guesses");
}

#[test]
fn what_the_relay_never_had_is_handed_over() {
    let mut case = Case::routed(terms(), 1);
    doubt(&mut case);
    let later = case.world.now;
    let note = ResponseNote { answer_to: AnswerTo::Question, ..deferred(&[0], later) };
    case.respond("alpha", 1, note);
    assert_eq!(case.last(0).1, AttemptState::Routed);
    assert_eq!(case.submit("alpha", 1, &[0]), [0]);
}

#[test]
fn the_next_attempt_may_have_been_the_originals_too_and_begins_in_doubt() {
    let mut case = Case::routed(terms(), 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, accepted(&[0]));
    doubt(&mut case);
    assert_eq!(case.last(0).1, AttemptState::Accepted, "what is known stays known");
    case.receive("alpha", &[receipt(0, 1, ReceiptStatus::Undelivered, FailureClass::RelayFault)]);
    assert_eq!(case.last(0), ("beta".to_owned(), AttemptState::Unknown));
    assert_eq!(case.lot.pending()[0].relay, relay("beta"));
    mute(&mut case, &["gamma"]);
    let told =
        ResponseNote { answer_to: AnswerTo::Question, round: 3, ..refused(&[0], FailureClass::RelayFault) };
    case.respond("beta", 2, told);
    assert_eq!(case.last(0), ("gamma".to_owned(), AttemptState::Unknown));
    assert_eq!(case.lot.pending(), [], "gamma cannot be asked");
}

#[test]
fn a_message_that_came_after_the_copy_fails_over_as_ever() {
    let mut case = Case::routed(terms(), 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, refused(&[0], FailureClass::RelayFault));
    assert_eq!(case.last(0), ("beta".to_owned(), AttemptState::Routed));
}

#[test]
fn what_has_no_route_may_be_with_any_relay_and_ends() {
    let mut case = Case::routed(terms(), 2);
    case.lot = Lot::new(&lot_accepted(&case.terms, 0, 2));
    let doubted = doubt(&mut case);
    assert_eq!((doubted.messages_in_doubt, doubted.messages_given_up), (2, 2));
    assert_eq!(case.outcome(0), Some(Outcome::Expired));
    assert!(!case.lot.has_unrouted());
    let finished = |event: &Event| matches!(event, Event::MessagesFinished(end) if end.reason == "copied");
    assert!(doubted.events.iter().any(finished), "{:?}", doubted.events);
}

#[test]
fn what_may_be_sent_twice_goes_on() {
    let mut case = Case::routed(at_least_once(), 1);
    mute(&mut case, &["alpha"]);
    doubt(&mut case);
    assert_eq!(case.last(0), ("beta".to_owned(), AttemptState::Routed));
    case.lot = Lot::new(&lot_accepted(&case.terms, 0, 1));
    assert_eq!(doubt(&mut case).messages_given_up, 0);
    assert!(case.lot.has_unrouted());
}

#[test]
fn what_was_cancelled_before_the_copy_was_not_handed_over_after_it() {
    let mut case = Case::routed(terms(), 2);
    case.submit("alpha", 1, &[0]);
    case.is_cancelled = true;
    assert_eq!(doubt_of(&mut case, Cancelled::BeforeTheCopy).messages_in_doubt, 1);
    assert_eq!((case.last(0).1, case.last(1).1), (AttemptState::Unknown, AttemptState::Routed));
}

#[test]
fn what_is_cancelled_at_the_copy_may_have_been_handed_over_before() {
    let mut case = Case::routed(at_least_once(), 2);
    mute(&mut case, &["alpha"]);
    case.is_cancelled = true;
    assert_eq!(doubt_of(&mut case, Cancelled::AtTheCopy).messages_in_doubt, 2);
    assert_eq!(case.attempts(0), [("alpha".to_owned(), AttemptState::Unknown)], "and it is not sent twice");
    assert_eq!(case.lot.cancel(), []);
    case.receive("alpha", &[delivered(0, 1)]);
    assert_eq!(case.outcome(0), Some(Outcome::Delivered));

    let mut case = unrouted(at_least_once(), 1);
    assert_eq!(doubt_of(&mut case, Cancelled::AtTheCopy).messages_given_up, 1);
    assert_eq!(case.outcome(0), Some(Outcome::Expired), "nobody knows whether it was sent");
}

#[test]
fn what_is_cancelled_at_a_relay_that_can_be_asked_is_asked_about_and_not_handed_over() {
    let mut case = Case::routed(terms(), 1);
    doubt_of(&mut case, Cancelled::AtTheCopy);
    case.is_cancelled = true;
    assert_eq!(case.lot.pending()[0].state, AttemptState::Unknown);
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    assert_eq!(case.outcome(0), None, "its receipt may come");
}

#[test]
fn what_may_be_sent_twice_and_is_cancelled_after_it_was_put_in_doubt_is_not_called_cancelled() {
    let mut case = unrouted(at_least_once(), 1);
    doubt(&mut case);
    let now = case.world.now;
    for events in [case.lot.cancel(), case.lot.expire_cancelled(now)] {
        let [Event::MessagesFinished(end)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((end.outcome, &*end.reason), (Outcome::Expired, "copied"));
    }
}

/// Wherever the copy has routed it since: to another relay, or to the one that never had it.
#[test]
fn what_is_cancelled_after_the_copy_has_routed_it_is_not_called_cancelled() {
    let mut elsewhere = Case::routed(at_least_once(), 2);
    mute(&mut elsewhere, &["alpha"]);
    doubt(&mut elsewhere);
    assert_eq!(elsewhere.last(0), ("beta".to_owned(), AttemptState::Routed));

    let mut unasked = Case::routed(at_least_once(), 2);
    let routed = unasked.lot.clone();
    unasked.lot = Lot::new(&lot_accepted(&unasked.terms, 0, 2));
    doubt(&mut unasked);
    let attempts = MessagesRouted {
        routes: vec![RouteSet {
            relay: relay("beta"),
            channel: routed.message(0).unwrap().message_type,
            attempt: 1,
            messages: (0..2).collect(),
            fallbacks: Vec::new(),
            price_milliwon: 9_000,
            bills: kite_domain::relay::BillingMoment::Delivered,
            reason: "a test".to_owned(),
        }],
        splits: Vec::new(),
    };
    unasked.fold(vec![attempts.into()]);
    assert_eq!(unasked.attempts(0), [("beta".to_owned(), AttemptState::Routed)]);

    let mut never_had = Case::routed(terms(), 2);
    doubt(&mut never_had);
    let later = never_had.world.now;
    let note = ResponseNote { answer_to: AnswerTo::Question, ..deferred(&[0, 1], later) };
    never_had.respond("alpha", 1, note);
    assert_eq!(never_had.last(0).1, AttemptState::Routed);

    for mut case in [elsewhere, unasked, never_had] {
        let (relay, attempt) = (case.last(0).0, case.attempts(0).len() as u16);
        for events in [case.lot.cancel(), case.lot.expire_cancelled(case.world.now)] {
            let [Event::MessagesFinished(end)] = &events[..] else { panic!("{events:?}") };
            assert_eq!((end.outcome, &*end.reason), (Outcome::Expired, "copied"));
        }
        case.is_cancelled = true;
        assert_eq!(case.submit(&relay, attempt, &[0, 1]), Vec::<u32>::new());
        assert_eq!(case.outcome(1), Some(Outcome::Expired), "nobody knows whether it was sent");
    }
}

#[test]
fn what_was_held_for_the_night_until_after_the_end_of_the_original_is_not_in_doubt() {
    let mut case = Case::routed(ad_terms(kite_domain::sending::WindowAction::Hold), 3);
    case.submit("alpha", 1, &[2]);
    case.night = true;
    case.submit("alpha", 1, &[0, 1]);
    let window_opens = case.world.now + Duration::hours(8);
    case.world.now = window_opens - Duration::minutes(11);
    assert_eq!(doubt(&mut case).messages_in_doubt, 1);
    assert_eq!((case.last(0).1, case.last(2).1), (AttemptState::Routed, AttemptState::Unknown));
    case.world.now = window_opens - Duration::minutes(9);
    assert_eq!(doubt(&mut case).messages_in_doubt, 2, "the original may have lived to see it open");
    assert_eq!((case.last(0).1, case.last(1).1), (AttemptState::Unknown, AttemptState::Unknown));
}

#[test]
fn a_receipt_tells_of_the_route_that_the_original_made_after_the_copy_was_taken() {
    let mut case = unrouted(terms(), 4);
    let early = [delivered(0, 1)];
    assert_eq!(case.receive("beta", &early).1, [0], "before it is in doubt, nobody knows what to make of it");
    doubt(&mut case);
    let (events, strangers) = case.receive("beta", &[delivered(0, 1), delivered(0, 1), undelivered(1, 1)]);
    assert_eq!(strangers, Vec::<usize>::new());
    assert_eq!(case.attempts(0), [("beta".to_owned(), AttemptState::Delivered)]);
    assert_eq!(case.attempts(1), [("beta".to_owned(), AttemptState::Undelivered)]);
    let outcomes = [case.outcome(0), case.outcome(1), case.outcome(2)];
    assert_eq!(outcomes, [Some(Outcome::Delivered), Some(Outcome::Undelivered), Some(Outcome::Expired)]);
    let [Event::MessagesRouted(routed), ..] = &events[..] else { panic!("{events:?}") };
    assert_eq!((routed.splits.len(), routed.routes.len()), (0, 1), "no part of any split here");
    assert_eq!(routed.routes[0].price_milliwon, 9_000);
    assert_eq!(case.lot.counts().total(), 4);
    assert_eq!(case.receive("beta", &[delivered(0, 1), undelivered(1, 1)]).0, [], "the same once more");
}

#[test]
fn what_may_be_sent_twice_is_not_routed_any_more_once_its_receipt_is_there() {
    let mut case = unrouted(at_least_once(), 2);
    doubt(&mut case);
    case.receive("beta", &[delivered(0, 1), undelivered(1, 1)]);
    assert!(!case.lot.has_unrouted());
    assert_eq!((case.outcome(0), case.outcome(1)), (Some(Outcome::Delivered), Some(Outcome::Undelivered)));
}

#[test]
fn a_receipt_tells_of_the_attempt_that_the_original_made_after_the_known_one() {
    let mut case = Case::routed(terms(), 2);
    doubt(&mut case);
    let notes = [delivered(0, 2), undelivered(1, 2)];
    let (events, strangers) = case.receive("beta", &notes);
    assert_eq!(strangers, [1], "alpha may be handed it again: nothing goes on beside that");
    let [Event::MessagesRouted(told), ..] = &events[..] else { panic!("{events:?}") };
    assert_eq!(told.routes[0].fallbacks, relays(&["gamma"]), "who is left to try after beta");
    let attempts =
        [("alpha".to_owned(), AttemptState::Unknown), ("beta".to_owned(), AttemptState::Delivered)];
    assert_eq!(case.attempts(0), attempts);
    assert_eq!(case.outcome(0), Some(Outcome::Delivered));
    assert!(
        case.lot.pending().iter().all(|set| !set.messages.contains(0)),
        "and is not asked about any more"
    );
    assert_eq!(case.attempts(1), [("alpha".to_owned(), AttemptState::Unknown)]);
}

#[test]
fn a_receipt_that_cannot_be_the_originals_is_not_believed() {
    let failover = FailoverTerms { attempts_max: 1, ..FailoverTerms::default() };
    let mut case = Case::routed(kite_domain::sending::SendingAccepted { failover, ..terms() }, 1);
    doubt(&mut case);
    assert_eq!(case.receive("beta", &[delivered(0, 2)]).1, [0], "more attempts than it may have");
    let mut case = Case::routed(terms(), 1);
    assert_eq!(case.receive("beta", &[delivered(0, 2)]).1, [0], "no copy");
    doubt(&mut case);
    assert_eq!(case.receive("alpha", &[delivered(0, 2)]).1, [0], "no relay is tried twice");
    assert_eq!(case.receive("beta", &[delivered(0, 3)]).1, [0], "one between is missing");
    assert_eq!(case.receive("beta", &[delivered(0, 1)]).1, [0], "alpha had that one");
    assert_eq!(case.receive("nobody", &[delivered(0, 2)]).1, [0]);
    let mut case = unrouted(terms(), 1);
    doubt(&mut case);
    assert_eq!(case.receive("mail-a", &[delivered(0, 1)]).1, [0], "it is no message for e-mail");
}

#[test]
fn what_is_refused_for_now_at_a_copy_after_a_cancellation_is_not_called_cancelled() {
    let mut case = Case::routed(terms(), 1);
    doubt(&mut case);
    let note = ResponseNote { answer_to: AnswerTo::Question, ..deferred(&[0], case.world.now) };
    case.respond("alpha", 1, note);
    assert_eq!(case.submit("alpha", 1, &[0]), [0], "the relay says that it never had it");
    let note = ResponseNote { is_cancelled: true, ..refused_for_now(&[0], FailureClass::Reputation) };
    case.respond("alpha", 1, note);
    assert_eq!(case.outcome(0), Some(Outcome::Expired), "but another relay may have it");
}

#[test]
fn what_was_unknown_when_the_copy_was_taken_is_asked_about_at_once() {
    let mut case = Case::routed(terms(), 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, unknown(&[0], Some(case.world.now + Duration::hours(1))));
    assert!(case.lot.pending()[0].not_before_ms > case.world.now.timestamp_millis());
    assert_eq!(doubt(&mut case).messages_in_doubt, 1);
    assert_eq!(case.lot.pending()[0].not_before_ms, case.world.now.timestamp_millis());
}

#[test]
fn next_attempts_at_different_relays_begin_in_doubt_each_at_its_own() {
    let failover = FailoverTerms { email: true, ..terms().failover };
    let mut case = Case::routed(kite_domain::sending::SendingAccepted { failover, ..terms() }, 2);
    case.submit("alpha", 1, &[0, 1]);
    case.respond("alpha", 1, accepted(&[0, 1]));
    doubt(&mut case);
    let at_fault = receipt(1, 1, ReceiptStatus::Undelivered, FailureClass::RelayFault);
    let (events, _) = case.receive("alpha", &[undelivered(0, 1), at_fault]);
    let in_doubt = |event: &Event| match event {
        Event::RelayResponded(told) => {
            told.unknown.as_ref().map(|one| (told.relay.clone(), one.messages.clone()))
        }
        _ => None,
    };
    let in_doubt: Vec<_> = events.iter().filter_map(in_doubt).collect();
    assert_eq!(in_doubt, [(relay("mail-b"), set([0])), (relay("beta"), set([1]))]);
    assert_eq!(case.last(0), ("mail-b".to_owned(), AttemptState::Unknown));
    assert_eq!(case.last(1), ("beta".to_owned(), AttemptState::Unknown));
}
