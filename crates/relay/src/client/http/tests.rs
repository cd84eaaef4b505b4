//! The client is held by the documented exchanges in `docs/relay-protocol/`.

use super::*;
use kite_commands::Vault;
use kite_commands::clock::SystemClock;
use kite_domain::text::MessageType;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

/// An exchange that both sides are held to.
fn fixture(name: &str) -> Value {
    let path = format!("{}/../../docs/relay-protocol/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn messages(exchange: &Value) -> Vec<OutgoingMessage> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let messages = exchange["request"]["body"]["messages"].as_array().unwrap().iter();
    let message = |message: &Value| OutgoingMessage {
        reference: text(&message["reference"]).parse().unwrap(),
        message_type: serde_json::from_value::<MessageType>(message["type"].clone()).unwrap(),
        from: text(&message["from"]).into(),
        to: text(&message["to"]).into(),
        subject: message["subject"].as_str().map(Into::into),
        text: text(&message["text"]).into(),
        was_put_off: false,
    };
    messages.map(message).collect()
}

fn answers(exchange: &Value) -> Vec<MessageAnswer> {
    read_results(&messages(exchange), exchange["response"]["body"].to_string().as_bytes()).unwrap()
}

#[test]
fn calls_are_written_as_documented() {
    for name in ["batch-accepted", "batch-refused", "batch-deferred", "batch-duplicate", "batch-email"] {
        let exchange = fixture(name);
        let written: Value = serde_json::from_slice(&write_batch(&messages(&exchange))).unwrap();
        assert_eq!(written, exchange["request"]["body"], "{name}");
    }
}

#[test]
fn answers_are_read_as_documented() {
    let is_accepted =
        |answer: &MessageAnswer| matches!(answer, MessageAnswer::Accepted { duplicate: false, .. });
    assert!(answers(&fixture("batch-accepted")).iter().all(is_accepted));
    let refused = answers(&fixture("batch-refused"));
    assert!(
        refused.iter().any(|answer| matches!(answer, MessageAnswer::Refused { code, .. } if code == "3032"))
    );
    let deferred = answers(&fixture("batch-deferred"));
    assert!(
        matches!(&deferred[0], MessageAnswer::RefusedForNow { code, retry_after: None, .. } if code == "3044")
    );
    assert!(is_accepted(&deferred[1]), "which says nothing of the other");
    let again = answers(&fixture("batch-duplicate"));
    assert!(again.iter().any(|answer| matches!(answer, MessageAnswer::Accepted { duplicate: true, .. })));
}

#[test]
fn standings_are_read_as_documented() {
    let exchange = fixture("status");
    let body = exchange["response"]["body"].to_string();
    let results: WireResults<'_> = strict_json::from_slice(body.as_bytes()).unwrap();
    let standings: Vec<_> =
        results.results.into_iter().map(|one| standing(one, DateTime::default())).collect();
    let [Standing::Over(delivered), Standing::Over(undelivered), refused, accepted, not_found] =
        &standings[..]
    else {
        panic!("{standings:?}")
    };
    assert_eq!(
        (delivered.status, undelivered.status),
        (ReceiptStatus::Delivered, ReceiptStatus::Undelivered)
    );
    assert_eq!(delivered.at.to_rfc3339(), "2026-03-01T09:00:00.120+00:00");
    assert_eq!(*refused, Standing::Refused { code: "3032".into() });
    assert!(matches!(accepted, Standing::Accepted { relay_reference: Some(_) }));
    assert_eq!(*not_found, Standing::NotFound);
}

#[test]
fn no_relay_is_left_alone_for_ever() {
    let asked = |header: &str, body: &str| {
        pause_asked_for(StatusCode::TOO_MANY_REQUESTS, Some(header), body.as_bytes())
    };
    assert_eq!(asked(" 7 ", ""), Some(Duration::from_secs(7)));
    assert_eq!(asked("7", r#"{"retry_after_ms":1500}"#), Some(Duration::from_millis(1_500)));
    assert_eq!(asked("9000000000000000", ""), Some(PAUSE_MAX));
    assert_eq!(asked("1", r#"{"retry_after_ms":18446744073709551615}"#), Some(PAUSE_MAX));
    assert_eq!(asked("soon", ""), None);
}

#[test]
fn a_pulled_receipt_that_cannot_be_read_does_not_hold_up_the_others() {
    let good = |reference: &str| json!({ "reference": reference, "status": "delivered", "code": "4000", "at": "2027-01-15T08:00:05Z" });
    let receipts = json!([good("a"), { "status": "delivered" }, 7, { "reference": ["b"] }, null,
        { "reference": "c", "status": "lost in thought" }, good("d"),
        { "reference": "e", "status": "delivered", "code": "4000", "at": "2027-01-15T08:00:05" }]);
    let pulled =
        read_pulled(json!({ "lease": "lease-1", "receipts": receipts }).to_string().as_bytes()).unwrap();
    let read: Vec<&str> = pulled.receipts.iter().map(|receipt| receipt.reference.as_str()).collect();
    assert_eq!((pulled.lease.as_str(), read.as_slice()), ("lease-1", &["a", "d"][..]));
    let misread: Vec<_> = pulled.misread.iter().map(|one| (one.row, one.field.as_deref())).collect();
    let expected = [
        (Some(1), Some("reference")),
        (Some(2), None),
        (Some(3), Some("reference")),
        (Some(4), None),
        (Some(5), Some("status")),
        (Some(7), Some("at")),
    ];
    assert_eq!(misread, expected);
    assert_eq!(pulled.misread[1].raw, "7");
    let nothing = read_pulled(br#"{"lease":"lease-2","receipts":[7]}"#).unwrap();
    assert_eq!((nothing.lease.as_str(), nothing.receipts.len()), ("lease-2", 0), "acknowledged all the same");
    assert!(read_pulled(br#"{"lease":"lease-3"}"#).is_err());
}

#[test]
fn receipts_are_read_as_documented() {
    let body = fixture("receipts-pull")["response"]["body"].to_string();
    let pulled = read_pulled(body.as_bytes()).unwrap();
    let receipts = pulled.receipts;
    assert_eq!((pulled.lease.as_str(), receipts.len(), pulled.misread.len()), ("lease-1", 2, 0));
    assert_eq!((receipts[1].status, receipts[1].code.as_str()), (ReceiptStatus::Undelivered, "3043"));
}

#[test]
fn results_out_of_order_missing_or_strange_are_sorted_out_by_reference() {
    let exchange = fixture("batch-accepted");
    let mut body = exchange["response"]["body"].clone();
    body["results"].as_array_mut().unwrap().reverse();
    body["results"][0]["relay_reference"] = "second".into();
    let swapped = read_results(&messages(&exchange), body.to_string().as_bytes()).unwrap();
    let second = MessageAnswer::Accepted { relay_reference: Some("second".into()), duplicate: false };
    assert_eq!(swapped[1], second);
    body["results"].as_array_mut().unwrap().remove(1);
    let missing = read_results(&messages(&exchange), body.to_string().as_bytes()).unwrap();
    assert_eq!(missing, [MessageAnswer::Unknown { reason: "not in the answer".into() }, second]);
    body["results"][0]["status"] = "perhaps".into();
    let strange = read_results(&messages(&exchange), body.to_string().as_bytes()).unwrap();
    assert!(strange.iter().all(|answer| matches!(answer, MessageAnswer::Unknown { .. })));
    assert!(read_results(&messages(&exchange), b"<html>").is_err());
}

/// A relay that answers every call with this status, perhaps with headers behind it, and this body: where it is, and how
/// often it was called.
#[expect(clippy::disallowed_methods, reason = "a server for a test, which ends with it")]
async fn relay_that_says(status: String, body: &'static str) -> (String, Arc<AtomicUsize>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut asked = [0; 16_384];
            let _ = connection.read(&mut asked).await;
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            let _ = connection.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    (format!("http://{address}"), calls)
}

async fn client_that_hears(status: String, body: &'static str) -> HttpRelayClient {
    let (address, _) = relay_that_says(status, body).await;
    HttpRelayClient::new(&address, &crate::worker::testing::profile("alpha")).unwrap()
}

/// A client of a relay that answers every call with this body.
async fn client_of(body: &'static str) -> HttpRelayClient {
    client_that_hears("200 OK".to_owned(), body).await
}

/// What the client heard and did not understand: how it came, which row, and the words.
fn heard(client: &HttpRelayClient) -> Vec<(SaidHow, Option<u32>, String)> {
    client.take_misread().into_iter().map(|(how, one)| (how, one.row, one.raw)).collect()
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_leaves_its_message_unknown_and_is_put_aside() {
    let exchange = fixture("batch-accepted");
    let client = client_of(r#"{"results":[{"reference":"x","status":"perhaps"}]}"#).await;
    let messages = messages(&exchange);
    let answer = client.submit(&messages).await;
    assert!(answer.messages.iter().all(|one| matches!(one, MessageAnswer::Unknown { .. })));
    let raw = r#"{"reference":"x","status":"perhaps"}"#.to_owned();
    assert_eq!(heard(&client), [(SaidHow::Responded, Some(0), raw)]);
    assert_eq!(heard(&client), [], "once");

    let client = client_of("<html>").await;
    client.submit(&messages).await;
    assert!(client.status(&[messages[0].reference], DateTime::default()).await.is_err());
    assert!(client.pull_receipts(10).await.is_err());
    let whole = |how| (how, None, "<html>".to_owned());
    assert_eq!(heard(&client), [whole(SaidHow::Responded), whole(SaidHow::Answered), whole(SaidHow::Pulled)]);
}

#[test]
fn a_time_in_a_standing_is_not_guessed() {
    let reference = "00000000-0000-7000-8000-000000000000-0-1";
    let standing = |at: &str| {
        let body = format!(
            r#"{{"results":[{{"reference":"{reference}","status":"delivered","code":"4000"{at}}}]}}"#
        );
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut read = read_standings(&[reference.parse().unwrap()], body.as_bytes(), now).unwrap();
        match read.remove(0) {
            Standing::Over(receipt) => Some(receipt.at.timestamp()),
            _ => None,
        }
    };
    assert_eq!(standing(""), Some(1_800_000_000), "left out: now");
    assert_eq!(standing(r#","at":"2027-01-15T17:00:05+09:00""#), Some(1_800_000_005));
    assert_eq!(standing(r#","at":"2027-01-15T08:00:05""#), None);
}

/// What is said not to be taken goes elsewhere, so a status that leaves it open must not say so: the message might arrive
/// twice.
#[tokio::test]
async fn only_a_status_that_leaves_no_doubt_means_that_nothing_was_taken() {
    use NotTaken::{OutOfService, RateLimited, Unauthorised};
    let messages = messages(&fixture("batch-accepted"));
    for (status, expected) in [
        (202, None),
        (301, Some(Unauthorised)),
        (307, Some(Unauthorised)),
        (401, Some(Unauthorised)),
        (403, Some(Unauthorised)),
        (404, Some(Unauthorised)),
        (405, Some(Unauthorised)),
        (409, None),
        (410, None),
        (429, Some(RateLimited)),
        (500, None),
        (501, None),
        (502, None),
        (503, Some(OutOfService)),
        (504, None),
        (507, None),
        (599, None),
    ] {
        let client = client_that_hears(format!("{status} Said"), "").await;
        for answer in client.submit(&messages).await.messages {
            let said = match answer {
                MessageAnswer::NotTaken { why, .. } => Some(why),
                MessageAnswer::Unknown { .. } => None,
                other => panic!("{status}: {other:?}"),
            };
            assert_eq!(said, expected, "{status}");
        }
    }
}

#[tokio::test]
async fn an_objection_to_a_call_refuses_a_message_that_stands_alone_and_nothing_else() {
    let messages = messages(&fixture("batch-accepted"));
    for status in [400, 413, 422] {
        let client = client_that_hears(format!("{status} Said"), "").await;
        let answers = client.submit(&messages).await.messages;
        let expected = format!("http_{status}");
        for answer in answers {
            let MessageAnswer::Refused { code, .. } = answer else { panic!("{status}: {answer:?}") };
            assert_eq!(code, expected);
        }
    }
}

#[tokio::test]
async fn a_pause_that_a_relay_asks_for_is_heard_at_every_kind_of_call() {
    let messages = messages(&fixture("batch-accepted"));
    let seven = Some(Duration::from_secs(7));
    for (status, is_rate_limit) in [(429, RateLimit::Yes), (503, RateLimit::No)] {
        let client = client_that_hears(format!("{status} Said\r\nretry-after: 7"), "").await;
        assert_eq!(client.submit(&messages).await.retry_after, seven, "{status}");
        let failed = [
            client.status(&[messages[0].reference], DateTime::default()).await.unwrap_err(),
            client.pull_receipts(10).await.unwrap_err(),
            client.acknowledge("lease-1").await.unwrap_err(),
        ];
        for one in failed {
            assert_eq!((one.retry_after, one.is_rate_limit), (seven, is_rate_limit), "{status}");
        }
    }
}

#[tokio::test]
async fn nothing_is_told_to_where_a_relay_redirects_to() {
    let messages = messages(&fixture("batch-accepted"));
    let (elsewhere, calls_elsewhere) = relay_that_says("200 OK".to_owned(), r#"{"results":[]}"#).await;
    for status in [301, 302, 303, 307, 308] {
        let client = client_that_hears(format!("{status} Gone\r\nlocation: {elsewhere}/"), "").await;
        client.submit(&messages).await;
        assert!(client.status(&[messages[0].reference], DateTime::default()).await.is_err(), "{status}");
        assert!(client.pull_receipts(10).await.is_err(), "{status}");
        assert!(client.acknowledge("lease-1").await.is_err(), "{status}");
    }
    assert_eq!(calls_elsewhere.load(Ordering::SeqCst), 0, "neither the messages nor the key");
}

/// `None`: it holds. Where it does not, the operator is told what can be done about it.
#[tokio::test]
async fn a_check_says_of_each_status_whether_the_relay_can_be_worked_for() {
    use kite_domain::relay::Endpoint;
    for (status, answers_status, expected) in [
        (200, true, None),
        (200, false, None),
        (400, false, None),
        (413, false, None),
        (422, false, None),
        (429, true, None),
        (429, false, None),
        (400, true, Some("otherwise than the relay protocol")),
        (302, true, Some("not followed")),
        (401, true, Some("credentials.api_key")),
        (403, false, Some("credentials.api_key")),
        (404, true, Some("answers_status")),
        (405, false, Some("base_url")),
        (500, true, Some("otherwise than the relay protocol")),
        (503, true, Some("out of service")),
    ] {
        let (base_url, _) = relay_that_says(format!("{status} Said"), "").await;
        let endpoint = Endpoint::Http { base_url };
        let profile = RelayProfile { endpoint, answers_status, ..crate::worker::testing::profile("alpha") };
        let report = crate::client::check::check(&profile, &Vault::default(), &SystemClock).await;
        let last = report.steps.last().unwrap();
        assert_eq!(last.step, "ask", "{status}: {report:?}");
        assert_eq!(report.is_usable(), expected.is_none(), "{status}: {report:?}");
        assert!(expected.is_none_or(|words| last.detail.contains(words)), "{status}: {report:?}");
    }
}
