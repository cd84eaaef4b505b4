//! The relay protocol over HTTP (docs/relay-protocol.md).
//!
//! A batch that the relay finds malformed or too large is cut in halves until the faulty message is alone; only that
//! one is refused. Redirects are not followed and no proxy is used: a message goes where the profile says, or
//! nowhere.

mod misread;
mod pulled;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_commands::trace;
use kite_commands::worker::describe;
use kite_domain::ids::AttemptReference;
use kite_domain::not_understood::{Misread, SaidHow};
use kite_domain::relay::RelayProfile;
use kite_domain::strict_json;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{
    CallFailed, ClientError, MessageAnswer, NotTaken, OutgoingMessage, PulledReceipts, RateLimit,
    RelayClient, Standing, SubmitAnswer, redaction, tls,
};
use kite_domain::receipt::{
    CODE_LENGTH_MAX, RELAY_REFERENCE_LENGTH_MAX, RawReceipt, ReceiptStatus, bounded, bounded_time,
};

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// A reference of the right form that no message ever has.
const NEVER_GIVEN: &str = "00000000-0000-7000-8000-000000000000-0-1";
/// Where in which trace the call is made.
const TRACEPARENT: &str = "traceparent";
/// How long a connection may take at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many unreadable answers wait to be kept; more are dropped.
const MISREAD_MAX: usize = 1_000;
/// A relay that asks for a longer pause is called again after this.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// A relay that speaks the HTTP protocol.
pub struct HttpRelayClient {
    client: Client,
    batch: Url,
    status: Url,
    pull: Url,
    acknowledge: Url,
    answer_timeout: Duration,
    /// Unreadable answers since the last call that asked for them.
    misread: Mutex<Vec<(SaidHow, Misread)>>,
    /// The time in the last answer, unless somebody has asked for it since.
    time: Mutex<Option<DateTime<Utc>>>,
}

#[derive(Serialize)]
struct WireBatch<'m> {
    messages: Vec<WireMessage<'m>>,
}

#[derive(Serialize)]
struct WireMessage<'m> {
    reference: AttemptReference,
    #[serde(rename = "type")]
    message_type: &'static str,
    from: &'m str,
    to: &'m str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'m str>,
    text: &'m str,
}

#[derive(Deserialize)]
struct WireResults<'b> {
    #[serde(borrow)]
    results: Vec<WireResult<'b>>,
}

#[derive(Deserialize)]
struct WireResult<'b> {
    #[serde(borrow)]
    reference: Cow<'b, str>,
    #[serde(borrow)]
    status: Cow<'b, str>,
    #[serde(default)]
    relay_reference: Option<SmolStr>,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    code: Option<SmolStr>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    at: Option<SmolStr>,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct WireProblem {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

/// An exchange with the relay.
enum Exchange {
    /// There is an answer.
    Answer { status: StatusCode, retry_after: Option<Duration>, body: Vec<u8> },
    /// No connection: nothing was sent.
    NoConnection(Arc<str>),
    /// Something may have been sent.
    Lost(Arc<str>),
}

/// An answer that cannot be read. The error may quote what it could not read, and with it a recipient: so it is kept in words
/// that name nobody, and is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableAnswer(Arc<str>);

/// What one batch came to.
enum BatchOutcome {
    Answers(Vec<MessageAnswer>),
    /// The relay objects to the call itself; a smaller one may pass.
    Objection {
        code: SmolStr,
        text: Option<String>,
    },
    /// The same for all of them.
    Whole {
        answer: MessageAnswer,
        retry_after: Option<Duration>,
    },
}

impl HttpRelayClient {
    /// A client for the relay at `base_url`.
    ///
    /// # Errors
    /// If the address, the key or a certificate cannot be used.
    pub fn new(base_url: &str, profile: &RelayProfile) -> Result<Self, ClientError> {
        let url = |path: &str| {
            let text = format!("{}{path}", base_url.trim_end_matches('/'));
            Url::parse(&text).map_err(ClientError::BaseUrl)
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = &profile.credentials.api_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let answer_timeout = Duration::from_millis(u64::from(profile.answer_timeout_ms.max(1)));
        let connect_timeout = answer_timeout.min(CONNECT_TIMEOUT);
        let client = tls::with_terms(Client::builder(), profile)?
            .default_headers(headers)
            .user_agent(concat!("kite/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(connect_timeout)
            // Longer than connecting may take, so that a connection that is not made is seen as just that.
            .timeout(answer_timeout + connect_timeout)
            .pool_max_idle_per_host(usize::from(profile.calls_in_flight_max) + 2)
            .build()
            .map_err(ClientError::Library)?;
        Ok(Self {
            client,
            batch: url("/v1/messages/batch")?,
            status: url("/v1/messages/status")?,
            pull: url("/v1/receipts/pull")?,
            acknowledge: url("/v1/receipts/acknowledge")?,
            answer_timeout,
            misread: Mutex::default(),
            time: Mutex::default(),
        })
    }

    async fn exchange(&self, url: &Url, body: Vec<u8>) -> Exchange {
        let mut request = self.client.post(url.clone());
        if let Some(traceparent) = trace::current_parent() {
            request = request.header(TRACEPARENT, traceparent.to_string());
        }
        match request.body(body).send().await {
            Ok(response) => {
                if let Some(time) = time_of(response.headers()) {
                    *self.time.lock() = Some(time);
                }
                read(response).await
            }
            Err(error)
                if error.is_connect() || error.is_builder() || tls::is_refused_in_handshake(&error) =>
            {
                Exchange::NoConnection(words_of_failure(error))
            }
            Err(error) => Exchange::Lost(words_of_failure(error)),
        }
    }

    /// Makes a call without an effect: asks about a reference that was never given, or, if the relay does not answer
    /// such questions, hands over an empty batch. Returns its status and words.
    ///
    /// # Errors
    /// If there was no answer.
    pub(super) async fn knock(&self, answers_status: bool) -> Result<(u16, String), CallFailed> {
        let asked = match answers_status {
            true => {
                let query = format!("{{\"references\":[\"{NEVER_GIVEN}\"]}}");
                self.exchange(&self.status, query.into_bytes()).await
            }
            false => self.exchange(&self.batch, write_batch(&[])).await,
        };
        match asked {
            Exchange::NoConnection(reason) | Exchange::Lost(reason) => {
                Err(CallFailed { reason, retry_after: None, is_rate_limit: RateLimit::No })
            }
            Exchange::Answer { status, body, .. } => Ok((status.as_u16(), words_of(status, &body))),
        }
    }

    async fn submit_batch(&self, messages: &[OutgoingMessage]) -> BatchOutcome {
        let whole = |answer, retry_after| BatchOutcome::Whole { answer, retry_after };
        let not_taken =
            |why, reason, retry_after| whole(MessageAnswer::NotTaken { why, reason }, retry_after);
        match self.exchange(&self.batch, write_batch(messages)).await {
            Exchange::NoConnection(reason) => not_taken(NotTaken::NoConnection, reason, None),
            Exchange::Lost(reason) => whole(MessageAnswer::Unknown { reason }, None),
            Exchange::Answer { status, retry_after, body } => {
                let words: Arc<str> = words_of(status, &body).into();
                match status.as_u16() {
                    200 => {
                        let read = read_results(messages, &body);
                        self.look_for_misread(SaidHow::Responded, &read, is_unknown, &body);
                        match read {
                            Ok(answers) => BatchOutcome::Answers(answers),
                            Err(error) => whole(MessageAnswer::Unknown { reason: error.0 }, None),
                        }
                    }
                    code @ (400 | 413 | 422) => BatchOutcome::Objection {
                        code: smol_str::format_smolstr!("http_{code}"),
                        text: Some(words.to_string()),
                    },
                    300..=399 | 401 | 403 | 404 | 405 => {
                        not_taken(NotTaken::Unauthorised, words, retry_after)
                    }
                    429 => not_taken(NotTaken::RateLimited, words, retry_after),
                    503 => not_taken(NotTaken::OutOfService, words, retry_after),
                    _ => whole(MessageAnswer::Unknown { reason: words }, None),
                }
            }
        }
    }

    /// Keeps the part of an answer that could not be read, if there is one.
    fn look_for_misread<T, E>(
        &self,
        how: SaidHow,
        read: &Result<Vec<T>, E>,
        says_nothing: fn(&T) -> bool,
        body: &[u8],
    ) {
        if read.as_ref().is_ok_and(|answers| !answers.iter().any(says_nothing)) {
            return;
        }
        self.put_aside(how, misread::of_results(body, how, read.is_ok()));
    }

    fn put_aside(&self, how: SaidHow, misread: Vec<Misread>) {
        let mut waiting = self.misread.lock();
        let room = MISREAD_MAX.saturating_sub(waiting.len());
        waiting.extend(misread.into_iter().take(room).map(|one| (how, one)));
    }

    /// A call that is answered with a body, or fails as a whole.
    async fn ask(&self, url: &Url, body: Vec<u8>) -> Result<Vec<u8>, CallFailed> {
        let failed = |reason, retry_after, is_rate_limit| CallFailed { reason, retry_after, is_rate_limit };
        match self.exchange(url, body).await {
            Exchange::NoConnection(reason) | Exchange::Lost(reason) => {
                Err(failed(reason, None, RateLimit::No))
            }
            Exchange::Answer { status, body, .. } if status.is_success() => Ok(body),
            Exchange::Answer { status, retry_after, body } => {
                let is_rate_limit =
                    if status == StatusCode::TOO_MANY_REQUESTS { RateLimit::Yes } else { RateLimit::No };
                Err(failed(words_of(status, &body).into(), retry_after, is_rate_limit))
            }
        }
    }
}

#[async_trait]
impl RelayClient for HttpRelayClient {
    async fn submit(&self, messages: &[OutgoingMessage]) -> SubmitAnswer {
        let mut answer = SubmitAnswer::all(messages.len(), MessageAnswer::NotTried);
        let mut left: Vec<Range<usize>> = Vec::from([Range { start: 0, end: messages.len() }]);
        let began = tokio::time::Instant::now();
        while let Some(range) = left.pop().filter(|range| !range.is_empty()) {
            // What is begun later might come in after the time of the intent.
            if began.elapsed() > self.answer_timeout {
                break;
            }
            match self.submit_batch(&messages[range.clone()]).await {
                BatchOutcome::Answers(answers) => {
                    answers.into_iter().zip(range).for_each(|(one, place)| answer.messages[place] = one);
                }
                BatchOutcome::Objection { .. } if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    left.push(middle..range.end);
                    left.push(range.start..middle);
                }
                BatchOutcome::Objection { code, text } => {
                    answer.messages[range.start] = MessageAnswer::Refused { code, general_code: None, text };
                }
                BatchOutcome::Whole { answer: one, retry_after } => {
                    // What is left is not tried.
                    left.clear();
                    answer.messages[range].fill(one);
                    answer.retry_after = retry_after;
                }
            }
        }
        answer
    }

    async fn status(
        &self,
        references: &[AttemptReference],
        now: DateTime<Utc>,
    ) -> Result<Vec<Standing>, CallFailed> {
        #[derive(Serialize)]
        struct Query<'r> {
            references: &'r [AttemptReference],
        }
        let query = serde_json::to_vec(&Query { references }).expect("references are plain strings");
        let body = self.ask(&self.status, query).await?;
        let read = read_standings(references, &body, now);
        self.look_for_misread(SaidHow::Answered, &read, |one| *one == Standing::Unclear, &body);
        read
    }

    async fn pull_receipts(&self, limit: u32) -> Result<PulledReceipts, CallFailed> {
        let body = self.ask(&self.pull, format!("{{\"limit\":{limit}}}").into_bytes()).await?;
        read_pulled(&body).map_err(|error| {
            self.put_aside(SaidHow::Pulled, vec![misread::whole(&body, &error, "receipts")]);
            not_readable(&error)
        })
    }

    fn take_misread(&self) -> Vec<(SaidHow, Misread)> {
        std::mem::take(&mut *self.misread.lock())
    }

    fn take_time(&self) -> Option<DateTime<Utc>> {
        self.time.lock().take()
    }

    async fn acknowledge(&self, lease: &str) -> Result<(), CallFailed> {
        let body = serde_json::to_vec(&serde_json::json!({ "lease": lease })).expect("a string in an object");
        self.ask(&self.acknowledge, body).await.map(drop)
    }
}

/// What time it is for whoever answers.
fn time_of(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = headers.get(DATE)?.to_str().ok()?;
    DateTime::parse_from_rfc2822(text).ok().map(|time| time.to_utc())
}

async fn read(mut response: reqwest::Response) -> Exchange {
    let status = response.status();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut body = Vec::with_capacity(response.content_length().unwrap_or(1_024).min(1 << 20) as usize);
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_BYTES_MAX => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Exchange::Lost("the answer is too large".into()),
            Ok(None) => break,
            Err(error) => return Exchange::Lost(words_of_failure(error)),
        }
    }
    Exchange::Answer { status, retry_after: pause_asked_for(status, header.as_deref(), &body), body }
}

/// How long the relay wants no calls: the exact time in the body counts before the header's whole seconds.
pub(super) fn pause_asked_for(status: StatusCode, header: Option<&str>, body: &[u8]) -> Option<Duration> {
    let exact = if status.is_success() { None } else { strict_json::from_slice::<WireProblem>(body).ok() };
    let exact = exact.and_then(|problem| problem.retry_after_ms).map(Duration::from_millis);
    let seconds = || header.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    exact.or_else(seconds).map(|pause| pause.min(PAUSE_MAX))
}

fn write_batch(messages: &[OutgoingMessage]) -> Vec<u8> {
    let bytes: usize = messages.iter().map(|message| message.text.len() + 180).sum();
    let mut body = Vec::with_capacity(bytes);
    let batch = WireBatch {
        messages: messages
            .iter()
            .map(|message| WireMessage {
                reference: message.reference,
                message_type: message.message_type.as_str(),
                from: &message.from,
                to: &message.to,
                subject: message.subject.as_deref(),
                text: &message.text,
            })
            .collect(),
    };
    serde_json::to_writer(&mut body, &batch).expect("plain strings serialise into memory");
    body
}

/// One result per message. The results should be in the order of the request; if they are not, the reference counts.
/// A message without a result is unknown.
pub(super) fn read_results(
    messages: &[OutgoingMessage],
    body: &[u8],
) -> Result<Vec<MessageAnswer>, UnreadableAnswer> {
    let WireResults { results } = strict_json::from_slice(body)?;
    let is_in_order = results.len() == messages.len()
        && results
            .iter()
            .zip(messages)
            .all(|(result, message)| result.reference.parse() == Ok(message.reference));
    if is_in_order {
        let answers = results.into_iter().zip(messages);
        return Ok(answers.map(|(result, message)| message_answer(result, &message.to)).collect());
    }
    let mut by_reference = by_reference(results);
    let missing = || MessageAnswer::Unknown { reason: "not in the answer".into() };
    let answer = |message: &OutgoingMessage| {
        let result = by_reference.remove(&message.reference);
        result.map_or_else(missing, |result| message_answer(result, &message.to))
    };
    Ok(messages.iter().map(answer).collect())
}

/// One state per reference, in order. A reference that the answer does not name is unclear.
pub(super) fn read_standings(
    references: &[AttemptReference],
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Vec<Standing>, CallFailed> {
    let WireResults { results } = strict_json::from_slice(body).map_err(|error| not_readable(&error))?;
    let mut standings = by_reference(results);
    let stand =
        |reference| standings.remove(reference).map_or(Standing::Unclear, |result| standing(result, now));
    Ok(references.iter().map(stand).collect())
}

pub(crate) fn read_pulled(body: &[u8]) -> Result<PulledReceipts, serde_json::Error> {
    let pulled::Understood { lease, receipts, misread } = pulled::read(body)?;
    // A lease of nothing needs no acknowledgement.
    let lease = if receipts.is_empty() && misread.is_empty() { String::new() } else { lease };
    Ok(PulledReceipts { lease, receipts, misread })
}

fn by_reference(results: Vec<WireResult<'_>>) -> HashMap<AttemptReference, WireResult<'_>> {
    results.into_iter().filter_map(|result| Some((result.reference.parse().ok()?, result))).collect()
}

/// The code of a refusal; an answer without one is a refusal, too.
fn code_of(code: Option<SmolStr>) -> SmolStr {
    code.map_or_else(|| SmolStr::new_static("none"), |code| bounded(code, CODE_LENGTH_MAX))
}

fn relay_reference_of(reference: Option<SmolStr>) -> Option<SmolStr> {
    reference.map(|text| bounded(text, RELAY_REFERENCE_LENGTH_MAX))
}

fn message_answer(result: WireResult<'_>, recipient: &str) -> MessageAnswer {
    let answer = match (&*result.status, result.code) {
        ("accepted", _) => MessageAnswer::Accepted {
            relay_reference: relay_reference_of(result.relay_reference),
            duplicate: result.duplicate,
        },
        ("refused", code) => {
            MessageAnswer::Refused { code: code_of(code), general_code: None, text: result.reason }
        }
        ("deferred", code) => MessageAnswer::RefusedForNow {
            code: code_of(code),
            general_code: None,
            text: result.reason,
            retry_after: result.retry_after_ms.map(|pause| Duration::from_millis(pause).min(PAUSE_MAX)),
        },
        (other, _) => MessageAnswer::Unknown { reason: format!("the relay says {other:?}").into() },
    };
    redaction::impersonal(answer, recipient)
}

fn standing(result: WireResult<'_>, now: DateTime<Utc>) -> Standing {
    let status = match &*result.status {
        "not_found" => return Standing::NotFound,
        "accepted" => {
            return Standing::Accepted { relay_reference: relay_reference_of(result.relay_reference) };
        }
        "refused" => return Standing::Refused { code: code_of(result.code) },
        "delivered" => ReceiptStatus::Delivered,
        "undelivered" => ReceiptStatus::Undelivered,
        _ => return Standing::Unclear,
    };
    // A time that is left out is now; one that cannot be read is not guessed.
    let at = match result.at.as_deref().map(DateTime::parse_from_rfc3339) {
        None => now,
        Some(Ok(at)) => bounded_time(at.to_utc()),
        Some(Err(_)) => return Standing::Unclear,
    };
    Standing::Over(RawReceipt {
        reference: result.reference.as_ref().into(),
        relay_reference: relay_reference_of(result.relay_reference),
        status,
        code: result.code.map(|code| bounded(code, CODE_LENGTH_MAX)).unwrap_or_default(),
        at,
    })
}

/// The result of a call whose answer cannot be read.
pub(super) fn not_readable(error: &serde_json::Error) -> CallFailed {
    CallFailed { reason: UnreadableAnswer::of(error).0, retry_after: None, is_rate_limit: RateLimit::No }
}

fn is_unknown(answer: &MessageAnswer) -> bool {
    matches!(answer, MessageAnswer::Unknown { .. })
}

/// The words of an answer other than a success, without personal data.
pub(super) fn words_of(status: StatusCode, body: &[u8]) -> String {
    let problem = strict_json::from_slice::<WireProblem>(body).ok();
    match problem.and_then(|problem| problem.message) {
        Some(message) => redaction::without_addresses(&format!("{}: {message}", status.as_u16()), ""),
        None => format!("{}", status.as_u16()),
    }
}

fn words_of_failure(error: reqwest::Error) -> Arc<str> {
    redaction::without_addresses(&describe(&error.without_url()), "").into()
}

impl UnreadableAnswer {
    /// The error may quote what it could not read.
    fn of(error: &serde_json::Error) -> Self {
        Self(redaction::without_addresses(&format!("the answer cannot be read: {error}"), "").into())
    }
}

impl From<serde_json::Error> for UnreadableAnswer {
    fn from(error: serde_json::Error) -> Self {
        Self::of(&error)
    }
}
