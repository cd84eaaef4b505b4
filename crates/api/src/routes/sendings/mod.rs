//! Sendings: one request to send to one or many recipients.

pub mod cancel;
pub mod create;
pub mod get;
pub mod list;
pub mod messages;
pub mod pause;
pub mod preview;
mod recipients;
mod request;
mod row_values;
mod view;

pub use request::SendingBody;
pub use view::{PauseView, SendingView};

use kite_commands::accept::{AcceptError, DuplicateRow, Pace, RefusedRow, TooFast};
use kite_domain::load::Full;
use serde::Serialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

use crate::problem::{Code, FieldError, Problem};

/// A row that became no message, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedRowView {
    /// The row, from 0 in the order of the request; contacts of groups follow the recipients.
    #[schema(example = 17)]
    pub row: u32,
    /// Which of its fields.
    #[schema(example = "to")]
    pub field: &'static str,
    /// A stable word for the reason.
    #[schema(example = "too_short")]
    pub code: &'static str,
    /// The reason, in words.
    pub detail: String,
    /// What stood there.
    #[schema(value_type = String, example = "010-12")]
    pub to: SmolStr,
}

impl From<RefusedRow> for RefusedRowView {
    fn from(row: RefusedRow) -> Self {
        let RefusedRow { row, reason, to } = row;
        Self { row, field: reason.field().word(), code: reason.code(), detail: reason.to_string(), to }
    }
}

/// A row that was dropped because its address came before, in whatever spelling.
#[derive(Debug, Serialize, ToSchema)]
pub struct DuplicateRowView {
    /// The row.
    pub row: u32,
    /// What stood there.
    #[schema(value_type = String, example = "01012345678")]
    pub to: SmolStr,
}

impl From<DuplicateRow> for DuplicateRowView {
    fn from(row: DuplicateRow) -> Self {
        Self { row: row.row, to: row.to }
    }
}

impl From<TooFast> for Problem {
    fn from(too_fast: TooFast) -> Self {
        let what = match too_fast.pace {
            Pace::Requests => "requests",
            Pace::Recipients => "recipients",
        };
        Self::new(Code::TooManyRequests, format!("The tenant came with too many {what} in too short a time."))
            .retry_after(too_fast.retry_after_s())
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Refused(refusal) => Self::new(Code::RequestRefused, format!("{}.", refusal.detail))
                .at(FieldError::new(refusal.field, refusal.code, refusal.detail)),
            AcceptError::RowsRefused(rows) => {
                let detail = match rows.len() {
                    0 => "The request names no recipient.".to_owned(),
                    1 => "One row was refused; nothing was accepted.".to_owned(),
                    count => format!("{count} rows were refused; nothing was accepted."),
                };
                let errors = rows.into_iter().map(|RefusedRow { row, reason, .. }| {
                    FieldError::new(reason.field().word(), reason.code(), reason.to_string()).in_row(row)
                });
                Self::new(Code::RowsRefused, detail).with_errors(errors.collect())
            }
            AcceptError::KeyReused => {
                Self::new(Code::IdempotencyKeyReused, "The idempotency key came before with another body.")
            }
            AcceptError::InProgress => Self::new(
                Code::IdempotencyInProgress,
                "A request with this idempotency key is being worked on.",
            ),
            AcceptError::Backlog { retry_after_s } => {
                Self::new(Code::BacklogFull, "Too many messages are waiting to be handed over.")
                    .retry_after(retry_after_s)
            }
            AcceptError::TenantFull { full, retry_after_s } => {
                let what = match full {
                    Full::TenantScheduled | Full::Scheduled => "scheduled for later",
                    Full::TenantOpen | Full::Open => "open",
                };
                Self::new(
                    Code::LimitReached,
                    format!("The tenant has as many messages {what} as it may have."),
                )
                .retry_after(retry_after_s)
            }
            AcceptError::TooFast(too_fast) => too_fast.into(),
            AcceptError::Busy => {
                Self::new(Code::Busy, "The log takes no more at this moment. Nothing was accepted.")
            }
            AcceptError::Journal(error) => error.into(),
        }
    }
}
