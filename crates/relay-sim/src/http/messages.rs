//! Hand-over and status.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{come_back, dropped, json_bytes, problem, read_call, unavailable};
use crate::codes::CodeStyle;
use crate::ledger::{EntryStatus, HandOver};
use crate::relay::receipts::{RelayReference, TimeWriter};
use crate::relay::{Answer, CallOutcome, ReferenceStatus, Relay, Taken};
use crate::scenario::Channel;
use crate::shared::Shared;
use crate::wire;

/// Longest reference, bytes.
const REFERENCE_BYTES_MAX: usize = 48;
/// How long an answer waits for the receipts that are to come before it.
const EARLY_RECEIPT_WAIT: Duration = Duration::from_secs(1);
/// What a 503 by fault asks for.
const UNAVAILABLE_RETRY_MS: u64 = 1_000;

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    reference: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: Channel,
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// `POST /v1/messages/batch`
pub(super) async fn batch(
    State(shared): State<Arc<Shared>>,
    Path(relay): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    let (relay, batch): (_, Batch<'_>) = read_call(&shared, &relay, &headers, &body).await?;
    if let Some(answer) = objection(&batch, &relay) {
        return Err(answer);
    }
    let arrived_at_us = relay.clock.now_us();
    let hand_overs: Vec<HandOver<'_>> = batch
        .messages
        .iter()
        .map(|message| HandOver {
            reference: &message.reference,
            recipient: &message.to,
            kind: message.kind,
            arrived_at_us,
        })
        .collect();
    Ok(match relay.hand_over(&hand_overs) {
        CallOutcome::RateLimited { retry_after_ms } => come_back(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "too many messages a second",
            retry_after_ms,
        ),
        CallOutcome::Reset => dropped(),
        CallOutcome::Unavailable => unavailable(UNAVAILABLE_RETRY_MS),
        CallOutcome::Taken(taken) => {
            let answer = write_answers(&hand_overs, &taken.answers, relay.scenario.codes);
            give_answer(&shared, &relay, taken, answer).await
        }
    })
}

/// The answer to a call that breaks the contract; `None` when it keeps it.
fn objection(batch: &Batch<'_>, relay: &Relay) -> Option<Response> {
    let malformed = |message: &str| Some(problem(StatusCode::BAD_REQUEST, "malformed", message));
    if batch.messages.is_empty() {
        return malformed("messages is empty");
    }
    if batch.messages.len() > relay.scenario.batch_max {
        let message = format!("at most {} messages a call", relay.scenario.batch_max);
        return Some(problem(StatusCode::PAYLOAD_TOO_LARGE, "too_many_messages", &message));
    }
    for (position, message) in batch.messages.iter().enumerate() {
        if !is_reference(&message.reference) {
            return malformed(&format!("messages[{position}].reference must be 1 to 48 of [A-Za-z0-9-]"));
        }
        if !relay.scenario.channels.contains(&message.kind) {
            return malformed(&format!("messages[{position}].type is not one that this relay takes"));
        }
        if message.to.is_empty() || message.from.is_empty() || message.text.is_empty() {
            return malformed(&format!("messages[{position}] needs from, to and text"));
        }
    }
    None
}

fn is_reference(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=REFERENCE_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

fn write_answers(messages: &[HandOver<'_>], answers: &[Answer], style: CodeStyle) -> Vec<u8> {
    let mut body = Vec::with_capacity(32 + messages.len() * 140);
    body.extend_from_slice(b"{\"results\":[");
    for (position, (message, answer)) in messages.iter().zip(answers).enumerate() {
        if position > 0 {
            body.push(b',');
        }
        wire::member(&mut body, b'{', "reference", message.reference);
        match answer {
            Answer::Accepted { relay_reference, duplicate } => {
                wire::member(&mut body, b',', "status", "accepted");
                wire::relay_reference(&mut body, *relay_reference);
                wire::truth(&mut body, "duplicate", *duplicate);
            }
            Answer::Refused { code } => {
                wire::member(&mut body, b',', "status", "refused");
                wire::member(&mut body, b',', "code", code);
                wire::member(&mut body, b',', "reason", style.reason(code));
            }
            Answer::Deferred { code } => {
                wire::member(&mut body, b',', "status", "deferred");
                wire::member(&mut body, b',', "code", code);
                wire::member(&mut body, b',', "reason", style.reason(code));
            }
        }
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

async fn give_answer(shared: &Shared, relay: &Relay, taken: Taken, answer: Vec<u8>) -> Response {
    shared.wait(Duration::from_micros(taken.latency_us)).await;
    if let Some(gate) = taken.gate {
        tokio::select! {
            () = gate.passed() => {}
            () = relay.clock.wait(EARLY_RECEIPT_WAIT) => {}
        }
    }
    if taken.answer_lost {
        return dropped();
    }
    json_bytes(StatusCode::OK, answer)
}

#[derive(Deserialize)]
struct StatusQuery<'a> {
    #[serde(borrow)]
    references: Vec<Cow<'a, str>>,
}

#[derive(Serialize)]
struct WireStatus<'a> {
    reference: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_reference: Option<RelayReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

/// `POST /v1/messages/status`
pub(super) async fn status(
    State(shared): State<Arc<Shared>>,
    Path(relay): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    let (relay, query): (_, StatusQuery<'_>) = read_call(&shared, &relay, &headers, &body).await?;
    if query.references.len() > relay.scenario.batch_max {
        let message = format!("at most {} references a call", relay.scenario.batch_max);
        return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "too_many_messages", &message));
    }
    let references: Vec<&str> = query.references.iter().map(AsRef::as_ref).collect();
    let statuses = relay.statuses(&references);
    let results: Vec<WireStatus<'_>> = references
        .iter()
        .zip(&statuses)
        .map(|(reference, status)| show(reference, status.as_ref()))
        .collect();
    Ok(super::json(StatusCode::OK, &serde_json::json!({ "results": results })))
}

fn show<'a>(reference: &'a str, status: Option<&'a ReferenceStatus>) -> WireStatus<'a> {
    let unknown = WireStatus { reference, status: "not_found", relay_reference: None, code: None, at: None };
    let Some(status) = status else { return unknown };
    let relay_reference = Some(RelayReference(status.relay_reference));
    let code = Some(&*status.code);
    let at = status.at_ms.map(|at_ms| TimeWriter::default().write(at_ms).to_owned());
    match status.status {
        EntryStatus::Accepted => WireStatus { status: "accepted", relay_reference, ..unknown },
        EntryStatus::Refused => WireStatus { status: "refused", code, ..unknown },
        EntryStatus::Delivered => WireStatus { reference, status: "delivered", relay_reference, code, at },
        EntryStatus::Undelivered => {
            WireStatus { reference, status: "undelivered", relay_reference, code, at }
        }
    }
}
