//! A log that nobody writes, such as one in a backup: it is read, and left exactly as it is, without a file beside
//! it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

use super::readers::{Readers, in_pieces};
use super::schema::{self, Found};
use super::{OpenError, SqliteOptions, StopReason};
use crate::envelope::RecordedEvent;
use crate::port::{
    AppendError, Appended, Batch, EventStore, Filter, KeptEvent, KeptPage, LogIndex, Page, Position,
    ReadError,
};

/// See the module. Appends are answered with [`AppendError::Stopped`].
pub struct SqliteLogFile {
    readers: Arc<Readers>,
    head: watch::Receiver<Position>,
}

impl SqliteLogFile {
    /// Opens the file.
    ///
    /// # Errors
    /// If it is no log of this program.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let options = SqliteOptions { readers: 1, ..SqliteOptions::default() };
        let connection = schema::open_unchanging(path, &options)?;
        let shape = match schema::shape_of(&connection, "main")? {
            Found::Log(shape) => shape,
            Found::Newer { version: found } => {
                return Err(OpenError::OtherSchema { found, known: schema::SCHEMA_VERSION });
            }
            Found::Foreign => return Err(OpenError::NotAnEventStore),
        };
        schema::check_positions(&connection)?;
        let last = connection
            .query_row("SELECT coalesce(max(position), 0) FROM events", [], |row| row.get::<_, i64>(0))?;
        let (_, head) = watch::channel(last as Position);
        Ok(Self { readers: Arc::new(Readers::of(connection, shape)), head })
    }

    /// The last event of a stream.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn last_of(&self, stream: &str) -> Result<Option<RecordedEvent>, ReadError> {
        self.readers.read(|reader| reader.last_of(stream))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut super::readers::Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let readers = Arc::clone(&self.readers);
        tokio::task::spawn_blocking(move || readers.read(read))
            .await
            .unwrap_or_else(|error| Err(ReadError::unreadable(error)))
    }
}

#[async_trait]
impl EventStore for SqliteLogFile {
    async fn append(&self, batch: Batch) -> Vec<Result<Appended, AppendError>> {
        let stopped = || Err(AppendError::stopped(StopReason::OnlyRead));
        batch.appends.iter().map(|_| stopped()).collect()
    }

    async fn read_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        in_pieces(Vec::new(), limit, |last, bounds| {
            let (stream, after) = (stream.to_owned(), last.map_or(after_version, |last| last.version));
            self.read(move |reader| reader.stream(&stream, after, bounds))
        })
        .await
    }

    async fn read_all(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        let filter = filter.clone();
        self.read(move |reader| reader.page(after, limit, &filter)).await
    }

    async fn read_kept(&self, after: Position, limit: usize) -> Result<KeptPage, ReadError> {
        let head = *self.head.borrow();
        self.read(move |reader| reader.kept(after, limit, head)).await
    }

    async fn read_kept_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, ReadError> {
        let stream = stream.to_owned();
        self.read(move |reader| reader.kept_stream(&stream, after_version, limit)).await
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
impl LogIndex for SqliteLogFile {
    async fn read_correlation(
        &self,
        correlation: Uuid,
        after: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        in_pieces(Vec::new(), limit, |last, bounds| {
            let after = last.map_or(after, |last| last.position);
            self.read(move |reader| reader.correlation(correlation, after, bounds))
        })
        .await
    }

    async fn position_before(&self, time: DateTime<Utc>) -> Result<Position, ReadError> {
        let head = *self.head.borrow();
        let time = time.timestamp_millis();
        self.read(move |reader| reader.position_before(time, head)).await
    }
}
