//! Against the simulated mail server, which takes credentials and offers no TLS, and against one that quotes.

use super::*;
use kite_relay_sim::{RelaySim, Scenario};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

const RECIPIENT: &str = "jieun@mail.example";

async fn mail_server(api_key: &str) -> RelaySim {
    let mail = json!({ "id": "mail", "kind": "smtp", "api_key": api_key, "channels": ["email"],
        "smtp_listen": "127.0.0.1:0" });
    let scenario = json!({ "seed": 7, "relays": [mail] });
    RelaySim::start(Scenario::from_json(&scenario.to_string()).unwrap()).await.unwrap()
}

fn profile(api_key: Option<&str>) -> RelayProfile {
    let mut profile = crate::hand::testing::profile("mail");
    profile.credentials.api_key = api_key.map(str::to_owned);
    profile.credentials.user = Some("kite".to_owned());
    profile
}

fn message() -> OutgoingMessage {
    OutgoingMessage {
        reference: "0197c0de000070008000000000000001-7-1".parse().unwrap(),
        message_type: kite_domain::text::MessageType::Email,
        from: "hello@kite.test".into(),
        to: RECIPIENT.into(),
        subject: Some("안내".into()),
        text: "안녕하세요".into(),
    }
}

/// What the simulated server says to one message, and how many it has taken.
async fn hand_over(security: SmtpSecurity, api_key: Option<&str>) -> (MessageAnswer, usize) {
    let server = mail_server(api_key.unwrap_or_default()).await;
    let address = server.smtp_address("mail").unwrap();
    let client =
        SmtpRelayClient::new(&address.ip().to_string(), address.port(), security, &profile(api_key)).unwrap();
    let mut answer = client.submit(&[message()]).await;
    let taken = server.ledger().all_entries().len();
    server.shutdown().await;
    (answer.messages.remove(0), taken)
}

#[tokio::test]
async fn credentials_are_not_sent_in_the_clear() {
    for security in [SmtpSecurity::Opportunistic, SmtpSecurity::Required] {
        let (answer, taken) = hand_over(security, Some("secret")).await;
        let MessageAnswer::NotTaken { why, reason } = answer else { panic!("{security:?}: {answer:?}") };
        assert_eq!(why, NotTaken::Unauthorised, "{security:?}");
        assert_eq!(&*reason, "the server offers no TLS, and the credentials are not sent without it");
        // The server would have taken them, and the message.
        assert_eq!(taken, 0, "{security:?}");
    }
}

#[tokio::test]
async fn credentials_are_sent_in_the_clear_where_the_profile_says_plain() {
    let (answer, taken) = hand_over(SmtpSecurity::Plain, Some("secret")).await;
    assert!(matches!(answer, MessageAnswer::Accepted { .. }), "{answer:?}");
    assert_eq!(taken, 1);
}

#[tokio::test]
async fn without_credentials_only_required_tls_is_missed() {
    let (answer, taken) = hand_over(SmtpSecurity::Opportunistic, None).await;
    assert!(matches!(answer, MessageAnswer::Accepted { .. }), "{answer:?}");
    assert_eq!(taken, 1);
    let (answer, taken) = hand_over(SmtpSecurity::Required, None).await;
    assert!(matches!(answer, MessageAnswer::NotTaken { why: NotTaken::NoConnection, .. }), "{answer:?}");
    assert_eq!(taken, 0);
}

/// Holds one conversation in which the recipient is answered with this line; keeps the commands.
async fn answer_recipient_with(listener: TcpListener, line: &str) -> Vec<String> {
    let (stream, _) = listener.accept().await.unwrap();
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input).lines();
    let mut commands = Vec::new();
    output.write_all(b"220 quoting\r\n").await.unwrap();
    while let Ok(Some(command)) = input.next_line().await {
        let reply = if command.starts_with("RCPT") { line } else { "250 ok" };
        let is_last = command.starts_with("RSET");
        commands.push(command);
        output.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
        if is_last {
            break;
        }
    }
    commands
}

/// The client's answer when the server answers the recipient with this line.
async fn quoted(line: &str) -> MessageAnswer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = SmtpRelayClient::new("127.0.0.1", port, SmtpSecurity::Plain, &profile(None)).unwrap();
    let messages = [message()];
    let (commands, mut answer) =
        tokio::join!(answer_recipient_with(listener, line), client.submit(&messages));
    assert!(commands.iter().any(|command| command.contains(RECIPIENT)), "{commands:?}");
    answer.messages.remove(0)
}

#[tokio::test]
async fn the_words_of_a_refusal_do_not_name_the_recipient() {
    let answer = quoted("550 5.1.1 <jieun@mail.example>: no such user (JIEUN@mail.example)").await;
    let MessageAnswer::Refused { code, general_code, text } = answer else { panic!("{answer:?}") };
    assert_eq!((code.as_str(), general_code.as_deref()), ("5.1.1", Some("550")));
    assert_eq!(text.as_deref(), Some("5.1.1 …: no such user (…)"));
}

#[tokio::test]
async fn nor_do_those_of_a_delay() {
    let answer = quoted("450 4.7.1 jieun@mail.example is greylisted").await;
    let MessageAnswer::NotTaken { why, reason } = answer else { panic!("{answer:?}") };
    assert_eq!((why, &*reason), (NotTaken::RateLimited, "450 4.7.1 … is greylisted"));
}
