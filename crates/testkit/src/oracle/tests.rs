//! The judge is judged: every wrong that it is there to find is put before it.

use serde_json::{Value, json};

use super::{LedgerEntry, Oracle, Verdict};

/// A log and ledgers under construction.
struct Case {
    oracle: Oracle,
}

impl Case {
    /// Relay `one` sends twice when it is called twice, `two` drops repeats, `post` gives no receipts.
    fn new() -> Self {
        let mut case = Self { oracle: Oracle::default() };
        for (relay, deduplicates, receipts) in
            [("one", false, "push"), ("two", true, "pull"), ("post", false, "none")]
        {
            let profile = json!({
                "relay": relay, "deduplicates": deduplicates, "answers_status": deduplicates, "receipts": receipts,
            });
            case.event(&format!("relay-{relay}"), "relay-defined", json!({ "profile": profile }));
        }
        let weights = json!([{ "relay": "one", "weight": 5_000 }, { "relay": "two", "weight": 5_000 }]);
        let policy = json!({
            "tenant": "acme", "channel": "sms", "version": 1, "objective": "ratio", "weights": weights,
        });
        case.event("policy-acme-sms", "policy-defined", policy);
        case
    }

    fn event(&mut self, stream: &str, kind: &str, data: Value) {
        let line = json!({ "stream": stream, "type": kind, "time": "2026-03-01T12:00:00Z", "data": data });
        self.oracle.read_event(&line.to_string()).unwrap();
    }

    fn lot(&mut self, kind: &str, data: Value) {
        self.event("lot-s-0", kind, data);
    }

    /// A sending `s` of so many messages that got its 202.
    fn accepted(&mut self, messages: u64, at_least_once: bool) {
        let last = messages - 1;
        self.lot("lot-accepted", json!({ "groups": [{ "messages": [[0, last]] }] }));
        let seal = json!({
            "tenant": "acme", "class": "notice", "messages": messages, "lots": 1,
            "failover": { "at_least_once": at_least_once },
        });
        self.event("sending-s", "sending-accepted", seal);
        self.oracle.claim("s", messages);
    }

    fn first_routes(&mut self, one: Value, two: Value) {
        let count = |set: &Value| set.as_array().unwrap().len();
        let messages = count(&one) + count(&two);
        let route =
            |relay: &str, set| json!({ "relay": relay, "channel": "sms", "attempt": 1, "messages": set });
        let split = json!({ "channel": "sms", "version": 1, "messages": messages });
        self.lot(
            "messages-routed",
            json!({ "routes": [route("one", one), route("two", two)], "splits": [split] }),
        );
    }

    fn again(&mut self, attempt: u32, relay: &str) {
        let route = json!({ "relay": relay, "channel": "sms", "attempt": attempt, "messages": [0] });
        self.lot("messages-routed", json!({ "routes": [route] }));
    }

    fn submitted(&mut self, attempt: u32, relay: &str) {
        self.lot("messages-submitted", json!({ "relay": relay, "attempt": attempt, "messages": [0] }));
    }

    fn said(&mut self, attempt: u32, what: &str) {
        self.lot("relay-responded", json!({ "attempt": attempt, what: { "messages": [0] } }));
    }

    fn receipt(&mut self, attempt: u32, status: &str) {
        let set = json!({ "attempt": attempt, "status": status, "messages": [0] });
        self.lot("receipts-recorded", json!({ "sets": [set] }));
    }

    fn finished(&mut self, outcome: &str) {
        self.lot("messages-finished", json!({ "outcome": outcome, "messages": [0] }));
    }

    fn ledger(&mut self, relay: &str, attempt: u32, times: u32, deliveries: u32) {
        self.oracle.read_ledger(&LedgerEntry {
            relay: relay.to_owned(),
            message: "s-0".to_owned(),
            attempt,
            recipient: "01000000000".to_owned(),
            times_received: times,
            deliveries,
        });
    }

    fn judge(self) -> Verdict {
        self.oracle.judge()
    }
}

#[track_caller]
fn says(verdict: &Verdict, what: &str) {
    assert!(!verdict.is_clean(), "it found nothing");
    assert!(verdict.violations.iter().any(|violation| violation.contains(what)), "{verdict}");
}

/// One message, delivered by relay `one`.
fn delivered_once() -> Case {
    let mut case = Case::new();
    case.accepted(1, false);
    case.first_routes(json!([0]), json!([]));
    case.submitted(1, "one");
    case.said(1, "accepted");
    case.receipt(1, "delivered");
    case
}

#[test]
fn a_good_run_is_clean() {
    let mut case = delivered_once();
    case.ledger("one", 1, 1, 1);
    let verdict = case.judge();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.messages, verdict.outcomes.delivered), (1, 1));
    assert_eq!(verdict.splits[0].off_max, 0.5);
}

#[test]
fn a_message_without_an_end_and_a_sending_without_a_seal_are_lost() {
    let mut case = Case::new();
    case.accepted(1, false);
    case.first_routes(json!([0]), json!([]));
    case.oracle.claim("never-seen", 3);
    let verdict = case.judge();
    assert_eq!(verdict.lost, 4);
    says(&verdict, "has no end");
    says(&verdict, "got a 202 and is not in the log");
}

#[test]
fn a_success_that_no_relay_knows_of_is_found() {
    says(&delivered_once().judge(), "knows nothing of it");
    let mut case = delivered_once();
    case.ledger("one", 1, 1, 0);
    says(&case.judge(), "no relay delivered it");
}

#[test]
fn a_delivery_that_we_do_not_know_of_is_found() {
    let mut case = Case::new();
    case.accepted(1, false);
    case.first_routes(json!([0]), json!([]));
    case.submitted(1, "one");
    case.said(1, "unknown");
    case.finished("expired");
    case.ledger("one", 1, 1, 1);
    says(&case.judge(), "was delivered, and counts as Some(Expired)");
}

#[test]
fn what_nobody_could_tell_is_permitted_and_no_more() {
    let at_post = |outcome: &str, answer: Option<&str>| {
        let mut case = Case::new();
        case.accepted(1, false);
        case.first_routes(json!([0]), json!([]));
        case.submitted(1, "one");
        case.said(1, "accepted");
        case.receipt(1, "undelivered");
        case.again(2, "post");
        case.submitted(2, "post");
        answer.into_iter().for_each(|answer| case.said(2, answer));
        case.finished(outcome);
        case.ledger("one", 1, 1, 0);
        case.ledger("post", 2, 1, 1);
        case.judge()
    };
    let verdict = at_post("expired", Some("unknown"));
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.delivered_untold, 1);
    assert_eq!(verdict.expired_at["post"], 1);
    says(&at_post("undelivered", None), "counts as Some(Undelivered)");
}

#[test]
fn going_on_from_doubt_is_a_double_unless_it_was_asked_for() {
    let twice = |at_least_once| {
        let mut case = Case::new();
        case.accepted(1, at_least_once);
        case.first_routes(json!([0]), json!([]));
        case.submitted(1, "one");
        case.said(1, "unknown");
        case.again(2, "two");
        case.submitted(2, "two");
        case.said(2, "accepted");
        case.receipt(1, "delivered");
        case.receipt(2, "delivered");
        case.ledger("one", 1, 1, 1);
        case.ledger("two", 2, 1, 1);
        case.judge()
    };
    let verdict = twice(true);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.delivered_twice_permitted, 1);
    let verdict = twice(false);
    says(&verdict, "goes on from attempt 1 which is in flight");
}

#[test]
fn at_least_once_permits_no_double_where_nothing_was_in_doubt() {
    let mut case = Case::new();
    case.accepted(1, true);
    case.first_routes(json!([0]), json!([]));
    case.submitted(1, "one");
    case.said(1, "accepted");
    case.receipt(1, "undelivered");
    case.again(2, "two");
    case.submitted(2, "two");
    case.said(2, "accepted");
    case.receipt(2, "delivered");
    case.ledger("one", 1, 1, 1);
    case.ledger("two", 2, 1, 1);
    let verdict = case.judge();
    assert_eq!(verdict.delivered_twice, 1);
    says(&verdict, "was delivered twice");
}

#[test]
fn a_second_call_to_a_relay_that_sends_again_is_found() {
    let mut case = delivered_once();
    case.ledger("one", 1, 2, 1);
    says(&case.judge(), "although it would send again");
    let mut case = delivered_once();
    case.ledger("one", 1, 1, 2);
    says(&case.judge(), "more than once under one reference");
    let mut case = Case::new();
    case.accepted(1, false);
    case.first_routes(json!([0]), json!([]));
    case.submitted(1, "one");
    case.submitted(1, "one");
    says(&case.judge(), "to a relay that would send it twice");
}

#[test]
fn a_hand_over_without_an_intent_and_one_that_nobody_sent_are_found() {
    let mut case = delivered_once();
    case.ledger("two", 1, 1, 0);
    says(&case.judge(), "without an intent");
    let mut case = Case::new();
    case.ledger("two", 1, 1, 0);
    says(&case.judge(), "nobody sent it");
}

#[test]
fn a_route_without_a_seal_and_one_after_the_end_are_found() {
    let mut case = Case::new();
    case.lot("lot-accepted", json!({ "groups": [{ "messages": [0] }] }));
    case.first_routes(json!([0]), json!([]));
    says(&case.judge(), "routed without its seal");
    let mut case = delivered_once();
    case.again(2, "two");
    says(&case.judge(), "after it was Delivered");
}

#[test]
fn a_split_that_is_a_message_off_in_the_middle_of_a_lot_is_found() {
    let off = |one: Value, two: Value| {
        let mut case = Case::new();
        case.accepted(4, false);
        case.first_routes(one, two);
        case.judge().splits[0].clone()
    };
    // In the end both have two, but the first two both went to the same relay.
    let blocks = off(json!([0, 1]), json!([2, 3]));
    assert_eq!((blocks.is_exact, blocks.off_max, blocks.messages), (false, 1.0, 4));
    let turns = off(json!([0, 2]), json!([1, 3]));
    assert_eq!((turns.is_exact, turns.off_max), (true, 0.5));
}

#[test]
fn an_advertisement_at_night_is_found_unless_it_was_agreed_to() {
    let at_night = |night_consent: bool| {
        let mut case = Case::new();
        case.oracle.night("2026-03-01T11:00:00Z".parse().unwrap(), "2026-03-01T13:00:00Z".parse().unwrap());
        case.lot("lot-accepted", json!({ "groups": [{ "messages": [0] }] }));
        let seal = json!({
            "tenant": "acme", "class": "ad", "ad": { "night_consent": night_consent }, "messages": 1, "lots": 1,
            "failover": { "at_least_once": false },
        });
        case.event("sending-s", "sending-accepted", seal);
        case.oracle.claim("s", 1);
        case.first_routes(json!([0]), json!([]));
        case.submitted(1, "one");
        case.receipt(1, "delivered");
        case.ledger("one", 1, 1, 1);
        case.judge()
    };
    assert!(at_night(true).is_clean());
    says(&at_night(false), "at night");
}
