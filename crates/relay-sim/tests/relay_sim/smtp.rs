//! The mail server, spoken to by a real client.

use kite_relay_sim::{EntryStatus, RelaySim, Scenario};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{SENDING, eventually, reference};

async fn start(api_key: &str, behaviour: Value) -> RelaySim {
    let relay = json!({
        "id": "mail", "kind": "smtp", "api_key": api_key, "channels": ["email"],
        "smtp_listen": "127.0.0.1:0", "behaviour": behaviour,
    });
    RelaySim::start(Scenario::from_json(&json!({ "seed": 1, "relays": [relay] }).to_string()).unwrap())
        .await
        .unwrap()
}

fn transport(sim: &RelaySim, password: Option<&str>) -> AsyncSmtpTransport<Tokio1Executor> {
    let address = sim.smtp_address("mail").unwrap();
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
        .port(address.port());
    if let Some(password) = password {
        builder = builder.credentials(("kite".to_owned(), password.to_owned()).into());
    }
    builder.build()
}

fn mail(reference: &str, to: &str) -> Message {
    Message::builder()
        .from("news@kite.example".parse().unwrap())
        .to(to.parse().unwrap())
        .subject("안내")
        .message_id(Some(format!("<{reference}@kite.example>")))
        .body("안녕하세요\n.\n..\n끝".to_owned())
        .unwrap()
}

#[tokio::test]
async fn an_accepted_mail_is_in_the_ledger_under_its_message_id() {
    let sim = start("", json!({})).await;
    let transport = transport(&sim, None);
    for sequence in 0..3 {
        let answer = transport.send(mail(&reference(sequence, 1), "someone@example.com")).await.unwrap();
        assert!(answer.is_positive());
    }
    eventually("all are delivered", || sim.ledger().counters("mail").unwrap().delivered == 3).await;
    let entry = sim.ledger().find("mail", &reference(2, 1)).unwrap();
    assert_eq!((entry.recipient.as_str(), entry.kind, entry.attempt), ("someone@example.com", "email", 1));
    assert_eq!(entry.message, format!("{SENDING}-2"));
}

#[tokio::test]
async fn refusals_come_at_rcpt_with_their_code() {
    let sim = start("", json!({})).await;
    let transport = transport(&sim, None);
    let permanent = transport.send(mail(&reference(0, 1), "refused+550@example.com")).await.unwrap_err();
    assert!(permanent.is_permanent(), "{permanent}");
    let transient = transport.send(mail(&reference(1, 1), "refused+451@example.com")).await.unwrap_err();
    assert!(transient.is_transient(), "{transient}");
    assert_eq!(sim.ledger().counters("mail").unwrap().refused, 2);
}

#[tokio::test]
async fn a_return_path_with_the_reference_puts_refusals_into_the_ledger() {
    let sim = start("", json!({})).await;
    let to: lettre::Address = "refused-first@example.com".parse().unwrap();
    for (attempt, refused) in [(1, true), (2, false)] {
        let reference = reference(0, attempt);
        let from = format!("bounce+{reference}@kite.example").parse().unwrap();
        let envelope = lettre::address::Envelope::new(Some(from), vec![to.clone()]).unwrap();
        let text = mail(&reference, "refused-first@example.com").formatted();
        assert_eq!(transport(&sim, None).send_raw(&envelope, &text).await.is_err(), refused);
    }
    let ledger = sim.ledger();
    assert_eq!(ledger.find("mail", &reference(0, 1)).unwrap().status, EntryStatus::Refused);
    eventually("the second is delivered", || {
        ledger.find("mail", &reference(0, 2)).unwrap().status == EntryStatus::Delivered
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_leaves_the_client_in_doubt_and_the_mail_delivered() {
    let sim = start("", json!({ "dedupe": false })).await;
    let transport = transport(&sim, None);
    let lost = transport.send(mail(&reference(0, 1), "answer-lost@example.com")).await.unwrap_err();
    assert!(!lost.is_permanent() && !lost.is_transient(), "no reply at all: {lost}");
    eventually("it is delivered", || sim.ledger().counters("mail").unwrap().delivered == 1).await;
    assert_eq!(sim.ledger().counters("mail").unwrap().answers_lost, 1);
    transport.send(mail(&reference(0, 1), "answer-lost@example.com")).await.unwrap();
    eventually("mail servers do not de-duplicate", || sim.ledger().summary().delivered_more_than_once == 1)
        .await;
}

#[tokio::test]
async fn a_key_must_be_presented_where_there_is_one() {
    let sim = start("secret", json!({})).await;
    assert!(transport(&sim, None).send(mail(&reference(0, 1), "someone@example.com")).await.is_err());
    assert!(
        transport(&sim, Some("wrong")).send(mail(&reference(0, 1), "someone@example.com")).await.is_err()
    );
    transport(&sim, Some("secret")).send(mail(&reference(0, 1), "someone@example.com")).await.unwrap();
}

#[tokio::test]
async fn an_outage_greets_with_421() {
    let sim = start("", json!({ "outages": [{ "start_ms": 0, "end_ms": 3_600_000 }] })).await;
    assert!(transport(&sim, None).send(mail(&reference(0, 1), "someone@example.com")).await.is_err());
    assert_eq!(sim.ledger().counters("mail").unwrap().handovers, 0);
}

/// Says everything at once, in two pieces cut anywhere, and returns all replies.
async fn say(sim: &RelaySim, text: &str, cut: usize) -> String {
    let mut stream = tokio::net::TcpStream::connect(sim.smtp_address("mail").unwrap()).await.unwrap();
    let (first, second) = text.as_bytes().split_at(cut.min(text.len()));
    stream.write_all(first).await.unwrap();
    stream.flush().await.unwrap();
    stream.write_all(second).await.unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).await.unwrap();
    replies
}

fn codes(replies: &str) -> Vec<&str> {
    replies.lines().filter(|line| line.as_bytes()[3] == b' ').map(|line| &line[..3]).collect()
}

#[tokio::test]
async fn pipelined_commands_may_be_cut_anywhere() {
    let sim = start("", json!({ "dedupe": false })).await;
    let text = format!(
        "EHLO kite.example\r\nNOOP\r\nMAIL FROM:<a@kite.example> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<b@example.com>\r\n\
         DATA\r\nMessage-ID: <{}@kite.example>\r\n\r\n..\r\nEHLO is text here\r\n.\r\nRSET\r\nQUIT\r\n",
        reference(0, 1)
    );
    for cut in 0..text.len() {
        let replies = say(&sim, &text, cut).await;
        assert_eq!(
            codes(&replies),
            ["220", "250", "250", "250", "250", "354", "250", "250", "221"],
            "cut {cut}: {replies}"
        );
    }
    assert_eq!(sim.ledger().counters("mail").unwrap().handovers, text.len() as u64);
}

#[tokio::test]
async fn commands_out_of_order_and_too_big_mails_are_refused() {
    let sim = start("", json!({})).await;
    let text = "MAIL FROM:<a@kite.example>\r\nEHLO x\r\nRCPT TO:<b@example.com>\r\nDATA\r\nGARBAGE\r\n\
                MAIL FROM:<a@kite.example> SIZE=99999999\r\nMAIL FROM:<a@kite.example>\r\nDATA\r\nQUIT\r\n";
    let replies = say(&sim, text, 0).await;
    assert_eq!(
        codes(&replies),
        ["220", "503", "250", "503", "503", "500", "552", "250", "554", "221"],
        "{replies}"
    );
}
