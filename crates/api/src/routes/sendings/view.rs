//! A sending as it is shown.

use chrono::{DateTime, Utc};
use kite_domain::ids::SendingId;
use kite_projections::{Counter, KnownPause, KnownSending};
use serde::Serialize;
use serde_json::Value;
use smol_str::SmolStr;
use utoipa::ToSchema;

use crate::counters::{OtherCounters, OutcomeCountsView, cell};
use crate::export::{Column, Listed, optional, time};
use crate::vocabulary::{ClassWord, PauseByWord, SendingStateWord};

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
    /// How many recipients were refused when it was accepted.
    pub refused_recipients: u32,
    /// The numbers of messages by state. Their sum is always `messages`.
    pub counts: OutcomeCountsView,
    /// What else is counted of it.
    #[serde(flatten)]
    pub counters: OtherCounters,
    /// `delivered` of `delivered + undelivered + expired`: of the messages that were meant to arrive and have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
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

impl From<KnownPause> for PauseView {
    fn from(pause: KnownPause) -> Self {
        Self { since: pause.since, by: pause.by.into(), reason: pause.reason }
    }
}

impl From<KnownSending> for SendingView {
    fn from(sending: KnownSending) -> Self {
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
            refused_recipients: sending.refused_recipients,
            counts: sending.counts.into(),
            counters: sending.counts.into(),
            success_rate: sending.counts.success_rate(),
        }
    }
}

impl Listed for SendingView {
    const FILE: &'static str = "sendings";

    fn columns() -> Vec<Column<Self>> {
        let mut columns: Vec<Column<Self>> = vec![
            Column::new("id", |sending: &Self| sending.id.to_string()),
            Column::new("class", |sending: &Self| sending.class.to_string()),
            Column::new("state", |sending: &Self| sending.state.to_string()),
            Column::new("client_reference", |sending: &Self| optional(sending.client_reference.as_ref())),
            Column::new("from", |sending: &Self| optional(sending.from.as_ref())),
            Column::new("from_email", |sending: &Self| optional(sending.from_email.as_ref())),
            Column::new("subject", |sending: &Self| optional(sending.subject.as_ref())),
            Column::new("text", |sending: &Self| sending.text.clone()),
            Column::new("custom", |sending: &Self| optional(sending.custom.as_ref())),
            Column::new("accepted_at", |sending: &Self| time(sending.accepted_at)),
            Column::new("scheduled_at", |sending: &Self| time(sending.scheduled_at)),
            Column::new("released_at", |sending: &Self| time(sending.released_at)),
            Column::new("paused_since", |sending: &Self| {
                time(sending.paused.as_ref().map(|pause| pause.since))
            }),
            Column::new("cancelled_at", |sending: &Self| time(sending.cancelled_at)),
            Column::new("completed_at", |sending: &Self| time(sending.completed_at)),
            Column::new("expires_at", |sending: &Self| time(sending.expires_at)),
            Column::new("refused_recipients", |sending: &Self| sending.refused_recipients.to_string()),
        ];
        columns.extend(Counter::ALL.iter().map(|counter| {
            Column::new(counter.word(), |sending: &Self| cell(sending.counts.as_ref(), *counter))
        }));
        columns.push(Column::new("success_rate", |sending: &Self| {
            sending.success_rate.map(|rate| format!("{rate:.4}")).unwrap_or_default()
        }));
        columns
    }
}
