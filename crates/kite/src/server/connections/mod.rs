//! All open connections: which may come in, which gives way, which has stood still for too long.
//!
//! The time is set from outside, in milliseconds, a few times a second; a connection notes its times from the last
//! setting.

use kite_api::{ClientAddress, Peer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// A connection over which something genuine came gives way only after it was idle for this long,
const PROVEN_IDLE_MS: u64 = 1_000;
/// or after it waited this long for the rest of a body, or for the caller to take its answer.
const PROVEN_SLOW_MS: u64 = 5_000;
/// A connection over which nothing genuine came has this long to take its answer.
const UNTAKEN_MS: u64 = 1_000;
/// How many connections that may give way are searched for at once.
const CANDIDATES_MAX: usize = 256;

/// What connections are held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) connections_max: usize,
    pub(super) connections_per_address_max: usize,
    pub(super) headers_timeout_ms: u64,
    pub(super) idle_timeout_ms: u64,
    pub(super) answer_stall_timeout_ms: u64,
}

/// Why a connection is closed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(super) enum Closed {
    /// The headers of a request took too long.
    Headers,
    /// No request came for too long.
    Idle,
    /// Nothing of an answer was taken for too long.
    Answer,
    /// For another one.
    MadeRoom,
    /// The process ends.
    Stopping,
}

impl Closed {
    fn word(self) -> &'static str {
        self.into()
    }
}

/// Why a connection is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(super) enum Refusal {
    /// There are too many in total, and none of them gives way.
    All,
    /// There are too many of its address, and none of them gives way.
    Address,
}

impl Refusal {
    pub(super) fn word(self) -> &'static str {
        self.into()
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::All => "no more connections are taken, all are at work",
            Self::Address => "no more connections of an address are taken, all of its own are at work",
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    pub(super) peer: Arc<Peer>,
    clock_ms: Arc<AtomicU64>,
    /// When it last changed what it waits for, or made progress.
    since_ms: AtomicU64,
    /// Requests that a handler works on.
    working: AtomicU32,
    /// Answers that are on their way out,
    answering: AtomicU32,
    /// and since when there has always been one. Requests that come or go meanwhile do not make this later.
    answering_since_ms: AtomicU64,
    /// The caller takes nothing of what should be sent.
    is_blocked: AtomicBool,
    /// A complete head came over it.
    is_served: AtomicBool,
    /// Bytes of a next head have come.
    has_begun: AtomicBool,
    is_http2: AtomicBool,
    closed: OnceLock<Closed>,
    closing: Notify,
}

impl Connection {
    fn new(number: u64, peer: Arc<Peer>, clock_ms: Arc<AtomicU64>) -> Self {
        let since_ms = AtomicU64::new(clock_ms.load(Ordering::Relaxed));
        Self {
            number,
            peer,
            clock_ms,
            since_ms,
            working: AtomicU32::new(0),
            answering: AtomicU32::new(0),
            answering_since_ms: AtomicU64::new(0),
            is_blocked: AtomicBool::new(false),
            is_served: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            closed: OnceLock::new(),
            closing: Notify::new(),
        }
    }

    /// Bytes have come.
    pub(super) fn note_read(&self) {
        let is_new = !self.is_served.load(Ordering::Relaxed) || self.has_begun.load(Ordering::Relaxed);
        if !is_new && !self.is_at_work() {
            self.has_begun.store(true, Ordering::Relaxed);
            self.touch();
        } else if self.peer.paid_waiting() > 0 {
            // A body that comes, however slowly, and that somebody pays for. A stranger's gains no time by that.
            self.touch();
        }
    }

    /// The caller takes no more for now.
    pub(super) fn note_blocked(&self) {
        // Mostly nothing changes, and reading costs the other threads nothing.
        if !self.is_blocked.load(Ordering::Relaxed) {
            if self.answering.load(Ordering::Relaxed) == 0 {
                self.begin_answering();
            }
            self.is_blocked.store(true, Ordering::Relaxed);
            self.touch();
        }
    }

    /// The caller has taken something. [`Connection::note_flushed`] reports that everything was sent.
    pub(super) fn note_written(&self) {
        if self.is_blocked.load(Ordering::Relaxed) {
            self.touch();
        }
    }

    /// Everything is out.
    pub(super) fn note_flushed(&self) {
        if self.is_blocked.load(Ordering::Relaxed) {
            self.is_blocked.store(false, Ordering::Relaxed);
            self.touch();
        }
    }

    /// A request has come whose head is complete.
    pub(super) fn note_request(&self, is_http2: bool) {
        self.working.fetch_add(1, Ordering::Relaxed);
        self.is_served.store(true, Ordering::Relaxed);
        self.has_begun.store(false, Ordering::Relaxed);
        self.is_http2.store(is_http2, Ordering::Relaxed);
        self.touch();
    }

    /// Its handler has answered, or nobody waits for it any more.
    pub(super) fn note_handled(&self) {
        self.working.fetch_sub(1, Ordering::Relaxed);
        self.touch();
    }

    /// Its answer is on its way.
    pub(super) fn note_answer(&self) {
        // Before it counts, or whoever looks meanwhile takes it for one that is on its way since the beginning of time.
        if !self.is_answering() {
            self.begin_answering();
        }
        self.answering.fetch_add(1, Ordering::Relaxed);
    }

    fn begin_answering(&self) {
        self.answering_since_ms.store(self.clock_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Its answer is out.
    pub(super) fn note_answered(&self) {
        self.answering.fetch_sub(1, Ordering::Relaxed);
        self.touch();
    }

    /// It has got further.
    pub(super) fn touch(&self) {
        self.since_ms.store(self.clock_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether it has a request, or an answer that is not sent yet.
    pub(super) fn is_at_work(&self) -> bool {
        self.working.load(Ordering::Relaxed) > 0 || self.is_answering()
    }

    /// Whether a request of it is being processed, and not just waiting for its rest.
    pub(super) fn is_worked_on(&self) -> bool {
        self.working.load(Ordering::Relaxed) > self.peer.waiting()
    }

    fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed) > 0 || self.is_blocked.load(Ordering::Relaxed)
    }

    /// Waits until it is to be closed, and says why.
    pub(super) async fn closing(&self) -> Closed {
        self.closing.notified().await;
        self.closed.get().copied().unwrap_or(Closed::Stopping)
    }

    fn close(&self, why: Closed) {
        if self.closed.set(why).is_ok() {
            metrics::counter!("kite_http_connections_closed_total", "reason" => why.word()).increment(1);
            self.closing.notify_one();
        }
    }

    /// How long it has stood still. A stranger with an answer on its way counts as standing still from the beginning
    /// of the answer: strangers get nothing that takes long, and further requests would be a way to look busy.
    fn idle_ms(&self, now_ms: u64) -> u64 {
        let is_by_answer = !self.peer.is_proven() && self.is_answering();
        let since_ms = if is_by_answer { &self.answering_since_ms } else { &self.since_ms };
        now_ms.saturating_sub(since_ms.load(Ordering::Relaxed))
    }

    /// Why it has stood still for too long, if it has. A handler and the body that it reads have time limits of their
    /// own.
    fn overdue(&self, now_ms: u64, limits: &Limits) -> Option<Closed> {
        if self.working.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let is_answering = self.is_answering();
        // In HTTP/2 other frames come, too, while there is no request.
        let has_begun = self.has_begun.load(Ordering::Relaxed) && !self.is_http2.load(Ordering::Relaxed);
        let is_in_head = !self.is_served.load(Ordering::Relaxed) || has_begun;
        let (limit_ms, why) = match (is_answering, is_in_head) {
            (true, _) => (limits.answer_stall_timeout_ms, Closed::Answer),
            (false, true) => (limits.headers_timeout_ms, Closed::Headers),
            (false, false) => (limits.idle_timeout_ms, Closed::Idle),
        };
        (self.idle_ms(now_ms) > limit_ms).then_some(why)
    }

    /// Which connection gives way first: the lowest. None: it is at work, or genuine and has hardly waited.
    fn rank(&self, now_ms: u64) -> Option<Rank> {
        if self.is_worked_on() {
            return None;
        }
        let working = self.working.load(Ordering::Relaxed);
        let is_answering = self.is_answering();
        let (what, least_ms) = match (self.peer.is_proven(), working > 0, is_answering) {
            (false, _, false) => (What::Unknown, 0),
            (false, _, true) => (What::Unknown, UNTAKEN_MS),
            (true, false, false) => (What::Idle, PROVEN_IDLE_MS),
            (true, _, _) => (What::Slow, PROVEN_SLOW_MS),
        };
        let rank = || Rank { what, since_ms: self.since_ms.load(Ordering::Relaxed), number: self.number };
        (self.idle_ms(now_ms) >= least_ms).then(rank)
    }
}

/// What a connection has that gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// Nothing genuine ever came over it.
    Unknown,
    /// Something genuine did; now it is idle.
    Idle,
    /// It is genuine; now a body does not come, or an answer is not taken.
    Slow,
}

/// The order in which connections give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    what: What,
    since_ms: u64,
    number: u64,
}

/// What a look at all connections came to.
pub(super) struct Looked {
    /// So many are open.
    pub(super) open: usize,
    /// How many stood still within a request and were closed.
    pub(super) stood_still: usize,
}

/// A connection that was taken in.
pub(super) struct Admitted {
    pub(super) connection: Arc<Connection>,
    /// Another one gave way.
    pub(super) made_room: bool,
}

/// All connections.
pub(super) struct Connections {
    limits: Limits,
    clock_ms: Arc<AtomicU64>,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    next: u64,
    open: HashMap<u64, Arc<Connection>>,
    /// The same, without those of trusted proxies.
    by_address: HashMap<ClientAddress, Vec<Arc<Connection>>>,
    /// They have lost their place but still have a descriptor for a moment.
    closing: usize,
    /// Who gives way next is last.
    candidates: Vec<Rank>,
    /// When they were looked for.
    listed_ms: Option<u64>,
    /// Not all of them are in the list: those that may wait longer are not.
    is_cut: bool,
    /// When nobody was found who gives way.
    none_found_ms: Option<u64>,
}

impl Connections {
    /// None yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, clock_ms: Arc::default(), registry: Mutex::default() }
    }

    /// Takes a connection in. If there is no room, one that waits for its caller gives way.
    pub(super) fn admit(&self, peer: Arc<Peer>) -> Result<Admitted, Refusal> {
        let now_ms = self.clock_ms.load(Ordering::Relaxed);
        let mut registry = self.registry.lock();
        let mut made_room = false;
        if !peer.is_proxy() && registry.of(&peer) >= self.limits.connections_per_address_max {
            let gives_way = registry.first_of_address(&peer, now_ms).ok_or(Refusal::Address)?;
            registry.close(gives_way, Closed::MadeRoom);
            made_room = true;
        }
        if registry.open.len() >= self.limits.connections_max {
            let gives_way = registry.first_of_all(now_ms).ok_or(Refusal::All)?;
            registry.close(gives_way, Closed::MadeRoom);
            made_room = true;
        }
        let number = registry.next;
        registry.next += 1;
        let connection = Arc::new(Connection::new(number, peer, self.clock_ms.clone()));
        registry.open.insert(number, connection.clone());
        if registry.open.len() >= self.limits.connections_max {
            registry.list(&connection, now_ms);
        }
        if !connection.peer.is_proxy() {
            let address = connection.peer.client().address();
            registry.by_address.entry(address).or_default().push(connection.clone());
        }
        Ok(Admitted { connection, made_room })
    }

    /// One connection gives way, without a newcomer.
    pub(super) fn make_room(&self) {
        let now_ms = self.clock_ms.load(Ordering::Relaxed);
        let mut registry = self.registry.lock();
        if let Some(number) = registry.first_of_all(now_ms) {
            registry.close(number, Closed::MadeRoom);
        }
    }

    /// The connection has ended.
    pub(super) fn forget(&self, connection: &Connection) {
        let mut registry = self.registry.lock();
        match registry.remove(connection.number) {
            Some(_) => {}
            None => registry.closing = registry.closing.saturating_sub(1),
        }
    }

    /// Sets the time and closes what has stood still; returns how many were closed, and how many are open.
    pub(super) fn look(&self, now_ms: u64, is_stopping: bool) -> Looked {
        self.clock_ms.store(now_ms, Ordering::Relaxed);
        let mut registry = self.registry.lock();
        let overdue = |connection: &Connection| match connection.rank(now_ms) {
            Some(_) if is_stopping => Some(Closed::Stopping),
            _ => connection.overdue(now_ms, &self.limits),
        };
        let close: Vec<(u64, Closed)> = registry
            .open
            .values()
            .filter_map(|connection| Some((connection.number, overdue(connection)?)))
            .collect();
        let stood_still =
            close.iter().filter(|(_, why)| matches!(why, Closed::Headers | Closed::Answer)).count();
        close.into_iter().for_each(|(number, why)| registry.close(number, why));
        Looked { open: registry.open.len(), stood_still }
    }

    /// How many have their place.
    pub(super) fn open(&self) -> usize {
        self.registry.lock().open.len()
    }

    /// How many have lost their place and not ended yet.
    pub(super) fn closing(&self) -> usize {
        self.registry.lock().closing
    }

    /// Whether none is left, not even one that is being closed.
    pub(super) fn is_empty(&self) -> bool {
        let registry = self.registry.lock();
        registry.open.is_empty() && registry.closing == 0
    }
}

impl Registry {
    fn of(&self, peer: &Peer) -> usize {
        self.by_address.get(&peer.client().address()).map_or(0, Vec::len)
    }

    fn first_of_address(&self, peer: &Peer, now_ms: u64) -> Option<u64> {
        let own = self.by_address.get(&peer.client().address())?;
        own.iter().filter_map(|connection| connection.rank(now_ms)).min().map(|rank| rank.number)
    }

    /// A newcomer is one of those that may give way, before all known callers.
    fn list(&mut self, newcomer: &Connection, now_ms: u64) {
        let Some(rank) = newcomer.rank(now_ms) else { return };
        let place = self.candidates.partition_point(|other| *other > rank);
        // Where not all are in the list, those who are not come before a newcomer at its end.
        if place == 0 && (self.is_cut || self.candidates.is_empty()) {
            return;
        }
        self.candidates.insert(place, rank);
        if self.candidates.len() > CANDIDATES_MAX {
            self.candidates.remove(0);
            self.is_cut = true;
        }
    }

    fn first_of_all(&mut self, now_ms: u64) -> Option<u64> {
        loop {
            while let Some(candidate) = self.candidates.pop() {
                // Before somebody known gives way, it is looked for strangers again.
                if candidate.what != What::Unknown && self.listed_ms != Some(now_ms) {
                    self.candidates.clear();
                    break;
                }
                let still = self.open.get(&candidate.number).and_then(|connection| connection.rank(now_ms));
                if still == Some(candidate) {
                    return Some(candidate.number);
                }
            }
            // Looking costs something: not again before time has passed.
            if self.none_found_ms == Some(now_ms) {
                return None;
            }
            self.listed_ms = Some(now_ms);
            self.candidates = self.open.values().filter_map(|connection| connection.rank(now_ms)).collect();
            self.candidates.sort_unstable_by(|one, other| other.cmp(one));
            let surplus = self.candidates.len().saturating_sub(CANDIDATES_MAX);
            self.candidates.drain(..surplus);
            self.is_cut = surplus > 0;
            if self.candidates.is_empty() {
                self.none_found_ms = Some(now_ms);
                return None;
            }
        }
    }

    fn close(&mut self, number: u64, why: Closed) {
        if let Some(connection) = self.remove(number) {
            self.closing += 1;
            connection.close(why);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Connection>> {
        let connection = self.open.remove(&number)?;
        let address = connection.peer.client().address();
        if let Some(own) = self.by_address.get_mut(&address) {
            if let Some(at) = own.iter().position(|other| other.number == number) {
                own.swap_remove(at);
            }
            if own.is_empty() {
                self.by_address.remove(&address);
            }
        }
        Some(connection)
    }
}

#[cfg(test)]
mod tests;
