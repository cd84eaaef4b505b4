//! What the person at the terminal sees while messages are on their way.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kite_projections::{Dimension, ReadModels, StatisticsQuery, StatisticsRow, Totals};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::campaign::now;
use crate::cli::DemoOptions;

/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// After this long without any message becoming final, the rest is reported as open.
const STALLED_AFTER: Duration = Duration::from_secs(180);

/// The only wait of the demo.
#[expect(clippy::disallowed_methods, reason = "the demo looks again after a moment, and waits when told to")]
pub(super) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// What was seen.
pub(super) struct Watched {
    /// From the first request to the last final message.
    pub took: Duration,
    /// Messages that were final before the first request: those of an earlier run on the same data.
    pub final_before: u64,
}

/// Draws and waits.
pub(super) struct Progress {
    models: ReadModels,
    expected: u64,
    final_before: u64,
    bars: MultiProgress,
    total: ProgressBar,
    relays: BTreeMap<String, ProgressBar>,
    started: Instant,
}

impl Progress {
    /// Nothing drawn yet; what is final now was final before.
    pub(super) async fn start(options: &DemoOptions, models: ReadModels) -> anyhow::Result<Self> {
        let asked = models.clone();
        let (totals, _) = tokio::task::spawn_blocking(move || look(&asked)).await??;
        let final_before = totals.ended();
        let target = if options.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bars = MultiProgress::with_draw_target(target);
        let total = bars.add(ProgressBar::new(options.messages.into()));
        total.set_style(style("{msg:16} {wide_bar} {pos}/{len} final, {per_sec}"));
        total.set_message("messages");
        total.set_position(final_before);
        total.reset_eta();
        Ok(Self {
            models,
            expected: options.messages.into(),
            final_before,
            bars,
            total,
            relays: BTreeMap::new(),
            started: now(),
        })
    }

    /// Draws until every message is final.
    pub(super) async fn watch(mut self) -> anyhow::Result<Watched> {
        let mut finished = self.final_before;
        let mut moved_at = self.started;
        loop {
            let models = self.models.clone();
            let (totals, rows) = tokio::task::spawn_blocking(move || look(&models)).await??;
            let now_finished = totals.ended();
            self.draw(now_finished, &rows);
            if now_finished > finished {
                finished = now_finished;
                moved_at = now();
            }
            if finished >= self.expected && totals.counts.open == 0 {
                break;
            }
            if moved_at.elapsed() > STALLED_AFTER {
                break;
            }
            pause(LOOK_INTERVAL).await;
        }
        self.total.abandon();
        self.relays.values().for_each(ProgressBar::abandon);
        Ok(Watched { took: moved_at.duration_since(self.started), final_before: self.final_before })
    }

    fn draw(&mut self, finished: u64, rows: &[StatisticsRow]) {
        self.total.set_position(finished);
        for row in rows {
            let (Some(relay), Some(channel)) = (&row.relay, row.channel) else { continue };
            let name = format!("{relay} {channel}");
            let delivered = u64::try_from(row.counts.attempts_delivered).unwrap_or(0);
            let bar = self.relays.entry(name.clone()).or_insert_with(|| {
                let bar = self.bars.add(ProgressBar::new(0));
                bar.set_style(style("  {msg:14} {wide_bar} {pos}/{len} delivered, {per_sec}"));
                bar.set_message(name);
                // What came before this look says nothing about how fast it goes.
                bar.set_position(delivered);
                bar.reset_eta();
                bar
            });
            bar.set_length(u64::try_from(row.counts.attempts).unwrap_or(0));
            bar.set_position(delivered);
        }
    }
}

fn look(models: &ReadModels) -> anyhow::Result<(Totals, Vec<StatisticsRow>)> {
    let query = StatisticsQuery {
        group_by: vec![Dimension::Relay, Dimension::Channel],
        ..StatisticsQuery::default()
    };
    Ok((models.delivery.totals()?, models.delivery.statistics(&query)?))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant that a test run has seen")
}
