//! What happens to a message depends on seed, relay, recipient and attempt alone.

use std::collections::BTreeMap;
use std::time::Duration;

use kite_relay_sim::LedgerEntry;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Alpha, SENDING, scenario};

type Outcomes = BTreeMap<String, (String, String, String, u16)>;

/// Hands messages over in the order and batches given, lets all happen, and returns what became of each.
async fn run(seed: u64, batches: &[Vec<(String, String)>]) -> Outcomes {
    let behaviour = json!({
        "refusals": { "3032": 0.2, "1062": 0.1 },
        "undelivered": { "3043": 0.2, "3056": 0.1 },
        "delivery_ms": { "p50": 40, "spread": 8 },
        "receipts": { "mode": "pull", "never": 0.1, "twice": 0.2, "foreign": 0.1 },
    });
    let alpha = Alpha::with(scenario(seed, "solapi", behaviour)).await;
    for batch in batches {
        let messages: Vec<(String, &str)> =
            batch.iter().map(|(reference, to)| (reference.clone(), to.as_str())).collect();
        assert_eq!(alpha.hand_over(&messages).await.unwrap().0, 200);
    }
    alpha.sim.flush_receipts(Duration::from_millis(50)).await;
    let (_, pulled) = alpha.post("/v1/receipts/pull", &json!({ "limit": 500 })).await.unwrap();
    let reports = |entry: &LedgerEntry| {
        let receipts = pulled["receipts"].as_array().unwrap();
        receipts.iter().filter(|receipt| receipt["reference"] == entry.reference).count()
    };
    let outcome = |entry: LedgerEntry| {
        let reported = reports(&entry).to_string();
        (entry.reference, (format!("{:?}", entry.status), entry.code, reported, entry.deliveries))
    };
    alpha.sim.ledger().all_entries().into_iter().map(outcome).collect()
}

fn messages() -> impl Strategy<Value = Vec<(String, String)>> {
    let message = (0_u32..100_000, 1_u32..4);
    prop::collection::vec(message, 1..40).prop_map(|drawn| {
        let message = |(position, (number, attempt)): (usize, (u32, u32))| {
            (format!("{SENDING}-{position}-{attempt}"), format!("010555{number:05}"))
        };
        drawn.into_iter().enumerate().map(message).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn order_and_batching_change_nothing(
        (messages, shuffled) in messages().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        cut in 1_usize..20,
        seed in 0_u64..1_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let whole = runtime.block_on(run(seed, &[messages]));
        let batches: Vec<Vec<(String, String)>> = shuffled.chunks(cut).map(<[_]>::to_vec).collect();
        let pieces = runtime.block_on(run(seed, &batches));
        prop_assert_eq!(whole, pieces);
    }
}

#[tokio::test]
async fn another_seed_gives_another_run_and_shares_are_met() {
    let messages: Vec<(String, String)> =
        (0..1_000).map(|n| (format!("{SENDING}-{n}-1"), format!("010555{n:05}"))).collect();
    let batches: Vec<Vec<(String, String)>> = messages.chunks(100).map(<[_]>::to_vec).collect();
    let (first, second) = (run(1, &batches).await, run(2, &batches).await);
    assert_ne!(first, second);
    let refused = first.values().filter(|outcome| outcome.0 == "Refused").count();
    assert!((250..=350).contains(&refused), "30 % of 1000 are about 300, not {refused}");
    let undelivered = first.values().filter(|outcome| outcome.0 == "Undelivered").count();
    assert!((160..=260).contains(&undelivered), "30 % of 700 are about 210, not {undelivered}");
}

#[tokio::test]
async fn the_attempt_is_part_of_the_draw() {
    let batches: Vec<Vec<(String, String)>> = (1..=3)
        .map(|attempt| {
            (0..100).map(|n| (format!("{SENDING}-{n}-{attempt}"), format!("010555{n:05}"))).collect()
        })
        .collect();
    let outcomes = run(1, &batches).await;
    let of = |n: usize, attempt: usize| &outcomes[&format!("{SENDING}-{n}-{attempt}")].0;
    assert!((0..100).any(|n| of(n, 1) != of(n, 2)), "a second attempt must be able to fare differently");
}
