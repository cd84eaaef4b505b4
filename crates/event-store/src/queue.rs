//! Appends that wait for the writer: limited in requests and in bytes, in two lanes.
//!
//! A large request (a campaign's lots) and a small one (a password) do not wait in the same queue: each commit takes
//! the small ones first and gives the current large one what is left of the commit's limit. Large ones fill no more
//! than three quarters of the queue, so that small ones find a place beside them.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot, watch};

use crate::errors::SharedError;
use crate::port::{AppendError, Appended, Batch, BatchMode, StreamAppend};

/// A store that was closed accepts nothing any more.
#[derive(Debug, thiserror::Error)]
#[error("it was closed")]
pub(crate) struct WasClosed;

/// Nor does one without its writer.
#[derive(Debug, thiserror::Error)]
#[error("its writer panicked")]
struct WriterPanicked;

/// However a writer ends: nobody waits for it for ever.
pub(crate) struct StopAtEnd(pub(crate) Arc<Queue>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        let reason = match std::thread::panicking() {
            true => SharedError::new(WriterPanicked),
            false => SharedError::new(WasClosed),
        };
        self.0.stop(&reason);
    }
}

/// From this size on a request is a large one.
const BULK_BYTES: usize = 64 * 1024;
/// How much of a large request goes into a commit even if small ones fill it.
pub(crate) const BULK_BYTES_MIN: usize = 512 * 1024;
/// What an event takes beside its data, roughly: in memory and, with its indexes, on disk.
pub(crate) const EVENT_OVERHEAD_BYTES: usize = 200;

pub(crate) type Answer = Vec<Result<Appended, AppendError>>;

/// The data of an append in bytes, and the overhead of keeping it.
pub(crate) fn weight_bytes(append: &StreamAppend) -> usize {
    append.events.iter().map(|event| event.data.len() + EVENT_OVERHEAD_BYTES).sum()
}

/// A batch on its way through the writer.
pub(crate) struct Request {
    pub(crate) mode: BatchMode,
    /// Those not tried yet.
    pub(crate) appends: std::vec::IntoIter<StreamAppend>,
    /// One result for each append that was tried.
    pub(crate) results: Answer,
    /// So many of the results are durable.
    pub(crate) durable: usize,
    /// How many appends there are in all.
    count: usize,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
}

impl Request {
    pub(crate) fn new(batch: Batch, answer: oneshot::Sender<Answer>) -> Self {
        let bytes = batch.appends.iter().map(weight_bytes).sum();
        let count = batch.appends.len();
        let (results, appends) = (Vec::with_capacity(count), batch.appends.into_iter());
        Self { mode: batch.mode, appends, results, durable: 0, count, bytes, answer }
    }

    /// The first of a guarded batch was refused: the others are not tried.
    pub(crate) fn is_held_back(&self) -> bool {
        self.mode == BatchMode::Guarded && matches!(self.results.first(), Some(Err(_)))
    }

    /// Tells the caller, who may have gone away.
    pub(crate) fn answer(self) {
        let _ = self.answer.send(self.results);
    }

    /// Tells the caller that the store has stopped. What is durable stays so; `uncertain` is for what was written but
    /// is not known to be durable.
    pub(crate) fn give_up(mut self, stopped: &AppendError, uncertain: &AppendError) {
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

    /// All of them, to be given up without the lock.
    fn drain(&mut self) -> impl Iterator<Item = Request> + use<> {
        self.bytes = 0;
        std::mem::take(&mut self.small).into_iter().chain(std::mem::take(&mut self.bulk))
    }

    fn take(&mut self, small: &mut Vec<Request>, bulk: &mut Option<Request>, bytes_max: usize) -> Taken {
        if bulk.is_none() && self.requests() == 0 {
            return if self.closing { Taken::Closed } else { Taken::Nothing };
        }
        let mut taken_bytes = 0;
        while taken_bytes < bytes_max
            && let Some(request) = self.small.pop_front()
        {
            taken_bytes += request.bytes;
            small.push(request);
        }
        if bulk.is_none() {
            *bulk = self.bulk.pop_front();
            taken_bytes += bulk.as_ref().map_or(0, |request| request.bytes);
        }
        self.bytes -= taken_bytes;
        Taken::Work
    }
}

/// What a writer finds when it looks.
enum Taken {
    Work,
    Nothing,
    /// The store is closing and everything is done.
    Closed,
}

/// The writer's queue.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    /// The same for a writer that is no thread of its own.
    arrived: Notify,
    /// Why nothing is accepted any more. Changed under the lock of `waiting`.
    stopped: watch::Sender<Option<SharedError>>,
    requests_max: usize,
    bytes_max: usize,
}

impl Queue {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            ready: Condvar::new(),
            arrived: Notify::new(),
            stopped: watch::Sender::new(None),
            requests_max,
            bytes_max,
        }
    }

    /// Accepts the request, or says at once why not. One that exceeds the limit in bytes by itself is accepted when
    /// nothing else waits.
    pub(crate) fn push(&self, request: Request) -> Result<(), AppendError> {
        let mut waiting = self.waiting.lock();
        if let Some(reason) = &*self.stopped.borrow() {
            return Err(AppendError::Stopped(reason.clone()));
        }
        if waiting.closing {
            return Err(AppendError::stopped(WasClosed));
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
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Moves small requests of up to `bytes_max` and, if the writer has none, a large one to the writer. Waits until
    /// there is something to do. False: the store is closing and everything is done.
    pub(crate) fn take(
        &self,
        small: &mut Vec<Request>,
        bulk: &mut Option<Request>,
        bytes_max: usize,
    ) -> bool {
        let mut waiting = self.waiting.lock();
        loop {
            match waiting.take(small, bulk, bytes_max) {
                Taken::Work => return true,
                Taken::Closed => return false,
                Taken::Nothing => self.ready.wait(&mut waiting),
            }
        }
    }

    /// Like [`Queue::take`], for a writer that is no thread of its own.
    pub(crate) async fn taken(
        &self,
        small: &mut Vec<Request>,
        bulk: &mut Option<Request>,
        bytes_max: usize,
    ) -> bool {
        loop {
            let mut arrived = pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let taken = self.waiting.lock().take(small, bulk, bytes_max);
            match taken {
                Taken::Work => return true,
                Taken::Closed => return false,
                Taken::Nothing => arrived.await,
            }
        }
    }

    /// How many requests wait.
    pub(crate) fn requests(&self) -> usize {
        self.waiting.lock().requests()
    }

    /// Why nothing is taken any more, once that is so.
    pub(crate) fn stopped(&self) -> watch::Receiver<Option<SharedError>> {
        self.stopped.subscribe()
    }

    /// Takes nothing new from now on; the writer ends when what waits is written.
    pub(crate) fn close(&self) {
        self.waiting.lock().closing = true;
        self.ready.notify_all();
        self.arrived.notify_one();
    }

    /// Answers all that wait with this; what comes later is taken as before.
    pub(crate) fn give_up_waiting(&self, error: &AppendError) {
        let waiting = self.waiting.lock().drain();
        waiting.for_each(|request| request.give_up(error, error));
    }

    /// Takes nothing any more, and gives up what waits. The first reason stays.
    pub(crate) fn stop(&self, reason: &SharedError) {
        let mut waiting = self.waiting.lock();
        self.stopped.send_if_modified(|stopped| {
            let is_first = stopped.is_none();
            stopped.get_or_insert_with(|| reason.clone());
            is_first
        });
        let reason = self.stopped.borrow().clone().unwrap_or_else(|| reason.clone());
        let error = AppendError::Stopped(reason);
        let given_up = waiting.drain();
        drop(waiting);
        given_up.for_each(|request| request.give_up(&error, &error));
    }
}
