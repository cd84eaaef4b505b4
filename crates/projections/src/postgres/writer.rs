//! What a projector writes with.

use kite_event_store::Position;
use std::sync::Arc;

use super::follow::Followed;
use super::generation::{self, schema_of};
use super::{Postgres, Session, Transaction};
use crate::engine::{self, StorageError, Tables, Value};
use crate::error::ApplyError;
use crate::register::Registered;
use crate::sql::signed;

/// How a session that writes is. A statement is planned for the tables as they are, and goes by their indexes, even where a table was
/// empty when it was prepared. Commits are waited for: a position that was told is not to go back. Who is gone or stands still in the
/// middle of a transaction loses it, for whoever takes over needs its rows; between two statements nobody thinks for so long.
const WRITING: &str =
    "SET plan_cache_mode = force_custom_plan; SET enable_seqscan = off; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET jit = off; SET lock_timeout = '30s'; SET statement_timeout = 0;
    SET idle_in_transaction_session_timeout = '10s'; SET idle_session_timeout = 0";
/// What nobody sees yet may be lost with the server: then it is made again. Once it is shown, everything before has been kept.
const UNSEEN: &str = "SET synchronous_commit = off";

/// Which generation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Showing {
    /// The one that is shown, whichever that is.
    Shown,
    /// This one, which nobody sees yet.
    Hidden(i64),
}

/// The writer of a model.
pub(crate) struct Writer {
    postgres: Postgres,
    model: &'static dyn Registered,
    followed: Arc<Followed>,
    showing: Showing,
    /// None: there is no connection.
    session: Option<Open>,
}

/// A connection, and the generation that it writes.
struct Open {
    session: Session,
    generation: i64,
    /// Where it stood when the connection was made, or when somebody else had moved it.
    is_new: bool,
}

/// What became of a transaction.
pub(crate) enum Written {
    /// Everything is there.
    Done,
    /// Somebody else has moved the checkpoint, or another generation is shown: nothing was written.
    Overtaken,
}

impl Writer {
    pub(crate) fn new(postgres: &Postgres, model: &'static dyn Registered, showing: Showing) -> Self {
        let followed = postgres.followed(model.name()).clone();
        Self { postgres: postgres.clone(), model, followed, showing, session: None }
    }

    fn open(&mut self) -> Result<&mut Open, StorageError> {
        if self.session.as_ref().is_none_or(|open| !open.session.is_open()) {
            self.session = None;
            let session = self.postgres.session(WRITING)?;
            let generation = match self.showing {
                Showing::Hidden(generation) => generation,
                Showing::Shown => shown(&session, self.model)?,
            };
            let schema = schema_of(self.followed.model, generation);
            session.execute(&format!("SET search_path = {schema}, pg_temp"))?;
            if self.showing != Showing::Shown {
                session.execute(UNSEEN)?;
            }
            self.session = Some(Open { session, generation, is_new: true });
        }
        Ok(self.session.as_mut().expect("it was put there just now"))
    }

    /// Whether what was known of the tables may be wrong, because somebody else may have written them: true once after each
    /// connection.
    pub(crate) fn is_new(&mut self) -> Result<bool, StorageError> {
        let open = self.open()?;
        Ok(std::mem::take(&mut open.is_new))
    }

    /// Whether the generation that it writes may be gone, because another one is shown.
    pub(crate) fn is_outdated(&self) -> bool {
        let Some(open) = self.session.as_ref().filter(|_| self.showing == Showing::Shown) else {
            return false;
        };
        // What failed may have been within a transaction.
        let is_clear = open.session.execute("ROLLBACK").is_ok();
        is_clear && shown(&open.session, self.model).is_ok_and(|shown| shown != open.generation)
    }

    /// Forgets the connection.
    pub(crate) fn give_up(&mut self) {
        self.session = None;
    }

    /// Asks about the tables as they are.
    pub(crate) fn ask<T, E: From<StorageError>>(
        &mut self,
        question: impl FnOnce(engine::Connection<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let model = self.followed.model;
        let open = self.open()?;
        let schema = schema_of(model, open.generation);
        let snapshot = open.session.snapshot(&schema);
        question(engine::Connection::Postgres(&snapshot))
    }

    /// Reads what a fold needs to know before it writes.
    pub(crate) fn look<T, E: From<StorageError>>(
        &mut self,
        look: impl FnOnce(Tables<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let open = self.open()?;
        let transaction = Transaction::new(&open.session);
        look(Tables::Postgres(&transaction))
    }

    /// Moves the checkpoint and does this, both or neither. Rows are refused with the inner error.
    pub(crate) fn write(
        &mut self,
        from: Position,
        to: Position,
        apply: impl FnOnce(Tables<'_>) -> Result<(), ApplyError>,
    ) -> Result<Result<Written, ApplyError>, StorageError> {
        let (model, showing) = (self.followed.model, self.showing);
        let open = self.open()?;
        let session = &open.session;
        if !move_checkpoint(session, model, showing, open.generation, from, to)? {
            self.session = None;
            return Ok(Ok(Written::Overtaken));
        }
        let generation = open.generation;
        let transaction = Transaction::new(session);
        let written = apply(Tables::Postgres(&transaction)).and_then(|()| Ok(transaction.commit()?));
        if written.is_err() && session.execute("ROLLBACK").is_err() {
            self.session = None;
        }
        if written.is_ok() && showing == Showing::Shown {
            // Whoever waits for the position in this process is to look into this generation.
            self.followed.tell(generation, to);
        }
        Ok(written.map(|()| Written::Done))
    }
}

/// The generation that is shown, if its tables are the ones that this program writes.
fn shown(session: &Session, model: &'static dyn Registered) -> Result<i64, StorageError> {
    session.run_soon(async |client| generation::check(client, model).await)?.map_err(StorageError::unusable)
}

/// Begins a transaction. Whether this generation is shown, and stood where it was expected: then it does not change until the end.
fn move_checkpoint(
    session: &Session,
    model: &str,
    showing: Showing,
    generation: i64,
    from: Position,
    to: Position,
) -> Result<bool, StorageError> {
    let hold = match showing {
        Showing::Shown => "SELECT generation FROM kite_read_models.models WHERE name = $1 FOR SHARE",
        // Whoever makes it may hold that row.
        Showing::Hidden(_) => "SELECT generation FROM kite_read_models.models WHERE name = $1",
    };
    let advance = "UPDATE checkpoint SET position = $2 WHERE id = 1 AND position = $1 RETURNING id";
    let positions = [Value::Integer(signed(from)), Value::Integer(signed(to))];
    let (held, advanced) = session.begin((hold, &[Value::Text(model)]), (advance, &positions))?;
    let shown = held.first().map(|row| row.try_get::<_, i64>(0)).transpose()?;
    let is_the_one = matches!(showing, Showing::Hidden(_)) || shown == Some(generation);
    Ok(is_the_one && !advanced.is_empty())
}
