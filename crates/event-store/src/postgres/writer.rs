//! Takes what waits in this process and writes it with one call of the server, so that many callers share one commit and one
//! round trip. What is urgent has a writer and a connection of its own.

use deadpool_postgres::Pool;
use kite_postgres::Connector;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use super::PostgresOptions;
use super::call::{Call, Placed, Standing, standing, version_of};
use super::follow::Teller;
use super::session::{CallError, Session};
use super::trial::{Seen, Trial};
use crate::envelope::RecordedEvent;
use crate::errors::{SharedError, describe};
use crate::measure::{Measures, Stopwatch};
use crate::port::{AppendError, Appended, BatchMode, StreamAppend};
use crate::queue::{BULK_BYTES_MIN, Line, Queue, Request, weight_bytes};

/// So long after something urgent more of it is expected.
const URGENT_FOR: Duration = Duration::from_millis(100);
/// So long an urgent call may take before what is ordinary leaves more room.
const URGENT_WITHIN: Duration = Duration::from_millis(4);
/// While there is something urgent, what is ordinary leaves as much time free as it takes, and up to so many times as much.
const ROOMS_MAX: u32 = 6;
/// But no more than this at once.
const ROOM_MAX: Duration = Duration::from_millis(200);

/// What was urgent last, shared by the writers of a process.
#[derive(Clone, Default)]
pub(super) struct LastUrgent(Arc<Mutex<Option<(Instant, Duration)>>>);

impl LastUrgent {
    fn note(&self, now: Instant, took: Duration) {
        *self.0.lock() = Some((now, took));
    }

    /// How long something ordinary that took so long waits before more of it follows: the longer, the slower what is urgent is.
    fn room_after(&self, now: Instant, took: Duration) -> Duration {
        let Some((at, urgent)) = *self.0.lock() else { return Duration::ZERO };
        if now.duration_since(at) >= URGENT_FOR {
            return Duration::ZERO;
        }
        let times = (urgent.as_millis() / URGENT_WITHIN.as_millis()) as u32;
        (took * times.clamp(1, ROOMS_MAX)).min(ROOM_MAX)
    }
}

/// How long it may take to have a connection that can be written over.
const SESSION_WITHIN: Duration = Duration::from_secs(15);

/// See the module.
pub(super) struct Writer {
    connector: Connector,
    /// What reads are made over.
    pool: Pool,
    queue: Arc<Queue>,
    /// What it takes out of the queue.
    line: Line,
    last_urgent: LastUrgent,
    teller: Teller,
    call_bytes_max: usize,
    append_bytes_max: usize,
    call_timeout: Duration,
    measures: Measures,
    session: Option<Session>,
}

impl Writer {
    pub(super) fn new(
        connector: Connector,
        pool: Pool,
        queue: Arc<Queue>,
        line: Line,
        last_urgent: LastUrgent,
        teller: Teller,
        options: &PostgresOptions,
    ) -> Self {
        Self {
            connector,
            pool,
            queue,
            line,
            last_urgent,
            teller,
            call_bytes_max: options.call_bytes_max,
            append_bytes_max: options.append_bytes_max,
            call_timeout: options.call_timeout,
            measures: Measures::new(),
            session: None,
        }
    }

    /// Writes until the store is closed and everything is written.
    pub(super) async fn run(mut self) {
        // Whoever comes first does not wait until there is a connection.
        let _ = timeout(SESSION_WITHIN, self.session()).await;
        let (mut small, mut bulk) = (Vec::new(), None);
        while self.queue.taken(self.line, &mut small, &mut bulk, self.call_bytes_max).await {
            let mut requests: Vec<Request> = small.drain(..).chain(bulk.take()).collect();
            self.measures.queue(self.queue.requests());
            let mut trials = self.trials(&mut requests);
            let wants_room = requests.iter().any(|request| request.wants_room);
            let begun = Instant::now();
            let away = self.write(&mut trials).await;
            for (request, trial) in requests.iter_mut().zip(trials) {
                request.results.extend(trial.answers());
                request.durable = request.results.len();
            }
            let last = requests.pop_if(|last| last.appends.len() > 0);
            // Nobody waits for one try after the other. Who is answered may come again at once, and is to be tried anew.
            if let Some(away) = &away {
                self.queue.give_up_waiting(self.line, away);
            }
            requests.into_iter().for_each(Request::answer);
            match (last, away) {
                (Some(rest), Some(away)) => rest.give_up(&away, &away),
                (rest, _) => bulk = rest,
            }
            self.leave_room(begun.elapsed(), wants_room).await;
        }
    }

    /// Large batches written one right after the other would keep the server busy, and whatever is urgent waiting.
    #[expect(clippy::disallowed_methods, reason = "for the server; nothing is decided here")]
    async fn leave_room(&self, took: Duration, wants_room: bool) {
        match self.line {
            Line::Front if wants_room => self.last_urgent.note(Instant::now(), took),
            Line::Front => {}
            Line::Ordinary => {
                let room = self.last_urgent.room_after(Instant::now(), took);
                if !room.is_zero() {
                    sleep(room).await;
                }
            }
        }
    }

    /// What is written next: all of each request, of the last (a large one) as much as there is room for.
    fn trials(&self, requests: &mut [Request]) -> Vec<Trial> {
        let count = requests.len();
        let mut bytes = 0;
        let mut trials = Vec::with_capacity(count);
        for (number, request) in requests.iter_mut().enumerate() {
            let is_last = number + 1 == count;
            let room = match is_last && request.mode != BatchMode::Atomic {
                true => self.call_bytes_max.saturating_sub(bytes).max(BULK_BYTES_MIN),
                false => usize::MAX,
            };
            let (appends, taken) = take(request, room);
            bytes += taken;
            // What follows the first of a guarded request stands alone, once that one is written.
            let mode = match request.mode {
                BatchMode::Guarded if !request.results.is_empty() => BatchMode::Independent,
                mode => mode,
            };
            let mut trial = Trial::new(mode, appends, self.append_bytes_max);
            if request.is_held_back() {
                trial.hold_back();
            }
            trials.push(trial);
        }
        trials
    }

    /// Calls until everything is answered. An error is the answer of all that is open; it is given back if there is no server to
    /// write to.
    async fn write(&mut self, trials: &mut [Trial]) -> Option<AppendError> {
        let Err(error) = self.try_all(trials).await else { return None };
        tracing::warn!(error = describe(&error), "the event store in PostgreSQL could not write");
        self.session = None;
        let is_away = error.is_away();
        let answer = error.into_answer();
        trials.iter_mut().for_each(|trial| trial.give_up(&answer));
        is_away.then_some(answer)
    }

    async fn try_all(&mut self, trials: &mut [Trial]) -> Result<(), CallError> {
        while !trials.iter().all(Trial::is_over) {
            let call_timeout = self.call_timeout;
            let teller = self.teller.clone();
            let stopwatch = Stopwatch::start();
            let session = timeout(SESSION_WITHIN.min(call_timeout), self.session())
                .await
                .map_err(|_| CallError::NotConnected)??;
            let once = async {
                refuse_twice(&session.client, trials).await?;
                once(session, &teller, trials).await
            };
            let written = timeout(call_timeout, once).await.map_err(|_| CallError::TooLong)??;
            if written > 0 {
                self.measures.committed(&stopwatch, written);
            }
        }
        Ok(())
    }

    /// The connection that is there, or a new one to a server that still has this log.
    async fn session(&mut self) -> Result<&Session, CallError> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            // What is read comes from the same server.
            self.pool.retain(|_, _| false);
            let session = Session::open(&self.connector, self.line, self.call_timeout).await?;
            if let Err(wrong) =
                self.teller.head.check(&session.client).await.map_err(CallError::NotReached)?
            {
                let wrong = SharedError::new(wrong);
                self.queue.stop(&wrong);
                return Err(CallError::WrongLog(wrong));
            }
            self.session = Some(session);
        }
        Ok(self.session.as_ref().expect("it was just made"))
    }
}

/// The next appends of a request, until they weigh `room`, at least one; and what they weigh.
fn take(request: &mut Request, room: usize) -> (Vec<StreamAppend>, usize) {
    let mut taken = 0;
    let mut appends = Vec::new();
    while taken < room
        && let Some(append) = request.appends.next()
    {
        taken += weight_bytes(&append);
        appends.push(append);
    }
    (appends, taken)
}

/// What brings an event twice is refused without a try.
async fn refuse_twice(client: &Client, trials: &mut [Trial]) -> Result<(), CallError> {
    for trial in trials {
        while let Some(place) = trial.twice() {
            let actual = version_of(client, &trial.appends[place].stream).await? + trial.events_before(place);
            trial.refuse(place, AppendError::Conflict { actual });
        }
    }
    Ok(())
}

/// One call, and what its answers mean. Gives back how many events it has written.
async fn once(session: &Session, teller: &Teller, trials: &mut [Trial]) -> Result<usize, CallError> {
    let (mut call, mut seen, mut places) = (Call::default(), Seen::new(), Vec::new());
    for (number, trial) in trials.iter().enumerate() {
        for place in trial.next(&mut seen) {
            call.push(number, trial.mode, &trial.appends[place]);
            places.push((number, place));
        }
    }
    let placed = match call.make(session, &teller.head).await {
        Ok(placed) => placed,
        Err(CallError::IdTaken(error)) => {
            // A number that is taken, and no event of ours: the log is damaged, and trying again would not help.
            let is_settled = settle_taken(session, trials, &places).await?;
            return is_settled.then_some(0).ok_or(CallError::NothingWritten(error));
        }
        Err(error) => return Err(error),
    };
    let (mut refused, mut fresh) = (Vec::new(), Vec::new());
    for (&(number, place), placed) in places.iter().zip(placed) {
        match placed {
            Placed::Written(appended) => {
                fresh.extend(recorded(&trials[number].appends[place], appended));
                trials[number].answer(place, appended);
            }
            Placed::Checked(appended) => trials[number].answer(place, appended),
            Placed::Refused { actual } => refused.push(((number, place), actual)),
            // It waits for what becomes of the one that was refused.
            Placed::NotTried => {}
        }
    }
    let written = fresh.len();
    teller.push(fresh);
    settle_refused(session, trials, &refused).await?;
    Ok(written)
}

/// The events of an append, as the log gives them back.
fn recorded(append: &StreamAppend, appended: Appended) -> impl Iterator<Item = RecordedEvent> {
    let metadata = append.metadata.clone().at_log_precision();
    let before = append.events.len() as u64;
    let (version, position) = (appended.version - before, appended.position - before);
    (1..).zip(&append.events).map(move |(number, event)| RecordedEvent {
        position: position + number,
        stream: append.stream.clone(),
        version: version + number,
        id: event.id,
        kind: event.kind.clone(),
        schema_version: event.schema_version,
        metadata: metadata.clone(),
        data: event.data.clone(),
    })
}

/// Some appends were refused, each with its stream elsewhere: those that are no repeats are in conflict.
async fn settle_refused(
    session: &Session,
    trials: &mut [Trial],
    refused: &[((usize, usize), u64)],
) -> Result<(), CallError> {
    if refused.is_empty() {
        return Ok(());
    }
    let appends: Vec<&StreamAppend> =
        refused.iter().map(|((number, place), _)| &trials[*number].appends[*place]).collect();
    let found = standing(&session.client, &appends).await?;
    session.disk.flushed(&session.client).await.map_err(CallError::Lost)?;
    for (((number, place), actual), standing) in refused.iter().zip(found) {
        trials[*number].settle(*place, standing, *actual);
    }
    Ok(())
}

/// Some events of a call stand in the log already, so nothing of it was written: whose they are is answered. False: nobody's.
async fn settle_taken(
    session: &Session,
    trials: &mut [Trial],
    places: &[(usize, usize)],
) -> Result<bool, CallError> {
    let appends: Vec<&StreamAppend> =
        places.iter().map(|(number, place)| &trials[*number].appends[*place]).collect();
    let found = standing(&session.client, &appends).await?;
    let is_any = found.iter().any(|standing| *standing != Standing::Not);
    let mut settled = Vec::with_capacity(places.len());
    for ((number, place), standing) in places.iter().zip(found) {
        let actual = match standing {
            Standing::Not => continue,
            Standing::All(_) => 0,
            Standing::Otherwise => {
                version_of(&session.client, &trials[*number].appends[*place].stream).await?
            }
        };
        settled.push((*number, *place, standing, actual));
    }
    session.disk.flushed(&session.client).await.map_err(CallError::Lost)?;
    for (number, place, standing, actual) in settled {
        trials[number].settle(place, standing, actual);
    }
    Ok(is_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_ordinary_leaves_the_more_room_the_slower_what_is_urgent_is() {
        let (last, now) = (LastUrgent::default(), Instant::now());
        assert_eq!(last.room_after(now, 10 * MS), Duration::ZERO, "there was nothing urgent");
        for (urgent, took, room) in [(MS, 10, 10), (9 * MS, 10, 20), (200 * MS, 10, 60), (200 * MS, 90, 200)]
        {
            last.note(now, urgent);
            assert_eq!(last.room_after(now, took * MS), room * MS, "{urgent:?}, {took}");
        }
        assert_eq!(last.room_after(now + URGENT_FOR, 10 * MS), Duration::ZERO, "nothing urgent any more");
    }
}
