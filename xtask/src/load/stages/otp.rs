//! One-time passwords: from the time at which the request was due until the message is at a relay, by the relay's own
//! record; on an idle system, and beside a campaign.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use kite_testkit::metrics::metric_max;
use serde::Deserialize;

use super::Plan;
use super::whole::accepted_so_far;
use crate::load::bodies::{self, Bulk, OTP_PREFIX, otp_recipient};
use crate::load::generator::{Pace, Run, Sent, Target, histogram_of, milliseconds, send};
use crate::load::platform::{Platform, RELAYS};
use crate::load::report::{Otp, Report};

/// Passwords a second on an idle system: each is alone on its way.
const IDLE_PER_SECOND: f64 = 50.0;
/// Passwords a second beside the campaign: all of them have to be sent before it has ended.
const CAMPAIGN_PER_SECOND: f64 = 200.0;
/// Requests that may be in progress.
const CONNECTIONS: usize = 16;
/// Recipients in one request of the campaign.
const CAMPAIGN_RECIPIENTS: u32 = 1_000;
/// The campaign's first number; not that of an earlier stage's bodies.
const CAMPAIGN_NUMBER: u32 = 1_000;
/// The first number of the passwords beside the campaign.
const SECOND_ROUND: u32 = 1_000_000;
/// Time that all messages may take to become final.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) async fn measure(plan: &Plan, platform: &Platform, report: &mut Report) -> anyhow::Result<()> {
    let before = accepted_so_far(platform).await?;
    let target = platform.target();
    let idle = passwords(&target, plan.otps, 0, IDLE_PER_SECOND).await?;
    let before = before + idle.count()?.messages;
    platform.wait_until_final(before, PATIENCE).await?;
    let idle = latencies(platform, &idle, 0).await?;

    let requests = plan.campaign_messages.div_ceil(CAMPAIGN_RECIPIENTS);
    let per_request = plan.campaign_messages / requests;
    let campaign = (0..requests)
        .map(|number| bodies::bulk(Bulk::Advertisement, CAMPAIGN_NUMBER + number, per_request))
        .collect();
    let at_once = Pace::Open { per_second: 1e6, requests: u64::from(requests) };
    let (campaign, beside, open) = tokio::join!(
        send(&target, at_once, 4, campaign),
        passwords(&target, plan.otps, SECOND_ROUND, CAMPAIGN_PER_SECOND),
        open_when_done(plan, platform),
    );
    let (campaign, beside) = (campaign?, beside?);
    let messages = campaign.count()?.messages + beside.count()?.messages;
    ensure!(
        messages >= u64::from(plan.campaign_messages),
        "the campaign was not accepted as a whole: {messages}"
    );
    platform.wait_until_final(before + messages, PATIENCE).await?;
    let beside = latencies(platform, &beside, SECOND_ROUND).await?;

    report.otp =
        Some(Otp { idle_p99_ms: milliseconds(&idle, 0.99), campaign_p99_ms: milliseconds(&beside, 0.99) });
    report.note("otp p50 ms on an idle system", milliseconds(&idle, 0.5));
    report.note("otp p50 ms beside the campaign", milliseconds(&beside, 0.5));
    report.note("messages still open when the last otp had been sent", open?);
    Ok(())
}

/// So many passwords, the first of this number.
pub(super) async fn passwords(
    target: &Target,
    count: u32,
    first: u32,
    per_second: f64,
) -> anyhow::Result<Run> {
    let bodies = (0..count).map(|number| bodies::otp(first + number)).collect();
    let pace = Pace::Open { per_second, requests: u64::from(count) };
    let run = send(target, pace, CONNECTIONS, bodies).await?;
    ensure!(run.count()?.messages == u64::from(count), "not every one-time password was accepted");
    Ok(run)
}

/// How many messages were open at about the time at which the last password was sent: shows that the campaign still ran.
async fn open_when_done(plan: &Plan, platform: &Platform) -> anyhow::Result<f64> {
    let duration = Duration::from_secs_f64(f64::from(plan.otps) / CAMPAIGN_PER_SECOND);
    tokio::time::sleep_until(tokio::time::Instant::now() + duration).await;
    metric_max(&platform.metrics().read().await?, "kite_open_messages")
        .context("no kite_open_messages in /metrics")
}

/// A hand-over that a relay recorded.
#[derive(Deserialize)]
struct Arrival {
    recipient: String,
    arrived_at_us: u64,
}

#[derive(Deserialize)]
struct Arrivals {
    arrivals: Vec<Arrival>,
    next: Option<usize>,
}

/// A password that has arrived.
pub(super) struct Way {
    /// When its request was due, in microseconds since 1970.
    pub(super) intended_us: u64,
    /// How long after that it was at a relay.
    pub(super) took_us: u64,
}

/// From the intended time of each request to the arrival of its message.
pub(super) async fn latencies(platform: &Platform, run: &Run, first: u32) -> anyhow::Result<Histogram<u64>> {
    histogram_of(ways(platform, run, first).await?.into_iter().map(|way| way.took_us))
}

/// The way of each of them. Every one has to have arrived.
pub(super) async fn ways(platform: &Platform, run: &Run, first: u32) -> anyhow::Result<Vec<Way>> {
    let mut arrived_us = HashMap::new();
    for (relay, _) in RELAYS {
        let mut after = Some(0);
        while let Some(position) = after {
            let path = format!("/arrivals?relay={relay}&prefix={OTP_PREFIX}&after={position}");
            let page: Arrivals = serde_json::from_value(platform.get_from_relays(&path).await?)?;
            arrived_us
                .extend(page.arrivals.into_iter().map(|arrival| (arrival.recipient, arrival.arrived_at_us)));
            after = page.next;
        }
    }
    let way = |sent: &Sent| {
        let recipient = otp_recipient(first + sent.number as u32);
        let arrived_us = arrived_us.get(&recipient).with_context(|| format!("{recipient} is at no relay"))?;
        Ok(Way { intended_us: sent.intended_us, took_us: arrived_us.saturating_sub(sent.intended_us) })
    };
    run.sent.iter().map(way).collect()
}
