//! Appends that wait for the writer: limited in requests and in bytes, in two lanes.
//!
//! A large request (a campaign's lots) and a small one (a password) do not wait in the same queue: each commit takes
//! the small ones first and gives the current large one what is left of the commit's limit. Large ones fill no more
//! than three quarters of the queue, so that small ones find a place beside them.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use tokio::sync::{oneshot, watch};

use super::{SqliteOptions, StopReason};
use crate::errors::SharedError;
use crate::port::{AppendError, Appended, Batch, BatchMode, StreamAppend};

/// From this size on a request is a large one.
const BULK_BYTES: usize = 64 * 1024;
/// What an event takes beside its data, roughly: in memory and, with its indexes, on disk.
pub(super) const EVENT_OVERHEAD_BYTES: usize = 200;

pub(super) type Answer = Vec<Result<Appended, AppendError>>;

/// The data of an append in bytes, and the overhead of keeping it.
pub(super) fn weight_bytes(append: &StreamAppend) -> usize {
    append.events.iter().map(|event| event.data.len() + EVENT_OVERHEAD_BYTES).sum()
}

/// A batch on its way through the writer.
pub(super) struct Request {
    pub(super) mode: BatchMode,
    /// Those not tried yet.
    pub(super) appends: std::vec::IntoIter<StreamAppend>,
    /// One result for each append that was tried.
    pub(super) results: Answer,
    /// So many of the results are durable.
    pub(super) durable: usize,
    /// How many appends there are in all.
    count: usize,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
}

impl Request {
    pub(super) fn new(batch: Batch, answer: oneshot::Sender<Answer>) -> Self {
        let bytes = batch.appends.iter().map(weight_bytes).sum();
        let count = batch.appends.len();
        let (results, appends) = (Vec::with_capacity(count), batch.appends.into_iter());
        Self { mode: batch.mode, appends, results, durable: 0, count, bytes, answer }
    }

    /// The first of a guarded batch was refused: the others are not tried.
    pub(super) fn is_held_back(&self) -> bool {
        self.mode == BatchMode::Guarded && matches!(self.results.first(), Some(Err(_)))
    }

    /// Tells the caller, who may have gone away.
    pub(super) fn answer(self) {
        let _ = self.answer.send(self.results);
    }

    /// Tells the caller that the store has stopped. What is durable stays so; `uncertain` is for what was written but
    /// is not known to be durable.
    pub(super) fn give_up(mut self, stopped: &AppendError, uncertain: &AppendError) {
        for result in &mut self.results[self.durable..] {
            if result.is_ok() {
                *result = Err(uncertain.clone());
            }
        }
        // Those that were not tried, and those whose try has stopped the store.
        self.results.resize(self.count, Err(stopped.clone()));
        self.answer();
    }
}

#[derive(Default)]
struct Waiting {
    small: VecDeque<Request>,
    bulk: VecDeque<Request>,
    bytes: usize,
    /// The store is closing: what waits is still written, nothing new is accepted.
    closing: bool,
}

impl Waiting {
    fn requests(&self) -> usize {
        self.small.len() + self.bulk.len()
    }
}

/// The writer's queue.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    /// Why nothing is accepted any more. Changed under the lock of `waiting`.
    stopped: watch::Sender<Option<SharedError>>,
    requests_max: usize,
    bytes_max: usize,
}

impl Queue {
    pub(super) fn new(options: &SqliteOptions) -> Self {
        Self {
            waiting: Mutex::default(),
            ready: Condvar::new(),
            stopped: watch::Sender::new(None),
            requests_max: options.queue_requests_max,
            bytes_max: options.queue_bytes_max,
        }
    }

    /// Accepts the request, or says at once why not. One that exceeds the limit in bytes by itself is accepted when
    /// nothing else waits.
    pub(super) fn push(&self, request: Request) -> Result<(), AppendError> {
        let mut waiting = self.waiting.lock();
        if let Some(reason) = &*self.stopped.borrow() {
            return Err(AppendError::Stopped(reason.clone()));
        }
        if waiting.closing {
            return Err(AppendError::stopped(StopReason::Closed));
        }
        let is_bulk = request.bytes >= BULK_BYTES;
        let (requests_max, bytes_max) = match is_bulk {
            true => (self.requests_max - self.requests_max / 4, self.bytes_max - self.bytes_max / 4),
            false => (self.requests_max, self.bytes_max),
        };
        let is_full = waiting.requests() >= requests_max
            || (waiting.requests() > 0 && waiting.bytes + request.bytes > bytes_max);
        if is_full {
            return Err(AppendError::Busy);
        }
        let was_empty = waiting.requests() == 0;
        waiting.bytes += request.bytes;
        if is_bulk {
            waiting.bulk.push_back(request);
        } else {
            waiting.small.push_back(request);
        }
        drop(waiting);
        if was_empty {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Moves small requests of up to `bytes_max` and, if the writer has none, a large one to the writer. Waits until
    /// there is something to do. False: the store is closing and everything is done.
    pub(super) fn take(
        &self,
        small: &mut Vec<Request>,
        bulk: &mut Option<Request>,
        bytes_max: usize,
    ) -> bool {
        let mut waiting = self.waiting.lock();
        while bulk.is_none() && waiting.requests() == 0 {
            if waiting.closing {
                return false;
            }
            self.ready.wait(&mut waiting);
        }
        let mut taken_bytes = 0;
        while taken_bytes < bytes_max
            && let Some(request) = waiting.small.pop_front()
        {
            taken_bytes += request.bytes;
            small.push(request);
        }
        if bulk.is_none() {
            *bulk = waiting.bulk.pop_front();
            taken_bytes += bulk.as_ref().map_or(0, |request| request.bytes);
        }
        waiting.bytes -= taken_bytes;
        true
    }

    /// How many requests wait.
    pub(super) fn requests(&self) -> usize {
        self.waiting.lock().requests()
    }

    /// Why nothing is taken any more, once that is so.
    pub(super) fn stopped(&self) -> watch::Receiver<Option<SharedError>> {
        self.stopped.subscribe()
    }

    /// Takes nothing new from now on; the writer ends when what waits is written.
    pub(super) fn close(&self) {
        self.waiting.lock().closing = true;
        self.ready.notify_all();
    }

    /// Takes nothing any more, and gives up what waits. The first reason stays.
    pub(super) fn stop(&self, reason: &SharedError) {
        let mut waiting = self.waiting.lock();
        self.stopped.send_if_modified(|stopped| {
            let is_first = stopped.is_none();
            stopped.get_or_insert_with(|| reason.clone());
            is_first
        });
        let reason = self.stopped.borrow().clone().unwrap_or_else(|| reason.clone());
        let error = AppendError::Stopped(reason);
        waiting.bytes = 0;
        let small = std::mem::take(&mut waiting.small);
        let bulk = std::mem::take(&mut waiting.bulk);
        drop(waiting);
        for request in small.into_iter().chain(bulk) {
            request.give_up(&error, &error);
        }
    }
}
