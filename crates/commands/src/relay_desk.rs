//! What the process that calls relays can tell an operator about one at this moment, and what it finds out by calling
//! it.
//!
//! A port: crate `kite-relay` implements it, crate `kite-api` uses it, and neither depends on the other.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::relay::RelayProfile;
use kite_domain::slug::RelayId;
use std::time::Duration;

/// A relay as its workers see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelayNow {
    /// Its workers; those that have ended and will be started again later are not counted.
    pub workers: u32,
    /// The reason of the breaker's last change; none: it never changed.
    pub breaker_reason: Option<String>,
    /// Since when.
    pub breaker_since: Option<DateTime<Utc>>,
    /// When it is tripped: when it is looked at again, as things are now.
    pub probes_from: Option<DateTime<Utc>>,
    /// The last call of it that has ended; none: none since this process began.
    pub last_call: Option<LastCall>,
    /// When it last answered.
    pub last_answer_at: Option<DateTime<Utc>>,
    /// When it last did not.
    pub last_failure_at: Option<DateTime<Utc>>,
    /// How far the clock here is ahead of the relay's, by what it last said (below zero: behind); none: it has not
    /// said a time recently.
    pub clock_ahead: Option<TimeDelta>,
    /// Messages that wait for it in the work queue: one-time passwords, notices, advertisements.
    pub waiting: [u64; 3],
}

/// A call of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCall {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// What it was for: submit, status, pull, acknowledge.
    pub what: &'static str,
    /// Whether there was an answer.
    pub is_answered: bool,
    /// What was said, or what happened instead. Names no person and no secret.
    pub words: String,
}

/// What came of a step of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckStep {
    /// The step, as a word: definition, resolve, connect, greet, encrypt, login, ask.
    pub step: &'static str,
    /// What came of it.
    pub verdict: CheckVerdict,
    /// What was seen, for somebody who is to do something about it. Names no secret.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
}

/// Whether a step held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CheckVerdict {
    /// It did.
    Held,
    /// It did not: nothing after it was tried.
    Failed,
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// In the order in which they were tried.
    pub steps: Vec<CheckStep>,
}

impl CheckReport {
    /// Whether Kite can work with the relay, as far as a call without a message shows.
    pub fn is_usable(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|step| step.verdict == CheckVerdict::Held)
    }
}

/// See the module.
#[async_trait]
pub trait RelayDesk: Send + Sync + 'static {
    /// The relay as it is now; none: no worker of this process knows of it.
    fn now(&self, relay: &RelayId) -> Option<RelayNow>;

    /// How far the clock here is ahead of the clocks of the relays that said a time recently; below zero: behind.
    fn clocks_ahead(&self) -> Vec<TimeDelta>;

    /// Calls the relay without handing it a message. Takes a bounded time.
    async fn check(&self, profile: &RelayProfile) -> CheckReport;
}

/// For processes that work for no relay.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDesk;

#[async_trait]
impl RelayDesk for NoDesk {
    fn now(&self, _relay: &RelayId) -> Option<RelayNow> {
        None
    }

    fn clocks_ahead(&self) -> Vec<TimeDelta> {
        Vec::new()
    }

    async fn check(&self, profile: &RelayProfile) -> CheckReport {
        let faults = profile.unusable();
        let verdict = if faults.is_empty() { CheckVerdict::Held } else { CheckVerdict::Failed };
        let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let detail = if words.is_empty() { "can be called".to_owned() } else { words.join("; ") };
        CheckReport { steps: vec![CheckStep { step: "definition", verdict, detail, took: Duration::ZERO }] }
    }
}
