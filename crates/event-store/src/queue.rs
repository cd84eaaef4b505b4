//! Appends that wait for a writer: limited in requests and in bytes, in three lanes.
//!
//! A large request (a campaign's lots) and a small one do not wait in the same lane: each commit takes the small ones first and
//! gives the current large one what is left of the commit's limit. Large ones fill no more than three quarters of the queue, so
//! that small ones find a place beside them, and both together no more than seven eighths. What is urgent (a password) goes before
//! both, or has a writer of its own.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot, watch};

use crate::errors::SharedError;
use crate::port::{AppendError, Appended, Batch, BatchMode, StreamAppend, Urgency};

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
pub fn weight_bytes(append: &StreamAppend) -> usize {
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
    line: Line,
    /// Whether what is ordinary is to leave room for it.
    pub(crate) wants_room: bool,
    answer: oneshot::Sender<Answer>,
}

impl Request {
    pub(crate) fn new(batch: Batch, answer: oneshot::Sender<Answer>) -> Self {
        let bytes = batch.appends.iter().map(weight_bytes).sum();
        let count = batch.appends.len();
        let Batch { mode, urgency, appends } = batch;
        let (line, wants_room) = (Line::of(urgency), urgency == Urgency::Urgent);
        let (results, appends) = (Vec::with_capacity(count), appends.into_iter());
        Self { mode, appends, results, durable: 0, count, bytes, line, wants_room, answer }
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

/// Where a batch waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Before everything that stands in the other one.
    Front,
    /// Small ones before large ones.
    Ordinary,
}

impl Line {
    fn of(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Ordinary => Self::Ordinary,
            Urgency::Ahead | Urgency::Urgent => Self::Front,
        }
    }
}

/// What a writer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lanes {
    /// Everything, what is urgent first.
    All,
    /// Only what stands in this line.
    Of(Line),
}

impl Lanes {
    fn take(self, line: Line) -> bool {
        match self {
            Self::All => true,
            Self::Of(only) => only == line,
        }
    }
}

#[derive(Default)]
struct Waiting {
    urgent: VecDeque<Request>,
    small: VecDeque<Request>,
    bulk: VecDeque<Request>,
    bytes: usize,
    /// The store is closing: what waits is still written, nothing new is accepted.
    closing: bool,
}

impl Waiting {
    fn requests(&self) -> usize {
        self.urgent.len() + self.small.len() + self.bulk.len()
    }

    fn is_empty(&self, line: Line) -> bool {
        match line {
            Line::Front => self.urgent.is_empty(),
            Line::Ordinary => self.small.is_empty() && self.bulk.is_empty(),
        }
    }

    /// All of these lanes, to be given up without the lock.
    fn drain(&mut self, lanes: Lanes) -> Vec<Request> {
        let mut drained = Vec::new();
        if lanes.take(Line::Front) {
            drained.extend(self.urgent.drain(..));
        }
        if lanes.take(Line::Ordinary) {
            drained.extend(self.small.drain(..).chain(self.bulk.drain(..)));
        }
        self.bytes -= drained.iter().map(|request| request.bytes).sum::<usize>();
        drained
    }

    fn take(
        &mut self,
        lanes: Lanes,
        small: &mut Vec<Request>,
        bulk: &mut Option<Request>,
        bytes_max: usize,
    ) -> Taken {
        let (urgent, ordinary) = (lanes.take(Line::Front), lanes.take(Line::Ordinary));
        let is_any = |line| lanes.take(line) && !self.is_empty(line);
        let has_nothing = ![Line::Front, Line::Ordinary].into_iter().any(is_any);
        if bulk.is_none() && has_nothing {
            return if self.closing { Taken::Closed } else { Taken::Nothing };
        }
        let mut taken_bytes = 0;
        // However much is urgent, what is not goes on.
        let urgent_bytes_max = match ordinary && !self.small.is_empty() {
            true => bytes_max - bytes_max / 4,
            false => bytes_max,
        };
        let ours = [(urgent, &mut self.urgent, urgent_bytes_max), (ordinary, &mut self.small, bytes_max)];
        for (_, lane, bytes_max) in ours.into_iter().filter(|(is_ours, ..)| *is_ours) {
            while taken_bytes < bytes_max
                && let Some(request) = lane.pop_front()
            {
                taken_bytes += request.bytes;
                small.push(request);
            }
        }
        if bulk.is_none() && ordinary {
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
    /// The same for writers that are no threads of their own, by what they take.
    ordinary: Notify,
    urgent: Notify,
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
            ordinary: Notify::new(),
            urgent: Notify::new(),
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
        let (is_bulk, line) = (request.bytes >= BULK_BYTES, request.line);
        let all_but =
            |part| (self.requests_max - self.requests_max / part, self.bytes_max - self.bytes_max / part);
        let (requests_max, bytes_max) = match (line, is_bulk) {
            (Line::Front, _) => (self.requests_max, self.bytes_max),
            (Line::Ordinary, false) => all_but(8),
            (Line::Ordinary, true) => all_but(4),
        };
        let is_full = waiting.requests() >= requests_max
            || (waiting.requests() > 0 && waiting.bytes + request.bytes > bytes_max);
        if is_full {
            return Err(AppendError::Busy);
        }
        let was_empty = waiting.is_empty(line);
        waiting.bytes += request.bytes;
        let lane = match (line, is_bulk) {
            (Line::Front, _) => &mut waiting.urgent,
            (Line::Ordinary, false) => &mut waiting.small,
            (Line::Ordinary, true) => &mut waiting.bulk,
        };
        lane.push_back(request);
        drop(waiting);
        if was_empty {
            self.ready.notify_one();
            self.arrived(line).notify_one();
        }
        Ok(())
    }

    fn arrived(&self, line: Line) -> &Notify {
        match line {
            Line::Ordinary => &self.ordinary,
            Line::Front => &self.urgent,
        }
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
            match waiting.take(Lanes::All, small, bulk, bytes_max) {
                Taken::Work => return true,
                Taken::Closed => return false,
                Taken::Nothing => self.ready.wait(&mut waiting),
            }
        }
    }

    /// Like [`Queue::take`], for a writer that is no thread of its own and takes only what stands in this line.
    pub(crate) async fn taken(
        &self,
        line: Line,
        small: &mut Vec<Request>,
        bulk: &mut Option<Request>,
        bytes_max: usize,
    ) -> bool {
        loop {
            let mut arrived = pin!(self.arrived(line).notified());
            arrived.as_mut().enable();
            let taken = self.waiting.lock().take(Lanes::Of(line), small, bulk, bytes_max);
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
        self.ordinary.notify_waiters();
        self.urgent.notify_waiters();
    }

    /// Answers all of this line that wait with this; what comes later is taken as before.
    pub(crate) fn give_up_waiting(&self, line: Line, error: &AppendError) {
        let waiting = self.waiting.lock().drain(Lanes::Of(line));
        waiting.into_iter().for_each(|request| request.give_up(error, error));
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
        let given_up = waiting.drain(Lanes::All);
        drop(waiting);
        given_up.into_iter().for_each(|request| request.give_up(&error, &error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Metadata, NewEvent};
    use crate::port::Expected;
    use chrono::DateTime;
    use futures::FutureExt;
    use uuid::Uuid;

    /// One append of so many bytes to a stream of this name.
    fn request(name: &str, urgency: Urgency, bytes: usize) -> Request {
        let event = NewEvent {
            id: Uuid::from_u128(1),
            kind: "Happened".into(),
            schema_version: 1,
            data: vec![b'x'; bytes].into(),
        };
        let metadata = Metadata {
            time: DateTime::UNIX_EPOCH,
            tenant: None,
            actor: "tester".into(),
            correlation: Uuid::from_u128(2),
            causation: None,
            traceparent: None,
        };
        let append =
            StreamAppend { stream: name.into(), expected: Expected::Any, metadata, events: vec![event] };
        let batch = Batch { mode: BatchMode::Independent, urgency, appends: vec![append] };
        Request::new(batch, oneshot::channel().0)
    }

    fn names(requests: &[Request]) -> Vec<String> {
        requests.iter().map(|request| request.appends.as_slice()[0].stream.to_string()).collect()
    }

    fn three_kinds() -> Queue {
        let queue = Queue::new(100, 1024 * 1024);
        queue.push(request("large", Urgency::Ordinary, 2 * BULK_BYTES)).unwrap();
        queue.push(request("small", Urgency::Ordinary, 1)).unwrap();
        queue.push(request("urgent", Urgency::Urgent, 1)).unwrap();
        queue
    }

    #[test]
    fn what_is_urgent_goes_before_what_came_earlier() {
        let (queue, mut small, mut bulk) = (three_kinds(), Vec::new(), None);
        assert!(queue.take(&mut small, &mut bulk, 1024));
        assert_eq!(names(&small), ["urgent", "small"]);
        assert_eq!(names(bulk.as_slice()), ["large"]);
        assert_eq!(queue.requests(), 0);
    }

    #[tokio::test]
    async fn a_writer_of_one_line_takes_nothing_of_the_other() {
        let (queue, mut small, mut bulk) = (three_kinds(), Vec::new(), None);
        assert!(queue.taken(Line::Front, &mut small, &mut bulk, 1024).await);
        assert_eq!((names(&small), bulk.is_none()), (vec!["urgent".to_owned()], true));
        small.clear();
        assert!(queue.taken(Line::Front, &mut small, &mut bulk, 1024).now_or_never().is_none());
        assert!(queue.taken(Line::Ordinary, &mut small, &mut bulk, 1024).await);
        assert_eq!(
            (names(&small), names(bulk.as_slice())),
            (vec!["small".to_owned()], vec!["large".to_owned()])
        );
    }

    #[tokio::test]
    async fn each_writer_is_woken_by_what_it_takes_and_by_the_end() {
        let queue = Queue::new(100, 1024 * 1024);
        let (mut small, mut bulk) = (Vec::new(), None);
        let mut urgent = pin!(queue.taken(Line::Front, &mut small, &mut bulk, 1024));
        assert!(urgent.as_mut().now_or_never().is_none());
        queue.push(request("ordinary", Urgency::Ordinary, 1)).unwrap();
        assert!(urgent.as_mut().now_or_never().is_none());
        queue.push(request("urgent", Urgency::Urgent, 1)).unwrap();
        assert_eq!(urgent.now_or_never(), Some(true));
        let (mut small, mut bulk) = (Vec::new(), None);
        let mut urgent = pin!(queue.taken(Line::Front, &mut small, &mut bulk, 1024));
        assert!(urgent.as_mut().now_or_never().is_none());
        queue.close();
        assert_eq!(urgent.now_or_never(), Some(false), "although something ordinary waits");
        let (mut small, mut bulk) = (Vec::new(), None);
        assert!(queue.taken(Line::Ordinary, &mut small, &mut bulk, 1024).await, "it is still written");
    }

    #[test]
    fn a_queue_that_is_full_of_what_is_ordinary_has_room_for_what_is_urgent() {
        let queue = Queue::new(80, 1024 * 1024);
        let fill = |urgency, bytes| {
            (0..1_000).take_while(|_| queue.push(request("one", urgency, bytes)).is_ok()).count()
        };
        assert_eq!(fill(Urgency::Ordinary, BULK_BYTES), 11, "by their size");
        assert_eq!(fill(Urgency::Ordinary, 1), 70 - 11, "by their number");
        assert_eq!(fill(Urgency::Urgent, 1), 10);
    }

    #[test]
    fn what_is_ordinary_goes_on_however_much_is_urgent() {
        let queue = Queue::new(1_000, 1024 * 1024);
        for _ in 0..100 {
            queue.push(request("urgent", Urgency::Urgent, 800)).unwrap();
        }
        queue.push(request("small", Urgency::Ordinary, 1)).unwrap();
        let (mut small, mut bulk) = (Vec::new(), None);
        assert!(queue.take(&mut small, &mut bulk, 8_000));
        assert_eq!(names(&small).last().map(String::as_str), Some("small"));
        assert!(small.len() < 10, "{}", small.len());
    }

    #[test]
    fn only_the_lane_that_is_given_up_loses_what_waits() {
        let queue = three_kinds();
        queue.give_up_waiting(Line::Ordinary, &AppendError::Busy);
        assert_eq!(queue.requests(), 1);
        queue.stop(&SharedError::new(WasClosed));
        assert_eq!(queue.requests(), 0);
        assert!(queue.push(request("late", Urgency::Urgent, 1)).is_err());
    }
}
