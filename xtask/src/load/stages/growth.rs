//! The cost of a message when more and more are stored: it should stay the same.

use super::Plan;
use super::whole::load;
use crate::load::measure::directory_bytes;
use crate::load::platform::Platform;
use crate::load::report::{Grown, Report};

/// The first look; each of the next is at ten times as many stored messages.
const FIRST_LOOK: u64 = 10_000;
/// Offered so many times the rate of the whole path, or filling would take too long.
const RATE: f64 = 3.0;

/// On a platform of its own, that has stored nothing yet.
pub(crate) async fn measure(plan: &Plan, platform: &Platform, report: &mut Report) -> anyhow::Result<()> {
    let per_second = f64::from(plan.messages_per_second) * RATE;
    let seconds = |messages: u64| messages as f64 / per_second;
    let mut stored = 0;
    let mut look_at = FIRST_LOOK;
    while look_at <= plan.stored_messages_max {
        let missing = look_at.saturating_sub(stored);
        stored += load(plan, platform, per_second, seconds(missing)).await?.messages;
        let bytes_before = directory_bytes(&platform.data())?;
        let look = load(plan, platform, per_second, seconds(plan.look_messages)).await?;
        let bytes = directory_bytes(&platform.data())?.saturating_sub(bytes_before);
        let messages = look.messages as f64;
        let grown = Grown {
            stored_messages: stored,
            messages_per_second: (messages / look.elapsed.as_secs_f64()).round(),
            cpu_us_per_message: look.kite_cpu_seconds * 1e6 / messages,
            written_bytes_per_message: (look.written_bytes as f64 / messages).round(),
            bytes_per_message: (bytes as f64 / messages).round(),
            rss_mb_max: (look.peaks.resident_bytes as f64 / 1e6).round(),
            projector_lag_ms_max: look.peaks.projector_lag_ms.round(),
        };
        eprintln!("{}", serde_json::to_string(&grown)?);
        report.growth.push(grown);
        stored += look.messages;
        look_at *= 10;
    }
    Ok(())
}
