//! The table at the end, and the same as JSON.

use comfy_table::{CellAlignment, Table, presets};
use kite_domain::slug::TenantId;
use kite_projections::{Dimension, ReadModels, StatisticsQuery, StatisticsRow, Totals};
use serde_json::{Value, json};

use super::campaign::Sent;
use super::progress::Watched;

/// One relay on one channel.
struct RelayLine {
    relay: String,
    channel: String,
    weight_percent: Option<f64>,
    row: StatisticsRow,
}

/// What the demo came to.
pub(super) struct Report {
    totals: Totals,
    lines: Vec<RelayLine>,
    accepted: u64,
    accept_p99_ms: f64,
    seconds: f64,
    /// Final before this run.
    final_before: u64,
}

impl Report {
    /// Reads the read models.
    pub(super) fn read(
        models: &ReadModels,
        tenant: &TenantId,
        sent: &Sent,
        watched: &Watched,
    ) -> anyhow::Result<Self> {
        let query = StatisticsQuery {
            tenant: Some(tenant.clone()),
            group_by: vec![Dimension::Relay, Dimension::Channel],
            ..StatisticsQuery::default()
        };
        let policies = models.routing.policies(tenant)?;
        let mut lines: Vec<RelayLine> = Vec::new();
        for row in models.delivery.statistics(&query)? {
            let (Some(relay), Some(channel)) = (row.relay.clone(), row.channel) else { continue };
            let weight = policies.iter().find(|policy| policy.channel == channel).and_then(|policy| {
                match &policy.objective {
                    kite_domain::policy::PolicyObjective::Ratio { weights } => weights
                        .iter()
                        .find(|entry| entry.relay == relay)
                        .map(|entry| f64::from(entry.weight) / 100.0),
                    _ => None,
                }
            });
            lines.push(RelayLine {
                relay: relay.to_string(),
                channel: channel.to_string(),
                weight_percent: weight,
                row,
            });
        }
        lines.sort_by(|left, right| (&right.channel, &left.relay).cmp(&(&left.channel, &right.relay)));
        Ok(Self {
            totals: models.delivery.totals()?,
            lines,
            accepted: sent.accepted,
            accept_p99_ms: sent.acceptance_us.value_at_quantile(0.99) as f64 / 1_000.0,
            seconds: watched.took.as_secs_f64(),
            final_before: watched.final_before,
        })
    }

    /// Of the messages that became final in this run.
    fn messages_per_second(&self) -> f64 {
        rate(self.final_now(), self.seconds)
    }

    fn final_now(&self) -> u64 {
        self.totals.ended().saturating_sub(self.final_before)
    }

    /// How fast it went.
    fn speed(&self) -> String {
        let rate = format!(
            "{:.1} s, {:.0} messages a second from the first request to the last result",
            self.seconds,
            self.messages_per_second()
        );
        match (self.final_before, self.final_now()) {
            (0, _) => rate,
            (before, 0) => format!("all {before} were final before this run"),
            (before, now) => format!("{before} were final before this run; {now} in this run: {rate}"),
        }
    }

    /// One object.
    pub(super) fn json(&self) -> Value {
        let relays: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                let delivery = line.row.hand_over_to_delivery_ms;
                json!({
                    "relay": line.relay,
                    "channel": line.channel,
                    "weight": line.weight_percent,
                    "planned": line.row.counts.planned_messages(),
                    "routed": line.row.counts.first_routed,
                    "delivered": line.row.counts.attempts_delivered,
                    "failed": failed(&line.row),
                    "failed_over": line.row.counts.failovers,
                    "p50_ms": delivery.map(|times| times.p50_ms),
                    "p99_ms": delivery.map(|times| times.p99_ms),
                    "cost": line.row.counts.cost_milliwon as f64 / 1_000.0,
                })
            })
            .collect();
        json!({
            "accepted": self.accepted,
            "delivered": self.totals.counts.delivered,
            "undelivered": self.totals.counts.undelivered,
            "expired": self.totals.counts.expired,
            "open": self.totals.counts.open,
            "failed_over": self.totals.counts.failovers,
            "delivered_twice": self.totals.counts.delivered_twice,
            "seconds": self.seconds,
            "messages_per_second": self.messages_per_second(),
            "final_before": self.final_before,
            "accept_p99_ms": self.accept_p99_ms,
            "relays": relays,
        })
    }

    /// For a person.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
            "relay",
            "channel",
            "weight",
            "planned",
            "routed",
            "delivered",
            "failed",
            "failed over",
            "p50",
            "p99",
            "cost",
        ]);
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for line in &self.lines {
            let delivery = line.row.hand_over_to_delivery_ms;
            let ms = |value: Option<u64>| value.map_or("-".to_owned(), |ms| format!("{ms} ms"));
            table.add_row([
                line.relay.clone(),
                line.channel.clone(),
                line.weight_percent.map_or("-".to_owned(), |percent| format!("{percent} %")),
                format!("{:.1}", line.row.counts.planned_messages()),
                line.row.counts.first_routed.to_string(),
                line.row.counts.attempts_delivered.to_string(),
                failed(&line.row).to_string(),
                line.row.counts.failovers.to_string(),
                ms(delivery.map(|times| times.p50_ms)),
                ms(delivery.map(|times| times.p99_ms)),
                format!("{:.1} won", line.row.counts.cost_milliwon as f64 / 1_000.0),
            ]);
        }
        let totals = &self.totals.counts;
        format!(
            "{table}\n{} accepted: {} delivered, {} undelivered, {} expired, {} open; {} failed over, {} delivered twice; \
             {:.1} won\n{}; acceptance p99 {:.1} ms",
            self.accepted,
            totals.delivered,
            totals.undelivered,
            totals.expired,
            totals.open,
            totals.failovers,
            totals.delivered_twice,
            totals.cost_milliwon as f64 / 1_000.0,
            self.speed(),
            self.accept_p99_ms,
        )
    }
}

/// Messages a second; none at all took no time.
fn rate(messages: u64, seconds: f64) -> f64 {
    if messages == 0 { 0.0 } else { messages as f64 / seconds.max(0.001) }
}

fn failed(row: &StatisticsRow) -> i64 {
    let counts = &row.counts;
    counts.attempts_refused + counts.attempts_undelivered + counts.attempts_expired
}
