//! Leases in a table of PostgreSQL: one row each, changed by one statement, with the server's time.

use async_trait::async_trait;
use chrono::TimeDelta;
use deadpool_postgres::{Object, Pool};
use kite_postgres::{Connector, OpenError, Rights, Schema, Server, check_server};
use smol_str::SmolStr;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::{Acquired, Granted, HeldBy, LeaseError, Leases, Renewed};

/// Connections: renewals are short and few.
const CONNECTIONS: usize = 2;
/// How long each may take, a connection and an answer: later it is of no use, for the lease would be over before the next try.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a lease that changed hands in the very moment is asked for again.
const TRIES: usize = 5;

/// The table of leases.
pub const SCHEMA: Schema = Schema {
    name: "kite_leases",
    steps: &[include_str!("postgres.sql")],
    functions: "",
    rights: Rights { functions: "", tables: "kite_leases.leases", updated: "" },
};

/// What is left of the row's time, in milliseconds.
const ENDS_IN: &str = "(extract(epoch FROM ends_at - clock_timestamp()) * 1000)::bigint";

/// Leases that processes on several machines share.
pub struct PostgresLeases {
    pool: Pool,
    term: TimeDelta,
}

impl PostgresLeases {
    /// They last for this term. Their table was made by [`SCHEMA`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(server: &Server, term: TimeDelta) -> Result<Self, OpenError> {
        let connector = Connector::new(server, "kite leases")?;
        let forgetting = async |client: &mut Client| {
            check_server(client).await?;
            SCHEMA.check(client).await?;
            // Each life of a process has some of its own, and nobody takes those.
            client
                .execute("DELETE FROM kite_leases.leases WHERE ends_at < now() - interval '1 day'", &[])
                .await?;
            Ok(())
        };
        connector.open(forgetting).await?;
        Ok(Self { pool: connector.pool(CONNECTIONS)?, term })
    }

    /// Gives back all that this holder has: it is known to have ended.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn end_life(&self, holder: &str) -> Result<(), LeaseError> {
        let sql = "UPDATE kite_leases.leases SET holder = NULL WHERE holder = $1";
        self.ask(sql, &[&holder]).await.map(drop)
    }

    async fn ask(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, LeaseError> {
        let client = timeout(PATIENCE, self.pool.get()).await.map_err(LeaseError::unavailable)?;
        let client = client.map_err(LeaseError::unavailable)?;
        let asking = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, parameters).await
        };
        match timeout(PATIENCE, asking).await {
            Ok(answer) => answer.map_err(LeaseError::unavailable),
            Err(too_long) => {
                // The next question is not to wait behind this one.
                drop(Object::take(client));
                Err(LeaseError::unavailable(too_long))
            }
        }
    }

    fn term_ms(&self) -> i64 {
        self.term.num_milliseconds()
    }

    fn granted(&self, row: &Row) -> Granted {
        Granted { epoch: row.get::<_, i64>(0) as u64, lasts: self.term }
    }
}

#[async_trait]
impl Leases for PostgresLeases {
    async fn acquire(&self, lease: &str, holder: &str, after: TimeDelta) -> Result<Acquired, LeaseError> {
        const TAKE: &str = "INSERT INTO kite_leases.leases AS known (name, holder, epoch, ends_at)
             VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 millisecond')
             ON CONFLICT (name) DO UPDATE
             SET holder = excluded.holder, ends_at = excluded.ends_at,
                 epoch = known.epoch + CASE WHEN known.holder = excluded.holder THEN 0 ELSE 1 END
             WHERE known.holder IS NULL OR known.holder = excluded.holder
                   OR known.ends_at + $4 * interval '1 millisecond' <= clock_timestamp()
             RETURNING epoch";
        let after_ms = after.num_milliseconds();
        // Whoever stands by looks often, and is not to write each time.
        let look = format!(
            "SELECT holder, {ENDS_IN} FROM kite_leases.leases WHERE name = $1 AND holder <> $2
                    AND ends_at + $3 * interval '1 millisecond' > clock_timestamp()"
        );
        for _ in 0..TRIES {
            if let Some(row) = self.ask(&look, &[&lease, &holder, &(after_ms as f64)]).await?.first() {
                let by = SmolStr::new(row.get::<_, &str>(0));
                let ends_in = TimeDelta::milliseconds(row.get::<_, i64>(1)) + after;
                return Ok(Acquired::Taken { by, ends_in });
            }
            let taken =
                self.ask(TAKE, &[&lease, &holder, &(self.term_ms() as f64), &(after_ms as f64)]).await?;
            if let Some(row) = taken.first() {
                return Ok(Acquired::Granted(self.granted(row)));
            }
        }
        Err(LeaseError::unavailable("the lease goes from hand to hand"))
    }

    async fn renew(&self, lease: &str, holder: &str, epoch: u64) -> Result<Renewed, LeaseError> {
        const RENEW: &str = "UPDATE kite_leases.leases
             SET ends_at = clock_timestamp() + $4 * interval '1 millisecond'
             WHERE name = $1 AND holder = $2 AND epoch = $3 RETURNING epoch";
        let term_ms = self.term_ms() as f64;
        let renewed = self.ask(RENEW, &[&lease, &holder, &(epoch as i64), &term_ms]).await?;
        Ok(renewed.first().map_or(Renewed::Lost, |row| Renewed::Granted(self.granted(row))))
    }

    async fn release(&self, lease: &str, holder: &str, epoch: u64) -> Result<(), LeaseError> {
        const RELEASE: &str = "UPDATE kite_leases.leases SET holder = NULL
             WHERE name = $1 AND holder = $2 AND epoch = $3";
        self.ask(RELEASE, &[&lease, &holder, &(epoch as i64)]).await.map(drop)
    }

    async fn held(&self, prefix: &str) -> Result<Vec<HeldBy>, LeaseError> {
        let sql = format!(
            "SELECT name, holder, {ENDS_IN} FROM kite_leases.leases
             WHERE starts_with(name, $1) AND holder IS NOT NULL ORDER BY name"
        );
        let held = |row: &Row| HeldBy {
            lease: SmolStr::new(row.get::<_, &str>(0)),
            holder: SmolStr::new(row.get::<_, &str>(1)),
            ends_in: TimeDelta::milliseconds(row.get(2)),
        };
        Ok(self.ask(&sql, &[&prefix]).await?.iter().map(held).collect())
    }
}
