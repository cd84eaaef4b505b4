//! TLS before HTTP, for any listener: handshakes, and answers for callers that do not use TLS.
//!
//! A handshake is the beginning of a request: it has the same time limit, and a connection that has got no further
//! gives way like one with half a request ([`super::connections`]). Versions 1.2 and 1.3; HTTP/2 and HTTP/1.1 by
//! ALPN. Deliberately absent: certificates of callers (keys identify them), and data before the end of a handshake
//! (somebody else could send it again).

use anyhow::Context;
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::{ServerCertificate, TlsSettings};

/// The byte with which a handshake begins (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// A fatal alert, internal_error: the only way to report before a handshake that there is no room.
pub(super) const NO_ROOM_ALERT: &[u8] = &[21, 3, 1, 0, 2, 2, 80];
/// The answer to unencrypted HTTP; its length and the body follow.
const IN_THE_CLEAR: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
                            content-length: ";
const IN_THE_CLEAR_BODY: &str = r#"{"type":"/problems/https-expected","title":"This address is reached over HTTPS","status":400,"code":"https-expected","detail":"The request came in the clear; here TLS is spoken."}"#;

/// What a listener needs to speak TLS. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    certificate: ServerCertificate,
}

impl Tls {
    /// With the certificate of the settings; none: they name none.
    ///
    /// # Errors
    /// Names the key and the file that cannot be used, and why.
    pub(crate) fn open(settings: &TlsSettings) -> anyhow::Result<Option<Self>> {
        if !settings.is_on() {
            return Ok(None);
        }
        let certificate = ServerCertificate::open(settings)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificate.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Who comes back needs no whole handshake, and we keep nothing for it.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().context("no keys for tickets")?;
        Ok(Some(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate }))
    }

    /// The certificate that is shown.
    pub(crate) fn certificate(&self) -> &ServerCertificate {
        &self.certificate
    }

    /// The rest of a handshake; none: the caller has gone, or offers nothing that we know.
    pub(super) async fn accept<S>(&self, stream: S) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.acceptor.accept(stream).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                count_failure(why(&error));
                tracing::debug!(%error, "a handshake failed");
                None
            }
        }
    }
}

/// Waits for the first byte, and says whether it is one of a handshake. Nothing is taken from the stream.
pub(super) async fn begins_handshake(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    // Nothing: the caller has gone, which the handshake finds out.
    let is_gone = stream.peek(&mut first).await? == 0;
    let is_handshake = is_gone || first[0] == HANDSHAKE;
    if !is_handshake {
        count_failure("in-the-clear");
    }
    Ok(is_handshake)
}

/// The answer to a caller that uses unencrypted HTTP.
pub(super) fn in_the_clear() -> String {
    format!("{IN_THE_CLEAR}{}\r\n\r\n{IN_THE_CLEAR_BODY}", IN_THE_CLEAR_BODY.len())
}

fn count_failure(reason: &'static str) {
    metrics::counter!("kite_tls_handshakes_failed_total", "reason" => reason).increment(1);
}

/// Why a handshake failed: the caller did not trust us, there is nothing that both sides know, it is not TLS, or the
/// caller went away.
fn why(error: &io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(_)) => "refused",
        Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => "incompatible",
        Some(_) => "malformed",
        None => "gone",
    }
}

#[cfg(test)]
mod tests;
