//! The judge is judged: every wrong that it is there to find is put before it.

mod ends;
mod hand_overs;
mod promises;
mod splits;

use serde_json::{Value, json};

use super::{Cancel, LedgerEntry, Oracle, Verdict};

/// Noon, by the clock of every case. Events happen then unless a case says otherwise.
const NOON_MS: i64 = 1_772_366_400_000;
/// Far from noon.
const HOUR_MS: i64 = 3_600_000;

/// A log and ledgers under construction: one sending `s` with one lot.
struct Case {
    oracle: Oracle,
    at_ms: i64,
    /// What the sending is sealed with, beside the number of messages.
    terms: Value,
    cancel: Cancel,
}

impl Case {
    /// Relay `one` sends twice when it is called twice, `two` drops repeats and can be asked, `post` gives no receipts.
    fn new() -> Self {
        let terms = json!({
            "tenant": "acme", "class": "notice", "lots": 1, "expires_at": NOON_MS + HOUR_MS,
            "failover": {
                "relays": true, "email": true, "email_after_temporary": false, "at_least_once": false, "attempts_max": 3,
            },
        });
        let mut case = Self { oracle: Oracle::default(), at_ms: NOON_MS, terms, cancel: Cancel::NotAsked };
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

    /// A sending to one, accepted and routed to `one`, with other terms.
    fn routed(change: impl FnOnce(&mut Value)) -> Self {
        let mut case = Self::new();
        change(&mut case.terms);
        case.accepted(1);
        case.first_routes(json!([0]), json!([]));
        case
    }

    /// [`Case::routed`], and handed over.
    fn handed_over(change: impl FnOnce(&mut Value)) -> Self {
        let mut case = Self::routed(change);
        case.submitted(1, "one");
        case
    }

    fn event(&mut self, stream: &str, kind: &str, data: Value) {
        let time = chrono::DateTime::from_timestamp_millis(self.at_ms).unwrap();
        let line = json!({ "stream": stream, "type": kind, "time": time, "data": data });
        self.oracle.read_event(&line.to_string()).unwrap();
    }

    fn lot(&mut self, kind: &str, data: Value) {
        self.event("lot-s-0", kind, data);
    }

    fn slice(&mut self, messages: u64) {
        let recipients: Vec<Value> = (0..messages)
            .map(|number| json!({ "to": format!("0101234567{number}"), "email": "fan@example.com" }))
            .collect();
        self.lot(
            "lot-accepted",
            json!({
                "groups": [{ "message_type": "sms", "messages": [[0, messages - 1]] }],
                "personal": { "recipients": recipients },
            }),
        );
    }

    fn seal(&mut self, messages: u64) {
        let mut seal = self.terms.clone();
        seal["messages"] = messages.into();
        self.event("sending-s", "sending-accepted", seal);
    }

    /// So many messages that got their 202.
    fn accepted(&mut self, messages: u64) {
        self.slice(messages);
        self.seal(messages);
    }

    fn first_routes(&mut self, one: Value, two: Value) {
        self.first_routes_without(one, two, json!([]));
    }

    fn first_routes_without(&mut self, one: Value, two: Value, left_out: Value) {
        let count = |set: &Value| set.as_array().unwrap().len();
        let messages = count(&one) + count(&two);
        let sets = [("one", one), ("two", two)];
        let routes: Vec<Value> = sets
            .into_iter()
            .filter(|(_, set)| count(set) > 0)
            .map(|(relay, set)| json!({ "relay": relay, "channel": "sms", "attempt": 1, "messages": set }))
            .collect();
        let split = json!({ "channel": "sms", "version": 1, "messages": messages, "left_out": left_out });
        self.lot("messages-routed", json!({ "routes": routes, "splits": [split] }));
    }

    fn again(&mut self, attempt: u32, relay: &str) {
        let channel = if relay == "post" { "email" } else { "sms" };
        let route = json!({ "relay": relay, "channel": channel, "attempt": attempt, "messages": [0] });
        self.lot("messages-routed", json!({ "routes": [route] }));
    }

    fn submitted(&mut self, attempt: u32, relay: &str) {
        let receipt_by = self.at_ms + 60_000;
        self.lot(
            "messages-submitted",
            json!({ "relay": relay, "attempt": attempt, "messages": [0], "receipt_by": receipt_by }),
        );
    }

    /// accepted, unknown or deferred.
    fn said(&mut self, attempt: u32, relay: &str, what: &str) {
        let set = json!({ "messages": [0], "is_final": relay == "post" });
        self.lot("relay-responded", json!({ "relay": relay, "attempt": attempt, what: set }));
    }

    fn refused(&mut self, attempt: u32, relay: &str, class: &str) {
        let set = json!({ "messages": [0], "code": "3056", "class": class });
        self.lot("relay-responded", json!({ "relay": relay, "attempt": attempt, "refused": [set] }));
    }

    fn receipt(&mut self, attempt: u32, relay: &str, status: &str) {
        let mut set = json!({ "attempt": attempt, "status": status, "messages": [0], "code": "4000" });
        if status == "undelivered" {
            set["code"] = "3056".into();
            set["class"] = "relay_fault".into();
        }
        self.lot("receipts-recorded", json!({ "relay": relay, "sets": [set] }));
    }

    fn finished(&mut self, outcome: &str) {
        self.lot("messages-finished", json!({ "outcome": outcome, "reason": "so", "messages": [0] }));
    }

    fn cancelled(&mut self) {
        self.event("sending-s", "sending-cancelled", json!({}));
    }

    fn later(&mut self, ms: i64) {
        self.at_ms += ms;
    }

    /// By relay, attempt and what became of it.
    fn ledger(&mut self, relay: &str, attempt: u32, status: &str) {
        self.oracle.read_ledger(&entry(relay, attempt, status));
    }

    /// Everything is over.
    fn judge(mut self) -> Verdict {
        self.event("sending-s", "sending-completed", json!({}));
        self.oracle.claim("s", self.oracle.ends_of("s").count() as u64, self.cancel);
        self.oracle.judge()
    }
}

fn entry(relay: &str, attempt: u32, status: &str) -> LedgerEntry {
    let by_mail = relay == "post";
    LedgerEntry {
        relay: relay.to_owned(),
        message: "s-0".to_owned(),
        attempt,
        recipient: if by_mail { "fan@example.com" } else { "01012345670" }.to_owned(),
        kind: if by_mail { "email" } else { "sms" }.to_owned(),
        status: status.to_owned(),
        code: if status == "delivered" { "4000" } else { "3056" }.to_owned(),
        times_received: 1,
        deliveries: u32::from(status == "delivered"),
        arrived_at_us: (NOON_MS + HOUR_MS / 2) as u64 * 1_000,
    }
}

fn says(verdict: &Verdict, what: &str) {
    assert!(verdict.violations.iter().any(|violation| violation.contains(what)), "no {what:?}: {verdict}");
}

fn clean(case: Case) -> Verdict {
    let verdict = case.judge();
    assert!(verdict.is_clean(), "{verdict}");
    verdict
}

fn at_least_once(terms: &mut Value) {
    terms["failover"]["at_least_once"] = true.into();
}

/// Delivered by relay `one` at the first attempt, by the log alone.
fn delivered_once() -> Case {
    let mut case = Case::handed_over(|_| ());
    case.said(1, "one", "accepted");
    case.receipt(1, "one", "delivered");
    case
}

#[test]
fn a_good_run_is_clean() {
    let mut case = delivered_once();
    case.ledger("one", 1, "delivered");
    assert_eq!(case.oracle.unanswered(), (1, 0));
    let verdict = clean(case);
    assert_eq!((verdict.messages, verdict.outcomes.delivered), (1, 1));
    assert_eq!(verdict.splits[0].off_max, 0.5);
}
