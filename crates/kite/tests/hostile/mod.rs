//! The real binary among callers in bad faith: more of them than it has room for, from many addresses. What is genuine
//! gets through, and the process keeps its descriptors. `cargo xtask load --only hostile` does the same at full size.

use anyhow::ensure;
use kite_testkit::dice::test_seed;
use kite_testkit::hostile::{Conduct, Crowd};
use kite_testkit::wait::wait_until;
use reqwest::{Client, StatusCode};
use std::time::Duration;

use crate::support::{House, Load};

/// Room for fewer than half of those who come, and times that pass within a test.
const SETTINGS: &str = "
[server]
connections_max = 120
connections_per_address_max = 40
headers_timeout_ms = 1000
answer_stall_timeout_ms = 2000
wrong_keys_per_address_max = 20
[api]
body_timeout_ms = 3000
body_stall_timeout_ms = 1000
unverified_bytes_in_flight_max = 4194304
";
/// Callers in bad faith, and the addresses that they come from.
const CALLERS: usize = 300;
const ADDRESSES: u8 = 20;
/// Fewer than there is room for, in all and of an address.
const FEW: usize = 40;
const FEW_ADDRESSES: u8 = 2;
/// What the process has open beside connections: files, timers, calls to relays.
const OTHER_DESCRIPTORS: usize = 200;
/// How often a newcomer comes until it is answered.
const ATTEMPTS_MAX: u32 = 5;
const MESSAGES: u64 = 400;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_in_bad_faith_hold_up_nobody() -> anyhow::Result<()> {
    let seed = test_seed()?;
    let house = House::build_as(seed, SETTINGS).await?;
    let crowd = Crowd::start(house.address(), "alpha", CALLERS, ADDRESSES, &Conduct::ALL);
    wait_until("the house to be full", PATIENCE, async || crowd.seen().connected() >= CALLERS as u64).await?;

    // A customer who keeps a connection, and relays that push receipts.
    let load = Load::start(&house, MESSAGES, seed)?;
    let accepted = load.finish(&house).await?;
    house.wait_until_final(&accepted).await?;
    // Customers who come for the first time.
    for number in 0..20 {
        let stranger = Client::builder().no_proxy().timeout(PATIENCE);
        let stranger = if number % 2 == 0 { stranger } else { stranger.http2_prior_knowledge() }.build()?;
        let status = knock(&stranger, &house).await?;
        ensure!(status.is_success(), "newcomer {number}: {status}");
    }
    let descriptors = house.descriptors()?;
    ensure!(descriptors <= 120 + OTHER_DESCRIPTORS, "{descriptors} descriptors are open");
    ensure!(house.metric("kite_http_connections_open").await? <= 120.0);
    is_counted(&house, "kite_http_connections_closed_total").await?;

    // While there are so many of them, each makes room before its time is over. With room for all, times tell.
    drop(crowd);
    let conducts = [Conduct::AnnouncedBody, Conduct::WrongKey];
    let crowd = Crowd::start(house.address(), "alpha", FEW, FEW_ADDRESSES, &conducts);
    is_counted(&house, "kite_http_bodies_refused_total").await?;
    wait_until("wrong keys to be throttled", PATIENCE, async || crowd.seen().throttled() > 0).await?;

    // Nothing of what they hold keeps the process from ending well, and the log and the relays agree.
    house.judge(&accepted, 0).await?;
    drop(crowd);
    Ok(())
}

async fn is_counted(house: &House, metric: &str) -> anyhow::Result<()> {
    wait_until(metric, PATIENCE, async || house.metric(metric).await.is_ok_and(|count| count > 0.0)).await
}

/// Whoever is slower than hundreds of others that come at the same time may have to come again, as they do.
async fn knock(stranger: &Client, house: &House) -> anyhow::Result<StatusCode> {
    let mut attempts = 1..=ATTEMPTS_MAX;
    loop {
        let answer = stranger.get(format!("http://{}/healthz", house.address())).send().await;
        match answer {
            Ok(answer) => return Ok(answer.status()),
            Err(error) if attempts.next().is_none() => return Err(error.into()),
            Err(_) => {}
        }
    }
}
