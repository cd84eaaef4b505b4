//! The SMTP front: a mail server of the same spirit as the HTTP relays.
//!
//! Commands and message data are parsed by `smtp-proto`; this module keeps the session and lets the relay decide.
//! The reference of a message is the left side of its Message-ID. At RCPT, before that is known, it is taken from the
//! tag of the return path (`anything+<reference>@…`) when there is one; see docs/relay-protocol.md.
//!
//! Deliberately absent: STARTTLS, bounces, BDAT.

mod session;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use smtp_proto::Request;
use smtp_proto::request::receiver::{DataReceiver, RequestReceiver};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::relay::Relay;
use crate::scenario::{Outage, OutageMode};
use session::{Next, Session};

/// Largest message, announced with SIZE.
pub(super) const MESSAGE_BYTES_MAX: usize = 10 << 20;

/// Accepts connections until cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    relay: Arc<Relay>,
    tasks: TaskTracker,
    cancelled: CancellationToken,
) {
    loop {
        tokio::select! {
            () = cancelled.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tasks.spawn(serve_connection(stream, relay.clone(), cancelled.clone()));
                }
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, relay: Arc<Relay>, cancelled: CancellationToken) {
    let served = tokio::select! {
        served = converse(stream, &relay) => served,
        () = cancelled.cancelled() => Ok(()),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "SMTP connection ended");
    }
}

async fn converse(mut stream: TcpStream, relay: &Arc<Relay>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(outage) = relay.outage() {
        return turn_away(&mut stream, relay, outage).await;
    }
    stream.write_all(b"220 relay-sim ESMTP\r\n").await?;
    let mut session = Session::new(relay.clone());
    let mut commands = RequestReceiver::default();
    let mut buffer = vec![0_u8; 16 << 10];
    let mut data: Option<(DataReceiver, Vec<u8>)> = None;
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let mut bytes = buffer[..count].iter();
        let mut replies = Vec::new();
        loop {
            let next = match &mut data {
                Some((receiver, message)) => {
                    if !receiver.ingest(&mut bytes, message) {
                        if message.len() > MESSAGE_BYTES_MAX {
                            stream.write_all(b"552 5.3.4 message too big\r\n").await?;
                            return Ok(());
                        }
                        break;
                    }
                    let message = std::mem::take(message);
                    data = None;
                    session.message(&message, &mut replies)
                }
                None => match commands.ingest(&mut bytes) {
                    Ok(Request::Quit) => Next::Quit,
                    Ok(request) => session.command(request, &mut replies),
                    Err(smtp_proto::Error::NeedsMoreData { .. }) => break,
                    Err(error) => session.bad_command(&error, &mut replies),
                },
            };
            match next {
                Next::Command => {}
                Next::Data => data = Some((DataReceiver::new(), Vec::new())),
                Next::Wait(pause) => relay.clock.wait(pause).await,
                Next::Drop(pause) => {
                    stream.write_all(&replies).await?;
                    relay.clock.wait(pause).await;
                    return Ok(());
                }
                Next::Quit => {
                    replies.extend_from_slice(b"221 2.0.0 bye\r\n");
                    stream.write_all(&replies).await?;
                    return stream.shutdown().await;
                }
            }
        }
        stream.write_all(&replies).await?;
    }
}

async fn turn_away(stream: &mut TcpStream, relay: &Relay, outage: Outage) -> io::Result<()> {
    match outage.mode {
        OutageMode::Reset => Ok(()),
        OutageMode::Refuse => stream.write_all(b"421 4.3.2 out of service\r\n").await,
        OutageMode::Hang => {
            let left_ms = outage.end_ms.saturating_sub(relay.clock.elapsed_ms());
            relay.clock.wait(Duration::from_millis(left_ms)).await;
            Ok(())
        }
    }
}
