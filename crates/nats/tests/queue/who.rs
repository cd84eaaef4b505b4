//! Who is let in, and which servers will do.

use kite_domain::sending::MessageClass;
use kite_nats::{Connection, Login, OpenError, Server};
use kite_relay::queue::WantedLanes;
use kite_testkit::nats::{Accounts, Login as Wanted, Options};
use std::sync::Arc;

use crate::ground::{Node, at, job, server_with};

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
async fn a_credentials_file_of_an_account_that_the_operator_signed_is_taken_and_no_other() {
    let [accounts, others] = [(); 2].map(|()| Arc::new(Accounts::make().unwrap()));
    let server = server_with(Options { accounts: Some(accounts.clone()), ..Options::default() }).await;
    let with = |accounts: &Accounts| Server {
        login: Login::Credentials(accounts.credentials().unwrap()),
        ..at(vec![server.url()])
    };
    let allowed = with(&accounts);
    Connection::open(&allowed).await.unwrap();
    // And works: streams, consumers, jobs from one process to another.
    let (publisher, worker) = (Node::start(&allowed, true).await, Node::start(&allowed, false).await);
    publisher.put(job(1, MessageClass::Otp, 0..1)).await;
    let lease = worker.take(WantedLanes::All).await;
    assert_eq!(lease.jobs[0].lot, job(1, MessageClass::Otp, 0..1).lot);
    worker.settle(&lease, Vec::new()).await;
    for refused in [with(&others), at(vec![server.url()])] {
        let refusal = Connection::open(&refused).await.err().unwrap();
        assert!(matches!(refusal, OpenError::Unreachable(_)), "{refusal:?}");
        let words = kite_commands::describe(&refusal);
        assert!(words.contains("authorization"), "{words}");
        assert!(!words.contains("SEED") && !words.contains("eyJ"), "{words}");
    }
    let refusal = Connection::open(&Server { login: Login::Credentials("none".to_owned()), ..allowed }).await;
    assert!(matches!(refusal.err().unwrap(), OpenError::Credentials(_)));
}

#[tokio::test]
async fn nobody_is_there() {
    let address = kite_testkit::wait::free_address().unwrap();
    let refusal = Connection::open(&at(vec![format!("nats://{address}")])).await.err().unwrap();
    assert!(refusal.to_string().starts_with("no NATS server can be reached"), "{refusal}");
    let refusal = Connection::open(&at(vec!["nats://kite:secret@ho st".to_owned()])).await.err().unwrap();
    assert!(!kite_commands::describe(&refusal).contains("secret"), "{refusal:?}");
}
