//! The log in one SQLite file: the default, inside the process.
//!
//! One thread owns the only connection that writes (`writer`). It writes what waits in one transaction, so that many
//! callers share one fsync, and assigns positions without gaps. Readers have connections of their own (`readers`);
//! those at the end of the log are served from memory (`recent`).
//!
//! Any process that can open the file may read it (`SELECT * FROM log`); only one may write: see
//! [`OpenError::InUse`].

mod checkpoint;
mod copy;
mod leftover;
mod log;
mod readers;
mod reading;
mod schema;
mod uri;
mod writer;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::envelope::RecordedEvent;
use crate::errors::SharedError;
use crate::port::{
    AppendError, Appended, Batch, EventStore, Filter, KeptEvent, KeptPage, LogIndex, Page, Position,
    ReadError,
};
use crate::queue::{Queue, Request};
use crate::recent::Recent;
use checkpoint::{Checkpoints, Finish};
pub use copy::{Copied, CopyError, Progress, copy_log};
use readers::{Bounds, Readers, in_pieces};
pub use reading::SqliteLogFile;

/// How much a point read may return before it counts as a long one.
const POINT_BOUNDS: Bounds = Bounds { events: 64, bytes: 256 * 1024 };
/// How much one read of the database returns; a call that wants more reads again, so that no read keeps a connection
/// (and an old state of the database) for long.
const PIECE_BYTES: usize = 8 * 1024 * 1024;

/// Page cache for reading the stored events; it is cleared with each read.
const KEPT_CACHE_BYTES: usize = 256 * 1024;

/// The limits of a store. The defaults fit two cores and some hundred MB of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Batches that may wait for the writer; more are answered with [`AppendError::Busy`].
    pub queue_requests_max: usize,
    /// Data that may wait for the writer.
    pub queue_bytes_max: usize,
    /// Data written in one transaction (a batch may be spread over several). Everybody waits for the transaction that
    /// is being written, so this limits how long a campaign delays a password at each of its appends.
    pub commit_bytes_max: usize,
    /// Data of one [`crate::StreamAppend`]; more is answered with [`AppendError::TooLarge`].
    pub append_bytes_max: usize,
    /// Streams whose version is kept in memory; others are looked up.
    pub heads_max: usize,
    /// The newest events kept in memory.
    pub recent_bytes_max: usize,
    /// Pages of 4 KiB in the write-ahead log from which on it is copied into the database.
    pub checkpoint_pages: u32,
    /// Connections for point reads, and as many again for long ones.
    pub readers: usize,
    /// Page cache of the writer.
    pub writer_cache_bytes: usize,
    /// Page cache of each reader.
    pub reader_cache_bytes: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            queue_requests_max: 8_192,
            queue_bytes_max: 64 * 1024 * 1024,
            commit_bytes_max: 512 * 1024,
            append_bytes_max: 4 * 1024 * 1024,
            heads_max: 200_000,
            recent_bytes_max: 32 * 1024 * 1024,
            checkpoint_pages: 20_000,
            readers: 2,
            writer_cache_bytes: 32 * 1024 * 1024,
            reader_cache_bytes: 4 * 1024 * 1024,
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store in this one, writes this log.
    #[error("the event store is in use: another process holds {}", lock.display())]
    InUse {
        /// The file that is locked.
        lock: PathBuf,
    },
    /// The SQLite that this program was built with can lose a commit.
    #[error(
        "SQLite {version} can lose a commit while it copies its write-ahead log; 3.51.3 or newer is needed"
    )]
    EngineTooOld {
        /// The version found.
        version: String,
    },
    /// A database of something else.
    #[error("the file is a database, but not an event store")]
    NotAnEventStore,
    /// Written by a newer version of this program.
    #[error("the event store has shape {found}, this program knows {known}")]
    OtherSchema {
        /// The shape found.
        found: i64,
        /// The shape known.
        known: i64,
    },
    /// SQLite refused.
    #[error("the event store cannot be opened")]
    Engine(#[from] rusqlite::Error),
    /// Two processes could not read and write it at the same time.
    #[error("write-ahead logging is not possible here, only {found}")]
    NoWriteAheadLog {
        /// What is possible.
        found: String,
    },
    /// Somebody has put an event where none can be.
    #[error(
        "there is an event at position {position}, and positions begin with 1: somebody has put it there"
    )]
    BeforeTheFirst {
        /// Where it stands.
        position: i64,
    },
    /// The file system refused.
    #[error("the event store's directory cannot be used")]
    Files(#[from] std::io::Error),
}

/// Why a store takes nothing any more.
#[derive(Debug, thiserror::Error)]
enum StopReason {
    #[error("it is only read")]
    OnlyRead,
    #[error("a write failed")]
    Write(#[source] rusqlite::Error),
    /// What the commit held may be found in the log after a restart.
    #[error("a commit failed")]
    Commit(#[source] rusqlite::Error),
    #[error("copying the write-ahead log failed")]
    Checkpoint(#[source] rusqlite::Error),
}

/// See [the module](self).
pub struct SqliteEventStore {
    queue: Arc<Queue>,
    recent: Arc<Recent>,
    head: watch::Receiver<Position>,
    point_readers: Readers,
    long_readers: Arc<Readers>,
    /// For reading the stored events: it keeps nothing in memory, and nobody else waits for it.
    kept_reader: Arc<Readers>,
    checkpoints: Arc<Checkpoints>,
    running: Mutex<Option<Running>>,
}

/// What ends at [`SqliteEventStore::close`].
struct Running {
    writer: JoinHandle<Result<(), SharedError>>,
    checkpointer: JoinHandle<()>,
    /// Held as long as this process may write.
    lock: Lock,
}

/// A lock on `<file>.lock`. It ends with the process, however that ends.
struct Lock(File);

impl std::fmt::Debug for SqliteEventStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SqliteEventStore").field("head", &*self.head.borrow()).finish_non_exhaustive()
    }
}

impl SqliteEventStore {
    /// Opens the log in this file, creating it and its directory if necessary, and starts the two threads. What a
    /// crash left in the write-ahead log is made durable first, so it can take a second.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        schema::check_engine()?;
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let lock = Lock::acquire(path)?;
        leftover::write_again(path)?;
        let connection = schema::open_writer(path, &options)?;
        File::open(directory)?.sync_all()?;
        checkpoint::checkpoint(&connection, "TRUNCATE")?;
        schema::check_positions(&connection)?;
        let log = log::Log::open(&connection, options.heads_max, options.append_bytes_max)?;
        let position = log.last_position();

        let queue = Arc::new(Queue::new(options.queue_requests_max, options.queue_bytes_max));
        let recent = Arc::new(Recent::new(position, options.recent_bytes_max));
        let checkpoints = Arc::new(Checkpoints::default());
        let (head_sender, head) = watch::channel(position);
        let point_readers = Readers::open(path, &options)?;
        let long_readers = Arc::new(Readers::open(path, &options)?);
        let kept_options =
            SqliteOptions { readers: 1, reader_cache_bytes: KEPT_CACHE_BYTES, ..options.clone() };
        let kept_reader = Arc::new(Readers::open(path, &kept_options)?);
        let checkpointer_connection = schema::open_checkpointer(path)?;
        let writer = writer::Writer {
            connection,
            queue: Arc::clone(&queue),
            recent: Arc::clone(&recent),
            head: head_sender,
            checkpoints: Arc::clone(&checkpoints),
            log,
            commit_bytes_max: options.commit_bytes_max,
            checkpoint_pages: options.checkpoint_pages,
        };

        let checkpointer = {
            let (checkpoints, queue) = (Arc::clone(&checkpoints), Arc::clone(&queue));
            std::thread::Builder::new()
                .name("event-store-checkpoint".to_owned())
                .spawn(move || checkpoints.run(checkpointer_connection, &queue))?
        };
        let writer =
            match std::thread::Builder::new().name("event-store-writer".to_owned()).spawn(|| writer.run()) {
                Ok(writer) => writer,
                Err(error) => {
                    checkpoints.finish(Finish::Untouched);
                    return Err(error.into());
                }
            };
        let running = Mutex::new(Some(Running { writer, checkpointer, lock }));
        Ok(Self { queue, recent, head, point_readers, long_readers, kept_reader, checkpoints, running })
    }

    /// Why the store accepts no appends any more, once that is so: a write has failed, or it was closed. It may be
    /// long until the next append, so the owner of the store watches this and ends the process.
    pub fn stopped(&self) -> watch::Receiver<Option<SharedError>> {
        self.queue.stopped()
    }

    /// Writes what waits, copies the write-ahead log into the database and ends the threads. Appends and reads
    /// from now on are answered with `Stopped`. Blocks for as long as the disk takes. Dropping the store does the
    /// same.
    pub fn close(&self) {
        let Some(running) = self.running.lock().take() else { return };
        self.queue.close();
        let written = running.writer.join();
        self.point_readers.close();
        self.long_readers.close();
        self.kept_reader.close();
        let finish = if matches!(written, Ok(Ok(()))) { Finish::Copied } else { Finish::Untouched };
        self.checkpoints.finish(finish);
        if running.checkpointer.join().is_err() {
            tracing::error!("the event store's checkpointer panicked");
        }
        drop(running.lock);
    }

    /// Runs a read that may take long on a blocking thread.
    async fn read_long<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut readers::Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        read_elsewhere(&self.long_readers, read).await
    }
}

async fn read_elsewhere<T: Send + 'static>(
    readers: &Arc<Readers>,
    read: impl FnOnce(&mut readers::Reader) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    let readers = Arc::clone(readers);
    tokio::task::spawn_blocking(move || readers.read(read))
        .await
        .unwrap_or_else(|error| Err(ReadError::unreadable(error)))
}

impl Drop for SqliteEventStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Lock {
    fn acquire(path: &Path) -> Result<Self, OpenError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        let file = File::options().create(true).truncate(false).write(true).open(&lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { lock }),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

impl Drop for Lock {
    /// Closing the file is not enough: a process that is being started elsewhere in this program has a copy of it for
    /// a moment.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the event store's lock could not be given back");
        }
    }
}

#[async_trait]
impl EventStore for SqliteEventStore {
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
        let point = Bounds { events: limit.min(POINT_BOUNDS.events), ..POINT_BOUNDS };
        let piece = self.point_readers.read(|reader| reader.stream(stream, after_version, point))?;
        if !piece.is_cut {
            return Ok(piece.events);
        }
        in_pieces(piece.events, limit, |last, bounds| {
            let (stream, after) = (stream.to_owned(), last.map_or(after_version, |last| last.version));
            self.read_long(move |reader| reader.stream(&stream, after, bounds))
        })
        .await
    }

    async fn read_all(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        if let Some(page) = self.recent.page(after, limit, filter) {
            return Ok(page);
        }
        let filter = filter.clone();
        self.read_long(move |reader| reader.page(after, limit, &filter)).await
    }

    async fn read_kept(&self, after: Position, limit: usize) -> Result<KeptPage, ReadError> {
        let head = *self.head.borrow();
        read_elsewhere(&self.kept_reader, move |reader| reader.kept(after, limit, head)).await
    }

    async fn read_kept_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, ReadError> {
        let stream = stream.to_owned();
        read_elsewhere(&self.kept_reader, move |reader| reader.kept_stream(&stream, after_version, limit))
            .await
    }

    fn count_after(&self, after: Position) -> u64 {
        // Positions have no gaps here.
        self.head.borrow().saturating_sub(after)
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }
}

#[async_trait]
impl LogIndex for SqliteEventStore {
    async fn read_correlation(
        &self,
        correlation: Uuid,
        after: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        in_pieces(Vec::new(), limit, |last, bounds| {
            let after = last.map_or(after, |last| last.position);
            self.read_long(move |reader| reader.correlation(correlation, after, bounds))
        })
        .await
    }

    async fn position_before(&self, time: DateTime<Utc>) -> Result<Position, ReadError> {
        let head = *self.head.borrow();
        let time = time.timestamp_millis();
        self.read_long(move |reader| reader.position_before(time, head)).await
    }
}
