//! The figures: as JSON for programs, as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::server::{CostlyStatement, Done};
use super::stages::whole::HIGHEST;

/// Of a statement so much is shown.
const STATEMENT_CHARACTERS: usize = 60;

/// Everything that was measured. What was not is absent.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    /// A plain file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<Events>,
    /// The event store alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<Events>,
    /// Acceptance in bulk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) accept_bulk: Option<Stage>,
    /// Acceptance of single requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) accept_single: Option<Stage>,
    /// The whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) whole: Option<Whole>,
    /// The cost of a message when more and more are stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) growth: Vec<Grown>,
    /// One-time passwords.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) otp: Option<Otp>,
    /// Beside hostile callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostile: Option<Hostile>,
    /// Each stage's part of Kite's CPU time on the whole path; for people.
    #[serde(skip)]
    pub(crate) stages: Vec<(&'static str, f64)>,
    /// The server's statements that took longest, with their time for each message on the whole path; for people.
    #[serde(skip)]
    pub(crate) statements: Vec<CostlyStatement>,
    /// Figures divided by each other: these hold from machine to machine, the figures themselves do not.
    ratios: BTreeMap<&'static str, f64>,
    /// What explains the figures, for people.
    #[serde(skip)]
    notes: Vec<(String, f64)>,
}

/// A stage that writes events.
#[derive(Serialize)]
pub(crate) struct Events {
    /// Events made durable a second.
    pub(crate) events_per_second: f64,
}

/// A stage that accepts messages.
#[derive(Serialize)]
pub(crate) struct Stage {
    /// Messages a second.
    pub(crate) messages_per_second: f64,
    /// 99th percentile of the requests' latency.
    #[serde(serialize_with = "rounded")]
    pub(crate) p99_ms: f64,
}

/// The whole path.
#[derive(Serialize)]
pub(crate) struct Whole {
    /// Messages accepted and final a second, from the first request until the last was final.
    pub(crate) messages_per_second: f64,
    /// 99th percentile of the time from acceptance to the final state.
    #[serde(serialize_with = "rounded")]
    pub(crate) p99_ms: f64,
    /// How far the slowest read model was behind, at the worst moment.
    pub(crate) projector_lag_ms_max: f64,
    /// Memory that Kite had resident, at the worst moment; millions of bytes.
    pub(crate) rss_mb_max: f64,
    /// CPU time of Kite.
    #[serde(serialize_with = "rounded")]
    pub(crate) cpu_us_per_message: f64,
    /// Written to the disk, all copies counted: write-ahead logs, pages that are written again.
    pub(crate) written_bytes_per_message: f64,
    /// CPU time by the names of Kite's threads.
    pub(crate) cpu_us_per_message_by_thread: BTreeMap<String, f64>,
    /// Disk: the log and all read models, as far as they are in files.
    pub(crate) bytes_per_message: f64,
    /// What the PostgreSQL server did for each message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_per_message: Option<Done>,
}

/// What a message costs when so many are stored.
#[derive(Serialize)]
pub(crate) struct Grown {
    /// Before the look.
    pub(crate) stored_messages: u64,
    /// Accepted and final a second, during the look.
    pub(crate) messages_per_second: f64,
    /// CPU time of Kite.
    #[serde(serialize_with = "rounded")]
    pub(crate) cpu_us_per_message: f64,
    /// Written to the disk, all copies counted.
    pub(crate) written_bytes_per_message: f64,
    /// By which the log and all read models grew.
    pub(crate) bytes_per_message: f64,
    /// Memory that Kite had resident, at the worst moment; millions of bytes.
    pub(crate) rss_mb_max: f64,
    /// How far the slowest read model was behind, at the worst moment.
    pub(crate) projector_lag_ms_max: f64,
}

/// One-time passwords, from the request to the relay.
#[derive(Serialize)]
pub(crate) struct Otp {
    /// 99th percentile with nothing else to do.
    #[serde(serialize_with = "rounded")]
    pub(crate) idle_p99_ms: f64,
    /// 99th percentile beside a campaign at the rate that is offered to the whole path.
    #[serde(serialize_with = "rounded")]
    pub(crate) campaign_p99_ms: f64,
    /// 99th percentile beside a campaign that comes all at once.
    #[serde(serialize_with = "rounded")]
    pub(crate) rush_p99_ms: f64,
}

/// What genuine callers get beside the hostile ones.
#[derive(Serialize)]
pub(crate) struct Hostile {
    /// Messages accepted and final a second.
    pub(crate) messages_per_second: f64,
    /// 99th percentile of requests over connections that are kept.
    #[serde(serialize_with = "rounded")]
    pub(crate) p99_ms: f64,
    /// 99th percentile of requests over new connections, connecting included.
    #[serde(serialize_with = "rounded")]
    pub(crate) newcomers_p99_ms: f64,
    /// Memory that Kite had resident, at the worst moment; millions of bytes.
    pub(crate) rss_mb_max: f64,
}

pub(crate) fn rounded<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(hundredths(*value))
}

pub(crate) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl Report {
    /// Adds something that explains the figures.
    pub(crate) fn note(&mut self, what: impl Into<String>, value: f64) {
        self.notes.push((what.into(), value));
    }

    /// Divides the figures that there are by each other.
    pub(crate) fn divide(&mut self) {
        let of = |name: &str| self.notes.iter().find(|(what, _)| *what == name).map(|(_, value)| *value);
        let file = self.file.as_ref().map(|stage| stage.events_per_second);
        let store = self.store.as_ref().map(|stage| stage.events_per_second);
        let bulk = self.accept_bulk.as_ref().map(|stage| stage.messages_per_second);
        let whole = self.whole.as_ref().map(|stage| stage.messages_per_second);
        let idle = self.otp.as_ref().map(|otp| otp.idle_p99_ms);
        let campaign = self.otp.as_ref().map(|otp| otp.campaign_p99_ms);
        for (name, upper, lower) in [
            ("store_to_file", store, file),
            ("accept_bulk_to_store", bulk, store),
            ("whole_to_accept_bulk", whole, bulk),
            ("whole_to_store", whole, store),
            ("whole_highest_to_whole", of(HIGHEST), whole),
            ("otp_campaign_to_idle", campaign, idle),
        ] {
            if let (Some(upper), Some(lower)) = (upper, lower)
                && lower > 0.0
            {
                self.ratios.insert(name, (upper / lower * 1_000.0).round() / 1_000.0);
            }
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut rows = Vec::new();
        let mut row = |what: &str, value: f64| rows.push((what.to_owned(), hundredths(value)));
        for (what, stage) in [("plain file, events/s", &self.file), ("event store, events/s", &self.store)] {
            if let Some(stage) = stage {
                row(what, stage.events_per_second);
            }
        }
        for (what, stage) in [("bulk", &self.accept_bulk), ("single", &self.accept_single)] {
            if let Some(stage) = stage {
                row(&format!("acceptance, {what}, messages/s"), stage.messages_per_second);
                row(&format!("acceptance, {what}, p99 ms"), stage.p99_ms);
            }
        }
        if let Some(whole) = &self.whole {
            row("whole path, messages/s", whole.messages_per_second);
            row("whole path, p99 ms", whole.p99_ms);
            row("whole path, projector lag at most, ms", whole.projector_lag_ms_max);
            row("whole path, memory at most, MB", whole.rss_mb_max);
            row("whole path, CPU µs a message", whole.cpu_us_per_message);
            row("whole path, disk bytes a message", whole.bytes_per_message);
            row("whole path, bytes written a message", whole.written_bytes_per_message);
        }
        if let Some(whole) = &self.whole {
            for (thread, used) in &whole.cpu_us_per_message_by_thread {
                row(&format!("  CPU µs a message, threads {thread}"), *used);
            }
            if let Some(server) = &whole.server_per_message {
                row("  server, CPU µs a message", server.cpu_us);
                row("  server, bytes written ahead a message", server.wal_bytes);
                row("  server, bytes of tables and indexes a message", server.database_bytes);
                row("  server, transactions a thousand messages", server.transactions * 1e3);
                row("  server, statements a thousand messages", server.statements * 1e3);
                row(
                    "  appends and round trips for read models a thousand messages",
                    server.round_trips * 1e3,
                );
            }
            for statement in &self.statements {
                row(&format!("  server, µs a message: {}", beginning(&statement.sql)), statement.us);
            }
            for (stage, share) in &self.stages {
                row(&format!("  CPU µs a message, {stage}"), share * whole.cpu_us_per_message);
            }
        }
        for grown in &self.growth {
            let stored = grown.stored_messages;
            row(&format!("with {stored} stored, CPU µs a message"), grown.cpu_us_per_message);
            row(&format!("with {stored} stored, disk bytes a message"), grown.bytes_per_message);
            row(&format!("with {stored} stored, bytes written a message"), grown.written_bytes_per_message);
            row(&format!("with {stored} stored, memory at most, MB"), grown.rss_mb_max);
        }
        if let Some(otp) = &self.otp {
            row("otp at the relay, idle, p99 ms", otp.idle_p99_ms);
            row("otp at the relay, beside a campaign at the offered rate, p99 ms", otp.campaign_p99_ms);
            row("otp at the relay, beside a campaign that comes at once, p99 ms", otp.rush_p99_ms);
        }
        if let Some(hostile) = &self.hostile {
            row("beside callers in bad faith, messages/s", hostile.messages_per_second);
            row("beside callers in bad faith, p99 ms", hostile.p99_ms);
            row("beside callers in bad faith, newcomers, p99 ms", hostile.newcomers_p99_ms);
            row("beside callers in bad faith, memory at most, MB", hostile.rss_mb_max);
        }
        for (what, value) in &self.notes {
            row(&format!("  {what}"), *value);
        }
        for (name, value) in &self.ratios {
            rows.push((format!("ratio {name}"), *value));
        }
        let width = rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        let mut table = String::new();
        for (what, value) in rows {
            let _ = writeln!(table, "{what:<width$}  {value:>14}");
        }
        table
    }
}

/// What a statement begins with, on one line.
fn beginning(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    words.join(" ").chars().take(STATEMENT_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_keys_that_others_read() {
        let mut report = Report {
            file: Some(Events { events_per_second: 400_000.0 }),
            store: Some(Events { events_per_second: 100_000.0 }),
            accept_bulk: Some(Stage { messages_per_second: 60_000.0, p99_ms: 12.3456 }),
            accept_single: Some(Stage { messages_per_second: 1_000.0, p99_ms: 5.0 }),
            whole: Some(Whole {
                messages_per_second: 12_000.0,
                p99_ms: 300.0,
                projector_lag_ms_max: 200.0,
                rss_mb_max: 300.0,
                cpu_us_per_message: 80.0,
                cpu_us_per_message_by_thread: BTreeMap::from([("kite".to_owned(), 60.0)]),
                written_bytes_per_message: 2_000.0,
                bytes_per_message: 900.0,
                server_per_message: None,
            }),
            otp: Some(Otp { idle_p99_ms: 10.0, campaign_p99_ms: 50.0, rush_p99_ms: 80.0 }),
            ..Report::default()
        };
        report.note("not for programs", 1.0);
        report.divide();
        let json = serde_json::to_value(&report).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["accept_bulk", "accept_single", "file", "otp", "ratios", "store", "whole"]);
        assert_eq!(json["accept_bulk"]["p99_ms"], 12.35);
        assert_eq!(json["ratios"]["store_to_file"], 0.25);
        assert_eq!(json["ratios"]["whole_to_accept_bulk"], 0.2);
        assert!(report.table().contains("not for programs"));
    }
}
