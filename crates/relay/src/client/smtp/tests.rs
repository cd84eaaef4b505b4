//! Against the simulated mail server, which takes credentials and offers no TLS, and against one that quotes.

use super::*;
use kite_relay_sim::{RelaySim, Scenario};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

const RECIPIENT: &str = "jieun@mail.example";

async fn mail_server(api_key: &str) -> RelaySim {
    mail_server_that(api_key, json!({})).await
}

async fn mail_server_that(api_key: &str, behaves: serde_json::Value) -> RelaySim {
    let mail = json!({ "id": "mail", "kind": "smtp", "api_key": api_key, "channels": ["email"],
        "smtp_listen": "127.0.0.1:0", "behaviour": behaves });
    let scenario = json!({ "seed": 7, "relays": [mail] });
    RelaySim::start(Scenario::from_json(&scenario.to_string()).unwrap()).await.unwrap()
}

fn profile(api_key: Option<&str>) -> RelayProfile {
    let mut profile = crate::worker::testing::profile("mail");
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
        was_put_off: false,
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
    let MessageAnswer::RefusedForNow { code, text, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((code.as_str(), text.as_deref()), ("4.7.1", Some("4.7.1 … is greylisted")));
}

fn messages_to(recipients: &[&str]) -> Vec<OutgoingMessage> {
    let message = |(number, recipient): (usize, &&str)| OutgoingMessage {
        reference: format!("0197c0de000070008000000000000001-{number}-1").parse().unwrap(),
        to: (*recipient).into(),
        ..message()
    };
    recipients.iter().enumerate().map(message).collect()
}

fn client_of(server: &RelaySim) -> SmtpRelayClient {
    let address = server.smtp_address("mail").unwrap();
    let host = address.ip().to_string();
    SmtpRelayClient::new(&host, address.port(), SmtpSecurity::Plain, &profile(None)).unwrap()
}

fn is_accepted(answer: &MessageAnswer) -> bool {
    matches!(answer, MessageAnswer::Accepted { .. })
}

#[tokio::test]
async fn a_recipient_that_is_put_off_holds_nobody_up() {
    let server = mail_server("").await;
    let mut recipients = vec!["never-now@mail.example"; 1];
    recipients.extend(vec![RECIPIENT; 20]);
    let answer = client_of(&server).submit(&messages_to(&recipients)).await;
    let first = &answer.messages[0];
    assert!(matches!(first, MessageAnswer::RefusedForNow { code, .. } if code == "4.2.0"), "{first:?}");
    assert!(answer.messages[1..].iter().all(is_accepted), "{answer:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_that_takes_so_many_mails_over_a_connection_is_connected_to_again() {
    let server = mail_server_that("", json!({ "mails_per_connection_max": 2 })).await;
    let client = client_of(&server);
    for _ in 0..2 {
        let answer = client.submit(&messages_to(&[RECIPIENT; 7])).await;
        assert!(answer.messages.iter().all(is_accepted), "{answer:?}");
    }
    server.shutdown().await;
}

/// A mail server that ends the connection when somebody is named whose address contains one of these words.
#[expect(clippy::disallowed_methods, reason = "a server for a test, which ends with it")]
async fn server_that_hangs_up_on(words: &'static [&'static str]) -> (SmtpRelayClient, impl Sized) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ended = converse_with(stream, words).await;
        }
    });
    let client = SmtpRelayClient::new("127.0.0.1", port, SmtpSecurity::Plain, &profile(None)).unwrap();
    (client, AbortOnDrop(server))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn converse_with(stream: tokio::net::TcpStream, words: &[&str]) -> std::io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input).lines();
    output.write_all(b"220 touchy\r\n").await?;
    let mut is_data = false;
    while let Some(line) = input.next_line().await? {
        let reply = match (is_data, line.as_str()) {
            (true, ".") => "250 2.0.0 queued as 1",
            (true, _) => continue,
            (false, "DATA") => "354 go on",
            (false, line) if line.starts_with("RCPT") && words.iter().any(|word| line.contains(word)) => {
                return Ok(());
            }
            (false, _) => "250 ok",
        };
        is_data = reply.starts_with("354");
        output.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_recipient_at_whom_the_connection_ends_holds_nobody_up() {
    let (client, _server) = server_that_hangs_up_on(&["poison"]).await;
    let answer = client.submit(&messages_to(&["poison@mail.example", "a@b.example", "c@d.example"])).await;
    let first = &answer.messages[0];
    assert!(
        matches!(first, MessageAnswer::RefusedForNow { code, .. } if code == "connection_lost"),
        "{first:?}"
    );
    assert!(answer.messages[1..].iter().all(is_accepted), "{answer:?}");
}

#[tokio::test]
async fn one_such_recipient_alone_says_nothing_of_the_server_however_often() {
    let (client, _server) = server_that_hangs_up_on(&["poison"]).await;
    for _ in 0..5 {
        let answer = client.submit(&messages_to(&["poison@mail.example"])).await;
        let only = &answer.messages[0];
        assert!(matches!(only, MessageAnswer::RefusedForNow { .. }), "{only:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_at_every_recipient_takes_nothing_at_the_moment() {
    let (client, _server) = server_that_hangs_up_on(&["@"]).await;
    let answer = client.submit(&messages_to(&["a@b.example", "c@d.example", "e@f.example"])).await;
    let [first, second, third] = &answer.messages[..] else { panic!("{answer:?}") };
    assert!(matches!(first, MessageAnswer::RefusedForNow { .. }), "it might be this one: {first:?}");
    assert!(matches!(second, MessageAnswer::NotTaken { why: NotTaken::NoConnection, .. }), "{second:?}");
    assert_eq!(*third, MessageAnswer::NotTried);
    let next =
        OutgoingMessage { reference: "0197c0de000070008000000000000001-9-1".parse().unwrap(), ..message() };
    let again = client.submit(&[next]).await;
    assert!(matches!(again.messages[0], MessageAnswer::NotTaken { .. }), "one message a call: {again:?}");
}

#[tokio::test]
async fn those_who_were_put_off_before_come_back_together_and_say_nothing_of_the_server() {
    let (client, _server) = server_that_hangs_up_on(&["poison"]).await;
    let mut messages = messages_to(&["poison-1@mail.example", "poison-2@mail.example", "good@mail.example"]);
    for message in &mut messages[..2] {
        message.was_put_off = true;
    }
    let answer = client.submit(&messages).await;
    let [first, second, good] = &answer.messages[..] else { panic!("{answer:?}") };
    assert!(matches!(first, MessageAnswer::RefusedForNow { .. }), "{first:?}");
    assert!(matches!(second, MessageAnswer::RefusedForNow { .. }), "{second:?}");
    assert!(matches!(good, MessageAnswer::Accepted { .. }), "{good:?}");
}

#[tokio::test]
async fn two_in_a_row_are_held_against_the_server_once() {
    let (client, _server) = server_that_hangs_up_on(&["poison"]).await;
    let messages = messages_to(&["poison-1@mail.example", "poison-2@mail.example", "good@mail.example"]);
    let first = client.submit(&messages).await;
    assert!(matches!(first.messages[1], MessageAnswer::NotTaken { .. }), "{first:?}");
    let again = client.submit(&messages).await;
    assert!(matches!(again.messages[2], MessageAnswer::Accepted { .. }), "{again:?}");
}
