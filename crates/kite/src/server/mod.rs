//! The listener: accepts connections, within limits, and closes those that stand still.
//!
//! Connections without a genuine key can never keep out a caller that has one. When there is no room, the connection
//! that has waited longest for its caller gives way, first those over which nothing genuine ever came
//! ([`connections`]). Requests in progress are never cut off. Descriptors for relays and files are reserved before
//! the first connection is accepted ([`descriptors`]).
//!
//! HTTP/1.1 and HTTP/2 on the same port, with TLS if there is a certificate ([`tls`]) and without ("prior knowledge")
//! if there is none. Deliberately absent: upgrades, and a timer or a lock for each request: checking all connections
//! a few times a second is enough.

mod certificate;
mod connection;
mod connections;
mod descriptors;
#[cfg(test)]
mod made;
mod settings;
mod tls;

pub use certificate::TlsSettings;
pub(crate) use certificate::{CertificateWatch, ServerCertificate};
pub(crate) use descriptors::{Room, Rooms, raise_limit, rooms};
pub use settings::ServerSettings;
pub(crate) use tls::Tls;

use axum::Router;
use hyper::rt::Executor;
use hyper_util::server::conn::auto;
use kite_api::{Clients, Peer, Seldom};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::runtime::{Supervisor, pause};
use connections::{Connections, Refusal};

/// How often all connections are checked, and how exact their times are.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Connections that are being closed while others already have their place.
const CLOSING_MAX: usize = 64;
/// Refused connections that get an answer at the same time; more are closed without one.
const TOLD_MAX: usize = 64;
/// How long a refused caller may take to read the answer.
const TELLING: Duration = Duration::from_millis(500);
/// How long nothing is accepted when the system has no descriptors or no memory, which the limits should prevent.
const NOT_ACCEPTED: Duration = Duration::from_millis(100);
/// To be told before a request has been read.
const NO_ROOM: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
                       connection: close\r\ncontent-length: ";
const NO_ROOM_BODY: &str = r#"{"type":"/problems/busy","title":"The service is busy","status":503,"code":"busy","detail":"There is no room for another connection."}"#;
/// What HTTP/2 may buffer of a request that no handler has read yet: for one, and for all of a connection. Bytes.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 128 << 10;
/// Streams of one HTTP/2 connection that were reset before a handler read them.
const RESET_STREAMS_MAX: usize = 32;

/// Serves until the supervisor's stop, and then until the last request is answered.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    clients: Clients,
    settings: ServerSettings,
    room: Room,
    supervisor: Supervisor,
) {
    let connections = Arc::new(Connections::new(settings.limits(&room)));
    let builder = Arc::new(builder(&settings, supervisor.clone()));
    let server = Server {
        tls,
        router,
        clients,
        connections,
        builder,
        supervisor,
        told: Arc::new(Semaphore::new(TOLD_MAX)),
        made_room: Seldom::default(),
        refused: Seldom::default(),
        stood_still: Seldom::default(),
        begun: Instant::now(),
        listener: room.listener,
    };
    metrics::gauge!("kite_http_connections_max", "listener" => room.listener)
        .set(f64::from(room.connections_max));
    server.run(listener).await;
}

fn builder(settings: &ServerSettings, supervisor: Supervisor) -> auto::Builder<Guests> {
    let mut builder = auto::Builder::new(Guests(supervisor));
    let headers_bytes_max = settings.headers_bytes_max;
    // Times are kept by us, for all connections at once.
    builder.http1().header_read_timeout(None).max_buf_size(headers_bytes_max as usize);
    builder
        .http2()
        .max_concurrent_streams(settings.http2_streams_max)
        .max_header_list_size(headers_bytes_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .max_send_buf_size(CONNECTION_WINDOW_BYTES as usize);
    builder
}

/// Starts the tasks of HTTP/2 streams.
#[derive(Clone)]
struct Guests(Supervisor);

impl<F> Executor<F> for Guests
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.start_guest(task);
    }
}

struct Server {
    tls: Option<Tls>,
    router: Router,
    clients: Clients,
    connections: Arc<Connections>,
    builder: Arc<auto::Builder<Guests>>,
    supervisor: Supervisor,
    /// Places for callers that are told that they are refused.
    told: Arc<Semaphore>,
    /// For log lines that callers can cause as often as they like.
    made_room: Seldom,
    refused: Seldom,
    stood_still: Seldom,
    begun: Instant,
    listener: &'static str,
}

impl Server {
    async fn run(&self, listener: TcpListener) {
        let stop = self.supervisor.stop().clone();
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = looks.tick() => self.look(false),
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => self.take_in(stream, from).await,
                    Err(error) => self.not_accepted(&error).await,
                },
            }
        }
        drop(listener);
        while !self.connections.is_empty() {
            self.look(true);
            pause(LOOK_INTERVAL / 4).await;
        }
    }

    fn look(&self, is_stopping: bool) {
        let now_ms = self.now_ms();
        let looked = self.connections.look(now_ms, is_stopping);
        let open = looked.open;
        metrics::gauge!("kite_http_connections_open", "listener" => self.listener).set(open as f64);
        if looked.stood_still > 0
            && let Some(occasions) = self.stood_still.due_for(looked.stood_still as u64, now_ms)
        {
            tracing::warn!(occasions, open, "connections stood still within a request and were closed");
        }
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    async fn take_in(&self, stream: TcpStream, from: SocketAddr) {
        while self.connections.closing() >= CLOSING_MAX {
            pause(Duration::from_millis(1)).await;
        }
        let peer = self.clients.peer(from.ip());
        match self.connections.admit(peer.clone()) {
            Ok(admitted) => {
                metrics::counter!("kite_http_connections_accepted_total").increment(1);
                if admitted.made_room {
                    self.tell(&self.made_room, &peer, "connections that waited longest make room");
                }
                let serving = connection::serve(
                    connection::Guest::new(admitted.connection, self.connections.clone()),
                    stream,
                    self.tls.clone(),
                    self.router.clone(),
                    self.builder.clone(),
                    self.supervisor.stop().clone(),
                );
                self.supervisor.start_guest(serving);
            }
            Err(refusal) => self.refuse(stream, &peer, refusal),
        }
    }

    fn refuse(&self, stream: TcpStream, peer: &Peer, refusal: Refusal) {
        metrics::counter!("kite_http_connections_refused_total", "reason" => refusal.word()).increment(1);
        self.tell(&self.refused, peer, refusal.words());
        if let Ok(place) = self.told.clone().try_acquire_owned() {
            let words = match self.tls {
                Some(_) => tls::NO_ROOM_ALERT.to_vec(),
                None => format!("{NO_ROOM}{}\r\n\r\n{NO_ROOM_BODY}", NO_ROOM_BODY.len()).into_bytes(),
            };
            self.supervisor.start_guest(async move {
                let _ = tokio::time::timeout(TELLING, turn_away(stream, &words)).await;
                drop(place);
            });
        }
    }

    async fn not_accepted(&self, error: &std::io::Error) {
        use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        // What only this one caller has done (it was gone again) concerns nobody else.
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return;
        }
        metrics::counter!("kite_http_connections_refused_total", "reason" => "system").increment(1);
        if let Some(occasions) = self.refused.due(self.now_ms()) {
            tracing::error!(%error, occasions, "the system gives no connection (descriptors, memory)");
        }
        self.connections.make_room();
        pause(NOT_ACCEPTED).await;
    }

    /// One line a while, however many there are.
    fn tell(&self, seldom: &Seldom, peer: &Peer, what: &str) {
        if let Some(occasions) = seldom.due(self.now_ms()) {
            let address: IpAddr = peer.address();
            let open = self.connections.open();
            tracing::warn!(last_from = %address, occasions, open, "{what}");
        }
    }
}

/// Gives the reason, and waits until the caller has had time to read it: closing a connection with unread bytes would
/// discard the answer.
async fn turn_away(mut stream: TcpStream, words: &[u8]) -> std::io::Result<()> {
    stream.write_all(words).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1_024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::collections::BTreeMap;
    use tokio::sync::Notify;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A listener whose handler at /wait says when it has begun, and never answers.
    struct Fixture {
        address: SocketAddr,
        supervisor: Supervisor,
        has_begun: Arc<Notify>,
    }

    impl Fixture {
        async fn start(settings: ServerSettings) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (address, supervisor) = (listener.local_addr().unwrap(), Supervisor::new());
            let has_begun = Arc::new(Notify::new());
            let begins = has_begun.clone();
            let waits = async move || {
                begins.notify_one();
                std::future::pending::<()>().await;
            };
            let router = Router::new().route("/wait", get(waits)).route("/", get(async || "well"));
            let connections_max = settings.connections_max;
            let room = Room { descriptors: 1_000, connections_max, listener: "public" };
            let serving =
                serve(listener, None, router, Clients::default(), settings, room, supervisor.clone());
            supervisor.start(serving);
            Self { address, supervisor, has_begun }
        }

        async fn send(&self, bytes: &[u8]) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream
        }
    }

    async fn read_to_end(stream: &mut TcpStream) -> String {
        let mut answer = String::new();
        // A connection that is reset has ended, too.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    const WAIT: &[u8] = b"GET /wait HTTP/1.1\r\nHost: kite\r\n\r\n";

    #[tokio::test]
    async fn half_a_request_is_closed_and_a_whole_one_answered() {
        let settings = ServerSettings { headers_timeout_ms: 1, ..ServerSettings::default() };
        let fixture = Fixture::start(settings).await;
        let mut half = fixture.send(b"GET / HTTP/1.1\r\nHost: ki").await;
        assert_eq!(read_to_end(&mut half).await, "");
        let mut silent = fixture.send(b"").await;
        assert_eq!(read_to_end(&mut silent).await, "");
        let mut whole = fixture.send(b"GET / HTTP/1.1\r\nHost: kite\r\nConnection: close\r\n\r\n").await;
        assert!(read_to_end(&mut whole).await.ends_with("\r\n\r\nwell"));
    }

    #[tokio::test]
    async fn an_idle_connection_ends_after_its_time_whatever_it_speaks() {
        let settings = ServerSettings { idle_timeout_ms: 1, ..ServerSettings::default() };
        let fixture = Fixture::start(settings).await;
        let mut idle = fixture.send(b"GET / HTTP/1.1\r\nHost: kite\r\n\r\n").await;
        assert!(read_to_end(&mut idle).await.ends_with("\r\n\r\nwell"));
    }

    #[tokio::test]
    async fn where_all_are_at_work_a_new_connection_is_told_so() {
        let settings = ServerSettings { connections_per_address_max: 1, ..ServerSettings::default() };
        let fixture = Fixture::start(settings).await;
        let _busy = fixture.send(WAIT).await;
        fixture.has_begun.notified().await;
        let mut refused = fixture.send(WAIT).await;
        let answer = read_to_end(&mut refused).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["code"], "busy");
    }

    #[tokio::test]
    async fn whoever_has_sent_no_request_does_not_hold_up_the_end() {
        let fixture = Fixture::start(ServerSettings::default()).await;
        let mut half = fixture.send(b"GET / HTTP/1.1\r\nHost: ki").await;
        let mut silent = fixture.send(b"").await;
        let mut idle = fixture.send(b"GET / HTTP/1.1\r\nHost: kite\r\n\r\n").await;
        let mut answer = [0; 12];
        idle.read_exact(&mut answer).await.unwrap();
        assert!(fixture.supervisor.shut_down(PATIENCE).await);
        for stream in [&mut half, &mut silent, &mut idle] {
            read_to_end(stream).await;
        }
    }

    #[tokio::test]
    async fn http_2_is_spoken_and_says_its_bounds() {
        let settings = ServerSettings { http2_streams_max: 7, ..ServerSettings::default() };
        let fixture = Fixture::start(settings).await;
        let mut stream = fixture.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head[3], 4, "SETTINGS come first");
        let mut payload = vec![0; usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        let told: BTreeMap<u8, u32> = payload
            .chunks_exact(6)
            .map(|setting| (setting[1], u32::from_be_bytes(setting[2..].try_into().unwrap())))
            .collect();
        // RFC 9113, 6.5.2: streams at once, first window of a stream, size of a header list.
        assert_eq!((told.get(&3), told.get(&4), told.get(&6)), (Some(&7), Some(&65_536), Some(&65_536)));
    }
}
