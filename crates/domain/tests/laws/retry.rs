//! What a relay refuses for now goes to the same relay again, and concerns no other message.

use chrono::Duration;
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::lot::*;
use kite_domain::policy::FailoverTerms;
use kite_domain::sending::SendingAccepted;

use crate::world::*;

fn long_lived() -> SendingAccepted {
    SendingAccepted { expires_at: noon() + Duration::hours(24), ..terms() }
}

/// Three messages of which the relay takes all but the first.
fn greylisted(terms: SendingAccepted) -> Case {
    let mut case = Case::routed(terms, 3);
    assert_eq!(case.submit("alpha", 1, &[0, 1, 2]), [0, 1, 2]);
    let note = ResponseNote {
        accepted: accepted(&[1, 2]).accepted,
        ..refused_for_now(&[0], FailureClass::Reputation)
    };
    case.respond("alpha", 1, note);
    case
}

/// Hands the first message over when it is due, and lets the relay refuse it for now. Answers how long it had waited.
fn refuse_again(case: &mut Case) -> Duration {
    let due_ms = case.lot.waits_until_ms(0);
    let waited = due_ms - case.world.now.timestamp_millis();
    case.world.now += Duration::milliseconds(waited);
    assert_eq!(case.submit("alpha", 1, &[0]), [0], "the same attempt once more");
    case.respond("alpha", 1, refused_for_now(&[0], FailureClass::Reputation));
    Duration::milliseconds(waited)
}

fn end_of(events: &[Event]) -> Option<(Outcome, String, Option<FailureClass>)> {
    events.iter().find_map(|event| match event {
        Event::MessagesFinished(end) => Some((end.outcome, end.reason.to_string(), end.class)),
        _ => None,
    })
}

#[test]
fn only_the_message_that_was_refused_for_now_waits() {
    let case = greylisted(long_lived());
    assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Routed));
    assert_eq!(case.last(1), ("alpha".to_owned(), AttemptState::Accepted));
    let pending = case.lot.pending();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].messages, set([0]));
    assert_eq!(pending[0].not_before_ms, (noon() + Duration::minutes(1)).timestamp_millis());
}

#[test]
fn it_is_tried_again_longer_and_longer_apart_and_delivered_when_the_relay_takes_it() {
    let mut case = greylisted(long_lived());
    let waits: Vec<i64> = (0..8).map(|_| refuse_again(&mut case).num_minutes()).collect();
    assert_eq!(waits, [1, 5, 10, 30, 60, 120, 240, 240]);
    case.world.now += Duration::hours(4);
    assert_eq!(case.submit("alpha", 1, &[0]), [0]);
    case.respond("alpha", 1, accepted(&[0]));
    assert_eq!(case.attempts(0), [("alpha".to_owned(), AttemptState::Accepted)], "one attempt at one relay");
}

#[test]
fn a_relay_may_ask_for_more_time_than_it_would_be_given() {
    let mut case = Case::routed(long_lived(), 1);
    case.submit("alpha", 1, &[0]);
    let mut note = refused_for_now(&[0], FailureClass::HandsetTemporary);
    note.refused_for_now[0].retry_after = Some(Duration::minutes(15));
    case.respond("alpha", 1, note);
    assert_eq!(case.lot.waits_until_ms(0), (noon() + Duration::minutes(15)).timestamp_millis());
}

#[test]
fn when_no_time_is_left_the_refusal_is_final_and_another_relay_tries_while_it_may_help() {
    let short = SendingAccepted { expires_at: noon() + Duration::minutes(3), ..terms() };
    let mut case = greylisted(short);
    refuse_again(&mut case);
    let states = case.attempts(0);
    assert_eq!(states[0], ("alpha".to_owned(), AttemptState::Refused));
    assert_eq!(states[1], ("beta".to_owned(), AttemptState::Routed), "there are two minutes left for it");
}

#[test]
fn when_nobody_is_left_it_ends_with_the_relays_own_word() {
    let failover = FailoverTerms { relays: false, ..FailoverTerms::default() };
    let short = SendingAccepted { expires_at: noon() + Duration::minutes(3), failover, ..terms() };
    let mut case = greylisted(short);
    case.world.now += Duration::minutes(1);
    case.submit("alpha", 1, &[0]);
    let events = case.respond("alpha", 1, refused_for_now(&[0], FailureClass::Reputation));
    let expected = (Outcome::Undelivered, "4.7.1".to_owned(), Some(FailureClass::Reputation));
    assert_eq!(end_of(&events), Some(expected));
}

#[test]
fn the_policy_can_set_a_shorter_limit_than_the_lifetime() {
    let failover = FailoverTerms { retry_s: Some(600), ..FailoverTerms::default() };
    let mut case = greylisted(SendingAccepted { failover, ..long_lived() });
    refuse_again(&mut case);
    assert_eq!(case.attempts(0).len(), 1, "six minutes after the first refusal is within the limit");
    refuse_again(&mut case);
    assert_eq!(case.attempts(0)[0].1, AttemptState::Refused, "sixteen minutes are not");
}

#[test]
fn one_whose_life_ends_while_it_waits_ends_with_the_relays_newest_word() {
    let mut case = greylisted(long_lived());
    case.world.now += Duration::hours(25);
    let expected = (Outcome::Expired, "4.7.1".to_owned(), Some(FailureClass::Reputation));
    assert_eq!(end_of(&case.submission("alpha", 1, &[0]).events), Some(expected.clone()));
    assert_eq!(end_of(&case.expire()), Some(expected));
}

#[test]
fn a_refusal_for_now_of_a_second_call_says_nothing_of_the_first() {
    let mut case = Case::routed(long_lived(), 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, unknown(&[0], Some(noon())));
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, refused_for_now(&[0], FailureClass::HandsetTemporary));
    assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Unknown));
    assert_eq!(case.lot.round_of(&set([0]), 1), 1, "and is no question either");
    assert_eq!(case.lot.cancel(), []);
}

#[test]
fn a_message_of_a_cancelled_sending_is_not_tried_again() {
    let mut case = Case::routed(long_lived(), 1);
    case.submit("alpha", 1, &[0]);
    let note = ResponseNote { is_cancelled: true, ..refused_for_now(&[0], FailureClass::Reputation) };
    case.respond("alpha", 1, note);
    assert_eq!(case.outcome(0), Some(Outcome::Cancelled));
}

#[test]
fn messages_that_are_refused_for_now_with_the_same_word_are_one_set() {
    let mut case = Case::routed(long_lived(), 4);
    case.submit("alpha", 1, &[0, 1, 2, 3]);
    let mut note = refused_for_now(&[0, 1, 2, 3], FailureClass::Reputation);
    note.refused_for_now[2].refused.code = "4.2.2".into();
    note.refused_for_now[3].refused.class = FailureClass::HandsetTemporary;
    let events = case.respond("alpha", 1, note);
    let [Event::RelayResponded(told)] = &events[..] else { panic!("{events:?}") };
    let sets: Vec<_> =
        told.refused_for_now.iter().map(|one| (one.messages.clone(), one.code.as_str())).collect();
    assert_eq!(sets, [(set([0, 1]), "4.7.1"), (set([2]), "4.2.2"), (set([3]), "4.7.1")]);
}

#[test]
fn it_is_known_which_messages_a_relay_has_put_off() {
    let case = greylisted(long_lived());
    assert_eq!([0, 1, 2].map(|seq| case.lot.was_put_off(seq, 1)), [true, false, false]);
    assert!(!case.lot.was_put_off(0, 2), "another attempt");
}
