//! Faults of calls: rate, outages, lost and slow answers, de-duplication.

use std::time::Duration;

use kite_relay_sim::{EntryStatus, OutageMode};
use serde_json::json;

use crate::support::{Alpha, ORDINARY, eventually, flush, reference};

#[tokio::test]
async fn a_call_beyond_the_rate_is_refused_whole_and_says_when_to_come_back() {
    let alpha = Alpha::start(json!({ "rate_parts_per_second": 0.01 })).await;
    let full: Vec<(String, &str)> = (0..100).map(|n| (reference(n, 1), ORDINARY)).collect();
    assert_eq!(alpha.hand_over(&full).await.unwrap().0, 200);
    let (status, body) = alpha.hand_over(&[(reference(100, 1), ORDINARY)]).await.unwrap();
    assert_eq!((status, &body["error"]), (429, &json!("rate_limited")));
    let pause_ms = body["retry_after_ms"].as_u64().unwrap();
    assert!((90_000..=100_000).contains(&pause_ms), "{pause_ms}");
    assert_eq!(alpha.status_of(&reference(100, 1)).await["status"], "not_found");
    assert_eq!((alpha.counters().rate_limited, alpha.counters().handovers), (1, 100));
}

#[tokio::test]
async fn a_lost_answer_is_an_acceptance_that_a_repeat_and_a_status_query_show() {
    let alpha =
        Alpha::start(json!({ "faults": { "answer_lost": 1.0 }, "receipts": { "mode": "pull" } })).await;
    assert!(alpha.hand_over(&[(reference(0, 1), ORDINARY)]).await.is_err());
    let standing = alpha.status_of(&reference(0, 1)).await;
    assert!(["accepted", "delivered"].contains(&standing["status"].as_str().unwrap()), "{standing}");
    alpha.sim.set_behaviour("alpha", &json!({ "faults": { "answer_lost": 0.0 } })).unwrap();
    let repeated = alpha.one(&reference(0, 1), ORDINARY).await;
    assert_eq!((&repeated["status"], &repeated["duplicate"]), (&json!("accepted"), &json!(true)));
    assert_eq!(repeated["relay_reference"], standing["relay_reference"]);
    delivered(&alpha, &reference(0, 1)).await;
    let entry = alpha.sim.ledger().find("alpha", &reference(0, 1)).unwrap();
    assert_eq!((entry.times_received, entry.deliveries), (2, 1));
    assert_eq!(alpha.counters().answers_lost, 1);
}

#[tokio::test]
async fn a_relay_that_does_not_deduplicate_delivers_a_repeat_again() {
    let alpha = Alpha::start(json!({ "dedupe": false, "receipts": { "mode": "pull" } })).await;
    let first = alpha.one(&reference(0, 1), ORDINARY).await;
    let second = alpha.one(&reference(0, 1), ORDINARY).await;
    assert_eq!(second["duplicate"], json!(false));
    assert_ne!(first["relay_reference"], second["relay_reference"]);
    eventually("both are delivered", || alpha.counters().delivered == 2).await;
    let summary = alpha.sim.ledger().summary();
    assert_eq!(summary.delivered_more_than_once, 1);
    assert_eq!(summary.relays[0].delivered_more_than_once, 1);
}

#[tokio::test]
async fn attempts_of_one_message_that_are_both_delivered_count_as_delivered_more_than_once() {
    let alpha = Alpha::start(json!({ "receipts": { "mode": "pull" } })).await;
    for (sequence, attempt) in [(0, 1), (0, 2), (1, 1)] {
        alpha.one(&reference(sequence, attempt), ORDINARY).await;
    }
    eventually("all are delivered", || alpha.counters().delivered == 3).await;
    assert_eq!(alpha.sim.ledger().summary().delivered_more_than_once, 1);
    let deliveries = alpha.sim.ledger().deliveries_by_message();
    let mut counts: Vec<u32> = deliveries.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2]);
}

#[tokio::test]
async fn a_reset_and_a_503_accept_nothing() {
    let alpha = Alpha::start(json!({ "faults": { "reset_before_acceptance": 1.0 } })).await;
    assert!(alpha.hand_over(&[(reference(0, 1), ORDINARY)]).await.is_err());
    assert_eq!(alpha.status_of(&reference(0, 1)).await["status"], "not_found");
    let unavailable = json!({ "faults": { "reset_before_acceptance": 0.0, "unavailable": 1.0 } });
    alpha.sim.set_behaviour("alpha", &unavailable).unwrap();
    assert_eq!(alpha.hand_over(&[(reference(0, 1), ORDINARY)]).await.unwrap().0, 503);
    assert_eq!(alpha.status_of(&reference(0, 1)).await["status"], "not_found");
    assert_eq!(
        (alpha.counters().resets, alpha.counters().unavailable, alpha.counters().handovers),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn half_of_the_calls_fail_and_trying_again_is_a_new_chance() {
    let alpha =
        Alpha::start(json!({ "faults": { "unavailable": 0.5 }, "receipts": { "mode": "pull" } })).await;
    for sequence in 0..40 {
        let mut tries = 0;
        while alpha.hand_over(&[(reference(sequence, 1), &format!("010123{sequence:05}"))]).await.unwrap().0
            == 503
        {
            tries += 1;
            assert!(tries < 40, "the same fate for ever");
        }
    }
    let refused = alpha.counters().unavailable;
    assert!((15..=100).contains(&refused), "{refused} of about 40 expected");
}

#[tokio::test]
async fn a_slow_answer_still_comes() {
    let slow = json!({ "faults": { "slow_answer": { "share": 1.0, "ms": 30 } } });
    let alpha = Alpha::start(slow).await;
    assert_eq!(alpha.one(&reference(0, 1), ORDINARY).await["status"], "accepted");
    assert_eq!(alpha.counters().slow_answers, 1);
}

#[tokio::test]
async fn an_outage_refuses_or_resets_or_hangs_and_then_ends() {
    let alpha = Alpha::start(json!({})).await;
    let hour = Duration::from_secs(3_600);
    alpha.sim.set_outage("alpha", hour, OutageMode::Refuse).unwrap();
    assert_eq!(alpha.hand_over(&[(reference(0, 1), ORDINARY)]).await.unwrap().0, 503);
    alpha.sim.set_outage("alpha", hour, OutageMode::Reset).unwrap();
    assert!(alpha.hand_over(&[(reference(0, 1), ORDINARY)]).await.is_err());
    alpha.sim.set_outage("alpha", Duration::from_millis(50), OutageMode::Hang).unwrap();
    let hung = alpha.hand_over(&[(reference(0, 1), ORDINARY)]).await;
    assert!(hung.is_err() || hung.unwrap().0 == 503, "the call hangs until that outage ends");
    alpha.sim.set_outage("alpha", Duration::ZERO, OutageMode::Refuse).unwrap();
    assert_eq!(alpha.one(&reference(0, 1), ORDINARY).await["status"], "accepted");
    assert_eq!(alpha.counters().handovers, 1);
}

#[tokio::test]
async fn a_hanging_call_does_not_hold_up_a_shutdown() {
    let alpha =
        Alpha::start(json!({ "outages": [{ "start_ms": 0, "end_ms": 3_600_000, "mode": "hang" }] })).await;
    let (client, url) =
        (reqwest::Client::new(), format!("{}/v1/messages/batch", alpha.sim.base_url("alpha")));
    let tasks = tokio_util::task::TaskTracker::new();
    let call = tasks.spawn(async move { client.post(url).body("{}").send().await });
    eventually("the call is there", || alpha.counters().unavailable == 1).await;
    tokio::time::timeout(Duration::from_secs(20), alpha.sim.shutdown()).await.unwrap();
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn counts_mode_keeps_counters_and_deduplication_but_no_texts() {
    let mut scenario = crate::support::scenario(1, "solapi", json!({ "receipts": { "mode": "pull" } }));
    scenario.ledger = kite_relay_sim::LedgerMode::Counts;
    let alpha = Alpha::with(scenario).await;
    alpha.one(&reference(0, 1), ORDINARY).await;
    assert_eq!(alpha.one(&reference(0, 1), ORDINARY).await["duplicate"], json!(true));
    eventually("it is delivered", || alpha.counters().delivered == 1).await;
    assert_eq!(alpha.status_of(&reference(0, 1)).await["status"], "delivered");
    assert!(alpha.sim.ledger().all_entries().is_empty());
    assert_eq!((alpha.counters().handovers, alpha.counters().duplicates), (2, 1));
}

async fn delivered(alpha: &Alpha, reference: &str) {
    eventually("it is delivered", || {
        alpha
            .sim
            .ledger()
            .find("alpha", reference)
            .is_some_and(|entry| entry.status == EntryStatus::Delivered)
    })
    .await;
}

#[tokio::test]
async fn a_kept_answer_of_a_push_relay_is_flushed_before_a_shutdown() {
    let (alpha, callback) = crate::support::pushing(json!({ "flush_ms": 60_000 })).await;
    alpha.one(&reference(0, 1), ORDINARY).await;
    flush(&alpha).await;
    assert_eq!(callback.receipts_of(&reference(0, 1)).len(), 1);
    alpha.sim.shutdown().await;
}
