//! The next generation of a read model, made beside the one that is shown.

use kite_event_store::Position;
use tokio_postgres::error::SqlState;

use super::generation::{drop_others, late_indexes, make, schema_of, show, shown};
use super::{Postgres, Session, Showing, Writer};
use crate::engine::{StorageError, Value};
use crate::register::Registered;

/// Whoever rebuilds a read model holds this lock.
const LOCK: &str = "hashtext('kite-rebuild'), hashtext($1)";
/// How the session is that makes and shows a generation. Whoever waits for a lock gives up before others wait long for it.
const MAKING: &str = "SET lock_timeout = '30s'; SET statement_timeout = 0; SET idle_session_timeout = 0;
    SET idle_in_transaction_session_timeout = 0";

/// A generation that is being made. One at a time of each read model.
pub(crate) struct Rebuild {
    postgres: Postgres,
    model: &'static dyn Registered,
    /// Holds the lock until it ends. None: it was lost.
    session: Option<Session>,
    generation: i64,
}

impl Rebuild {
    /// Makes its empty tables. What an earlier rebuild has left is taken away.
    pub(crate) fn begin(postgres: &Postgres, model: &'static dyn Registered) -> Result<Self, StorageError> {
        let session = postgres.session(MAKING)?;
        let sql = format!("SELECT pg_try_advisory_lock({LOCK})");
        let locked = session.query(&sql, &[Value::Text(model.name())])?;
        if !locked.first().is_some_and(|row| row.get(0)) {
            return Err(StorageError::unusable(InProgress(model.name())));
        }
        let made = session.transaction(async |client| {
            let sql =
                "SELECT coalesce(max(generation), 0) + 1 FROM kite_read_models.generations WHERE model = $1";
            let next: i64 = client.query_one(sql, &[&model.name()]).await?.get(0);
            let kept = shown(client, model).await?.unwrap_or(0);
            drop_others(client, model, kept).await?;
            make(client, model, next).await?;
            Ok(next)
        });
        let generation = made.map_err(|error| match error {
            StorageError::Postgres(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                StorageError::unusable(NotOwner(error))
            }
            other => other,
        })?;
        Ok(Self { postgres: postgres.clone(), model, session: Some(session), generation })
    }

    /// The session that holds the lock. If it was lost, another one takes the lock, unless somebody else was faster.
    fn session(&mut self) -> Result<&Session, StorageError> {
        if self.session.as_ref().is_none_or(|session| !session.is_open()) {
            self.session = None;
            let session = self.postgres.session(MAKING)?;
            let name = self.model.name();
            // The server may find a moment later that nobody is left who holds it.
            let sql = format!("SELECT pg_advisory_lock({LOCK})");
            session.query(&sql, &[Value::Text(name)]).map_err(|error| match error {
                StorageError::Postgres(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                    StorageError::unusable(InProgress(name))
                }
                other => other,
            })?;
            let sql = "SELECT 1 FROM kite_read_models.generations WHERE model = $1 AND generation = $2";
            let own = [Value::Text(name), Value::Integer(self.generation)];
            if session.query(sql, &own)?.is_empty() {
                return Err(StorageError::unusable(Overtaken(name)));
            }
            self.session = Some(session);
        }
        Ok(self.session.as_ref().expect("it was put there just now"))
    }

    /// The session is lost.
    pub(crate) fn give_up(&mut self) {
        self.session = None;
    }

    /// What writes into it.
    pub(crate) fn writer(&self) -> Writer {
        Writer::new(&self.postgres, self.model, Showing::Hidden(self.generation))
    }

    /// Makes the indexes that were left out, once the rows are in.
    pub(crate) fn complete(&mut self) -> Result<(), StorageError> {
        let indexes = late_indexes(self.model, self.generation);
        let schema = schema_of(self.model.name(), self.generation);
        let tables: Vec<String> =
            self.model.tables().iter().map(|table| format!("{schema}.{}", table.name)).collect();
        let analyze = format!("ANALYZE {}", tables.join(", "));
        let session = self.session()?;
        session.transaction(async |client| client.batch_execute(&indexes).await)?;
        session.run(async |client| client.batch_execute(&analyze).await)
    }

    /// Lets nobody project the generation that is shown, until this one is shown or the rebuild ends. Returns how far it is; none:
    /// it is this one.
    pub(crate) fn hold(&mut self) -> Result<Option<Position>, StorageError> {
        let (model, own) = (self.model, self.generation);
        let held = self.session()?.run(async |client| {
            client.batch_execute("BEGIN").await?;
            let sql = "SELECT generation FROM kite_read_models.models WHERE name = $1 FOR UPDATE";
            let Some(row) = client.query_opt(sql, &[&model.name()]).await? else { return Ok(Some(0)) };
            let shown: i64 = row.try_get(0)?;
            if shown == own {
                client.batch_execute("ROLLBACK").await?;
                return Ok(None);
            }
            let schema = schema_of(model.name(), shown);
            let sql = format!("SELECT position FROM {schema}.checkpoint WHERE id = 1");
            Ok(Some(client.query_one(&sql, &[]).await?.try_get::<_, i64>(0)?.unsigned_abs()))
        });
        if held.is_err() {
            self.let_go();
        }
        held
    }

    /// Lets the other one go on.
    pub(crate) fn let_go(&self) {
        // With its session it is let go, too.
        let _ = self.session.as_ref().map(|session| session.execute("ROLLBACK"));
    }

    /// How many rows these tables have, and how many events are parked.
    pub(crate) fn count(&mut self, tables: &[&str]) -> Result<(u64, u64), StorageError> {
        let schema = schema_of(self.model.name(), self.generation);
        let counts: Vec<String> =
            tables.iter().map(|table| format!("(SELECT count(*) FROM {schema}.{table})")).collect();
        let sql = format!("SELECT {}, (SELECT count(*) FROM {schema}.parked)", counts.join(" + "));
        self.session()?.run(async |client| {
            let row = client.query_one(&sql, &[]).await?;
            Ok((row.get::<_, i64>(0).unsigned_abs(), row.get::<_, i64>(1).unsigned_abs()))
        })
    }

    /// Shows it from now on. Only who holds the other one may.
    pub(crate) fn show(&self) -> Result<(), StorageError> {
        let (model, generation) = (self.model, self.generation);
        // Never over another session than the one that holds.
        self.session.as_ref().expect("who holds has a session").run(async |client| {
            show(client, model, generation).await?;
            client.batch_execute("COMMIT").await
        })
    }

    /// Whether it is shown: the answer may have been lost. Then it is written as what is shown is, and no more from here.
    pub(crate) fn is_shown(&mut self) -> Result<bool, StorageError> {
        let (model, own) = (self.model, self.generation);
        self.session()?.run(async |client| Ok(shown(client, model).await? == Some(own)))
    }

    /// Takes away the generation that was shown before. Whoever reads in it ends first.
    pub(crate) fn drop_previous(&mut self) -> Result<(), StorageError> {
        let (model, generation) = (self.model, self.generation);
        self.session()?.transaction(async |client| drop_others(client, model, generation).await)
    }
}

/// Two rebuild the same.
#[derive(Debug, thiserror::Error)]
#[error("the read model {0} is being rebuilt already")]
struct InProgress(&'static str);

/// Two have rebuilt the same.
#[derive(Debug, thiserror::Error)]
#[error("another rebuild of the read model {0} has begun meanwhile, and has taken away what was made here")]
struct Overtaken(&'static str);

/// Only the owner makes tables.
#[derive(Debug, thiserror::Error)]
#[error("the role may not make tables: rebuild as the owner of the database")]
struct NotOwner(#[source] tokio_postgres::Error);
