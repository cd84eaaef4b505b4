//! The request, the answer, and every reason to refuse it.

use chrono::{DateTime, Utc};
use kite_domain::ids::{SendingId, TemplateId};
use kite_domain::load::Full;
use kite_domain::policy::FailoverTerms;
use kite_domain::sending::{MessageClass, WindowAction};
use kite_domain::text::{MaxType, RequestedType};
use kite_event_store::Position;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::rates::TooFast;
use super::row::{RecipientRow, RefusedRow};
use crate::journal::JournalError;

/// A request to send. Its rows were read; nothing else in it is checked.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// How urgent.
    pub class: MessageClass,
    /// The type asked for.
    pub message_type: RequestedType,
    /// The dearest type allowed.
    pub max_type: Option<MaxType>,
    /// The sending number.
    pub from_phone: Option<String>,
    /// The sending e-mail address.
    pub from_email: Option<String>,
    /// For lms and e-mail.
    pub subject: Option<String>,
    /// The text; not beside a template.
    pub text: Option<String>,
    /// A stored text; not beside a text.
    pub template: Option<TemplateId>,
    /// Values for variables that a recipient does not bring.
    pub variables: BTreeMap<SmolStr, String>,
    /// To whom.
    pub recipients: Vec<RecipientRow>,
    /// Not before.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// How long it is useful to hand the messages over, in seconds.
    pub lifetime_s: Option<u32>,
    /// What happens on failure; none: as the tenant's policy says.
    pub failover: Option<FailoverTerms>,
    /// For advertisements.
    pub ad: Option<AdInput>,
    /// One bad row refuses all.
    pub strict: bool,
    /// The same address may come twice, in whatever spelling.
    pub allow_duplicates: bool,
    /// The caller's own name for it.
    pub client_reference: Option<String>,
    /// The caller's own data.
    pub custom: Option<Value>,
}

/// What an advertisement needs beside its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdInput {
    /// What to do at night.
    pub window: WindowAction,
    /// The recipients have agreed to night advertisements.
    pub night_consent: bool,
    /// Add what is missing of the marking; without this, an unmarked text is refused.
    pub mark_automatically: bool,
}

/// The caller's key for this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// As the caller gave it.
    pub key: String,
    /// SHA-256 of the body, hexadecimal.
    pub body_hash: String,
}

/// A row that was dropped because its address came before, in whatever spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateRow {
    /// The caller's row, from 0.
    pub row: u32,
    /// What stood there.
    pub to: SmolStr,
}

/// Accepted and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Which sending.
    pub sending: SendingId,
    /// How many messages.
    pub messages: u32,
    /// In how many lots.
    pub lots: u32,
    /// How many rows were refused.
    pub refused_count: u32,
    /// Which rows were refused; not told again on a repeat.
    pub refused: Vec<RefusedRow>,
    /// Which rows were dropped; not told again on a repeat.
    pub duplicates: Vec<DuplicateRow>,
    /// Not before.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// Where the seal is in the log.
    pub position: Position,
    /// An earlier request under the same key had done it.
    pub repeated: bool,
}

/// Something is wrong with the request as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct RequestRefusal {
    /// Which field.
    pub field: &'static str,
    /// Stable word for the reason.
    pub code: &'static str,
    /// The reason, in words.
    pub detail: String,
}

/// Why nothing was accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The request as a whole.
    #[error(transparent)]
    Refused(#[from] RequestRefusal),
    /// Every row is bad, or one is and all were asked for.
    #[error("{} rows were refused", .0.len())]
    RowsRefused(Vec<RefusedRow>),
    /// The idempotency key belongs to another body.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The same key is being worked on.
    #[error("a request under the same idempotency key is in progress")]
    InProgress,
    /// The house is full.
    #[error("too many messages are open")]
    Backlog {
        /// When to come again.
        retry_after_s: u32,
    },
    /// The tenant has as much as it may have.
    #[error("the tenant's limit is reached: {}", .full.word())]
    TenantFull {
        /// Which limit.
        full: Full,
        /// When to come again.
        retry_after_s: u32,
    },
    /// The tenant comes too fast.
    #[error("more than the tenant's {}", .0.pace.word())]
    TooFast(TooFast),
    /// The log's queue is full.
    #[error("the log is busy")]
    Busy,
    /// The log.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
