//! Real handshakes over loopback, with relays that show certificates of authorities made here and may demand ours.

use super::*;
use crate::client::check::check;
use crate::client::http::HttpRelayClient;
use crate::client::smtp::SmtpRelayClient;
use crate::client::{MessageAnswer, NotTaken, OutgoingMessage, RelayClient};
use kite_commands::Vault;
use kite_commands::clock::SystemClock;
use kite_commands::describe;
use kite_domain::relay::{Endpoint, RelayTls, SmtpSecurity};
use kite_domain::text::MessageType;
use kite_testkit::certificates::{Authority, Made};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

fn named(name: &str) -> Authority {
    Authority::new(name).unwrap()
}

/// Ends with the test.
struct Server {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// The relay protocol.
    Http,
    /// SMTP, encrypted from the first byte.
    Smtp,
    /// SMTP that offers STARTTLS.
    SmtpWithStartTls,
}

/// A relay that shows this certificate, and demands one of this authority if there is one.
#[expect(clippy::disallowed_methods, reason = "the other side of the connection, which ends with the test")]
async fn relay(speaks: Speaks, shows: &Made, demands: Option<&Authority>) -> Server {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match demands {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain =
        CertificateDer::pem_slice_iter(shows.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(shows.key.as_bytes()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { drop(greet(speaks, stream, &acceptor).await) });
        }
    });
    Server { port, task }
}

async fn greet(speaks: Speaks, mut stream: TcpStream, acceptor: &TlsAcceptor) -> std::io::Result<()> {
    if speaks == Speaks::SmtpWithStartTls {
        stream.write_all(b"220 mail\r\n").await?;
        let mut lines = BufReader::new(&mut stream).lines();
        while let Some(line) = lines.next_line().await? {
            let is_start = line.starts_with("STARTTLS");
            let reply: &[u8] = if is_start { b"220 go on\r\n" } else { b"250-mail\r\n250 STARTTLS\r\n" };
            lines.get_mut().get_mut().write_all(reply).await?;
            if is_start {
                break;
            }
        }
    }
    let stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        // With unread bytes the connection would be reset, and the alert be lost.
        Err((_, mut stream)) => {
            while stream.read(&mut [0; 1_024]).await? > 0 {}
            return Ok(());
        }
    };
    match speaks {
        Speaks::Http => answer_hand_overs(stream).await,
        Speaks::Smtp => answer_mail(stream, b"220 mail\r\n").await,
        Speaks::SmtpWithStartTls => answer_mail(stream, b"").await,
    }
}

/// Accepts every message of every batch.
async fn answer_hand_overs(stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let batch: Value = serde_json::from_slice(&body).unwrap();
        let accepted = |message: &Value| json!({ "reference": message["reference"], "status": "accepted" });
        let results: Vec<Value> = batch["messages"].as_array().unwrap().iter().map(accepted).collect();
        let answer = json!({ "results": results }).to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(format!("{head}{answer}").as_bytes()).await?;
        stream.flush().await?;
    }
}

async fn answer_mail(stream: impl AsyncRead + AsyncWrite + Unpin, greeting: &[u8]) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(greeting).await?;
    stream.flush().await?;
    let mut is_data = false;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let reply = match (is_data, line.trim_end()) {
            (true, ".") => "250 queued as 7",
            (true, _) => continue,
            (false, "DATA") => "354 go on",
            (false, _) => "250 ok",
        };
        is_data = reply.starts_with("354");
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        stream.flush().await?;
    }
}

fn message() -> OutgoingMessage {
    OutgoingMessage {
        reference: "0197c0de000070008000000000000001-7-1".parse().unwrap(),
        message_type: MessageType::Email,
        from: "hello@kite.test".into(),
        to: "jieun@mail.example".into(),
        subject: Some("안내".into()),
        text: "안녕하세요".into(),
        was_put_off: false,
    }
}

/// The terms of a relay at this port.
fn profile(speaks: Speaks, server: &Server, believed: Option<&str>, ours: Option<&Made>) -> RelayProfile {
    let mut profile = crate::worker::testing::profile("alpha");
    let port = server.port;
    profile.endpoint = match speaks {
        Speaks::Http => Endpoint::Http { base_url: format!("https://localhost:{port}") },
        Speaks::Smtp => {
            Endpoint::Smtp { host: "localhost".to_owned(), port, security: SmtpSecurity::Wrapped }
        }
        Speaks::SmtpWithStartTls => {
            Endpoint::Smtp { host: "localhost".to_owned(), port, security: SmtpSecurity::Required }
        }
    };
    profile.credentials.api_key = None;
    profile.tls = RelayTls {
        ca_pem: believed.map(str::to_owned),
        client_certificate_pem: ours.map(|shown| shown.certificate.clone()),
    };
    profile.credentials.client_key = ours.map(|shown| shown.key.clone());
    profile
}

/// What becomes of one message.
async fn hand_over(profile: &RelayProfile) -> MessageAnswer {
    let mut answer = match &profile.endpoint {
        Endpoint::Http { base_url } => {
            HttpRelayClient::new(base_url, profile).unwrap().submit(&[message()]).await
        }
        Endpoint::Smtp { host, port, security } => {
            SmtpRelayClient::new(host, *port, *security, profile).unwrap().submit(&[message()]).await
        }
    };
    answer.messages.remove(0)
}

#[track_caller]
fn accepted(answer: &MessageAnswer) {
    assert!(matches!(answer, MessageAnswer::Accepted { .. }), "{answer:?}");
}

/// Certainly not taken, because there was no connection; and why.
#[track_caller]
fn no_connection(answer: &MessageAnswer) -> String {
    match answer {
        MessageAnswer::NotTaken { why: NotTaken::NoConnection, reason } => reason.to_lowercase(),
        other => panic!("{other:?}"),
    }
}

const ALL: [Speaks; 3] = [Speaks::Http, Speaks::Smtp, Speaks::SmtpWithStartTls];

fn install_provider() {
    // As the binary does first thing; a second time keeps the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[tokio::test]
async fn a_relay_of_an_authority_of_its_own_is_believed_where_the_profile_names_it_and_only_there() {
    install_provider();
    let (authority, other) = (named("Relay's authority"), named("Another"));
    let shown = authority.sign("localhost").unwrap();
    let both = format!("{}{}", other.pem, authority.pem);
    for speaks in ALL {
        let server = relay(speaks, &shown, None).await;
        let with = |believed| profile(speaks, &server, believed, None);
        accepted(&hand_over(&with(Some(&authority.pem))).await);
        // Several may be believed: one after the other takes over.
        accepted(&hand_over(&with(Some(&both))).await);
        for believed in [Some(&*other.pem), None] {
            let reason = no_connection(&hand_over(&with(believed)).await);
            assert!(reason.contains("certificate"), "{reason}");
        }
    }
}

#[tokio::test]
async fn what_is_believed_may_be_the_certificate_of_the_relay_itself() {
    install_provider();
    let shown = Made::self_signed("localhost", 2090).unwrap();
    for speaks in ALL {
        let server = relay(speaks, &shown, None).await;
        accepted(&hand_over(&profile(speaks, &server, Some(&shown.certificate), None)).await);
    }
}

#[tokio::test]
async fn the_name_is_verified_with_an_authority_of_its_own_too() {
    install_provider();
    let authority = named("Relay's authority");
    let shown = authority.sign("other.example").unwrap();
    for speaks in ALL {
        let server = relay(speaks, &shown, None).await;
        let reason = no_connection(&hand_over(&profile(speaks, &server, Some(&authority.pem), None)).await);
        assert!(reason.contains("certificate"), "{reason}");
    }
}

#[tokio::test]
async fn a_relay_that_demands_our_certificate_is_shown_it_and_nothing_is_unknown_without() {
    install_provider();
    let (authority, customers) = (named("Relay's authority"), named("Relay's customers"));
    let shown = authority.sign("localhost").unwrap();
    let (ours, of_another) = (customers.sign("kite").unwrap(), named("Another").sign("kite").unwrap());
    for speaks in ALL {
        let server = relay(speaks, &shown, Some(&customers)).await;
        let with = |ours| profile(speaks, &server, Some(&authority.pem), ours);
        accepted(&hand_over(&with(Some(&ours))).await);
        for (wrong, word) in [(None, "certificaterequired"), (Some(&of_another), "alert")] {
            let reason = no_connection(&hand_over(&with(wrong)).await);
            assert!(reason.contains(word), "{reason}");
        }
    }
}

#[tokio::test]
async fn what_leads_from_our_certificate_to_the_authority_is_shown_over_http() {
    install_provider();
    let (authority, customers) = (named("Relay's authority"), named("Relay's customers"));
    let between = customers.delegate("Between").unwrap();
    let alone = between.sign("kite").unwrap();
    let chain = Made { certificate: format!("{}{}", alone.certificate, between.pem), ..alone.clone() };
    let server = relay(Speaks::Http, &authority.sign("localhost").unwrap(), Some(&customers)).await;
    let with = |ours| profile(Speaks::Http, &server, Some(&authority.pem), Some(ours));
    accepted(&hand_over(&with(&chain)).await);
    no_connection(&hand_over(&with(&alone)).await);
}

#[tokio::test]
async fn a_key_that_does_not_fit_makes_no_client_and_is_not_repeated() {
    install_provider();
    let customers = named("Relay's customers");
    let (ours, other) = (customers.sign("kite").unwrap(), customers.sign("kite").unwrap());
    let mixed = Made { key: other.key.clone(), ..ours };
    for speaks in ALL {
        let server = relay(speaks, &customers.sign("localhost").unwrap(), None).await;
        let profile = profile(speaks, &server, None, Some(&mixed));
        let refused = match &profile.endpoint {
            Endpoint::Http { base_url } => HttpRelayClient::new(base_url, &profile).err().unwrap(),
            Endpoint::Smtp { host, port, security } => {
                SmtpRelayClient::new(host, *port, *security, &profile).err().unwrap().into()
            }
        };
        let refused = describe(&refused);
        assert!(refused.to_lowercase().contains("key"), "{refused}");
        assert!(!refused.contains(other.key.lines().nth(1).unwrap()), "{refused}");
    }
}

#[tokio::test]
async fn a_check_names_the_certificates_and_what_the_relay_says_of_them() {
    install_provider();
    let (authority, customers) = (named("Relay's authority"), named("Relay's customers"));
    let shown = authority.sign("localhost").unwrap();
    let ours = customers.sign("kite").unwrap();
    for speaks in [Speaks::Smtp, Speaks::SmtpWithStartTls] {
        let server = relay(speaks, &shown, Some(&customers)).await;
        let mut profile = profile(speaks, &server, Some(&authority.pem), Some(&ours));
        let report = check(&profile, &Vault::default(), &SystemClock).await;
        assert!(report.is_usable(), "{report:?}");
        let named = &report.steps[0].detail;
        assert!(named.contains("tls.client_certificate_pem: CN=kite holds until 2090-01-01"), "{named}");

        profile.tls.client_certificate_pem = None;
        let failed = check(&profile, &Vault::default(), &SystemClock).await.steps.pop().unwrap();
        assert!(failed.detail.contains("CertificateRequired"), "{failed:?}");

        let ended = customers.sign_until("kite", "kite", 2021).unwrap();
        profile.tls.client_certificate_pem = Some(ended.certificate);
        profile.credentials.client_key = Some(ended.key);
        let failed = check(&profile, &Vault::default(), &SystemClock).await.steps.pop().unwrap();
        assert_eq!(failed.step, "definition");
        assert!(failed.detail.contains("CN=kite ended at 2021-01-01"), "{failed:?}");
    }
}

#[test]
fn only_what_is_said_in_a_handshake_is_certain() {
    let lost = |error: rustls::Error| {
        let inner = io::Error::new(io::ErrorKind::InvalidData, error);
        is_refused_in_handshake(&io::Error::other(inner))
    };
    assert!(lost(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)));
    assert!(lost(rustls::Error::AlertReceived(AlertDescription::UnknownCA)));
    assert!(!lost(rustls::Error::AlertReceived(AlertDescription::InternalError)));
    assert!(!lost(rustls::Error::AlertReceived(AlertDescription::BadRecordMac)));
    assert!(!is_refused_in_handshake(&io::Error::from(io::ErrorKind::ConnectionReset)));
}
