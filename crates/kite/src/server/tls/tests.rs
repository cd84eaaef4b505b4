//! Real handshakes over loopback.

use super::*;
use crate::runtime::Supervisor;
use crate::server::made::Files;
use crate::server::{Room, ServerSettings, serve};
use axum::Router;
use axum::routing::get;
use kite_api::Clients;
use kite_testkit::certificates::Authority;
use kite_testkit::wait::wait_until;
use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::Version;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(60);
/// The record of a handshake whose message does not come: 512 bytes are promised.
const HALF_A_HANDSHAKE: &[u8] = &[HANDSHAKE, 3, 1, 2, 0, 1, 0, 1, 252];
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const WAIT: &[u8] = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Larger than all that buffers on the way hold.
const LARGE_BYTES: usize = 64 << 20;

/// A listener with a certificate, whose handler at /wait says when it has begun, and never answers.
struct House {
    authority: Authority,
    files: Files,
    tls: Tls,
    address: SocketAddr,
    supervisor: Supervisor,
    has_begun: Arc<Notify>,
}

impl House {
    async fn start(settings: ServerSettings) -> Self {
        // As the binary does first thing; a second time keeps the first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = Authority::new("Authority").unwrap();
        let files = Files::of(&authority.sign_until("localhost", "first", 2090).unwrap());
        let tls = Tls::open(&files.settings).unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, supervisor) = (listener.local_addr().unwrap(), Supervisor::new());
        let has_begun = Arc::new(Notify::new());
        let begins = has_begun.clone();
        let waits = async move || {
            begins.notify_one();
            std::future::pending::<()>().await;
        };
        let router = Router::new()
            .route("/", get(async || "well"))
            .route("/wait", get(waits))
            .route("/large", get(async || vec![b'x'; LARGE_BYTES]));
        let connections_max = settings.connections_max;
        let room = Room { descriptors: 1_000, connections_max, listener: "public" };
        let stop = supervisor.clone();
        let serving = serve(listener, Some(tls.clone()), router, Clients::default(), settings, room, stop);
        supervisor.start(serving);
        Self { authority, files, tls, address, supervisor, has_begun }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// A connection over TLS, of one of these versions.
    async fn shake_hands(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.connect().await).await
    }

    async fn tls(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.shake_hands(rustls::ALL_VERSIONS).await.unwrap()
    }

    fn client(&self) -> reqwest::ClientBuilder {
        let authority = reqwest::Certificate::from_pem(self.authority.pem.as_bytes()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([authority])
    }

    async fn get(&self, client: reqwest::ClientBuilder) -> (Version, String) {
        let url = format!("https://localhost:{}/", self.address.port());
        let answer = client.build().unwrap().get(url).send().await.unwrap();
        (answer.version(), answer.text().await.unwrap())
    }
}

/// The name of the certificate that was shown.
fn shown(stream: &tokio_rustls::client::TlsStream<TcpStream>) -> String {
    let der = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    kite_domain::certificate::Certificate::read(der).unwrap().name
}

async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut answer = Vec::new();
    // A connection that is reset has ended, too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn callers_have_http_2_or_http_1_as_they_choose() {
    let house = House::start(ServerSettings::default()).await;
    assert_eq!(house.get(house.client()).await, (Version::HTTP_2, "well".to_owned()));
    assert_eq!(house.get(house.client().http1_only()).await, (Version::HTTP_11, "well".to_owned()));
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken() {
    let house = House::start(ServerSettings::default()).await;
    for (version, expected) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut stream = house.shake_hands(&[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        stream.write_all(GET).await.unwrap();
        assert!(read_to_end(&mut stream).await.ends_with(b"\r\n\r\nwell"));
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_whoever_comes_next_and_open_connections_stay() {
    let house = House::start(ServerSettings::default()).await;
    let mut before = house.tls().await;
    assert_eq!(shown(&before), "CN=first");

    house.files.put(&house.authority.sign_until("localhost", "second", 2091).unwrap());
    house.tls.certificate().look(chrono::DateTime::UNIX_EPOCH);
    assert_eq!(shown(&house.tls().await), "CN=second");

    std::fs::write(&house.files.settings.certificate_file, "broken").unwrap();
    house.tls.certificate().look(chrono::DateTime::UNIX_EPOCH);
    assert_eq!(shown(&house.tls().await), "CN=second");

    before.write_all(GET).await.unwrap();
    assert!(read_to_end(&mut before).await.ends_with(b"\r\n\r\nwell"));
}

#[tokio::test]
async fn half_a_handshake_is_closed_in_the_time_of_a_head() {
    let settings = ServerSettings { headers_timeout_ms: 1, ..ServerSettings::default() };
    let house = House::start(settings).await;
    for bytes in [b"" as &[u8], &[HANDSHAKE], HALF_A_HANDSHAKE] {
        let mut half = house.send(bytes).await;
        assert_eq!(read_to_end(&mut half).await, b"", "{bytes:?}");
    }
}

#[tokio::test]
async fn whoever_shakes_hands_and_asks_for_nothing_is_closed_in_the_time_of_a_head_too() {
    // Longer than a handshake takes anywhere, and as long as this test takes.
    let settings = ServerSettings { headers_timeout_ms: 2_000, ..ServerSettings::default() };
    let house = House::start(settings).await;
    let mut silent = house.tls().await;
    assert_eq!(read_to_end(&mut silent).await, b"");
}

#[tokio::test]
async fn half_a_handshake_gives_way_to_whoever_comes() {
    let settings = ServerSettings { connections_per_address_max: 1, ..ServerSettings::default() };
    let house = House::start(settings).await;
    let mut half = house.send(HALF_A_HANDSHAKE).await;
    let mut whole = house.tls().await;
    whole.write_all(GET).await.unwrap();
    assert!(read_to_end(&mut whole).await.ends_with(b"\r\n\r\nwell"));
    assert_eq!(read_to_end(&mut half).await, b"");
}

#[tokio::test]
async fn http_in_the_clear_is_answered_that_it_does_not_belong_here() {
    let house = House::start(ServerSettings::default()).await;
    let mut stream =
        house.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer key\r\n\r\n").await;
    let mut answer = vec![0; in_the_clear().len()];
    stream.read_exact(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let kind = kite_api::problem::Code::HttpsExpected.kind();
    assert_eq!((&body["code"], &body["title"]), (&kind.code.into(), &kind.title.into()));
    assert_eq!(read_to_end(&mut stream).await, b"");
}

#[tokio::test]
async fn no_handshake_is_made_where_all_are_at_work_and_the_caller_hears_of_it() {
    let settings = ServerSettings { connections_per_address_max: 1, ..ServerSettings::default() };
    let house = House::start(settings).await;
    let mut busy = house.tls().await;
    busy.write_all(WAIT).await.unwrap();
    house.has_begun.notified().await;
    let refused = house.shake_hands(rustls::ALL_VERSIONS).await.unwrap_err();
    assert!(refused.to_string().contains("InternalError"), "{refused}");
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let figures = recorder.handle();
    // Everything of this test runs in this thread.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let settings = ServerSettings { answer_stall_timeout_ms: 1, ..ServerSettings::default() };
    let house = House::start(settings).await;
    let mut slow = house.tls().await;
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let is_given_up = "kite_http_connections_closed_total{reason=\"answer\"} 1";
    wait_until("the connection to be given up", PATIENCE, async || figures.render().contains(is_given_up))
        .await
        .unwrap();
    assert!(read_to_end(&mut slow).await.len() < LARGE_BYTES);
}

#[tokio::test]
async fn a_handshake_under_way_does_not_hold_up_the_end() {
    let house = House::start(ServerSettings::default()).await;
    let mut half = house.send(HALF_A_HANDSHAKE).await;
    let mut idle = house.tls().await;
    assert!(house.supervisor.shut_down(PATIENCE).await);
    read_to_end(&mut half).await;
    read_to_end(&mut idle).await;
}

#[tokio::test]
async fn who_has_another_authority_does_not_believe_us() {
    let house = House::start(ServerSettings::default()).await;
    let other = reqwest::Certificate::from_pem(Authority::new("Another").unwrap().pem.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([other]).build().unwrap();
    let error = client.get(format!("https://localhost:{}/", house.address.port())).send().await.unwrap_err();
    assert!(kite_commands::worker::describe(&error).contains("certificate"), "{error:?}");
}
