//! Two thousand hostile callers, with room for fewer, beside two thousand messages a second: everything genuine is
//! answered, everything becomes final, the split is as asked. The stage fails if that is not so.

use std::time::Duration;

use anyhow::{Context, ensure};
use kite_testkit::hostile::{Conduct, Crowd};
use kite_testkit::metrics::metric_sum;
use kite_testkit::wait::wait_until;

use super::Plan;
use super::whole::{accepted_so_far, check_balance};
use crate::load::bodies::{self, Bulk};
use crate::load::generator::{Pace, Start, histogram_of, milliseconds, send};
use crate::load::measure::{Sampler, open_descriptors};
use crate::load::platform::{Platform, RELAYS, Roles};
use crate::load::report::{Hostile, Report};

/// Messages a second.
const MESSAGES_PER_SECOND: f64 = 2_000.0;
/// Recipients of a request over a connection that is kept.
const RECIPIENTS: u32 = 10;
/// Requests per second over a connection of their own: customers who come for the first time.
const NEWCOMERS_PER_SECOND: f64 = 20.0;
/// Connections that are kept.
const CONNECTIONS: usize = 16;
/// Addresses that those in bad faith come from.
const ADDRESSES: u8 = 40;
/// Different bodies; they are used over and over.
const BODIES: u32 = 64;
/// Kite has room for this many connections: not for all that come.
const ROOM_PER_CENT: usize = 60;
/// What Kite has open beside connections.
const OTHER_DESCRIPTORS: usize = 256;
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let room = plan.hostile_callers * ROOM_PER_CENT / 100;
    let settings = [("KITE_SERVER__CONNECTIONS_MAX", room.to_string())];
    let platform = Platform::start_with(plan, Roles::All, &settings).await?;
    let target = platform.target();
    let before = accepted_so_far(&platform).await?;
    let (relay, _) = RELAYS[0];
    let crowd = Crowd::start(target.addresses[0], relay, plan.hostile_callers, ADDRESSES, &Conduct::ALL);
    let all = plan.hostile_callers as u64;
    wait_until("all callers in bad faith to be there", PATIENCE, async || crowd.seen().connected() >= all)
        .await?;

    let sampler = Sampler::start(&platform);
    let bodies = (0..BODIES).map(|number| bodies::bulk(Bulk::Notice, number, RECIPIENTS)).collect();
    let per_second = (MESSAGES_PER_SECOND - NEWCOMERS_PER_SECOND) / f64::from(RECIPIENTS);
    let seconds = plan.hostile_seconds as f64;
    let pace = Pace::Open { per_second, requests: (per_second * seconds).ceil() as u64 };
    let start = Start::now();
    let (run, newcomers) = tokio::join!(send(&target, pace, CONNECTIONS, bodies), newcomers(plan, &platform));
    let (run, newcomers_us) = (run.context("a kept connection")?, newcomers.context("a newcomer")?);
    let count = run.count()?;
    ensure!(count.refused_requests == 0, "{} genuine requests were refused", count.refused_requests);
    let messages = count.messages + newcomers_us.len() as u64;
    platform.wait_until_final(before + messages, PATIENCE).await?;
    let elapsed = start.instant.elapsed();
    let descriptors = open_descriptors(platform.kite_process())?;
    ensure!(descriptors <= room + OTHER_DESCRIPTORS, "{descriptors} descriptors are open");
    let peaks = sampler.stop().await?;
    check_balance(&platform).await?;
    check_split(&platform, before + messages).await?;
    check_receipts(&platform).await?;

    let metrics = platform.metrics().read().await?;
    let closed = metric_sum(&metrics, "kite_http_connections_closed_total").unwrap_or(0.0);
    ensure!(closed > 0.0, "no connection was closed: the callers in bad faith did nothing");
    let seen = crowd.seen();
    report.hostile = Some(Hostile {
        messages_per_second: (messages as f64 / elapsed.as_secs_f64()).round(),
        p99_ms: milliseconds(&run.latencies()?, 0.99),
        newcomers_p99_ms: milliseconds(&histogram_of(newcomers_us)?, 0.99),
        rss_mb_max: (peaks.resident_bytes as f64 / 1e6).round(),
    });
    for (what, value) in [
        ("callers in bad faith", plan.hostile_callers as f64),
        ("room for connections", room as f64),
        ("descriptors open at the end", descriptors as f64),
        ("genuine messages", messages as f64),
        ("their connections that came about", seen.connected() as f64),
        ("their connections that did not", seen.not_connected() as f64),
        ("connections closed for standing still or for room", closed),
        ("connections refused", metric_sum(&metrics, "kite_http_connections_refused_total").unwrap_or(0.0)),
        ("bodies refused", metric_sum(&metrics, "kite_http_bodies_refused_total").unwrap_or(0.0)),
        ("their answers with 401", seen.unauthorized() as f64),
        ("their answers with 429", seen.throttled() as f64),
        ("their answers with 503", seen.unavailable() as f64),
    ] {
        report.note(what, value);
    }
    drop(crowd);
    platform.stop()
}

/// Each over a connection of its own; answers how long each took, connecting included, in microseconds.
async fn newcomers(plan: &Plan, platform: &Platform) -> anyhow::Result<Vec<u64>> {
    let start = Start::now();
    let requests = (NEWCOMERS_PER_SECOND * plan.hostile_seconds as f64) as u32;
    let mut took_us = Vec::new();
    for number in 0..requests {
        let intended = Duration::from_secs_f64(f64::from(number) / NEWCOMERS_PER_SECOND);
        tokio::time::sleep_until((start.instant + intended).into()).await;
        platform.post("/v1/sendings", bodies::single(number)).await?;
        took_us.push((start.instant.elapsed() - intended).as_micros() as u64);
    }
    Ok(took_us)
}

/// Each relay's first routes are within one message of its share of all.
async fn check_split(platform: &Platform, messages: u64) -> anyhow::Result<()> {
    let ours = platform.get("/v1/statistics?group_by=relay").await?;
    let rows = ours["rows"].as_array().context("statistics have rows")?;
    for (relay, weight) in RELAYS {
        let row = rows.iter().find(|row| row["relay"] == relay);
        let routed = row.and_then(|row| row["first_routed"].as_u64()).unwrap_or(0);
        let asked = messages as f64 * f64::from(weight) / 10_000.0;
        ensure!((routed as f64 - asked).abs() < 1.0, "relay {relay} got {routed} messages, not {asked}");
    }
    Ok(())
}

/// No push of genuine receipts failed.
async fn check_receipts(platform: &Platform) -> anyhow::Result<()> {
    let ledger = platform.get_from_relays("/ledger/summary").await?;
    for entry in ledger["relays"].as_array().into_iter().flatten() {
        ensure!(entry["push_failures"] == 0, "pushes of genuine receipts failed: {entry}");
        ensure!(entry["receipts_sent"].as_u64() > Some(0), "no receipts were pushed: {entry}");
    }
    Ok(())
}
