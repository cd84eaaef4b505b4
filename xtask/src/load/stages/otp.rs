//! One-time passwords: from the time at which the request was due until the message is at a relay, by the relay's own
//! record; on an idle system, beside a campaign at the rate that is offered to the whole path, and beside one that comes all at
//! once.

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

/// Passwords a second on an idle system, where each is alone on its way, and beside a campaign that comes steadily.
const PER_SECOND: f64 = 50.0;
/// Passwords a second beside a campaign that comes all at once: all of them have to be sent before it has ended.
const RUSH_PER_SECOND: f64 = 200.0;
/// Requests that may be in progress.
const CONNECTIONS: usize = 16;
/// Connections over which a campaign comes.
const CAMPAIGN_CONNECTIONS: usize = 4;
/// Recipients in one request of a campaign.
const CAMPAIGN_RECIPIENTS: u32 = 1_000;
/// The campaign's first number; not that of an earlier stage's bodies.
const CAMPAIGN_NUMBER: u32 = 1_000;
/// The first numbers of the passwords in each round.
const ROUNDS: [u32; 3] = [0, 1_000_000, 2_000_000];
/// Time that all messages may take to become final.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// How a campaign comes.
struct Campaign {
    requests: u32,
    /// The number of its first request.
    first: u32,
    recipients: u32,
    requests_per_second: f64,
}

pub(crate) async fn measure(plan: &Plan, platform: &Platform, report: &mut Report) -> anyhow::Result<()> {
    let [first_idle, first_steady, first_rush] = ROUNDS;
    let before = accepted_so_far(platform).await?;
    let target = platform.target();
    let idle = passwords(&target, plan.otps, first_idle, PER_SECOND).await?;
    platform.wait_until_final(before + idle.count()?.messages, PATIENCE).await?;
    let idle = latencies(platform, &idle, first_idle).await?;

    // As long as the passwords take.
    let seconds = f64::from(plan.otps) / PER_SECOND;
    let recipients = CAMPAIGN_RECIPIENTS.min(plan.messages_per_second);
    let requests_per_second = f64::from(plan.messages_per_second) / f64::from(recipients);
    let requests = (requests_per_second * seconds).ceil() as u32;
    let first_of_rush = CAMPAIGN_NUMBER + requests;
    let steady = Campaign { requests, first: CAMPAIGN_NUMBER, recipients, requests_per_second };
    let (steady, _) = beside(plan, platform, &steady, (first_steady, PER_SECOND)).await?;

    let requests = plan.campaign_messages.div_ceil(CAMPAIGN_RECIPIENTS);
    let recipients = plan.campaign_messages / requests;
    let rush = Campaign { requests, first: first_of_rush, recipients, requests_per_second: 1e6 };
    let (rush, open) = beside(plan, platform, &rush, (first_rush, RUSH_PER_SECOND)).await?;

    report.otp = Some(Otp {
        idle_p99_ms: milliseconds(&idle, 0.99),
        campaign_p99_ms: milliseconds(&steady, 0.99),
        rush_p99_ms: milliseconds(&rush, 0.99),
    });
    report.note("otp p50 ms on an idle system", milliseconds(&idle, 0.5));
    report.note("otp p50 ms beside a campaign at the offered rate", milliseconds(&steady, 0.5));
    report.note("otp p50 ms beside a campaign that comes at once", milliseconds(&rush, 0.5));
    report.note("messages of the latter still open when the last otp had been sent", open);
    Ok(())
}

/// The latencies of passwords beside a campaign, and how many messages were open when the last of them had been sent.
async fn beside(
    plan: &Plan,
    platform: &Platform,
    campaign: &Campaign,
    (first, per_second): (u32, f64),
) -> anyhow::Result<(Histogram<u64>, f64)> {
    let before = accepted_so_far(platform).await?;
    let target = platform.target();
    let bodies = (0..campaign.requests)
        .map(|number| bodies::bulk(Bulk::Advertisement, campaign.first + number, campaign.recipients))
        .collect();
    let pace =
        Pace::Open { per_second: campaign.requests_per_second, requests: u64::from(campaign.requests) };
    let (bulk, passwords, open) = tokio::join!(
        send(&target, pace, CAMPAIGN_CONNECTIONS, bodies),
        passwords(&target, plan.otps, first, per_second),
        open_after(platform, f64::from(plan.otps) / per_second),
    );
    let (bulk, passwords) = (bulk?.count()?.messages, passwords?);
    let wanted = u64::from(campaign.requests) * u64::from(campaign.recipients);
    ensure!(bulk == wanted, "the campaign was not accepted as a whole: {bulk} of {wanted}");
    platform.wait_until_final(before + bulk + passwords.count()?.messages, PATIENCE).await?;
    Ok((latencies(platform, &passwords, first).await?, open?))
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

/// How many messages are open after so many seconds.
async fn open_after(platform: &Platform, seconds: f64) -> anyhow::Result<f64> {
    tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_secs_f64(seconds)).await;
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
