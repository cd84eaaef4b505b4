//! A sending as it is shown.

use chrono::{DateTime, Utc};
use kite_domain::ids::SendingId;
use serde::Serialize;
use serde_json::Value;
use smol_str::SmolStr;
use utoipa::ToSchema;

use crate::words::{ClassWord, PauseByWord, SendingStateWord};

/// A sending as it stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sending)]
pub struct SendingView {
    /// Its id: 32 hexadecimal digits.
    #[schema(value_type = String, example = "0197c0de000070008000000000000004")]
    pub id: SendingId,
    /// How urgent.
    pub class: ClassWord,
    /// Where it stands.
    pub state: SendingStateWord,
    /// The sending number.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<SmolStr>,
    /// The sending address.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_email: Option<SmolStr>,
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The text, with its variables.
    pub text: String,
    /// Your own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_reference: Option<String>,
    /// Your own data.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
    /// When it was accepted.
    pub accepted_at: DateTime<Utc>,
    /// Not before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<DateTime<Utc>>,
    /// When its scheduled time had come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_at: Option<DateTime<Utc>>,
    /// Why nothing of it goes out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<PauseView>,
    /// When it was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<DateTime<Utc>>,
    /// When its last message was final.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<DateTime<Utc>>,
    /// Nothing is handed over after this.
    pub expires_at: DateTime<Utc>,
    /// How many messages.
    pub messages: u32,
    /// How many recipients were refused when it was accepted.
    pub refused_recipients: u32,
    /// How the messages stand. The sum is always `messages`.
    pub counts: OutcomeCountsView,
    /// Messages that have a relay.
    pub routed: u32,
    /// Messages that were handed over at least once.
    pub handed_over: u32,
    /// Attempts, all together.
    pub attempts: u32,
    /// Attempts after the first.
    pub failovers: u32,
    /// Messages that two relays say they delivered.
    pub delivered_twice: u32,
    /// What it has cost so far, in thousandths of a won.
    pub cost_milliwon: i64,
}

/// Why nothing of a sending goes out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pause)]
pub struct PauseView {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Who paused it.
    pub by: PauseByWord,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<kite_domain::sending::Pause> for PauseView {
    fn from(pause: kite_domain::sending::Pause) -> Self {
        Self { since: pause.since, by: pause.by.into(), reason: pause.reason }
    }
}

impl From<kite_projections::PauseView> for PauseView {
    fn from(pause: kite_projections::PauseView) -> Self {
        Self { since: pause.since, by: pause.by.into(), reason: pause.reason }
    }
}

/// How messages stand.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = OutcomeCounts)]
pub struct OutcomeCountsView {
    /// Not final.
    pub open: u32,
    /// Delivered.
    pub delivered: u32,
    /// Cannot be delivered.
    pub undelivered: u32,
    /// Too old, or no receipt in time.
    pub expired: u32,
    /// Cancelled before they were handed over.
    pub cancelled: u32,
    /// A rule forbade them.
    pub refused: u32,
}

impl From<kite_domain::lot::OutcomeCounts> for OutcomeCountsView {
    fn from(counts: kite_domain::lot::OutcomeCounts) -> Self {
        Self {
            open: counts.open,
            delivered: counts.delivered,
            undelivered: counts.undelivered,
            expired: counts.expired,
            cancelled: counts.cancelled,
            refused: counts.refused,
        }
    }
}

impl From<kite_projections::SendingView> for SendingView {
    fn from(sending: kite_projections::SendingView) -> Self {
        Self {
            id: sending.id,
            class: sending.class.into(),
            state: sending.state.into(),
            from: sending.from_phone,
            from_email: sending.from_email,
            subject: sending.subject,
            text: sending.text,
            client_reference: sending.client_reference,
            custom: sending.custom,
            accepted_at: sending.accepted_at,
            scheduled_at: sending.scheduled_at,
            released_at: sending.released_at,
            paused: sending.paused.map(Into::into),
            cancelled_at: sending.cancelled_at,
            completed_at: sending.completed_at,
            expires_at: sending.expires_at,
            messages: sending.messages,
            refused_recipients: sending.refused_recipients,
            counts: sending.counts.into(),
            routed: sending.routed,
            handed_over: sending.handed_over,
            attempts: sending.attempts,
            failovers: sending.failovers,
            delivered_twice: sending.delivered_twice,
            cost_milliwon: sending.cost_milliwon,
        }
    }
}
