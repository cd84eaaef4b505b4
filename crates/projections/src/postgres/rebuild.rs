//! The next generation of a read model, made beside the one that is shown.

use kite_event_store::Position;

use super::follow::CHANNEL;
use super::generation::{drop_others, late_indexes, make, schema_of, show, shown};
use super::{Postgres, Session, Showing, Writer};
use crate::engine::{StorageError, Value};
use crate::register::Registered;

/// How the session is that makes and shows a generation. Whoever waits for a lock gives up before others wait long for it.
const MAKING: &str = "SET lock_timeout = '30s'; SET statement_timeout = 0; SET idle_session_timeout = 0;
    SET idle_in_transaction_session_timeout = 0";

/// A generation that is being made. One at a time of each read model.
pub(crate) struct Rebuild {
    postgres: Postgres,
    model: &'static dyn Registered,
    /// Holds the lock until it ends.
    session: Session,
    generation: i64,
}

impl Rebuild {
    /// Makes its empty tables. What an earlier rebuild has left is taken away.
    pub(crate) fn begin(postgres: &Postgres, model: &'static dyn Registered) -> Result<Self, StorageError> {
        let session = postgres.session(MAKING)?;
        let sql = "SELECT pg_try_advisory_lock(hashtext('kite-rebuild'), hashtext($1))";
        let locked = session.query(sql, &[Value::Text(model.name())])?;
        if !locked.first().is_some_and(|row| row.get(0)) {
            return Err(StorageError::unusable(InProgress(model.name())));
        }
        let generation = session.run(async |client| {
            client.batch_execute("BEGIN").await?;
            let sql =
                "SELECT coalesce(max(generation), 0) + 1 FROM kite_read_models.generations WHERE model = $1";
            let next: i64 = client.query_one(sql, &[&model.name()]).await?.get(0);
            let kept = shown(client, model).await?.unwrap_or(0);
            drop_others(client, model, kept).await?;
            make(client, model, next).await?;
            client.batch_execute("COMMIT").await?;
            Ok(next)
        })?;
        Ok(Self { postgres: postgres.clone(), model, session, generation })
    }

    /// What writes into it.
    pub(crate) fn writer(&self) -> Writer {
        Writer::new(&self.postgres, self.model, Showing::Hidden(self.generation))
    }

    /// Makes the indexes that were left out, once the rows are in.
    pub(crate) fn complete(&self) -> Result<(), StorageError> {
        let indexes = format!("BEGIN; {}; COMMIT", late_indexes(self.model, self.generation));
        let schema = schema_of(self.model.name(), self.generation);
        let tables: Vec<String> =
            self.model.tables().iter().map(|table| format!("{schema}.{}", table.name)).collect();
        let analyze = format!("ANALYZE {}", tables.join(", "));
        self.session.run(async |client| {
            client.batch_execute(&indexes).await?;
            client.batch_execute(&analyze).await
        })
    }

    /// Lets nobody project the generation that is shown, until this one is shown or the rebuild ends. Returns how far it is.
    pub(crate) fn hold(&self) -> Result<Position, StorageError> {
        let model = self.model;
        self.session.run(async |client| {
            client.batch_execute("BEGIN").await?;
            let sql = "SELECT generation FROM kite_read_models.models WHERE name = $1 FOR UPDATE";
            let Some(row) = client.query_opt(sql, &[&model.name()]).await? else { return Ok(0) };
            let schema = schema_of(model.name(), row.get(0));
            let sql = format!("SELECT position FROM {schema}.checkpoint WHERE id = 1");
            Ok(client.query_one(&sql, &[]).await?.get::<_, i64>(0).unsigned_abs())
        })
    }

    /// Lets the other one go on.
    pub(crate) fn let_go(&self) -> Result<(), StorageError> {
        self.session.execute("ROLLBACK")
    }

    /// How many rows these tables have, and how many events are parked.
    pub(crate) fn count(&self, tables: &[&str]) -> Result<(u64, u64), StorageError> {
        let schema = schema_of(self.model.name(), self.generation);
        let counts: Vec<String> =
            tables.iter().map(|table| format!("(SELECT count(*) FROM {schema}.{table})")).collect();
        let sql = format!("SELECT {}, (SELECT count(*) FROM {schema}.parked)", counts.join(" + "));
        self.session.run(async |client| {
            let row = client.query_one(&sql, &[]).await?;
            Ok((row.get::<_, i64>(0).unsigned_abs(), row.get::<_, i64>(1).unsigned_abs()))
        })
    }

    /// Shows it from now on.
    pub(crate) fn show(&self) -> Result<(), StorageError> {
        let (model, generation) = (self.model, self.generation);
        self.session.run(async |client| {
            show(client, model, generation).await?;
            client.execute("SELECT pg_notify($1, $2)", &[&CHANNEL, &model.name()]).await?;
            client.batch_execute("COMMIT").await
        })
    }

    /// Takes away the generation that was shown before. Whoever reads in it ends first.
    pub(crate) fn drop_previous(&self) -> Result<(), StorageError> {
        let (model, generation) = (self.model, self.generation);
        self.session.run(async |client| {
            client.batch_execute("BEGIN").await?;
            drop_others(client, model, generation).await?;
            client.batch_execute("COMMIT").await
        })
    }
}

/// Two rebuild the same.
#[derive(Debug, thiserror::Error)]
#[error("the read model {0} is being rebuilt already")]
struct InProgress(&'static str);
