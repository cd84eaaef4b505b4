//! All open connections: who may come in, who gives way, who has stood still for too long.
//!
//! Time is told from outside, in milliseconds, a few times a second; a connection notes its times from the last telling.

use kite_api::{ClientAddress, Peer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// A connection over which something genuine came gives way only after being idle for so long,
const PROVEN_IDLE_MS: u64 = 1_000;
/// or after waiting for so long for the rest of a body, or for somebody to take its answer.
const PROVEN_SLOW_MS: u64 = 5_000;
/// One over which nothing genuine came has so long to take its answer.
const UNTAKEN_MS: u64 = 1_000;
/// So many of those who may give way are looked for at once.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        match self {
            Self::Headers => "headers",
            Self::Idle => "idle",
            Self::Answer => "answer",
            Self::MadeRoom => "made-room",
            Self::Stopping => "stopping",
        }
    }
}

/// Why a connection is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There are too many in all, and none of them gives way.
    All,
    /// There are too many of its address, and none of them gives way.
    Address,
}

impl Refusal {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
        }
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
    /// When it last changed what it waits for, or got further.
    since_ms: AtomicU64,
    /// Requests that a handler works on.
    working: AtomicU32,
    /// Answers that are on their way out.
    answering: AtomicU32,
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
        self.answering.fetch_add(1, Ordering::Relaxed);
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

    /// Whether it has a request.
    pub(super) fn is_at_work(&self) -> bool {
        self.working.load(Ordering::Relaxed) > 0 || self.answering.load(Ordering::Relaxed) > 0
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

    fn idle_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms.load(Ordering::Relaxed))
    }

    /// Why it has stood still for too long, if it has. A handler and the body it reads have times of their own.
    fn overdue(&self, now_ms: u64, limits: &Limits) -> Option<Closed> {
        if self.working.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let is_answering = self.answering.load(Ordering::Relaxed) > 0;
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

    /// Who gives way first: the lowest. None: it is at work, or genuine and hardly waiting.
    fn rank(&self, now_ms: u64) -> Option<Rank> {
        let (working, waiting) = (self.working.load(Ordering::Relaxed), self.peer.waiting());
        if working > waiting {
            return None;
        }
        let is_answering = self.answering.load(Ordering::Relaxed) > 0;
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
    /// Something genuine did; now a body does not come, or an answer is not taken.
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
    /// So many stood still within a request and were closed.
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
    /// The same; but not those of proxies that are believed.
    by_address: HashMap<ClientAddress, Vec<Arc<Connection>>>,
    /// They have lost their place and hold a descriptor for a moment still.
    closing: usize,
    /// Who gives way next is last.
    candidates: Vec<Rank>,
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
        if !connection.peer.is_proxy() {
            let address = connection.peer.client().address();
            registry.by_address.entry(address).or_default().push(connection.clone());
        }
        Ok(Admitted { connection, made_room })
    }

    /// One connection gives way for nobody in particular.
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

    /// Tells the time and closes what has stood still; answers how much that was, and how many are open.
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

    fn first_of_all(&mut self, now_ms: u64) -> Option<u64> {
        loop {
            while let Some(candidate) = self.candidates.pop() {
                let still = self.open.get(&candidate.number).and_then(|connection| connection.rank(now_ms));
                if still == Some(candidate) {
                    return Some(candidate.number);
                }
            }
            // Looking costs something: not again before time has passed.
            if self.none_found_ms == Some(now_ms) {
                return None;
            }
            self.candidates = self.open.values().filter_map(|connection| connection.rank(now_ms)).collect();
            self.candidates.sort_unstable_by(|one, other| other.cmp(one));
            let surplus = self.candidates.len().saturating_sub(CANDIDATES_MAX);
            self.candidates.drain(..surplus);
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
mod tests {
    use super::*;
    use futures::FutureExt;
    use kite_api::{ClientRules, Clients};

    const LIMITS: Limits = Limits {
        connections_max: 4,
        connections_per_address_max: 2,
        headers_timeout_ms: 100,
        idle_timeout_ms: 1_000,
        answer_stall_timeout_ms: 300,
    };

    struct Fixture {
        clients: Clients,
        connections: Connections,
    }

    impl Fixture {
        fn new() -> Self {
            Self::with(LIMITS)
        }

        fn with(limits: Limits) -> Self {
            let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
            let clients = Clients::new(ClientRules { trusted_proxies, ..ClientRules::default() });
            Self { clients, connections: Connections::new(limits) }
        }

        fn open(&self, address: &str) -> Result<Arc<Connection>, Refusal> {
            let peer = self.clients.peer(address.parse().unwrap());
            self.connections.admit(peer).map(|admitted| admitted.connection)
        }

        fn at(&self, now_ms: u64) {
            self.connections.look(now_ms, false);
        }
    }

    fn why(connection: &Connection) -> Option<Closed> {
        connection.closing().now_or_never()
    }

    fn answer(connection: &Connection) {
        connection.note_request(false);
        connection.note_handled();
    }

    #[test]
    fn a_head_that_does_not_come_and_one_that_comes_byte_by_byte_are_closed_in_time() {
        let fixture = Fixture::new();
        let [silent, slow] = ["192.0.2.1", "192.0.2.2"].map(|address| fixture.open(address).unwrap());
        for now_ms in [50, 100] {
            slow.note_read();
            fixture.at(now_ms);
        }
        assert_eq!((why(&silent), why(&slow)), (None, None));
        fixture.at(101);
        assert_eq!((why(&silent), why(&slow)), (Some(Closed::Headers), Some(Closed::Headers)));
        assert_eq!((fixture.connections.open(), fixture.connections.closing()), (0, 2));
        fixture.connections.forget(&silent);
        fixture.connections.forget(&slow);
        assert!(fixture.connections.is_empty());
    }

    #[test]
    fn a_connection_may_be_idle_between_requests_but_not_in_the_midst_of_a_head() {
        let fixture = Fixture::new();
        let [idle, begun] = ["192.0.2.1", "192.0.2.2"].map(|address| fixture.open(address).unwrap());
        answer(&idle);
        answer(&begun);
        fixture.at(500);
        begun.note_read();
        fixture.at(550);
        begun.note_read();
        fixture.at(601);
        assert_eq!((why(&idle), why(&begun)), (None, Some(Closed::Headers)));
        fixture.at(1_001);
        assert_eq!(why(&idle), Some(Closed::Idle));
    }

    #[test]
    fn what_is_worked_on_stays_and_an_answer_that_nobody_takes_does_not() {
        let fixture = Fixture::new();
        let connection = fixture.open("192.0.2.1").unwrap();
        connection.note_request(false);
        fixture.at(100_000);
        assert_eq!(why(&connection), None);
        connection.note_answer();
        connection.note_handled();
        fixture.at(100_300);
        connection.touch();
        fixture.at(100_600);
        assert_eq!(why(&connection), None);
        fixture.at(100_601);
        assert_eq!(why(&connection), Some(Closed::Answer));
    }

    #[test]
    fn when_there_is_no_room_the_longest_waiting_stranger_gives_way_first() {
        let fixture = Fixture::new();
        let proxy = fixture.open("10.0.0.1").unwrap();
        answer(&proxy);
        let [first, second, third] =
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|address| fixture.open(address).unwrap());
        fixture.at(50);
        answer(&first);
        let newcomer = fixture.open("192.0.2.4").unwrap();
        assert_eq!(why(&second), Some(Closed::MadeRoom));
        // The proxy is idle for longer, but it is known.
        for (stranger, from) in [(&third, "192.0.2.5"), (&first, "192.0.2.6"), (&newcomer, "192.0.2.7")] {
            fixture.open(from).unwrap().note_request(false);
            assert_eq!(why(stranger), Some(Closed::MadeRoom));
        }
    }

    #[test]
    fn what_is_known_gives_way_last_and_what_is_at_work_never() {
        let fixture = Fixture::new();
        let known: Vec<_> = (0..4).map(|_| fixture.open("10.0.0.1").unwrap()).collect();
        known.iter().for_each(|connection| answer(connection));
        assert_eq!(fixture.open("192.0.2.1").err(), Some(Refusal::All));
        fixture.at(999);
        assert_eq!(fixture.open("192.0.2.1").err(), Some(Refusal::All));
        known[0].note_request(false);
        fixture.at(1_000);
        let stranger = fixture.open("192.0.2.1").unwrap();
        assert_eq!((why(&known[0]), why(&known[1])), (None, Some(Closed::MadeRoom)));
        stranger.note_request(false);
        known[2].note_request(false);
        known[3].note_request(false);
        fixture.at(100_000);
        assert_eq!(fixture.open("192.0.2.2").err(), Some(Refusal::All));
    }

    #[test]
    fn an_answer_that_is_not_taken_gives_way_soon_or_later() {
        let fixture = Fixture::with(Limits { answer_stall_timeout_ms: 60_000, ..LIMITS });
        let all: Vec<_> = ["192.0.2.1", "10.0.0.1", "10.0.0.1", "10.0.0.1"]
            .into_iter()
            .map(|from| fixture.open(from).unwrap())
            .collect();
        for connection in &all {
            connection.note_request(false);
            connection.note_answer();
            connection.note_handled();
        }
        let newcomer = |from: &str| fixture.open(from).map(|connection| connection.note_request(false));
        fixture.at(UNTAKEN_MS - 1);
        assert_eq!(newcomer("192.0.2.2"), Err(Refusal::All));
        fixture.at(UNTAKEN_MS);
        assert_eq!(newcomer("192.0.2.2"), Ok(()));
        assert_eq!((why(&all[0]), why(&all[1])), (Some(Closed::MadeRoom), None));
        fixture.at(PROVEN_SLOW_MS - 1);
        assert_eq!(newcomer("192.0.2.3"), Err(Refusal::All));
        fixture.at(PROVEN_SLOW_MS);
        assert_eq!(newcomer("192.0.2.3"), Ok(()));
        assert_eq!((why(&all[1]), why(&all[2])), (Some(Closed::MadeRoom), None));
    }

    #[test]
    fn one_address_has_its_bound_and_a_proxy_that_is_believed_has_none() {
        let fixture = Fixture::new();
        let own: Vec<_> = (0..2).map(|_| fixture.open("192.0.2.1").unwrap()).collect();
        own.iter().for_each(|connection| connection.note_request(false));
        assert_eq!(fixture.open("192.0.2.1").err(), Some(Refusal::Address));
        own[1].note_handled();
        fixture.open("192.0.2.1").unwrap();
        assert_eq!((why(&own[0]), why(&own[1])), (None, Some(Closed::MadeRoom)));
        assert!((0..2).all(|_| fixture.open("10.0.0.1").is_ok()));
        assert_eq!(fixture.connections.open(), 4);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let fixture = Fixture::new();
        for last in 1..=2 {
            fixture.open(&format!("2001:db8::{last}")).unwrap().note_request(false);
        }
        assert_eq!(fixture.open("2001:db8::3").err(), Some(Refusal::Address));
        assert!(fixture.open("2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn when_the_process_ends_only_what_is_at_work_is_waited_for() {
        let fixture = Fixture::new();
        let [idle, busy] = ["192.0.2.1", "192.0.2.2"].map(|address| fixture.open(address).unwrap());
        busy.note_request(false);
        fixture.connections.look(1, true);
        assert_eq!((why(&idle), why(&busy)), (Some(Closed::Stopping), None));
    }
}
