//! At most one attempt in flight (law 4), and what is checked at the last moment (law 9).

use chrono::Duration;
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::lot::*;
use kite_domain::receipt::ReceiptStatus;
use kite_domain::sending::{AdTerms, SendingAccepted, WindowAction};
use kite_domain::text::MessageType;

use crate::world::*;

/// The same, as the answer to a question.
fn told(note: ResponseNote) -> ResponseNote {
    ResponseNote { answer_to: AnswerTo::Question, round: 3, ..note }
}

/// A sending whose messages have no answer from alpha and may be handed over again there.
fn unanswered(terms: SendingAccepted, messages: u32) -> Case {
    let seqs: Vec<u32> = (0..messages).collect();
    let mut case = Case::routed(terms, messages);
    assert_eq!(case.submit("alpha", 1, &seqs), seqs);
    let at = case.world.now + Duration::seconds(10);
    case.respond("alpha", 1, unknown(&seqs, Some(at)));
    case.world.now = at;
    case
}

#[test]
fn a_message_is_handed_over_once() {
    let mut case = Case::routed(terms(), 2);
    assert_eq!(case.submit("alpha", 1, &[0, 1]), [0, 1]);
    assert_eq!(case.submit("alpha", 1, &[0, 1]), Vec::<u32>::new(), "it is in flight");
    case.respond("alpha", 1, accepted(&[0]));
    assert_eq!(case.submit("alpha", 1, &[0, 1]), Vec::<u32>::new());
    assert_eq!(case.submit("beta", 1, &[0, 1]), Vec::<u32>::new(), "another relay's");
    assert_eq!(case.submit("alpha", 2, &[0, 1]), Vec::<u32>::new(), "another attempt");
    assert_eq!(case.submit("alpha", 1, &[7_000]), Vec::<u32>::new(), "another lot's");
}

#[test]
fn an_unanswered_message_goes_out_again_under_the_same_reference() {
    let mut case = unanswered(terms(), 1);
    assert_eq!(case.submit("alpha", 1, &[0]), [0]);
    assert_eq!(case.attempts(0), [("alpha".to_owned(), AttemptState::Submitted)], "still the first attempt");
}

#[test]
fn an_unanswered_message_that_is_not_to_be_asked_about_is_never_handed_over_again() {
    let mut case = Case::routed(terms(), 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, unknown(&[0], None));
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    assert_eq!(case.lot.pending(), [], "it waits for its receipt");
    assert!(case.lot.next_due_ms(case.terms.expires_at).is_some());
}

#[test]
fn a_deferral_of_the_second_call_says_nothing_of_the_first() {
    let mut case = unanswered(terms(), 1);
    case.submit("alpha", 1, &[0]);
    let later = case.world.now + Duration::seconds(30);
    case.respond("alpha", 1, deferred(&[0], later));
    assert_eq!(
        case.last(0),
        ("alpha".to_owned(), AttemptState::Unknown),
        "the first call may have been taken"
    );
    assert_eq!(case.lot.cancel(), [], "so it cannot be cancelled as never handed over");
    let world = case.world.context();
    assert_eq!(case.lot.take_away(&case.terms, &relay("alpha"), &set([0]), "tripped", &world), []);
    let pending = &case.lot.pending()[0];
    assert_eq!(pending.not_before_ms, later.timestamp_millis(), "and is handed over again later");
    assert_eq!(case.lot.round_of(&set([0]), 1), 1, "a pause that the relay asks for is not a question");
}

#[test]
fn a_deferral_of_the_first_call_gives_the_message_back() {
    let mut case = Case::routed(terms(), 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, deferred(&[0], case.world.now + Duration::seconds(1)));
    assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Routed));
    let world = case.world.context();
    assert_ne!(case.lot.take_away(&case.terms, &relay("alpha"), &set([0]), "tripped", &world), []);
}

#[test]
fn an_answer_to_the_question_that_it_was_not_taken_gives_the_message_back() {
    let mut case = unanswered(terms(), 1);
    case.respond("alpha", 1, told(deferred(&[0], case.world.now)));
    assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Routed));
    // A deferral of the next call is again certain.
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, deferred(&[0], case.world.now));
    assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Routed));
}

#[test]
fn a_duplicate_of_a_call_without_an_answer_proves_nothing() {
    let mut case = unanswered(terms(), 1);
    case.submit("alpha", 1, &[0]);
    let ask_at = case.world.now + Duration::seconds(5);
    let note = ResponseNote { round: 1, asking: BOTH, ..refused(&[0], FailureClass::Duplicate) };
    case.respond("alpha", 1, note);
    assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Unknown));
    assert_eq!(case.outcome(0), None);
    assert_eq!(case.lot.pending()[0].not_before_ms, ask_at.timestamp_millis(), "the relay is asked");
    // The answer to the question is the relay's word on the message, not on a call.
    case.respond("alpha", 1, told(refused(&[0], FailureClass::Duplicate)));
    assert_eq!(case.outcome(0), Some(Outcome::Undelivered));
}

#[test]
fn a_refusal_of_a_repeat_is_not_believed_while_the_call_before_it_may_come_in() {
    for answer_to in [AnswerTo::Call, AnswerTo::Question] {
        let mut case = unanswered(terms(), 1);
        case.submit("alpha", 1, &[0]);
        if answer_to == AnswerTo::Question {
            case.respond("alpha", 1, unknown(&[0], Some(case.world.now)));
        }
        let ask_at = case.world.now + Duration::seconds(5);
        let early =
            ResponseNote { answer_to, round: 1, asking: BOTH, ..refused(&[0], FailureClass::RelayFault) };
        case.respond("alpha", 1, early.clone());
        assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Unknown), "it goes nowhere else");
        assert_eq!(case.lot.pending()[0].not_before_ms, ask_at.timestamp_millis());
        assert_eq!(case.lot.round_of(&set([0]), 1), 2);
        case.world.now = ask_at;
        if answer_to == AnswerTo::Call {
            case.submit("alpha", 1, &[0]);
        }
        case.respond("alpha", 1, ResponseNote { round: 3, ..early });
        assert_eq!(case.last(0), ("beta".to_owned(), AttemptState::Routed), "nothing comes in any more");
    }
}

#[test]
fn what_was_refused_as_a_duplicate_is_not_believed_to_have_never_come_in() {
    let mut case = unanswered(terms(), 1);
    case.submit("alpha", 1, &[0]);
    let ask_at = case.world.now + Duration::seconds(5);
    let note = ResponseNote { round: 1, asking: BOTH, ..refused(&[0], FailureClass::Duplicate) };
    case.respond("alpha", 1, note);
    case.world.now = ask_at;
    case.respond("alpha", 1, told(deferred(&[0], ask_at)));
    assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Unknown));
    assert_eq!(case.lot.pending(), [], "two words against each other: the receipt or the deadline");
    let world = case.world.context();
    assert_eq!(case.lot.take_away(&case.terms, &relay("alpha"), &set([0]), "tripped", &world), []);
}

#[test]
fn an_answer_that_is_recorded_twice_changes_nothing_the_second_time() {
    let later = unanswered(terms(), 1).world.now + Duration::seconds(5);
    let duplicate = ResponseNote { round: 1, asking: BOTH, ..refused(&[0], FailureClass::Duplicate) };
    for note in [duplicate, deferred(&[0], later), unknown(&[0], Some(later)), accepted(&[0])] {
        let mut case = unanswered(terms(), 1);
        case.submit("alpha", 1, &[0]);
        case.respond("alpha", 1, note.clone());
        let (before, due) = (case.last(0), case.lot.pending());
        case.respond("alpha", 1, note);
        assert_eq!((case.last(0), case.lot.pending(), case.outcome(0)), (before, due, None));
    }
}

#[test]
fn a_question_answered_late_says_nothing_of_a_call_that_is_under_way() {
    let now = unanswered(terms(), 1).world.now;
    for late in [deferred(&[0], now), refused(&[0], FailureClass::RelayFault), unknown(&[0], Some(now))] {
        let mut case = unanswered(terms(), 1);
        case.submit("alpha", 1, &[0]);
        case.respond("alpha", 1, told(late));
        assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Submitted));
    }
}

#[test]
fn a_duplicate_that_nobody_can_be_asked_about_waits_for_its_receipt_whatever_the_policy() {
    let mut terms = terms();
    terms.failover.at_least_once = true;
    let mut case = unanswered(terms, 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, refused(&[0], FailureClass::Duplicate));
    assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Unknown));
    assert_eq!(case.lot.pending(), [], "it is neither asked about nor handed over again");
    case.receive("alpha", &[receipt(0, 1, ReceiptStatus::Delivered, FailureClass::Unclassified)]);
    assert_eq!(case.outcome(0), Some(Outcome::Delivered));
}

#[test]
fn a_duplicate_of_the_first_call_is_a_refusal() {
    let mut case = Case::routed(terms(), 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, refused(&[0], FailureClass::Duplicate));
    assert_eq!(case.outcome(0), Some(Outcome::Undelivered));
}

#[test]
fn the_lifetime_is_checked_at_hand_over() {
    let mut case = Case::routed(terms(), 1);
    case.world.now = case.terms.expires_at - Duration::milliseconds(1);
    assert_eq!(case.submission("alpha", 1, &[0]).messages, set([0]));
    case.world.now = case.terms.expires_at;
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    assert_eq!(case.outcome(0), Some(Outcome::Expired));
}

#[test]
fn a_cancellation_that_overtakes_the_lots_is_seen_at_hand_over() {
    let mut case = Case::routed(terms(), 1);
    case.is_cancelled = true;
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    assert_eq!(case.outcome(0), Some(Outcome::Cancelled));
}

#[test]
fn what_a_relay_may_have_is_neither_cancelled_nor_handed_over_again_after_a_cancellation() {
    let mut case = unanswered(terms(), 1);
    case.is_cancelled = true;
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    assert_eq!(case.outcome(0), None, "it may be on its way");
    assert_eq!(case.lot.pending(), [], "and nobody asks again and again");
    case.receive("alpha", &[receipt(0, 1, ReceiptStatus::Delivered, FailureClass::Unclassified)]);
    assert_eq!(case.outcome(0), Some(Outcome::Delivered));
}

#[test]
fn nothing_of_a_paused_sending_is_handed_over_and_nothing_is_forgotten() {
    let mut case = Case::routed(terms(), 2);
    case.is_paused = true;
    assert!(case.submission("alpha", 1, &[0, 1]).events.is_empty(), "nothing is noted of what only waits");
    case.is_paused = false;
    assert_eq!(case.submit("alpha", 1, &[0, 1]), [0, 1]);
}

#[test]
fn an_unanswered_message_of_a_paused_sending_is_neither_handed_over_again_nor_left_alone() {
    let mut case = unanswered(terms(), 1);
    case.is_paused = true;
    assert!(case.submission("alpha", 1, &[0]).events.is_empty());
    case.is_paused = false;
    assert_eq!(case.submit("alpha", 1, &[0]), [0]);
}

#[test]
fn a_pause_keeps_nothing_from_its_end() {
    let mut case = Case::routed(terms(), 1);
    case.is_paused = true;
    case.world.now = case.terms.expires_at;
    assert_eq!(case.lot.next_end_ms(case.terms.expires_at), Some(case.terms.expires_at.timestamp_millis()));
    case.submit("alpha", 1, &[0]);
    assert_eq!(case.outcome(0), Some(Outcome::Expired));
}

#[test]
fn cancelling_races_with_the_hand_over_message_by_message() {
    let mut case = Case::routed(terms(), 3);
    case.submit("alpha", 1, &[0]);
    let events = case.lot.cancel();
    case.fold(events);
    assert_eq!(
        [0, 1, 2].map(|seq| case.outcome(seq)),
        [None, Some(Outcome::Cancelled), Some(Outcome::Cancelled)]
    );
    assert_eq!(case.submit("alpha", 1, &[1, 2]), Vec::<u32>::new());
    case.respond("alpha", 1, accepted(&[0]));
    case.world.now += Duration::hours(26);
    let events = case.lot.expire_cancelled(case.world.now);
    case.fold(events);
    assert_eq!(case.outcome(0), Some(Outcome::Expired), "what was handed over ends too");
    assert_eq!(case.lot.counts().open, 0);
}

#[test]
fn an_advertisement_waits_for_the_window_or_is_refused() {
    let mut case = Case::routed(ad_terms(WindowAction::Hold), 1);
    case.night = true;
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    let until = case.world.now + Duration::hours(8);
    assert_eq!(case.lot.pending()[0].not_before_ms, until.timestamp_millis());
    assert_eq!(case.lot.next_due_ms(case.terms.expires_at), Some(until.timestamp_millis()));
    case.night = false;
    case.world.now = until;
    assert_eq!(case.submit("alpha", 1, &[0]), [0]);

    let mut case = Case::routed(ad_terms(WindowAction::Refuse), 1);
    case.night = true;
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    assert_eq!(case.outcome(0), Some(Outcome::Refused));
}

#[test]
fn an_unanswered_advertisement_is_held_too_and_not_forgotten() {
    let mut case = unanswered(ad_terms(WindowAction::Hold), 1);
    case.night = true;
    let submission = case.submission("alpha", 1, &[0]);
    assert!(submission.messages.is_empty());
    assert!(matches!(submission.events[..], [Event::MessagesHeld(_)]), "{:?}", submission.events);
    case.fold(submission.events);
    let until = case.world.now + Duration::hours(8);
    let pending = case.lot.pending();
    assert_eq!(
        (pending[0].state, pending[0].not_before_ms),
        (AttemptState::Unknown, until.timestamp_millis())
    );
    assert_eq!(case.lot.next_due_ms(case.terms.expires_at), Some(until.timestamp_millis()));
}

#[test]
fn an_unanswered_advertisement_to_one_who_refuses_meanwhile_is_left_alone() {
    for night in [false, true] {
        let mut case = unanswered(ad_terms(WindowAction::Refuse), 1);
        case.night = night;
        if !night {
            case.opted_out.push("01000000000".to_owned());
        }
        assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
        assert_eq!(case.outcome(0), None, "the relay may have it");
        assert_eq!(case.lot.pending(), []);
    }
}

#[test]
fn night_consent_and_e_mail_open_the_window() {
    let mut terms = ad_terms(WindowAction::Hold);
    terms.ad = Some(AdTerms { window: WindowAction::Hold, night_consent: true, brands: vec![] });
    let mut case = Case::routed(terms, 1);
    case.night = true;
    assert_eq!(case.submit("alpha", 1, &[0]), [0]);

    let mut terms = ad_terms(WindowAction::Hold);
    terms.failover.email = true;
    let mut case = Case::routed(terms, 1);
    case.submit("alpha", 1, &[0]);
    case.night = true;
    case.respond("alpha", 1, refused(&[0], FailureClass::HandsetPermanent));
    assert_eq!(case.submit("mail-b", 2, &[0]), [0], "e-mail is exempt from the window");
}

#[test]
fn a_failover_into_the_night_is_held() {
    let mut case = Case::routed(ad_terms(WindowAction::Hold), 1);
    case.submit("alpha", 1, &[0]);
    case.night = true;
    case.respond("alpha", 1, refused(&[0], FailureClass::RelayFault));
    assert_eq!(case.submit("beta", 2, &[0]), Vec::<u32>::new());
    assert_eq!(case.outcome(0), None);
    assert_ne!(case.lot.pending()[0].not_before_ms, 0);
}

#[test]
fn a_refusal_binds_all_addresses_and_channels_of_a_person_but_only_for_advertisements() {
    for refused_address in ["01000000000", "p0@example.com"] {
        let mut case = Case::routed(ad_terms(WindowAction::Hold), 1);
        case.opted_out.push(refused_address.to_owned());
        assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
        assert_eq!(case.outcome(0), Some(Outcome::Refused));

        let mut case = Case::routed(terms(), 1);
        case.opted_out.push(refused_address.to_owned());
        case.night = true;
        assert_eq!(case.submit("alpha", 1, &[0]), [0], "information is not bound");
    }
    let mut terms = ad_terms(WindowAction::Hold);
    terms.failover.email = true;
    let mut case = Case::routed(terms, 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, refused(&[0], FailureClass::HandsetPermanent));
    case.opted_out.push("01000000000".to_owned());
    assert_eq!(case.submit("mail-b", 2, &[0]), Vec::<u32>::new(), "nor by e-mail after a refusal by phone");
    assert_eq!(case.outcome(0), Some(Outcome::Refused));
}

#[test]
fn nothing_is_handed_over_with_a_sender_that_may_not_send_any_more() {
    for class in [terms(), ad_terms(WindowAction::Hold)] {
        let mut case = Case::routed(class, 2);
        case.unsendable = Some((MessageType::Sms, "sender_expired"));
        let submission = case.submission("alpha", 1, &[0, 1]);
        let Event::MessagesFinished(finished) = &submission.events[0] else { panic!("{submission:?}") };
        assert_eq!((finished.outcome, finished.reason.as_str()), (Outcome::Refused, "sender_expired"));
        assert!(submission.messages.is_empty());
    }
    let mut case = Case::routed(terms(), 1);
    case.unsendable = Some((MessageType::Email, "sender_withdrawn"));
    assert_eq!(case.submit("alpha", 1, &[0]), [0], "it is not the sender of this channel");
}

#[test]
fn a_relay_that_the_sender_is_not_registered_with_any_more_is_handed_nothing() {
    let mut case = Case::routed(terms(), 1);
    case.world.phone.retain(|known| *known != relay("alpha"));
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    assert_eq!(case.last(0), ("beta".to_owned(), AttemptState::Routed), "another may carry it");
    assert_eq!(case.submit("beta", 2, &[0]), [0]);

    // Moved to a carrier that nobody thought of when it was routed.
    let mut case = Case::routed_with(terms(), 1, &["alpha"]);
    case.world.phone = vec![relay("gamma")];
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    assert_eq!(case.last(0), ("gamma".to_owned(), AttemptState::Routed));

    // To one that takes nothing for now: it is waited for.
    let mut case = Case::routed(terms(), 1);
    case.world.phone = vec![relay("beta")];
    suspend(&mut case.world.directory, "beta");
    let submission = case.submission("alpha", 1, &[0]);
    assert_eq!((submission.events, submission.messages), (vec![], set([])));
    assert_eq!(submission.waiting, set([0]));

    let only_here = |mut terms: SendingAccepted| {
        terms.failover.relays = false;
        terms
    };
    for (terms, phone) in [(terms(), vec![]), (only_here(terms()), vec![relay("beta")])] {
        let mut case = Case::routed(terms, 1);
        case.world.phone = phone;
        assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
        assert_eq!(case.outcome(0), Some(Outcome::Refused));
    }

    let mut case = unanswered(terms(), 1);
    case.world.phone.clear();
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    assert_eq!(case.outcome(0), None, "the relay may have it");
}

#[test]
fn an_e_mail_after_a_failure_asks_for_the_sender_of_its_own_channel() {
    let mut terms = terms();
    terms.failover.email = true;
    let mut case = Case::routed(terms, 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, refused(&[0], FailureClass::HandsetPermanent));
    case.unsendable = Some((MessageType::Email, "sender_withdrawn"));
    assert_eq!(case.submit("mail-b", 2, &[0]), Vec::<u32>::new());
    assert_eq!(case.outcome(0), Some(Outcome::Refused));
}

#[test]
fn an_unanswered_message_is_not_handed_over_again_with_a_sender_that_was_withdrawn() {
    let mut case = unanswered(terms(), 1);
    case.unsendable = Some((MessageType::Sms, "sender_withdrawn"));
    assert_eq!(case.submit("alpha", 1, &[0]), Vec::<u32>::new());
    assert_eq!(case.outcome(0), None, "the relay may have it");
}

#[test]
fn of_an_answer_that_came_after_another_call_counts_only_what_the_relay_took() {
    let first_by = noon() + Duration::seconds(15);
    let late =
        |note: ResponseNote| ResponseNote { answer_by: Some(first_by), round: 3, asking: BOTH, ..note };
    let mut case = unanswered(terms(), 2);
    assert_eq!(case.submit("alpha", 1, &[0, 1]), [0, 1]);
    case.respond("alpha", 1, late(refused(&[0, 1], FailureClass::RelayFault)));
    assert_eq!(
        case.last(0),
        ("alpha".to_owned(), AttemptState::Submitted),
        "the second call has its own answer"
    );
    case.respond("alpha", 1, late(accepted(&[1])));
    assert_eq!(case.last(1), ("alpha".to_owned(), AttemptState::Accepted));
    let own = ResponseNote {
        answer_by: Some(case.world.now + Duration::seconds(15)),
        ..late(refused(&[0], FailureClass::RelayFault))
    };
    case.respond("alpha", 1, own);
    assert_eq!(case.last(0), ("beta".to_owned(), AttemptState::Routed));
}

#[test]
fn where_others_call_too_a_call_has_its_time_before_it_counts_as_unanswered() {
    let mut case = Case::routed(terms(), 2);
    case.submit("alpha", 1, &[0]);
    case.world.now += Duration::seconds(10);
    case.submit("alpha", 1, &[1]);
    let without = |callers, seconds| {
        case.lot.without_answer(set([0, 1]), 1, callers, noon() + Duration::seconds(seconds))
    };
    assert_eq!(
        without(Callers::OnlyUs, 0),
        set([0, 1]),
        "where nobody else calls, whoever called before is gone"
    );
    assert_eq!(without(Callers::OthersToo, 15), set([]));
    assert_eq!(without(Callers::OthersToo, 16), set([0]));
    assert_eq!(without(Callers::OthersToo, 26), set([0, 1]));
}

#[test]
fn a_question_before_its_time_is_of_the_round_before() {
    let asked = Asking { answers_status: true, deduplicates: false };
    let mut case = unanswered(terms(), 1);
    let mut rounds = vec![case.lot.round_before_its_time(&set([0]), 1, asked)];
    for round in 1..4 {
        let again =
            ResponseNote { round, answer_to: AnswerTo::Question, ..unknown(&[0], Some(case.world.now)) };
        case.respond("alpha", 1, again);
        rounds.push(case.lot.round_before_its_time(&set([0]), 1, asked));
    }
    assert_eq!(rounds, [0, 1, 2, 3]);
}

#[test]
fn each_refusal_of_a_repeat_is_kept_until_it_counts() {
    let asking = Asking { answers_status: false, deduplicates: true };
    let repeat = |case: &mut Case, round| {
        case.world.now += Duration::seconds(60);
        assert_eq!(case.submit("alpha", 1, &[0, 1, 2]), [0, 1, 2]);
        let mut note = refused(&[0, 1], FailureClass::RelayFault);
        note.refused[1].code = "another".into();
        let nothing = unknown(&[2], Some(case.world.now)).unknown;
        case.respond("alpha", 1, ResponseNote { round, asking, unknown: nothing, ..note });
        case.lot.not_repeated(set([0, 1, 2]), 1, asking)
    };
    let mut case = unanswered(terms(), 3);
    let early = repeat(&mut case, 1);
    assert_eq!((early.still_unknown, early.refused), (set([0, 1]), Vec::new()));
    let late = repeat(&mut case, 2);
    let codes: Vec<(u32, &str)> = late.refused.iter().map(|one| (one.seq, one.code.as_str())).collect();
    assert_eq!((late.still_unknown, codes), (set([]), vec![(0, "code"), (1, "another")]));
}

#[test]
fn a_lot_weighs_what_it_remembers_of_its_messages() {
    let seqs: Vec<u32> = (0..1_000).collect();
    let mut held = Case::routed(ad_terms(WindowAction::Hold), 1_000);
    let mut waiting = Case::routed(terms(), 1_000);
    let [held_before, waiting_before] = [&held, &waiting].map(|case| case.lot.memory_bytes());
    held.night = true;
    held.submit("alpha", 1, &seqs);
    assert!(held.lot.memory_bytes() >= held_before + 8_000, "until when each is held");
    waiting.submit("alpha", 1, &seqs);
    waiting.respond("alpha", 1, refused_for_now(&seqs, FailureClass::Reputation));
    assert!(waiting.lot.memory_bytes() >= waiting_before + 40_000, "with what each was refused for now");
}

#[test]
fn what_the_relay_is_asked_about_or_has_refused_meanwhile_is_not_left_alone() {
    let mut asked = unanswered(terms(), 1);
    asked.is_asked_again = true;
    let mut refused_early = unanswered(terms(), 1);
    refused_early.submit("alpha", 1, &[0]);
    let early = ResponseNote { round: 1, asking: BOTH, ..refused(&[0], FailureClass::RelayFault) };
    refused_early.respond("alpha", 1, early);
    for mut case in [asked, refused_early] {
        case.is_cancelled = true;
        let submission = case.submission("alpha", 1, &[0]);
        assert_eq!((submission.messages, submission.events), (set([]), Vec::new()));
        assert_eq!(case.lot.pending().len(), 1, "something is still to be done about it");
    }
}

#[test]
fn what_is_left_alone_for_the_same_reason_is_one_set() {
    let mut case = unanswered(ad_terms(WindowAction::Refuse), 4);
    case.night = true;
    case.opted_out.extend(["01000000001".to_owned(), "01000000002".to_owned()]);
    let submission = case.submission("alpha", 1, &[0, 1, 2, 3]);
    let left_alone = |event: &Event| match event {
        Event::RelayResponded(told) => {
            told.unknown.as_ref().map(|set| (set.messages.clone(), set.reason.clone()))
        }
        _ => None,
    };
    let sets: Vec<_> = submission.events.iter().filter_map(left_alone).collect();
    assert_eq!(
        sets,
        [
            (set([0, 3]), "not handed over again: night_window".to_owned()),
            (set([1, 2]), "not handed over again: opt_out".to_owned()),
        ]
    );
}
