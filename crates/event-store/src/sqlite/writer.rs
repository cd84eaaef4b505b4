//! The one thread that writes: it takes what waits, writes it in one transaction, and answers everyone after the
//! commit.
//!
//! A failed write stops the store for good. After a failed fsync nobody knows what is on the disk, and a second fsync
//! may succeed without having written anything; a new process reads what is there and continues.

use rusqlite::Connection;
use std::sync::Arc;
use tokio::sync::watch;

use super::StopReason;
use super::checkpoint::{Checkpoints, WalKeeper};
use super::log::{Log, Statements};
use crate::envelope::RecordedEvent;
use crate::errors::{SharedError, describe};
use crate::measure::{Measures, Stopwatch};
use crate::port::{AppendError, BatchMode, Position};
use crate::queue::{BULK_BYTES_MIN, Queue, Request, StopAtEnd, weight_bytes};
use crate::recent::Recent;

/// What the writer's thread works with.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) queue: Arc<Queue>,
    pub(super) recent: Arc<Recent>,
    pub(super) head: watch::Sender<Position>,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) log: Log,
    pub(super) commit_bytes_max: usize,
    pub(super) checkpoint_pages: u32,
}

/// Requests at hand.
#[derive(Default)]
struct Work {
    small: Vec<Request>,
    bulk: Option<Request>,
}

impl Writer {
    /// The writer's thread. An error: a write failed.
    pub(super) fn run(mut self) -> Result<(), SharedError> {
        let _stop = StopAtEnd(Arc::clone(&self.queue));
        let mut work = Work::default();
        let Err(failure) = self.write_until_closed(&mut work) else { return Ok(()) };

        let is_in_commit = matches!(failure, StopReason::Commit(_));
        let reason = SharedError::new(failure);
        tracing::error!(reason = describe(&reason), "the event store stops");
        self.queue.stop(&reason);
        let stopped = AppendError::Stopped(reason.clone());
        let uncertain = if is_in_commit { &AppendError::AnswerLost } else { &stopped };
        for request in work.small.into_iter().chain(work.bulk) {
            request.give_up(&stopped, uncertain);
        }
        Err(reason)
    }

    fn write_until_closed(&mut self, work: &mut Work) -> Result<(), StopReason> {
        let measures = Measures::new();
        let wal_gauge = metrics::gauge!("kite_event_store_wal_bytes");
        let mut sql = Statements::new(&self.connection).map_err(StopReason::Write)?;
        let mut keeper =
            WalKeeper::new(&self.connection, Arc::clone(&self.checkpoints), self.checkpoint_pages)
                .map_err(StopReason::Write)?;
        while self.queue.take(&mut work.small, &mut work.bulk, self.commit_bytes_max) {
            measures.queue(self.queue.requests());
            let mut fresh = Vec::with_capacity(work.small.len());
            let stopwatch = Stopwatch::start();
            write(&mut self.log, &mut sql, work, &mut fresh, self.commit_bytes_max)?;
            if !fresh.is_empty() {
                measures.committed(&stopwatch, fresh.len());
                self.recent.push(fresh);
                self.head.send_replace(self.log.last_position());
            }
            work.answer_durable();
            let wal_bytes = keeper.tend().map_err(StopReason::Write)?;
            wal_gauge.set(wal_bytes as f64);
        }
        Ok(())
    }
}

impl Work {
    /// Everything tried so far is durable now: answers those whose request is finished.
    fn answer_durable(&mut self) {
        for request in self.small.drain(..) {
            request.answer();
        }
        if let Some(mut request) = self.bulk.take() {
            if request.appends.len() == 0 {
                request.answer();
            } else {
                request.durable = request.results.len();
                self.bulk = Some(request);
            }
        }
    }
}

/// One transaction: all small requests, and as much of the large one as the limit leaves.
fn write(
    log: &mut Log,
    sql: &mut Statements<'_>,
    work: &mut Work,
    fresh: &mut Vec<RecordedEvent>,
    bytes_max: usize,
) -> Result<(), StopReason> {
    sql.begin.raw_execute().map_err(StopReason::Write)?;
    let mut bytes = 0;
    for request in &mut work.small {
        bytes += write_request(log, sql, request, fresh, usize::MAX).map_err(StopReason::Write)?;
    }
    if let Some(request) = &mut work.bulk {
        let left = bytes_max.saturating_sub(bytes).max(BULK_BYTES_MIN);
        write_request(log, sql, request, fresh, left).map_err(StopReason::Write)?;
    }
    sql.commit.raw_execute().map(drop).map_err(StopReason::Commit)
}

/// Appends of the request, at least one, until the bound is passed. Gives back the bytes written.
fn write_request(
    log: &mut Log,
    sql: &mut Statements<'_>,
    request: &mut Request,
    fresh: &mut Vec<RecordedEvent>,
    bytes_max: usize,
) -> rusqlite::Result<usize> {
    if request.mode == BatchMode::Atomic {
        return write_whole(log, sql, request, fresh);
    }
    let mut bytes = 0;
    while bytes < bytes_max
        && let Some(append) = request.appends.next()
    {
        if request.is_held_back() {
            request.results.push(Err(AppendError::NotTried));
            continue;
        }
        let append_bytes = weight_bytes(&append);
        // On an error `give_up` says what is lost with the transaction.
        let result = log.append(sql, append, fresh)?;
        bytes += if result.is_ok() { append_bytes } else { 0 };
        request.results.push(result);
    }
    Ok(bytes)
}

/// All appends of the request, in this commit, or none.
fn write_whole(
    log: &mut Log,
    sql: &mut Statements<'_>,
    request: &mut Request,
    fresh: &mut Vec<RecordedEvent>,
) -> rusqlite::Result<usize> {
    let appends: Vec<_> = request.appends.by_ref().collect();
    let bytes = appends.iter().map(weight_bytes).sum();
    let verdicts = log.append_all(sql, appends, fresh)?;
    let is_written = verdicts.iter().all(Result::is_ok);
    request.results.extend(verdicts);
    Ok(if is_written { bytes } else { 0 })
}
