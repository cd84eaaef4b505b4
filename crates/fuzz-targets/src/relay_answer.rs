//! Answers of relays: to a hand-over, to a question, to a pull of receipts, and refusals; over HTTP and SMTP.
//!
//! An input is the answer's body. Every reader reads it.

use kite_domain::ids::{AttemptReference, MessageId, SendingId};
use kite_domain::receipt::RawReceipt;
use kite_domain::text::MessageType;
use kite_relay::client::fuzzing;
use kite_relay::client::{MessageAnswer, OutgoingMessage, Standing};
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

use crate::house::now;
use crate::input::{self, Fields};

/// The longest words of a relay that are kept, in characters.
const WORDS_MAX: usize = 200;
/// What a relay's code or reference may take in the log, in bytes.
const FIELD_BYTES_MAX: usize = 1_024;
/// How many messages are handed over.
const MESSAGES: u32 = 3;
/// The recipient of all of them.
const RECIPIENT: &str = "kim.recipient@example.com";

/// Reads an answer in every way: one answer per message, and nothing counts as accepted that the relay did not
/// accept.
pub fn relay_answer(bytes: &[u8]) {
    let messages = messages();
    let references: Vec<AttemptReference> = messages.iter().map(|message| message.reference).collect();
    let said = said(bytes);
    if let Ok(answers) = fuzzing::submit_answer(&messages, bytes) {
        assert_eq!(answers.len(), messages.len());
        for (answer, reference) in answers.iter().zip(&references) {
            if matches!(answer, MessageAnswer::Accepted { .. }) {
                assert!(says(&said, reference, &["accepted"]), "{answer:?}");
            }
            if matches!(answer, MessageAnswer::Refused { .. }) {
                assert!(says(&said, reference, &["refused"]), "{answer:?}");
            }
            bounded(answer);
        }
    }
    if let Ok(standings) = fuzzing::standings(&references, bytes, now()) {
        assert_eq!(standings.len(), references.len());
        for (standing, reference) in standings.iter().zip(&references) {
            let words: &[&str] = match standing {
                Standing::Unclear => continue,
                Standing::NotFound => &["not_found"],
                Standing::Accepted { .. } => &["accepted"],
                Standing::Refused { .. } => &["refused"],
                Standing::Over(receipt) => {
                    receipt_is_bounded(receipt);
                    &["delivered", "undelivered"]
                }
            };
            assert!(says(&said, reference, words), "{standing:?}");
        }
    }
    if let Ok(pulled) = fuzzing::pulled_receipts(bytes) {
        let is_nothing = pulled.receipts.is_empty() && pulled.misread.is_empty();
        assert!(!pulled.lease.is_empty() || is_nothing || said_lease(bytes).is_empty());
        pulled.receipts.iter().for_each(receipt_is_bounded);
    }
    refusals(bytes);
}

/// Whether the body says one of these words of a reference.
fn says(said: &HashMap<AttemptReference, Vec<String>>, reference: &AttemptReference, words: &[&str]) -> bool {
    said.get(reference).is_some_and(|said| said.iter().any(|word| words.contains(&word.as_str())))
}

/// The words that the body holds for each reference of ours, whatever else it holds; what is passed over may be no UTF-8.
fn said(bytes: &[u8]) -> HashMap<AttemptReference, Vec<String>> {
    let mut said: HashMap<AttemptReference, Vec<String>> = HashMap::new();
    let body = input::text(bytes);
    for result in Fields::read(&body).unwrap_or_default().list("results") {
        let result = Fields::read(result.get()).unwrap_or_default();
        let reference = result.get::<String>("reference").and_then(|text| text.parse().ok());
        if let (Some(reference), Some(status)) = (reference, result.get("status")) {
            said.entry(reference).or_default().push(status);
        }
    }
    said
}

fn said_lease(bytes: &[u8]) -> String {
    Fields::read(&input::text(bytes)).and_then(|body| body.get("lease")).unwrap_or_default()
}

fn refusals(bytes: &[u8]) {
    let text = input::text(bytes);
    for status in [400, 401, 429, 500, 503] {
        let words = fuzzing::words_of_answer(status, bytes).expect("there is such a status");
        let pause = fuzzing::pause_asked_for(status, Some(&text), bytes);
        assert!(pause.is_none_or(|pause| pause <= fuzzing::PAUSE_MAX));
        pause_is_what_was_asked_for(status, bytes);
        assert!(words.starts_with(&status.to_string()) && words.chars().count() <= WORDS_MAX, "{words:?}");
    }
    for basic in [0, 421, 450, 530, 550] {
        let answer = fuzzing::smtp_refusal(basic, &text);
        bounded(&fuzzing::impersonal(answer, RECIPIENT));
    }
    if let Some(reference) = fuzzing::smtp_reference(&text) {
        assert!(!reference.is_empty() && reference.len() <= FIELD_BYTES_MAX);
    }
}

/// The exact time in the body, or else the whole seconds of the header, and nothing else.
fn pause_is_what_was_asked_for(status: u16, bytes: &[u8]) {
    let pause = fuzzing::pause_asked_for(status, Some(" 7"), bytes);
    let body = input::text(bytes);
    let body = Fields::read(&body);
    let of_header = Some(Duration::from_secs(7));
    let of_body = body.as_ref().and_then(|body| body.get("retry_after_ms"));
    let of_body = of_body.map(|ms| Duration::from_millis(ms).min(fuzzing::PAUSE_MAX));
    // A body with other fields that cannot be read is no reason to forget the header.
    assert!(pause == of_header || pause == of_body && body.is_some(), "{pause:?}");
}

/// Nothing that goes into the log is longer than it may be, and no words name the recipient.
fn bounded(answer: &MessageAnswer) {
    match answer {
        MessageAnswer::Accepted { relay_reference, duplicate: _ } => {
            assert!(relay_reference.as_ref().is_none_or(|reference| reference.len() <= FIELD_BYTES_MAX));
        }
        MessageAnswer::Refused { code, general_code, text } => {
            assert!(code.len() <= FIELD_BYTES_MAX, "{} bytes", code.len());
            assert!(general_code.as_ref().is_none_or(|code| code.len() <= FIELD_BYTES_MAX));
            text.iter().for_each(|words| impersonal(words));
        }
        MessageAnswer::RefusedForNow { code, general_code, text, retry_after } => {
            assert!(code.len() <= FIELD_BYTES_MAX);
            assert!(general_code.as_ref().is_none_or(|code| code.len() <= FIELD_BYTES_MAX));
            assert!(retry_after.is_none_or(|pause| pause <= fuzzing::PAUSE_MAX));
            text.iter().for_each(|text| impersonal(text));
        }
        MessageAnswer::NotTried => {}
        MessageAnswer::NotTaken { why: _, reason } | MessageAnswer::Unknown { reason } => impersonal(reason),
    }
}

fn impersonal(words: &str) {
    assert!(words.chars().count() <= WORDS_MAX, "{words:?}");
    assert!(!words.contains(RECIPIENT), "{words:?}");
}

fn receipt_is_bounded(receipt: &RawReceipt) {
    let fields = [Some(&receipt.reference), receipt.relay_reference.as_ref(), Some(&receipt.code)];
    for field in fields.into_iter().flatten() {
        assert!(field.len() <= FIELD_BYTES_MAX, "{} bytes would go into the log", field.len());
    }
}

fn messages() -> Vec<OutgoingMessage> {
    let sending = SendingId(Uuid::from_u128(0x0198_c0de_7a5b_7c3d_8e4f_0000_0000_0001));
    let message = |seq| OutgoingMessage {
        reference: AttemptReference { message: MessageId { sending, seq }, attempt: 1 },
        message_type: MessageType::Sms,
        from: "0212345678".into(),
        to: RECIPIENT.into(),
        subject: None,
        text: "안녕하세요".into(),
        was_put_off: false,
    };
    (0..MESSAGES).map(message).collect()
}
