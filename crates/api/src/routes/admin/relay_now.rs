//! The state of a relay at this moment, and the result of a check, as an operator sees them.

use chrono::{DateTime, Utc};
use kite_commands::relay_desk::{CheckReport, CheckStep, LastCall, RelayNow};
use kite_domain::relay::RelayUnattended;
use serde::Serialize;
use utoipa::ToSchema;

use crate::vocabulary::{CheckVerdictWord, UnattendedWord};

/// Why nobody works for a relay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unattended)]
pub struct UnattendedView {
    /// As a word.
    pub cause: UnattendedWord,
    /// For people.
    #[schema(example = "credentials.api_key: holds a character that a header cannot at place 2")]
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl From<&RelayUnattended> for UnattendedView {
    fn from(left: &RelayUnattended) -> Self {
        Self { cause: left.cause.into(), reason: left.reason.clone(), since: left.since }
    }
}

/// A relay as its workers see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RelayNow)]
pub struct RelayNowView {
    /// Workers that are there for it.
    pub workers: u32,
    /// The reason of its breaker's last change; left out: it never changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_reason: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_since: Option<DateTime<Utc>>,
    /// If the breaker is tripped: when the relay is tried again, as long as nothing more urgent waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes_from: Option<DateTime<Utc>>,
    /// The last call of it that has ended; left out: none since this process began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_call: Option<LastCallView>,
    /// When it last answered a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_answer_at: Option<DateTime<Utc>>,
    /// When it last did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_at: Option<DateTime<Utc>>,
    /// How far Kite's clock is ahead of the relay's, by the `Date` of its last answer, in milliseconds; below zero:
    /// behind. Left out: it told no time in the last ten minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 0)]
    pub clock_ahead_ms: Option<i64>,
    /// Messages that wait for it.
    pub waiting: WaitingView,
}

/// A call of a relay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LastCall)]
pub struct LastCallView {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// What it was for: `submit`, `status`, `pull` or `acknowledge`.
    #[schema(example = "submit")]
    pub what: &'static str,
    /// Whether there was an answer.
    pub is_answered: bool,
    /// What was said, or what happened instead.
    #[schema(example = "503: maintenance")]
    pub words: String,
}

/// Messages that wait for a relay, by class.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WaitingMessages)]
pub struct WaitingView {
    /// One-time passwords.
    pub otp: u64,
    /// Notices.
    pub notice: u64,
    /// Advertisements.
    pub ad: u64,
}

impl From<RelayNow> for RelayNowView {
    fn from(now: RelayNow) -> Self {
        let [otp, notice, ad] = now.waiting;
        Self {
            workers: now.workers,
            breaker_reason: now.breaker_reason,
            breaker_since: now.breaker_since,
            probes_from: now.probes_from,
            last_call: now.last_call.map(|LastCall { at, what, is_answered, words }| LastCallView {
                at,
                what,
                is_answered,
                words,
            }),
            last_answer_at: now.last_answer_at,
            last_failure_at: now.last_failure_at,
            clock_ahead_ms: now.clock_ahead.map(|ahead| ahead.num_milliseconds()),
            waiting: WaitingView { otp, notice, ad },
        }
    }
}

/// What a check of a relay came to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RelayCheck)]
pub struct RelayCheckView {
    /// Whether Kite can work with the relay, as far as a call without a message shows.
    pub is_usable: bool,
    /// In the order in which they were tried; if a step failed, it is the last.
    pub steps: Vec<CheckStepView>,
}

/// A step of a check.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RelayCheckStep)]
pub struct CheckStepView {
    /// `definition`, `resolve`, `connect`, `greet`, `encrypt`, `login` or `ask`.
    #[schema(example = "connect")]
    pub step: &'static str,
    /// What came of it.
    pub verdict: CheckVerdictWord,
    /// What was seen.
    pub detail: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl From<CheckReport> for RelayCheckView {
    fn from(report: CheckReport) -> Self {
        let is_usable = report.is_usable();
        let steps = report.steps.into_iter().map(|CheckStep { step, verdict, detail, took }| CheckStepView {
            step,
            verdict: verdict.into(),
            detail,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        Self { is_usable, steps: steps.collect() }
    }
}
