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
    let [known, stranger] = ["10.0.0.1", "192.0.2.1"].map(|address| fixture.open(address).unwrap());
    known.note_request(false);
    stranger.note_request(false);
    fixture.at(100_000);
    assert_eq!((why(&known), why(&stranger)), (None, None));
    for connection in [&known, &stranger] {
        connection.note_answer();
        connection.note_handled();
    }
    fixture.at(100_300);
    assert_eq!((why(&known), why(&stranger)), (None, None));
    known.touch();
    stranger.touch();
    fixture.at(100_600);
    // A stranger gets nothing that takes long.
    assert_eq!((why(&known), why(&stranger)), (None, Some(Closed::Answer)));
    fixture.at(100_601);
    assert_eq!(why(&known), Some(Closed::Answer));
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

#[test]
fn a_stranger_with_an_answer_on_its_way_gains_no_time_by_more_requests() {
    let fixture = Fixture::with(Limits { answer_stall_timeout_ms: 60_000, ..LIMITS });
    let all: Vec<_> = ["192.0.2.1", "10.0.0.1", "10.0.0.1", "10.0.0.1"]
        .into_iter()
        .map(|from| fixture.open(from).unwrap())
        .collect();
    let begin = |connection: &Connection| {
        connection.note_request(true);
        connection.note_answer();
        connection.note_handled();
    };
    for now_ms in [0, 400, 800] {
        fixture.at(now_ms);
        all.iter().for_each(|connection| begin(connection));
    }
    fixture.at(UNTAKEN_MS);
    all.iter().for_each(|connection| begin(connection));
    assert!(fixture.open("192.0.2.2").is_ok());
    assert_eq!((why(&all[0]), why(&all[1])), (Some(Closed::MadeRoom), None));
}

#[test]
fn bytes_that_the_caller_does_not_take_are_an_answer_on_its_way() {
    let fixture = Fixture::new();
    let connection = fixture.open("192.0.2.1").unwrap();
    answer(&connection);
    connection.note_blocked();
    for now_ms in [100, 200, 300] {
        fixture.at(now_ms);
        connection.note_read();
        connection.note_blocked();
    }
    assert!(connection.is_at_work());
    assert_eq!(why(&connection), None);
    fixture.at(301);
    assert_eq!(why(&connection), Some(Closed::Answer));

    let taken = fixture.open("192.0.2.2").unwrap();
    answer(&taken);
    taken.note_blocked();
    taken.note_written();
    assert!(taken.is_at_work(), "not all is out");
    taken.note_flushed();
    fixture.at(1_301);
    assert!(!taken.is_at_work());
    assert_eq!(why(&taken), None);
}

#[test]
fn a_body_that_comes_slowly_over_a_known_connection_does_not_give_way() {
    let fixture = Fixture::with(Limits { connections_max: 2, ..LIMITS });
    let known: Vec<_> = (0..2).map(|_| fixture.open("10.0.0.1").unwrap()).collect();
    known.iter().for_each(|connection| connection.note_request(false));
    let _waiting: Vec<_> = known.iter().map(|connection| connection.peer.wait(true)).collect();
    for now_ms in [PROVEN_SLOW_MS / 2, PROVEN_SLOW_MS] {
        fixture.at(now_ms);
        known[0].note_read();
    }
    assert!(fixture.open("192.0.2.1").is_ok());
    assert_eq!((why(&known[0]), why(&known[1])), (None, Some(Closed::MadeRoom)));
}

#[test]
fn taking_a_little_now_and_then_is_not_taking_an_answer() {
    let fixture = Fixture::new();
    let connection = fixture.open("192.0.2.1").unwrap();
    answer(&connection);
    for now_ms in [0, 100, 200, 300] {
        fixture.at(now_ms);
        connection.note_blocked();
        connection.note_written();
    }
    fixture.at(301);
    assert_eq!(why(&connection), Some(Closed::Answer));
}

#[test]
fn among_many_silent_strangers_it_is_the_longest_waiting_who_gives_way() {
    let many = CANDIDATES_MAX * 2;
    let limits = Limits { connections_max: many, headers_timeout_ms: 60_000, ..LIMITS };
    let fixture = Fixture::with(limits);
    let address = |number: usize| format!("198.{}.{}.1", number / 256, number % 256);
    let old: Vec<_> = (0..many).map(|number| fixture.open(&address(number)).unwrap()).collect();
    fixture.at(10);
    let new: Vec<_> = (many..2 * many).map(|number| fixture.open(&address(number)).unwrap()).collect();
    assert!(old.iter().all(|connection| why(connection) == Some(Closed::MadeRoom)));
    assert!(new.iter().all(|connection| why(connection).is_none()));
}

#[test]
fn whoever_gives_way_next_is_looked_for_only_where_there_is_no_room() {
    let fixture = Fixture::with(Limits { connections_max: 2, ..LIMITS });
    let _all: Vec<_> = (1..5).map(|last| fixture.open(&format!("192.0.2.{last}")).unwrap()).collect();
    for number in 0..10_000 {
        let connection = fixture.open(&format!("198.0.{}.{}", number / 256, number % 256)).unwrap();
        fixture.connections.forget(&connection);
    }
    assert!(fixture.connections.registry.lock().candidates.len() <= CANDIDATES_MAX);
}

#[test]
fn a_stranger_gives_way_before_somebody_known_who_was_found_earlier() {
    let fixture = Fixture::with(Limits { idle_timeout_ms: 60_000, ..LIMITS });
    for _ in 0..4 {
        answer(&fixture.open("10.0.0.1").unwrap());
    }
    fixture.at(PROVEN_IDLE_MS);
    // One of those who are known gives way; the others were found with it.
    let strangers: Vec<_> = (1..4).map(|last| fixture.open(&format!("192.0.2.{last}")).unwrap()).collect();
    assert_eq!(why(&strangers[0]), Some(Closed::MadeRoom), "at once");
    strangers[2].note_request(false);
    strangers[2].note_handled();
    fixture.at(PROVEN_IDLE_MS + 200);
    assert!(fixture.open("192.0.2.9").is_ok());
    assert_eq!(why(&strangers[2]), Some(Closed::MadeRoom));
}

#[test]
fn the_words_of_metrics_stay() {
    let closed = [Closed::Headers, Closed::Idle, Closed::Answer, Closed::MadeRoom, Closed::Stopping];
    assert_eq!(closed.map(Closed::word), ["headers", "idle", "answer", "made-room", "stopping"]);
    assert_eq!([Refusal::All, Refusal::Address].map(Refusal::word), ["all", "address"]);
}
