//! What the PostgreSQL server does for a load: its CPU time, what it writes, and for which statements.

use anyhow::Context;
use kite_testkit::metrics::metric_sum;
use serde::Serialize;
use tokio_postgres::{Client, NoTls};

use super::measure::cpu_seconds_of_family;
use super::platform::Platform;
use super::report::rounded;

/// Kept by the server for each kind of statement; what it costs is the same in every run.
pub(crate) const SETTINGS: [&str; 2] =
    ["shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track_planning=on"];
/// The costliest kinds of statements that are shown.
const STATEMENTS_SHOWN: i64 = 12;

/// A server on this machine that nobody else uses.
#[derive(Debug, Clone)]
pub(crate) struct LoadServer {
    /// Without a database; ends with a slash.
    pub(crate) url: String,
    /// The process that all others of it come from.
    pub(crate) process: u32,
}

/// What it has done so far for one database, or for each message.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Done {
    /// CPU time, of all its processes.
    #[serde(serialize_with = "rounded")]
    pub(crate) cpu_us: f64,
    /// Written ahead: what a standby is sent.
    #[serde(serialize_with = "rounded")]
    pub(crate) wal_bytes: f64,
    /// Tables and indexes.
    #[serde(serialize_with = "rounded")]
    pub(crate) database_bytes: f64,
    pub(crate) transactions: f64,
    pub(crate) statements: f64,
    /// Calls that append, and round trips for read models: for each of them somebody in Kite waits.
    pub(crate) round_trips: f64,
}

impl Done {
    /// What was done since, for each of so many messages.
    pub(crate) fn since(self, before: Self, messages: f64) -> Self {
        let per_message = |now: f64, then: f64| (now - then) / messages;
        Self {
            cpu_us: per_message(self.cpu_us, before.cpu_us),
            wal_bytes: per_message(self.wal_bytes, before.wal_bytes),
            database_bytes: per_message(self.database_bytes, before.database_bytes),
            transactions: per_message(self.transactions, before.transactions),
            statements: per_message(self.statements, before.statements),
            round_trips: per_message(self.round_trips, before.round_trips),
        }
    }
}

/// A kind of statement, and the time that all of its calls took together.
pub(crate) struct CostlyStatement {
    pub(crate) sql: String,
    pub(crate) us: f64,
}

/// What the server of a platform has done so far; none: there is none.
pub(crate) async fn done(platform: &Platform) -> anyhow::Result<Option<Done>> {
    let Some((server, database)) = platform.postgres() else { return Ok(None) };
    let metrics = platform.metrics().read().await?;
    let count = |name: &str| metric_sum(&metrics, name).with_context(|| format!("no {name} in /metrics"));
    let round_trips =
        count("kite_event_store_commit_seconds_count")? + count("kite_read_models_round_trip_seconds_count")?;
    server.done(database, round_trips).await.map(Some)
}

impl LoadServer {
    /// Forgets which statements there were.
    pub(crate) async fn forget_statements(&self) -> anyhow::Result<()> {
        let sql = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()";
        self.ask(async |client| client.batch_execute(sql).await).await
    }

    /// Statements count from when they were forgotten.
    async fn done(&self, database: &str, round_trips: f64) -> anyhow::Result<Done> {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8, pg_database_size(d.datname)::float8,
                (d.xact_commit + d.xact_rollback)::float8,
                (SELECT coalesce(sum(s.calls), 0)::float8 FROM pg_stat_statements s WHERE s.dbid = d.datid)
             FROM pg_stat_database d WHERE d.datname = $1";
        let row = self.ask(async |client| client.query_one(sql, &[&database]).await).await?;
        Ok(Done {
            cpu_us: cpu_seconds_of_family(self.process)? * 1e6,
            wal_bytes: row.get(0),
            database_bytes: row.get(1),
            transactions: row.get(2),
            statements: row.get(3),
            round_trips,
        })
    }

    /// The kinds of statements that took longest in all, the costliest first.
    pub(crate) async fn costly_statements(&self, database: &str) -> anyhow::Result<Vec<CostlyStatement>> {
        let sql = "SELECT s.query, (s.total_exec_time + s.total_plan_time) * 1000
             FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = $1
             ORDER BY 2 DESC LIMIT $2";
        let asked = async |client: &Client| client.query(sql, &[&database, &STATEMENTS_SHOWN]).await;
        let rows = self.ask(asked).await?;
        Ok(rows.iter().map(|row| CostlyStatement { sql: row.get(0), us: row.get(1) }).collect())
    }

    async fn ask<T>(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> anyhow::Result<T> {
        let (client, connection) = tokio_postgres::connect(&format!("{}postgres", self.url), NoTls).await?;
        tokio::select! {
            done = work(&client) => Ok(done?),
            ended = connection => ended.map_err(Into::into).and_then(|()| None.context("the server has ended the connection")),
        }
    }
}
