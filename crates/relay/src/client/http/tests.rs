//! The client is held by the documented exchanges in `docs/relay-protocol/`.

use super::*;
use kite_domain::text::MessageType;
use serde_json::{Value, json};

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
    let results: WireResults<'_> = parse(body.as_bytes()).unwrap();
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

/// A client of a relay that answers every call with this body.
#[expect(clippy::disallowed_methods, reason = "a server for a test, which ends with it")]
async fn client_of(body: &'static str) -> HttpRelayClient {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut asked = [0; 16_384];
            let _ = connection.read(&mut asked).await;
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            let _ = connection.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    HttpRelayClient::new(&format!("http://{address}"), &crate::hand::testing::profile("alpha")).unwrap()
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
