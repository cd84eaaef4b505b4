//! TLS to the server.

use kite_event_store::postgres::{OpenError, PostgresOptions, SCHEMA};
use kite_event_store::{Expected, PostgresEventStore};
use kite_postgres::Server;
use kite_testkit::certificates::Authority;
use kite_testkit::postgres::{Database, Installation, Server as RealServer};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;

use crate::support::{append, append_one, log_of};

/// Trusts this authority and nobody else.
fn trusting(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn over_tls(url: String, trusted: &Authority) -> Server {
    Server { url, tls: Some(trusting(trusted)) }
}

#[tokio::test]
async fn the_server_is_talked_to_only_if_its_certificate_is_right() {
    let authority = Authority::new("of the server").unwrap();
    let tls = authority.sign("localhost").unwrap();
    let server = RealServer::start_with_tls(&Installation::from_environment().unwrap(), &tls).unwrap();
    let database = Database::on(&server).await;
    let options = PostgresOptions::at(over_tls(database.url(), &authority));
    SCHEMA.migrate(&options.server, &[]).await.unwrap();
    let store = PostgresEventStore::open(options).await.unwrap();
    append_one(&store, append("a", Expected::Any, [1])).await.unwrap();
    assert_eq!(log_of(&store).await.len(), 1);
    let all_over_tls = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'kite%'";
    assert!(database.is_so(all_over_tls).await);

    let others = over_tls(database.url(), &Authority::new("another").unwrap());
    let by_number = over_tls(database.url().replace("localhost", "127.0.0.1"), &authority);
    for wrong in [others, by_number] {
        let refused = PostgresEventStore::open(PostgresOptions::at(wrong)).await.unwrap_err();
        assert!(matches!(refused, OpenError::Server(_)), "{refused:?}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_talked_to_when_tls_is_asked_for() {
    let authority = Authority::new("of nobody").unwrap();
    let database = crate::database().await;
    let options = PostgresOptions::at(over_tls(database.url(), &authority));
    let refused = PostgresEventStore::open(options).await.unwrap_err();
    assert!(matches!(refused, OpenError::Server(_)), "{refused:?}");
}
