//! The real binary under load: killed with -9 at random moments, on a disk that is full, with a file that is damaged, among
//! callers in bad faith.
//! Held against what the relays believe they received.
//!
//! Every run draws its own seed and shows it when it fails; `KITE_TEST_SEED` repeats it. The seed decides what is sent, what
//! the relays do and after how many messages the process is killed; where it is then in its work, no seed can tell.

mod hostile;
mod postgres;
mod support;

use anyhow::{Context, ensure};
use kite_testkit::customer::FROM_PHONE;
use kite_testkit::dice::{Dice, test_seed};
use kite_testkit::operator::{self, Place};
use kite_testkit::oracle::Oracle;
use serde_json::{Value, json};
use std::future::Future;
use std::time::Duration;
use support::{Accepted, House, Load, Room};

/// Messages to be accepted before the load stops.
const MESSAGES: u64 = 6_000;
/// How often the process is killed while messages come in, and while those that came in become final.
const KILLS_UNDER_LOAD: u64 = 4;
const KILLS_AFTER_LOAD: u64 = 3;

/// Runs a test with the seed of this run, and shows the seed if it fails.
async fn with_seed<F: Future<Output = anyhow::Result<()>>>(
    test: impl FnOnce(u64) -> F,
) -> anyhow::Result<()> {
    let seed = test_seed()?;
    test(seed).await.with_context(|| format!("KITE_TEST_SEED={seed} repeats this"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_or_delivered_twice_over_kills() -> anyhow::Result<()> {
    with_seed(async |seed| {
        let mut house = House::build(seed).await?;
        let mut load = Load::start(&house, MESSAGES, seed)?;
        let mut dice = Dice::new(!seed);
        // Moments are drawn in messages: the machine's speed does not matter.
        let mut moments = |kills| {
            let mut moments: Vec<u64> = (0..kills).map(|_| dice.between(1, MESSAGES - 1)).collect();
            moments.sort_unstable();
            moments
        };
        for moment in moments(KILLS_UNDER_LOAD) {
            load = load.wait_for_accepted(&house, moment).await?;
            house.kill_and_restart().await?;
        }
        let accepted = load.finish(&house).await?;
        let mut kills_with_work = 0;
        for moment in moments(KILLS_AFTER_LOAD).into_iter().rev() {
            kills_with_work += u64::from(house.wait_for_open(moment).await? > 0);
            house.kill_and_restart().await?;
        }
        ensure!(kills_with_work > 0, "nothing was open at any of the kills after the load");
        house.judge(&accepted, KILLS_UNDER_LOAD + KILLS_AFTER_LOAD).await?;
        Ok(())
    })
    .await
}

/// Advertisements that wait for the end of the night, in a process that is killed while they do. Nothing of law 9 is in
/// memory only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advertisements_wait_for_the_morning_over_kills() -> anyhow::Result<()> {
    with_seed(async |seed| {
        let mut house = House::build(seed).await?;
        let mut oracle = Oracle::default();
        let mut accepted = Accepted::default();
        let mut number = 0;
        // On a slow machine a short night is over before anything was sent: then a longer one.
        for seconds in [6, 12, 24, 48] {
            let night = house.begin_night(seconds).await?;
            oracle.night(support::now(), night.until);
            for night_consent in [false, true] {
                let body = advertisement(number, night_consent);
                accepted.add(house.send(&body, ADVERTISEMENTS).await?)?;
                number += ADVERTISEMENTS;
            }
            if support::now() < night.until - chrono::TimeDelta::seconds(seconds / 2) {
                break;
            }
        }
        house.kill_and_restart().await?;
        house.wait_for_event("messages-held").await?;
        house.kill_and_restart().await?;
        let verdict = house.judge_with(oracle, &accepted, 2).await?;
        ensure!(verdict.held > 0, "no advertisement was held");
        Ok(())
    })
    .await
}

/// Recipients of one advertisement.
const ADVERTISEMENTS: u64 = 30;

fn advertisement(first: u64, night_consent: bool) -> Value {
    let recipients = first..first + ADVERTISEMENTS;
    json!({
        "class": "ad", "from": FROM_PHONE, "text": "today only",
        "ad": { "window": "hold", "night_consent": night_consent, "mark_automatically": true },
        "recipients": recipients.map(|number| json!({ "to": format!("0102{number:07}") })).collect::<Vec<_>>(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_drains_and_exits_with_0() -> anyhow::Result<()> {
    with_seed(async |seed| {
        let house = House::build(seed).await?;
        Load::start(&house, 200, seed)?.finish(&house).await?;
        house.wait_for_event("messages-submitted").await?;
        let (handed_over, unanswered) = house.interrupt().await?.unanswered();
        ensure!(handed_over > 0, "nothing was handed over");
        ensure!(unanswered == 0, "{unanswered} of {handed_over} hand-overs are without an answer in the log");
        Ok(())
    })
    .await
}

/// A write fails for real, under load: the process says so and ends, and what it had answered with 202 is there when
/// it is started with more room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_process_and_loses_nothing() -> anyhow::Result<()> {
    with_seed(a_full_disk).await
}

async fn a_full_disk(seed: u64) -> anyhow::Result<()> {
    let mut house = House::build_with(seed, Room::Blocks(8_000)).await?;
    let load = Load::start(&house, MESSAGES, seed)?;
    let log = house.wait_for_failure(Duration::from_secs(120))?;
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("kite: ") && last.contains("failed: "), "the last word is the reason:\n{log}");
    let load = load.wait_for_accepted(&house, 1).await?;

    house.restart().await?;
    let accepted = load.finish(&house).await?;
    house.judge(&accepted, 1).await?;
    Ok(())
}

/// The file of a read model is not what it was: the process names it and what to do, and does not start on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_read_model_is_named_and_can_be_rebuilt() -> anyhow::Result<()> {
    let mut house = House::build(7).await?;
    let accepted = Load::start(&house, 200, 7)?.finish(&house).await?;
    house.wait_until_final(&accepted).await?;
    let before = house.ends(&accepted).await?;
    house.stop()?;
    std::fs::write(house.data_dir().join("delivery.db"), "something else ".repeat(1_000))?;

    house.start()?;
    let log = house.wait_for_failure(Duration::from_secs(60))?;
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("kite: ") && last.contains("read model delivery is damaged: rebuild it"),
        "{log}"
    );

    operator::rebuild(support::kite(), &Place::Data(house.data_dir()))?;
    house.restart().await?;
    house.wait_until_final(&accepted).await?;
    assert_eq!(house.ends(&accepted).await?, before);
    let data = house.terminate().await?;
    support::assert_replay_verifies(&data)?;
    Ok(())
}
