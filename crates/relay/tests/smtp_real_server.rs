//! The SMTP client against a mail server that is not ours (aiosmtpd), over a real socket.
//!
//! `cargo xtask test` starts the server and says where it is. Without it these tests fail: they are never skipped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::fs;
use std::path::PathBuf;

use kite_domain::ids::{AttemptReference, MessageId, SendingId};
use kite_domain::relay::{RelayProfile, SmtpSecurity};
use kite_domain::text::MessageType;
use kite_relay::client::smtp::SmtpRelayClient;
use kite_relay::client::{MessageAnswer, NotTaken, OutgoingMessage, RelayClient};
use serde_json::{Value, json};
use uuid::Uuid;

/// A variable that `cargo xtask test` sets.
fn from_xtask(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`, which starts the mail server"))
}

fn port(variable: &str) -> u16 {
    from_xtask(variable).rsplit_once(':').unwrap().1.parse().unwrap()
}

fn profile() -> RelayProfile {
    let profile = json!({
        "relay": "mail", "name": "Mail",
        "endpoint": { "protocol": "smtp", "host": "localhost", "port": 0 },
        "channels": { "email": { "price_milliwon": 500, "receipt_deadline_s": 60 } },
        "reaches": [], "batch_max": 10, "rate_parts_per_second": null, "calls_in_flight_max": 2,
        "answer_timeout_ms": 20_000, "deduplicates": false, "answers_status": false, "receipts": "none",
        "codes": "smtp",
    });
    serde_json::from_value(profile).unwrap()
}

fn client(variable: &str, security: SmtpSecurity) -> SmtpRelayClient {
    SmtpRelayClient::new("localhost", port(variable), security, &profile()).unwrap()
}

/// Recipients are different in every test: the server names its files after them.
fn message(to: &str, text: &str) -> OutgoingMessage {
    let sending = SendingId(Uuid::from_u128(0x0197_c0de_0000_7000_8000_0000_0000_0001));
    OutgoingMessage {
        reference: AttemptReference { message: MessageId { sending, seq: 7 }, attempt: 1 },
        message_type: MessageType::Email,
        from: "hello@kite.test".into(),
        to: to.into(),
        subject: Some("안내 말씀".into()),
        text: text.into(),
        was_put_off: false,
    }
}

/// What the server has kept for a recipient.
fn kept(to: &str) -> Value {
    let path = PathBuf::from(from_xtask("TEST_SMTP_MAIL")).join(format!("{to}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn accepted_as(answer: &MessageAnswer) -> &str {
    match answer {
        MessageAnswer::Accepted { relay_reference: Some(reference), duplicate: false } => reference,
        other => panic!("not accepted: {other:?}"),
    }
}

#[tokio::test]
async fn a_message_arrives_as_it_was_sent_under_the_servers_own_reference() {
    let to = "arrives@kite.test";
    let answer =
        client("TEST_SMTP", SmtpSecurity::Opportunistic).submit(&[message(to, "안녕하세요\n.\n끝")]).await;
    let mail = kept(to);
    assert_eq!(accepted_as(&answer.messages[0]), mail["id"].as_str().unwrap());
    assert_eq!(mail["from"], "hello@kite.test");
    assert_eq!(mail["tls"], false, "this listener offers no TLS");
    let content = mail["content"].as_str().unwrap();
    assert!(content.contains("Message-ID: <0197c0de000070008000000000000001-7-1@kite.test>"), "{content}");
    assert!(content.contains("To: arrives@kite.test"), "{content}");
}

#[tokio::test]
async fn a_message_of_plain_letters_keeps_its_lines_and_dots() {
    let to = "lines@kite.test";
    client("TEST_SMTP", SmtpSecurity::Plain).submit(&[message(to, "first\n.second\n.\nlast")]).await;
    let content = kept(to)["content"].as_str().unwrap().replace("\r\n", "\n");
    assert!(content.ends_with("\n\nfirst\n.second\n.\nlast\n"), "{content:?}");
}

#[tokio::test]
async fn a_refused_address_costs_neither_the_others_nor_the_connection() {
    let client = client("TEST_SMTP", SmtpSecurity::Opportunistic);
    let batch = [
        message("before@kite.test", "one"),
        message("refused+550@kite.test", "two"),
        message("refused+452@kite.test", "three"),
        message("refused-content@kite.test", "four"),
        message("after@kite.test", "five"),
    ];
    let answer = client.submit(&batch).await;
    let refusal = |number: usize| match &answer.messages[number] {
        MessageAnswer::Refused { code, general_code, text }
        | MessageAnswer::RefusedForNow { code, general_code, text, .. } => {
            (code.as_str(), general_code.as_deref(), text.as_deref().unwrap_or_default().to_owned())
        }
        other => panic!("message {number} was not refused: {other:?}"),
    };
    accepted_as(&answer.messages[0]);
    let (code, general, text) = refusal(1);
    assert_eq!((code, general), ("5.1.1", Some("550")));
    assert!(text.contains("… is not taken here"), "{text}");
    assert_eq!((refusal(2).0, refusal(2).1), ("4.2.2", Some("452")));
    assert!(
        matches!(answer.messages[2], MessageAnswer::RefusedForNow { .. }),
        "a full mailbox may have room later"
    );
    assert_eq!((refusal(3).0, refusal(3).1), ("5.6.0", Some("554")));
    accepted_as(&answer.messages[4]);
    assert_eq!(kept("after@kite.test")["to"], "after@kite.test");
}

#[tokio::test]
async fn tls_is_used_where_it_is_offered() {
    for (security, to) in
        [(SmtpSecurity::Opportunistic, "offered@kite.test"), (SmtpSecurity::Required, "required@kite.test")]
    {
        let answer = client("TEST_SMTP_TLS", security).submit(&[message(to, "for your eyes only")]).await;
        accepted_as(&answer.messages[0]);
        assert_eq!(kept(to)["tls"], true, "{security:?}");
    }
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_where_tls_is_required() {
    let to = "in-the-clear@kite.test";
    let answer = client("TEST_SMTP", SmtpSecurity::Required).submit(&[message(to, "secret")]).await;
    let MessageAnswer::NotTaken { why: NotTaken::NoConnection, reason } = &answer.messages[0] else {
        panic!("{:?}", answer.messages[0]);
    };
    assert!(!reason.is_empty());
    let path = PathBuf::from(from_xtask("TEST_SMTP_MAIL")).join(format!("{to}.json"));
    assert!(!path.exists());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted() {
    let client =
        SmtpRelayClient::new("127.0.0.2", port("TEST_SMTP_TLS"), SmtpSecurity::Required, &profile()).unwrap();
    let answer = client.submit(&[message("other-name@kite.test", "secret")]).await;
    assert!(
        matches!(answer.messages[0], MessageAnswer::NotTaken { why: NotTaken::NoConnection, .. }),
        "{answer:?}"
    );
}
