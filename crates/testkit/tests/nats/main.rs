//! Servers and clusters of NATS are what tests take them for. Run it with `cargo xtask test`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod client;

use std::net::SocketAddr;
use std::time::Duration;

use kite_testkit::certificates::Authority;
use kite_testkit::nats::{Cluster, Installation, Login, Options, Server, Tls};
use kite_testkit::proxy::Proxy;
use kite_testkit::wait::{wait_for, wait_until};
use serde_json::{Value, json};

use tokio::time::timeout;

use client::Client;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// A question without an answer is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

fn installation() -> Installation {
    Installation::from_environment().unwrap()
}

async fn start(options: Options) -> Server {
    Server::start(&installation(), options).await.unwrap()
}

async fn client(server: &Server) -> Client {
    Client::connect(server.address()).await.unwrap()
}

/// Makes a stream `work` with so many replicas.
async fn make_stream(client: &mut Client, replicas: usize) {
    let stream =
        json!({ "name": "work", "subjects": ["work.>"], "retention": "workqueue", "num_replicas": replicas });
    client.insist("$JS.API.STREAM.CREATE.work", &stream.to_string()).await.unwrap();
}

/// Publishes into it, and is told under which number it is kept. In a cluster a server may not know for a moment who keeps it: then
/// nobody has got the message, and it is published again.
async fn publish(client: &mut Client) -> Value {
    let look = async || client.insist("work.one", "something").await.ok();
    wait_for("an acknowledgement", PATIENCE, look).await.unwrap()["seq"].clone()
}

/// How many messages are in it.
async fn kept(client: &mut Client) -> Value {
    client.insist("$JS.API.STREAM.INFO.work", "").await.unwrap()["state"]["messages"].clone()
}

/// Waits until so many messages are in it, as a server of a cluster sees it. While the cluster finds itself a question may stay without
/// an answer, and a leader may still be reading its log.
async fn wait_until_kept(address: SocketAddr, login: &Value, messages: u64) {
    let look = async || {
        let asked = async {
            let mut client = Client::connect_as(address, login.clone()).await?;
            client.insist("$JS.API.STREAM.INFO.work", "").await
        };
        let answer = timeout(ANSWER_WITHIN, asked).await;
        matches!(answer, Ok(Ok(answer)) if answer["state"]["messages"] == messages)
    };
    wait_until("all messages", PATIENCE, look).await.unwrap();
}

#[tokio::test]
async fn what_a_server_has_acknowledged_is_there_after_it_was_killed_or_stopped() {
    for is_forced_to_disk in [false, true] {
        let mut server = start(Options { is_forced_to_disk, ..Options::default() }).await;
        let (url, address) = (server.url(), server.address());
        make_stream(&mut client(&server).await, 1).await;
        let ends: [fn(&mut Server) -> anyhow::Result<()>; 3] = [Server::kill, Server::stop, Server::leave];
        for (end, before) in ends.into_iter().zip(0..) {
            let mut before_end = client(&server).await;
            assert_eq!(kept(&mut before_end).await, before);
            assert_eq!(publish(&mut before_end).await, before + 1);
            end(&mut server).unwrap();
            assert!(before_end.ping().await.is_err());
            assert!(Client::greeted(address).await.is_err());
            server.start_again().await.unwrap();
            assert_eq!((server.url(), server.address()), (url.clone(), address));
        }
        assert_eq!(kept(&mut client(&server).await).await, 3);
    }
}

#[tokio::test]
async fn a_server_that_runs_is_not_started_again() {
    let mut server = start(Options::default()).await;
    assert!(server.start_again().await.is_err());
    client(&server).await;
}

#[tokio::test]
async fn a_server_that_stands_still_goes_on_where_it_was() {
    let mut server = start(Options::default()).await;
    let mut connected = client(&server).await;
    server.pause().unwrap();
    assert!(server.ask("/varz").await.is_err());
    server.resume().unwrap();
    connected.ping().await.unwrap();
    assert_eq!(server.ask("/varz").await.unwrap()["connections"], 1);
    // One that stands still can be killed.
    server.pause().unwrap();
    server.kill().unwrap();
    server.start_again().await.unwrap();
    client(&server).await;
}

#[tokio::test]
async fn data_goes_with_its_server() {
    let server = start(Options::default()).await;
    let kept = server.ask("/jsz").await.unwrap()["config"]["store_dir"].clone();
    let kept = std::path::PathBuf::from(kept.as_str().unwrap());
    assert!(kept.exists());
    drop(server);
    assert!(!kept.exists());
}

#[tokio::test]
async fn a_server_without_jetstream_keeps_nothing() {
    let server = start(Options { has_jetstream: false, ..Options::default() }).await;
    let mut client = client(&server).await;
    assert_ne!(client.info["jetstream"], true);
    assert!(client.ask("$JS.API.INFO", "").await.is_err());
}

#[tokio::test]
async fn a_full_server_refuses_and_goes_on() {
    let server = start(Options { file_store_bytes_max: Some(10_000), ..Options::default() }).await;
    let mut client = client(&server).await;
    make_stream(&mut client, 1).await;
    let message = "x".repeat(6_000);
    client.insist("work.one", &message).await.unwrap();
    // What is over the limit is seen only with the next one.
    client.ask("work.one", &message).await.unwrap();
    assert!(client.insist("work.one", &message).await.is_err());
    client.ping().await.unwrap();
}

#[tokio::test]
async fn only_who_has_the_login_is_taken() {
    let login = Login { user: "kite".to_owned(), password: "of-a-test".to_owned() };
    let server = start(Options { login: Some(login), ..Options::default() }).await;
    assert_eq!(server.url(), format!("nats://kite:of-a-test@localhost:{}", server.address().port()));
    assert!(Client::connect(server.address()).await.is_err());
    let wrong = json!({ "user": "kite", "pass": "wrong" });
    assert!(Client::connect_as(server.address(), wrong).await.is_err());
    let right = json!({ "user": "kite", "pass": "of-a-test" });
    Client::connect_as(server.address(), right).await.unwrap();
}

#[tokio::test]
async fn a_server_with_tls_takes_nobody_without() {
    let authority = Authority::new("of the server").unwrap();
    for clients in [None, Some(authority.pem.clone())] {
        let wants_certificates = clients.is_some();
        let tls = Tls { server: authority.sign("localhost").unwrap(), clients };
        let server = start(Options { tls: Some(tls), ..Options::default() }).await;
        assert_eq!(server.url(), format!("tls://localhost:{}", server.address().port()));
        let greeted = Client::greeted(server.address()).await.unwrap();
        assert_eq!(greeted.info["tls_required"], true);
        assert_eq!(greeted.info["tls_verify"] == true, wants_certificates);
        assert!(Client::connect(server.address()).await.is_err());
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let unfit = kite_testkit::certificates::Made { certificate: "none".to_owned(), key: "none".to_owned() };
    let tls = Tls { server: unfit, clients: None };
    let started = Server::start(&installation(), Options { tls: Some(tls), ..Options::default() }).await;
    let error = format!("{:#}", started.err().unwrap());
    assert!(error.contains("it has ended") && error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn something_between_is_not_gone_around() {
    let server = start(Options::default()).await;
    let cluster = Cluster::start(&installation(), 3).await.unwrap();
    for server in [&server, &cluster[0]] {
        let proxy = Proxy::start(server.address()).unwrap();
        assert!(server.url_at(proxy.address()).ends_with(&proxy.address().port().to_string()));
        let mut client = Client::connect(proxy.address()).await.unwrap();
        assert_eq!(client.info["connect_urls"], Value::Null);
        proxy.cut();
        assert!(client.ping().await.is_err());
        proxy.close();
        assert!(Client::connect(proxy.address()).await.is_err());
        proxy.open();
        Client::connect(proxy.address()).await.unwrap();
    }
}

#[tokio::test]
async fn a_cluster_loses_a_leader_of_each_kind_and_nothing_else() {
    let mut cluster = Cluster::start(&installation(), 3).await.unwrap();
    assert_eq!(cluster.urls().len(), cluster.len());
    let first = cluster.leader().await.unwrap();
    let mut connected = client(&cluster[first]).await;
    make_stream(&mut connected, 3).await;
    let consumer =
        json!({ "stream_name": "work", "config": { "durable_name": "workers", "ack_policy": "explicit" } });
    connected.insist("$JS.API.CONSUMER.DURABLE.CREATE.work.workers", &consumer.to_string()).await.unwrap();
    drop(connected);

    for round in 1..=3 {
        let leads = match round {
            1 => cluster.leader().await,
            2 => cluster.stream_leader("work").await,
            _ => cluster.consumer_leader("work", "workers").await,
        };
        let leads = leads.unwrap();
        let other = (leads + 1) % cluster.len();
        assert_eq!(publish(&mut client(&cluster[leads]).await).await, round);
        // Two of three are enough.
        if round == 2 {
            cluster[leads].pause().unwrap()
        } else {
            cluster[leads].kill().unwrap()
        }
        assert_ne!(cluster.leader().await.unwrap(), leads);
        assert_ne!(cluster.stream_leader("work").await.unwrap(), leads);
        assert_ne!(cluster.consumer_leader("work", "workers").await.unwrap(), leads);
        wait_until_kept(cluster[other].address(), &json!({}), round).await;
        if round == 2 {
            cluster[leads].resume().unwrap()
        } else {
            cluster[leads].start_again().await.unwrap()
        }
        cluster.wait_until_current().await.unwrap();
    }
}

#[tokio::test]
async fn a_cluster_that_was_killed_as_a_whole_comes_back_with_everything() {
    let login = Login { user: "kite".to_owned(), password: "of-a-test".to_owned() };
    let with_login = Options { login: Some(login), ..Options::default() };
    let mut cluster = Cluster::start_with(&installation(), 3, with_login).await.unwrap();
    let login = json!({ "user": "kite", "pass": "of-a-test" });
    let mut client = Client::connect_as(cluster[0].address(), login.clone()).await.unwrap();
    make_stream(&mut client, 3).await;
    assert_eq!(publish(&mut client).await, 1);
    for node in 0..cluster.len() {
        cluster[node].kill().unwrap();
    }
    for node in 0..cluster.len() {
        // The first of them is alone, and starts all the same.
        cluster[node].start_again().await.unwrap();
    }
    cluster.wait_until_current().await.unwrap();
    cluster.stream_leader("work").await.unwrap();
    wait_until_kept(cluster[0].address(), &login, 1).await;
}
