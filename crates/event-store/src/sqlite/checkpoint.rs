//! Copies the write-ahead log into the database without holding up the writer.
//!
//! A separate thread does the bulk (a passive checkpoint, which runs beside commits). It can never finish while
//! commits continue, so the write-ahead log would grow for ever. Once the bulk is copied, the writer itself copies
//! the small rest between two commits and starts the write-ahead log again.
//!
//! A failed checkpoint stops the store: after a failed fsync a second one may succeed without having written.

use parking_lot::{Condvar, Mutex};
use rusqlite::{CachedStatement, Connection, ErrorCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::StopReason;
use crate::errors::{SharedError, describe};
use crate::queue::Queue;

/// A frame of the write-ahead log: a page and its header.
const FRAME_BYTES: u64 = 4096 + 24;
/// How often the checkpointer copies what was added meanwhile.
const PASSES_MAX: usize = 6;
/// So much may be left to the writer.
const REST_FRAMES: i64 = 500;
/// How long the writer waits for readers to leave the log before it continues without starting it again.
const RESTART_WAIT_MAX: Duration = Duration::from_millis(20);
/// How long it waits for anything else that uses the database, which nothing should.
pub(super) const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

/// What the writer and the checkpointer tell each other.
#[derive(Default)]
pub(super) struct Checkpoints {
    order: Mutex<Order>,
    ordered: Condvar,
    /// The bulk is copied; the rest is the writer's.
    copied: AtomicBool,
    /// A checkpoint failed: there must be no other.
    failed: AtomicBool,
}

#[derive(Default)]
struct Order {
    copy: bool,
    finish: Option<Finish>,
}

/// How the checkpointer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// Copy everything first.
    Copied,
    /// Touch nothing: a write has failed.
    Untouched,
}

impl Checkpoints {
    fn order_copy(&self) {
        self.order.lock().copy = true;
        self.ordered.notify_one();
    }

    /// Ends the checkpointer. Called when the writer has ended.
    pub(super) fn finish(&self, how: Finish) {
        self.order.lock().finish.get_or_insert(how);
        self.ordered.notify_one();
    }

    /// The checkpointer's thread.
    pub(super) fn run(&self, connection: Connection, queue: &Arc<Queue>) {
        loop {
            let finish = self.next_order();
            if self.failed.load(Ordering::Acquire) || finish == Some(Finish::Untouched) {
                return;
            }
            let copied = match finish {
                Some(_) => checkpoint(&connection, "TRUNCATE").map(drop),
                None => copy_bulk(&connection),
            };
            if let Err(error) = copied {
                self.failed.store(true, Ordering::Release);
                let reason = SharedError::new(StopReason::Checkpoint(error));
                tracing::error!(reason = describe(&reason), "the event store stops");
                queue.stop(&reason);
                return;
            }
            if finish.is_some() {
                return;
            }
            self.copied.store(true, Ordering::Release);
        }
    }

    fn next_order(&self) -> Option<Finish> {
        let mut order = self.order.lock();
        while !order.copy && order.finish.is_none() {
            self.ordered.wait(&mut order);
        }
        order.copy = false;
        order.finish
    }
}

/// Copies until little is left: while one piece is copied, commits add another, smaller one.
fn copy_bulk(connection: &Connection) -> rusqlite::Result<()> {
    for _ in 0..PASSES_MAX {
        checkpoint(connection, "PASSIVE")?;
        // It counts against the log as it was when it began: what was added meanwhile is seen by asking again.
        if checkpoint(connection, "NOOP")?.frames_left <= REST_FRAMES {
            break;
        }
    }
    Ok(())
}

/// The writer's part.
pub(super) struct WalKeeper<'c> {
    connection: &'c Connection,
    size: CachedStatement<'c>,
    checkpoints: Arc<Checkpoints>,
    pages_max: u64,
    /// The number of frames from which on the next copy is ordered.
    order_at: u64,
    is_ordered: bool,
}

impl<'c> WalKeeper<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        checkpoints: Arc<Checkpoints>,
        pages_max: u32,
    ) -> rusqlite::Result<Self> {
        let size = connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        let pages_max = u64::from(pages_max);
        Ok(Self { connection, size, checkpoints, pages_max, order_at: pages_max, is_ordered: false })
    }

    /// Called between commits. The size of the write-ahead log in bytes.
    pub(super) fn tend(&mut self) -> rusqlite::Result<u64> {
        let frames = self.size.query_row([], |row| row.get::<_, i64>(1))?.max(0) as u64;
        if self.is_ordered && self.checkpoints.copied.swap(false, Ordering::AcqRel) {
            self.is_ordered = false;
            self.connection.busy_timeout(RESTART_WAIT_MAX)?;
            let restarted = checkpoint(self.connection, "RESTART");
            self.connection.busy_timeout(BUSY_WAIT_MAX)?;
            // Readers that stay too long are waited for next time, some way further on.
            self.order_at = match restarted {
                Ok(Outcome { is_busy: false, .. }) => self.pages_max,
                Ok(Outcome { is_busy: true, .. }) => frames + self.pages_max / 4,
                Err(error) => {
                    self.checkpoints.failed.store(true, Ordering::Release);
                    return Err(error);
                }
            };
        } else if !self.is_ordered && frames >= self.order_at {
            self.is_ordered = true;
            self.checkpoints.order_copy();
        }
        Ok(frames * FRAME_BYTES)
    }
}

/// How far a checkpoint came.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Someone was in the way; nothing is wrong.
    is_busy: bool,
    /// Frames of the log that are not copied.
    frames_left: i64,
}

/// Copies the log as far as the mode can.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Outcome> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    let outcome = statement.query_row([], |row| {
        let (frames, copied): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(Outcome { is_busy: row.get::<_, i64>(0)? != 0, frames_left: frames - copied })
    });
    match outcome {
        Err(error) if is_busy(&error) => Ok(Outcome { is_busy: true, frames_left: 0 }),
        outcome => outcome,
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
