//! The whole path: accepted over HTTP, split, handed over, receipts taken, final in the read models; then the relays'
//! own counts are compared with ours.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use kite_testkit::wait::wait_for;
use serde::Deserialize;
use serde_json::Value;

use super::Plan;
use crate::load::bodies::{self, Bulk};
use crate::load::generator::{Pace, Run, Start, histogram_of, milliseconds, send};
use crate::load::measure::{Peaks, Sampler, cpu_seconds, directory_bytes, written_bytes};
use crate::load::platform::{Platform, RELAYS};
use crate::load::report::{Report, Whole, hundredths};
use crate::load::server;

/// Requests that may be in progress.
const CONNECTIONS: usize = 16;
/// Different bodies; they are used over and over.
const BODIES: u32 = 64;
/// Sendings of which every message is looked at afterwards.
const SENDINGS_LOOKED_AT: usize = 30;
/// Time that all messages may take to become final after the last was accepted.
const PATIENCE: Duration = Duration::from_secs(300);
/// Time that the counts may take to be the relays' once all messages are final.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);
/// Each step of the search offers so much more than the one before.
const STEP: f64 = 1.25;
/// A rate is kept up with if this is enough to finish after the load has ended, beside a twentieth of its duration:
/// the way of the last message, and the looks at whether it is there.
const FINISH: Duration = Duration::from_millis(1_500);

/// What came of one load.
pub(super) struct Loaded {
    run: Run,
    pub(super) messages: u64,
    refused_requests: u64,
    /// From the first request until everything was final.
    pub(super) elapsed: Duration,
    /// From the last answer until everything was final.
    finishing: Duration,
    pub(super) peaks: Peaks,
    pub(super) kite_cpu_seconds: f64,
    /// Written to the disk by Kite.
    pub(super) written_bytes: u64,
    /// By the names of its threads, or of its processes and the server of their work queue.
    parts_cpu_seconds: BTreeMap<String, f64>,
    relays_cpu_seconds: f64,
    generator_cpu_seconds: f64,
}

/// At the rate that was asked for.
pub(crate) async fn measure(plan: &Plan, platform: &Platform, report: &mut Report) -> anyhow::Result<()> {
    if let Some((server, _)) = platform.postgres() {
        server.forget_statements().await?;
    }
    let server_before = server::done(platform).await?;
    let loaded = load(plan, platform, f64::from(plan.messages_per_second), plan.whole_seconds as f64).await?;
    let server_after = server::done(platform).await?;
    ensure!(loaded.refused_requests == 0, "{} requests were refused as too many", loaded.refused_requests);
    check_balance(platform).await?;
    let latencies = histogram_of(ways_us(platform, &loaded.run).await?)?;
    let messages = loaded.messages as f64;
    report.whole = Some(Whole {
        messages_per_second: (messages / loaded.elapsed.as_secs_f64()).round(),
        p99_ms: milliseconds(&latencies, 0.99),
        projector_lag_ms_max: loaded.peaks.projector_lag_ms.round(),
        rss_mb_max: (loaded.peaks.resident_bytes as f64 / 1e6).round(),
        cpu_us_per_message: loaded.kite_cpu_seconds * 1e6 / messages,
        written_bytes_per_message: (loaded.written_bytes as f64 / messages).round(),
        cpu_us_per_message_by_thread: per_message(&loaded.parts_cpu_seconds, messages),
        bytes_per_message: (directory_bytes(&platform.data())? as f64 / messages).round(),
        server_per_message: server_after
            .zip(server_before)
            .map(|(after, before)| after.since(before, messages)),
    });
    if let Some((server, database)) = platform.postgres() {
        report.statements = server.costly_statements(database).await?;
        report.statements.iter_mut().for_each(|statement| statement.us /= messages);
    }
    report.note("offered to the whole path, messages a second", f64::from(plan.messages_per_second));
    report.note("messages on the whole path", messages);
    report.note("whole path p50 ms", milliseconds(&latencies, 0.5));
    report.note("seconds to finish after the last was accepted", loaded.finishing.as_secs_f64());
    report.note("request p99 ms under that load", milliseconds(&loaded.run.latencies()?, 0.99));
    report.note("CPU µs of relay-sim a message", loaded.relays_cpu_seconds * 1e6 / messages);
    report.note("CPU µs of the generator a message", loaded.generator_cpu_seconds * 1e6 / messages);
    Ok(())
}

/// Offers more and more until Kite no longer keeps up.
pub(crate) async fn search(plan: &Plan, platform: &Platform, report: &mut Report) -> anyhow::Result<()> {
    let mut rate = f64::from(plan.messages_per_second);
    let mut highest = None;
    for _ in 0..plan.search_steps_max {
        let loaded = load(plan, platform, rate, plan.search_seconds as f64).await?;
        let seconds = Duration::from_secs(plan.search_seconds);
        // A generator that has to wait for answers offers less than it means to: that is seen in the whole time.
        let keeps_up = loaded.refused_requests == 0 && loaded.elapsed <= FINISH + seconds + seconds / 20;
        eprintln!(
            "offered {rate:.0}/s: {:.0}/s final, {:.2} s after the last was accepted{}",
            loaded.messages as f64 / loaded.elapsed.as_secs_f64(),
            loaded.finishing.as_secs_f64(),
            if keeps_up { "" } else { ", too late" }
        );
        if !keeps_up {
            break;
        }
        highest = Some(rate);
        rate *= STEP;
    }
    check_balance(platform).await?;
    if let Some(highest) = highest {
        report.note(HIGHEST, highest.round());
    }
    Ok(())
}

/// The note that the search leaves.
pub(crate) const HIGHEST: &str = "highest rate kept up with, messages a second";

/// Offers messages at fixed times, and waits until all of them are final.
pub(super) async fn load(
    plan: &Plan,
    platform: &Platform,
    per_second: f64,
    seconds: f64,
) -> anyhow::Result<Loaded> {
    let bodies = (0..BODIES).map(|number| bodies::bulk(Bulk::Notice, number, plan.recipients)).collect();
    let requests_per_second = per_second / f64::from(plan.recipients);
    let requests = (requests_per_second * seconds).ceil() as u64;
    let before = accepted_so_far(platform).await?;
    let cpu = [platform.relays_process(), std::process::id()];
    let cpu_before = cpu.map(cpu_seconds);
    let written_before = written_bytes(platform.kite_process())?;
    let parts_before = platform.kite_cpu_seconds()?;
    let kite_before = platform.all_cpu_seconds()?;
    let sampler = Sampler::start(platform);

    let start = Start::now();
    let pace = Pace::Open { per_second: requests_per_second, requests };
    let run = send(&platform.target(), pace, CONNECTIONS, bodies).await?;
    let ended = Start::now();
    let count = run.count()?;
    platform.wait_until_final(before + count.messages, PATIENCE).await?;
    let (elapsed, finishing) = (start.instant.elapsed(), ended.instant.elapsed());

    let peaks = sampler.stop().await?;
    let mut used = [0.0; 2];
    for (at, before) in cpu_before.into_iter().enumerate() {
        used[at] = cpu_seconds(cpu[at])? - before?;
    }
    let mut parts = platform.kite_cpu_seconds()?;
    parts.iter_mut().for_each(|(name, used)| *used -= parts_before.get(name).copied().unwrap_or(0.0));
    Ok(Loaded {
        run,
        messages: count.messages,
        refused_requests: count.refused_requests,
        elapsed,
        finishing,
        peaks,
        kite_cpu_seconds: platform.all_cpu_seconds()? - kite_before,
        written_bytes: written_bytes(platform.kite_process())?.saturating_sub(written_before),
        parts_cpu_seconds: parts,
        relays_cpu_seconds: used[0],
        generator_cpu_seconds: used[1],
    })
}

/// In millionths of a second a message; threads that did next to nothing are left out.
fn per_message(cpu_seconds: &BTreeMap<String, f64>, messages: f64) -> BTreeMap<String, f64> {
    let per_message =
        cpu_seconds.iter().map(|(name, used)| (name.clone(), hundredths(used * 1e6 / messages)));
    per_message.filter(|(_, used)| *used >= 0.05).collect()
}

/// Messages that Kite has accepted since it started, as its read models say. To be asked when nothing is on its way.
pub(super) async fn accepted_so_far(platform: &Platform) -> anyhow::Result<u64> {
    Ok(platform.get("/v1/statistics").await?["rows"][0]["messages"].as_u64().unwrap_or(0))
}

/// How long each message of some sendings was on its way, from acceptance to its final state, in microseconds.
async fn ways_us(platform: &Platform, run: &Run) -> anyhow::Result<Vec<u64>> {
    let step = run.sent.len().div_ceil(SENDINGS_LOOKED_AT).max(1);
    let mut ways_us = Vec::new();
    for sent in run.sent.iter().step_by(step) {
        let Some(sending) = sent.accepted()? else { continue };
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/sendings/{}/messages?limit=200{cursor}", sending.id);
            let page: Page = serde_json::from_value(platform.get(&path).await?)?;
            for message in &page.items {
                let way = message.final_at - message.accepted_at;
                ways_us.push(way.num_microseconds().unwrap_or(0).max(0) as u64);
            }
            let Some(next) = page.next else { break };
            cursor = format!("&cursor={next}");
        }
    }
    Ok(ways_us)
}

/// A page of messages; every one has to be final.
#[derive(Deserialize)]
struct Page {
    items: Vec<FinalMessage>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct FinalMessage {
    accepted_at: DateTime<Utc>,
    final_at: DateTime<Utc>,
}

/// What each relay counted must be what we counted for it. A receipt may have ended a message before the answer to its hand-over
/// is recorded, so what differs is looked at again for a while.
pub(super) async fn check_balance(platform: &Platform) -> anyhow::Result<()> {
    let mut found = Ok(());
    let settled = wait_for("the counts to settle", SETTLES_WITHIN, async || {
        found = compare_balance(platform).await;
        found.is_ok().then_some(())
    });
    let _ = settled.await;
    found
}

async fn compare_balance(platform: &Platform) -> anyhow::Result<()> {
    let oracle = platform.get_from_relays("/ledger/summary").await?;
    let ours = platform.get("/v1/statistics?group_by=relay").await?;
    let rows = ours["rows"].as_array().context("statistics have rows")?;
    for (relay, _) in RELAYS {
        let theirs = oracle["relays"].as_array().into_iter().flatten().find(|entry| entry["id"] == relay);
        let theirs = theirs.with_context(|| format!("relay {relay} has no ledger"))?;
        let row = rows.iter().find(|row| row["relay"] == relay).unwrap_or(&Value::Null);
        for counter in ["accepted", "refused", "delivered", "undelivered"] {
            let their_count = theirs[counter].as_u64();
            let our_count = row[format!("attempts_{counter}")].as_u64().or(Some(0));
            ensure!(
                their_count == our_count,
                "relay {relay} counts {their_count:?} messages as {counter}, Kite counts {our_count:?}"
            );
        }
    }
    ensure!(oracle["delivered_more_than_once"] == 0, "messages were delivered more than once: {oracle}");
    Ok(())
}
