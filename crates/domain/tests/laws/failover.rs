//! What follows a failed attempt, class by class, through the whole lot.

use chrono::Duration;
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::lot::*;
use kite_domain::policy::FailoverTerms;
use kite_domain::receipt::ReceiptStatus;
use kite_domain::sending::SendingAccepted;

use crate::world::*;

/// A sending that allows everything but sending twice.
fn generous() -> SendingAccepted {
    let failover = FailoverTerms { email: true, email_after_temporary: true, ..terms().failover };
    SendingAccepted { failover, ..terms() }
}

/// Hands message 0 over to wherever it is routed and fails it with `class`, until it is final; answers the relays.
fn fail_everywhere(mut case: Case, class: FailureClass) -> (Vec<String>, Option<Outcome>) {
    for attempt in 1..20 {
        let (name, state) = case.last(0);
        if state != AttemptState::Routed || case.outcome(0).is_some() {
            break;
        }
        assert_eq!(case.submit(&name, attempt, &[0]), [0]);
        case.respond(&name, attempt, refused(&[0], class));
    }
    (case.attempts(0).into_iter().map(|(name, _)| name).collect(), case.outcome(0))
}

#[test]
fn the_table_of_failure_classes_row_by_row() {
    use FailureClass as Class;
    let all: &[&str] = &["alpha", "beta", "gamma", "mail-b", "mail-a"];
    let phone: &[&str] = &["alpha", "beta", "gamma"];
    // From an e-mail relay the class leads to the next e-mail relay only where it leads to another relay at all.
    let email_once: &[&str] = &["alpha", "mail-b"];
    let none: &[&str] = &["alpha"];
    let table = [
        (Class::RelayFault, all),
        (Class::HandsetTemporary, email_once),
        (Class::HandsetPermanent, email_once),
        (Class::Sender, phone),
        (Class::Reputation, all),
        (Class::Content, none),
        (Class::Template, none),
        (Class::ChannelUnavailable, none),
        (Class::OptOut, none),
        (Class::AdRule, none),
        (Class::Duplicate, none),
        (Class::Balance, phone),
        (Class::Unknown, none),
        (Class::Unclassified, email_once),
    ];
    assert_eq!(table.map(|row| row.0), FailureClass::ALL);
    for (class, expected) in table {
        let (relays, outcome) = fail_everywhere(Case::routed(generous(), 1), class);
        assert_eq!(relays, expected, "{class}");
        assert_eq!(outcome, Some(Outcome::Undelivered), "{class}");
    }
}

#[test]
fn the_terms_narrow_what_the_class_allows() {
    let with = |failover: FailoverTerms, class| {
        let terms = SendingAccepted { failover, ..terms() };
        fail_everywhere(Case::routed(terms, 1), class).0
    };
    let full = generous().failover;
    let no_email = FailoverTerms { email: false, ..full.clone() };
    let no_relays = FailoverTerms { relays: false, ..full.clone() };
    let not_temporary = FailoverTerms { email_after_temporary: false, ..full.clone() };
    assert_eq!(with(no_email, FailureClass::RelayFault), ["alpha", "beta", "gamma"]);
    assert_eq!(with(no_relays, FailureClass::RelayFault), ["alpha", "mail-b"]);
    assert_eq!(with(not_temporary.clone(), FailureClass::HandsetTemporary), ["alpha"]);
    assert_eq!(with(not_temporary.clone(), FailureClass::Unclassified), ["alpha"]);
    assert_eq!(with(not_temporary, FailureClass::HandsetPermanent), ["alpha", "mail-b"]);
    for attempts_max in 0..6 {
        let terms = FailoverTerms { attempts_max, ..full.clone() };
        assert_eq!(with(terms, FailureClass::RelayFault).len(), usize::from(attempts_max).clamp(1, 5));
    }
}

#[test]
fn e_mail_needs_an_address_and_a_sender() {
    let mut case = Case::routed(generous(), 2);
    case.submit("alpha", 1, &[0, 1]);
    case.respond("alpha", 1, refused(&[0, 1], FailureClass::HandsetPermanent));
    assert_eq!(case.last(0).0, "mail-b", "message 0 has an address; mail-b is the cheapest");
    assert_eq!(case.outcome(1), Some(Outcome::Undelivered), "message 1 has none");

    let mut case = Case::routed(generous(), 1);
    case.world.email.clear();
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, refused(&[0], FailureClass::HandsetPermanent));
    assert_eq!(case.outcome(0), Some(Outcome::Undelivered), "the sending address is registered nowhere");
}

#[test]
fn a_relay_that_may_not_carry_it_is_passed_over() {
    let mut case = Case::routed(generous(), 1);
    suspend(&mut case.world.directory, "beta");
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, refused(&[0], FailureClass::RelayFault));
    assert_eq!(case.last(0), ("gamma".to_owned(), AttemptState::Routed));

    let mut case = Case::routed(generous(), 1);
    case.world.phone = relays(&["alpha", "gamma"]);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, refused(&[0], FailureClass::Sender));
    assert_eq!(case.last(0).0, "gamma", "the sender is not registered with beta");
}

#[test]
fn a_receipt_that_says_undelivered_fails_over_like_a_refusal() {
    let mut case = Case::routed(generous(), 1);
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, accepted(&[0]));
    case.receive("alpha", &[receipt(0, 1, ReceiptStatus::Undelivered, FailureClass::RelayFault)]);
    assert_eq!(
        case.attempts(0),
        [("alpha".to_owned(), AttemptState::Undelivered), ("beta".to_owned(), AttemptState::Routed)]
    );
}

#[test]
fn a_failure_and_what_follows_are_one_append() {
    let mut case = Case::routed(generous(), 2);
    case.submit("alpha", 1, &[0, 1]);
    let mut note = accepted(&[0]);
    note.refused = refused(&[1], FailureClass::RelayFault).refused;
    let events = case.respond("alpha", 1, note);
    let kinds: Vec<_> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, ["relay-responded", "messages-routed"]);
    let Event::MessagesRouted(routed) = &events[1] else { panic!("{events:?}") };
    assert_eq!(routed.routes[0].reason, "next relay after relay_fault (code)");
    assert!(routed.splits.is_empty(), "a failover is not part of the split");
}

#[test]
fn after_the_lifetime_nothing_is_tried_any_more() {
    let mut case = Case::routed(generous(), 1);
    case.submit("alpha", 1, &[0]);
    case.world.now = case.terms.expires_at;
    case.respond("alpha", 1, refused(&[0], FailureClass::RelayFault));
    assert_eq!(case.outcome(0), Some(Outcome::Undelivered));
}

#[test]
fn an_unknown_outcome_fails_over_only_where_sending_twice_is_allowed() {
    for at_least_once in [false, true] {
        let mut terms = generous();
        terms.failover.at_least_once = at_least_once;
        let mut case = Case::routed(terms, 1);
        case.submit("alpha", 1, &[0]);
        case.respond("alpha", 1, unknown(&[0], None));
        let expected = if at_least_once { 2 } else { 1 };
        assert_eq!(case.attempts(0).len(), expected);
        assert_eq!(case.outcome(0), None);
    }
}

#[test]
fn an_unknown_outcome_with_nobody_left_waits_for_its_receipt() {
    let mut terms = generous();
    terms.failover.at_least_once = true;
    let mut case = Case::routed(terms, 1);
    suspend(&mut case.world.directory, "beta");
    suspend(&mut case.world.directory, "gamma");
    case.submit("alpha", 1, &[0]);
    case.respond("alpha", 1, unknown(&[0], None));
    assert_eq!(case.outcome(0), None, "the receipt may still come");
    assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Unknown), "e-mail only after the wait");
    // The wait is over before the lifetime: now e-mail may follow.
    case.terms.expires_at += Duration::hours(48);
    case.world.now += Duration::hours(26);
    case.expire();
    assert_eq!(case.last(0).0, "mail-b");
}

#[test]
fn messages_that_fail_together_keep_their_own_fallbacks() {
    // Message 0 comes from alpha, message 1 from beta; both have reached gamma's queue by different ways.
    let terms = generous();
    let mut case = Case::routed(terms, 2);
    let reroute = |case: &mut Case, seq: u32, attempt: u16, to: &str, left: &[&str]| {
        let routed = MessagesRouted {
            routes: vec![RouteSet {
                relay: relay(to),
                channel: kite_domain::text::MessageType::Sms,
                attempt,
                messages: set([seq]),
                fallbacks: relays(left),
                price_milliwon: 0,
                bills: kite_domain::relay::BillingMoment::Delivered,
                reason: "test".to_owned(),
            }],
            splits: Vec::new(),
        };
        case.fold(vec![routed.into()]);
    };
    reroute(&mut case, 0, 2, "gamma", &["beta"]);
    reroute(&mut case, 1, 2, "gamma", &[]);
    case.submit("gamma", 2, &[0, 1]);
    case.respond("gamma", 2, refused(&[0, 1], FailureClass::RelayFault));
    assert_eq!(case.last(0).0, "beta");
    assert_eq!(case.outcome(1), Some(Outcome::Undelivered), "no relay is left, and no e-mail address");
}

#[test]
fn what_waits_for_a_tripped_relay_is_taken_away_once() {
    let mut case = Case::routed(generous(), 3);
    case.submit("alpha", 1, &[0]);
    let world = case.world.context();
    let events = case.lot.take_away(&case.terms, &relay("alpha"), &set(0..3), "breaker tripped", &world);
    case.fold(events);
    assert_eq!(case.last(0), ("alpha".to_owned(), AttemptState::Submitted), "what was handed over stays");
    assert_eq!(case.last(1), ("beta".to_owned(), AttemptState::Routed));
    let again = case.lot.take_away(
        &case.terms,
        &relay("alpha"),
        &set(0..3),
        "breaker tripped",
        &case.world.context(),
    );
    assert_eq!(again, []);
    assert_eq!(case.submit("alpha", 1, &[1, 2]), Vec::<u32>::new(), "alpha has lost them");
}

#[test]
fn what_nobody_else_can_carry_stays() {
    let mut case = Case::routed(generous(), 1);
    suspend(&mut case.world.directory, "beta");
    suspend(&mut case.world.directory, "gamma");
    let world = case.world.context();
    assert_eq!(case.lot.take_away(&case.terms, &relay("alpha"), &set([0]), "breaker tripped", &world), []);
}

#[test]
fn what_stays_unknown_until_nobody_can_be_asked_goes_on_where_it_may_be_sent_twice() {
    for at_least_once in [false, true] {
        let mut terms = generous();
        terms.failover.at_least_once = at_least_once;
        let mut case = Case::routed(terms, 1);
        case.submit("alpha", 1, &[0]);
        case.respond("alpha", 1, unknown(&[0], Some(noon() + Duration::seconds(1))));
        assert_eq!(case.attempts(0).len(), 1, "the relay is asked first");
        case.respond("alpha", 1, ResponseNote { answer_to: AnswerTo::Question, ..unknown(&[0], None) });
        assert_eq!(case.attempts(0).len(), if at_least_once { 2 } else { 1 });
    }
}
