//! The real binary under load, killed with -9 at random moments, held against what the relays believe they received.

mod support;

use kite_relay_sim::EntryStatus;
use std::collections::HashMap;
use std::time::Duration;
use support::{House, Load};

/// Messages to be accepted before the load stops.
const MESSAGES: u64 = 6_000;
/// How often the process is killed.
const KILLS: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_or_delivered_twice_over_kills() -> anyhow::Result<()> {
    let seed = support::seed();
    let mut house = House::build(seed).await?;
    let load = Load::start(&house, MESSAGES, seed)?;
    for kill in 1..=KILLS {
        // A random moment, drawn in messages: the machine's speed does not matter.
        let moment = MESSAGES * u64::from(kill) / u64::from(KILLS + 1) + seed.rotate_left(kill) % 200;
        load.wait_for_accepted(moment.min(MESSAGES - 1)).await?;
        house.kill_and_restart().await?;
    }
    let accepted = load.finish().await?;
    let messages = house.wait_until_final(&accepted, Duration::from_secs(180)).await?;

    // Nothing is lost: every message that got a 202 is there, and final.
    let total: u64 = accepted.values().sum();
    assert_eq!(messages.len() as u64, total, "seed {seed}: messages that exist and messages that got a 202");
    // Nobody was told twice, and the two sides agree on every message.
    let ledger = house.simulators.ledger();
    let mut delivered: HashMap<String, u32> = HashMap::new();
    for entry in ledger.all_entries() {
        assert!(
            messages.contains_key(&entry.message),
            "seed {seed}: relay {} got {}, which nobody sent",
            entry.relay,
            entry.message
        );
        assert!(
            entry.deliveries <= 1,
            "seed {seed}: {} was delivered {} times under one reference",
            entry.reference,
            entry.deliveries
        );
        if entry.status == EntryStatus::Delivered {
            *delivered.entry(entry.message).or_default() += 1;
        }
    }
    for (message, outcome) in &messages {
        let deliveries = delivered.get(message).copied().unwrap_or(0);
        assert!(deliveries <= 1, "seed {seed}: {message} was delivered {deliveries} times");
        assert_eq!(
            outcome == "delivered",
            deliveries == 1,
            "seed {seed}: {message} is {outcome}, delivered {deliveries} times"
        );
    }

    let data = house.terminate().await?;
    support::assert_split_is_exact(&data, seed)?;
    support::assert_replay_verifies(&data)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_drains_and_exits_with_0() -> anyhow::Result<()> {
    let house = House::build(1).await?;
    let load = Load::start(&house, 200, 1)?;
    load.finish().await?;
    house.interrupt().await?;
    Ok(())
}
