//! One connection, and the requests over it.

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use futures::future::{BoxFuture, FutureExt};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::connections::{Closed, Connection, Connections};
use super::tls::{Tls, begins_handshake, in_the_clear};
use super::{Guests, TELLING, turn_away};

/// How long a caller may take to learn that its idle HTTP/2 connection ends, or to read a last answer.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many connections that are being closed may take that long.
const FAREWELLS_MAX: usize = super::CLOSING_MAX / 2;

/// A connection that has its place until this is dropped.
pub(super) struct Guest {
    connection: Arc<Connection>,
    connections: Arc<Connections>,
}

impl Guest {
    pub(super) fn new(connection: Arc<Connection>, connections: Arc<Connections>) -> Self {
        Self { connection, connections }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.connections.forget(&self.connection);
    }
}

/// Serves it until either end closes it.
pub(super) async fn serve(
    guest: Guest,
    stream: TcpStream,
    tls: Option<Tls>,
    router: Router,
    builder: Arc<auto::Builder<Guests>>,
    stop: CancellationToken,
) {
    // Small answers must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let watched = Watched { stream, connection: guest.connection.clone() };
        return converse(guest, watched, router, builder, stop).await;
    };
    let shaken = tokio::select! {
        shaken = shake_hands(&guest.connection, stream, &tls) => shaken,
        _ = guest.connection.closing() => None,
        () = stop.cancelled() => None,
    };
    if let Some(stream) = shaken {
        // Boxed: what it holds is large, and most of the time is spent in it.
        Box::pin(converse(guest, stream, router, builder, stop)).await;
    }
}

/// TLS, if the caller uses it. The bytes of the connection are watched, whatever is in them.
async fn shake_hands(
    connection: &Arc<Connection>,
    stream: TcpStream,
    tls: &Tls,
) -> Option<TlsStream<Watched>> {
    if begins_handshake(&stream).await.ok()? {
        return tls.accept(Watched { stream, connection: connection.clone() }).await;
    }
    let _ = tokio::time::timeout(TELLING, turn_away(stream, in_the_clear().as_bytes())).await;
    None
}

/// HTTP over what the connection carries, until either end closes it.
async fn converse(
    guest: Guest,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    builder: Arc<auto::Builder<Guests>>,
    stop: CancellationToken,
) {
    let connection = &guest.connection;
    let requests = Requests { router, connection: connection.clone() };
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), requests));
    let is_stopping = tokio::select! {
        // What has come meanwhile is read before the connection is closed.
        biased;
        // A broken connection is the caller's affair.
        _ = serving.as_mut() => return,
        closed = connection.closing() => {
            // A request may have come just when it was to make room.
            let is_late = closed == Closed::MadeRoom && connection.is_worked_on();
            if (closed == Closed::Idle || is_late) && guest.connections.closing() <= FAREWELLS_MAX {
                serving.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(FAREWELL, serving).await;
            }
            return;
        }
        () = stop.cancelled() => connection.is_at_work(),
    };
    if is_stopping {
        serving.as_mut().graceful_shutdown();
        tokio::select! {
            _ = serving => {}
            _ = connection.closing() => {}
        }
    }
}

/// Requests of one connection.
struct Requests {
    router: Router,
    connection: Arc<Connection>,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Answer>, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let working = Working::begin(&self.connection, request.version());
        request.extensions_mut().insert(self.connection.peer.clone());
        let answered = self.router.clone().call(request);
        answered.map(|answered| answered.map(|answer| working.answer(answer))).boxed()
    }
}

/// A request that is being processed, until this is dropped.
struct Working(Arc<Connection>);

impl Working {
    fn begin(connection: &Arc<Connection>, version: Version) -> Self {
        connection.note_request(version == Version::HTTP_2);
        Self(connection.clone())
    }

    fn answer(self, answer: Response<Body>) -> Response<Answer> {
        self.0.note_answer();
        let connection = self.0.clone();
        answer.map(|body| Answer { body, connection })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.note_handled();
    }
}

/// An answer that is on its way, until this is dropped.
struct Answer {
    body: Body,
    connection: Arc<Connection>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.note_answered();
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // More of it is asked for only when the caller has taken what came before.
        self.connection.touch();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Notes when bytes arrive, and whether the caller takes the bytes that are sent.
struct Watched {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Watched {
    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.connection.note_blocked(),
            Poll::Ready(_) => self.connection.note_written(),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.connection.note_read();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.connection.note_flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(&written);
        written
    }
}
