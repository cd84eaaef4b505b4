//! A client that reports the result of each call to the board of the relay.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_commands::Clock;
use kite_commands::relay_desk::LastCall;
use kite_domain::ids::AttemptReference;
use kite_domain::not_understood::{Misread, SaidHow};
use std::sync::Arc;

use super::{
    CallFailed, MessageAnswer, OutgoingMessage, PulledReceipts, RateLimit, RelayClient, Standing,
    SubmitAnswer,
};
use crate::board::Board;

/// See the module.
pub(crate) struct ObservedClient {
    inner: Arc<dyn RelayClient>,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
}

impl ObservedClient {
    pub(crate) fn new(inner: Arc<dyn RelayClient>, board: Arc<Board>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, board, clock }
    }

    fn note(&self, began: DateTime<Utc>, what: &'static str, is_answered: bool, words: impl Into<String>) {
        let at = self.clock.now();
        if let Some(said) = self.inner.take_time() {
            self.board.said_time(said, began, at);
        }
        self.board.called(LastCall { at, what, is_answered, words: words.into() });
    }

    fn note_asked<T>(&self, began: DateTime<Utc>, what: &'static str, asked: &Result<T, CallFailed>) {
        match asked {
            Ok(_) => self.note(began, what, true, "answered"),
            Err(failed) => self.note(began, what, failed.is_rate_limit == RateLimit::Yes, &*failed.reason),
        }
    }
}

/// The result of a hand-over: whether the relay answered, and its words or a count.
fn summary(answer: &SubmitAnswer) -> (bool, String) {
    let count = |is_it: fn(&MessageAnswer) -> bool| answer.messages.iter().filter(|one| is_it(one)).count();
    let accepted = count(|one| matches!(one, MessageAnswer::Accepted { .. }));
    let is_refused = |one: &MessageAnswer| {
        matches!(one, MessageAnswer::Refused { .. } | MessageAnswer::RefusedForNow { .. })
    };
    let refused = count(is_refused);
    let words = answer.messages.iter().find_map(|one| match one {
        MessageAnswer::NotTaken { reason, .. } | MessageAnswer::Unknown { reason } => Some(reason.clone()),
        MessageAnswer::Accepted { .. }
        | MessageAnswer::Refused { .. }
        | MessageAnswer::RefusedForNow { .. }
        | MessageAnswer::NotTried => None,
    });
    match words {
        Some(words) if accepted + refused == 0 => (false, words.to_string()),
        Some(words) => (true, format!("{accepted} accepted, {refused} refused, and: {words}")),
        None => (true, format!("{accepted} accepted, {refused} refused")),
    }
}

#[async_trait]
impl RelayClient for ObservedClient {
    async fn submit(&self, messages: &[OutgoingMessage]) -> SubmitAnswer {
        let began = self.clock.now();
        let answer = self.inner.submit(messages).await;
        let (is_answered, words) = summary(&answer);
        self.note(began, "submit", is_answered, words);
        answer
    }

    async fn status(
        &self,
        references: &[AttemptReference],
        now: DateTime<Utc>,
    ) -> Result<Vec<Standing>, CallFailed> {
        let began = self.clock.now();
        let asked = self.inner.status(references, now).await;
        self.note_asked(began, "status", &asked);
        asked
    }

    async fn pull_receipts(&self, limit: u32) -> Result<PulledReceipts, CallFailed> {
        let began = self.clock.now();
        let asked = self.inner.pull_receipts(limit).await;
        self.note_asked(began, "pull", &asked);
        asked
    }

    async fn acknowledge(&self, lease: &str) -> Result<(), CallFailed> {
        let began = self.clock.now();
        let asked = self.inner.acknowledge(lease).await;
        self.note_asked(began, "acknowledge", &asked);
        asked
    }

    fn take_misread(&self) -> Vec<(SaidHow, Misread)> {
        self.inner.take_misread()
    }
}

/// In place of a client that cannot be built. It is never called: a relay without a client is handed nothing.
pub(crate) struct NoClient;

#[async_trait]
impl RelayClient for NoClient {
    async fn submit(&self, messages: &[OutgoingMessage]) -> SubmitAnswer {
        let why = super::NotTaken::NoConnection;
        let reason = "the relay cannot be called as it is defined".into();
        SubmitAnswer::all(messages.len(), MessageAnswer::NotTaken { why, reason })
    }

    async fn status(&self, _: &[AttemptReference], _: DateTime<Utc>) -> Result<Vec<Standing>, CallFailed> {
        Err(cannot())
    }

    async fn pull_receipts(&self, _: u32) -> Result<PulledReceipts, CallFailed> {
        Err(cannot())
    }

    async fn acknowledge(&self, _: &str) -> Result<(), CallFailed> {
        Err(cannot())
    }
}

fn cannot() -> CallFailed {
    CallFailed {
        reason: "the relay cannot be called as it is defined".into(),
        retry_after: None,
        is_rate_limit: RateLimit::No,
    }
}
