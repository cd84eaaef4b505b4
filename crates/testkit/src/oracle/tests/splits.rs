//! Law 3.

use super::*;

fn split(one: Value, two: Value) -> Verdict {
    let mut case = Case::new();
    case.accepted(4);
    case.first_routes(one, two);
    case.judge()
}

#[test]
fn a_split_that_is_a_message_off_in_the_middle_of_a_lot_is_found() {
    // In the end both have two, but the first two both went to the same relay.
    let blocks = split(json!([0, 1]), json!([2, 3])).splits[0].clone();
    assert_eq!((blocks.is_exact, blocks.off_max, blocks.messages), (false, 1.0, 4));
    let turns = split(json!([0, 2]), json!([1, 3])).splits[0].clone();
    assert_eq!((turns.is_exact, turns.off_max), (true, 0.5));
}

fn routed(routes: Value, splits: Value) -> Verdict {
    let mut case = Case::new();
    case.accepted(2);
    case.lot("messages-routed", json!({ "routes": routes, "splits": splits }));
    case.judge()
}

fn to(relay: &str, seqs: Value) -> Value {
    json!({ "relay": relay, "channel": "sms", "attempt": 1, "messages": seqs })
}

#[test]
fn first_routes_that_no_split_counts_are_found() {
    says(&routed(json!([to("one", json!([0]))]), json!([])), "1 first routes, and 0 of them split");
    let one = json!({ "channel": "sms", "version": 1, "messages": 1 });
    let both = json!([to("one", json!([0])), to("two", json!([1]))]);
    says(&routed(both.clone(), json!([one])), "a split of 1 messages has 2 first routes");
    let two = json!({ "channel": "sms", "version": 1, "messages": 2 });
    says(&routed(both.clone(), json!([two, two])), "two splits of Sms in one event");
    let other = json!([{ "channel": "sms", "version": 2, "messages": 2 }]);
    says(&routed(both, other), "no ratio policy 2 for sms");
    let stranger = json!([to("three", json!([0]))]);
    says(&routed(stranger, json!([one])), "three has no share");
    let longer = json!([{ "relay": "one", "channel": "lms", "attempt": 1, "messages": [0] }]);
    says(&routed(longer, json!([one])), "is a Some(Sms) and routed as Lms");
}

#[test]
fn who_is_left_out_must_be_tripped() {
    let left_out = |reason: &str, breaker: &[(&str, i64)]| {
        let mut case = Case::new();
        for (to, later_ms) in breaker {
            case.event("relay-one", "relay-breaker-changed", json!({ "relay": "one", "to": to }));
            case.later(*later_ms);
        }
        case.accepted(1);
        let left_out = json!([{ "relay": "one", "reason": reason }]);
        case.first_routes_without(json!([]), json!([0]), left_out);
        case.judge()
    };
    says(&left_out("breaker_tripped", &[]), "its breaker was not");
    says(&left_out("breaker_tripped", &[("tripped", 1), ("probing", 10_001)]), "its breaker was not");
    says(&left_out("no_share", &[]), "one is left out: no_share");
    for breaker in [&[("tripped", HOUR_MS)][..], &[("tripped", 1), ("probing", 10_000)]] {
        let verdict = left_out("breaker_tripped", breaker);
        assert!(!verdict.violations.iter().any(|violation| violation.contains("left out")), "{verdict}");
        assert_eq!(verdict.split_with_left_out, 1);
    }
}
