//! The readers of relays' answers, for the fuzz targets (crate `kite-fuzz-targets`) and nobody else: no other caller
//! needs anything in here.

use chrono::{DateTime, Utc};
use kite_domain::ids::AttemptReference;
use reqwest::StatusCode;
use smol_str::SmolStr;
use std::time::Duration;

use super::{CallFailed, MessageAnswer, OutgoingMessage, PulledReceipts, Standing, http, redaction, smtp};

/// The answer to a hand-over over HTTP.
pub fn submit_answer(
    messages: &[OutgoingMessage],
    body: &[u8],
) -> Result<Vec<MessageAnswer>, http::UnreadableAnswer> {
    http::read_results(messages, body)
}

/// The answer to a question about references.
pub fn standings(
    references: &[AttemptReference],
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Vec<Standing>, CallFailed> {
    http::read_standings(references, body, now)
}

/// The answer to a call for receipts.
pub fn pulled_receipts(body: &[u8]) -> Result<PulledReceipts, CallFailed> {
    http::read_pulled(body).map_err(|error| http::not_readable(&error))
}

/// What is kept of an answer that is no success; nothing if there is no such status.
pub fn words_of_answer(status: u16, body: &[u8]) -> Option<String> {
    StatusCode::from_u16(status).ok().map(|status| http::words_of(status, body))
}

/// How long the relay is left alone after such an answer; nothing if it did not ask, or there is no such status.
pub fn pause_asked_for(status: u16, header: Option<&str>, body: &[u8]) -> Option<Duration> {
    http::pause_asked_for(StatusCode::from_u16(status).ok()?, header, body)
}

/// The longest such pause.
pub const PAUSE_MAX: Duration = http::PAUSE_MAX;

/// What is kept of a relay's words about a message to this recipient.
pub fn impersonal(answer: MessageAnswer, recipient: &str) -> MessageAnswer {
    redaction::impersonal(answer, recipient)
}

/// What the negative reply of a mail server to a recipient means.
pub fn smtp_refusal(basic: u16, words: &str) -> MessageAnswer {
    smtp::meaning(smtp::Stage::Recipient, basic, words.to_owned()).answer
}

/// The reference in the positive reply of a mail server; nothing if it is no reply.
pub fn smtp_reference(reply: &str) -> Option<SmolStr> {
    smtp::queued_as(&reply.parse().ok()?)
}
