//! Following the head of the log: woken by NOTIFY while somebody here follows closely, and looking by itself all the same.

use kite_postgres::{Connector, Driven, Silence, is_silence};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Statement};
use uuid::Uuid;

use super::flush::{Disk, NotFlushed};
use super::reading;
use crate::envelope::RecordedEvent;
use crate::errors::{SharedError, describe};
use crate::port::{Attention, Filter, Following, Page, Position, ReadError};
use crate::queue::Queue;
use crate::recent::Recent;

/// Before the server is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// Events that are read at once.
const PAGE_EVENTS: usize = 1_000;
/// A look that takes longer counts as lost.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// What this process knows of the end of the log.
pub(super) struct Head {
    log_id: Uuid,
    /// The newest events: what this process has written, and what it has read of the others.
    recent: Recent,
    /// The last event that was seen, or acknowledged.
    newest: Mutex<Place>,
    /// Everything up to here is known to be durable.
    durable: AtomicU64,
    /// Up to here this process has written, or is about to know that it has.
    expected: AtomicU64,
    /// For who follows: there is something to read.
    woken: Notify,
    disk: Disk,
    /// A server had another log, or had lost something of this one.
    is_wrong: AtomicBool,
    /// When the server answered last.
    answered_at: Mutex<Instant>,
    silence: Silence,
}

/// What adds to it and tells of it: whoever waits for the head hears of the end when the last of these is gone.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) head: Arc<Head>,
    followers: Followers,
    told: Arc<watch::Sender<Position>>,
}

/// An event, by where it stands and which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: Position,
    /// Of the first event's predecessor there is none.
    pub(super) id: Option<Uuid>,
}

impl From<&RecordedEvent> for Place {
    fn from(event: &RecordedEvent) -> Self {
        Self { position: event.position, id: Some(event.id) }
    }
}

/// Why the log cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongLog {
    /// Another log stands where this one was.
    #[error("another log ({found}) stands where {known} was")]
    Another { known: Uuid, found: Uuid },
    /// Events that were acknowledged are not in it.
    #[error(
        "the log ends at position {found}, and events up to {known} were acknowledged: it was restored, or a standby was \
         promoted that had not got everything"
    )]
    GoneBack { known: Position, found: Position },
    /// Others have gone on where it had gone back.
    #[error(
        "at position {known} of the log stands another event than the one that was acknowledged: it was restored, or a \
         standby was promoted that had not got everything, and others have gone on with it"
    )]
    Changed { known: Position },
}

impl Head {
    pub(super) fn new(log_id: Uuid, newest: Place, disk: Disk, recent_bytes_max: usize) -> Self {
        Self {
            log_id,
            recent: Recent::new(newest.position, recent_bytes_max),
            newest: Mutex::new(newest),
            durable: AtomicU64::new(newest.position),
            expected: AtomicU64::new(newest.position),
            woken: Notify::new(),
            disk,
            is_wrong: AtomicBool::new(false),
            answered_at: Mutex::new(Instant::now()),
            silence: Silence::default(),
        }
    }

    /// The page after a position if all of it is in memory.
    pub(super) fn page(&self, after: Position, limit: usize, filter: &Filter) -> Option<Page> {
        // What comes after the last one that is known may be there, and not known yet.
        if after >= self.recent.head() {
            return None;
        }
        self.recent.page(after, limit, filter)
    }

    /// It was seen, or acknowledged, and is durable.
    pub(super) fn note(&self, place: Place) {
        self.note_durable(place.position);
        let mut newest = self.newest.lock();
        if newest.position < place.position {
            *newest = place;
        }
    }

    /// Waits until everything up to there, which this session has seen, is durable.
    pub(super) async fn until_durable(&self, client: &Client, position: Position) -> Result<(), NotFlushed> {
        if position > self.durable.load(Ordering::Acquire) {
            self.disk.flushed_soon(client).await?;
            self.note_durable(position);
        }
        Ok(())
    }

    /// This process has written up to there, and will know it as soon as that is durable. Whoever follows need not read it.
    pub(super) fn expect(&self, position: Position) {
        self.expected.fetch_max(position, Ordering::AcqRel);
    }

    /// Whether the log goes on beyond what this process knows, or is about to know.
    fn is_news(&self, position: Position) -> bool {
        position > self.recent.head().max(self.expected.load(Ordering::Acquire))
    }

    /// Whoever follows the log looks again.
    pub(super) fn look_again(&self) {
        self.woken.notify_one();
    }

    fn note_durable(&self, position: Position) {
        self.durable.fetch_max(position, Ordering::AcqRel);
    }

    /// Whether some server had not what is known of the log.
    pub(super) fn is_wrong(&self) -> bool {
        self.is_wrong.load(Ordering::Relaxed)
    }

    /// For how long the server has not answered, although it is asked several times a second.
    pub(super) fn silent_for(&self) -> Duration {
        self.answered_at.lock().elapsed()
    }

    fn note_answer(&self) {
        *self.answered_at.lock() = Instant::now();
        self.silence.set(false);
    }

    /// Whether the server says anything.
    pub(super) fn silence(&self) -> &Silence {
        &self.silence
    }

    /// Holds what a server has against what is known of the log.
    pub(super) async fn check(&self, client: &Client) -> Result<Result<(), WrongLog>, tokio_postgres::Error> {
        let checked = self.compare(client).await?;
        self.is_wrong.fetch_or(checked.is_err(), Ordering::Relaxed);
        Ok(checked)
    }

    async fn compare(&self, client: &Client) -> Result<Result<(), WrongLog>, tokio_postgres::Error> {
        let known = *self.newest.lock();
        let (log_id, newest) = look(client).await?;
        if log_id != self.log_id {
            return Ok(Err(WrongLog::Another { known: self.log_id, found: log_id }));
        }
        if newest.position < known.position {
            return Ok(Err(WrongLog::GoneBack { known: known.position, found: newest.position }));
        }
        let found = id_at(client, known.position).await?;
        let is_it = known.id.is_none() || found == known.id;
        Ok(is_it.then_some(()).ok_or(WrongLog::Changed { known: known.position }))
    }
}

impl Teller {
    pub(super) fn new(head: Arc<Head>, followers: Followers) -> Self {
        let told = Arc::new(watch::Sender::new(head.recent.head()));
        Self { head, followers, told }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Position> {
        self.told.subscribe()
    }

    /// Adjacent events that are durable, in their order. What is between them and what is known is for whoever follows.
    pub(super) fn push(&self, events: Vec<RecordedEvent>) {
        let Some(last) = events.last() else { return };
        self.head.note(last.into());
        let are_waited_for = self.followers.wait_for(events.iter().map(|event| event.kind.as_str()));
        if self.head.recent.push_next(events) {
            self.tell(self.head.recent.head());
        } else if are_waited_for {
            self.head.look_again();
        }
    }

    /// What cannot be read is passed over.
    fn pass_over(&self, place: Place) {
        self.head.note(place);
        self.head.recent.begin_after(place.position);
        self.tell(place.position);
    }

    fn tell(&self, position: Position) {
        self.told.send_if_modified(|known| {
            let is_news = *known < position;
            *known = position.max(*known);
            is_news
        });
    }
}

/// Who follows the log in this process. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Followers(Arc<Mutex<Vec<Weak<Attention>>>>);

impl Followers {
    pub(super) fn one_more(&self, attention: Attention) -> Following {
        let attention = Arc::new(attention);
        let mut followers = self.0.lock();
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(Arc::downgrade(&attention));
        Following::by(attention)
    }

    fn is_any(&self, fits: impl Fn(&Attention) -> bool) -> bool {
        self.0.lock().iter().filter_map(Weak::upgrade).any(|attention| fits(&attention))
    }

    /// Whether anybody reads all that is new.
    fn are_there(&self) -> bool {
        self.is_any(|_| true)
    }

    /// Whether anybody wants to know of something at once.
    fn are_close(&self) -> bool {
        self.is_any(|attention| matches!(attention, Attention::Close(_)))
    }

    /// Whether anybody does something at once about one of these kinds.
    fn wait_for<'k>(&self, kinds: impl Iterator<Item = &'k str> + Clone) -> bool {
        self.is_any(|attention| match attention {
            Attention::Close(wanted) => kinds.clone().any(|kind| wanted.admits(kind)),
            Attention::Steady => false,
        })
    }
}

/// What the server says of an append.
struct Word<'w> {
    /// Where the log ends; none: it says something else.
    end: Option<Position>,
    /// What was written, separated by spaces; empty: it does not say.
    kinds: &'w str,
}

impl<'w> Word<'w> {
    fn of(payload: &'w str) -> Self {
        let (end, kinds) = payload.split_once(' ').unwrap_or((payload, ""));
        Self { end: end.parse().ok(), kinds }
    }

    /// Whether something is to be read at once.
    fn wakes(&self, head: &Head, followers: &Followers) -> bool {
        // What this process writes itself is no news.
        self.end.is_none_or(|end| head.is_news(end))
            && (self.kinds.is_empty() || followers.wait_for(self.kinds.split(' ')))
    }
}

/// Why a look at the head came to nothing.
#[derive(Debug, thiserror::Error)]
enum LostLook {
    #[error("the server cannot be asked")]
    Server(#[from] tokio_postgres::Error),
    #[error("the connection has ended")]
    Ended,
    #[error("the server does not answer")]
    TooLong,
    #[error("what is new cannot be read")]
    Read(#[source] ReadError),
    #[error("nobody can be told of what is new")]
    NotFlushed(#[from] NotFlushed),
}

impl LostLook {
    /// Whether the server says nothing at all.
    fn is_silence(&self) -> bool {
        matches!(self, Self::TooLong) || is_silence(self)
    }
}

/// Which log it is, and where it ends.
pub(super) async fn look(client: &Client) -> Result<(Uuid, Place), tokio_postgres::Error> {
    // Not a join: a server that does not know yet how many rows there are may go through the whole log for one.
    let sql = "SELECT log_id, position, (SELECT id FROM kite_log.events WHERE position = head.position) FROM kite_log.head";
    let row = client.query_typed_one(sql, &[]).await?;
    Ok((row.get(0), Place { position: row.get::<_, i64>(1) as Position, id: row.get(2) }))
}

async fn id_at(client: &Client, position: Position) -> Result<Option<Uuid>, tokio_postgres::Error> {
    let sql = "SELECT id FROM kite_log.events WHERE position = $1";
    let row = client.query_typed_opt(sql, &[(&(position as i64), Type::INT8)]).await?;
    Ok(row.map(|row| row.get(0)))
}

#[derive(Debug, thiserror::Error)]
#[error("what follows the log panicked")]
struct FollowerPanicked;

/// Nobody would hear of anything any more.
struct StopAtPanic(Arc<Queue>);

impl Drop for StopAtPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(&SharedError::new(FollowerPanicked));
        }
    }
}

/// See the module.
pub(super) struct Follower {
    pub(super) connector: Connector,
    pub(super) queue: Arc<Queue>,
    pub(super) teller: Teller,
    /// How often it looks, whatever it hears.
    pub(super) look_every: Duration,
    pub(super) followers: Followers,
}

impl Follower {
    /// Follows for ever, over as many connections as it takes.
    #[expect(clippy::disallowed_methods, reason = "waits for the network; nothing is decided here")]
    pub(super) async fn run(self) {
        let _stop = StopAtPanic(Arc::clone(&self.queue));
        loop {
            match timeout(LOOK_TIMEOUT, self.connector.connect()).await {
                Ok(Ok((client, connection))) => {
                    let lost = self.follow(client, connection).await;
                    self.teller.head.silence.set(lost.is_silence());
                    tracing::warn!(error = describe(&lost), "the log is not followed any more");
                }
                Ok(Err(error)) => {
                    self.teller.head.silence.set(is_silence(&error));
                    tracing::warn!(error = describe(&error), "nobody can be followed");
                }
                Err(_) => {
                    self.teller.head.silence.set(true);
                    tracing::warn!("nobody can be followed: the server does not say anything");
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Over one connection, until it is lost.
    async fn follow(&self, client: Client, mut connection: Driven) -> LostLook {
        let head = &self.teller.head;
        let listening = async {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(news))) => {
                        if Word::of(news.payload()).wakes(head, &self.followers) {
                            head.look_again();
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error.into(),
                    None => return LostLook::Ended,
                }
            }
        };
        tokio::select! {
            lost = listening => lost,
            lost = self.read_on_and_on(&client) => lost,
        }
    }

    async fn read_on_and_on(&self, client: &Client) -> LostLook {
        match timeout(LOOK_TIMEOUT, self.teller.head.check(client)).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(wrong))) => {
                self.queue.stop(&SharedError::new(wrong));
                // Whoever reads is to hear of that, not of silence.
                self.teller.head.note_answer();
                // Nobody is to see what stands there.
                std::future::pending::<()>().await;
            }
            Ok(Err(error)) => return error.into(),
            Err(_) => return LostLook::TooLong,
        }
        let news = match timeout(LOOK_TIMEOUT, reading::prepare_news(client)).await {
            Ok(Ok(news)) => news,
            Ok(Err(error)) => return error.into(),
            Err(_) => return LostLook::TooLong,
        };
        let mut listens = false;
        loop {
            let is_close = self.followers.are_close();
            if listens != is_close {
                // Each word wakes every process that listens.
                let order = if is_close { "LISTEN kite_log" } else { "UNLISTEN kite_log" };
                match timeout(LOOK_TIMEOUT, client.batch_execute(order)).await {
                    Ok(Ok(())) => listens = is_close,
                    Ok(Err(error)) => return error.into(),
                    Err(_) => return LostLook::TooLong,
                }
            }
            // After the order: of what was written before it nobody tells.
            let read = match self.followers.are_there() {
                true => self.read_on(client, &news).await,
                false => self.look_on(client).await,
            };
            if let Err(error) = read {
                return error;
            }
            let _ = timeout(self.look_every, self.teller.head.woken.notified()).await;
        }
    }

    /// Looks where the log ends, and tells of it. Whoever wants to know what is new reads it.
    async fn look_on(&self, client: &Client) -> Result<(), LostLook> {
        let (_, newest) = timeout(LOOK_TIMEOUT, look(client)).await.map_err(|_| LostLook::TooLong)??;
        self.teller.head.note_answer();
        if newest.position > self.teller.head.recent.head() {
            self.teller.head.until_durable(client, newest.position).await?;
            self.teller.pass_over(newest);
        }
        Ok(())
    }

    /// Reads what is new into memory, and tells of it.
    async fn read_on(&self, client: &Client, news: &Statement) -> Result<(), LostLook> {
        loop {
            let after = self.teller.head.recent.head();
            // Over the connection that was compared with what is known.
            let reading = reading::news(client, news, after, PAGE_EVENTS);
            let read = timeout(LOOK_TIMEOUT, reading).await.map_err(|_| LostLook::TooLong)?;
            if read.is_ok() {
                // Also one that then waits for its disk.
                self.teller.head.note_answer();
            }
            let end = match read {
                Ok((events, end)) => {
                    let last = events.last().map_or(after, |last| last.position);
                    self.teller.head.until_durable(client, last).await?;
                    self.teller.push(events);
                    if end > after && self.teller.head.recent.head() == after {
                        tracing::error!(after, until = end, "events of the log are missing");
                        self.pass_over(client).await?;
                    }
                    end
                }
                Err(ReadError::Unreadable(reason)) => {
                    let reason = describe(&reason);
                    tracing::error!(after, reason, "there are events that cannot be read");
                    self.pass_over(client).await?
                }
                Err(error) => return Err(LostLook::Read(error)),
            };
            if self.teller.head.recent.head() >= end {
                return Ok(());
            }
        }
    }

    /// What cannot be read is passed over, up to the end. Returns where that is.
    async fn pass_over(&self, client: &Client) -> Result<Position, LostLook> {
        let (_, newest) = timeout(LOOK_TIMEOUT, look(client)).await.map_err(|_| LostLook::TooLong)??;
        self.teller.head.note_answer();
        self.teller.head.until_durable(client, newest.position).await?;
        self.teller.pass_over(newest);
        Ok(newest.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_where_the_log_ends_and_what_was_written() {
        let all = [("17 a b", Some(17), "a b"), ("17", Some(17), ""), ("", None, ""), ("x a", None, "a")];
        for (payload, end, kinds) in all {
            let word = Word::of(payload);
            assert_eq!((word.end, word.kinds), (end, kinds), "{payload}");
        }
    }

    #[test]
    fn only_who_does_something_at_once_is_waited_for() {
        let followers = Followers::default();
        assert!(!followers.are_there() && !followers.wait_for(["a"].into_iter()));
        let steady = followers.one_more(Attention::Steady);
        assert!(followers.are_there() && !followers.are_close() && !followers.wait_for(["a"].into_iter()));
        let close = followers.one_more(Attention::Close(Filter::kinds(["a", "b"])));
        assert!(followers.are_close());
        assert!(followers.wait_for(["c", "b"].into_iter()) && !followers.wait_for(["c"].into_iter()));
        let everything = followers.one_more(Attention::Close(Filter::everything()));
        assert!(followers.wait_for(["c"].into_iter()));
        drop((steady, close, everything));
        assert!(!followers.are_there() && !followers.are_close(), "nobody follows any more");
    }
}
