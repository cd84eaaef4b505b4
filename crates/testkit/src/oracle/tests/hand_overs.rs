//! Laws 4 and 5: one attempt in flight, intent before effect, and nobody told twice.

use super::*;

#[test]
fn going_on_from_doubt_is_a_double_unless_it_was_asked_for() {
    let twice = |change: fn(&mut Value)| {
        let mut case = Case::handed_over(change);
        case.said(1, "one", "unknown");
        case.again(2, "two");
        case.submitted(2, "two");
        case.said(2, "two", "accepted");
        case.receipt(1, "one", "delivered");
        case.receipt(2, "two", "delivered");
        case.ledger("one", 1, "delivered");
        case.ledger("two", 2, "delivered");
        case
    };
    assert_eq!(clean(twice(at_least_once)).delivered_twice_permitted, 1);
    says(&twice(|_| ()).judge(), "goes on from attempt 1 which is in flight");
}

#[test]
fn at_least_once_permits_no_double_where_nothing_was_in_doubt() {
    let mut case = Case::handed_over(at_least_once);
    case.said(1, "one", "accepted");
    case.receipt(1, "one", "undelivered");
    case.again(2, "two");
    case.submitted(2, "two");
    case.said(2, "two", "accepted");
    case.receipt(2, "two", "delivered");
    let mut first = entry("one", 1, "undelivered");
    first.deliveries = 1;
    case.oracle.read_ledger(&first);
    case.ledger("two", 2, "delivered");
    let verdict = case.judge();
    assert_eq!(verdict.delivered_twice, 1);
    says(&verdict, "was delivered twice");
}

/// A message that was delivered once, and a ledger that tells of it otherwise.
fn with_ledger(change: fn(&mut LedgerEntry)) -> Verdict {
    let mut case = delivered_once();
    let mut entry = entry("one", 1, "delivered");
    change(&mut entry);
    case.oracle.read_ledger(&entry);
    case.judge()
}

#[test]
fn a_second_call_to_a_relay_that_sends_again_is_found() {
    says(&with_ledger(|entry| entry.times_received = 2), "although it would send again");
    says(&with_ledger(|entry| entry.deliveries = 2), "more than once under one reference");
    let mut case = Case::handed_over(|_| ());
    case.submitted(1, "one");
    says(&case.judge(), "to a relay that would send it twice");
    let mut case = delivered_once();
    case.ledger("one", 1, "delivered");
    case.ledger("one", 1, "delivered");
    says(&case.judge(), "has it twice under one reference");
}

/// At `two`, called twice because the first answer was lost.
fn called_twice() -> Case {
    let mut case = Case::new();
    case.accepted(1);
    case.first_routes(json!([]), json!([0]));
    case.submitted(1, "two");
    case.said(1, "two", "unknown");
    case.submitted(1, "two");
    case
}

#[test]
fn a_doubt_that_is_forgotten_is_found() {
    let mut case = called_twice();
    case.said(1, "two", "deferred");
    says(&case.judge(), "is as new although an earlier call may have been taken");
    let mut case = called_twice();
    case.again(2, "one");
    says(&case.judge(), "goes on from attempt 1 which is in flight");
    // Asked, and never had it.
    let mut case = called_twice();
    case.said(1, "two", "unknown");
    case.said(1, "two", "deferred");
    case.again(2, "one");
    case.submitted(2, "one");
    case.receipt(2, "one", "delivered");
    case.ledger("one", 2, "delivered");
    clean(case);
}

#[test]
fn what_was_taken_back_must_not_be_there() {
    let mut case = Case::handed_over(|_| ());
    case.said(1, "one", "deferred");
    case.again(2, "two");
    case.submitted(2, "two");
    case.receipt(2, "two", "delivered");
    case.ledger("one", 1, "refused");
    case.ledger("two", 2, "delivered");
    says(&case.judge(), "was taken back from a relay that has it");
}

#[test]
fn a_hand_over_without_an_intent_and_one_that_nobody_sent_are_found() {
    let mut case = delivered_once();
    case.ledger("two", 1, "delivered");
    says(&case.judge(), "without an intent");
    let mut case = Case::new();
    case.ledger("two", 1, "delivered");
    says(&case.judge(), "nobody sent it");
    let mut case = Case::routed(|_| ());
    case.said(1, "one", "accepted");
    says(&case.judge(), "is answered without an intent");
    let mut case = delivered_once();
    let mut entry = entry("one", 1, "delivered");
    entry.arrived_at_us = (NOON_MS - 2_001) as u64 * 1_000;
    case.oracle.read_ledger(&entry);
    says(&case.judge(), "got it before its intent was written");
    let case = Case::handed_over(|_| ());
    assert_eq!(case.oracle.unanswered(), (1, 1));
}

#[test]
fn a_wrong_relay_attempt_or_moment_is_found() {
    let mut case = Case::routed(|_| ());
    case.submitted(1, "two");
    says(&case.judge(), "to a relay that it was not routed to");
    let mut case = Case::routed(|_| ());
    case.submitted(2, "one");
    says(&case.judge(), "has no attempt 2");
    let mut case = Case::handed_over(|_| ());
    case.refused(1, "one", "relay_fault");
    case.again(2, "two");
    case.submitted(1, "one");
    says(&case.judge(), "or too late");
    let mut case = delivered_once();
    case.submitted(1, "one");
    says(&case.judge(), "is handed over after it was Delivered");
    let mut case = Case::handed_over(|_| ());
    case.said(1, "one", "accepted");
    case.submitted(1, "one");
    says(&case.judge(), "again after it was answered");
    for kind in ["answer", "receipt"] {
        let mut case = Case::handed_over(|_| ());
        match kind {
            "answer" => case.said(1, "two", "accepted"),
            _ => case.receipt(1, "two", "delivered"),
        }
        says(&case.judge(), "is answered by a relay that never had it");
    }
    let mut case = Case::handed_over(|_| ());
    let set = json!({ "messages": [0], "is_final": true });
    case.lot("relay-responded", json!({ "relay": "one", "attempt": 1, "accepted": set }));
    says(&case.judge(), "has accepted for good, and gives receipts");
}

#[test]
fn a_wrong_recipient_or_channel_is_found() {
    says(&with_ledger(|entry| entry.recipient = "01012345671".to_owned()), "a wrong recipient");
    says(&with_ledger(|entry| entry.kind = "lms".to_owned()), "got it as lms, and it was routed as Sms");
    says(&with_ledger(|entry| entry.kind = "fax".to_owned()), "got it as fax");
    says(&with_ledger(|entry| entry.status = "accepted".to_owned()), "has it as accepted");
}

#[test]
fn a_route_without_a_seal_and_one_after_the_end_are_found() {
    let mut case = Case::new();
    case.slice(1);
    case.first_routes(json!([0]), json!([]));
    says(&case.judge(), "routed without its seal");
    let mut case = delivered_once();
    case.again(2, "two");
    says(&case.judge(), "after it was Delivered");
}

#[test]
fn a_failover_that_was_not_asked_for_or_cannot_help_is_found() {
    let after = |class: &str, next: &str, change: fn(&mut Value)| {
        let mut case = Case::handed_over(change);
        case.refused(1, "one", class);
        case.again(2, next);
        case.judge()
    };
    says(&after("content", "two", |_| ()), "goes on over Sms after Content");
    says(
        &after("relay_fault", "two", |terms| terms["failover"]["relays"] = false.into()),
        "goes on over Sms",
    );
    says(&after("handset_temporary", "post", |_| ()), "goes on over Email after HandsetTemporary");
    says(
        &after("handset_permanent", "post", |terms| terms["failover"]["email"] = false.into()),
        "goes on over Email after HandsetPermanent",
    );
    says(&after("relay_fault", "one", |_| ()), "to the same relay a second time");
    let few = |terms: &mut Value| terms["failover"]["attempts_max"] = 1.into();
    says(&after("relay_fault", "two", few), "attempt 2 of 1 at most");
    let allowed = after("handset_permanent", "post", |_| ());
    assert!(!allowed.violations.iter().any(|violation| violation.contains("goes on")), "{allowed}");
}
