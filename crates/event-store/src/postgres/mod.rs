//! The log in PostgreSQL (15 or newer), for several processes on several machines.
//!
//! Every process appends for itself: what waits in it goes to the server as one call of one SQL function, which takes the row
//! lock of the head, checks versions, gives out positions and writes. So positions have no gaps and become visible in their
//! order, without a leader. Each process follows the log once, into memory, for all its readers: it knows what it has written
//! itself, and looks for what others write; while somebody follows closely, LISTEN tells of it, too. Where nobody follows, only the
//! position of the newest event is looked at.
//!
//! A call whose answer was lost is answered with [`AppendError::AnswerLost`]: it is not known whether it was written. While
//! nobody can be reached, appends are answered with [`AppendError::Unavailable`] and nothing was written. A log that has gone
//! back behind what was acknowledged stops the store: it is another log than the one that was written to.
//!
//! Deliberately absent: reading from a standby (it lags behind what was acknowledged), and a way to change or delete an event:
//! the role of an instance has no right to.

mod call;
mod flush;
mod follow;
mod reading;
mod session;
mod trial;
mod writer;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use deadpool_postgres::{Pool, PoolError};
pub use kite_postgres::OpenError;
use kite_postgres::{Connector, Rights, Schema, Server, check_server};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::envelope::RecordedEvent;
use crate::errors::SharedError;
use crate::port::{
    AppendError, Appended, Attention, Batch, EventStore, Filter, Following, KeptEvent, KeptPage, LogIndex,
    Page, Position, ReadError, Tail,
};
use crate::queue::{Line, Queue, Request, StopAtEnd, WasClosed};
use flush::{Disk, OfLog};
use follow::{Followers, Head, Teller};

/// The bounds of a store, and where its server is.
#[derive(Clone)]
pub struct PostgresOptions {
    /// The server.
    pub server: Server,
    /// Batches that may wait for the writer; more are answered with [`AppendError::Busy`].
    pub queue_requests_max: usize,
    /// Data that may wait for the writer.
    pub queue_bytes_max: usize,
    /// Data in one call of the server (a batch may be spread over several).
    pub call_bytes_max: usize,
    /// Data of one [`crate::StreamAppend`]; more is answered with [`AppendError::TooLarge`].
    pub append_bytes_max: usize,
    /// The newest events kept in memory for readers at the end of the log, in bytes.
    pub recent_bytes_max: usize,
    /// Connections for reading.
    pub readers: usize,
    /// A call that takes longer counts as lost.
    pub call_timeout: Duration,
    /// How often it is looked what others have written, beside what somebody follows closely: so a process that no message waits for
    /// is not woken by each event.
    pub look_every: Duration,
}

impl PostgresOptions {
    /// The usual bounds, for this server.
    pub fn at(server: Server) -> Self {
        Self {
            server,
            queue_requests_max: 8_192,
            queue_bytes_max: 64 * 1024 * 1024,
            call_bytes_max: 128 * 1024,
            append_bytes_max: 4 * 1024 * 1024,
            recent_bytes_max: 32 * 1024 * 1024,
            readers: 8,
            call_timeout: Duration::from_secs(30),
            look_every: Duration::from_millis(50),
        }
    }
}

/// The log: tables, the function that appends, and a view for people.
pub const SCHEMA: Schema = Schema {
    name: "kite_log",
    steps: &[include_str!("log.sql")],
    functions: include_str!("functions.sql"),
    rights: Rights { functions: "kite_log.append, kite_log.position_before", tables: "", updated: "" },
};

/// See [the module](self).
pub struct PostgresEventStore {
    log_id: Uuid,
    queue: Arc<Queue>,
    pool: Pool,
    head: Arc<Head>,
    told: watch::Receiver<Position>,
    followers: Followers,
    running: Mutex<Option<Running>>,
}

/// If the log was not looked at for longer, readers ask for themselves.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
#[error("the server does not answer")]
struct Silent;

/// The tasks of a store.
struct Running {
    /// End by themselves when the queue is closed and what waits is written.
    writers: JoinHandle<()>,
    /// Never ends by itself.
    follower: JoinHandle<()>,
}

/// Until both have ended.
async fn write(queue: Arc<Queue>, ordinary: writer::Writer, urgent: writer::Writer) {
    let _stop = StopAtEnd(queue);
    tokio::join!(ordinary.run(), urgent.run());
}

/// A connection of the pool. If whoever reads over it goes away in between, it is not put back: the next one would wait for the answer.
struct Reader(Option<deadpool_postgres::Client>);

impl Reader {
    fn client(&self) -> &deadpool_postgres::Client {
        self.0.as_ref().expect("it is there until it is given back")
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(deadpool_postgres::Client::take(client));
        }
    }
}

impl std::fmt::Debug for PostgresEventStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PostgresEventStore")
            .field("head", &*self.told.borrow())
            .finish_non_exhaustive()
    }
}

impl PostgresEventStore {
    /// Opens the log, which was made by [`SCHEMA`], and starts to write and to follow it.
    ///
    /// # Errors
    /// See [`OpenError`].
    #[expect(
        clippy::disallowed_methods,
        reason = "the tasks are the store's own, as the threads of the other one are"
    )]
    pub async fn open(options: PostgresOptions) -> Result<Self, OpenError> {
        let connector = Connector::new(&options.server, "kite log")?;
        let disk = Disk::new(connector.clone());
        let looking = async |client: &mut Client| {
            check_server(client).await?;
            SCHEMA.check(client).await?;
            let found = follow::look(client).await?;
            disk.flushed(client).await?;
            Ok(found)
        };
        let (log_id, newest) = connector.open(looking).await?;

        let queue = Arc::new(Queue::new(options.queue_requests_max, options.queue_bytes_max));
        let head = Arc::new(Head::new(log_id, newest, disk.clone(), options.recent_bytes_max));
        let reading = connector.clone().by_index();
        let pool = reading.pool(options.readers)?;
        let followers = Followers::default();
        let teller = Teller::new(Arc::clone(&head), followers.clone());
        let told = teller.subscribe();
        let last_urgent = writer::LastUrgent::default();
        let writer = |line| {
            let (connector, pool, queue) = (connector.clone(), pool.clone(), Arc::clone(&queue));
            writer::Writer::new(connector, pool, queue, line, last_urgent.clone(), teller.clone(), &options)
        };
        let writers = write(Arc::clone(&queue), writer(Line::Ordinary), writer(Line::Front));
        let follower = follow::Follower {
            connector: reading,
            queue: Arc::clone(&queue),
            teller,
            look_every: options.look_every,
            followers: followers.clone(),
        };
        let running = Running { writers: tokio::spawn(writers), follower: tokio::spawn(follower.run()) };
        Ok(Self { log_id, queue, pool, head, told, followers, running: Mutex::new(Some(running)) })
    }

    /// Which log this is: no other one has the same.
    pub fn log_id(&self) -> Uuid {
        self.log_id
    }

    /// Whether the log has lost what it had acknowledged, or is another one. Then the store has stopped.
    pub fn has_lost_something(&self) -> bool {
        self.head.is_wrong()
    }

    /// For how long the server has not answered. It is asked several times a second.
    pub fn silent_for(&self) -> Duration {
        self.head.silent_for()
    }

    /// Why the store takes no appends any more, once that is so.
    pub fn stopped(&self) -> watch::Receiver<Option<SharedError>> {
        self.queue.stopped()
    }

    /// Writes what waits and ends. Appends from now on are answered with `Stopped`.
    pub async fn close(&self) {
        self.queue.close();
        let running = self.running.lock().take();
        if let Some(Running { writers, follower }) = running {
            // One that has panicked has said so, and has stopped the queue.
            let _ = writers.await;
            follower.abort();
            let _ = follower.await;
        }
        self.pool.close();
    }

    async fn reader(&self) -> Result<deadpool_postgres::Client, ReadError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Closed => ReadError::stopped(WasClosed),
            error => ReadError::unavailable(error),
        })
    }

    /// Reads what is durable, unless the store has stopped, or the server says nothing to anybody.
    async fn read<T: OfLog>(
        &self,
        reading: impl AsyncFnOnce(&deadpool_postgres::Client) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.unless_silent(async {
            let reader = Reader(Some(self.reader().await?));
            let read = reading(reader.client()).await;
            if let Ok(read) = &read {
                let waiting = self.head.until_durable(reader.client(), read.until());
                waiting.await.map_err(ReadError::unavailable)?;
                if let Some(last) = read.last() {
                    self.head.note(last);
                }
            }
            reader.give_back();
            read
        })
        .await
    }

    async fn unless_silent<T>(
        &self,
        reading: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        if let Some(reason) = &*self.queue.stopped().borrow() {
            return Err(ReadError::Stopped(reason.clone()));
        }
        tokio::select! {
            biased;
            () = self.head.silence().begun() => Err(ReadError::unavailable(Silent)),
            read = reading => read,
        }
    }
}

impl Drop for PostgresEventStore {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(running) = &*self.running.lock() {
            running.follower.abort();
        }
    }
}

#[async_trait]
impl EventStore for PostgresEventStore {
    async fn append(&self, batch: Batch) -> Vec<Result<Appended, AppendError>> {
        let count = batch.appends.len();
        if count == 0 {
            return Vec::new();
        }
        let (answer, answered) = oneshot::channel();
        if let Err(error) = self.queue.push(Request::new(batch, answer)) {
            return vec![Err(error); count];
        }
        answered.await.unwrap_or_else(|_| vec![Err(AppendError::AnswerLost); count])
    }

    async fn read_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.read(async |client| reading::stream(client, stream, after_version, limit).await).await
    }

    async fn read_many(
        &self,
        tails: &[Tail<'_>],
        limit: usize,
    ) -> Result<Vec<Vec<RecordedEvent>>, ReadError> {
        self.read(async |client| reading::tails(client, tails, limit).await).await
    }

    async fn read_all(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        if let Some(page) = self.head.page(after, limit, filter) {
            return Ok(page);
        }
        let shown = self.read(async |client| reading::page(client, after, limit, filter).await).await?;
        Ok(shown.page)
    }

    async fn read_told(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        let is_followed = self.head.silent_for() < FOLLOWED_WITHIN && self.queue.stopped().borrow().is_none();
        if is_followed && after >= *self.told.borrow() {
            return Ok(Page { events: Vec::new(), next: after });
        }
        self.read_all(after, limit, filter).await
    }

    async fn read_kept(&self, after: Position, limit: usize) -> Result<KeptPage, ReadError> {
        let everything = Filter::everything();
        let shown =
            self.read(async |client| reading::kept_page(client, after, limit, &everything).await).await?;
        Ok(shown.page)
    }

    async fn read_kept_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, ReadError> {
        self.read(async |client| reading::kept_stream(client, stream, after_version, limit).await).await
    }

    fn follow(&self, attention: Attention) -> Following {
        let following = self.followers.one_more(attention);
        // From now on it listens for other things.
        self.head.look_again();
        following
    }

    fn count_after(&self, after: Position) -> u64 {
        // Positions have no gaps here.
        self.told.borrow().saturating_sub(after)
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.told.clone()
    }
}

#[async_trait]
impl LogIndex for PostgresEventStore {
    async fn read_correlation(
        &self,
        correlation: Uuid,
        after: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.read(async |client| reading::correlation(client, correlation, after, limit).await).await
    }

    async fn position_before(&self, time: DateTime<Utc>) -> Result<Position, ReadError> {
        self.read(async |client| reading::position_before(client, time).await).await
    }
}
