//! What the customer was told: a 202, a cancellation, an end.

use super::*;

#[test]
fn a_message_without_an_end_and_a_sending_without_a_seal_are_lost() {
    let mut case = Case::routed(|_| ());
    case.oracle.claim("never-seen", 3, Cancel::NotAsked);
    let verdict = case.judge();
    assert_eq!(verdict.lost, 4);
    says(&verdict, "has no end");
    says(&verdict, "got a 202 and is not in the log");
    says(&verdict, "with 1 open messages");
}

#[test]
fn a_202_for_another_number_and_a_sealed_sending_without_one_are_found() {
    let mut case = delivered_once();
    case.event("sending-s", "sending-completed", json!({}));
    case.oracle.claim("s", 3, Cancel::NotAsked);
    let verdict = case.oracle.judge();
    assert_eq!(verdict.lost, 2);
    says(&verdict, "a 202 for 3 messages, 1 in the log");
    says(&delivered_once().oracle.judge(), "nobody has a 202 for it");
}

#[test]
fn two_requests_that_are_answered_with_one_sending_are_found() {
    let mut case = delivered_once();
    case.oracle.claim("s", 1, Cancel::NotAsked);
    says(&case.judge(), "two requests were answered with it");
}

#[test]
fn a_seal_that_comes_twice_or_counts_wrong_is_found() {
    let mut case = delivered_once();
    case.seal(1);
    says(&case.judge(), "is sealed twice");
    let mut case = Case::new();
    case.slice(1);
    case.seal(2);
    says(&case.judge(), "sealed with 2 messages in 1 lots, 1 in 1 are there");
    let mut case = delivered_once();
    case.slice(1);
    says(&case.judge(), "has message 0 in two lots");
}

#[test]
fn a_lot_with_more_messages_than_recipients_is_found() {
    let mut case = Case::new();
    let groups = json!([{ "message_type": "sms", "messages": [0, 1] }]);
    case.lot("lot-accepted", json!({ "groups": groups, "personal": { "recipients": [{ "to": "1" }] } }));
    says(&case.judge(), "a lot of 2 messages to 1 recipients");
}

#[test]
fn completion_comes_once_and_last() {
    let mut case = delivered_once();
    case.event("sending-s", "sending-completed", json!({}));
    says(&case.judge(), "is completed twice");
    let mut case = delivered_once();
    case.oracle.claim("s", 1, Cancel::NotAsked);
    says(&case.oracle.judge(), "is over and was never completed");
}

#[test]
fn an_acknowledged_cancellation_is_in_the_log_and_no_other_is() {
    let mut case = delivered_once();
    case.cancel = Cancel::Acknowledged;
    says(&case.judge(), "its cancellation was acknowledged and is not in the log");
    let cancelled = || {
        let mut case = Case::routed(|_| ());
        case.cancelled();
        case.finished("cancelled");
        case
    };
    says(&cancelled().judge(), "nobody asked for it");
    for cancel in [Cancel::Asked, Cancel::Acknowledged] {
        let mut case = cancelled();
        case.cancel = cancel;
        assert_eq!(clean(case).outcomes.cancelled, 1);
    }
    let mut case = cancelled();
    case.cancelled();
    says(&case.judge(), "is cancelled twice");
}

#[test]
fn what_comes_before_its_time_or_after_its_end_is_found() {
    let case = Case::routed(|terms| terms["scheduled_at"] = (NOON_MS + 1).into());
    says(&case.judge(), "is routed before its time");
    let mut case = Case::routed(|_| ());
    case.later(HOUR_MS + 11_000);
    case.submitted(1, "one");
    says(&case.judge(), "after the end of its lifetime");
    let mut case = Case::routed(|_| ());
    case.cancelled();
    case.later(11_000);
    case.submitted(1, "one");
    says(&case.judge(), "although it was cancelled");
}

#[test]
fn an_advertisement_at_night_is_found_unless_it_was_agreed_to() {
    let at_night = |night_consent: bool, arrival_s: i64, standstill_s: i64| {
        let mut case = Case::new();
        let at = |s: i64| chrono::DateTime::from_timestamp_millis(NOON_MS + s * 1_000).unwrap();
        case.oracle.night(at(10), at(60));
        case.oracle.relays_stand_still(chrono::TimeDelta::seconds(standstill_s));
        case.terms["class"] = "ad".into();
        case.terms["ad"] = json!({ "night_consent": night_consent });
        case.accepted(1);
        case.first_routes(json!([0]), json!([]));
        case.later(arrival_s.min(10) * 1_000);
        case.submitted(1, "one");
        case.receipt(1, "one", "delivered");
        let mut entry = entry("one", 1, "delivered");
        entry.arrived_at_us = (NOON_MS + arrival_s * 1_000) as u64 * 1_000;
        case.oracle.read_ledger(&entry);
        case
    };
    clean(at_night(true, 10, 0));
    says(&at_night(false, 10, 0).judge(), "is an advertisement and handed over at night");
    clean(at_night(false, 9, 0));
}

#[test]
fn an_advertisement_that_arrives_at_night_is_found() {
    let arrives = |arrival_s: i64, standstill_s: i64| {
        let mut case = Case::new();
        let at = |s: i64| chrono::DateTime::from_timestamp_millis(NOON_MS + s * 1_000).unwrap();
        case.oracle.night(at(10), at(60));
        case.oracle.relays_stand_still(chrono::TimeDelta::seconds(standstill_s));
        case.terms["class"] = "ad".into();
        case.accepted(1);
        case.first_routes(json!([0]), json!([]));
        case.submitted(1, "one");
        case.receipt(1, "one", "delivered");
        let mut entry = entry("one", 1, "delivered");
        entry.arrived_at_us = (NOON_MS + arrival_s * 1_000) as u64 * 1_000;
        case.oracle.read_ledger(&entry);
        case
    };
    says(&arrives(12, 0).judge(), "got an advertisement at night");
    clean(arrives(12, 5));
    says(&arrives(16, 5).judge(), "got an advertisement at night");
    says(&arrives(57, 0).judge(), "got an advertisement at night");
    // By the relays' own clock.
    clean(arrives(58, 0));
}

#[test]
fn an_advertisement_to_one_who_refused_is_found() {
    let mut case = Case::routed(|terms| terms["class"] = "ad".into());
    let address = json!({ "address": "01012345670" });
    case.event("opt-out-x", "opt-out-recorded", json!({ "tenant": "acme", "personal": address }));
    case.later(11_000);
    case.submitted(1, "one");
    says(&case.judge(), "an advertisement to one who refused");
}
