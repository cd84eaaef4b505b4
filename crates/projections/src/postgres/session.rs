//! A connection, and what is done over it: questions about one moment, and transactions that write.

use futures::FutureExt;
use futures::future::{join, maybe_done};
use kite_postgres::Connector;
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use tokio::task::AbortHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::batch::{Batch, type_of};
use super::io::Io;
use crate::engine::{StorageError, Value};
use crate::table::Statement;

/// Something that is asked of the server, and its answer.
type Sent<'f, T> = Pin<Box<dyn Future<Output = Result<T, tokio_postgres::Error>> + 'f>>;

/// Past this many bytes rows are sent although the transaction goes on.
const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A connection.
pub(crate) struct Session {
    io: Arc<Io>,
    client: Client,
    driving: AbortHandle,
    /// Prepared statements of folds, by their address.
    statements: Mutex<HashMap<usize, tokio_postgres::Statement>>,
}

impl Session {
    /// Connects, and sets the session up.
    pub(super) fn open(io: &Arc<Io>, connector: &Connector, setup: &str) -> Result<Self, StorageError> {
        let opening = async {
            let (client, connection) = connector.connect().await?;
            let driving = io.spawn(async {
                // Whoever waits for an answer hears of it.
                let _ = connection.await;
            });
            let session = Self { io: io.clone(), client, driving, statements: Mutex::default() };
            session.client.batch_execute(setup).await?;
            Ok::<_, tokio_postgres::Error>(session)
        };
        io.wait(opening)
    }

    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Does something that has no answer.
    pub(crate) fn execute(&self, sql: &str) -> Result<(), StorageError> {
        self.io.wait(self.client.batch_execute(sql))
    }

    /// Does something that may take as long as there are rows.
    pub(super) fn run<T>(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StorageError> {
        self.io.wait_long(work(&self.client))
    }

    /// Does something that takes a moment.
    pub(super) fn run_soon<T>(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StorageError> {
        self.io.wait(work(&self.client))
    }

    /// Does something like that in a transaction.
    pub(super) fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StorageError> {
        let done = self.run(async |client| {
            client.batch_execute("BEGIN").await?;
            let done = work(client).await?;
            client.batch_execute("COMMIT").await?;
            Ok(done)
        });
        if done.is_err() {
            let _ = self.execute("ROLLBACK");
        }
        done
    }

    /// Asks something.
    pub(super) fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StorageError> {
        let parameters = typed(values);
        self.io.wait(self.client.query_typed(sql, &parameters))
    }

    /// A moment at which everything is read in this schema.
    pub(crate) fn snapshot(&self, schema: &str) -> Snapshot<'_> {
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = {schema}, pg_temp"
        );
        Snapshot { session: self, begin: Cell::new(Some(begin)) }
    }

    /// Begins a transaction with these two questions, in one round trip.
    pub(super) fn begin(
        &self,
        one: (&str, &[Value<'_>]),
        other: (&str, &[Value<'_>]),
    ) -> Result<(Vec<Row>, Vec<Row>), StorageError> {
        let (first, second) = (typed(one.1), typed(other.1));
        self.io.wait(async {
            let client = &self.client;
            let questions = join(client.query_typed(one.0, &first), client.query_typed(other.0, &second));
            let (begun, (found, changed)) = join(client.batch_execute("BEGIN"), questions).await;
            begun?;
            Ok::<_, tokio_postgres::Error>((found?, changed?))
        })
    }

    /// Sends several things at once, in this order, and waits for all.
    fn all<'f, T>(&self, futures: Vec<Sent<'f, T>>) -> Result<Vec<T>, StorageError> {
        self.io.wait(async {
            let mut sent = Vec::with_capacity(futures.len());
            for future in futures {
                let mut future = Box::pin(maybe_done(future));
                // It is sent when it is asked for the first time.
                let _ = futures::poll!(future.as_mut());
                sent.push(future);
            }
            let mut answers = Vec::with_capacity(sent.len());
            for mut future in sent {
                future.as_mut().await;
                let answer = future.as_mut().take_output().expect("it is done");
                answers.push(answer?);
            }
            Ok::<_, tokio_postgres::Error>(answers)
        })
    }

    /// Prepared once.
    fn prepared(&self, statement: &'static Statement) -> Result<tokio_postgres::Statement, StorageError> {
        let address = std::ptr::from_ref(statement).addr();
        if let Some(known) = self.statements.lock().get(&address) {
            return Ok(known.clone());
        }
        let prepared = self.io.wait(self.client.prepare(&statement.postgres().sql))?;
        self.statements.lock().insert(address, prepared.clone());
        Ok(prepared)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The server is to see that nobody waits for an answer any more.
        self.driving.abort();
    }
}

/// Values with their types, so that the server need not guess them.
fn typed<'v>(values: &'v [Value<'v>]) -> Vec<(&'v (dyn ToSql + Sync), Type)> {
    values.iter().map(|value| (value as &(dyn ToSql + Sync), type_of(value))).collect()
}

/// A moment at which everything is read.
pub(crate) struct Snapshot<'s> {
    session: &'s Session,
    /// What begins it, until something is asked.
    begin: Cell<Option<String>>,
}

impl Snapshot<'_> {
    /// Everything that the SQL finds.
    pub(crate) fn ask(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StorageError> {
        // Values are the only thing in our texts that is written with it.
        let sql = sql.replace('?', "$");
        let client = &self.session.client;
        let parameters = typed(values);
        let query = client.query_typed(&sql, &parameters);
        let Some(begin) = self.begin.take() else { return self.session.io.wait(query) };
        self.session.io.wait(async {
            let (begun, found) = join(client.batch_execute(&begin), query).await;
            begun?;
            found
        })
    }

    /// Begins to go through all that the SQL finds, a piece at a time.
    pub(crate) fn declare(&self, cursor: &str, sql: &str) -> Result<(), StorageError> {
        if let Some(begin) = self.begin.take() {
            self.session.execute(&begin)?;
        }
        self.session.execute(&format!("DECLARE {cursor} NO SCROLL CURSOR FOR {sql}"))
    }

    /// The next rows of a cursor; none at the end.
    pub(crate) fn fetch(&self, cursor: &str, rows: usize) -> Result<Vec<Row>, StorageError> {
        // The first one may have to sort them all.
        let sql = format!("FETCH {rows} FROM {cursor}");
        self.session.run(async |client| client.query_typed(&sql, &[]).await)
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        if self.begin.take().is_none() {
            // It is sent; nobody needs the answer, and what comes next over the connection comes after it.
            let _ = self.session.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}

/// What a fold reads and writes. Rows are collected, and sent before something is read that they could change, when there are many,
/// and at the end.
pub(crate) struct Transaction<'s> {
    session: &'s Session,
    /// By table: statements on different tables may change places.
    pending: RefCell<Vec<Vec<Batch>>>,
    pending_bytes: Cell<usize>,
}

impl<'s> Transaction<'s> {
    pub(crate) fn new(session: &'s Session) -> Self {
        Self { session, pending: RefCell::default(), pending_bytes: Cell::new(0) }
    }

    /// The batch that rows for this statement go into.
    pub(crate) fn take_batch(&self, statement: &'static Statement) -> Batch {
        let mut pending = self.pending.borrow_mut();
        let last = of_table(&mut pending, statement).and_then(|batches| {
            let is_same = |batch: &mut Batch| std::ptr::eq(batch.statement(), statement);
            batches.pop_if(is_same)
        });
        let batch = last.unwrap_or_else(|| Batch::new(statement));
        self.pending_bytes.set(self.pending_bytes.get().saturating_sub(batch.bytes()));
        batch
    }

    /// Has it written in the course of the transaction.
    pub(crate) fn give_batch(&self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        self.pending_bytes.set(self.pending_bytes.get() + batch.bytes());
        let mut pending = self.pending.borrow_mut();
        match of_table(&mut pending, batch.statement()) {
            Some(batches) => batches.push(batch),
            None => pending.push(vec![batch]),
        }
    }

    /// Sends what has been collected if it is much.
    pub(crate) fn relieve(&self) -> Result<(), StorageError> {
        if self.pending_bytes.get() < PENDING_BYTES_MAX {
            return Ok(());
        }
        self.write(&[])
    }

    /// What the statement finds for the rows of the batch, after what was written so far.
    pub(crate) fn read(&self, batch: &Batch) -> Result<Vec<Row>, StorageError> {
        let statement = self.session.prepared(batch.statement())?;
        let earlier: Vec<Batch> = {
            let mut pending = self.pending.borrow_mut();
            of_table(&mut pending, batch.statement()).map(std::mem::take).unwrap_or_default()
        };
        let written: usize = earlier.iter().map(Batch::bytes).sum();
        self.pending_bytes.set(self.pending_bytes.get().saturating_sub(written));
        let client = &self.session.client;
        let parameters: Vec<&(dyn ToSql + Sync)> = batch.parameters().collect();
        self.send(&earlier, vec![Box::pin(async { client.query(&statement, &parameters).await })])
    }

    /// Writes everything that has been collected, and then does these.
    fn write(&self, then: &[&str]) -> Result<(), StorageError> {
        let batches: Vec<Batch> = self.pending.take().into_iter().flatten().collect();
        self.pending_bytes.set(0);
        let client = &self.session.client;
        let then = then.iter().map(|sql| -> Sent<'_, _> {
            Box::pin(async move { client.batch_execute(sql).await.map(|()| Vec::new()) })
        });
        self.send(&batches, then.collect()).map(drop)
    }

    /// Writes these, and then does those, in one round trip. What the last of them finds.
    fn send(&self, batches: &[Batch], then: Vec<Sent<'_, Vec<Row>>>) -> Result<Vec<Row>, StorageError> {
        let prepared = batches.iter().map(|batch| self.session.prepared(batch.statement()));
        let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
        let client = &self.session.client;
        let written = prepared.iter().zip(batches).map(|(statement, batch)| -> Sent<'_, _> {
            Box::pin(
                async move { client.execute_raw(statement, batch.parameters()).await.map(|_| Vec::new()) },
            )
        });
        let mut answers = self.session.all(written.chain(then).collect())?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// Writes everything, and makes it last.
    pub(crate) fn commit(self) -> Result<(), StorageError> {
        self.write(&["COMMIT"])
    }
}

/// The batches of a statement's table.
fn of_table<'p>(pending: &'p mut [Vec<Batch>], statement: &Statement) -> Option<&'p mut Vec<Batch>> {
    let is_same = |batches: &&mut Vec<Batch>| {
        batches.first().is_some_and(|batch| std::ptr::eq(batch.statement().table(), statement.table()))
    };
    pending.iter_mut().find(is_same)
}
