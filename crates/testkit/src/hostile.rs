//! Hostile callers: each holds a connection for as long as it is let, and comes back when it is closed. None of
//! them has a key or a secret. They come from several addresses of this machine (127.0.0.2 and on), so that a bound on
//! the connections of one address alone does not help against them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::Utc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// What a caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// Half of a request's headers, and no more.
    HalfHeaders,
    /// Headers without end, a line now and then.
    SlowHeaders,
    /// Receipts whose large body is announced and never comes.
    AnnouncedBody,
    /// Receipts whose large body comes a little at a time.
    SlowBody,
    /// Receipts with a signature of another secret, again and again.
    WrongSignature,
    /// Sendings with a wrong key, again and again.
    WrongKey,
    /// One request, then nothing.
    Idle,
    /// Many large answers, of which nothing is read.
    NothingRead,
    /// The beginning of HTTP/2, and no request.
    SilentHttp2,
}

impl Conduct {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::HalfHeaders,
        Self::SlowHeaders,
        Self::AnnouncedBody,
        Self::SlowBody,
        Self::WrongSignature,
        Self::WrongKey,
        Self::Idle,
        Self::NothingRead,
        Self::SilentHttp2,
    ];
}

/// Announced, and of a slow body never reached.
const LARGE_BODY_BYTES: usize = 4_000_000;
/// Of a body with a wrong signature.
const FORGED_BODY_BYTES: usize = 16 << 10;
/// Between two pieces of what is slow, and between two requests.
const PIECE_PAUSE: Duration = Duration::from_millis(500);
/// Before a caller whose connection was closed comes back.
const COME_BACK: Duration = Duration::from_secs(1);

/// What they have seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    connected: AtomicU64,
    not_connected: AtomicU64,
    unauthorized: AtomicU64,
    throttled: AtomicU64,
    unavailable: AtomicU64,
    succeeded: AtomicU64,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident)*) => {
        impl Seen {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> u64 { self.$name.load(Ordering::Relaxed) })*
        }
    };
}

counts! {
    /// Connections that came about.
    connected
    /// Connections that did not.
    not_connected
    /// Answers with 401.
    unauthorized
    /// Answers with 429.
    throttled
    /// Answers with 503.
    unavailable
    /// Answers with 2xx: to callers who asked for something public.
    succeeded
}

impl Seen {
    fn note(&self, status: u16) {
        let counter = match status {
            200..=299 => &self.succeeded,
            401 => &self.unauthorized,
            429 => &self.throttled,
            503 => &self.unavailable,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A number of callers at once, until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    seen: Arc<Seen>,
    _callers: JoinSet<()>,
}

/// Where they go.
#[derive(Debug, Clone)]
struct Target {
    kite: SocketAddr,
    relay: String,
}

impl Crowd {
    /// Starts so many hostile callers against a Kite, from so many addresses. They know the name of a relay. Call it
    /// within a runtime.
    #[must_use]
    pub fn start(kite: SocketAddr, relay: &str, callers: usize, addresses: u8, conducts: &[Conduct]) -> Self {
        let seen = Arc::new(Seen::default());
        let mut running = JoinSet::new();
        for number in 0..callers {
            // Every address has some of every conduct.
            let conduct = conducts[number / usize::from(addresses) % conducts.len()];
            let from = Ipv4Addr::new(127, 0, 0, 2 + (number % usize::from(addresses)) as u8);
            let target = Target { kite, relay: relay.to_owned() };
            let seen = Arc::clone(&seen);
            running.spawn(async move {
                loop {
                    match connect(from, target.kite).await {
                        Ok(stream) => {
                            seen.connected.fetch_add(1, Ordering::Relaxed);
                            // That it breaks is what they are there for.
                            let _ = misbehave(conduct, stream, &target, &seen).await;
                        }
                        Err(_) => _ = seen.not_connected.fetch_add(1, Ordering::Relaxed),
                    }
                    pause(COME_BACK).await;
                }
            });
        }
        Self { seen, _callers: running }
    }

    /// What they have seen so far.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

async fn misbehave(
    conduct: Conduct,
    mut stream: TcpStream,
    target: &Target,
    seen: &Seen,
) -> std::io::Result<()> {
    match conduct {
        Conduct::HalfHeaders => {
            stream.write_all(b"POST /v1/sendings HTTP/1.1\r\nHost: kite\r\nAuthori").await?;
            wait_for_the_end(&mut stream, seen).await
        }
        Conduct::SlowHeaders => {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: kite\r\n").await?;
            loop {
                pause(PIECE_PAUSE).await;
                stream.write_all(b"x-more: headers\r\n").await?;
            }
        }
        Conduct::AnnouncedBody => {
            stream.write_all(receipts(target, LARGE_BODY_BYTES).as_bytes()).await?;
            wait_for_the_end(&mut stream, seen).await
        }
        Conduct::SlowBody => {
            stream.write_all(receipts(target, LARGE_BODY_BYTES).as_bytes()).await?;
            loop {
                stream.write_all(&[b' '; 4_096]).await?;
                pause(PIECE_PAUSE).await;
            }
        }
        Conduct::WrongSignature => loop {
            stream.write_all(receipts(target, FORGED_BODY_BYTES).as_bytes()).await?;
            stream.write_all(&[b' '; FORGED_BODY_BYTES]).await?;
            seen.note(read_answer(&mut stream).await?);
            pause(PIECE_PAUSE).await;
        },
        Conduct::WrongKey => loop {
            let request = "POST /v1/sendings HTTP/1.1\r\nHost: kite\r\nAuthorization: Bearer kite_0_wrong\r\n\
                           Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
            stream.write_all(request.as_bytes()).await?;
            seen.note(read_answer(&mut stream).await?);
            pause(PIECE_PAUSE).await;
        },
        Conduct::Idle => {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: kite\r\n\r\n").await?;
            seen.note(read_answer(&mut stream).await?);
            wait_for_the_end(&mut stream, seen).await
        }
        Conduct::NothingRead => loop {
            stream.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: kite\r\n\r\n").await?;
        },
        Conduct::SilentHttp2 => {
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
            let mut unread = [0; 1_024];
            while stream.read(&mut unread).await? > 0 {}
            Ok(())
        }
    }
}

/// Headers of receipts that could be genuine, except for the signature.
#[expect(clippy::disallowed_methods, reason = "the process that is called lives in real time")]
fn receipts(target: &Target, bytes: usize) -> String {
    let Target { kite, relay } = target;
    let now = Utc::now().timestamp();
    format!(
        "POST /v1/relays/{relay}/receipts HTTP/1.1\r\nHost: {kite}\r\nContent-Type: application/json\r\n\
         webhook-id: msg_forged\r\nwebhook-timestamp: {now}\r\n\
         webhook-signature: v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\nContent-Length: {bytes}\r\n\r\n"
    )
}

async fn wait_for_the_end(stream: &mut TcpStream, seen: &Seen) -> std::io::Result<()> {
    seen.note(read_answer(stream).await?);
    let mut unread = [0; 1_024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// Reads an answer to its end and gives its status.
async fn read_answer(stream: &mut TcpStream) -> std::io::Result<u16> {
    let mut answer = Vec::new();
    loop {
        if let Some((status, length)) = understood(&answer)
            && answer.len() >= length
        {
            return Ok(status);
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Status and length of an answer whose headers are there.
fn understood(answer: &[u8]) -> Option<(u16, usize)> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim();
    Some((status, end + length.parse::<usize>().ok()?))
}

#[expect(clippy::disallowed_methods, reason = "what takes its time is what these callers do")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_body() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(understood(answer), Some((503, answer.len())));
        assert_eq!(understood(&answer[..40]), None);
    }
}
