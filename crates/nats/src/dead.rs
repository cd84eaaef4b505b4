//! Jobs that were not understood: put aside with the reason, and a way back.

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use kite_commands::worker::Failure;

use crate::connect::{Connection, OpenError, Server};
use crate::names::Names;
use crate::streams::{StreamLimits, Streams};

/// Why it was put aside.
const REASON: &str = "Kite-Reason";
/// How long a listing waits for the next one.
const NEXT_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

/// Keeps what was not understood.
pub(crate) async fn bury(
    streams: &Streams,
    message: &Message,
    sequence: u64,
    reason: &str,
) -> Result<(), Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(REASON, reason.replace(['\r', '\n'], " "));
    // It may come again before the server knows that it was put aside.
    let id = format!("{}-{sequence}", streams.names.jobs());
    let dead = PublishMessage::build().payload(message.payload.clone()).headers(headers).message_id(id);
    let subject = streams.names.dead_of(&message.subject);
    let buried = async { streams.connection.jetstream.send_publish(subject, dead).await?.await };
    if let Err(error) = buried.await {
        // Its stream may be gone.
        streams.mend().await;
        return Err(error.into());
    }
    Ok(())
}

/// A job that was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Names it.
    pub number: u64,
    /// Over which subject it came.
    pub subject: String,
    /// When it was put aside.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// What it says.
    pub payload: Bytes,
}

/// What was put aside in an installation.
pub struct DeadLetters {
    streams: Streams,
}

impl DeadLetters {
    /// Of this installation.
    ///
    /// # Errors
    /// If no server can be reached, or the streams cannot be made.
    pub async fn open(server: &Server, prefix: &str, limits: StreamLimits) -> Result<Self, OpenError> {
        let streams = Streams::new(Connection::open(server).await?, Names::new(prefix), limits);
        streams.make_first().await?;
        Ok(Self { streams })
    }

    /// How many jobs wait in the stream, and how many were put aside.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn counts(&self) -> Result<[u64; 2], Failure> {
        let mut counts = [0; 2];
        for (count, name) in counts.iter_mut().zip([self.streams.names.jobs(), self.streams.names.dead()]) {
            let stream = self.streams.connection.jetstream.get_stream(name).await?;
            *count = stream.cached_info().state.messages;
        }
        Ok(counts)
    }

    /// The oldest, at most so many, from a number on.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn list(&self, from: u64, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
        let stream = self.streams.connection.jetstream.get_stream(self.streams.names.dead()).await?;
        let state = &stream.cached_info().state;
        let (start, last) = (from.max(state.first_sequence).max(1), state.last_sequence);
        if state.messages == 0 || start > last || limit == 0 {
            return Ok(Vec::new());
        }
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
            ..OrderedConfig::default()
        };
        let mut messages = stream.create_consumer(config).await?.messages().await?;
        let mut letters = Vec::new();
        while letters.len() < limit {
            // Those between may be gone by now.
            let Ok(Some(message)) = tokio::time::timeout(NEXT_WITHIN, messages.next()).await else { break };
            let message = message?;
            let info = message.info()?;
            let (number, pending) = (info.stream_sequence, info.pending);
            let at = DateTime::from_timestamp(info.published.unix_timestamp(), info.published.nanosecond());
            let (headers, payload) = (message.headers.as_ref(), &message.payload);
            letters.push(self.letter(number, &message.subject, headers, payload, at));
            if pending == 0 {
                break;
            }
        }
        Ok(letters)
    }

    /// One of them.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn find(&self, number: u64) -> Result<Option<DeadLetter>, Failure> {
        let stream = self.streams.connection.jetstream.get_stream_no_info(self.streams.names.dead()).await?;
        match stream.get_raw_message(number).await {
            Ok(found) => {
                let at = DateTime::from_timestamp(found.time.unix_timestamp(), found.time.nanosecond());
                let headers = Some(&found.headers);
                Ok(Some(self.letter(number, &found.subject, headers, &found.payload, at)))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Publishes it again, as it was. False: it is gone.
    ///
    /// # Errors
    /// If the server does not answer. Then it may be in both streams; whoever takes it looks at the lot.
    pub async fn retry(&self, number: u64) -> Result<bool, Failure> {
        let Some(letter) = self.find(number).await? else { return Ok(false) };
        let message = PublishMessage::build().payload(letter.payload);
        self.streams.connection.jetstream.send_publish(letter.subject, message).await?.await?;
        self.discard(number).await
    }

    /// Deletes it. What it was about is in the log, and is published again if it is still to be done. False: it is gone.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn discard(&self, number: u64) -> Result<bool, Failure> {
        let stream = self.streams.connection.jetstream.get_stream(self.streams.names.dead()).await?;
        match stream.delete_message(number).await {
            Ok(is_deleted) => Ok(is_deleted),
            Err(_) if self.find(number).await?.is_none() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn letter(
        &self,
        number: u64,
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &Bytes,
        at: Option<DateTime<Utc>>,
    ) -> DeadLetter {
        let reason = headers.and_then(|headers| headers.get(REASON));
        DeadLetter {
            number,
            subject: self.streams.names.came_over(subject).unwrap_or_else(|| subject.to_owned()),
            at: at.unwrap_or_default(),
            reason: reason.map_or_else(String::new, |reason| reason.as_str().to_owned()),
            payload: payload.clone(),
        }
    }
}
