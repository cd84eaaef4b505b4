//! The views show what the queries answer.

use kite_domain::ids::LotId;
use kite_domain::sending::MessageClass;

use super::super::delivery::{answered, receipts, routed, submitted};
use super::super::{at, route, sending_id, seqs};
use super::{ask, bench};

#[test]
fn sendings_messages_and_statistics_are_in_words() {
    let mut bench = bench();
    let id = bench.accept(1, 3, MessageClass::Otp);
    let stream = LotId { sending: id, number: 0 }.stream();
    bench.append(&stream, at(10), vec![routed(vec![route("alpha", 1, seqs(0..3))])]);
    bench.append(&stream, at(20), vec![submitted("alpha", 1, seqs(0..3), 20)]);
    bench.append(&stream, at(30), vec![answered("alpha", 1, vec![0, 1], vec![2])]);
    bench.append(&stream, at(40), vec![receipts("alpha", 1, vec![0], 40)]);
    // Without its seal a sending belongs to nobody.
    bench.append(
        &LotId { sending: sending_id(2), number: 0 }.stream(),
        at(50),
        vec![super::super::lot_accepted(sending_id(2), 0, 5, MessageClass::Ad).into()],
    );
    bench.project();
    let url = bench.database().url();
    let sendings = ask(
        &url,
        "SELECT id::text, tenant, class, client_reference, messages, delivered, from_phone, accepted_at::text
         FROM kite.sendings",
    );
    let [sending] = &sendings[..] else { panic!("{sendings:?}") };
    assert_eq!(sending.get::<_, String>(0).replace('-', ""), id.to_string());
    let words = [1, 2, 3, 6].map(|column| sending.get::<_, String>(column));
    assert_eq!(words, ["acme", "otp", "order-7", "0212345678"]);
    assert_eq!((sending.get::<_, i64>(4), sending.get::<_, i64>(5)), (3, 1));
    assert!(sending.get::<_, String>(7).starts_with("2025-10-09"), "{sending:?}");
    let messages = ask(
        &url,
        "SELECT number, recipient, message_type, channel, status, relay, attempts, tenant, class, cost_won::float8
         FROM kite.messages ORDER BY number",
    );
    assert_eq!(messages.len(), 3);
    let first = [1, 2, 3, 4, 5, 7, 8].map(|column| messages[0].get::<_, String>(column));
    assert_eq!(first, ["01000000000", "sms", "sms", "delivered", "alpha", "acme", "otp"]);
    assert_eq!((messages[0].get::<_, i64>(6), messages[0].get::<_, f64>(9)), (1, 9.0));
    let status: Vec<String> = messages.iter().map(|row| row.get(4)).collect();
    assert_eq!(status[1], "accepted");
    let statistics = "SELECT sum(messages)::bigint, sum(delivered)::bigint, sum(cost_won)::float8, min(relay) FROM kite.statistics";
    let row = &ask(&url, statistics)[0];
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, f64>(2)), (3, 1, 9.0));
    assert_eq!(row.get::<_, String>(3), "alpha");
    let failures = ask(&url, "SELECT failure_class, attempts FROM kite.statistic_failures");
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].get::<_, i64>(1), 1);
}

/// Whoever builds upon them relies on it. A new column comes at the end of its line.
#[test]
fn their_columns_stay() {
    let bench = bench();
    let columns = ask(
        &bench.database().url(),
        "SELECT table_name || ': ' || string_agg(column_name, ' ' ORDER BY ordinal_position)
         FROM information_schema.columns WHERE table_schema = 'kite' GROUP BY table_name ORDER BY table_name",
    );
    let columns: Vec<String> = columns.iter().map(|row| row.get(0)).collect();
    assert_eq!(columns, include_str!("views.txt").lines().collect::<Vec<_>>());
}
