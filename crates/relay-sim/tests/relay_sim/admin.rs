//! Changing and looking into a running simulator.

use kite_relay_sim::EntryStatus;
use reqwest::Method;
use serde_json::json;

use crate::support::{Alpha, ORDINARY, eventually, reference};

#[tokio::test]
async fn behaviour_is_merged_and_a_bad_patch_changes_nothing() {
    let alpha = Alpha::start(json!({ "rate_parts_per_second": 500, "receipts": { "mode": "pull" } })).await;
    let patch = json!({ "refusals": { "3047": 1.0 }, "rate_parts_per_second": null });
    let (status, shown) = alpha.admin(Method::PUT, "/relays/alpha/behaviour", Some(patch)).await;
    assert_eq!(status, 200);
    assert_eq!((&shown["rate_parts_per_second"], &shown["receipts"]["mode"]), (&json!(null), &json!("pull")));
    assert_eq!(alpha.one(&reference(0, 1), ORDINARY).await["code"], "3047");

    for bad in
        [json!({ "refusals": { "1": 2.0 } }), json!({ "unknown": 1 }), json!({ "dedupe": "yes" }), json!([])]
    {
        let (status, _) = alpha.admin(Method::PUT, "/relays/alpha/behaviour", Some(bad)).await;
        assert_eq!(status, 422);
    }
    let (_, after) = alpha.admin(Method::GET, "/relays/alpha/behaviour", None).await;
    assert_eq!(shown, after);
    assert_eq!(alpha.admin(Method::PUT, "/relays/nobody/behaviour", Some(json!({}))).await.0, 404);
}

#[tokio::test]
async fn the_ledger_is_read_in_pages_and_by_prefix() {
    let alpha = Alpha::start(json!({ "receipts": { "mode": "pull" } })).await;
    for sequence in 0..5 {
        alpha.one(&reference(sequence, 1), if sequence == 3 { "01099990000" } else { ORDINARY }).await;
    }
    let mut after = json!(0);
    let mut references = Vec::new();
    while !after.is_null() {
        let (_, page) =
            alpha.admin(Method::GET, &format!("/ledger?relay=alpha&limit=2&after={after}"), None).await;
        references.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["reference"].clone()));
        after = page["next"].clone();
    }
    assert_eq!(references, (0..5).map(|n| json!(reference(n, 1))).collect::<Vec<_>>());

    let (_, arrivals) = alpha.admin(Method::GET, "/arrivals?relay=alpha&prefix=0109999", None).await;
    let arrivals = arrivals["arrivals"].as_array().unwrap();
    assert_eq!((arrivals.len(), &arrivals[0]["reference"]), (1, &json!(reference(3, 1))));
    assert!(arrivals[0]["arrived_at_us"].as_u64().unwrap() > 1_700_000_000_000_000);

    let (_, summary) = alpha.admin(Method::GET, "/ledger/summary", None).await;
    assert_eq!(
        (&summary["relays"][0]["id"], &summary["relays"][0]["handovers"]),
        (&json!("alpha"), &json!(5))
    );
}

#[tokio::test]
async fn a_reset_forgets_and_goes_back_to_the_scenario() {
    let alpha = Alpha::start(json!({ "receipts": { "mode": "pull" } })).await;
    alpha.sim.set_behaviour("alpha", &json!({ "refusals": { "3047": 1.0 } })).unwrap();
    alpha.one(&reference(0, 1), ORDINARY).await;
    assert_eq!(alpha.admin(Method::POST, "/reset", None).await.0, 204);
    assert_eq!(alpha.counters(), kite_relay_sim::Counters::default());
    assert_eq!(alpha.one(&reference(0, 1), ORDINARY).await["status"], "accepted");
}

#[tokio::test]
async fn outages_start_and_end_over_the_admin_endpoint() {
    let alpha = Alpha::start(json!({})).await;
    let outage =
        |seconds: f64| alpha.admin(Method::POST, "/relays/alpha/outage", Some(json!({ "seconds": seconds })));
    assert_eq!(outage(3_600.0).await.0, 204);
    assert_eq!(alpha.hand_over(&[(reference(0, 1), ORDINARY)]).await.unwrap().0, 503);
    assert_eq!(outage(-1.0).await.0, 422);
    assert_eq!(outage(0.0).await.0, 204);
    assert_eq!(alpha.hand_over(&[(reference(0, 1), ORDINARY)]).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_large_ledger_stays_whole_over_its_blocks() {
    let alpha = Alpha::start(json!({ "receipts": { "mode": "pull" } })).await;
    let total = 40_000;
    for start in (0..total).step_by(100) {
        let batch: Vec<(String, &str)> = (start..start + 100).map(|n| (reference(n, 1), ORDINARY)).collect();
        assert_eq!(alpha.hand_over(&batch).await.unwrap().0, 200);
    }
    eventually("all are delivered", || alpha.counters().delivered == total as u64).await;
    let entries = alpha.sim.ledger().all_entries();
    assert_eq!(entries.len(), total);
    for (position, entry) in entries.iter().enumerate() {
        assert_eq!((entry.index, &entry.reference), (position, &reference(position, 1)));
        assert_eq!((entry.status, entry.deliveries), (EntryStatus::Delivered, 1));
    }
    let found = alpha.sim.ledger().find("alpha", &reference(total - 1, 1)).unwrap();
    assert_eq!(found.index, total - 1);
}
