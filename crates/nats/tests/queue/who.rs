//! Who is let in, and which servers will do.

use kite_nats::{Connection, Login, OpenError, Server};
use kite_testkit::nats::{Login as Wanted, Options};

use crate::ground::{at, server_with};

#[tokio::test]
async fn a_server_that_keeps_nothing_is_refused() {
    let server = server_with(Options { has_jetstream: false, ..Options::default() }).await;
    let refusal = Connection::open(&at(vec![server.url()])).await.err().unwrap();
    assert!(matches!(refusal, OpenError::NoJetStream(_)), "{refusal:?}");
}

#[tokio::test]
async fn a_password_that_is_wrong_is_refused_and_the_right_one_is_taken() {
    let login = Wanted { user: "kite".to_owned(), password: "secret".to_owned() };
    let server = server_with(Options { login: Some(login), ..Options::default() }).await;
    let url = format!("nats://localhost:{}", server.address().port());
    let with = |password: &str| Server {
        login: Login::Password { user: "kite".to_owned(), password: password.to_owned() },
        ..at(vec![url.clone()])
    };
    Connection::open(&with("secret")).await.unwrap();
    for wrong in [with("guess"), at(vec![url.clone()])] {
        let refusal = Connection::open(&wrong).await.err().unwrap();
        assert!(matches!(refusal, OpenError::Unreachable(_)), "{refusal:?}");
        let words = kite_commands::describe(&refusal);
        assert!(words.contains("authorization"), "{words}");
        assert!(!words.contains("guess"), "{words}");
    }
}

#[tokio::test]
async fn nobody_is_there() {
    let address = kite_testkit::wait::free_address().unwrap();
    let refusal = Connection::open(&at(vec![format!("nats://{address}")])).await.err().unwrap();
    assert!(refusal.to_string().starts_with("no NATS server can be reached"), "{refusal}");
    let refusal = Connection::open(&at(vec!["nats://kite:secret@ho st".to_owned()])).await.err().unwrap();
    assert!(!kite_commands::describe(&refusal).contains("secret"), "{refusal:?}");
}
